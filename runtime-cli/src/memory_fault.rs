//! Runs in: RUNTIME. Says something before the kernel ends this program for want of memory: a stack or a heap
//! that a limit of the caller's keeps from growing would end it without a word. What the kernel cannot even
//! load (RLIMIT_DATA below what is in the file) it ends before the first instruction, and then nothing can be
//! said.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use runtime_core::{Error, Result};
use rustix::io::Errno;

const MESSAGE: &[u8] = b"memory fault: out of stack or memory (is a limit too low? see ulimit -s, -d, -v)\n";

/// More than MINSIGSTKSZ of every processor, whose registers the kernel puts there.
const STACK_SIZE: usize = 32 << 10;

/// The stack of the handler alone.
struct Stack(UnsafeCell<MaybeUninit<[u8; STACK_SIZE]>>);

// SAFETY: nobody looks at it but the kernel, and the handler, which runs once.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new(MaybeUninit::uninit()));

/// From now on. A child of `clone3` has no handlers (CLONE_CLEAR_SIGHAND).
///
/// # Errors
/// That of the system call.
pub fn explain() -> Result<()> {
    let stack = libc::stack_t {
        ss_sp: STACK.0.get().cast::<c_void>(),
        ss_flags: 0,
        ss_size: STACK_SIZE,
    };
    // SAFETY: the memory is static, as large as said, and used for nothing else; the old stack is not asked
    // for.
    checked("sigaltstack", unsafe {
        libc::sigaltstack(&raw const stack, null_mut())
    })?;
    // SAFETY: a struct of integers and a pointer that may be null.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = tell as extern "C" fn(c_int) as usize;
    // The default action afterwards: the same instruction faults again, and leaves a core file where that is
    // wanted.
    action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
    // SAFETY: the handler makes one system call; the old action is not asked for.
    checked("rt_sigaction", unsafe {
        libc::sigaction(libc::SIGSEGV, &raw const action, null_mut())
    })
}

extern "C" fn tell(_signal: c_int) {
    // SAFETY: a constant of that length. With standard error closed there is nobody to tell.
    let _nobody = unsafe { libc::write(2, MESSAGE.as_ptr().cast::<c_void>(), MESSAGE.len()) };
}

fn checked(call: &'static str, result: c_int) -> Result<()> {
    match result {
        0 => Ok(()),
        _ => {
            let error = std::io::Error::last_os_error();
            let errno = Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EINVAL));
            Err(Error::os(call, errno).doing("prepare for memory faults"))
        }
    }
}

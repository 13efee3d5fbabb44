//! Runs in: RUNTIME, from the first instruction on, before the C library exists. Seals the executable (see
//! `sealed_exe`) there, because the start of a program must not be paid twice: its relocations and their
//! pages are a twentieth of the time of `run`; glibc asks the processor some 70 questions besides (`cpuid`),
//! and each of them is a trap into the hypervisor of a virtual machine.
//!
//! This is only the fast way. Whatever fails here is left to `sealed_exe::ensure`, which checks the result,
//! knows another way, and can tell of an error.
//!
//! Nothing here may use what the C library sets up: thread-local variables (so no errno, no drop of a file
//! descriptor), relocated addresses, and memcpy, memcmp or strlen, whose addresses are such. Only loops and
//! system calls.

use core::arch::{asm, naked_asm};
use core::ffi::c_char;
use core::ptr;

/// The names of the commands that seal, a null byte after each. No array of words: its addresses would need
/// relocation.
static SEALED: [u8; runtime_cli::SEALED.len()] = runtime_cli::SEALED;

/// The entry point that build.rs names to the linker: seals, and goes on to the C library's own entry point
/// with stack and registers as the kernel, or the dynamic linker, left them.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn onggi_entry() -> ! {
    naked_asm!(
        "mov rbx, rsp",
        // What the dynamic linker wants to be called at exit.
        "mov r12, rdx",
        "mov rdi, rsp",
        "call {seal}",
        "mov rsp, rbx",
        "mov rdx, r12",
        "jmp _start",
        seal = sym seal,
    )
}

/// The entry point that build.rs names to the linker: seals, and goes on to the C library's own entry point
/// with stack and registers as the kernel, or the dynamic linker, left them.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn onggi_entry() -> ! {
    naked_asm!(
        "mov x19, sp",
        // What the dynamic linker wants to be called at exit.
        "mov x20, x0",
        "mov x0, sp",
        "bl {seal}",
        "mov sp, x19",
        "mov x0, x20",
        "b _start",
        seal = sym seal,
    )
}

/// `struct mount_attr` of the kernel (`MOUNT_ATTR_SIZE_VER0`).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const OWN_EXECUTABLE: *const c_char = c"/proc/self/exe".as_ptr();
const OPEN_TREE_CLONE: usize = 1;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// Executes the own executable again from a read-only detached mount, if the command may start something.
/// Returns if that is done, not needed, or refused.
///
/// # Safety
/// `stack` is the stack pointer at process entry: the number of arguments, their addresses, null, the
/// addresses of the environment, null.
unsafe extern "C" fn seal(stack: *const usize) {
    // SAFETY: the first word there is the number of arguments.
    let count = unsafe { *stack };
    // SAFETY: the arguments follow.
    let argv = unsafe { stack.add(1) }.cast::<*const c_char>();
    // SAFETY: the environment follows the arguments and their null.
    let environment = unsafe { argv.add(count + 1) };
    // SAFETY: `argv` holds `count` C strings.
    if !unsafe { may_seal(argv, count) } || is_on_detached_mount() {
        return;
    }
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as usize;
    let at = libc::AT_FDCWD as usize;
    // SAFETY: open_tree reads a constant C string.
    let mount = unsafe { system_call(libc::SYS_open_tree, [at, OWN_EXECUTABLE.addr(), flags, 0, 0]) };
    let Ok(mount) = usize::try_from(mount) else { return };
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let empty = c"".as_ptr().addr();
    let itself = libc::AT_EMPTY_PATH as usize;
    let set = [
        mount,
        empty,
        itself,
        (&raw const attributes).addr(),
        size_of::<MountAttr>(),
    ];
    // SAFETY: mount_setattr reads a constant C string and `attributes`, which is of the size passed.
    if unsafe { system_call(libc::SYS_mount_setattr, set) } == 0 {
        let execute = [mount, empty, argv.addr(), environment.addr(), itself];
        // SAFETY: execveat reads the arrays that the kernel itself put there.
        unsafe { system_call(libc::SYS_execveat, execute) };
    }
    // SAFETY: closes the file descriptor that was opened above and is not used below.
    unsafe { system_call(libc::SYS_close, [mount, 0, 0, 0, 0]) };
}

/// The root of a mount that is in no mount namespace is called "/". `sealed_exe` looks closer.
fn is_on_detached_mount() -> bool {
    let mut name = [0u8; 2];
    let at = libc::AT_FDCWD as usize;
    let arguments = [
        at,
        OWN_EXECUTABLE.addr(),
        (&raw mut name).expose_provenance(),
        name.len(),
        0,
    ];
    // SAFETY: readlinkat reads a constant C string, and writes at most the length of `name` into it.
    let length = unsafe { system_call(libc::SYS_readlinkat, arguments) };
    length == 1 && name[0] == b'/'
}

/// The same question as `may_seal` of lib.rs.
///
/// # Safety
/// `argv` holds `count` C strings.
unsafe fn may_seal(argv: *const *const c_char, count: usize) -> bool {
    let mut index = 1;
    while index < count {
        let place = argv.wrapping_add(index);
        // SAFETY: `index` is below `count`, so there is an address there.
        let argument = unsafe { *place };
        // SAFETY: it is a C string.
        if unsafe { is_sealed(argument) } {
            return true;
        }
        index += 1;
    }
    false
}

/// # Safety
/// `argument` is a C string.
unsafe fn is_sealed(argument: *const c_char) -> bool {
    let mut name = (&raw const SEALED).cast::<c_char>();
    let end = name.wrapping_add(SEALED.len());
    while name < end {
        // SAFETY: both are C strings: there is a null byte after each name.
        if unsafe { same(argument, name) } {
            return true;
        }
        // SAFETY: it is a C string.
        name = unsafe { after(name) };
    }
    false
}

/// What comes after a string's null byte.
///
/// # Safety
/// `text` is a C string.
unsafe fn after(mut text: *const c_char) -> *const c_char {
    loop {
        // SAFETY: not past the string's end: the loop ends there. Volatile, so that no strlen is made of it.
        let letter = unsafe { ptr::read_volatile(text) };
        text = text.wrapping_add(1);
        if letter == 0 {
            return text;
        }
    }
}

/// # Safety
/// Both are C strings.
unsafe fn same(mut one: *const c_char, mut other: *const c_char) -> bool {
    loop {
        // SAFETY: not past the string's end: the loop ends there. Volatile, so that no strcmp is made of it.
        let left = unsafe { ptr::read_volatile(one) };
        // SAFETY: as above.
        let right = unsafe { ptr::read_volatile(other) };
        if left != right {
            return false;
        }
        if left == 0 {
            return true;
        }
        one = one.wrapping_add(1);
        other = other.wrapping_add(1);
    }
}

/// A bare system call: the result, or the errno as a negative number.
///
/// # Safety
/// As the system call demands.
#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention; the caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A bare system call: the result, or the errno as a negative number.
///
/// # Safety
/// As the system call demands.
#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention; the caller vouches for the arguments.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            options(nostack),
        );
    }
    result
}

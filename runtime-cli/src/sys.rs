//! Runs in: RUNTIME. The system calls of this binary that rustix does not wrap, one wrapper for each. They have no
//! opinion: what to call, and when, is decided by `sealed_exe`.

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use runtime_core::Errno;

/// `struct mount_attr` of the kernel (`MOUNT_ATTR_SIZE_VER0`).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets mount attributes (`MOUNT_ATTR_*`) on the mount that `mount` is the root of.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attr_set: u64) -> Result<(), Errno> {
    let attributes = MountAttr {
        attr_set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a constant C string, and `attributes` lives through the call and is of the size passed;
    // the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Replaces this process by the program that `program` is open on, with the environment that it was started with.
/// Returns only on failure.
pub(crate) fn execveat_with_own_environment(program: BorrowedFd<'_>, argv: &[CString]) -> Errno {
    let mut pointers: Vec<*const c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: this only reads the pointer. No thread of this program changes the environment.
    let environment = unsafe { libc::environ };
    // SAFETY: `pointers` is an array of live C strings that ends with null, `environment` is the one that the C
    // library keeps; the kernel only reads them.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environment,
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

fn last_errno() -> Errno {
    // A failed `syscall(3)` always leaves a positive number there.
    Errno::from_raw_os_error(
        std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    )
}

//! Namespaces: unshare, setns, host and domain name.

use rustix::fd::{AsRawFd, BorrowedFd};

use super::{Call, Named, Result, checked};

/// `unshare(CLONE_NEW*)` of the calling process, which has a single thread and shares no descriptor table.
pub fn unshare(flags: u32) -> Result<()> {
    // SAFETY: takes an integer only; callers pass CLONE_NEW* flags, never CLONE_FILES or CLONE_VM.
    let raw = unsafe { libc::syscall(libc::SYS_unshare, flags as libc::c_long) };
    checked(Call::Unshare, raw).map(drop)
}

/// `setns(fd, kind)`: `fd` is a namespace file, or a pidfd with several `CLONE_NEW*` flags.
pub fn setns(fd: BorrowedFd<'_>, kind: u32) -> Result<()> {
    // SAFETY: takes integers only. In RUNTIME it is called for the pid namespace of children, which is per thread.
    let raw = unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kind as libc::c_long) };
    checked(Call::Setns, raw).map(drop)
}

/// `sethostname(2)`.
pub fn sethostname(name: &[u8]) -> Result<()> {
    rustix::system::sethostname(name).named(Call::Sethostname)
}

/// `setdomainname(2)`.
pub fn setdomainname(name: &[u8]) -> Result<()> {
    rustix::system::setdomainname(name).named(Call::Setdomainname)
}

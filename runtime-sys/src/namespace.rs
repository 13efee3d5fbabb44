//! Namespaces: unshare, setns, host and domain name.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// The user namespace that a namespace belongs to (ioctl_ns(2), NS_GET_USERNS). EPERM if that is outside of the
/// caller's own.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    /// `_IO(0xb7, 0x1)`.
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the ioctl takes no argument; on other files it is unknown, or means nothing that reads memory.
    let raw = unsafe { libc::syscall(libc::SYS_ioctl, namespace.as_raw_fd(), NS_GET_USERNS) };
    let fd = checked(Call::Ioctl, raw)?;
    // SAFETY: a descriptor that the kernel has just made, and that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The `CLONE_NEW*` kind of a namespace file (ioctl_ns(2), NS_GET_NSTYPE). An error for any other file.
pub fn kind(fd: BorrowedFd<'_>) -> Result<u32> {
    /// `_IO(0xb7, 0x3)`.
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the ioctl takes no argument; on other files it is unknown, or means nothing that reads memory.
    let raw = unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE) };
    checked(Call::Ioctl, raw).map(|kind| kind as u32)
}

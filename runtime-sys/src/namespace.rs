//! Namespaces: their kinds, unshare, setns, host and domain name.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Call, Named, Result, checked};

/// Kinds of namespaces, none or several: a set of `CLONE_NEW*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// `CLONE_NEWUSER`.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// `CLONE_NEWPID`.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// `CLONE_NEWIPC`.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// `CLONE_NEWUTS`.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// `CLONE_NEWNET`.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u32);
    /// `CLONE_NEWNS`.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// `CLONE_NEWCGROUP`.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);
    /// `CLONE_NEWTIME`, which libc does not have.
    pub const TIME: Self = Self(0x80);

    /// These, and `others`.
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These, but for `others`.
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those of these that are among `others`.
    pub const fn only(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether any of `others` is among these.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// `CLONE_NEW*`.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// `unshare(CLONE_NEW*)` of the calling process, which has a single thread and shares no descriptor table.
pub fn unshare(kinds: Kinds) -> Result<()> {
    // SAFETY: takes an integer only; kinds are CLONE_NEW* flags, never CLONE_FILES or CLONE_VM.
    let raw = unsafe { libc::syscall(libc::SYS_unshare, kinds.0 as libc::c_long) };
    checked(Call::Unshare, raw).map(drop)
}

/// `setns(fd, kinds)`: `fd` is a namespace file, or a pidfd with several kinds.
pub fn setns(fd: BorrowedFd<'_>, kinds: Kinds) -> Result<()> {
    // SAFETY: takes integers only. In RUNTIME it is called for the pid namespace of children, which is per
    // thread.
    let raw = unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kinds.0 as libc::c_long) };
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

/// The user namespace that a namespace belongs to (ioctl_ns(2), NS_GET_USERNS). EPERM if that is outside of
/// the caller's own.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    /// `_IO(0xb7, 0x1)`.
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the ioctl takes no argument; on other files it is unknown, or means nothing that reads memory.
    let raw = unsafe { libc::syscall(libc::SYS_ioctl, namespace.as_raw_fd(), NS_GET_USERNS) };
    let fd = checked(Call::Ioctl, raw)?;
    // SAFETY: a descriptor that the kernel has just made, and that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The kind of a namespace file (ioctl_ns(2), NS_GET_NSTYPE). An error for any other file.
pub fn kind(fd: BorrowedFd<'_>) -> Result<Kinds> {
    /// `_IO(0xb7, 0x3)`.
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the ioctl takes no argument; on other files it is unknown, or means nothing that reads memory.
    let raw = unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE) };
    checked(Call::Ioctl, raw).map(|kind| Kinds(kind as u32))
}

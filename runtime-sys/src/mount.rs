//! Mounts by descriptor: open_tree, fsopen, fsmount, move_mount, mount_setattr, and pivot_root.

use core::ffi::CStr;
use core::mem::size_of;

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::mount as raw;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::{Call, Named, Result, checked};

/// `struct mount_attr` of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for no change.
    pub propagation: u64,
    /// The user namespace of an id-mapped mount, with `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

impl MountAttr {
    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only a change of propagation.
    pub fn propagation(flags: u64) -> Self {
        Self {
            propagation: flags,
            ..Self::default()
        }
    }
}

/// A node of the host's in a container: as private as its /dev, and no program.
pub const DEVICE_NODE: MountAttr = MountAttr {
    set: ATTR_NOSUID | ATTR_NOEXEC,
    clear: 0,
    propagation: libc::MS_PRIVATE,
    userns_fd: 0,
};

/// `MOUNT_ATTR_NOSUID`.
pub const ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const ATTR_NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOATIME`.
pub const ATTR_NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`.
pub const ATTR_STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NOEXEC`.
pub const ATTR_NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR_RDONLY`.
pub const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NODIRATIME`.
pub const ATTR_NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR__ATIME`: the access time is one field of three values, not bits.
pub const ATTR_ATIME: u64 = 0x70;
/// `MOUNT_ATTR_NOSYMFOLLOW`.
pub const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;
/// `MOUNT_ATTR_IDMAP`.
pub const ATTR_IDMAP: u64 = 0x0010_0000;

/// `mount_setattr(fd, "", AT_EMPTY_PATH [| AT_RECURSIVE])`.
pub fn mount_setattr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string; attr is a live struct of exactly the size given; both are only
    // read.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            core::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    checked(Call::MountSetattr, value).map(drop)
}

/// `mount_setattr` on a path of the calling process: used for "/" only, before anything is mounted.
pub fn mount_setattr_path(path: &CStr, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path is a C string and attr a live struct of exactly the size given; both are only read.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            core::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    checked(Call::MountSetattr, value).map(drop)
}

/// A detached copy of the mount (with `recursive`, of the mount tree) that `file` is in, rooted at `file`.
pub fn clone_tree(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    raw::open_tree(file, c"", flags).named(Call::OpenTree)
}

/// Mounts a detached tree on `target`.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    raw::move_mount(tree, c"", target, c"", flags).named(Call::MoveMount)
}

/// `fsopen(fstype)`.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    raw::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).named(Call::Fsopen)
}

/// One option of a file system: a string where it has a value, else a flag.
pub fn fsconfig(context: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    match value {
        Some(value) => raw::fsconfig_set_string(context, key, value),
        None => raw::fsconfig_set_flag(context, key),
    }
    .named(Call::Fsconfig)
}

/// Makes the superblock.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<()> {
    raw::fsconfig_create(context).named(Call::Fsconfig)
}

/// Changes the superblock's options.
pub fn fsconfig_reconfigure(context: BorrowedFd<'_>) -> Result<()> {
    raw::fsconfig_reconfigure(context).named(Call::Fsconfig)
}

/// Makes a detached mount of the superblock, with `MOUNT_ATTR_*` flags.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    let attributes = MountAttrFlags::from_bits_retain(attributes as _);
    raw::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).named(Call::Fsmount)
}

/// Opens the superblock of an existing mount for reconfiguration.
pub fn fspick(mount: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = raw::FsPickFlags::FSPICK_CLOEXEC | raw::FsPickFlags::FSPICK_EMPTY_PATH;
    raw::fspick(mount, c"", flags).named(Call::Fspick)
}

/// mount(2) on the current working directory, for file systems whose options do not fit fsconfig.
pub fn mount_on_cwd(source: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> Result<()> {
    // SAFETY: all four strings are C strings that outlive the call and are only read.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount,
            source.as_ptr(),
            c".".as_ptr(),
            fstype.as_ptr(),
            flags,
            data.as_ptr(),
        )
    };
    checked(Call::Mount, value).map(drop)
}

/// Moves the mount at the current working directory onto "/" (MS_MOVE), for `--no-pivot`.
pub fn move_cwd_to_root() -> Result<()> {
    raw::mount_move(c".", c"/").named(Call::Mount)
}

/// `pivot_root(".", ".")`.
pub fn pivot_root_here() -> Result<()> {
    rustix::process::pivot_root(c".", c".").named(Call::PivotRoot)
}

/// `chroot(".")`.
pub fn chroot_here() -> Result<()> {
    rustix::process::chroot(c".").named(Call::Chroot)
}

/// `umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW)`: `name` is a single component in the current working
/// directory.
pub fn detach_here(name: &CStr) -> Result<()> {
    raw::unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).named(Call::Umount)
}

/// `umount2(path, MNT_DETACH)`.
pub fn detach(path: &CStr) -> Result<()> {
    raw::unmount(path, UnmountFlags::DETACH).named(Call::Umount)
}

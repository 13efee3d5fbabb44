//! Runs in: RUNTIME. A procfs that nobody can have tampered with. Knows no file in it.
//!
//! What is mounted on `/proc` may be another filesystem, or have files mounted over parts of it; a write
//! meant for `/proc/self/attr/exec` could then go to a harmless file instead (CVE-2019-16884, CVE-2019-19921,
//! CVE-2025-52881).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::{Error, ErrorKind, Result};

/// The inode number of the root of every procfs (`PROC_ROOT_INO` in the kernel).
const ROOT_INODE: u64 = 1;

/// A handle on a procfs of the caller's pid namespace.
#[derive(Debug)]
pub(crate) struct ProcHandle {
    root: OwnedFd,
}

impl ProcHandle {
    /// Mounts a procfs of our own, detached from every mount tree. Where that is refused (no CAP_SYS_ADMIN,
    /// or a user namespace in which parts of `/proc` are masked), takes `/proc` after checking that it is the
    /// root of a procfs.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if `/proc` is something else.
    pub(crate) fn open() -> Result<Self> {
        match Self::mount() {
            Ok(root) => Ok(Self { root }),
            Err((_, Errno::PERM | Errno::ACCESS | Errno::NOSYS)) => Self::check(Path::new("/proc")),
            Err((call, errno)) => Err(Error::os(call, errno).doing("mount a private procfs")),
        }
    }

    fn mount() -> std::result::Result<OwnedFd, (&'static str, Errno)> {
        let context =
            rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| ("fsopen", errno))?;
        rustix::mount::fsconfig_create(&context).map_err(|errno| ("fsconfig", errno))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| ("fsmount", errno))
    }

    fn check(path: &Path) -> Result<Self> {
        let os = |call, errno| Error::os(call, errno).with_path(path).doing("check procfs");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| os("open", errno))?;
        let filesystem = rustix::fs::fstatfs(&root)
            .map_err(|errno| os("fstatfs", errno))?
            .f_type;
        let inode = rustix::fs::fstat(&root)
            .map_err(|errno| os("fstat", errno))?
            .st_ino;
        if filesystem != PROC_SUPER_MAGIC || inode != ROOT_INODE {
            return Err(Error::new(ErrorKind::Denied, "not the root of a procfs")
                .with_path(path)
                .doing("check procfs"));
        }
        Ok(Self { root })
    }
}

impl AsMut<OwnedFd> for ProcHandle {
    /// For moving it to another number.
    fn as_mut(&mut self) -> &mut OwnedFd {
        &mut self.root
    }
}

impl AsFd for ProcHandle {
    /// The root of the procfs.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gets_a_private_mount_of_the_own_pid_namespace() {
        let handle = ProcHandle::open().unwrap();
        let stat = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_dev;
        let of_host = rustix::fs::stat("/proc").unwrap().st_dev;
        assert_ne!(stat(handle.as_fd()), of_host, "a procfs of its own");
        let own = rustix::fs::readlinkat(&handle, "self", Vec::new()).unwrap();
        assert_eq!(own.to_str().unwrap(), std::process::id().to_string());
        assert!(
            !std::fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains("fsmount")
        );
        let flags = rustix::io::fcntl_getfd(&handle).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn the_fallback_takes_only_the_root_of_a_procfs() {
        assert!(ProcHandle::check(Path::new("/proc")).is_ok());
        for path in ["/tmp", "/proc/sys", "/proc/1"] {
            let error = ProcHandle::check(Path::new(path)).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (
                    ErrorKind::Denied,
                    format!("check procfs: {path}: not the root of a procfs")
                )
            );
        }
    }
}

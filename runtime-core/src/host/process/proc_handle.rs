//! Runs in: RUNTIME. A procfs that nobody can have tampered with. Knows no file in it.
//!
//! What is mounted on `/proc` may be another filesystem, or have files mounted over parts of it; a write meant for
//! `/proc/self/attr/exec` could then go to a harmless file instead (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::{Error, ErrorKind, Result};

/// The inode number of the root of every procfs (`PROC_ROOT_INO` in the kernel).
const ROOT_INODE: u64 = 1;

/// How often a look-up is tried again when a rename elsewhere in the system disturbs it (`EAGAIN` of openat2).
const ATTEMPTS: usize = 16;

/// A handle on a procfs of the caller's pid namespace.
#[derive(Debug)]
pub struct ProcHandle {
    root: OwnedFd,
    private: bool,
}

impl ProcHandle {
    /// Mounts a procfs of our own, detached from every mount tree. Where that is refused (no CAP_SYS_ADMIN, or a user
    /// namespace in which parts of `/proc` are masked), takes `/proc` after checking that it is the root of a procfs.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if `/proc` is something else.
    pub fn open() -> Result<Self> {
        match Self::mount() {
            Ok(root) => Ok(Self { root, private: true }),
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
        let os = |call, errno| Error::os(call, errno).path(path).doing("check procfs");
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
                .path(path)
                .doing("check procfs"));
        }
        Ok(Self { root, private: false })
    }

    /// Whether this is a mount of our own. If not, files may be mounted over some of its files; [`ProcHandle::open_at`]
    /// refuses to open those.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Opens a file by its path below the root, as in `self/attr/exec`, always close-on-exec. Neither a mount nor a
    /// magic link (`fd/*`, `exe`, `root`, `cwd`, `ns/*`) is crossed.
    ///
    /// # Errors
    /// `EXDEV` means that something is mounted over the file: [`ErrorKind::Denied`].
    pub fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        loop {
            let errno = match rustix::fs::openat2(
                &self.root,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Ok(file) => return Ok(file),
                Err(errno) => errno,
            };
            attempts += 1;
            if matches!(errno, Errno::AGAIN | Errno::INTR) && attempts < ATTEMPTS {
                continue;
            }
            let error = Error::os("openat2", errno).path(Path::new("/proc").join(path));
            return Err(match errno {
                Errno::XDEV => error
                    .with_kind(ErrorKind::Denied)
                    .hint("the path leaves procfs: is something mounted over it?"),
                _ => error,
            });
        }
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
    use std::io::Read;

    use super::*;

    fn text(handle: &ProcHandle, path: &str) -> String {
        let mut text = String::new();
        std::fs::File::from(handle.open_at(path, OFlags::RDONLY).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn both() -> [ProcHandle; 2] {
        [
            ProcHandle::open().unwrap(),
            ProcHandle::check(Path::new("/proc")).unwrap(),
        ]
    }

    #[test]
    fn root_gets_a_private_mount_of_the_own_pid_namespace() {
        let handle = ProcHandle::open().unwrap();
        assert!(handle.is_private());
        let pid = std::process::id();
        assert!(text(&handle, "self/status").contains(&format!("Pid:\t{pid}\n")));
        assert!(text(&handle, "sys/kernel/ostype").starts_with("Linux"));
        assert!(
            !std::fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains("fsmount")
        );
        let flags = rustix::io::fcntl_getfd(&handle).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn nothing_leads_out() {
        for handle in both() {
            for path in [
                "self/exe",
                "self/root",
                "self/root/etc/passwd",
                "self/cwd",
                "self/fd/0",
                "self/ns/net",
            ] {
                let error = handle.open_at(path, OFlags::RDONLY).unwrap_err();
                assert_eq!(error.errno(), Some(Errno::LOOP), "{path}");
            }
            for path in ["..", "../etc/passwd", "/etc/passwd", "self/../../etc"] {
                let error = handle.open_at(path, OFlags::RDONLY).unwrap_err();
                assert_eq!(
                    (error.errno(), error.kind()),
                    (Some(Errno::XDEV), ErrorKind::Denied),
                    "{path}"
                );
            }
            let error = handle.open_at("self/none", OFlags::RDONLY).unwrap_err();
            assert_eq!(
                error.to_string(),
                "/proc/self/none: openat2: no such file or directory"
            );
        }
    }

    #[test]
    fn the_fallback_takes_only_the_root_of_a_procfs() {
        assert!(!ProcHandle::check(Path::new("/proc")).unwrap().is_private());
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

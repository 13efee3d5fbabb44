//! Runs in: RUNTIME. Finds where the cgroup2 tree is mounted, on pure and on hybrid hosts. Mounts nothing.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::files::read_file;
use crate::error::{CallResult, ErrorResult};
use crate::host::mount::mountinfo;
use crate::{Errno, Error, ErrorKind, Result};

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// Where systemd mounts the tree: on pure hosts, and on hybrid hosts beside the controllers of version 1.
const USUAL_PLACES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The root of the cgroup2 tree as this process sees it.
#[derive(Debug)]
pub(crate) struct CgroupRoot {
    path: PathBuf,
    dir: OwnedFd,
}

impl CgroupRoot {
    /// Looks in the usual places, and in `/proc/self/mountinfo` if it is in none of them. Two system calls on
    /// a pure host.
    pub(super) fn find() -> Result<Self> {
        for place in USUAL_PLACES {
            if let Some(root) = Self::at(Path::new(place))? {
                return Ok(root);
            }
        }
        let table = read_file(CWD, "/proc/self/mountinfo")
            .call("read")
            .path("/proc/self/mountinfo")
            .doing("find the cgroup2 mount")?;
        if let Some(place) = mountinfo::mount_point(&table, b"cgroup2")
            && let Some(root) = Self::at(&place)?
        {
            return Ok(root);
        }
        Err(Error::new(ErrorKind::Unsupported, "no cgroup2 file system is mounted")
            .doing("find the cgroup2 mount")
            .with_hint("mount one with: mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Opens a cgroup by its absolute path; `None` if there is none, or if the path is not one of this tree.
    pub(super) fn open_below(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let Ok(below) = path.strip_prefix(&self.path) else {
            return Ok(None);
        };
        let below = if below.as_os_str().is_empty() {
            Path::new(".")
        } else {
            below
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.dir, below, flags, Mode::empty(), resolve) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::XDEV | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::os("openat2", errno)
                .with_path(path)
                .doing("open the cgroup")),
        }
    }

    fn at(path: &Path) -> Result<Option<Self>> {
        let Some(dir) = open_cgroup2(path)? else {
            return Ok(None);
        };
        let path = path.to_owned();
        Ok(Some(Self { path, dir }))
    }
}

/// Opens a directory of the cgroup2 tree; `None` if it does not exist or is of another file system.
fn open_cgroup2(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV) => return Ok(None),
        Err(errno) => {
            return Err(Error::os("openat", errno)
                .with_path(path)
                .doing("open the cgroup"));
        }
    };
    let kind = rustix::fs::fstatfs(&dir).call("fstatfs").path(path)?;
    Ok((kind.f_type as u64 == CGROUP2_SUPER_MAGIC).then_some(dir))
}

/// A path below the root as it is written in messages and kept in the state.
pub(super) fn join(root: &Path, below: &Path) -> PathBuf {
    let mut bytes = root.as_os_str().as_bytes().to_vec();
    bytes.push(b'/');
    bytes.extend_from_slice(below.as_os_str().as_bytes());
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroup2_directories_are_opened() {
        assert!(open_cgroup2(Path::new("/proc")).unwrap().is_none());
        assert!(open_cgroup2(Path::new("/no/such/place")).unwrap().is_none());
        let root = CgroupRoot::find().unwrap();
        assert!(root.open_below(root.path()).unwrap().is_some());
        for outside in ["/proc", "/no/such/place", "relative"] {
            assert!(
                root.open_below(Path::new(outside)).unwrap().is_none(),
                "{outside}"
            );
        }
        for below in ["..", "../../proc", "no-such-cgroup", "cgroup.procs"] {
            assert!(
                root.open_below(&root.path().join(below)).unwrap().is_none(),
                "{below}"
            );
        }
        assert!(open_cgroup2(root.path()).unwrap().is_some());
    }
}

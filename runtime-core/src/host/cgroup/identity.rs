//! Runs in: RUNTIME. Which cgroup is a container's own. A path says only where it was: another container, of another
//! state root perhaps, may be there by now. Marks and compares cgroups; kills and removes nothing.
//!
//! ```text
//! create:  state (identity: the mark to come) ─► mkdir, mark ─► clone3 … Ready ─► state (identity: the inode)
//! ```
//!
//! The mark is known before the cgroup is there, so that a `create` which is killed at any point can be cleaned up after.
//! It is an extended attribute, which a container with a cgroup of its own user could change; by the time that anything
//! of the container's runs, its cgroup is told by the inode, which nobody can change.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::XattrFlags;

use super::Cgroup;
use crate::{Errno, Error, Result};

/// In order of preference: the first takes CAP_SYS_ADMIN in the first user namespace, to read and to write.
const MARKS: [&str; 2] = ["trusted.onggi.container", "user.onggi.container"];

/// No mark of ours is longer: an id and a time.
const LONGEST_MARK: usize = 2048;

/// What the state knows of a container's cgroup, besides its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nothing: the state is that of a release which did not write it down.
    PathOnly,
    /// `create` has not come to its end: the cgroup, if it is there, has this mark.
    Marked(String),
    /// The inode number of its directory. The kernel gives each cgroup another one until the next boot (of 64 bits since
    /// Linux 5.5; where `ino_t` has 32, they come round again).
    Inode(u64),
}

impl Cgroup {
    /// The inode number of its directory: see [`Identity::Inode`].
    ///
    /// # Errors
    /// The kernel refused.
    pub fn inode(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(self.dir()).map_err(|errno| self.failed("fstat", errno))?;
        Ok(stat.st_ino)
    }

    /// Says whose it is, in place of what was said before.
    pub(super) fn mark(&self, mark: &str) {
        for name in MARKS {
            match rustix::fs::fsetxattr(self.dir(), name, mark.as_bytes(), XattrFlags::empty()) {
                Ok(()) => return,
                Err(Errno::PERM | Errno::ACCESS) => {}
                // Without it only a create that is killed would leave a cgroup behind.
                Err(errno) => return log::debug!("{}", self.failed("fsetxattr", errno)),
            }
        }
    }

    /// Whether some container's `create` has marked it.
    pub(super) fn is_marked(&self) -> Result<bool> {
        self.read_mark().map(|mark| mark.is_some())
    }

    /// Whether it is the one that the state means.
    pub(super) fn is(&self, identity: &Identity) -> Result<bool> {
        match identity {
            Identity::PathOnly => Ok(true),
            Identity::Inode(inode) => Ok(self.inode()? == *inode),
            Identity::Marked(wanted) => match self.read_mark()? {
                Some(mark) => Ok(mark == wanted.as_bytes()),
                // Killed between making it and marking it; but nothing was in it by then.
                None => Ok(!self.is_populated()?),
            },
        }
    }

    fn read_mark(&self) -> Result<Option<Vec<u8>>> {
        for name in MARKS {
            match read_attribute(self.dir(), name) {
                Ok(mark) => return Ok(Some(mark)),
                Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
                Err(errno) => return Err(self.failed("fgetxattr", errno)),
            }
        }
        Ok(None)
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::os(call, errno).path(self.path())
    }
}

/// Too long a value is somebody else's; it is told as empty, which none of ours is.
fn read_attribute(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; LONGEST_MARK];
    match rustix::fs::fgetxattr(dir.as_fd(), name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(value)
        }
        Err(Errno::RANGE) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

//! Runs in: RUNTIME. Which cgroup is a container's own. A path says only where it was: another container, of
//! another state root perhaps, may be there by now. Marks, compares and looks for cgroups; kills and removes
//! nothing.
//!
//! ```text
//! create:  state (identity: the mark to come) ─► mkdir, mark ─► clone3 … Ready ─► state (identity: the inode)
//! ```
//!
//! The mark is known before the cgroup is there, so that a `create` which is killed at any point can be
//! cleaned up after. It is an extended attribute, which a container with a cgroup of its own user could
//! change; by the time that anything of the container's runs, its cgroup is told by the inode, which nobody
//! can change.
//!
//! A mark is `ID, created TIME, in PLACE`. The place is the directory of the container's state, which is
//! known even where its record is damaged: then the mark is looked for in the whole tree.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use super::directory::Cgroup;
use super::files::{read_file, value_of};
use super::root::CgroupRoot;
use super::walk;
use crate::error::ErrorResult;
use crate::{Errno, Error, Result};

/// In order of preference: the first takes CAP_SYS_ADMIN in the first user namespace, to read and to write.
const MARKS: [&str; 2] = ["trusted.onggi.container", "user.onggi.container"];

/// No mark of ours is longer: an id, a time and a place.
const LONGEST_MARK: usize = 2048;

/// Between the part of a mark that the record knows and the place.
const IN: &str = ", in ";

/// What the state knows of a container's cgroup, besides its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nothing: the state is that of a release which did not write it down.
    PathOnly,
    /// `create` has not come to its end: the cgroup, if it is there, has this mark, and a place behind it.
    Marked(String),
    /// The inode number of its directory. The kernel gives each cgroup another one until the next boot (of 64
    /// bits since Linux 5.5; where `ino_t` has 32, they come round again).
    Inode(u64),
}

impl Cgroup {
    /// As [`Cgroup::open`], and `None` also if another cgroup is there by now than the one that the state
    /// means.
    pub(super) fn open_own(path: &Path, identity: &Identity) -> Result<Option<Self>> {
        match Self::open(path)? {
            Some(cgroup) if cgroup.is(identity)? => Ok(Some(cgroup)),
            _ => Ok(None),
        }
    }

    /// The inode number of its directory: see [`Identity::Inode`].
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn inode(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(self.dir()).map_err(|errno| self.failed("fstat", errno))?;
        Ok(stat.st_ino)
    }

    /// Says whose it is, in place of what was said before. Where this user may write no attribute there is no
    /// mark, and only a `create` that is killed leaves its cgroup behind.
    ///
    /// # Errors
    /// It failed for another reason: later commands will look for the mark.
    pub(super) fn mark(&self, mark: &str) -> Result<()> {
        for name in MARKS {
            match rustix::fs::fsetxattr(self.dir(), name, mark.as_bytes(), XattrFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(self.failed("fsetxattr", errno).doing("mark the cgroup")),
            }
        }
        log::debug!("the cgroup {} cannot be marked", self.path().display());
        Ok(())
    }

    /// Whether some container's `create` has marked it.
    pub(super) fn is_marked(&self) -> Result<bool> {
        self.read_mark().map(|mark| mark.is_some())
    }

    /// Whether it is marked as that of a container with this id, in whatever state root.
    ///
    /// # Errors
    /// The mark cannot be read.
    pub(crate) fn is_marked_for(&self, id: &str) -> Result<bool> {
        let mark = self.read_mark()?;
        Ok(mark.is_some_and(|mark| mark.text.starts_with(&format!("{id}, created "))))
    }

    /// The cgroups below this one that are marked as some container's, and have processes. In what this user
    /// may not open there is nothing of theirs.
    ///
    /// # Errors
    /// A cgroup cannot be looked at.
    pub(crate) fn containers_below(&self) -> Result<Vec<Marked>> {
        let mut found = Vec::new();
        let enter = |visited: walk::Visited<'_>| {
            let (dir, path) = (visited.dir, || self.path().join(visited.path()));
            let Some(mark) = read_mark(dir).map_err(|errno| failed("fgetxattr", errno, &path()))? else {
                return Ok(());
            };
            let events = match read_file(dir, "cgroup.events") {
                Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
                events => events.map_err(|errno| failed("read", errno, &path()))?,
            };
            if value_of(&events, "populated") == Some(b"1") {
                let stat = rustix::fs::fstat(dir).map_err(|errno| failed("fstat", errno, &path()))?;
                found.push(Marked {
                    path: path(),
                    inode: stat.st_ino,
                    mark,
                });
            }
            Ok(())
        };
        walk::below(self.dir(), enter, |_, _| Ok(()), |_| Ok(()))
            .map_err(|error| error.doing(format!("look below the cgroup {}", self.path().display())))?;
        Ok(found)
    }

    /// All cgroups that are marked as those of the container with this id whose state is at `place`, whether
    /// or not their paths are known.
    ///
    /// # Errors
    /// No cgroup2 tree is mounted; a cgroup cannot be looked at.
    pub(crate) fn find_marked(id: &str, place: &str) -> Result<Vec<Self>> {
        let root = CgroupRoot::find()?;
        let (begin, end) = (format!("{id}, created "), format!("{IN}{place}"));
        let mut paths = Vec::new();
        let enter = |visited: walk::Visited<'_>| {
            let mark = read_mark(visited.dir)
                .map_err(|errno| failed("fgetxattr", errno, &root.path().join(visited.path())))?;
            if mark.is_some_and(|mark| mark.text.starts_with(&begin) && mark.text.ends_with(&end)) {
                paths.push(root.path().join(visited.path()));
            }
            Ok(())
        };
        // What is closed to this user was made by another one.
        walk::below(root.dir(), enter, |_, _| Ok(()), |_| Ok(())).doing("look for the container's cgroup")?;
        let mut found = Vec::new();
        for path in paths {
            found.extend(Self::open(&path)?);
        }
        Ok(found)
    }

    /// Whether it is the one that the state means.
    pub(super) fn is(&self, identity: &Identity) -> Result<bool> {
        match identity {
            Identity::PathOnly => Ok(true),
            Identity::Inode(inode) => Ok(self.inode()? == *inode),
            Identity::Marked(wanted) => match self.read_mark()? {
                Some(mark) => Ok(without_place(&mark.text) == wanted),
                // Killed between making it and marking it; but nothing was in it by then.
                None => Ok(!self.is_populated()?),
            },
        }
    }

    fn read_mark(&self) -> Result<Option<Mark>> {
        read_mark(self.dir()).map_err(|errno| self.failed("fgetxattr", errno))
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        failed(call, errno, self.path())
    }
}

/// A cgroup that a container's `create` has marked, and that has processes.
#[derive(Debug)]
pub(crate) struct Marked {
    /// Its absolute path.
    pub path: PathBuf,
    /// As [`Cgroup::inode`].
    pub inode: u64,
    /// Whose it is, by what is written there.
    pub mark: Mark,
}

/// What a cgroup is marked with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `ID, created TIME, in PLACE`; bytes that are no text are replaced.
    pub text: String,
    /// Written with CAP_SYS_ADMIN in the first user namespace. Any other may be the forgery of whoever owns
    /// the cgroup.
    pub is_trusted: bool,
}

/// The part that a record knows: [`crate::host::state::Record::mark`].
pub(super) fn without_place(mark: &str) -> &str {
    mark.rsplit_once(IN).map_or(mark, |(begin, _)| begin)
}

fn failed(call: &'static str, errno: Errno, path: &Path) -> Error {
    Error::os(call, errno).with_path(path)
}

fn read_mark(dir: BorrowedFd<'_>) -> rustix::io::Result<Option<Mark>> {
    for name in MARKS {
        match read_attribute(dir, name) {
            Ok(value) => {
                return Ok(Some(Mark {
                    text: String::from_utf8_lossy(&value).into_owned(),
                    is_trusted: name == MARKS[0],
                }));
            }
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
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

//! Runs in: RUNTIME. One container's directory once it is found: under the lock ([`Slot`], [`Wreck`]) or
//! without it ([`View`]). Does not look for containers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::id::ContainerId;
use super::record::{Record, foreign};
use super::{GONE, STATE, files, unique};
use crate::error::{CallResult, ErrorResult};
use crate::{Error, ErrorKind, Result};

/// The files that nearly every container has; they are unlinked without reading the directory.
const USUAL: [&str; 2] = [STATE, "config.json"];
/// What another runtime has in a container's directory before, or in place of, a `state.json`: runc while it
/// creates, crun, youki.
const FOREIGN: [&str; 3] = ["exec.fifo", "status", "youki_config.json"];

/// A container's directory, locked for this command alone until it is dropped, and its record.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) held: Held,
    pub(super) record: Record,
}

/// A locked directory with a container's name but no record, or a damaged one: what the record named has to
/// be found by other marks, then the directory can be removed.
#[derive(Debug)]
pub(crate) struct Wreck {
    pub(super) held: Held,
    pub(super) reason: Error,
}

/// A container's directory and record, looked at without the lock: true at the moment of reading, no longer.
#[derive(Debug)]
pub(crate) struct View {
    pub(super) dir: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) record: Record,
}

/// The lock itself, with the directories it was found through.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) root: OwnedFd,
    pub(super) dir: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) id: ContainerId,
}

impl Slot {
    /// The record, as read when the lock was taken or as last written through this slot.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Replaces the record.
    pub(crate) fn write(&mut self, record: Record) -> Result<()> {
        let json = record.encode()?;
        self.save_file(STATE, &json)?;
        self.record = record;
        Ok(())
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.held.id
    }

    /// The container's directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.held.dir.as_fd()
    }

    /// The path of the container's directory: for messages. Work goes through [`Slot::dir`].
    pub(crate) fn path(&self) -> &Path {
        &self.held.path
    }

    /// Writes or replaces a file beside the record, mode 0600; a reader sees all of it or nothing.
    pub(crate) fn save_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        files::check_name(name)
            .and_then(|()| files::replace(self.dir(), self.path(), name, contents))
            .doing("save the container's state")
    }

    /// Reads a file beside the record.
    pub(crate) fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        read_file(self.dir(), self.path(), name)
    }

    /// Which directory it is, for a mark: `Held::place`.
    ///
    /// # Errors
    /// As fstat(2).
    pub(crate) fn place(&self) -> Result<String> {
        self.held.place()
    }

    /// Gives the container's id back, in one step. What was under it is still to be removed.
    ///
    /// # Errors
    /// It has the id still.
    pub(crate) fn retire(self) -> Result<Retired> {
        self.held.retire()
    }
}

impl Wreck {
    /// Why there is no record.
    pub(crate) fn reason(&self) -> &Error {
        &self.reason
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.held.id
    }

    /// The directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.held.dir.as_fd()
    }

    /// As [`Slot::place`]: known without the record, and the same that `create` has seen.
    ///
    /// # Errors
    /// As fstat(2).
    pub(crate) fn place(&self) -> Result<String> {
        self.held.place()
    }

    /// Reads a file beside the record that is not there.
    pub(crate) fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        read_file(self.dir(), &self.held.path, name)
    }

    /// Removes the directory, first its name, in one step, then what is in it; not one of another runtime, or
    /// of a newer release, whose container may be running.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], the [`Wreck::reason`], for these.
    pub(crate) fn remove(self) -> Result<()> {
        match self.reason.kind() {
            ErrorKind::Unsupported => Err(self.reason),
            _ => self.held.retire()?.remove(),
        }
    }
}

impl View {
    /// The record.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Whether a command has the container locked at this moment.
    ///
    /// # Errors
    /// As flock(2).
    pub(crate) fn is_worked_on(&self) -> Result<bool> {
        match flock(&self.dir, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                unlock(&self.dir);
                Ok(false)
            }
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(Error::os("flock", errno).with_path(&self.path)),
        }
    }

    /// The container's directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Reads a file beside the record.
    pub(crate) fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        read_file(self.dir(), &self.path, name)
    }
}

impl Held {
    /// The directory's file system and number: as long as it is there, no other has the same.
    fn place(&self) -> Result<String> {
        let stat = rustix::fs::fstat(&self.dir).call("fstat").path(&self.path)?;
        Ok(format!("{:x}:{}", stat.st_dev, stat.st_ino))
    }

    fn retire(self) -> Result<Retired> {
        let failed = |error: Error| error.doing("remove the container's state");
        loop {
            let temporary = unique(GONE);
            let (root, id) = (&self.root, self.id.as_str());
            match rustix::fs::renameat_with(root, id, root, &temporary, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    return Ok(Retired {
                        held: self,
                        name: Some(temporary),
                    });
                }
                Err(Errno::EXIST) => continue,
                // Removed by hand, past the lock: what was asked for is so.
                Err(Errno::NOENT) => {
                    return Ok(Retired {
                        held: self,
                        name: None,
                    });
                }
                Err(errno) => return Err(failed(Error::os("renameat2", errno).with_path(&self.path))),
            }
        }
    }
}

/// The directory of a container that is no more, under a name that is no id.
#[derive(Debug)]
pub(crate) struct Retired {
    held: Held,
    /// `None` if somebody else has removed it.
    name: Option<String>,
}

impl Retired {
    /// Removes it with what is in it.
    ///
    /// # Errors
    /// Something is left; a later command sweeps it away.
    pub(crate) fn remove(self) -> Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        let above = self.held.path.parent().unwrap_or(Path::new("/"));
        remove_dir(&self.held.root, &self.held.dir, name, above).doing("remove the container's state")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        unlock(&self.dir);
    }
}

/// An error of the kind [`ErrorKind::Internal`] says that there is no record, or a damaged one, and no later
/// look will find another; of the kind [`ErrorKind::Unsupported`], that it is another runtime's. Any other
/// says that it could not be read now (too many open files, no memory, a disk that fails): the record may be
/// whole.
pub(super) fn read_record(dir: BorrowedFd<'_>, id: &ContainerId, name: &str, path: &Path) -> Result<Record> {
    let result = match files::read(dir, name) {
        Ok(json) => Record::decode(id, &json),
        Err((call, Errno::NOENT)) => match is_foreign(dir) {
            Ok(true) => Err(foreign()),
            Ok(false) => Err(Error::os(call, Errno::NOENT).with_kind(ErrorKind::Internal)),
            Err(errno) => Err(Error::os("fstatat", errno)),
        },
        Err((call, errno)) if is_no_record(errno) => {
            Err(Error::os(call, errno).with_kind(ErrorKind::Internal))
        }
        Err((call, errno)) => Err(Error::os(call, errno)),
    };
    result.map_err(|error| {
        error
            .with_path(path.join(name))
            .doing("read the container's state")
    })
}

/// What there is of that name is no regular file, or larger than any record.
fn is_no_record(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV | Errno::XDEV | Errno::FBIG
    )
}

fn is_foreign(dir: BorrowedFd<'_>) -> std::result::Result<bool, Errno> {
    for name in FOREIGN {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Ok(true),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

fn read_file(dir: BorrowedFd<'_>, path: &Path, name: &str) -> Result<Vec<u8>> {
    files::check_name(name)?;
    files::read(dir, name).map_err(|(call, errno)| {
        Error::os(call, errno)
            .with_path(path.join(name))
            .doing("read the container's state")
    })
}

/// Empties and removes the directory `name` below the root.
pub(super) fn remove_dir(root: &OwnedFd, dir: &OwnedFd, name: &str, root_path: &Path) -> Result<()> {
    let path = root_path.join(name);
    let os = |call, errno| Error::os(call, errno).with_path(&path);
    for file in USUAL {
        match rustix::fs::unlinkat(dir, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A directory with that name, in a wreck: the thorough way below deals with it.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(os("unlinkat", errno)),
        }
    }
    match rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => files::empty(dir.as_fd(), &path)?,
        removed => return removed.map_err(|errno| os("unlinkat", errno)),
    }
    rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR).map_err(|errno| os("unlinkat", errno))
}

pub(super) fn flock(dir: &OwnedFd, operation: FlockOperation) -> std::result::Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(dir, operation))
}

pub(super) fn unlock(dir: &OwnedFd) {
    // LOCK_UN on an open descriptor of ours cannot fail, and there is no one to tell in a drop.
    let _cannot_fail = flock(dir, FlockOperation::Unlock);
}

/// Takes the lock; false if the time is up. flock has no time limit of its own, so this tries again and
/// again.
pub(super) fn lock_until(dir: &OwnedFd, deadline: Option<Instant>) -> std::result::Result<bool, Errno> {
    let Some(deadline) = deadline else {
        return flock(dir, FlockOperation::LockExclusive).map(|()| true);
    };
    let mut pause = Duration::from_micros(500);
    loop {
        match flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            locked => return locked.map(|()| true),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

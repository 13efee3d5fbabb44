//! Runs in: RUNTIME. One container's directory once it is found: under the lock ([`Slot`], [`Wreck`]) or without it
//! ([`View`]). Does not look for containers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::id::ContainerId;
use super::record::{Record, foreign};
use super::{GONE, STATE, files, unique};
use crate::{Error, ErrorKind, Result};

/// The files that nearly every container has; they are unlinked without reading the directory.
const USUAL: [&str; 2] = [STATE, "config.json"];
/// What another runtime has in a container's directory before, or in place of, a `state.json`: runc while it creates, crun,
/// youki.
const FOREIGN: [&str; 3] = ["exec.fifo", "status", "youki_config.json"];

/// A container's directory, locked for this command alone until it is dropped, and its record.
#[derive(Debug)]
pub struct Slot {
    pub(super) held: Held,
    pub(super) record: Record,
}

/// A locked directory with a container's name but no readable record: all that can be done is to remove it.
#[derive(Debug)]
pub struct Wreck {
    pub(super) held: Held,
    pub(super) reason: Error,
}

/// A container's directory and record, looked at without the lock: true at the moment of reading, no longer.
#[derive(Debug)]
pub struct View {
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
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Replaces the record.
    pub fn write(&mut self, record: Record) -> Result<()> {
        let json = record.encode()?;
        self.save_file(STATE, &json)?;
        self.record = record;
        Ok(())
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.held.id
    }

    /// The container's directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.held.dir.as_fd()
    }

    /// The path of the container's directory: for messages. Work goes through [`Slot::dir`].
    pub fn path(&self) -> &Path {
        &self.held.path
    }

    /// Writes or replaces a file beside the record, mode 0600; a reader sees all of it or nothing.
    pub fn save_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        files::check_name(name)
            .and_then(|()| files::replace(self.dir(), self.path(), name, contents))
            .map_err(|error| error.doing("save the container's state"))
    }

    /// Reads a file beside the record.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        read_file(self.dir(), self.path(), name)
    }

    /// Removes the container's directory: first its name, in one step, then what is in it.
    pub fn remove(self) -> Result<()> {
        self.held.remove()
    }
}

impl Wreck {
    /// Why there is no record.
    pub fn reason(&self) -> &Error {
        &self.reason
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.held.dir.as_fd()
    }

    /// Removes the directory, as [`Slot::remove`]; not one of another runtime, or of a newer release, whose container may be
    /// running.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], the [`Wreck::reason`], for these.
    pub fn remove(self) -> Result<()> {
        match self.reason.kind() {
            ErrorKind::Unsupported => Err(self.reason),
            _ => self.held.remove(),
        }
    }
}

impl View {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The container's directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Reads a file beside the record.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        read_file(self.dir(), &self.path, name)
    }
}

impl Held {
    fn remove(self) -> Result<()> {
        let root = self.path.parent().unwrap_or(Path::new("/"));
        loop {
            let temporary = unique(GONE);
            return match rustix::fs::renameat_with(
                &self.root,
                self.id.as_str(),
                &self.root,
                &temporary,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => remove_dir(&self.root, &self.dir, &temporary, root),
                Err(Errno::EXIST) => continue,
                // Removed by hand, past the lock: what was asked for is so.
                Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(Error::os("renameat2", errno).path(&self.path)),
            }
            .map_err(|error| error.doing("remove the container's state"));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        unlock(&self.dir);
    }
}

pub(super) fn read_record(dir: BorrowedFd<'_>, id: &ContainerId, name: &str, path: &Path) -> Result<Record> {
    let result = match files::read(dir, name) {
        Ok(json) => Record::decode(id, &json),
        Err((_, Errno::NOENT)) if FOREIGN.iter().any(|name| is_there(dir, name)) => Err(foreign()),
        Err((call, errno)) => Err(Error::os(call, errno).with_kind(ErrorKind::Internal)),
    };
    result.map_err(|error| error.path(path.join(name)).doing("read the container's state"))
}

fn is_there(dir: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn read_file(dir: BorrowedFd<'_>, path: &Path, name: &str) -> Result<Vec<u8>> {
    files::check_name(name)?;
    files::read(dir, name).map_err(|(call, errno)| {
        Error::os(call, errno)
            .path(path.join(name))
            .doing("read the container's state")
    })
}

/// Empties and removes the directory `name` below the root.
pub(super) fn remove_dir(root: &OwnedFd, dir: &OwnedFd, name: &str, root_path: &Path) -> Result<()> {
    let path = root_path.join(name);
    let os = |call, errno| Error::os(call, errno).path(&path);
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

/// Takes the lock; false if the time is up. flock has no time limit of its own, so this tries again and again.
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

//! Runs in: RUNTIME. The state store: `<root>/<id>/`, with `state.json` and the other files of one container,
//! and the lock that keeps two commands on one container apart. Does not know what the files mean to the
//! container.
//!
//! - A container's directory appears under its id in one step (`renameat2`), with its record inside and
//!   locked, and disappears in one step. A command that is killed in between leaves a directory named `@...`,
//!   which no id can be; [`Store::ids`] and a failed look-up sweep those away.
//! - `state.json` is replaced by rename, so reading needs no lock.
//! - The lock is `flock` on the container's directory. It belongs to the open file, of which a forked INIT
//!   has a copy; therefore it is given up by `LOCK_UN` and not only by closing.
//! - A directory that belongs to another user than root or the caller is only looked at ([`Store::look`]):
//!   its owner may have written anything.
//! - Nothing is synced to disk: the root is a tmpfs, and after a crash of the machine there are no
//!   containers.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::error::{CallResult, ErrorResult};
use crate::{Error, ErrorKind, Result};

mod files;
mod id;
mod record;
mod slot;
#[cfg(test)]
mod tests;

pub use id::ContainerId;
pub(crate) use record::{CgroupRecord, HostMount, Phase, Record, ResctrlRecord, RootRecord};
use slot::{Held, flock, lock_until, read_record, remove_dir, unlock};
pub(crate) use slot::{Retired, Slot, View, Wreck};

const STATE: &str = "state.json";
/// Prefixes of directories that are not containers yet, or no longer. `@` is not in the alphabet of ids.
const CLAIM: &str = "@claim-";
const GONE: &str = "@gone-";

/// All containers below one root directory. Holds no descriptor and no lock.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

/// What [`Store::find`] found under an id.
#[derive(Debug)]
pub(crate) enum Found {
    /// A container.
    Whole(Box<Slot>),
    /// What is left of one.
    Damaged(Wreck),
}

impl Store {
    /// The store below `root`, an absolute path. Nothing is touched: [`Store::claim`] makes the directory.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes an id: makes `<root>/<id>` (0711; the root 0700 if it is missing) with the record inside, and
    /// returns it locked. When this returns, the record is there for `delete --force`, whatever happens to
    /// this process.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] with runc's text if the id is taken; the one who has it is not disturbed.
    pub(crate) fn claim(&self, id: &ContainerId, record: &Record) -> Result<Slot> {
        let json = record.encode()?;
        let root = self.open_or_make_root()?;
        loop {
            let temporary = unique(CLAIM);
            match self.try_claim(&root, &temporary, id, &json) {
                Ok(dir) => {
                    let held = Held {
                        root,
                        dir,
                        path: self.root.join(id.as_str()),
                        id: id.clone(),
                    };
                    return Ok(Slot {
                        held,
                        record: record.clone(),
                    });
                }
                Err(Unclaimed::Again) => {}
                // That sentence is runc's, and stands alone there.
                Err(Unclaimed::Failed(error)) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(error);
                }
                Err(Unclaimed::Failed(error)) => return Err(error.doing("claim the container's id")),
            }
        }
    }

    fn try_claim(
        &self,
        root: &OwnedFd,
        temporary: &str,
        id: &ContainerId,
        json: &[u8],
    ) -> std::result::Result<OwnedFd, Unclaimed> {
        let os = |call, errno| Error::os(call, errno).with_path(self.root.join(temporary));
        match rustix::fs::mkdirat(root, temporary, Mode::from_raw_mode(0o711)) {
            Err(Errno::EXIST) => return Err(Unclaimed::Again),
            made => made.map_err(|errno| os("mkdirat", errno))?,
        }
        // Until the lock is held a sweeping command takes the directory for abandoned and may remove it.
        let gone = |call, errno| match errno {
            Errno::NOENT => Unclaimed::Again,
            _ => Unclaimed::Failed(os(call, errno)),
        };
        // Empty as yet.
        let give_up = |unclaimed| match (
            &unclaimed,
            rustix::fs::unlinkat(root, temporary, AtFlags::REMOVEDIR),
        ) {
            (Unclaimed::Again, _) | (_, Ok(()) | Err(Errno::NOENT)) => unclaimed,
            (Unclaimed::Failed(_), Err(errno)) => unclaimed.and(os("unlinkat", errno)),
        };
        let dir = rustix::fs::openat(root, temporary, files::DIRECTORY, Mode::empty())
            .map_err(|errno| give_up(gone("openat", errno)))?;
        // Where another user owns the root, it may have been exchanged for one of theirs.
        refuse_foreign(&dir, &self.root.join(temporary))?;
        flock(&dir, FlockOperation::LockExclusive)
            .map_err(|errno| give_up(Unclaimed::Failed(os("flock", errno))))?;
        let undo = |error: Error| match remove_dir(root, &dir, temporary, &self.root) {
            Ok(()) => error,
            Err(second) => error.and(second),
        };
        files::create(dir.as_fd(), STATE, OFlags::EXCL, json).map_err(|(call, errno)| {
            match gone(call, errno) {
                Unclaimed::Again => Unclaimed::Again,
                Unclaimed::Failed(error) => Unclaimed::Failed(undo(error)),
            }
        })?;
        let published = rustix::fs::renameat_with(root, temporary, root, id.as_str(), RenameFlags::NOREPLACE);
        match published {
            Ok(()) => Ok(dir),
            Err(Errno::EXIST) => Err(undo(already_exists(id)).into()),
            Err(errno) => {
                Err(undo(Error::os("renameat2", errno).with_path(self.root.join(id.as_str()))).into())
            }
        }
    }

    /// Locks a container, waiting as long as another command works on it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] with runc's text `container does not exist`; [`ErrorKind::Internal`] if its
    /// record is damaged ([`Store::find`] gives access to what is left of it); [`ErrorKind::Os`] if it cannot
    /// be read now.
    pub(crate) fn lock(&self, id: &ContainerId) -> Result<Slot> {
        whole(self.find(id, None)?)
    }

    /// Locks whatever has this id, whole or damaged: the way in for `delete --force`. Without a limit it
    /// waits as long as another command works on the container.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and [`ErrorKind::WrongStatus`] when the time is up; [`ErrorKind::Os`] if the
    /// record cannot be read now, so that nobody can say whether it is whole.
    pub(crate) fn find(&self, id: &ContainerId, limit: Option<Duration>) -> Result<Found> {
        let path = self.root.join(id.as_str());
        let os = |call, errno| {
            Error::os(call, errno)
                .with_path(&path)
                .doing("lock the container")
        };
        let deadline = limit.map(|limit| Instant::now() + limit);
        let Some(root) = self.open_root()? else {
            return Err(self.not_found(id));
        };
        loop {
            let dir = match rustix::fs::openat(&root, id.as_str(), files::DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => {
                    return Err(match self.sweep(&root) {
                        Ok(()) => self.not_found(id),
                        Err(second) => self.not_found(id).and(second),
                    });
                }
                Err(errno) => return Err(os("openat", errno)),
            };
            refuse_foreign(&dir, &path)?;
            if !lock_until(&dir, deadline).map_err(|errno| os("flock", errno))? {
                let text = "another command is at work on the container";
                return Err(Error::new(ErrorKind::WrongStatus, text).with_path(&path));
            }
            // The one who held the lock may have deleted the container, and another may have created it anew.
            if !files::is_still_at(dir.as_fd(), root.as_fd(), id.as_str()).map_err(|e| os("fstatat", e))? {
                unlock(&dir);
                continue;
            }
            let record = read_record(dir.as_fd(), id, STATE, &path);
            let held = Held {
                root,
                dir,
                path,
                id: id.clone(),
            };
            return match record {
                Ok(record) => Ok(Found::Whole(Box::new(Slot { held, record }))),
                Err(reason) if matches!(reason.kind(), ErrorKind::Internal | ErrorKind::Unsupported) => {
                    Ok(Found::Damaged(Wreck { held, reason }))
                }
                // It may be whole: who took it for damaged would forget a container that runs.
                Err(error) => Err(error),
            };
        }
    }

    fn not_found(&self, id: &ContainerId) -> Error {
        not_found(id).with_hint(format!("looked below {}", self.root.display()))
    }

    /// Looks at a container without the lock: its record, and its directory for the other files. The record
    /// may be another user's, who can have written anything: to be shown, and not to be acted on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Internal`] if the record is missing or damaged.
    pub(crate) fn look(&self, id: &ContainerId) -> Result<View> {
        self.open_view(id, |_, _| Ok(()))
    }

    /// The record alone of [`Store::look`].
    ///
    /// # Errors
    /// As [`Store::look`].
    pub(crate) fn read(&self, id: &ContainerId) -> Result<Record> {
        Ok(self.look(id)?.record)
    }

    /// [`Store::look`] for a container that is the caller's or root's.
    ///
    /// # Errors
    /// As [`Store::look`], and [`ErrorKind::Denied`] for one of another user.
    pub(crate) fn view(&self, id: &ContainerId) -> Result<View> {
        self.open_view(id, refuse_foreign)
    }

    fn open_view(&self, id: &ContainerId, check: fn(&OwnedFd, &Path) -> Result<()>) -> Result<View> {
        let path = self.root.join(id.as_str());
        let Some(root) = self.open_root()? else {
            return Err(self.not_found(id));
        };
        loop {
            let dir = match rustix::fs::openat(&root, id.as_str(), files::DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => return Err(self.not_found(id)),
                Err(errno) => return Err(Error::os("openat", errno).with_path(&path)),
            };
            check(&dir, &path)?;
            let error = match read_record(dir.as_fd(), id, STATE, &path) {
                Ok(record) => return Ok(View { dir, path, record }),
                Err(error) => error,
            };
            let in_place = files::is_still_at(dir.as_fd(), root.as_fd(), id.as_str());
            // No record, because the container was deleted under our eyes? Then look again.
            if in_place.call("fstatat").path(&path)? {
                return Err(error);
            }
        }
    }

    /// The ids of all containers, in order; also of those whose record is damaged. None if there is no root.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let Some(root) = self.open_root()? else {
            return Ok(Vec::new());
        };
        let (mut ids, mut leftovers) = (Vec::new(), false);
        for (name, kind) in self.entries(&root)? {
            leftovers |= is_ours(&name);
            // On filesystems that do not tell the kind it is Unknown.
            if matches!(kind, FileType::Directory | FileType::Unknown)
                && let Ok(id) = ContainerId::new(name)
            {
                ids.push(id);
            }
        }
        if leftovers {
            self.sweep(&root)?;
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes the directories of commands that died while they made or removed one. A directory that is
    /// locked has a living owner and stays.
    fn sweep(&self, root: &OwnedFd) -> Result<()> {
        if foreign_owner(&status(root, &self.root)?).is_some() {
            // Its owner chooses what has such a name: a directory of root's beside the containers, for one.
            return Ok(());
        }
        for (name, _) in self.entries(root)? {
            if !is_ours(&name) {
                continue;
            }
            // It is in nobody's way: what cannot be removed of one container must not keep others from being
            // listed.
            if let Err(error) = self.sweep_one(root, &name) {
                log::info!("{}", error.doing("remove what a dead command left"));
            }
        }
        Ok(())
    }

    fn sweep_one(&self, root: &OwnedFd, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let os = |call, errno| Error::os(call, errno).with_path(&path);
        let dir = match rustix::fs::openat(root, name, files::DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            // Its owner, alive after all, or another sweeper was quicker.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(os("openat", errno)),
        };
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(()),
            locked => locked.map_err(|errno| os("flock", errno))?,
        }
        // A claim may have become a container between the open and the lock.
        let abandoned = files::is_still_at(dir.as_fd(), root.as_fd(), name).map_err(|e| os("fstatat", e))?;
        let removed = if abandoned {
            remove_dir(root, &dir, name, &self.root)
        } else {
            Ok(())
        };
        unlock(&dir);
        removed
    }

    fn entries(&self, root: &OwnedFd) -> Result<Vec<(String, FileType)>> {
        let os = |call, errno| Error::os(call, errno).with_path(&self.root);
        let mut entries = Vec::new();
        for entry in files::entries(root.as_fd()).map_err(|errno| os("openat", errno))? {
            let entry = entry.map_err(|errno| os("getdents64", errno))?;
            // A name that is not UTF-8 is neither an id nor one of ours.
            if let Ok(name) = entry.file_name().to_str() {
                entries.push((name.to_owned(), entry.file_type()));
            }
        }
        Ok(entries)
    }

    /// The root itself may be reached by symbolic links (`/var/run`): its path is the administrator's.
    fn open_root(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&self.root, flags, Mode::empty()) {
            Ok(root) => self.refuse_writable_by_others(&root).map(|()| Some(root)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::os("open", errno)
                .with_path(&self.root)
                .doing("open the root directory")),
        }
    }

    /// What stands in a record is believed: a pid is killed, a cgroup emptied. Where anyone may make a
    /// container's directory, as in /tmp, anyone may write one; the sticky bit does not help.
    fn refuse_writable_by_others(&self, root: &OwnedFd) -> Result<()> {
        let status = status(root, &self.root)?;
        if Mode::from_raw_mode(status.st_mode).contains(Mode::WOTH) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} is writable by everybody, who could forge the state of containers: take a directory of your own",
                    self.root.display()
                ),
            )
            .doing("open the root directory"));
        }
        Ok(())
    }

    fn open_or_make_root(&self) -> Result<OwnedFd> {
        use std::os::unix::fs::DirBuilderExt;
        if let Some(root) = self.open_root()? {
            return Ok(root);
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .call("mkdir")
            .path(&self.root)
            .doing("make the root directory")?;
        self.open_root()?
            .ok_or_else(|| Error::os("open", Errno::NOENT).with_path(&self.root))
    }
}

/// Why [`Store::try_claim`] has no directory.
enum Unclaimed {
    /// Its temporary directory was in another's way: take another name.
    Again,
    Failed(Error),
}

impl Unclaimed {
    fn and(self, second: Error) -> Self {
        match self {
            Self::Again => Self::Again,
            Self::Failed(error) => Self::Failed(error.and(second)),
        }
    }
}

impl From<Error> for Unclaimed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn status(dir: &OwnedFd, path: &Path) -> Result<Stat> {
    rustix::fs::fstat(dir).call("fstat").path(path)
}

/// The user to whom a directory belongs, unless that is the caller or root.
fn foreign_owner(status: &Stat) -> Option<u32> {
    let is_own = status.st_uid == 0 || status.st_uid == rustix::process::geteuid().as_raw();
    (!is_own).then_some(status.st_uid)
}

/// Whoever may write to a container's directory has written what is in it, or can have: a pid to kill, hooks
/// to run. Ours nobody else may write to; a link in the root's path can make the id a name like `tmp`.
fn refuse_foreign(dir: &OwnedFd, path: &Path) -> Result<()> {
    let denied = |text: String| {
        Error::new(ErrorKind::Denied, text)
            .with_path(path)
            .doing("read the container's state")
    };
    let status = status(dir, path)?;
    if let Some(owner) = foreign_owner(&status) {
        let text = format!("the container belongs to user {owner}, who could have forged its state");
        let hint = format!("do this as that user, with `sudo -u '#{owner}'` for one");
        return Err(denied(text).with_hint(hint));
    }
    if Mode::from_raw_mode(status.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        let text = "other users may write to the directory, and could have forged the container's state";
        return Err(denied(text.to_owned()));
    }
    Ok(())
}

/// That there is no container with this id: runc's text, which engines look for.
pub(crate) fn not_found(id: &ContainerId) -> Error {
    Error::new(ErrorKind::NotFound, format!("container does not exist: {id}"))
}

fn already_exists(id: &ContainerId) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("container with given ID already exists: {id}"),
    )
}

fn whole(found: Found) -> Result<Slot> {
    match found {
        Found::Whole(slot) => Ok(*slot),
        Found::Damaged(Wreck { reason, .. }) => Err(reason),
    }
}

/// Not unique by itself: the call that makes the name fails if there is one, and the caller takes the next.
fn unique(prefix: &str) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{prefix}{}", now.as_nanos())
}

fn is_ours(name: &str) -> bool {
    name.starts_with(CLAIM) || name.starts_with(GONE)
}

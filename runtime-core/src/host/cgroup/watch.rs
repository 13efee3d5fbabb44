//! Runs in: RUNTIME. How often the kernel has killed a process of a cgroup because memory ran out. Counts;
//! kills nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::directory::Cgroup;
use super::files::number_of;
use crate::{Errno, Error, Result};

/// A view of `memory.events`, which the kernel makes readable whenever it changes.
#[derive(Debug)]
pub(crate) struct OomWatch {
    /// `None` where memory is not accounted: then nothing ever happens.
    events: Option<OwnedFd>,
    seen: u64,
}

impl OomWatch {
    /// Begins to watch: what has happened before does not count.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub(crate) fn new(cgroup: &Cgroup) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let events = match rustix::fs::openat(cgroup.dir(), "memory.events", flags, Mode::empty()) {
            Ok(events) => Some(events),
            Err(Errno::NOENT | Errno::NODEV) => None,
            Err(errno) => {
                return Err(Error::os("openat", errno).with_path(cgroup.path().join("memory.events")));
            }
        };
        let mut watch = Self { events, seen: 0 };
        watch.has_grown()?;
        Ok(watch)
    }

    /// What is ready with `POLLPRI` when the counter may have changed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Reads the counter; whether it is higher than last time.
    pub(crate) fn has_grown(&mut self) -> Result<bool> {
        let Some(events) = &self.events else {
            return Ok(false);
        };
        let mut text = [0; 1024];
        let length = match rustix::io::pread(events, &mut text, 0) {
            Ok(length) => length,
            // The cgroup is gone, and so is what could happen in it.
            Err(Errno::NODEV) => {
                self.events = None;
                return Ok(false);
            }
            Err(errno) => return Err(Error::os("pread", errno).with_path("memory.events")),
        };
        let kills = number_of(&text[..length], "oom_kill").unwrap_or(0);
        let has_grown = kills > self.seen;
        self.seen = kills;
        Ok(has_grown)
    }
}

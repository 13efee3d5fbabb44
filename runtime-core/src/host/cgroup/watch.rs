//! Runs in: RUNTIME. Waits for the kernel to kill a process of a cgroup because memory ran out. Counts; kills nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use super::directory::Cgroup;
use super::files::number_of;
use crate::{Errno, Error, Result};

/// A view of `memory.events`, which the kernel makes readable whenever it changes.
#[derive(Debug)]
pub struct OomWatch {
    /// `None` where memory is not accounted: then nothing ever happens.
    events: Option<OwnedFd>,
    seen: u64,
}

/// What [`OomWatch::wait`] came back for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Another process was killed.
    Oom,
    /// The other descriptor became readable.
    Other,
    /// The time was up.
    Timeout,
}

impl OomWatch {
    /// Begins to watch: what has happened before does not count.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn new(cgroup: &Cgroup) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let events = match rustix::fs::openat(cgroup.dir(), "memory.events", flags, Mode::empty()) {
            Ok(events) => Some(events),
            Err(Errno::NOENT | Errno::NODEV) => None,
            Err(errno) => {
                return Err(Error::os("openat", errno).path(cgroup.path().join("memory.events")));
            }
        };
        let mut watch = Self { events, seen: 0 };
        watch.has_grown()?;
        Ok(watch)
    }

    /// Waits for the next kill, until `other` is readable, or for as long as the timeout says, whatever comes first.
    ///
    /// # Errors
    /// `poll` or a read failed.
    pub fn wait(&mut self, other: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<Woken> {
        loop {
            // Before sleeping: a kill may also have been the cause for `other`.
            if self.has_grown()? {
                return Ok(Woken::Oom);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut fds = vec![PollFd::from_borrowed_fd(other, PollFlags::IN)];
            if let Some(events) = &self.events {
                fds.push(PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI));
            }
            match rustix::event::poll(&mut fds, left.map(timespec).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("poll", errno)),
            }
            let is_other = !fds[0].revents().is_empty();
            if self.has_grown()? {
                return Ok(Woken::Oom);
            }
            if is_other {
                return Ok(Woken::Other);
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Woken::Timeout);
            }
        }
    }

    /// Reads the counter; whether it is higher than last time.
    fn has_grown(&mut self) -> Result<bool> {
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
            Err(errno) => return Err(Error::os("pread", errno).path("memory.events")),
        };
        let kills = number_of(&text[..length], "oom_kill").unwrap_or(0);
        let has_grown = kills > self.seen;
        self.seen = kills;
        Ok(has_grown)
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

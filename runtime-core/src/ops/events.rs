//! Runs in: RUNTIME. `events`: what a container uses, and when the kernel kills for memory in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Runtime, Status, container};
use crate::error::CallResult;
use crate::host::cgroup::OomWatch;
use crate::host::cgroup::stats::CgroupStats;
use crate::host::process::Process as HostProcess;
use crate::host::state::{ContainerId, Record};
use crate::{Errno, Error, ErrorKind, Result};

/// Something that happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The kernel has killed a process of it, because memory ran out.
    Oom,
    /// Its init has ended. Nothing comes after it.
    Ended,
}

/// A watch on one container. Holds descriptors; needs no lock and no thread, and leaves the container alone.
///
/// Its own descriptor ([`AsFd`]) is readable when there may be something to fetch by [`Events::try_next`]:
/// for poll(2), epoll(7) and what is built on them.
#[derive(Debug)]
pub struct Events {
    init: HostProcess,
    watch: OomWatch,
    ready: OwnedFd,
}

impl Events {
    fn new(init: HostProcess, watch: OomWatch) -> Result<Self> {
        let ready = epoll::create(CreateFlags::CLOEXEC).call("epoll_create1")?;
        epoll::add(&ready, init.as_fd(), EventData::new_u64(0), EventFlags::IN).call("epoll_ctl")?;
        if let Some(counter) = watch.fd() {
            epoll::add(&ready, counter, EventData::new_u64(1), EventFlags::PRI).call("epoll_ctl")?;
        }
        Ok(Self { init, watch, ready })
    }

    /// The next event, if one has come. Does not wait.
    ///
    /// # Errors
    /// A file of the cgroup cannot be read.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        let has_ended = is_ready(self.init.as_fd(), PollFlags::IN, Some(Duration::ZERO))?;
        // Looked at last: a kill may have been what has ended it.
        Ok(match (self.watch.has_grown()?, has_ended) {
            (true, _) => Some(Event::Oom),
            (false, true) => Some(Event::Ended),
            (false, false) => None,
        })
    }

    /// Waits for the next event, at most until `deadline`, for ever without one; `None` when the time is up.
    ///
    /// # Errors
    /// A file of the cgroup cannot be read.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            is_ready(self.ready.as_fd(), PollFlags::IN, left)?;
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

/// Whether a descriptor is ready, or becomes so in that time. A signal ends the waiting.
fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags, limit: Option<Duration>) -> Result<bool> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, flags)], limit.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::os("poll", errno)),
    }
}

impl Runtime {
    /// What the container has used so far. It serialises to the `data` of runc's `events`.
    ///
    /// # Errors
    /// `NotFound`; `WrongStatus`, "container with id ... is not running"; the container has no cgroup of its
    /// own.
    pub fn stats(&self, id: &ContainerId) -> Result<CgroupStats> {
        let view = self.store.view(id)?;
        let is_over = container::status(view.record(), view.dir())? == Status::Stopped;
        match container::own_cgroup(view.record())?.cgroup() {
            Some(cgroup) if !is_over => cgroup.stats(),
            _ => Err(not_running(id)),
        }
    }

    /// Begins to watch a container.
    ///
    /// # Errors
    /// As [`Runtime::stats`].
    pub fn events(&self, id: &ContainerId) -> Result<Events> {
        let view = self.store.view(id)?;
        let record = view.record();
        let init = HostProcess::open(record.pid, record.start_time)?.ok_or_else(|| not_running(id))?;
        match container::own_cgroup(record)?.cgroup() {
            Some(cgroup) => Events::new(init, OomWatch::new(cgroup)?),
            None => Err(not_running(id)),
        }
    }

    /// How many processes of the container the kernel has killed because memory ran out, also if the
    /// container has stopped since. `None` if that is not counted: without the memory controller, or without
    /// a cgroup.
    ///
    /// # Errors
    /// `NotFound`; a file of the cgroup cannot be read.
    pub fn oom_kills(&self, id: &ContainerId) -> Result<Option<u64>> {
        oom_kills(self.store.view(id)?.record())
    }
}

fn oom_kills(record: &Record) -> Result<Option<u64>> {
    let manager = container::cgroup(record)?;
    match manager.as_ref().and_then(|manager| manager.cgroup()) {
        Some(cgroup) => cgroup.oom_kills(),
        None => Ok(None),
    }
}

fn not_running(id: &ContainerId) -> Error {
    Error::new(
        ErrorKind::WrongStatus,
        format!("container with id {id} is not running"),
    )
}

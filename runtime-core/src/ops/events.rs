//! Runs in: RUNTIME. `events`: what a container uses, and when the kernel kills for memory in it.

use std::os::fd::AsFd;
use std::time::Instant;

use super::{Runtime, Status, container};
use crate::host::cgroup::{CgroupStats, OomWatch, Woken};
use crate::host::process::Process as HostProcess;
use crate::host::state::{ContainerId, Record};
use crate::{Error, ErrorKind, Result};

/// Something that happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The kernel has killed a process of it, because memory ran out.
    Oom,
    /// Its init has ended. Nothing comes after it.
    Ended,
    /// Nothing: the time that [`Events::next`] was to wait is up.
    Timeout,
}

/// A watch on one container. Holds descriptors; needs no lock, and leaves the container alone.
#[derive(Debug)]
pub struct Events {
    init: HostProcess,
    watch: OomWatch,
}

impl Events {
    /// Waits for the next event, at most until `deadline`.
    ///
    /// # Errors
    /// A file of the cgroup cannot be read.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Event> {
        Ok(match self.watch.wait(self.init.as_fd(), deadline)? {
            Woken::Oom => Event::Oom,
            Woken::Other => Event::Ended,
            Woken::Timeout => Event::Timeout,
        })
    }
}

impl Runtime {
    /// What the container has used so far. It serialises to the `data` of runc's `events`.
    ///
    /// # Errors
    /// `NotFound`; `WrongStatus`, "container with id ... is not running"; the container has no cgroup of its own.
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
            Some(cgroup) => Ok(Events {
                init,
                watch: OomWatch::new(cgroup)?,
            }),
            None => Err(not_running(id)),
        }
    }

    /// How many processes of the container the kernel has killed because memory ran out, also if the container has
    /// stopped since. `None` if that is not counted: without the memory controller, or without a cgroup.
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

//! Runs in: RUNTIME. `kill`, `pause` and `resume`.

use super::nested::{self, Init};
use super::{Runtime, Status, container};
use crate::host::cgroup::Cgroup;
use crate::host::process::Process as HostProcess;
use crate::host::state::{ContainerId, Record, Store};
use crate::{Error, ErrorKind, Result};

impl Runtime {
    /// OCI `kill`: sends `signal`, by number, to init. SIGKILL of a container that shares its pid namespace
    /// with others goes to all of its processes: the kernel ends them with init only where init is process 1.
    ///
    /// With `all` every process in the container's cgroup gets it, and it is no error that the container has
    /// stopped.
    ///
    /// # Errors
    /// `NotFound`; `WrongStatus`, "container not running".
    pub fn kill(&self, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
        let view = self.store.view(id)?;
        let record = view.record();
        if signal == libc::SIGKILL && shares_pids(record) && kill_cgroup(&self.store, record)? {
            return Ok(());
        }
        if all && signal != libc::SIGKILL {
            signal_others(&self.store, record, signal)?;
        }
        let is_sent = match HostProcess::open(record.pid, record.start_time)? {
            Some(init) => init.kill(signal)?,
            None => false,
        };
        match is_sent || all {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::WrongStatus, "container not running")),
        }
    }

    /// Freezes all processes of the container, and waits until they are.
    ///
    /// # Errors
    /// `WrongStatus` unless it runs or is created.
    pub fn pause(&self, id: &ContainerId) -> Result<()> {
        let slot = self.store.lock(id)?;
        match container::status(slot.record(), slot.dir())? {
            Status::Running | Status::Created => with_cgroup(slot.record(), |cgroup| cgroup.freeze()),
            Status::Paused => Err(Error::new(ErrorKind::WrongStatus, "container paused")),
            _ => Err(Error::new(ErrorKind::WrongStatus, "container not running")),
        }
    }

    /// Thaws them.
    ///
    /// # Errors
    /// `WrongStatus`, "container not paused".
    pub fn resume(&self, id: &ContainerId) -> Result<()> {
        let slot = self.store.lock(id)?;
        match container::status(slot.record(), slot.dir())? {
            Status::Paused => with_cgroup(slot.record(), |cgroup| cgroup.thaw()),
            _ => Err(Error::new(ErrorKind::WrongStatus, "container not paused")),
        }
    }
}

fn with_cgroup(record: &Record, operation: impl FnOnce(&Cgroup) -> Result<()>) -> Result<()> {
    let manager = container::cgroup(record)?;
    match manager.as_ref().and_then(|manager| manager.cgroup()) {
        Some(cgroup) => operation(cgroup),
        None => Err(container::no_cgroup(record)),
    }
}

/// Sends the signal to all processes in the cgroup but init, and those of containers below it.
fn signal_others(store: &Store, record: &Record, signal: i32) -> Result<()> {
    let manager = container::cgroup(record)?;
    let Some(cgroup) = manager.as_ref().and_then(|manager| manager.cgroup()) else {
        return Ok(());
    };
    let mut pids = cgroup.processes()?;
    pids.retain(|pid| pid.as_raw_pid() != record.pid);
    for other in nested::others(store, &record.id, record.own_pids, Init::Runs, cgroup)? {
        if let Some(other) = Cgroup::open(&other.path)? {
            let theirs = other.processes()?;
            pids.retain(|pid| !theirs.contains(pid));
        }
    }
    nested::signal_each(pids, signal, || cgroup.processes())
}

/// Whether the end of init is not the end of all.
fn shares_pids(record: &Record) -> bool {
    !record.own_pids
}

/// Kills everything in the container's cgroup. False if there is no cgroup, or nothing in it.
fn kill_cgroup(store: &Store, record: &Record) -> Result<bool> {
    let manager = container::cgroup(record)?;
    let Some(cgroup) = manager.as_ref().and_then(|manager| manager.cgroup()) else {
        return Ok(false);
    };
    if !cgroup.is_populated()? {
        return Ok(false);
    }
    let others = nested::others(store, &record.id, record.own_pids, Init::Runs, cgroup)?;
    nested::kill(cgroup, &others)?;
    Ok(true)
}

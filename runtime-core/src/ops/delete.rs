//! Runs in: RUNTIME. `delete`: takes away all that a container has left, whatever state it was left in.

use std::os::fd::AsFd;
use std::time::Duration;

use super::cgroup_removal::{empty_cgroup, sweep};
use super::container::{self, CONFIG, PATIENCE};
use super::hooks::run_poststop;
use super::nested::{self, Init};
use super::{Runtime, Status, wreck};
use crate::host::cgroup::{Cgroup, CgroupManager};
use crate::host::mount::rootfs_mount;
use crate::host::process::Process as HostProcess;
use crate::host::process::hooks;
use crate::host::resctrl;
use crate::host::socket::start_socket;
use crate::host::state::{ContainerId, Found, Phase, Record, Slot, Store};
use crate::spec::Config;
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// How long `delete --force` lets another command that holds the container's lock finish, once its process is
/// dead.
const OTHERS: Duration = Duration::from_secs(5);

impl Runtime {
    /// OCI `delete`. A created container is killed first, as by runc. With `force` so is one in any status,
    /// and it is no error if there is none.
    ///
    /// # Errors
    /// `NotFound`, "container does not exist"; `WrongStatus`, "cannot delete container ... that is not
    /// stopped"; what could not be removed. Failing poststop hooks are logged as warnings (runtime.md,
    /// Lifecycle).
    pub fn delete(&self, id: &ContainerId, force: bool) -> Result<()> {
        let found = if force {
            self.find_with_force(id)
        } else {
            self.store.find(id, None)
        };
        match found {
            Err(error) if force && error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            // Or its refusal, for what another runtime has made.
            Ok(Found::Damaged(wreck)) if force || wreck.reason().kind() == ErrorKind::Unsupported => {
                wreck::delete(&self.store, wreck)
            }
            Ok(Found::Damaged(wreck)) => {
                let reason = wreck.reason().to_string();
                Err(Error::new(ErrorKind::Internal, reason)
                    .with_hint("delete --force removes what is left of it"))
            }
            Ok(Found::Whole(slot)) => delete(&self.store, *slot, force, self.open_files()?),
        }
    }

    /// A command that hangs, waiting for a container's process, holds the lock: killing the process ends it.
    fn find_with_force(&self, id: &ContainerId) -> Result<Found> {
        match self.store.find(id, Some(Duration::ZERO)) {
            Err(error) if error.kind() == ErrorKind::WrongStatus => {}
            other => return other,
        }
        match self.store.view(id) {
            Ok(view) => self.kill_cgroup(view.record())?,
            // Damaged: what it has is looked for with the lock held.
            Err(error) if error.kind() == ErrorKind::Internal => {}
            Err(error) => return Err(error),
        }
        self.store.find(id, Some(OTHERS))
    }

    fn kill_cgroup(&self, record: &Record) -> Result<()> {
        let manager = container::cgroup(record)?;
        let Some(cgroup) = manager.as_ref().and_then(CgroupManager::cgroup) else {
            return Ok(());
        };
        let others = nested::others(&self.store, &record.id, record.own_pids, Init::Runs, cgroup)?;
        nested::kill(cgroup, &others)
    }
}

/// With the lock held. The record goes last, and only when all that it stands for is gone: whatever fails,
/// and wherever this process is killed, the same command finds it again. `open_files`: the limits of hooks,
/// if not our own.
pub(super) fn delete(store: &Store, slot: Slot, force: bool, open_files: Option<(u64, u64)>) -> Result<()> {
    if !force {
        check_status(&slot)?;
    }
    let record = slot.record().clone();
    let (config, unread) = match poststop_config(&slot) {
        Ok(config) => (config, None),
        Err(error) => (None, Some(error)),
    };
    let errors = [end_processes(store, &slot).err(), unread];
    Error::join(errors.into_iter().flatten().collect())?;
    let removed = slot.retire()?.remove();
    let terms = hooks::Terms {
        cancel: &Cancel::default(),
        at: None,
        open_files,
    };
    run_poststop(config.as_ref(), &record, terms);
    removed
}

fn check_status(slot: &Slot) -> Result<()> {
    let status = container::status(slot.record(), slot.dir())?;
    if matches!(status, Status::Stopped | Status::Created | Status::Creating) {
        return Ok(());
    }
    let message = format!(
        "cannot delete container {} that is not stopped: {status}",
        slot.id()
    );
    Err(Error::new(ErrorKind::WrongStatus, message))
}

/// The saved config.json, if it has poststop hooks. One that is damaged has none that could be run; that is a
/// warning.
///
/// # Errors
/// It cannot be read now, so that the hooks would be forgotten.
fn poststop_config(slot: &Slot) -> Result<Option<Config>> {
    let record = slot.record();
    if !record.poststop {
        return Ok(None);
    }
    let parsed = match slot.read_file(CONFIG) {
        // Its creation was cut off before anything that a hook could take back.
        Err(error) if error.errno() == Some(Errno::NOENT) && record.phase == Phase::Creating => {
            return Ok(None);
        }
        Err(error) if error.errno() == Some(Errno::NOENT) => Err(error),
        json => container::saved_config(json?),
    };
    match parsed {
        Ok(config) => Ok(Some(config)),
        Err(error) => {
            log::warn!("{}", error.doing("the poststop hooks are not run"));
            Ok(None)
        }
    }
}

/// Kills what is left and removes the cgroup.
fn end_processes(store: &Store, slot: &Slot) -> Result<()> {
    // Each is tried whatever has become of the others: the cgroup is a way to kill init, too.
    let errors = [
        end_init(slot.record()).err(),
        empty(store, slot).err(),
        remove_resctrl_group(slot.record()).err(),
        turn_away(slot).err(),
        remove_host_mount(slot.record()).err(),
    ];
    Error::join(errors.into_iter().flatten().collect())
}

fn end_init(record: &Record) -> Result<()> {
    let Some(init) = HostProcess::open(record.pid, record.start_time)? else {
        return Ok(());
    };
    init.kill(libc::SIGKILL)?;
    let is_over = runtime_sys::process::wait_readable(init.as_fd(), Some(PATIENCE.as_millis() as i64));
    match is_over.map_err(Error::from)? {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Os, "container init still running")),
    }
}

/// Of a `create` that was killed between init's last step and the record: init waits for `start`, and nobody
/// knows its pid. Where there is a cgroup it is dead by now.
fn turn_away(slot: &Slot) -> Result<()> {
    match slot.record().phase {
        Phase::Creating => start_socket::turn_away(slot.dir(), PATIENCE).map(drop),
        Phase::Created => Ok(()),
    }
}

/// What there is beside init.
fn empty(store: &Store, slot: &Slot) -> Result<()> {
    let record = slot.record();
    let Some(cgroup) = container::cgroup(record)? else {
        return Ok(());
    };
    let others = |cgroup: &Cgroup| nested::others(store, &record.id, record.own_pids, Init::IsGone, cgroup);
    empty_cgroup(&cgroup, others).or_else(|error| {
        let config = || slot.read_file(CONFIG).and_then(container::saved_config);
        sweep(config, &cgroup, error)
    })
}

/// Only what was made for the container; others may be in the rest.
pub(super) fn remove_resctrl_group(record: &Record) -> Result<()> {
    let Some(group) = &record.resctrl else {
        return Ok(());
    };
    let own = group.is_own.then_some(group.path.as_path());
    resctrl::remove(own, container::monitoring_group(record).as_deref())
}

/// All that a container without a mount namespace has mounted.
pub(super) fn remove_host_mount(record: &Record) -> Result<()> {
    record.host_mount.as_ref().map_or(Ok(()), rootfs_mount::remove)
}

//! Runs in: RUNTIME. `delete`: takes away all that a container has left, whatever state it was left in.

use std::os::fd::AsFd;
use std::time::Duration;

use super::container::{self, CONFIG, PATIENCE};
use super::{Runtime, Status};
use crate::host::cgroup::CgroupManager;
use crate::host::hooks;
use crate::host::process::Process as HostProcess;
use crate::host::resctrl;
use crate::host::state::{ContainerId, Found, Record, Slot};
use crate::parent::sweeper;
use crate::spec::Config;
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// How long `delete --force` lets another command that holds the container's lock finish, once its process is dead.
const OTHERS: Duration = Duration::from_secs(5);

impl Runtime {
    /// OCI `delete`. A created container is killed first, as by runc. With `force` so is one in any status, and it is
    /// no error if there is none.
    ///
    /// # Errors
    /// `NotFound`, "container does not exist"; `WrongStatus`, "cannot delete container ... that is not stopped";
    /// what could not be removed. Failing poststop hooks are logged as warnings (runtime.md, Lifecycle).
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
                wreck.remove()
            }
            Ok(Found::Damaged(wreck)) => {
                let reason = wreck.reason().to_string();
                Err(Error::new(ErrorKind::Internal, reason).hint("delete --force removes what is left of it"))
            }
            Ok(Found::Whole(slot)) => delete(*slot, force),
        }
    }

    /// A command that hangs, waiting for a container's process, holds the lock: killing the process ends it.
    fn find_with_force(&self, id: &ContainerId) -> Result<Found> {
        match self.store.find(id, Some(Duration::ZERO)) {
            Err(error) if error.kind() == ErrorKind::WrongStatus => {}
            other => return other,
        }
        let view = self.store.view(id)?;
        if let Some(cgroup) = container::cgroup(view.record())?
            .as_ref()
            .and_then(CgroupManager::cgroup)
        {
            cgroup.kill()?;
        }
        self.store.find(id, Some(OTHERS))
    }
}

/// With the lock held.
pub(super) fn delete(slot: Slot, force: bool) -> Result<()> {
    let status = container::status(slot.record(), slot.dir())?;
    let may_delete = force || matches!(status, Status::Stopped | Status::Created | Status::Creating);
    if !may_delete {
        let message = format!(
            "cannot delete container {} that is not stopped: {status}",
            slot.id()
        );
        return Err(Error::new(ErrorKind::WrongStatus, message));
    }
    let record = slot.record().clone();
    // Damaged, it has no hooks that we can run; nor has a container whose creation was cut off before it was saved.
    let config = match record.poststop {
        true => slot.read_file(CONFIG).and_then(container::saved_config).ok(),
        false => None,
    };
    let mut errors = Vec::new();
    errors.extend(end_processes(&slot).err());
    errors.extend(slot.remove().err());
    let ends = hooks::Ends {
        cancel: &Cancel::default(),
        at: None,
    };
    run_poststop(config.as_ref(), &record, ends);
    Error::join(errors)
}

/// Kills what is left and removes the cgroup.
fn end_processes(slot: &Slot) -> Result<()> {
    let record = slot.record();
    match HostProcess::open(record.pid, record.start_time) {
        Ok(Some(init)) => end_init(&init)?,
        Ok(None) => {}
        // The cgroup is a way to kill it, too.
        Err(error) => {
            return match empty(slot) {
                Ok(()) => Err(error),
                Err(second) => Err(error.and(second)),
            };
        }
    }
    empty(slot)
}

fn end_init(init: &HostProcess) -> Result<()> {
    init.kill(libc::SIGKILL)?;
    let is_over = runtime_init::sys::process::wait_readable(init.as_fd(), Some(PATIENCE.as_millis() as i64));
    match is_over.map_err(crate::prepare::sys_error)? {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Os, "container init still running")),
    }
}

/// What there is beside init.
fn empty(slot: &Slot) -> Result<()> {
    let record = slot.record();
    if let Some(cgroup) = container::cgroup(record)? {
        empty_cgroup(&cgroup).or_else(|error| sweep(slot, &cgroup, error))?;
    }
    remove_resctrl_group(record)
}

/// An ordinary user may not remove what the container has made with subordinate ids. By now it has no processes.
fn sweep(slot: &Slot, manager: &CgroupManager, refused: Error) -> Result<()> {
    let is_denied = matches!(refused.errno(), Some(Errno::ACCESS | Errno::PERM));
    let (true, Some(cgroup)) = (is_denied, manager.cgroup()) else {
        return Err(refused);
    };
    let config = slot.read_file(CONFIG).and_then(container::saved_config)?;
    let linux = config.spec.linux().as_ref();
    let maps = linux.and_then(|linux| linux.uid_mappings().as_ref().zip(linux.gid_mappings().as_ref()));
    let Some((uids, gids)) = maps else {
        return Err(refused);
    };
    match sweeper::sweep(cgroup, uids, gids) {
        Ok(()) => manager.remove(PATIENCE),
        Err(error) => Err(refused.and(error)),
    }
}

/// Only what was made for the container; others may be in the rest.
fn remove_resctrl_group(record: &Record) -> Result<()> {
    let Some(group) = &record.resctrl else {
        return Ok(());
    };
    let own = group.is_own.then_some(group.path.as_path());
    resctrl::remove(own, container::monitoring_group(record).as_deref())
}

/// Kills everything in a cgroup and removes it.
pub(super) fn empty_cgroup(manager: &CgroupManager) -> Result<()> {
    if let Some(cgroup) = manager.cgroup()
        && cgroup.is_populated()?
    {
        cgroup.kill()?;
    }
    manager.remove(PATIENCE)
}

/// Each failure is a warning (runtime.md, Lifecycle).
pub(super) fn run_poststop(config: Option<&Config>, record: &Record, ends: hooks::Ends<'_>) {
    let hooks = config
        .and_then(|config| config.spec.hooks().as_ref())
        .and_then(|hooks| hooks.poststop().as_ref());
    let Some(list) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return;
    };
    let state = match container::hook_state(record, "stopped", None) {
        Ok(state) => state,
        Err(error) => return log::warn!("{error}"),
    };
    let told = hooks::Told {
        state: &state,
        directory: Some(&record.bundle),
    };
    for error in hooks::run_all("poststop", list, told, ends) {
        log::warn!("{error}");
    }
}

/// Gives a claimed id back after a failed creation.
pub(super) fn undo_claim(slot: Slot, error: Error) -> Error {
    match slot.remove() {
        Ok(()) => error,
        Err(other) => error.and(other),
    }
}

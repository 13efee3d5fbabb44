//! Runs in: RUNTIME. `list` and `ps`: which containers there are, and which processes are in one.

use rustix::process::Pid;

use super::{Runtime, State, container};
use crate::host::cgroup::CgroupManager;
use crate::host::state::ContainerId;
use crate::{ErrorKind, Result};

impl Runtime {
    /// All containers below the root, by name, each with its state or the reason why it cannot be told. A
    /// container that is deleted meanwhile is not in the list.
    ///
    /// # Errors
    /// The root cannot be read.
    pub fn list(&self) -> Result<Vec<(ContainerId, Result<State>)>> {
        let states = self.store.ids()?.into_iter().map(|id| {
            let state = self.state(&id);
            (id, state)
        });
        let is_gone =
            |state: &Result<State>| matches!(state, Err(error) if error.kind() == ErrorKind::NotFound);
        Ok(states.filter(|(_, state)| !is_gone(state)).collect())
    }

    /// The pids of all processes in the container's cgroup and below, as the caller sees them.
    ///
    /// # Errors
    /// `NotFound`; the container has no cgroup of its own.
    pub fn pids(&self, id: &ContainerId) -> Result<Vec<i32>> {
        let view = self.store.look(id)?;
        let manager = container::cgroup(view.record())?;
        match manager.as_ref().and_then(CgroupManager::cgroup) {
            Some(cgroup) => Ok(cgroup.processes()?.into_iter().map(Pid::as_raw_pid).collect()),
            // Gone, and so are its processes.
            None if view.record().cgroup.is_some() => Ok(Vec::new()),
            None => Err(container::no_cgroup(view.record())),
        }
    }
}

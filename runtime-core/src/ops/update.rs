//! Runs in: RUNTIME. `update`: new limits for a container that is there.

use rustix::io::Errno;
use serde_json::Value;

use super::container::{self, CONFIG, RESOURCES};
use super::{Runtime, Status};
use crate::host::cgroup::ResourcePlan;
use crate::host::state::{ContainerId, Slot};
use crate::spec::update_resources;
use crate::{Error, ErrorKind, Result};

impl Runtime {
    /// Changes the limits of a container. `resources` is a JSON object as at `linux.resources`; what it does not name
    /// stays ([`update_resources`] has the rules). Device rules are never changed. All limits are changed, or none.
    ///
    /// # Errors
    /// `Invalid` with the field; `WrongStatus`, "container not running"; what the kernel or the host's controllers refuse.
    pub fn update(&self, id: &ContainerId, resources: &[u8]) -> Result<()> {
        let slot = self.store.lock(id)?;
        let status = container::status(slot.record(), slot.dir())?;
        if matches!(status, Status::Stopped | Status::Creating) {
            return Err(Error::new(ErrorKind::WrongStatus, "container not running"));
        }
        let update = update_resources(&current(&slot)?, resources)?;
        let plan = ResourcePlan::new(&update.changes, update.pids_limit)?;
        plan.warn();
        match container::cgroup(slot.record())? {
            Some(manager) => manager.update(&plan, || slot.save_file(RESOURCES, &update.merged)),
            None => Err(container::no_cgroup(slot.record())),
        }
    }
}

/// The limits that the container has by now.
fn current(slot: &Slot) -> Result<Vec<u8>> {
    match slot.read_file(RESOURCES) {
        Err(error) if error.errno() == Some(Errno::NOENT) => {}
        other => return other,
    }
    let damaged = |error: serde_json::Error| {
        Error::new(ErrorKind::Internal, error.to_string()).doing("read the saved config.json")
    };
    let config: Value = serde_json::from_slice(&slot.read_file(CONFIG)?).map_err(damaged)?;
    serde_json::to_vec(&config["linux"]["resources"]).map_err(damaged)
}

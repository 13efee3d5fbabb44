//! Runs in: RUNTIME. `update`: new limits for a container that is there.

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;

use super::container::{self, CONFIG, RESOURCES};
use super::{Runtime, Status};
use crate::error::ErrorResult;
use crate::host::resctrl;
use crate::host::state::{ContainerId, Slot};
use crate::plan::cgroup::ResourcePlan;
use crate::plan::intel_rdt;
use crate::spec::given::Document;
use crate::spec::{self, update_resources};
use crate::{Cancel, Error, ErrorKind, Result};

impl Runtime {
    /// Changes the limits of a container. `resources` is an object as at `linux.resources`; what it does not
    /// name stays. Device rules are never changed. All limits are changed, or none.
    ///
    /// # Errors
    /// `Invalid` with the field; `WrongStatus`, "container not running"; what the kernel or the host's
    /// controllers refuse.
    pub fn update(&self, id: &ContainerId, resources: impl Into<Document<LinuxResources>>) -> Result<()> {
        let resources = resources.into();
        let json = resources.json(&Cancel::default())?;
        let slot = self.store.lock(id)?;
        let status = container::status(slot.record(), slot.dir())?;
        if matches!(status, Status::Stopped | Status::Creating) {
            return Err(Error::new(ErrorKind::WrongStatus, "container not running"));
        }
        let update = update_resources(&current(&slot)?, &json).map_err(|error| resources.blamed(error))?;
        container::warn_of_spellings(&update.spellings);
        let plan = ResourcePlan::new(&update.changes, update.pids_limit)?;
        plan.log_ignored();
        match container::cgroup(slot.record())? {
            Some(manager) => manager.update(&plan, || slot.save_file(RESOURCES, &update.merged)),
            None => Err(container::no_cgroup(slot.record())),
        }
    }
}

impl Runtime {
    /// Writes `linux.intelRdt.l3CacheSchema` and `memBwSchema` anew, into the class of a container that has
    /// one. Other containers in that class share them.
    ///
    /// # Errors
    /// `Unsupported` for a container without `linux.intelRdt`; `WrongStatus`, "container not running";
    /// `Invalid` with the field; what the kernel refuses.
    pub fn update_intel_rdt(
        &self,
        id: &ContainerId,
        l3_cache: Option<&str>,
        memory_bandwidth: Option<&str>,
    ) -> Result<()> {
        let slot = self.store.lock(id)?;
        let status = container::status(slot.record(), slot.dir())?;
        if matches!(status, Status::Stopped | Status::Creating) {
            return Err(Error::new(ErrorKind::WrongStatus, "container not running"));
        }
        let Some(group) = &slot.record().resctrl else {
            let message = "updating a non-existent Intel RDT configuration is not supported";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let text = intel_rdt::update(l3_cache, memory_bandwidth)?;
        resctrl::write_schemata(&group.path, &text)
    }
}

/// The limits that the container has by now.
fn current(slot: &Slot) -> Result<Vec<u8>> {
    match slot.read_file(RESOURCES) {
        Err(error) if error.errno() == Some(Errno::NOENT) => {}
        other => return other,
    }
    let config = slot.read_file(CONFIG)?;
    spec::resources_of(&config).doing("read the saved config.json")
}

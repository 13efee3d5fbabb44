//! Runs in: RUNTIME. What is done about the container's cgroup. Pure: where it is on this host, and all that
//! is done in it, is `host/cgroup`.

mod devices;
mod path;
pub(crate) mod resources;
pub(crate) mod systemd;

use serde::{Deserialize, Serialize};

use super::CallerOptions;
use crate::spec::Config;
use crate::{Error, ErrorKind, Result};

pub(crate) use devices::{BpfInsn, compile as compile_devices};
pub(crate) use path::CgroupPath;
pub(crate) use path::{contained, leaves};
pub(crate) use resources::IDLE_HAS_NO_WEIGHT;
pub(crate) use resources::{CgroupWrite, IfMissing, ResourcePlan};
pub use systemd::UnitPlan;

/// Who makes the cgroup. Kept in the state: `delete` must use the driver of `create`, whatever its own
/// options say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CgroupDriver {
    /// The runtime itself, by making directories.
    #[default]
    #[serde(rename = "cgroupfs")]
    Fs,
    /// systemd, as a transient scope unit.
    #[serde(rename = "systemd")]
    Systemd,
    /// Nobody: the container stays in the cgroup of whoever started it, without limits and without device
    /// filter.
    #[serde(rename = "disabled")]
    Disabled,
}

/// Which controllers a new cgroup gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Controllers {
    /// Those that a limit needs. Accounting of a controller costs time in every process of the cgroup.
    Needed,
    /// All that the host has, as far as the cgroups above allow, as runc does it: engines read statistics
    /// (`memory.current`) also of containers without limits (`docs/adr/0017`).
    #[default]
    Every,
}

/// What to do about the container's cgroup.
#[derive(Debug, Clone)]
pub struct CgroupPlan {
    /// Who makes it.
    pub driver: CgroupDriver,
    /// Where it is.
    pub path: CgroupPath,
    /// Which controllers it gets.
    pub controllers: Controllers,
    /// The limits, in the order of writing, and what of them version 2 does not know.
    pub resources: ResourcePlan,
    /// The device filter: denies by default, also without any rule in config.json.
    pub device_program: Vec<BpfInsn>,
    /// Whether the runtime may lack the rights for all this, and then goes without where nothing depends on
    /// it.
    pub rootless: bool,
}

impl CgroupPlan {
    /// Decides from config.json. Annotations about systemd's unit mean nothing without one.
    ///
    /// # Errors
    /// An illegal value in `linux.cgroupsPath`, `linux.resources` or, of which the error tells the name, an
    /// annotation; a limit where there will be no cgroup.
    pub fn new(config: &Config, id: &str, caller: CallerOptions<'_>) -> Result<Self> {
        let linux = config.spec.linux().as_ref();
        let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let limits = linux.and_then(|linux| linux.resources().as_ref());
        let resources = match limits {
            Some(limits) => ResourcePlan::new(limits, config.extra.pids_limit)?,
            None => ResourcePlan::default(),
        };
        let driver = caller.cgroup_driver;
        if let (CgroupDriver::Disabled, Some(write)) = (driver, resources.first_limit()) {
            return Err(no_cgroup_to_limit(write));
        }
        let path = match driver {
            CgroupDriver::Systemd => {
                let annotations = config.spec.annotations().as_ref();
                let unit = UnitPlan::new(cgroups_path, id, annotations, &resources)?;
                CgroupPath::Unit(Box::new(unit))
            }
            CgroupDriver::Fs | CgroupDriver::Disabled => CgroupPath::new(cgroups_path, id)?,
        };
        let rules = limits.and_then(|limits| limits.devices().as_deref());
        Ok(Self {
            driver,
            path,
            controllers: Controllers::default(),
            resources,
            device_program: compile_devices(rules.unwrap_or_default())?,
            rootless: caller.rootless,
        })
    }

    /// Whether the container can run without a cgroup of its own, in that of whoever starts it, if only the
    /// right to make it, or the cgroup tree, is missing: nothing in config.json depends on one.
    pub(crate) fn can_do_without(&self) -> bool {
        self.rootless
            && !matches!(self.path, CgroupPath::BelowRoot(_))
            && self.resources.first_limit().is_none()
    }

    /// The controllers that at least one limit cannot do without, each once.
    pub(crate) fn needed_controllers(&self) -> Vec<&str> {
        let needed = self
            .resources
            .writes
            .iter()
            .filter(|write| write.if_missing != IfMissing::Skip);
        let mut names: Vec<&str> = needed
            .map(CgroupWrite::controller)
            .filter(|name| *name != "cgroup")
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The refusal of a limit for a container without a cgroup.
pub(crate) fn no_cgroup_to_limit(write: &CgroupWrite) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a limit needs a cgroup, but the cgroup driver is \"disabled\"",
    )
    .with_field(write.field.clone())
}

//! Runs in: RUNTIME. A container's cgroup, by whichever driver makes it: the plan for it, and every operation on it.
//! Cgroup version 2 only; on a hybrid host the cgroup2 tree with the controllers that it has.
//!
//! ```text
//! CgroupPlan ──locate──► CgroupLocation ──create──► CgroupManager ──cgroup()──► Cgroup
//! (pure)                 (path: into the state      (directory made,            (processes, freeze, kill, …)
//!                         before any side effect)    limits and filter set)
//! ```
//!
//! systemd makes a cgroup only around a process: then all of `create`'s work is done by [`CgroupManager::adopt`].
//!
//! Later commands start from the three things in the state, the driver, the absolute path, and which cgroup it was that
//! was there: [`CgroupManager::open`].

mod apply;
mod bpf;
mod devices;
pub(crate) mod directory;
mod fs;
mod identity;
pub(crate) mod path;
mod resources;
mod root;
pub(crate) mod stats;
pub(crate) mod systemd;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

pub use devices::{BpfInsn, compile as compile_devices};
pub use directory::Cgroup;
pub use identity::{Identity, Marked};
pub use path::CgroupPath;
pub use resources::{CgroupWrite, IfMissing, ResourcePlan};
pub use stats::CgroupStats;
pub use systemd::{Manager, Unit, UnitLocation, UnitPlan, UnitReference};
pub use watch::{OomWatch, Woken};

use crate::{Cancel, Error, ErrorKind, Result};

/// Who makes the cgroup. Kept in the state: `delete` must use the driver of `create`, whatever its own options say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupDriver {
    /// The runtime itself, by making directories.
    #[default]
    #[serde(rename = "cgroupfs")]
    Fs,
    /// systemd, as a transient scope unit.
    #[serde(rename = "systemd")]
    Systemd,
    /// Nobody: the container stays in the cgroup of whoever started it, without limits and without device filter.
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

/// What to do about the container's cgroup. Pure: no look at the host has gone into it.
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
    /// Whether the runtime may lack the rights for all this, and then goes without where nothing depends on it.
    pub rootless: bool,
}

impl CgroupPlan {
    /// Decides from config.json. `pids_limit` is `linux.resources.pids.limit` as [`ResourcePlan::new`] wants it.
    ///
    /// # Errors
    /// An illegal value in `linux.cgroupsPath` or `linux.resources`.
    pub fn new(
        driver: CgroupDriver,
        cgroups_path: Option<&Path>,
        container_id: &str,
        resources: Option<&LinuxResources>,
        pids_limit: Option<i64>,
    ) -> Result<Self> {
        let rules = resources
            .and_then(|resources| resources.devices().as_deref())
            .unwrap_or_default();
        let resources = match resources {
            Some(resources) => ResourcePlan::new(resources, pids_limit)?,
            None => ResourcePlan::default(),
        };
        resources.log_ignored();
        if let (CgroupDriver::Disabled, Some(write)) = (driver, resources.first_limit()) {
            return Err(no_cgroup_to_limit(write));
        }
        Ok(Self {
            driver,
            path: match driver {
                CgroupDriver::Systemd => {
                    CgroupPath::Unit(Box::new(UnitPlan::new(cgroups_path, container_id)?))
                }
                _ => CgroupPath::new(cgroups_path, container_id)?,
            },
            controllers: Controllers::default(),
            resources,
            device_program: devices::compile(rules)?,
            rootless: false,
        })
    }

    /// Whether the container can run without a cgroup of its own, in that of whoever starts it: nothing in config.json
    /// depends on one, and it is only the right to make it that is missing.
    fn can_do_without(&self, error: &Error) -> bool {
        is_denied(error) && self.can_do_without_tree()
    }

    fn can_do_without_tree(&self) -> bool {
        self.rootless
            && !matches!(self.path, CgroupPath::BelowRoot(_))
            && self.resources.first_limit().is_none()
    }

    /// What a caller without rights over the cgroup has to know.
    fn explain_denied(&self, error: Error) -> Error {
        if !self.rootless || !is_denied(&error) {
            return error;
        }
        let error = match self.resources.first_limit() {
            Some(write) => error.field(write.field.clone()),
            None => error,
        };
        error.hint(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: leave both out, or \
             have systemd delegate a cgroup, as in: systemd-run --user --scope -p Delegate=yes",
        )
    }

    /// Takes in the annotations that are about systemd's unit. Without one they mean nothing.
    ///
    /// # Errors
    /// An illegal name or value; the error names the annotation.
    pub fn annotated(mut self, annotations: &HashMap<String, String>) -> Result<Self> {
        if let CgroupPath::Unit(unit) = &mut self.path {
            unit.annotate(annotations, &self.resources)?;
        }
        Ok(self)
    }

    /// Finds out where the cgroup will be on this host, without making anything. `None` for a container without one. What
    /// is asked of a service manager, then and until the cgroup is there, ends when `cancel` comes.
    ///
    /// # Errors
    /// The host has no cgroup2 tree, or the runtime's own cgroup, beside which it would be, cannot be told.
    pub fn locate(&self, cancel: &Cancel) -> Result<Option<CgroupLocation>> {
        match (self.driver, &self.path) {
            (CgroupDriver::Disabled, _) => Ok(None),
            (_, CgroupPath::Unit(unit)) => {
                let location = unit.locate(self.rootless, cancel)?;
                Ok(Some(CgroupLocation::Unit(Box::new(location))))
            }
            (_, CgroupPath::BelowRoot(_) | CgroupPath::BesideRuntime(_)) => {
                let found = self
                    .path
                    .below_root()
                    .and_then(|path| Ok((path, root::CgroupRoot::find()?)));
                let (below_root, root) = match found {
                    // Nested containers often see no cgroup tree at all.
                    Err(error) if error.kind() == ErrorKind::Unsupported && self.can_do_without_tree() => {
                        return Ok(None);
                    }
                    found => found?,
                };
                let path = root::join(root.path(), &below_root);
                Ok(Some(CgroupLocation::Directory {
                    root,
                    below_root,
                    path,
                }))
            }
        }
    }

    /// The controllers that at least one limit cannot do without, each once.
    fn needed_controllers(&self) -> Vec<&str> {
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

/// Where the cgroup2 tree is mounted on this host.
///
/// # Errors
/// The host has none.
pub fn mount_point() -> Result<PathBuf> {
    Ok(root::CgroupRoot::find()?.path().to_owned())
}

/// Where a container's cgroup is or will be.
#[derive(Debug)]
pub enum CgroupLocation {
    /// In a directory that the runtime makes itself.
    Directory {
        /// The root of the tree.
        root: root::CgroupRoot,
        /// The cgroup's path from there.
        below_root: PathBuf,
        /// Its absolute path.
        path: PathBuf,
    },
    /// In that of a unit of systemd.
    Unit(Box<UnitLocation>),
}

impl CgroupLocation {
    /// The absolute path on the host, for the state.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. } => path,
            Self::Unit(unit) => unit.path(),
        }
    }

    /// The unit, for the state.
    pub fn unit(&self) -> Option<&UnitLocation> {
        match self {
            Self::Directory { .. } => None,
            Self::Unit(unit) => Some(unit),
        }
    }
}

/// A container's cgroup together with its driver. What all drivers have in common is on [`Cgroup`].
#[derive(Debug)]
pub enum CgroupManager {
    /// Made by the runtime itself.
    Fs(Cgroup),
    /// Made by systemd.
    Systemd(Box<Unit>),
    /// There is none.
    Disabled,
}

impl CgroupManager {
    /// Makes the cgroup, marks it with `mark`, and sets its limits. On failure nothing of it is left. Its device filter is
    /// a call of its own, [`CgroupManager::filter_devices`]; a unit of systemd is not there before
    /// [`CgroupManager::adopt`]. One that is there and has a mark was left by a container, if `refuse` lets it pass, and
    /// gives way to a new one: the state of that container must not mean this one's.
    ///
    /// # Errors
    /// The cgroup is in use, cannot be made, or lacks what a limit needs; the error names the field of config.json. That
    /// of `refuse`, which is asked about a cgroup that was there before.
    pub fn create(
        plan: &CgroupPlan,
        location: Option<CgroupLocation>,
        mark: &str,
        refuse: impl FnOnce(&Cgroup) -> Result<()>,
    ) -> Result<Self> {
        let (root, below_root) = match location {
            None => return Ok(Self::Disabled),
            Some(CgroupLocation::Unit(unit)) => {
                return Ok(Self::Systemd(Box::new(Unit::prepare(plan, *unit, mark)?)));
            }
            Some(CgroupLocation::Directory { root, below_root, .. }) => (root, below_root),
        };
        let created = fs::make(&root, &below_root, refuse).and_then(|(cgroup, made)| {
            let ready = cgroup.mark(mark).and_then(|()| {
                let needed = plan.needed_controllers();
                fs::hand_down(&root, &below_root, &cgroup, &needed, plan.controllers)
            });
            match ready {
                Ok(()) => Ok((cgroup, made)),
                Err(error) => Err(fs::undo(&root, &made, error.doing("create the cgroup"))),
            }
        });
        let (cgroup, made) = match created {
            Err(error) if plan.can_do_without(&error) => return Ok(Self::Disabled),
            created => created.map_err(|error| plan.explain_denied(error))?,
        };
        match apply::apply(&cgroup, &plan.resources.writes).map_err(|error| plan.explain_denied(error)) {
            Ok(()) => Ok(Self::Fs(cgroup)),
            Err(error) => Err(fs::undo(&root, &made, error)),
        }
    }

    /// Takes the container's process in, which must not have gone on yet, where that is the moment to make the cgroup.
    ///
    /// # Errors
    /// Those of [`CgroupManager::create`]. What is there by then is for [`CgroupManager::remove`].
    pub fn adopt(&mut self, pid: Pid) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.adopt(pid),
            Self::Fs(_) | Self::Disabled => Ok(()),
        }
    }

    /// What is left to do once the container's namespaces are made: moving its process into a delegated sub-cgroup.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn settle(&self, pid: Pid) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.settle(pid),
            Self::Fs(_) | Self::Disabled => Ok(()),
        }
    }

    /// Whether there will be a cgroup, and [`CgroupManager::adopt`] will make it.
    pub fn is_awaited(&self) -> bool {
        match self {
            Self::Systemd(unit) => unit.is_awaited(),
            Self::Fs(_) | Self::Disabled => false,
        }
    }

    /// The unit of a container, by what the state holds. Its cgroup may be gone.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn open_unit(unit: &UnitReference, path: &Path, identity: &Identity) -> Result<Self> {
        Ok(Self::Systemd(Box::new(Unit::open(unit, path, identity)?)))
    }

    /// Gives a cgroup that has just been made its device filter. The verifier and the compiler of the kernel take their
    /// time, so that this is done while init, which is in the cgroup already, makes its namespaces; init must not
    /// open, make or execute anything of the container's before. A unit of systemd has got its own by then.
    ///
    /// # Errors
    /// The privilege is missing, or the rules make no program that the kernel takes.
    pub fn filter_devices(&self, plan: &CgroupPlan) -> Result<()> {
        let Self::Fs(cgroup) = self else { return Ok(()) };
        match cgroup.set_first_device_filter(&plan.device_program) {
            // Only the first user namespace has the privilege. Without it nobody can make a device either.
            Err(error) if plan.rootless && error.kind() == ErrorKind::Denied => Ok(()),
            set => set,
        }
    }

    /// Opens the cgroup of a container by what the state holds. `None` if it is gone, also if another one is in its place.
    ///
    /// # Errors
    /// The state names no path though the driver makes cgroups, or no unit though it is systemd's; the directory cannot
    /// be opened.
    pub fn open(driver: CgroupDriver, path: Option<&Path>, identity: &Identity) -> Result<Option<Self>> {
        match (driver, path) {
            (CgroupDriver::Disabled, _) => Ok(Some(Self::Disabled)),
            (CgroupDriver::Systemd, _) => Err(Error::new(ErrorKind::Internal, "the state names no unit")),
            (CgroupDriver::Fs, Some(path)) => Ok(Cgroup::open_own(path, identity)?.map(Self::Fs)),
            (CgroupDriver::Fs, None) => Err(Error::new(ErrorKind::Internal, "the state names no cgroup")),
        }
    }

    /// The driver, for the state.
    pub fn driver(&self) -> CgroupDriver {
        match self {
            Self::Fs(_) => CgroupDriver::Fs,
            Self::Systemd(_) => CgroupDriver::Systemd,
            Self::Disabled => CgroupDriver::Disabled,
        }
    }

    /// Which cgroup it is, for the state, once it is there: the inode of that which has the limits. `None` without one.
    ///
    /// # Errors
    /// The kernel refused, or a unit's cgroup is gone.
    pub fn inode(&self) -> Result<Option<u64>> {
        match self {
            Self::Fs(cgroup) => cgroup.inode().map(Some),
            Self::Systemd(unit) => unit.limited()?.inode().map(Some),
            Self::Disabled => Ok(None),
        }
    }

    /// The cgroup; `None` if the container has none.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Self::Fs(cgroup) => Some(cgroup),
            Self::Systemd(unit) => unit.cgroup(),
            Self::Disabled => None,
        }
    }

    /// Sets limits on a running container, in the order given; then calls `commit`. Other limits stay as they are. If
    /// a limit is refused, or `commit` fails, all of them are as before.
    ///
    /// # Errors
    /// The container has no cgroup, a controller is missing, or the kernel refused a value; the error names the field.
    pub fn update(&self, resources: &ResourcePlan, commit: impl FnOnce() -> Result<()>) -> Result<()> {
        match (self, resources.first_limit()) {
            (Self::Fs(cgroup), _) => {
                apply::check_usage(cgroup, &resources.above_usage)?;
                let before = apply::Before::read(cgroup, &resources.writes);
                let changed = apply::apply(cgroup, &resources.writes).and_then(|()| commit());
                changed.map_err(|error| before.restore(cgroup, error))
            }
            (Self::Systemd(unit), _) => unit.update(resources, commit),
            (Self::Disabled, None) => commit(),
            (Self::Disabled, Some(write)) => Err(no_cgroup_to_limit(write)),
        }
    }

    /// Moves a process into the cgroup, where `CLONE_INTO_CGROUP` could not be used. Nothing to do without a cgroup.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add_process(&self, pid: Pid) -> Result<()> {
        match self {
            Self::Fs(cgroup) => cgroup.add_process(pid),
            Self::Systemd(unit) => unit.attach(pid),
            Self::Disabled => Ok(()),
        }
    }

    /// The outermost cgroup that is the container's alone: of a unit with sub-cgroups the unit's. `None` as
    /// [`CgroupManager::cgroup`].
    pub fn whole(&self) -> Option<&Cgroup> {
        match self {
            Self::Systemd(unit) => unit.top(),
            Self::Fs(_) | Self::Disabled => self.cgroup(),
        }
    }

    /// Removes the cgroup with all below it. Waits up to `patience` for dying processes, kills none.
    ///
    /// # Errors
    /// Processes are left in it.
    pub fn remove(&self, patience: Duration) -> Result<()> {
        match self {
            Self::Fs(cgroup) => cgroup.remove(patience),
            Self::Systemd(unit) => unit.remove(patience),
            Self::Disabled => Ok(()),
        }
    }
}

fn is_denied(error: &Error) -> bool {
    error.kind() == ErrorKind::Denied
        || matches!(
            error.errno(),
            Some(crate::Errno::ROFS | crate::Errno::ACCESS | crate::Errno::PERM)
        )
}

fn no_cgroup_to_limit(write: &CgroupWrite) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a limit needs a cgroup, but the cgroup driver is \"disabled\"",
    )
    .field(write.field.clone())
}

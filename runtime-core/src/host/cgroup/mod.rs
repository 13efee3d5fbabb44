//! Runs in: RUNTIME. A container's cgroup, by whichever driver makes it: every operation on it. What is to be
//! done is decided in `plan/cgroup`. Cgroup version 2 only; on a hybrid host the cgroup2 tree with the
//! controllers that it has.
//!
//! ```text
//! CgroupPlan ──find──► CgroupLocation ──create──► CgroupManager ──cgroup()──► Cgroup
//! (pure)               (path: into the state      (directory made,            (processes, freeze, kill, …)
//!                       before any side effect)    limits and filter set)
//! ```
//!
//! systemd makes a cgroup only around a process: then all of `create`'s work is done by
//! [`CgroupManager::adopt`].
//!
//! Later commands start from the three things in the state, the driver, the absolute path, and which cgroup
//! it was that was there: [`CgroupManager::open`].

mod apply;
mod bpf;
mod directory;
pub(crate) mod files;
mod fs;
mod identity;
pub(crate) mod membership;
mod root;
pub(crate) mod stats;
pub(crate) mod systemd;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

pub(crate) use directory::Cgroup;
pub(crate) use identity::{Identity, Marked};
use root::CgroupRoot;
pub(crate) use systemd::{Manager, Unit, UnitLocation, UnitReference};
pub(crate) use watch::OomWatch;

use crate::plan::cgroup::{CgroupDriver, CgroupPath, CgroupPlan, ResourcePlan, no_cgroup_to_limit};
use crate::{Cancel, Error, ErrorKind, Result};

/// Where the cgroup2 tree is mounted on this host.
///
/// # Errors
/// The host has none.
pub(crate) fn mount_point() -> Result<PathBuf> {
    Ok(CgroupRoot::find()?.path().to_owned())
}

/// Where a container's cgroup is or will be.
#[derive(Debug)]
pub(crate) enum CgroupLocation {
    /// In a directory that the runtime makes itself.
    Directory {
        /// The root of the tree.
        root: CgroupRoot,
        /// The cgroup's path from there.
        below_root: PathBuf,
        /// Its absolute path.
        path: PathBuf,
    },
    /// In that of a unit of systemd.
    Unit(Box<UnitLocation>),
}

impl CgroupLocation {
    /// Finds out where the cgroup will be on this host, without making anything. `None` for a container
    /// without one. What is asked of a service manager, then and until the cgroup is there, ends when
    /// `cancel` comes.
    ///
    /// # Errors
    /// The host has no cgroup2 tree, or the runtime's own cgroup, beside which it would be, cannot be told.
    pub(crate) fn find(plan: &CgroupPlan, cancel: &Cancel) -> Result<Option<Self>> {
        let below_root = match (plan.driver, &plan.path) {
            (CgroupDriver::Disabled, _) => return Ok(None),
            (_, CgroupPath::Unit(unit)) => {
                let location = UnitLocation::find(unit, plan.rootless, cancel)?;
                return Ok(Some(Self::Unit(Box::new(location))));
            }
            (_, CgroupPath::BelowRoot(path)) => Ok(path.clone()),
            (_, CgroupPath::BesideRuntime(path)) => beside_runtime(path),
        };
        let found = below_root.and_then(|below_root| Ok((below_root, CgroupRoot::find()?)));
        let (below_root, root) = match found {
            // Nested containers often see no cgroup tree at all.
            Err(error) if error.kind() == ErrorKind::Unsupported && plan.can_do_without() => return Ok(None),
            found => found?,
        };
        let path = root::join(root.path(), &below_root);
        Ok(Some(Self::Directory {
            root,
            below_root,
            path,
        }))
    }

    /// The absolute path on the host, for the state.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. } => path,
            Self::Unit(unit) => unit.path(),
        }
    }

    /// The unit, for the state.
    pub(crate) fn unit(&self) -> Option<&UnitLocation> {
        match self {
            Self::Directory { .. } => None,
            Self::Unit(unit) => Some(unit),
        }
    }
}

/// The path relative to the cgroup2 root.
fn beside_runtime(path: &Path) -> Result<PathBuf> {
    let mut place = membership::of_process(None)?;
    place.pop();
    place.push(path);
    Ok(place)
}

/// A container's cgroup together with its driver. What all drivers have in common is on [`Cgroup`].
#[derive(Debug)]
pub(crate) enum CgroupManager {
    /// Made by the runtime itself.
    Fs(Cgroup),
    /// Made by systemd.
    Systemd(Box<Unit>),
    /// There is none.
    Disabled,
}

impl CgroupManager {
    /// Makes the cgroup, marks it with `mark`, and sets its limits. On failure nothing of it is left. Its
    /// device filter is a call of its own, [`CgroupManager::filter_devices`]; a unit of systemd is not there
    /// before [`CgroupManager::adopt`]. One that is there and has a mark was left by a container, if `refuse`
    /// lets it pass, and gives way to a new one: the state of that container must not mean this one's.
    ///
    /// # Errors
    /// The cgroup is in use, cannot be made, or lacks what a limit needs; the error names the field of
    /// config.json. That of `refuse`, which is asked about a cgroup that was there before.
    pub(crate) fn create(
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
            Err(error) if is_denied(&error) && plan.can_do_without() => return Ok(Self::Disabled),
            created => created.map_err(|error| explain_denied(plan, error))?,
        };
        match apply::apply(&cgroup, &plan.resources.writes).map_err(|error| explain_denied(plan, error)) {
            Ok(()) => Ok(Self::Fs(cgroup)),
            Err(error) => Err(fs::undo(&root, &made, error)),
        }
    }

    /// Takes the container's process in, which must not have gone on yet, where that is the moment to make
    /// the cgroup.
    ///
    /// # Errors
    /// Those of [`CgroupManager::create`]. What is there by then is for [`CgroupManager::remove`].
    pub(crate) fn adopt(&mut self, pid: Pid) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.adopt(pid),
            Self::Fs(_) | Self::Disabled => Ok(()),
        }
    }

    /// What is left to do once the container's namespaces are made: moving its process into a delegated
    /// sub-cgroup.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn settle(&self, pid: Pid) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.settle(pid),
            Self::Fs(_) | Self::Disabled => Ok(()),
        }
    }

    /// Whether there will be a cgroup, and [`CgroupManager::adopt`] will make it.
    pub(crate) fn is_awaited(&self) -> bool {
        match self {
            Self::Systemd(unit) => unit.is_awaited(),
            Self::Fs(_) | Self::Disabled => false,
        }
    }

    /// The unit of a container, by what the state holds. Its cgroup may be gone.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(crate) fn open_unit(unit: &UnitReference, path: &Path, identity: &Identity) -> Result<Self> {
        Ok(Self::Systemd(Box::new(Unit::open(unit, path, identity)?)))
    }

    /// Gives a cgroup that has just been made its device filter. The verifier and the compiler of the kernel
    /// take their time, so that this is done while init, which is in the cgroup already, makes its
    /// namespaces; init must not open, make or execute anything of the container's before. A unit of systemd
    /// has got its own by then.
    ///
    /// # Errors
    /// The privilege is missing, or the rules make no program that the kernel takes.
    pub(crate) fn filter_devices(&self, plan: &CgroupPlan) -> Result<()> {
        let Self::Fs(cgroup) = self else { return Ok(()) };
        match cgroup.set_first_device_filter(&plan.device_program) {
            // Only the first user namespace has the privilege. Without it nobody can make a device either.
            Err(error) if plan.rootless && error.kind() == ErrorKind::Denied => Ok(()),
            set => set,
        }
    }

    /// Opens the cgroup of a container by what the state holds. `None` if it is gone, also if another one is
    /// in its place.
    ///
    /// # Errors
    /// The state names no path though the driver makes cgroups, or no unit though it is systemd's; the
    /// directory cannot be opened.
    pub(crate) fn open(
        driver: CgroupDriver,
        path: Option<&Path>,
        identity: &Identity,
    ) -> Result<Option<Self>> {
        match (driver, path) {
            (CgroupDriver::Disabled, _) => Ok(Some(Self::Disabled)),
            (CgroupDriver::Systemd, _) => Err(Error::new(ErrorKind::Internal, "the state names no unit")),
            (CgroupDriver::Fs, Some(path)) => Ok(Cgroup::open_own(path, identity)?.map(Self::Fs)),
            (CgroupDriver::Fs, None) => Err(Error::new(ErrorKind::Internal, "the state names no cgroup")),
        }
    }

    /// The driver, for the state.
    pub(crate) fn driver(&self) -> CgroupDriver {
        match self {
            Self::Fs(_) => CgroupDriver::Fs,
            Self::Systemd(_) => CgroupDriver::Systemd,
            Self::Disabled => CgroupDriver::Disabled,
        }
    }

    /// Which cgroup it is, for the state, once it is there: the inode of that which has the limits. `None`
    /// without one.
    ///
    /// # Errors
    /// The kernel refused, or a unit's cgroup is gone.
    pub(crate) fn inode(&self) -> Result<Option<u64>> {
        match self {
            Self::Fs(cgroup) => cgroup.inode().map(Some),
            Self::Systemd(unit) => unit.limited()?.inode().map(Some),
            Self::Disabled => Ok(None),
        }
    }

    /// The cgroup; `None` if the container has none.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Self::Fs(cgroup) => Some(cgroup),
            Self::Systemd(unit) => unit.cgroup(),
            Self::Disabled => None,
        }
    }

    /// Sets limits on a running container, in the order given; then calls `commit`. Other limits stay as they
    /// are. If a limit is refused, or `commit` fails, all of them are as before.
    ///
    /// # Errors
    /// The container has no cgroup, a controller is missing, or the kernel refused a value; the error names
    /// the field.
    pub(crate) fn update(&self, resources: &ResourcePlan, commit: impl FnOnce() -> Result<()>) -> Result<()> {
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

    /// Moves a process into the cgroup, where `CLONE_INTO_CGROUP` could not be used. Nothing to do without a
    /// cgroup.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn add_process(&self, pid: Pid) -> Result<()> {
        match self {
            Self::Fs(cgroup) => cgroup.add_process(pid),
            Self::Systemd(unit) => unit.attach(pid),
            Self::Disabled => Ok(()),
        }
    }

    /// The outermost cgroup that is the container's alone: of a unit with sub-cgroups the unit's. `None` as
    /// [`CgroupManager::cgroup`].
    pub(crate) fn whole(&self) -> Option<&Cgroup> {
        match self {
            Self::Systemd(unit) => unit.top(),
            Self::Fs(_) | Self::Disabled => self.cgroup(),
        }
    }

    /// Removes the cgroup with all below it. Waits up to `patience` for dying processes, kills none.
    ///
    /// # Errors
    /// Processes are left in it.
    pub(crate) fn remove(&self, patience: Duration) -> Result<()> {
        match self {
            Self::Fs(cgroup) => cgroup.remove(patience),
            Self::Systemd(unit) => unit.remove(patience),
            Self::Disabled => Ok(()),
        }
    }
}

/// What a caller without rights over the cgroup has to know.
fn explain_denied(plan: &CgroupPlan, error: Error) -> Error {
    if !plan.rootless || !is_denied(&error) {
        return error;
    }
    let error = match plan.resources.first_limit() {
        Some(write) => error.with_field(write.field.clone()),
        None => error,
    };
    error.with_hint(
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: leave both out, or \
         have systemd delegate a cgroup, as in: systemd-run --user --scope -p Delegate=yes",
    )
}

fn is_denied(error: &Error) -> bool {
    error.kind() == ErrorKind::Denied
        || matches!(
            error.errno(),
            Some(crate::Errno::ROFS | crate::Errno::ACCESS | crate::Errno::PERM)
        )
}

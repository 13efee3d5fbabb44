//! Runs in: RUNTIME. One container's unit of systemd, from where it will be to its removal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

use super::bus::Manager;
use super::service_manager::{ServiceManager, is_lost};
use crate::host::cgroup::directory::Cgroup;
use crate::host::cgroup::identity::{Identity, without_place};
use crate::host::cgroup::root::{CgroupRoot, join};
use crate::host::cgroup::{apply, fs, membership};
use crate::plan::cgroup::systemd::description::{description, is_described};
use crate::plan::cgroup::systemd::name;
use crate::plan::cgroup::systemd::properties::{self, Moment, Property};
use crate::plan::cgroup::{CgroupPlan, CgroupWrite, Controllers, ResourcePlan, UnitPlan};
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// Where a container's unit will be, with the connection to its service manager.
#[derive(Debug)]
pub(crate) struct UnitLocation {
    root: CgroupRoot,
    /// The unit's cgroup.
    below_root: PathBuf,
    /// The container's cgroup, which may be below the unit's.
    path: PathBuf,
    service: ServiceManager,
    manager: Manager,
    unit: UnitPlan,
    usual_slice: &'static str,
}

impl UnitLocation {
    /// Connects to the service manager, of the system or of a `rootless` caller, and finds out where the
    /// cgroup will be. Makes nothing.
    ///
    /// # Errors
    /// There is no systemd that could be reached.
    pub(in crate::host::cgroup) fn find(unit: &UnitPlan, rootless: bool, cancel: &Cancel) -> Result<Self> {
        let manager = if rootless { Manager::User } else { Manager::System };
        let mut service = ServiceManager::connect(manager, cancel)?;
        let (top, usual_slice) = match manager {
            Manager::System => (cgroup_of_process_1(), "system.slice"),
            Manager::User => (PathBuf::from(service.control_group()?), "user.slice"),
        };
        let top = top.strip_prefix("/").map(Path::to_owned).unwrap_or(top);
        let below_root = top.join(unit.name.below_manager(usual_slice)?);
        let root = CgroupRoot::find()?;
        let unit_path = join(root.path(), &below_root);
        let path = match &unit.subgroups.container {
            Some(subgroup) => unit_path.join(subgroup),
            None => unit_path,
        };
        Ok(Self {
            root,
            below_root,
            path,
            service,
            manager,
            unit: unit.clone(),
            usual_slice,
        })
    }

    /// The absolute path of the container's cgroup.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The unit's name.
    pub(crate) fn name(&self) -> &str {
        &self.unit.name.unit
    }

    /// Whose unit it will be.
    pub(crate) fn manager(&self) -> Manager {
        self.manager
    }

    /// A cgroup that is there already, the unit's or one above, may be frozen. What systemd moves there
    /// stands still before it has done anything.
    fn refuse_frozen(&self) -> Result<()> {
        for place in self.below_root.ancestors() {
            // The root has no such file, and is never frozen.
            if place.as_os_str().is_empty() {
                return Ok(());
            }
            let path = join(self.root.path(), place);
            let Some(cgroup) = Cgroup::open(&path)? else {
                continue;
            };
            // It says so of those above, too.
            return match cgroup.is_effectively_frozen() {
                Ok(true) => Err(fs::is_frozen(&path)),
                Ok(false) => Ok(()),
                // systemd has removed it meanwhile.
                Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV)) => Ok(()),
                Err(error) => Err(error),
            };
        }
        Ok(())
    }
}

/// A container's unit.
#[derive(Debug)]
pub(crate) struct Unit {
    name: String,
    manager: Manager,
    /// The container's cgroup.
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// `create` waits for the process to start it with.
    Awaited(Box<Pending>),
    /// A `create` has asked for it, this one or one that was cut off, and its cgroup has not been seen: it
    /// may come to be.
    Asked { description: Option<String> },
    /// That `create` has seen its cgroup, but has not come to its end.
    Started {
        cgroups: Cgroups,
        /// How the container's unit is described, if it takes this to tell it from another one of that name.
        description: Option<String>,
    },
    /// A `create` that came to its end has made it, and its cgroup is there.
    Made(Cgroups),
    /// There is none, or no longer.
    Gone,
}

/// The cgroups of a unit, open.
#[derive(Debug)]
enum Cgroups {
    /// The container is in the unit's.
    Unit(Cgroup),
    /// It is in one below.
    Below {
        unit: Cgroup,
        container: Option<Cgroup>,
        /// Where its process is to be moved after its cgroup namespace has been made; only in `create`.
        delegated: Option<PathBuf>,
    },
}

#[derive(Debug)]
struct Pending {
    plan: CgroupPlan,
    location: UnitLocation,
    mark: String,
}

impl Unit {
    /// Gets ready to start the unit with the container's process. A slice is started here.
    ///
    /// # Errors
    /// The place is frozen; for a slice also as [`Unit::adopt`].
    pub(in crate::host::cgroup) fn prepare(
        plan: &CgroupPlan,
        location: UnitLocation,
        mark: &str,
    ) -> Result<Self> {
        location.refuse_frozen()?;
        let is_slice = location.unit.name.is_slice();
        let mut unit = Self {
            name: location.unit.name.unit.clone(),
            manager: location.manager,
            path: location.path.clone(),
            state: State::Gone,
        };
        let pending = Pending {
            plan: plan.clone(),
            location,
            mark: mark.to_owned(),
        };
        match is_slice {
            true => {
                let started = unit.start(pending, None);
                started.map_err(|error| unit.undo(error))?;
            }
            false => unit.state = State::Awaited(Box::new(pending)),
        }
        Ok(unit)
    }

    /// The unit that a container's state names. Its cgroup may be gone: systemd removes it when its last
    /// process ends. A cgroup that the state does not mean is that of another unit, and not looked at.
    ///
    /// # Errors
    /// The cgroup's directory cannot be opened.
    pub(in crate::host::cgroup) fn open(
        reference: &UnitReference,
        path: &Path,
        identity: &Identity,
    ) -> Result<Self> {
        let directory = name::directory(&reference.name);
        let unit_path = path.ancestors().find(|above| above.ends_with(&directory));
        let cgroups = match unit_path {
            Some(unit_path) if unit_path != path => match Cgroup::open_own(unit_path, identity)? {
                Some(unit) => Some(Cgroups::Below {
                    unit,
                    container: Cgroup::open(path)?,
                    delegated: None,
                }),
                None => None,
            },
            _ => Cgroup::open_own(path, identity)?.map(Cgroups::Unit),
        };
        let description = match identity {
            Identity::Marked(mark) => Some(description(mark)),
            Identity::PathOnly | Identity::Inode(_) => None,
        };
        let state = match (cgroups, reference.is_uncertain) {
            (Some(cgroups), true) => State::Started { cgroups, description },
            (None, true) => State::Asked { description },
            (Some(cgroups), false) => State::Made(cgroups),
            (None, false) => State::Gone,
        };
        Ok(Self {
            name: reference.name.clone(),
            manager: reference.manager,
            path: path.to_owned(),
            state,
        })
    }

    fn cgroups(&self) -> Option<&Cgroups> {
        match &self.state {
            State::Started { cgroups, .. } | State::Made(cgroups) => Some(cgroups),
            State::Awaited(_) | State::Asked { .. } | State::Gone => None,
        }
    }

    /// The container's cgroup, if it is there.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        match self.cgroups()? {
            Cgroups::Unit(cgroup) => Some(cgroup),
            Cgroups::Below { container, .. } => container.as_ref(),
        }
    }

    /// Whether the unit waits for its first process.
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.state, State::Awaited(_))
    }

    /// Starts the unit with the container's process in it, then sets limits and the device filter. The
    /// process must not have gone on yet. Nothing to do for a unit that has been started.
    ///
    /// # Errors
    /// systemd refused or did not answer in time, or a limit could not be set.
    pub(in crate::host::cgroup) fn adopt(&mut self, pid: Pid) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Awaited(pending) => self.start(*pending, Some(pid)),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn start(&mut self, pending: Pending, pid: Option<Pid>) -> Result<()> {
        let Pending {
            plan,
            mut location,
            mark,
        } = pending;
        let properties = location.unit.properties(
            location.usual_slice,
            pid,
            &plan.resources,
            &description(without_place(&mark)),
        );
        self.ask_for_it(&mut location, properties, pid)?;
        let unit_path = join(location.root.path(), &location.below_root);
        let cgroup = Cgroup::open(&unit_path)?
            .ok_or_else(|| vanished(&unit_path))?
            .with_nothing_attached();
        cgroup.mark(&mark)?;
        let needed = plan.needed_controllers();
        fs::hand_down(
            &location.root,
            &location.below_root,
            &cgroup,
            &needed,
            Controllers::Needed,
        )?;
        let writes = properties::as_systemd_writes(&plan.resources.writes);
        apply::apply(&cgroup, &writes)?;
        let seen = properties::of_limits(&seen_in_files(&cgroup, &writes), Moment::Update);
        if !seen.is_empty() {
            location.service.set_properties(&self.name, &seen)?;
            apply::apply(&cgroup, &writes)?;
        }
        self.filter_devices(&cgroup, &plan)?;
        let subgroups = &location.unit.subgroups;
        let cgroups = match (&subgroups.container, pid) {
            (Some(subgroup), Some(pid)) => Cgroups::Below {
                container: Some(enter_subgroup(&location, subgroup, pid)?),
                unit: cgroup,
                delegated: subgroups.delegated.clone(),
            },
            _ => Cgroups::Unit(cgroup),
        };
        self.state = State::Started {
            cgroups,
            description: None,
        };
        Ok(())
    }

    fn ask_for_it(
        &mut self,
        location: &mut UnitLocation,
        properties: Vec<Property>,
        pid: Option<Pid>,
    ) -> Result<()> {
        let is_there = |location: &UnitLocation| match pid {
            Some(pid) => check_place(pid, &location.below_root),
            None => Ok(()),
        };
        // From here on a failure has to stop the unit; but never that of somebody else.
        self.state = State::Asked { description: None };
        match location.service.start(&self.name, properties.clone()) {
            // An answer by which nothing was begun: there is nothing to stop, and who may not start it may
            // not stop it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::Denied | ErrorKind::Invalid
                ) =>
            {
                self.state = State::Gone;
                return Err(error);
            }
            Err(error) if is_lost(&error) => {
                location.service.reconnect()?;
                if pid.is_some() && is_there(location).is_ok() {
                    return Ok(());
                }
                location.service.start(&self.name, properties)?;
            }
            result => result?,
        }
        is_there(location)
    }

    /// Only the first user namespace has the privilege. A user's container goes without: its user cannot make
    /// nodes, and may open those of the host anyway.
    fn filter_devices(&self, cgroup: &Cgroup, plan: &CgroupPlan) -> Result<()> {
        match cgroup.set_first_device_filter(&plan.device_program) {
            Err(error) if plan.rootless && error.kind() == ErrorKind::Denied => Ok(()),
            result => result,
        }
    }

    fn undo(&self, error: Error) -> Error {
        if let State::Gone = self.state {
            return error;
        }
        match self.stop() {
            Ok(()) => error,
            Err(other) => error.and(other),
        }
    }

    /// Sets limits, in the files and until the next boot in systemd; then calls `commit`. On failure all are
    /// as before.
    ///
    /// # Errors
    /// The unit's cgroup is gone, the kernel refused a value, systemd cannot be reached or refuses one; that
    /// of `commit`.
    pub(in crate::host::cgroup) fn update(
        &self,
        limits: &ResourcePlan,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let cgroup = self.limited()?;
        apply::check_usage(cgroup, &limits.above_usage)?;
        refuse_oom_policy(cgroup, &limits.writes)?;
        let writes = properties::as_systemd_writes(&limits.writes);
        let before = apply::Before::read(cgroup, &writes);
        // The files before systemd, since the kernel may refuse one; and after, since it writes all that it
        // knows again.
        let changed = apply::apply(cgroup, &writes)
            .and_then(|()| {
                let told = [&writes[..], &seen_in_files(cgroup, &writes)].concat();
                self.set_limits(&told, Moment::Update)
            })
            .and_then(|()| {
                let rest = apply::apply(cgroup, &writes).and_then(|()| commit());
                rest.map_err(|error| self.restore_limits(&before.writes(), error))
            });
        changed.map_err(|error| before.restore(cgroup, error))
    }

    fn set_limits(&self, writes: &[CgroupWrite], moment: Moment) -> Result<()> {
        let properties = properties::of_limits(writes, moment);
        if properties.is_empty() {
            return Ok(());
        }
        ServiceManager::connect(self.manager, &Cancel::default())?.set_properties(&self.name, &properties)
    }

    /// Tells systemd what the files held before. Returns `failure`, with what went wrong here after it.
    fn restore_limits(&self, before: &[CgroupWrite], failure: Error) -> Error {
        match self.set_limits(before, Moment::Restore) {
            Ok(()) => failure,
            Err(error) => failure.and(error),
        }
    }

    /// The cgroup that has the limits: the unit's.
    ///
    /// # Errors
    /// It is gone.
    pub(in crate::host::cgroup) fn limited(&self) -> Result<&Cgroup> {
        self.top().ok_or_else(|| vanished(&self.path))
    }

    /// The unit's cgroup, if it is there.
    pub(in crate::host::cgroup) fn top(&self) -> Option<&Cgroup> {
        match self.cgroups()? {
            Cgroups::Unit(cgroup) | Cgroups::Below { unit: cgroup, .. } => Some(cgroup),
        }
    }

    /// Moves the container's process into the delegated cgroup, now that the one above it is the root of its
    /// cgroup namespace. Nothing to do without one.
    ///
    /// # Errors
    /// The cgroup cannot be made or entered.
    pub(in crate::host::cgroup) fn settle(&self, pid: Pid) -> Result<()> {
        match self.cgroups() {
            Some(Cgroups::Below {
                container: Some(container),
                delegated: Some(delegated),
                ..
            }) => container.make_below(delegated)?.add_process(pid),
            _ => Ok(()),
        }
    }

    /// Has systemd move a process into the container's cgroup.
    ///
    /// # Errors
    /// systemd cannot be reached, or refuses.
    pub(in crate::host::cgroup) fn attach(&self, pid: Pid) -> Result<()> {
        let subgroup = match self.cgroups() {
            Some(Cgroups::Below { unit, .. }) => self.path.strip_prefix(unit.path()).unwrap_or(Path::new("")),
            _ => Path::new(""),
        };
        let subgroup = format!("/{}", subgroup.display());
        let pid = pid.as_raw_nonzero().get().cast_unsigned();
        ServiceManager::connect(self.manager, &Cancel::default())?.attach(&self.name, &subgroup, pid)
    }

    /// Removes the unit and its cgroup. The processes in it should be dead or dying: systemd asks the others
    /// to end. No call to systemd is made if it has removed the unit by itself.
    ///
    /// # Errors
    /// systemd cannot be reached or does not stop it in time; processes are left.
    pub(in crate::host::cgroup) fn remove(&self, patience: Duration) -> Result<()> {
        let is_there = match self.top() {
            Some(cgroup) => cgroup.exists()?,
            None => false,
        };
        if !is_there {
            return match &self.state {
                State::Asked { description } | State::Started { description, .. } => {
                    self.stop_ours(description.as_deref())
                }
                State::Awaited(_) | State::Made(_) | State::Gone => Ok(()),
            };
        }
        self.stop()?;
        match self.top() {
            Some(cgroup) => cgroup.remove(patience),
            None => Ok(()),
        }
    }

    /// Stops the unit of that name, if there is one, unless it has another description than the container's,
    /// if that is known: then this container's `create` has not asked for it.
    fn stop_ours(&self, description: Option<&str>) -> Result<()> {
        if let Some(ours) = description {
            let found = ServiceManager::connect(self.manager, &Cancel::default())?.description(&self.name)?;
            if !is_described(&found, ours) {
                return Ok(());
            }
        }
        self.stop()
    }

    fn stop(&self) -> Result<()> {
        ServiceManager::connect(self.manager, &Cancel::default())?.stop(&self.name)
    }
}

/// What the state says about a container's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitReference {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub manager: Manager,
    /// Whether `create` may have been cut off between asking for the unit and writing down that it is there.
    pub is_uncertain: bool,
}

/// systemd must have moved the process where we think that the unit is: it has looked for it by its number,
/// which is another one if systemd is in another pid namespace.
fn check_place(pid: Pid, below_root: &Path) -> Result<()> {
    let place = membership::of_process(Some(pid))?;
    if place == below_root {
        return Ok(());
    }
    let message = format!("systemd has put the container's process into {}", place.display());
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_path(below_root)
        .doing("find the unit's cgroup")
        .with_hint("systemd must be in the same pid namespace, and see the same cgroup tree"))
}

/// systemd writes this file from `OOMPolicy`, which it takes only when the unit is made: another value would
/// be gone with the next change.
fn refuse_oom_policy(cgroup: &Cgroup, writes: &[CgroupWrite]) -> Result<()> {
    let held = apply::held(cgroup, OOM_GROUP);
    let is_other = |write: &&CgroupWrite| {
        held.as_deref()
            .is_some_and(|held| held.trim() != write.value.trim())
    };
    let mut of_oom_group = writes.iter().filter(|write| write.file == OOM_GROUP);
    match of_oom_group.next_back().filter(is_other) {
        None => Ok(()),
        Some(write) => Err(Error::new(
            ErrorKind::Unsupported,
            "systemd lets it be chosen only when the unit is made (property OOMPolicy)",
        )
        .with_field(write.field.clone())),
    }
}

const OOM_GROUP: &str = "memory.oom.group";

fn seen_in_files(cgroup: &Cgroup, writes: &[CgroupWrite]) -> Vec<CgroupWrite> {
    properties::seen_in_files(writes, |file| apply::held(cgroup, file))
}

fn vanished(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "the unit's cgroup is gone").with_path(path)
}

/// Makes the container's cgroup below the unit's and moves its process there, so that the unit's can hand
/// controllers down.
fn enter_subgroup(location: &UnitLocation, subgroup: &Path, pid: Pid) -> Result<Cgroup> {
    let below_root = location.below_root.join(subgroup);
    let (cgroup, _) = fs::make(&location.root, &below_root, |_| Ok(()))?;
    cgroup.add_process(pid)?;
    // Only now: a cgroup with processes of its own hands nothing down.
    fs::hand_down(&location.root, &below_root, &cgroup, &[], Controllers::Every)?;
    Ok(cgroup)
}

/// The cgroup of a system's service manager: the root, unless systemd itself runs in a container.
fn cgroup_of_process_1() -> PathBuf {
    // Process 1 of another pid namespace than systemd's is somewhere else; then the root is the best guess,
    // and `check_place` tells if it was wrong.
    let place = membership::of_process(Some(Pid::INIT)).unwrap_or_default();
    match place.file_name() {
        Some(name) if name == "init.scope" => place.parent().map(Path::to_owned).unwrap_or_default(),
        _ => PathBuf::new(),
    }
}

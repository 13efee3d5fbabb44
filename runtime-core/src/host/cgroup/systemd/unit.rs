//! Runs in: RUNTIME. One container's unit of systemd, from the plan to its removal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use zbus::wire::Variant;

use super::annotation::{self, Subgroups};
use super::bus::Manager;
use super::name::{self, UnitName};
use super::properties::{self, Moment, Property};
use super::service_manager::{ServiceManager, is_lost};
use crate::host::cgroup::directory::Cgroup;
use crate::host::cgroup::identity::without_place;
use crate::host::cgroup::root::{CgroupRoot, join};
use crate::host::cgroup::{CgroupPlan, CgroupWrite, Controllers, Identity, ResourcePlan, apply, fs, path};
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// What config.json says about the unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitPlan {
    name: UnitName,
    subgroups: Subgroups,
    asked: Vec<Property>,
}

impl UnitPlan {
    /// Decides from `linux.cgroupsPath`. Pure.
    ///
    /// # Errors
    /// A path that is not `slice:prefix:name`.
    pub fn new(cgroups_path: Option<&Path>, container_id: &str) -> Result<Self> {
        Ok(Self {
            name: UnitName::new(cgroups_path, container_id)?,
            subgroups: Subgroups::default(),
            asked: Vec::new(),
        })
    }

    /// Takes in what annotations ask for: `org.systemd.property.NAME`, and crun's sub-cgroups.
    ///
    /// # Errors
    /// An illegal name or value, a property that an annotation may not set or that is about one of `limits`, or a
    /// sub-cgroup of a slice; the error names the annotation.
    pub fn annotate(&mut self, annotations: &HashMap<String, String>, limits: &ResourcePlan) -> Result<()> {
        self.subgroups = annotation::subgroups(annotations, self.name.is_slice())?;
        self.asked = annotation::properties(annotations)?;
        if self.asked.is_empty() {
            return Ok(());
        }
        annotation::refuse_contradiction(&self.asked, &properties::of_limits(&limits.writes, Moment::Start))
    }

    /// Connects to the service manager, of the system or of a `rootless` caller, and finds out where the cgroup will be.
    /// Makes nothing.
    ///
    /// # Errors
    /// There is no systemd that could be reached.
    pub(in crate::host::cgroup) fn locate(&self, rootless: bool, cancel: &Cancel) -> Result<UnitLocation> {
        let manager = if rootless { Manager::User } else { Manager::System };
        let mut service = ServiceManager::connect(manager, cancel)?;
        let (top, usual_slice) = match manager {
            Manager::System => (cgroup_of_process_1(), "system.slice"),
            Manager::User => (PathBuf::from(service.control_group()?), "user.slice"),
        };
        let top = top.strip_prefix("/").map(Path::to_owned).unwrap_or(top);
        let below_root = top.join(self.name.below_manager(usual_slice)?);
        let root = CgroupRoot::find()?;
        let unit_path = join(root.path(), &below_root);
        let path = match &self.subgroups.container {
            Some(subgroup) => unit_path.join(subgroup),
            None => unit_path,
        };
        Ok(UnitLocation {
            root,
            below_root,
            path,
            service,
            manager,
            unit: self.clone(),
            usual_slice,
        })
    }

    /// The properties of the unit as runc and crun set them, before limits and annotations.
    fn basic_properties(&self, usual_slice: &str, pid: Option<Pid>, description: &str) -> Vec<Property> {
        let slice = self.name.slice.as_deref().unwrap_or(usual_slice).to_owned();
        let mut list = vec![Property::needed("Description", description.to_owned())];
        match pid {
            Some(pid) => {
                let pids = vec![pid.as_raw_nonzero().get().cast_unsigned()];
                list.push(Property::needed("Slice", slice));
                list.push(Property::needed("Delegate", true));
                list.push(Property::needed("PIDs", pids));
            }
            // Where a slice is follows from its name; systemd refuses to delegate one.
            None => list.push(Property::needed("Wants", vec![slice])),
        }
        // Engines read statistics, and a limit may be set later.
        for accounting in [
            "MemoryAccounting",
            "CPUAccounting",
            "IOAccounting",
            "TasksAccounting",
        ] {
            list.push(Property::optional(accounting, true));
        }
        // Without it systemd would stop containers at shutdown before the engine that is to stop them.
        list.push(Property::needed("DefaultDependencies", false));
        // A unit that has failed (its process was OOM-killed, say) would stay, and its name be taken.
        list.push(Property::optional("CollectMode", "inactive-or-failed"));
        list
    }

    fn properties(
        &self,
        usual_slice: &str,
        pid: Option<Pid>,
        plan: &CgroupPlan,
        description: &str,
    ) -> Vec<Property> {
        let mut list = self.basic_properties(usual_slice, pid, description);
        list.extend(properties::of_limits(&plan.resources.writes, Moment::Start));
        // Last: what is asked for by name wins over the defaults above.
        list.extend(self.asked.iter().map(|asked| described(asked, description)));
        list
    }
}

/// Where a container's unit will be, with the connection to its service manager.
#[derive(Debug)]
pub struct UnitLocation {
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
    /// The absolute path of the container's cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The unit's name.
    pub fn name(&self) -> &str {
        &self.unit.name.unit
    }

    /// Whose unit it will be.
    pub fn manager(&self) -> Manager {
        self.manager
    }

    /// A cgroup that is there already, the unit's or one above, may be frozen. What systemd moves there stands still before
    /// it has done anything.
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
pub struct Unit {
    name: String,
    manager: Manager,
    /// The container's cgroup.
    path: PathBuf,
    /// Open, once it is there and as long as it is.
    cgroup: Option<Cgroup>,
    /// The cgroup of the unit, where the container is in one below.
    above: Option<Cgroup>,
    /// What is to be done once there is a process; only in `create`.
    pending: Option<Box<Pending>>,
    /// Where the container's process is to be moved after its cgroup namespace has been made; only in `create`.
    delegated: Option<PathBuf>,
    /// Whether the unit may come to be although its cgroup is not there: `create` was cut off.
    is_uncertain: bool,
    /// How the container's unit is described, if it takes this to tell it from another one of that name.
    description: Option<String>,
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
        let mut this = Self {
            name: location.unit.name.unit.clone(),
            manager: location.manager,
            path: location.path.clone(),
            cgroup: None,
            above: None,
            delegated: None,
            is_uncertain: false,
            description: None,
            pending: Some(Box::new(Pending {
                plan: plan.clone(),
                location,
                mark: mark.to_owned(),
            })),
        };
        if is_slice {
            let started = this.start(None);
            started.map_err(|error| this.undo(error))?;
        }
        Ok(this)
    }

    /// The unit that a container's state names. Its cgroup may be gone: systemd removes it when its last process ends. A
    /// cgroup that the state does not mean is that of another unit, and not looked at.
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
        let (cgroup, above) = match unit_path {
            Some(unit_path) if unit_path != path => match Cgroup::open_own(unit_path, identity)? {
                Some(above) => (Cgroup::open(path)?, Some(above)),
                None => (None, None),
            },
            _ => (Cgroup::open_own(path, identity)?, None),
        };
        Ok(Self {
            name: reference.name.clone(),
            manager: reference.manager,
            path: path.to_owned(),
            cgroup,
            above,
            delegated: None,
            pending: None,
            is_uncertain: reference.is_uncertain,
            description: match identity {
                Identity::Marked(mark) => Some(description(mark)),
                Identity::PathOnly | Identity::Inode(_) => None,
            },
        })
    }

    /// The container's cgroup, if it is there.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Whether the unit waits for its first process.
    pub fn is_awaited(&self) -> bool {
        self.pending.is_some()
    }

    /// Starts the unit with the container's process in it, then sets limits and the device filter. The process must not
    /// have gone on yet. Nothing to do for a unit that has been started.
    ///
    /// # Errors
    /// systemd refused or did not answer in time, or a limit could not be set.
    pub(in crate::host::cgroup) fn adopt(&mut self, pid: Pid) -> Result<()> {
        match self.pending {
            Some(_) => self.start(Some(pid)),
            None => Ok(()),
        }
    }

    fn start(&mut self, pid: Option<Pid>) -> Result<()> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let Pending {
            plan,
            mut location,
            mark,
        } = *pending;
        let properties = location.unit.properties(
            location.usual_slice,
            pid,
            &plan,
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
        match (&subgroups.container, pid) {
            (Some(subgroup), Some(pid)) => {
                self.cgroup = Some(enter_subgroup(&location, subgroup, pid)?);
                self.above = Some(cgroup);
                self.delegated = subgroups.delegated.clone();
            }
            _ => self.cgroup = Some(cgroup),
        }
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
        self.is_uncertain = true;
        match location.service.start(&self.name, properties.clone()) {
            // An answer by which nothing was begun: there is nothing to stop, and who may not start it may not stop it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::Denied | ErrorKind::Invalid
                ) =>
            {
                self.is_uncertain = false;
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

    /// Only the first user namespace has the privilege. A user's container goes without: its user cannot make nodes, and
    /// may open those of the host anyway.
    fn filter_devices(&self, cgroup: &Cgroup, plan: &CgroupPlan) -> Result<()> {
        match cgroup.set_first_device_filter(&plan.device_program) {
            Err(error) if plan.rootless && error.kind() == ErrorKind::Denied => Ok(()),
            result => result,
        }
    }

    fn undo(&self, error: Error) -> Error {
        if !self.is_uncertain {
            return error;
        }
        match self.stop() {
            Ok(()) => error,
            Err(other) => error.and(other),
        }
    }

    /// Sets limits, in the files and until the next boot in systemd; then calls `commit`. On failure all are as before.
    ///
    /// # Errors
    /// The unit's cgroup is gone, the kernel refused a value, systemd cannot be reached or refuses one; that of `commit`.
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
        // The files before systemd, since the kernel may refuse one; and after, since it writes all that it knows again.
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

    /// Tells systemd what the files held before. Returns `failure`, with what went wrong here behind it.
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
        self.above.as_ref().or(self.cgroup.as_ref())
    }

    /// Moves the container's process into the delegated cgroup, now that the one above it is the root of its cgroup
    /// namespace. Nothing to do without one.
    ///
    /// # Errors
    /// The cgroup cannot be made or entered.
    pub(in crate::host::cgroup) fn settle(&self, pid: Pid) -> Result<()> {
        match (&self.delegated, &self.cgroup) {
            (Some(delegated), Some(cgroup)) => cgroup.make_below(delegated)?.add_process(pid),
            _ => Ok(()),
        }
    }

    /// Has systemd move a process into the container's cgroup.
    ///
    /// # Errors
    /// systemd cannot be reached, or refuses.
    pub(in crate::host::cgroup) fn attach(&self, pid: Pid) -> Result<()> {
        let subgroup = match &self.above {
            Some(above) => self.path.strip_prefix(above.path()).unwrap_or(Path::new("")),
            None => Path::new(""),
        };
        let subgroup = format!("/{}", subgroup.display());
        let pid = pid.as_raw_nonzero().get().cast_unsigned();
        ServiceManager::connect(self.manager, &Cancel::default())?.attach(&self.name, &subgroup, pid)
    }

    /// Removes the unit and its cgroup. The processes in it should be dead or dying: systemd asks the others to end.
    /// No call to systemd is made if it has removed the unit by itself.
    ///
    /// # Errors
    /// systemd cannot be reached or does not stop it in time; processes are left.
    pub(in crate::host::cgroup) fn remove(&self, patience: Duration) -> Result<()> {
        let is_there = match self.top() {
            Some(cgroup) => cgroup.exists()?,
            None => false,
        };
        if !is_there {
            let may_come = self.is_uncertain && self.is_ours()?;
            return if may_come { self.stop() } else { Ok(()) };
        }
        self.stop()?;
        match self.top() {
            Some(cgroup) => cgroup.remove(patience),
            None => Ok(()),
        }
    }

    /// Whether the unit of that name, if there is one, has been asked for by this container's `create`.
    fn is_ours(&self) -> Result<bool> {
        match &self.description {
            Some(ours) => {
                let found =
                    ServiceManager::connect(self.manager, &Cancel::default())?.description(&self.name)?;
                Ok(is_described(&found, ours))
            }
            None => Ok(true),
        }
    }

    fn stop(&self) -> Result<()> {
        ServiceManager::connect(self.manager, &Cancel::default())?.stop(&self.name)
    }
}

/// What the state says about a container's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitReference {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub manager: Manager,
    /// Whether `create` may have been cut off between asking for the unit and writing down that it is there.
    pub is_uncertain: bool,
}

fn description(mark: &str) -> String {
    format!("onggi container {mark}")
}

/// A property as it is asked for; but a description has ours at its end, by which the unit is known.
fn described(asked: &Property, ours: &str) -> Property {
    let mut property = asked.clone();
    if let ("Description", Variant::Str(text)) = (asked.name.as_ref(), &asked.value) {
        property.value = format!("{text} ({ours})").into();
    }
    property
}

/// Whether a unit with this description is the one that `ours` describes. What an annotation says stands before.
fn is_described(found: &str, ours: &str) -> bool {
    let after = found.strip_suffix(')').and_then(|found| found.strip_suffix(ours));
    // Without a blank before it where the annotation is empty: systemd strips what it reads from its files.
    found == ours || after.is_some_and(|before| before == "(" || before.ends_with(" ("))
}

/// systemd must have moved the process where we think that the unit is: it has looked for it by its number, which is
/// another one if systemd is in another pid namespace.
fn check_place(pid: Pid, below_root: &Path) -> Result<()> {
    let place = path::of_process(Some(pid))?;
    if place == below_root {
        return Ok(());
    }
    let message = format!("systemd has put the container's process into {}", place.display());
    Err(Error::new(ErrorKind::Unsupported, message)
        .path(below_root)
        .doing("find the unit's cgroup")
        .hint("systemd must be in the same pid namespace, and see the same cgroup tree"))
}

/// systemd writes this file from `OOMPolicy`, which it takes only when the unit is made: another value would be gone with the
/// next change.
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
        .field(write.field.clone())),
    }
}

const OOM_GROUP: &str = "memory.oom.group";

fn seen_in_files(cgroup: &Cgroup, writes: &[CgroupWrite]) -> Vec<CgroupWrite> {
    properties::seen_in_files(writes, |file| apply::held(cgroup, file))
}

fn vanished(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "the unit's cgroup is gone").path(path)
}

/// Makes the container's cgroup below the unit's and moves its process there, so that the unit's can hand controllers
/// down.
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
    // Process 1 of another pid namespace than systemd's is somewhere else; then the root is the best guess, and
    // `check_place` tells if it was wrong.
    let place = path::of_process(Some(Pid::INIT)).unwrap_or_default();
    match place.file_name() {
        Some(name) if name == "init.scope" => place.parent().map(Path::to_owned).unwrap_or_default(),
        _ => PathBuf::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_whatever_an_annotation_says_of_it() {
        let ours = description("box, created 2026");
        let asked = |text: &str| {
            Property::asked(
                "Description".to_owned(),
                Variant::from(text.to_owned()),
                String::new(),
            )
        };
        let shown = |text: &str| match described(&asked(text), &ours).value {
            Variant::Str(text) => text.into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            shown("web server"),
            "web server (onggi container box, created 2026)"
        );
        for text in ["web server", "", &ours] {
            assert!(is_described(&shown(text), &ours), "{text}");
        }
        // What it says cannot pass for another's.
        let theirs = description("other, created 2026");
        assert!(!is_described(&shown(&theirs), &theirs));
        assert!(!is_described(&shown(&format!("x ({theirs})")), &theirs));
        assert!(!is_described("st.scope", &ours));
    }
}

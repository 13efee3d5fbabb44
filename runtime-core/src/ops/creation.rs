//! Runs in: RUNTIME. What `create`, `run` and `restore` have in common: the record and the cgroup of a
//! container that is yet to be made, and how both are taken back where it is not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use runtime_sys::namespace::Kinds;

use super::cgroup_removal::empty_cgroup;
use super::descriptors::Descriptors;
use super::hooks::{self, terms};
use super::nested::{self, Init};
use super::{Runtime, container, delete};
use crate::host::cgroup::{Cgroup, CgroupLocation, CgroupManager};
use crate::host::process::hooks::Terms;
use crate::host::process::stdio;
use crate::host::state::{ContainerId, Record, Retired, Slot, Store};
use crate::plan::{HostFacts, Plan};
use crate::spec::Config;
use crate::spec::given::Document;
use crate::{Cancel, Error, ErrorKind, Result};

/// How long the poststop hooks have, together, when the creation was interrupted: whoever has done that waits
/// for the end.
const LAST_HOOKS: Duration = Duration::from_secs(5);

/// Everything that is decided about a container before anything is done.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) config: Config,
    pub(super) facts: HostFacts,
    pub(super) plan: Plan,
    pub(super) descriptors: Descriptors,
}

/// The configuration that is given, or that of the bundle. It is yet to be read.
pub(super) fn configuration(bundle: &Path, given: Option<Document<Spec>>) -> Document<Spec> {
    given.unwrap_or_else(|| Document::File(bundle.join("config.json")))
}

/// The bundle, which is the current directory if none was given.
pub(super) fn bundle_or_here(bundle: &Path) -> &Path {
    match bundle.as_os_str().is_empty() {
        true => Path::new("."),
        false => bundle,
    }
}

/// A container that is being made: its id is taken, and its cgroup is there.
#[derive(Debug)]
pub(super) struct Creation<'a> {
    store: &'a Store,
    cancel: Cancel,
    pub(super) planned: &'a Planned,
    pub(super) slot: Slot,
    pub(super) cgroup: CgroupManager,
    /// A prestart or createRuntime hook may have done something.
    pub(super) hooks_begun: bool,
}

impl<'a> Creation<'a> {
    /// Takes the id, and makes the cgroup.
    ///
    /// # Errors
    /// `AlreadyExists`, or why there is no cgroup. Nothing is left then.
    pub(super) fn begin(
        runtime: &'a Runtime,
        id: &ContainerId,
        planned: &'a Planned,
        cancel: &Cancel,
    ) -> Result<Self> {
        let location = CgroupLocation::find(&planned.plan.cgroup, cancel)?;
        let record = runtime.record(id, planned, location.as_ref());
        let slot = runtime.store.claim(id, &record)?;
        let refuse = |cgroup: &Cgroup| runtime.refuse_shared(cgroup, id);
        let made = container::mark(&slot)
            .and_then(|mark| CgroupManager::create(&planned.plan.cgroup, location, &mark, refuse));
        match made {
            Ok(cgroup) => Ok(Self {
                store: &runtime.store,
                cancel: cancel.clone(),
                planned,
                slot,
                cgroup,
                hooks_begun: false,
            }),
            Err(error) => Err(take_back(slot, planned, false, cancel, Failed::by_itself(error))),
        }
    }

    /// The result of making it. After an error everything is taken back: by now its init has been killed.
    pub(super) fn end<T>(self, made: Result<T>) -> Result<T> {
        made.map_err(|error| {
            let failed = Failed::in_cgroup(self.store, self.slot.record(), &self.cgroup, error);
            take_back(self.slot, self.planned, self.hooks_begun, &self.cancel, failed)
        })
    }
}

/// Gives the id back after a failed creation, and has poststop hooks take back what hooks have done. Where
/// something is left, both are for a later `delete`.
fn take_back(slot: Slot, planned: &Planned, hooks_begun: bool, cancel: &Cancel, failed: Failed) -> Error {
    let record = slot.record().clone();
    let (error, is_gone) = failed.give_back(slot);
    if !is_gone {
        return error;
    }
    // runtime.md, Lifecycle: after a hook that fails the container is destroyed, and then come these. They
    // also take back what prestart and createRuntime hooks have done, if something else fails after them.
    if hooks_begun || error.kind() == ErrorKind::Hook {
        let terms = terms(&planned.plan, cancel);
        // The signal that ends the creation has come already; it would end these at once.
        let terms = match error.kind() {
            ErrorKind::Interrupted => Terms {
                cancel: &Cancel::default(),
                at: Instant::now().checked_add(LAST_HOOKS),
                ..terms
            },
            _ => terms,
        };
        hooks::run_poststop(Some(&planned.config), &record, terms);
    }
    error
}

/// What has become of a failed creation.
#[derive(Debug)]
struct Failed {
    error: Error,
    /// Whether nothing of it is left but its record.
    is_undone: bool,
}

impl Failed {
    /// Of something that has undone itself; what it could not undo stands after its error.
    fn by_itself(error: Error) -> Self {
        let is_undone = error.others().is_empty();
        Self { error, is_undone }
    }

    /// Of a creation whose cgroup was there. By now its init has been killed.
    fn in_cgroup(store: &Store, record: &Record, cgroup: &CgroupManager, error: Error) -> Self {
        let others =
            |cgroup: &Cgroup| nested::others(store, &record.id, record.own_pids, Init::IsGone, cgroup);
        let errors = [
            empty_cgroup(cgroup, others).err(),
            delete::remove_resctrl_group(record).err(),
            delete::remove_host_mount(record).err(),
        ];
        let errors: Vec<Error> = errors.into_iter().flatten().collect();
        let is_undone = errors.is_empty();
        Self {
            error: errors.into_iter().fold(error, Error::and),
            is_undone,
        }
    }

    /// Gives the id back, if nothing is left that the record stands for. Returns whether it has.
    fn give_back(self, slot: Slot) -> (Error, bool) {
        let kept = |error: Error| {
            let note = Error::new(ErrorKind::Internal, "the container's record is kept");
            (
                error.and(note.with_hint("delete --force takes away what is left")),
                false,
            )
        };
        if !self.is_undone {
            return kept(self.error);
        }
        match slot.retire().map(Retired::remove) {
            Ok(Ok(())) => (self.error, true),
            // A later command sweeps it away.
            Ok(Err(error)) => (self.error.and(error), true),
            Err(error) => kept(self.error.and(error)),
        }
    }
}

impl Runtime {
    /// A cgroup that was there may be that of another container, which has stopped or is being created. With
    /// two in one, pausing, limiting or deleting one would hit the other.
    fn refuse_shared(&self, cgroup: &Cgroup, id: &ContainerId) -> Result<()> {
        for other in self.store.ids()?.iter().filter(|other| *other != id) {
            let record = match self.store.read(other) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                // Damaged: its cgroup still says whose it is.
                Err(error) if error.kind() == ErrorKind::Internal => None,
                record => Some(record?),
            };
            let is_theirs = match record {
                Some(record) => record.cgroup.is_some_and(|theirs| theirs.path == cgroup.path()),
                None => cgroup.is_marked_for(other.as_str())?,
            };
            if is_theirs {
                let message = format!("the cgroup belongs to container {other}");
                return Err(Error::new(ErrorKind::WrongStatus, message)
                    .with_field("linux.cgroupsPath")
                    .with_path(cgroup.path())
                    .with_hint("delete that container first, or choose another path"));
            }
        }
        Ok(())
    }

    fn record(&self, id: &ContainerId, planned: &Planned, cgroup: Option<&CgroupLocation>) -> Record {
        let Planned {
            config, facts, plan, ..
        } = planned;
        let annotations = config.spec.annotations().iter().flatten();
        Record {
            annotations: annotations
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
            owner_uid: rustix::process::geteuid().as_raw(),
            cgroup: cgroup.map(|location| container::cgroup_record(self.driver, location)),
            poststart: hooks::has_any(config, |hooks| hooks.poststart()),
            poststop: hooks::has_any(config, |hooks| hooks.poststop()),
            own_pids: plan.namespaces.makes(Kinds::PID),
            stdio: if plan.process.terminal {
                Vec::new()
            } else {
                stdio::pipes(planned.descriptors.standard())
            },
            keyring: plan.keyring.is_some(),
            keyring_name: plan
                .keyring
                .as_ref()
                .map(|keyring| keyring.name.to_string_lossy().into_owned()),
            ..Record::creating(id, config.spec.version(), &facts.bundle, &plan.rootfs.path)
        }
    }
}

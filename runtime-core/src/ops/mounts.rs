//! Runs in: RUNTIME. `mounts add` and `mounts remove`: mounts for a container that is there already.

use runtime_sys::namespace::Kinds;
use std::ffi::CString;
use std::os::fd::AsFd;

use super::container::{self, CONFIG};
use super::exec::Target;
use super::{Runtime, Status};
use crate::host::cgroup::CgroupManager;
use crate::host::state::{ContainerId, Record};
use crate::parent::mounter::{self, Inside, Removal};
use crate::plan::mounts::MountSource;
use crate::plan::{CallerOptions, ConsoleRequest, HostFacts, Plan, clean_in_container};
use crate::{Error, ErrorKind, Result, spec};

impl Runtime {
    /// Mounts in a container that has been created and not stopped. `mounts` is a JSON list as at `mounts` in
    /// config.json, and follows its rules; a new procfs cannot be made. Relative sources are below the
    /// bundle. After an error, the mounts before the one that failed stay.
    ///
    /// # Errors
    /// `Invalid` with the field; `WrongStatus`, "container not running"; `Unsupported` for a container
    /// without a mount namespace of its own; `Denied` without CAP_SYS_ADMIN; what the kernel refuses.
    pub fn mounts_add(&self, id: &ContainerId, mounts: &[u8]) -> Result<()> {
        let view = self.store.view(id)?;
        let record = view.record();
        check(record, view.dir())?;
        let mut config = container::saved_config(view.read_file(CONFIG)?)?;
        let (mounts, spellings) = spec::parse_mounts(mounts)?;
        config.spec.set_mounts(Some(mounts));
        spec::validate(&config)?;
        container::warn_of_spellings(&spellings);
        let caller = CallerOptions {
            console: ConsoleRequest::Optional,
            ..CallerOptions::default()
        };
        let mut plan = Plan::new(&config, id.as_str(), &may_mount(record)?, caller)?;
        for mount in &mut plan.mounts {
            // Others see it.
            mount.places_below = false;
        }
        refuse_procfs(&plan)?;
        let target = Target::open(record)?;
        let cgroup = container::cgroup(record)?.unwrap_or(CgroupManager::Disabled);
        mounter::add(&plan, &config.spec, inside(&target)?, &cgroup)
    }

    /// Takes mounts away from a container that has been created and not stopped, the last of the list first.
    /// Of each only the destination counts, which must be a mount point and is found through no symbolic
    /// link. What still uses it keeps it until it is done (MNT_DETACH). After an error, those before it in
    /// the list stay.
    ///
    /// # Errors
    /// As [`Runtime::mounts_add`].
    pub fn mounts_remove(&self, id: &ContainerId, mounts: &[u8]) -> Result<()> {
        let view = self.store.view(id)?;
        let record = view.record();
        check(record, view.dir())?;
        let (mounts, spellings) = spec::parse_mounts(mounts)?;
        container::warn_of_spellings(&spellings);
        let removals = mounts.iter().enumerate().rev();
        let removals: Vec<_> = removals
            .map(|(index, mount)| removal(index, mount.destination()))
            .collect::<Result<_>>()?;
        may_mount(record)?;
        let target = Target::open(record)?;
        mounter::remove(&removals, inside(&target)?)
    }
}

fn check(record: &Record, dir: std::os::fd::BorrowedFd<'_>) -> Result<()> {
    match container::status(record, dir)? {
        Status::Created | Status::Running | Status::Paused => Ok(()),
        Status::Stopped | Status::Creating => {
            Err(Error::new(ErrorKind::WrongStatus, "container not running"))
        }
    }
}

fn may_mount(record: &Record) -> Result<HostFacts> {
    let facts = container::facts_of(record)?;
    match facts.may_mount {
        true => Ok(facts),
        false => Err(Error::new(
            ErrorKind::Denied,
            "the mounts of a running container can only be changed with CAP_SYS_ADMIN",
        )),
    }
}

/// It shows the pid namespace of whoever makes it, and in that of the container nobody of ours is.
fn refuse_procfs(plan: &Plan) -> Result<()> {
    let is_procfs =
        |source: &MountSource| matches!(source, MountSource::New(new) if new.fstype.as_bytes() == b"proc");
    match plan.mounts.iter().find(|mount| is_procfs(&mount.source)) {
        Some(mount) => Err(Error::new(
            ErrorKind::Unsupported,
            "a procfs cannot be added to a running container",
        )
        .with_field(format!("mounts[{}].type", mount.index))),
        None => Ok(()),
    }
}

fn inside(target: &Target) -> Result<Inside<'_>> {
    if !target.kinds.has(Kinds::MOUNT) {
        let message = "the container has no mount namespace of its own";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(Inside {
        pid: target.pid,
        pidfd: target.process.as_fd(),
        kinds: target.kinds,
        root: target.root.args(),
    })
}

fn removal(index: usize, destination: &std::path::Path) -> Result<Removal> {
    let field = format!("mounts[{index}].destination");
    let number = u16::try_from(index).map_err(|_| Error::invalid("mounts", "too long"))?;
    let clean = clean_in_container(destination, field.clone())?.into_bytes();
    if clean.is_empty() {
        let message = format!(
            "{:?} is the root of the container",
            destination.display().to_string()
        );
        return Err(Error::invalid(field, message));
    }
    let mut parts = clean.rsplitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    let directory = parts.next().unwrap_or(b".");
    let text =
        |bytes: &[u8]| CString::new(bytes).map_err(|_| Error::invalid(field.clone(), "holds a NUL byte"));
    Ok(Removal {
        index: number,
        directory: text(directory)?,
        name: text(name)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_directory_and_a_name() {
        for (path, directory, name) in [
            ("/a", c".", c"a"),
            ("a/b/", c"a", c"b"),
            ("/a//b/../c", c"a", c"c"),
            ("/../../a/b/c", c"a/b", c"c"),
        ] {
            let removal = removal(7, path.as_ref()).unwrap();
            assert_eq!(
                (removal.index, &*removal.directory, &*removal.name),
                (7, directory, name)
            );
        }
    }

    #[test]
    fn the_root_is_no_mount_to_take_away() {
        for path in ["/", "", "a/.."] {
            let error = removal(0, path.as_ref()).unwrap_err().to_string();
            assert!(error.starts_with("mounts[0].destination: "), "{error}");
        }
    }
}

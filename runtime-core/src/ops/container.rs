//! Runs in: RUNTIME. What several operations ask of a container that is there: its cgroup, its process, its
//! status.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::error::ErrorResult;
use crate::host::cgroup::{Cgroup, CgroupLocation, CgroupManager, Identity, Manager, Marked, UnitReference};
use crate::host::process as host_process;
use crate::host::socket::start_socket;
use crate::host::state::{CgroupRecord, Phase, Record, Slot};
use crate::plan::HostFacts;
use crate::plan::cgroup::CgroupDriver;
use crate::spec::{Config, OtherSpelling};
use crate::{Error, ErrorKind, Result};

/// The saved copy of config.json, in the state directory: the bundle may have changed since.
pub(super) const CONFIG: &str = "config.json";

/// `linux.resources` as it is after an `update`, without devices. Until then it is that of the saved
/// config.json.
pub(super) const RESOURCES: &str = "resources.json";

/// How long a cgroup may take to become empty once its processes have been killed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What a container is doing (runtime.md, State, and runc's `paused`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// `create` was killed at work. In lists also: is at work.
    Creating,
    /// Set up, and waiting for `start`.
    Created,
    /// The program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The directory of the container's monitoring group in resctrl, if it has one.
pub(super) fn monitoring_group(record: &Record) -> Option<PathBuf> {
    let group = record.resctrl.as_ref().filter(|group| group.monitoring)?;
    Some(group.path.join("mon_groups").join(&record.id))
}

/// The cgroup's entry in a record.
pub(super) fn cgroup_record(driver: CgroupDriver, location: &CgroupLocation) -> CgroupRecord {
    let driver = match driver {
        CgroupDriver::Fs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
        CgroupDriver::Disabled => "disabled",
    };
    let unit = location.unit();
    CgroupRecord {
        driver: driver.to_owned(),
        path: location.path().to_owned(),
        unit: unit.map(|unit| unit.name().to_owned()),
        of_user: unit.is_some_and(|unit| unit.manager() == Manager::User),
        inode: Some(NOT_YET),
    }
}

/// Writes down which cgroup is the container's, now that it is there.
pub(super) fn record_identity(record: &mut Record, manager: &CgroupManager) -> Result<()> {
    if let Some(cgroup) = &mut record.cgroup {
        cgroup.inode = manager.inode()?;
    }
    Ok(())
}

/// No file has this inode number.
const NOT_YET: u64 = 0;

fn identity(record: &Record, cgroup: &CgroupRecord) -> Identity {
    match cgroup.inode {
        None => Identity::PathOnly,
        Some(NOT_YET) => Identity::Marked(record.mark()),
        Some(inode) => Identity::Inode(inode),
    }
}

/// What the container's cgroup is marked with: by the place the mark is found even if the record is damaged.
pub(super) fn mark(slot: &Slot) -> Result<String> {
    Ok(format!("{}, in {}", slot.record().mark(), slot.place()?))
}

/// Whether a cgroup that was found is the one that the record means.
pub(super) fn is_cgroup_of(record: &Record, marked: &Marked) -> bool {
    let Some(cgroup) = &record.cgroup else {
        return false;
    };
    // The container's may be below its unit's, which is marked.
    let is_named = cgroup.path.starts_with(&marked.path);
    is_named
        && match identity(record, cgroup) {
            Identity::PathOnly => true,
            Identity::Marked(mark) => marked.mark.text.starts_with(&mark),
            Identity::Inode(inode) => inode == marked.inode,
        }
}

/// The container's cgroup, by the driver that made it. `None` if it is gone, also if another one is at its
/// path.
pub(super) fn cgroup(record: &Record) -> Result<Option<CgroupManager>> {
    let Some(cgroup) = &record.cgroup else {
        return Ok(Some(CgroupManager::Disabled));
    };
    let driver = match (cgroup.driver.as_str(), &cgroup.unit) {
        ("cgroupfs", _) => CgroupDriver::Fs,
        ("systemd", Some(unit)) => return open_unit(record, unit, cgroup).map(Some),
        ("systemd", None) => CgroupDriver::Systemd,
        ("disabled", _) => CgroupDriver::Disabled,
        (other, _) => {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("unknown cgroup driver {other:?} in the state"),
            ));
        }
    };
    CgroupManager::open(driver, Some(&cgroup.path), &identity(record, cgroup))
}

fn open_unit(record: &Record, unit: &str, cgroup: &CgroupRecord) -> Result<CgroupManager> {
    let reference = UnitReference {
        name: unit.to_owned(),
        manager: if cgroup.of_user {
            Manager::User
        } else {
            Manager::System
        },
        is_uncertain: record.phase == Phase::Creating,
    };
    CgroupManager::open_unit(&reference, &cgroup.path, &identity(record, cgroup))
}

/// The container's cgroup; an error for one that has none of its own, or no longer.
pub(super) fn own_cgroup(record: &Record) -> Result<CgroupManager> {
    match cgroup(record)? {
        Some(manager) if manager.cgroup().is_some() => Ok(manager),
        _ => Err(no_cgroup(record)),
    }
}

/// Why there is no cgroup to work on.
pub(super) fn no_cgroup(record: &Record) -> Error {
    let Some(cgroup) = &record.cgroup else {
        let message = "the container has no cgroup of its own";
        return Error::new(ErrorKind::Unsupported, message).with_hint(
            "made by a user without rights over cgroups, or with the cgroup manager \"disabled\"",
        );
    };
    let error = Error::new(ErrorKind::NotFound, "cgroup not exist").with_path(&cgroup.path);
    match Cgroup::open(&cgroup.path) {
        Ok(Some(_)) => error.with_hint("the cgroup that is there now is not the container's"),
        _ => error, // only a hint less
    }
}

/// What a container is doing, asked of the kernel. `dir` is its state directory.
pub(super) fn status(record: &Record, dir: std::os::fd::BorrowedFd<'_>) -> Result<Status> {
    let is_running = record.pid > 0 && host_process::is_running(record.pid, record.start_time)?;
    if record.phase == Phase::Creating && !is_running {
        return Ok(Status::Creating);
    }
    if !is_running {
        return Ok(Status::Stopped);
    }
    if is_frozen(record)? {
        return Ok(Status::Paused);
    }
    if start_socket::exists(dir)? {
        Ok(Status::Created)
    } else {
        Ok(Status::Running)
    }
}

fn is_frozen(record: &Record) -> Result<bool> {
    match cgroup(record)? {
        Some(manager) => manager.cgroup().map_or(Ok(false), |cgroup| cgroup.is_frozen()),
        None => Ok(false),
    }
}

/// Names of capabilities that are not known are left out (config.md, `capabilities`).
pub(super) fn warn_of_capabilities(unknown: &[String]) {
    for name in unknown {
        log::warn!("process.capabilities: unknown capability {name:?}, left out (a spelling mistake?)");
    }
}

/// What counts is said once, by whom the document was given to.
pub(super) fn warn_of_spellings(spellings: &[OtherSpelling]) {
    for spelling in spellings {
        log::warn!("{spelling}");
    }
}

/// config.json as it was at `create`.
pub(super) fn saved_config(json: Vec<u8>) -> Result<Config> {
    crate::spec::parse(json).doing("read the saved config.json")
}

/// Facts for planning again what was planned at `create`: to explain, or to join.
pub(super) fn facts_of(record: &Record) -> Result<HostFacts> {
    HostFacts::of_host(record.bundle.clone())
}

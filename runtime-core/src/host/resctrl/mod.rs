//! Runs in: RUNTIME. Groups of the resctrl file system, by which a CPU shares out cache and memory bandwidth
//! (kernel documentation, filesystems/resctrl). Makes and removes directories, and writes `schemata` and
//! `tasks` in them; what the lines mean is the kernel's business.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use crate::error::{CallResult, ErrorResult};
use crate::host::mount::mountinfo;
use crate::plan::intel_rdt::{IntelRdtPlan, ResctrlGroup};
use crate::{Errno, Error, ErrorKind, Result};

const FIELD: &str = "linux.intelRdt";
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// A mounted resctrl.
#[derive(Debug)]
pub(crate) struct Resctrl(PathBuf);

impl Resctrl {
    /// Finds the mount in RUNTIME's mount namespace.
    ///
    /// # Errors
    /// `Unsupported` if there is none: the CPU cannot do it, or nobody has mounted it.
    pub(crate) fn find() -> Result<Self> {
        let table = fs::read(MOUNTINFO).call("read").path(MOUNTINFO)?;
        match mountinfo::mount_point(&table, b"resctrl") {
            Some(path) => Ok(Self::at(path)),
            None => Err(Error::invalid(FIELD, "no resctrl file system is mounted")
                .with_kind(ErrorKind::Unsupported)
                .with_hint("mount -t resctrl resctrl /sys/fs/resctrl, on a CPU that has it")),
        }
    }

    /// One whose place is known.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The group that a container is to be in. Looks, and changes nothing.
    ///
    /// # Errors
    /// A group that must be there and is not; one that must not be there and is; one whose schemata differ
    /// from those that are asked for.
    pub(crate) fn group(&self, plan: &IntelRdtPlan, id: &str) -> Result<Group> {
        let path = match &plan.group {
            ResctrlGroup::Root => self.0.clone(),
            ResctrlGroup::Named(name) | ResctrlGroup::Own(name) => self.0.join(name),
        };
        let exists = match fs::metadata(&path) {
            Ok(_) => true,
            Err(error) if error.kind() == Io::NotFound => false,
            Err(error) => return Err(Error::os("stat", error).with_field(FIELD).with_path(&path)),
        };
        let refuse = |message| Err(Error::invalid("linux.intelRdt.closID", message).with_path(&path));
        match &plan.group {
            ResctrlGroup::Own(_) if exists => {
                return refuse("there is a group of the container's name already");
            }
            ResctrlGroup::Named(_) if !exists && plan.writes.is_empty() => {
                return refuse("there is no such group, and no schemata to make one with");
            }
            _ => {}
        }
        if exists && !plan.writes.is_empty() {
            compare(&path, &plan.writes)?;
        }
        Ok(Group {
            monitoring: plan.monitoring.then(|| path.join("mon_groups").join(id)),
            is_new: !exists,
            path,
            to_undo: Vec::new(),
        })
    }
}

/// The group of a container. What was made for it is removed when this is dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its directory.
    pub path: PathBuf,
    /// Whether it is made for the container, and removed with it.
    pub is_new: bool,
    /// The directory of the monitoring group, which always is.
    pub monitoring: Option<PathBuf>,
    to_undo: Vec<PathBuf>,
}

impl Group {
    /// Makes what is missing, and writes the schemata of a new group.
    ///
    /// # Errors
    /// What the kernel does not take: its reason is in `info/last_cmd_status`.
    pub(crate) fn make(&mut self, plan: &IntelRdtPlan) -> Result<()> {
        if self.is_new {
            make_directory(&self.path)?;
            self.to_undo.push(self.path.clone());
            for text in &plan.writes {
                write_schemata(&self.path, text)?;
            }
        }
        if let Some(path) = &self.monitoring {
            make_directory(path)?;
            self.to_undo.push(path.clone());
        }
        Ok(())
    }

    /// Puts a process into the group, and all that it starts.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn add(&self, pid: i32) -> Result<()> {
        add(&self.path, self.monitoring.as_deref(), pid)
    }

    /// The container is there: what was made stays until it is deleted.
    pub(crate) fn keep(&mut self) {
        self.to_undo.clear();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in self.to_undo.iter().rev() {
            // The error that has led here is the one to tell; an empty group does no harm.
            let _left_behind = fs::remove_dir(path);
        }
    }
}

/// Changes what a group that is there may use. What `text` does not name stays.
///
/// # Errors
/// What the kernel does not take: its reason is in `info/last_cmd_status`.
pub(crate) fn write_schemata(group: &Path, text: &str) -> Result<()> {
    let file = group.join("schemata");
    fs::write(&file, text).map_err(|error| {
        let shown = text.trim_end().escape_default().to_string();
        let error = Error::os("write", error).with_field(FIELD).with_path(&file);
        error
            .doing(format!("write the schemata {shown}"))
            .with_hint(last_status(group))
    })
}

/// Puts a process into a group that is there.
///
/// # Errors
/// What the kernel says.
pub(crate) fn add(group: &Path, monitoring: Option<&Path>, pid: i32) -> Result<()> {
    for directory in [Some(group), monitoring].into_iter().flatten() {
        let file = directory.join("tasks");
        fs::write(&file, pid.to_string())
            .call("write")
            .field(FIELD)
            .path(&file)?;
    }
    Ok(())
}

/// Removes what was made for a container. The kernel moves processes that are left to the root group.
///
/// # Errors
/// What the kernel says; a directory that is gone is none.
pub(crate) fn remove(group: Option<&Path>, monitoring: Option<&Path>) -> Result<()> {
    let mut errors = Vec::new();
    for path in [monitoring, group].into_iter().flatten() {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != Io::NotFound => {
                errors.push(Error::os("rmdir", error).with_field(FIELD).with_path(path));
            }
            _ => {}
        }
    }
    Error::join(errors)
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir(path).map_err(|error| {
        let error = Error::os("mkdir", error).with_field(FIELD).with_path(path);
        match error.errno() {
            Some(Errno::NOSPC) => {
                error.with_hint("the CPU has no more classes of service, or monitoring ids")
            }
            _ => error,
        }
    })
}

/// Why the kernel refused the last command (`info/last_cmd_status` of the whole file system).
fn last_status(group: &Path) -> String {
    let places = [group.parent(), Some(group)].into_iter().flatten();
    let read = |place: &Path| fs::read_to_string(place.join("info/last_cmd_status")).ok();
    let text = places.filter_map(read).next().unwrap_or_default();
    match text.trim() {
        "" => "does this CPU have the resource?".to_owned(),
        text => text.to_owned(),
    }
}

/// A group that is there must have what is asked for: others are in it.
fn compare(group: &Path, writes: &[String]) -> Result<()> {
    let file = group.join("schemata");
    let text = fs::read_to_string(&file).call("read").path(&file)?;
    let present = values(&text);
    // Later writes have the last word, as they would if they were made.
    let wanted = writes.iter().fold(BTreeMap::new(), |mut all, text| {
        all.extend(values(text));
        all
    });
    let differs = |(key, value): &(&(&str, &str), &&str)| {
        present
            .get(*key)
            .is_none_or(|present| !is_same_value(present, value))
    };
    match wanted.iter().find(differs) {
        None => Ok(()),
        Some(((resource, domain), value)) => {
            let message = format!("the group exists, and has not {resource}:{domain}={value}");
            Err(Error::invalid(FIELD, message).with_path(&file))
        }
    }
}

/// Resource and domain to value, of lines such as `L3:0=7f0;1=1f`.
fn values(text: &str) -> BTreeMap<(&str, &str), &str> {
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let Some((resource, domains)) = line.split_once(':') else {
            continue;
        };
        for (domain, value) in domains.split(';').filter_map(|part| part.split_once('=')) {
            values.insert((resource.trim(), domain.trim()), value.trim());
        }
    }
    values
}

/// Bit masks are shown with leading zeros, and in small letters.
fn is_same_value(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.trim_start_matches('0').to_ascii_lowercase();
    plain(a) == plain(b)
}

//! Runs in: RUNTIME. Writes the limits of a `ResourcePlan` into a cgroup and explains what the host cannot
//! do. Which values to write is decided in `plan/cgroup/resources.rs`.

use std::path::Path;

use super::directory::Cgroup;
use super::files::{has_word, read_file, write_file};
use super::root::CgroupRoot;
use crate::plan::cgroup::{CgroupWrite, IDLE_HAS_NO_WEIGHT, IfMissing};
use crate::{Errno, Error, ErrorKind, Result};

/// Writes all values, in order. A value that the kernel calls invalid is tried again after the next one of
/// the same controller, since some bound each other (`cpu.max.burst` may not exceed the quota in `cpu.max`).
pub(super) fn apply(cgroup: &Cgroup, writes: &[CgroupWrite]) -> Result<()> {
    let mut refused: Option<&CgroupWrite> = None;
    for write in writes {
        match write_one(cgroup, write) {
            Ok(()) => {}
            Err(Errno::INVAL) if refused.is_none() => {
                refused = Some(write);
                continue;
            }
            Err(errno) => return Err(explain(cgroup, write, errno)),
        }
        if let Some(earlier) = refused.filter(|earlier| earlier.controller() == write.controller())
            && write_one(cgroup, earlier).is_ok()
        {
            refused = None;
        }
    }
    match refused {
        None => Ok(()),
        Some(write) => write_one(cgroup, write).map_err(|errno| explain(cgroup, write, errno)),
    }
}

/// Refuses limits that the processes of the cgroup are over already.
pub(super) fn check_usage(cgroup: &Cgroup, above_usage: &[(&'static str, i64)]) -> Result<()> {
    if above_usage.is_empty() {
        return Ok(());
    }
    let path = cgroup.path().join("memory.current");
    let text = match read_file(cgroup.dir(), "memory.current") {
        Ok(text) => text,
        Err(Errno::NOENT) => return Ok(()), // nothing is accounted; that the limit cannot be set is told when it is
        Err(errno) => return Err(Error::os("read", errno).with_path(path)),
    };
    let usage = std::str::from_utf8(text.trim_ascii())
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    let usage = usage.ok_or_else(|| Error::new(ErrorKind::Internal, "not a number").with_path(path))?;
    match above_usage.iter().find(|(_, limit)| *limit <= usage) {
        None => Ok(()),
        Some((field, limit)) => {
            let what = if field.ends_with(".swap") {
                "memory+swap"
            } else {
                "memory"
            };
            let message = format!("rejecting {what} limit {limit} <= usage {usage}");
            Err(Error::new(ErrorKind::Invalid, message).with_field(*field))
        }
    }
}

/// What the files of a cgroup held before an update, to put it back.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<Held>);

#[derive(Debug)]
struct Held {
    file: String,
    line: String,
    /// What has the same effect, where the kernel does not take `line`.
    instead: Option<String>,
}

impl Before {
    /// Reads what `writes` would change. A file that is not there, or cannot be read, cannot be put back
    /// either: then the write itself fails, or did so already.
    pub(super) fn read(cgroup: &Cgroup, writes: &[CgroupWrite]) -> Self {
        let mut held = Vec::new();
        for write in writes {
            let mut files = vec![(&*write.file, &*write.value)];
            if let IfMissing::Write(file, value) = &write.if_missing {
                files.push((file, value));
            }
            // systemd has one property for both.
            if write.file == "cpu.idle" {
                files.push(("cpu.weight", "100"));
            }
            for (file, value) in files {
                held.extend(held_by(cgroup, file, value));
            }
        }
        Self(held)
    }

    /// The same as writes, for systemd.
    pub(super) fn writes(&self) -> Vec<CgroupWrite> {
        let write = |held: &Held| CgroupWrite {
            file: held.file.clone().into(),
            value: held.line.clone(),
            field: "linux.resources, as it was".into(),
            if_missing: IfMissing::Skip,
        };
        self.0.iter().map(write).collect()
    }

    /// Puts it back, all that can be, the last first. Returns `failure`, with what went wrong here after it.
    pub(super) fn restore(&self, cgroup: &Cgroup, failure: Error) -> Error {
        // Twice, since some values bound each other (`cpu.max.burst` and `cpu.max`): what is refused before
        // the other is back is taken after.
        let mut left: Vec<&Held> = self.0.iter().rev().collect();
        let mut errors = Vec::new();
        for _ in 0..2 {
            errors.clear();
            left.retain(|held| match held.put_back(cgroup) {
                Ok(()) => false,
                Err(errno) => {
                    errors.push(Error::os("write", errno).with_path(cgroup.path().join(&held.file)));
                    true
                }
            });
        }
        errors.into_iter().fold(failure, Error::and)
    }
}

impl Held {
    fn put_back(&self, cgroup: &Cgroup) -> rustix::io::Result<()> {
        let write = |line: &str| write_file(cgroup.dir(), &*self.file, line.as_bytes());
        match (write(&self.line), &self.instead) {
            // A cpuset with processes cannot be emptied again (kernel, validate_change in cpuset.c).
            (Err(Errno::NOSPC), Some(instead)) => write(instead),
            (result, _) => result,
        }
    }
}

/// What a file holds; `None` if it is not there or cannot be read.
pub(super) fn held(cgroup: &Cgroup, file: &str) -> Option<String> {
    let text = read_file(cgroup.dir(), file).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn sets_weight(file: &str) -> bool {
    matches!(file, "cpu.weight" | "cpu.weight.nice")
}

/// The weight of an idle group follows from that; the kernel takes no other.
fn is_idle(cgroup: &Cgroup) -> bool {
    held(cgroup, "cpu.idle").is_some_and(|text| text.trim_end() == "1")
}

/// What takes back that `value` is written into `file`.
fn held_by(cgroup: &Cgroup, file: &str, value: &str) -> Vec<Held> {
    let read = |file: &str| held(cgroup, file);
    let Some(text) = read(file) else {
        return Vec::new();
    };
    if sets_weight(file) && is_idle(cgroup) {
        return Vec::new();
    }
    let instead = match file {
        "cpuset.cpus" | "cpuset.mems" if text.trim_end().is_empty() => read(&format!("{file}.effective")),
        _ => None,
    };
    undoing(file, value, &text)
        .map(|line| Held {
            file: file.to_owned(),
            line,
            instead: instead.clone(),
        })
        .collect()
}

/// The lines to write into `file` to take back that `value` was written, given the text that it held before.
fn undoing<'a>(file: &str, value: &'a str, before: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let keyed = match file {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "io.weight" | "io.bfq.weight" => Some("default"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        _ => None,
    };
    value.lines().filter_map(move |line| {
        let Some(unset) = keyed else {
            // An empty list, as of cpuset.cpus, is taken back by an empty line.
            return Some(format!("{}\n", before.trim_end()));
        };
        // A weight without a device is that of all others; the file has it under `default`.
        let key = line.split_once(' ').map_or("default", |(key, _)| key);
        let old = before.lines().find(|old| old.split(' ').next() == Some(key));
        match old {
            Some(old) => Some(old.to_owned()),
            None if key == "default" => None,
            None => Some(format!("{key} {unset}")),
        }
    })
}

fn write_one(cgroup: &Cgroup, write: &CgroupWrite) -> rustix::io::Result<()> {
    for line in write.value.lines() {
        match (
            write_file(cgroup.dir(), &*write.file, line.as_bytes()),
            &write.if_missing,
        ) {
            (Err(Errno::NOENT), IfMissing::Skip) => return Ok(()),
            (Err(Errno::NOENT), IfMissing::Write(file, value)) => {
                return write_file(cgroup.dir(), *file, value.as_bytes());
            }
            (result, _) => result?,
        }
    }
    Ok(())
}

fn explain(cgroup: &Cgroup, write: &CgroupWrite, errno: Errno) -> Error {
    let error = match errno {
        Errno::NOENT => missing(cgroup, write),
        Errno::INVAL if sets_weight(&write.file) && is_idle(cgroup) => {
            Error::invalid(write.field.clone(), IDLE_HAS_NO_WEIGHT)
                .with_hint("cpu.idle 0, given with it, ends that")
        }
        _ => Error::os("write", errno)
            .with_path(cgroup.path().join(&*write.file))
            .with_hint(format!("the value was {:?}", write.value)),
    };
    error
        .with_field(write.field.clone())
        .doing("set a limit of the cgroup")
}

/// Why a file of a controller is not there, and what to do about it.
fn missing(cgroup: &Cgroup, write: &CgroupWrite) -> Error {
    let controller = write.controller();
    let enabled = read_file(cgroup.dir(), "cgroup.controllers").is_ok_and(|list| has_word(&list, controller));
    if enabled || controller == "cgroup" {
        let message = format!("this kernel has no {}", write.file);
        return Error::new(ErrorKind::Unsupported, message).with_path(cgroup.path());
    }
    let message = if write.field.starts_with("linux.resources.unified") {
        format!(
            "unified resource {:?} can't be set: controller {controller:?} not available",
            write.file
        )
    } else {
        format!("controller {controller:?} not available")
    };
    let at_root = CgroupRoot::find().is_ok_and(|root| {
        read_file(root.dir(), "cgroup.controllers").is_ok_and(|list| has_word(&list, controller))
    });
    let hint = if at_root {
        "a cgroup above it does not hand the controller down in cgroup.subtree_control".to_owned()
    } else if bound_to_version_1(controller) {
        format!(
            "{controller} is bound to cgroup version 1 on this host; boot with systemd.unified_cgroup_hierarchy=1, \
             or leave the field out"
        )
    } else {
        format!("the kernel, or the cgroup namespace, has no controller {controller}; leave the field out")
    };
    Error::new(ErrorKind::Unsupported, message)
        .with_path(cgroup.path())
        .with_hint(hint)
}

fn bound_to_version_1(controller: &str) -> bool {
    let name = if controller == "io" { "blkio" } else { controller };
    // A line is ID:CONTROLLERS:PATH; that of version 2 lists none. Unreadable means only a less exact hint.
    std::fs::read_to_string(Path::new("/proc/self/cgroup")).is_ok_and(|text| {
        text.lines()
            .filter_map(|line| line.split(':').nth(1))
            .any(|list| list.split(',').any(|word| word == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undone(file: &str, value: &str, before: &str) -> Vec<String> {
        undoing(file, value, before).collect()
    }

    #[test]
    fn what_is_written_can_be_taken_back() {
        assert_eq!(undone("memory.max", "5", "max\n"), ["max\n"]);
        assert_eq!(undone("cpu.max", "5 9", "max 100000\n"), ["max 100000\n"]);
        assert_eq!(undone("cpuset.cpus", "0", "\n"), ["\n"]);
        let io = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n";
        assert_eq!(
            undone("io.max", "8:16 rbps=5\n8:32 riops=1", io),
            [
                "8:16 rbps=2 wbps=max riops=max wiops=max",
                "8:32 rbps=max wbps=max riops=max wiops=max"
            ]
        );
        assert_eq!(
            undone("io.weight", "700", "default 100\n8:0 50\n"),
            ["default 100"]
        );
        assert_eq!(
            undone("io.weight", "8:0 700", "default 100\n8:0 50\n"),
            ["8:0 50"]
        );
        assert_eq!(undone("io.weight", "8:0 700", "default 100\n"), ["8:0 default"]);
        assert_eq!(
            undone("rdma.max", "a hca_handle=5", ""),
            ["a hca_handle=max hca_object=max"]
        );
    }
}

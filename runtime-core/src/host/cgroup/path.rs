//! Runs in: RUNTIME. Where in the cgroup2 tree a container's cgroup is: `linux.cgroupsPath`, and the cgroup that a
//! process is in. Creates nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::process::Pid;

use super::directory::read_file;
use super::systemd::UnitPlan;
use crate::spec::paths::clean;
use crate::{Error, ErrorKind, Result};

const FIELD: &str = "linux.cgroupsPath";

/// The place of a container's cgroup, before the host is looked at. The paths are relative and free of `.` and `..`.
#[derive(Debug, Clone, PartialEq)]
pub enum CgroupPath {
    /// Below the root of the cgroup2 tree: an absolute `linux.cgroupsPath`.
    BelowRoot(PathBuf),
    /// Beside the cgroup of the runtime itself, as runc places it: the runtime's own cgroup has processes in it, so
    /// it could not hand controllers down to a cgroup below it.
    BesideRuntime(PathBuf),
    /// Where systemd puts this unit.
    Unit(Box<UnitPlan>),
}

impl CgroupPath {
    /// Reads `linux.cgroupsPath`. Absent or empty means the container's id, beside the runtime's cgroup. A `..` leads
    /// at most back to the beginning of the given path, never above it.
    ///
    /// # Errors
    /// A path that names no cgroup below the root, or one with a NUL or newline in it (the kernel's lists of cgroups
    /// are lines of text).
    pub fn new(cgroups_path: Option<&Path>, container_id: &str) -> Result<Self> {
        match cgroups_path {
            Some(path) if path.has_root() => Ok(Self::BelowRoot(named(path)?)),
            Some(path) if !path.as_os_str().is_empty() => Ok(Self::BesideRuntime(named(path)?)),
            _ => Ok(Self::BesideRuntime(named(Path::new(container_id))?)),
        }
    }

    /// The path relative to the cgroup2 root. Reads `/proc/self/cgroup` where the answer depends on it.
    pub(super) fn below_root(&self) -> Result<PathBuf> {
        match self {
            Self::BelowRoot(path) => Ok(path.clone()),
            Self::BesideRuntime(path) => {
                let mut place = of_process(None)?;
                place.pop();
                place.push(path);
                Ok(place)
            }
            Self::Unit(_) => Err(Error::new(
                ErrorKind::Internal,
                "only systemd knows where a unit's cgroup is",
            )),
        }
    }
}

fn named(path: &Path) -> Result<PathBuf> {
    let clean = contained(path).map_err(|error| error.field(FIELD))?;
    if clean.as_os_str().is_empty() {
        return Err(Error::invalid(FIELD, "must name a cgroup below the root of the tree").path(path));
    }
    Ok(clean)
}

/// The path without its leading `/`, with `.` and `..` taken away, the latter never leading out of it.
pub(super) fn contained(path: &Path) -> Result<PathBuf> {
    if path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| matches!(byte, 0 | b'\n'))
    {
        let message = "a cgroup's name cannot hold a NUL or a newline";
        return Err(Error::new(ErrorKind::Invalid, message).path(path));
    }
    Ok(OsString::from_vec(clean(path)).into())
}

/// Whether a `..` in the path leads out of where the path begins.
pub(super) fn leaves(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().any(|component| {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
        false
    })
}

/// The cgroup of a process, relative to the cgroup2 root; of the calling process without a pid.
///
/// # Errors
/// No such process; a kernel without a cgroup2 tree; a process outside of the runtime's cgroup namespace.
pub(super) fn of_process(pid: Option<Pid>) -> Result<PathBuf> {
    let file = match pid {
        // Not /proc/thread-self: the threads of a process are in one cgroup, unless it uses threaded cgroups itself.
        None => "/proc/self/cgroup".to_owned(),
        Some(pid) => format!("/proc/{}/cgroup", pid.as_raw_nonzero()),
    };
    let failed = |error: Error| error.path(&file).doing("find the cgroup of a process");
    let text = read_file(CWD, &file).map_err(|errno| failed(Error::os("read", errno)))?;
    let Some(path) = cgroup2_line(&text) else {
        let error = Error::new(
            ErrorKind::Unsupported,
            "the kernel has no cgroup2 tree for this process",
        );
        return Err(failed(error));
    };
    // A process outside of the reader's cgroup namespace is shown as "/../…", which no path of ours can reach.
    if path
        .components()
        .any(|component| component == Component::ParentDir)
    {
        let error = Error::new(
            ErrorKind::Unsupported,
            "the process is outside of this cgroup namespace",
        );
        return Err(failed(error.hint("give an absolute linux.cgroupsPath")));
    }
    Ok(path.strip_prefix("/").unwrap_or(path).to_owned())
}

/// The path on the line `0::PATH` of a cgroup file of procfs (cgroups(7)).
pub(crate) fn cgroup2_line(text: &[u8]) -> Option<&Path> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .map(|path| Path::new(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(path: &str) -> CgroupPath {
        CgroupPath::BelowRoot(path.into())
    }

    fn beside(path: &str) -> CgroupPath {
        CgroupPath::BesideRuntime(path.into())
    }

    #[test]
    fn cgroups_path_is_absolute_relative_or_absent() {
        for (given, expected) in [
            (Some("/docker/abc"), below("docker/abc")),
            (Some("//docker///abc/"), below("docker/abc")),
            (Some("pod/abc"), beside("pod/abc")),
            (Some("./pod/./abc"), beside("pod/abc")),
            (Some("system.slice:docker:abc"), beside("system.slice:docker:abc")),
            (Some(""), beside("c1")),
            (None, beside("c1")),
        ] {
            assert_eq!(
                CgroupPath::new(given.map(Path::new), "c1").unwrap(),
                expected,
                "{given:?}"
            );
        }
    }

    #[test]
    fn parent_components_do_not_escape() {
        for (given, expected) in [
            ("/../../etc/x", below("etc/x")),
            ("/a/../../b", below("b")),
            ("../../x", beside("x")),
            ("a/../../../x", beside("x")),
        ] {
            assert_eq!(
                CgroupPath::new(Some(Path::new(given)), "c1").unwrap(),
                expected,
                "{given:?}"
            );
        }
        for bad in ["/", "..", "/..", "a/..", ".", "/a\nb", "/a\0b"] {
            let error = CgroupPath::new(Some(Path::new(bad)), "c1").unwrap_err();
            assert_eq!(
                (error.kind(), error.spec_field()),
                (ErrorKind::Invalid, Some(FIELD)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_path_leaves_by_one_parent_too_many() {
        for (path, leaves) in [
            ("/", false),
            ("a/../b", false),
            ("/a/b/../..", false),
            ("..", true),
            ("/..", true),
            ("a/../../a", true),
        ] {
            assert_eq!(super::leaves(Path::new(path)), leaves, "{path}");
        }
    }

    #[test]
    fn the_own_cgroup_is_the_line_of_hierarchy_zero() {
        let hybrid = b"9:name=systemd:/x\n1:cpu:/y\n0::/user.slice/session-1.scope\n";
        assert_eq!(
            cgroup2_line(hybrid),
            Some(Path::new("/user.slice/session-1.scope"))
        );
        assert_eq!(cgroup2_line(b"10::/trap\n0::/\n"), Some(Path::new("/")));
        assert_eq!(cgroup2_line(b"1:cpu:/\n"), None);
    }
}

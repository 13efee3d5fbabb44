//! Runs in: RUNTIME. Pure: where in the cgroup2 tree a container's cgroup is, by `linux.cgroupsPath`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::UnitPlan;
use crate::spec::paths::clean;
use crate::{Error, ErrorKind, Result};

const FIELD: &str = "linux.cgroupsPath";

/// The place of a container's cgroup, before the host is looked at. The paths are relative and free of `.`
/// and `..`.
#[derive(Debug, Clone, PartialEq)]
pub enum CgroupPath {
    /// Below the root of the cgroup2 tree: an absolute `linux.cgroupsPath`.
    BelowRoot(PathBuf),
    /// Beside the cgroup of the runtime itself, as runc places it: the runtime's own cgroup has processes in
    /// it, so it could not hand controllers down to a cgroup below it.
    BesideRuntime(PathBuf),
    /// Where systemd puts this unit.
    Unit(Box<UnitPlan>),
}

impl CgroupPath {
    /// Reads `linux.cgroupsPath`. Absent or empty means the container's id, beside the runtime's cgroup. A
    /// `..` leads at most back to the beginning of the given path, never above it.
    ///
    /// # Errors
    /// A path that names no cgroup below the root, or one with a NUL or newline in it (the kernel's lists of
    /// cgroups are lines of text).
    pub fn new(cgroups_path: Option<&Path>, container_id: &str) -> Result<Self> {
        match cgroups_path {
            Some(path) if path.has_root() => Ok(Self::BelowRoot(named(path)?)),
            Some(path) if !path.as_os_str().is_empty() => Ok(Self::BesideRuntime(named(path)?)),
            _ => Ok(Self::BesideRuntime(named(Path::new(container_id))?)),
        }
    }
}

fn named(path: &Path) -> Result<PathBuf> {
    let clean = contained(path).map_err(|error| error.with_field(FIELD))?;
    if clean.as_os_str().is_empty() {
        return Err(Error::invalid(FIELD, "must name a cgroup below the root of the tree").with_path(path));
    }
    Ok(clean)
}

/// The path without its leading `/`, with `.` and `..` taken away, the latter never leading out of it.
pub(crate) fn contained(path: &Path) -> Result<PathBuf> {
    if path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| matches!(byte, 0 | b'\n'))
    {
        let message = "a cgroup's name cannot hold a NUL or a newline";
        return Err(Error::new(ErrorKind::Invalid, message).with_path(path));
    }
    Ok(OsString::from_vec(clean(path)).into())
}

/// Whether a `..` in the path leads out of where the path begins.
pub(crate) fn leaves(path: &Path) -> bool {
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
                (error.kind(), error.field()),
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
}

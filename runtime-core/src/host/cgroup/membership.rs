//! Runs in: RUNTIME. Which cgroup a process is in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::process::Pid;

use super::files::read_file;
use crate::{Error, ErrorKind, Result};

/// The cgroup of a process, relative to the cgroup2 root; of the calling process without a pid.
///
/// # Errors
/// No such process; a kernel without a cgroup2 tree; a process outside of the runtime's cgroup namespace.
pub(super) fn of_process(pid: Option<Pid>) -> Result<PathBuf> {
    let file = match pid {
        // Not /proc/thread-self: the threads of a process are in one cgroup, unless it uses threaded cgroups
        // itself.
        None => "/proc/self/cgroup".to_owned(),
        Some(pid) => format!("/proc/{}/cgroup", pid.as_raw_nonzero()),
    };
    let failed = |error: Error| error.with_path(&file).doing("find the cgroup of a process");
    let text = read_file(CWD, &file).map_err(|errno| failed(Error::os("read", errno)))?;
    let Some(path) = cgroup2_line(&text) else {
        let error = Error::new(
            ErrorKind::Unsupported,
            "the kernel has no cgroup2 tree for this process",
        );
        return Err(failed(error));
    };
    // A process outside of the reader's cgroup namespace is shown as "/../…", which no path of ours can
    // reach.
    if path
        .components()
        .any(|component| component == Component::ParentDir)
    {
        let error = Error::new(
            ErrorKind::Unsupported,
            "the process is outside of this cgroup namespace",
        );
        return Err(failed(error.with_hint("give an absolute linux.cgroupsPath")));
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

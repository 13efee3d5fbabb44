//! Runs in: RUNTIME. newuidmap(1) and newgidmap(1): the set-user-id programs that give an ordinary user the
//! ids which /etc/subuid and /etc/subgid have for them. They check the ranges; this only calls them.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::LinuxIdMapping;
use rustix::process::{Pid, PidfdFlags};

use crate::error::{CallResult, ErrorResult};
use crate::host::process::STATUS_UNKNOWN;
use crate::{Cancel, Error, ErrorKind, Result};

/// Where programs are looked for without a PATH.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How much of what the program says is quoted.
const QUOTED: usize = 400;

/// Has `name` (`newuidmap` or `newgidmap`) write the map of a process that waits in a new user namespace.
///
/// The process is a child that nobody has waited for, so its pid cannot mean another one by now; were it to,
/// the program would refuse a process of another user, and the user's own ids are all that it gives. It gets
/// numbers for arguments, no environment, and of descriptors only those that the caller left open for
/// everybody.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where it is not installed; [`ErrorKind::Denied`] with what it said.
pub(crate) fn run(name: &'static str, pid: Pid, ranges: &[LinuxIdMapping], cancel: &Cancel) -> Result<()> {
    let program = find(name, std::env::var_os("PATH").as_deref()).ok_or_else(|| missing(name))?;
    let mut command = Command::new(&program);
    command.arg(pid.as_raw_nonzero().to_string());
    for range in ranges {
        command.args([range.container_id(), range.host_id(), range.size()].map(|number| number.to_string()));
    }
    let mut child = command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .call("execve")
        .path(&program)?;
    if let Err(error) = wait_for_end(&child, cancel) {
        // It has changed to root, but the kernel lets its real user end it (kill(2)).
        let killed = child.kill().and_then(|()| child.wait());
        return Err(match killed {
            Ok(_status) => error,
            Err(second) => error.and(Error::os("kill", second).with_path(&program)),
        });
    }
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut said).call("read").path(&program)?;
    }
    let status = match child.wait() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        // Who has nothing to say has succeeded; otherwise the process has no ids, and says so.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) && said.is_empty() => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => STATUS_UNKNOWN.to_owned(),
        Err(error) => return Err(Error::os("waitid", error).with_path(&program)),
    };
    let said = String::from_utf8_lossy(&said);
    let said: String = said.trim().chars().take(QUOTED).collect();
    Err(Error::new(
        ErrorKind::Denied,
        format!("{name}: {status}: {}", said.escape_default()),
    )
    .with_hint(hint(name, &said)))
}

/// Without a wish to end it, the waiting is left to reading what it says.
fn wait_for_end(child: &Child, cancel: &Cancel) -> Result<()> {
    if !cancel.may_come() {
        return Ok(());
    }
    let pidfd =
        rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()).call("pidfd_open")?;
    cancel.wait_readable(pidfd.as_fd())
}

/// Absolute places only: a PATH with "." in it must not let a directory choose the program.
fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let path = path
        .filter(|path| !path.is_empty())
        .unwrap_or(OsStr::new(USUAL_PATH));
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn missing(name: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{name} is not in PATH")).with_hint(
        "mapping other ids than the caller's own takes newuidmap and newgidmap: install them (Debian: uidmap; \
         elsewhere shadow-utils), or map only one id, the caller's own",
    )
}

fn hint(name: &str, said: &str) -> String {
    let (file, flag) = match name {
        "newuidmap" => ("/etc/subuid", "--add-subuids"),
        _ => ("/etc/subgid", "--add-subgids"),
    };
    if said.contains("not allowed") {
        return format!(
            "the user has not all of these ids: see {file}, and add a range with: usermod {flag} 100000-165535 USER"
        );
    }
    format!("see {file}; the program must be set-user-id root, or have the capability for it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_in_absolute_places_are_taken() {
        assert_eq!(find("sh", Some(OsStr::new("bin:.::../bin"))), None);
        assert_eq!(
            find("sh", Some(OsStr::new("bin:/nonexistent:/bin"))),
            Some(PathBuf::from("/bin/sh"))
        );
        assert_eq!(find("passwd", Some(OsStr::new("/etc"))), None, "not executable");
        assert!(find("sh", None).is_some());
    }

    #[test]
    fn a_refusal_says_which_file_to_look_into() {
        assert!(
            hint("newuidmap", "newuidmap: uid range [0-1) -> [9-10) not allowed").contains("/etc/subuid")
        );
        assert!(hint("newgidmap", "").contains("/etc/subgid"));
        assert!(missing("newuidmap").to_string().contains("install"));
    }
}

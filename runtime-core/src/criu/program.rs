//! Runs in: RUNTIME. criu's program: where it is, its environment and configuration, and what of the host it
//! may be told.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};

use crate::error::{CallResult, ErrorResult};
use crate::{Errno, Error, ErrorKind, Result};

/// Where programs are looked for if the caller has no PATH: engines may start the runtime without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds criu in `PATH`, as runc does.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is none.
pub(crate) fn find() -> Result<CString> {
    let path = search_path(std::env::var_os("PATH"));
    let Some(program) = find_in(&path, "criu") else {
        let message = format!("criu is not in {}", Path::new(&path).display());
        let error = Error::new(ErrorKind::Unsupported, message);
        return Err(error.with_hint("install criu, version 3.16 or newer"));
    };
    CString::new(program.into_os_string().into_encoded_bytes())
        .map_err(|_| Error::new(ErrorKind::Internal, "a path with a null byte"))
}

/// Whether criu will find the program by which it locks a network if nobody names another way.
pub(crate) fn has_iptables() -> bool {
    find_in(&search_path(std::env::var_os("PATH")), "iptables-restore").is_some()
}

/// What is not there, or is no program, is looked for in the next directory: that is what PATH means.
fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    let directories = std::env::split_paths(path).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(name)).find(|program| {
        let is_file = rustix::fs::stat(program)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        is_file && rustix::fs::accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    })
}

fn search_path(path: Option<OsString>) -> OsString {
    match path {
        Some(path) if !path.is_empty() => path,
        _ => OsString::from(DEFAULT_PATH),
    }
}

/// criu's environment: RUNTIME's own, in which it looks for its configuration (`HOME`, `CRIU_CONFIG_FILE`),
/// and a PATH in which it finds iptables.
pub(crate) fn environment() -> Vec<CString> {
    let path = (OsString::from("PATH"), search_path(std::env::var_os("PATH")));
    let rest = std::env::vars_os().filter(|(name, _)| name != "PATH");
    let entry = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    rest.chain([path]).filter_map(entry).collect()
}

/// The configuration file that criu reads beside its own: the one of the annotation `org.criu.config` (none
/// if that is empty), else crun's if there is one, else runc's. criu passes over a file that is not there.
///
/// # Errors
/// [`ErrorKind::Denied`] for a file that somebody else than root and the caller may have written: an action
/// script in it runs as the caller, and engines copy annotations from images.
pub(crate) fn config_file(annotation: Option<&str>) -> Result<Option<String>> {
    const CRUN: &str = "/etc/criu/crun.conf";
    const RUNC: &str = "/etc/criu/runc.conf";
    Ok(match annotation {
        Some("") => None,
        Some(path) => {
            check_config(Path::new(path))
                .field("annotations[org.criu.config]")
                .path(path)?;
            Some(path.to_owned())
        }
        None if rustix::fs::stat(CRUN).is_ok() => Some(CRUN.to_owned()),
        None => Some(RUNC.to_owned()),
    })
}

/// Refuses a directory for the container's root file system that others could exchange for one of theirs:
/// criu is told its path, and looks it up again.
///
/// # Errors
/// [`ErrorKind::Denied`].
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let hint = "the container's root would be mounted where they say: restore with a --root that nobody else can exchange";
    refuse_foreign(path).map_err(|error| {
        error
            .with_hint(hint)
            .with_path(path)
            .doing("restore the container")
    })
}

fn check_config(path: &Path) -> Result<()> {
    let checked = match path.is_absolute() {
        true => refuse_foreign(path),
        false => Err(Error::new(ErrorKind::Denied, "not an absolute path")),
    };
    checked.hint("an action script in it would run as the caller of onggi")
}

/// The file, and every directory on the way to it, belong to root or the caller, and nobody else may write to
/// them: what is looked at here is then what criu opens. A directory with the sticky bit lets others add
/// names, not exchange ours.
fn refuse_foreign(path: &Path) -> Result<()> {
    let denied = |text: &'static str| Err(Error::new(ErrorKind::Denied, text));
    let file = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        // criu passes over it.
        Err(Errno::NOENT) => return Ok(()),
        file => file.call("open")?,
    };
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = std::fs::read_link(&link).call("readlink")?;
    let own = rustix::process::geteuid().as_raw();
    for (depth, part) in real.ancestors().enumerate() {
        let stat = rustix::fs::lstat(part).call("lstat")?;
        let is_sticky = depth > 0 && stat.st_mode & libc::S_ISVTX != 0;
        if stat.st_uid != 0 && stat.st_uid != own {
            return denied("it, or a directory above it, belongs to another user");
        }
        if stat.st_mode & 0o022 != 0 && !is_sticky {
            return denied("others may write to it, or to a directory above it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_path_the_usual_directories_are_searched() {
        assert_eq!(search_path(None), DEFAULT_PATH);
        assert_eq!(search_path(Some(OsString::new())), DEFAULT_PATH);
        assert_eq!(search_path(Some("/a:/b".into())), "/a:/b");
        let environment = environment();
        let paths = environment
            .iter()
            .filter(|entry| entry.to_bytes().starts_with(b"PATH="));
        assert_eq!(paths.count(), 1);
    }

    #[test]
    fn an_annotation_replaces_the_configuration_file_and_an_empty_one_removes_it() {
        assert_eq!(config_file(Some("")).unwrap(), None);
        assert_eq!(
            config_file(Some("/etc/own.conf")).unwrap(),
            Some("/etc/own.conf".into())
        );
        assert!(config_file(None).unwrap().unwrap().starts_with("/etc/criu/"));
    }

    #[test]
    fn a_configuration_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("criu.conf");
        std::fs::write(&file, "").unwrap();
        let text = file.to_str().unwrap();
        let chmod =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        chmod(&file, 0o644);
        assert!(config_file(Some(text)).is_ok());
        chmod(&file, 0o664);
        assert_eq!(config_file(Some(text)).unwrap_err().kind(), ErrorKind::Denied);
        chmod(&file, 0o644);
        chmod(directory.path(), 0o777);
        assert_eq!(config_file(Some(text)).unwrap_err().kind(), ErrorKind::Denied);
        chmod(directory.path(), 0o755);
        assert!(config_file(Some("criu.conf")).is_err());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(1), None).unwrap();
            assert_eq!(config_file(Some(text)).unwrap_err().kind(), ErrorKind::Denied);
        }
    }
}

//! Runs in: RUNTIME. criu(8): where its program is, the conversation with it over a socket, and what its log says. Does
//! not start it, and does not know what is dumped.

pub(crate) mod cgroups;
mod images;
pub(crate) mod log;
mod rpc;

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use prost::Message;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};

use super::unix_socket;
use crate::{Errno, Error, ErrorKind, Result};

pub use cgroups::cgroup_roots;
pub use images::{Directories, Directory, MappedImages, open_images, open_or_make_images};
pub use log::reason;
pub use rpc::{
    CgroupMode, CgroupRoot, ExternalMount, Features, InheritFd, JoinNamespace, Kind, NetworkLock,
    Notification, Options, PageServer, Request, Response, Version,
};

/// The oldest criu that has all that is asked of it here: single pre-dumps, and LSM profiles that may change.
const OLDEST: (i32, i32) = (3, 16);

/// Where programs are looked for if the caller has no PATH: engines may start the runtime without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Larger than any message of criu. One that fills it has been cut off.
const LARGEST: usize = 64 << 10;

/// Finds criu in `PATH`, as runc does.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is none.
pub fn find() -> Result<CString> {
    let path = search_path(std::env::var_os("PATH"));
    let Some(program) = find_in(&path, "criu") else {
        let message = format!("criu is not in {}", Path::new(&path).display());
        let error = Error::new(ErrorKind::Unsupported, message);
        return Err(error.hint("install criu, version 3.16 or newer"));
    };
    CString::new(program.into_os_string().into_encoded_bytes())
        .map_err(|_| Error::new(ErrorKind::Internal, "a path with a null byte"))
}

/// Whether criu will find the program by which it locks a network if nobody names another way.
pub fn has_iptables() -> bool {
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

/// criu's environment: RUNTIME's own, in which it looks for its configuration (`HOME`, `CRIU_CONFIG_FILE`), and a PATH
/// in which it finds iptables.
pub fn environment() -> Vec<CString> {
    let path = (OsString::from("PATH"), search_path(std::env::var_os("PATH")));
    let rest = std::env::vars_os().filter(|(name, _)| name != "PATH");
    let entry = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    rest.chain([path]).filter_map(entry).collect()
}

/// The configuration file that criu reads beside its own: the one of the annotation `org.criu.config` (none if that is
/// empty), else crun's if there is one, else runc's. criu passes over a file that is not there.
///
/// # Errors
/// [`ErrorKind::Denied`] for a file that somebody else than root and the caller may have written: an action script in it
/// runs as the caller, and engines copy annotations from images.
pub fn config_file(annotation: Option<&str>) -> Result<Option<String>> {
    const CRUN: &str = "/etc/criu/crun.conf";
    const RUNC: &str = "/etc/criu/runc.conf";
    Ok(match annotation {
        Some("") => None,
        Some(path) => {
            check_config(Path::new(path))
                .map_err(|error| error.field("annotations[org.criu.config]").path(path))?;
            Some(path.to_owned())
        }
        None if rustix::fs::stat(CRUN).is_ok() => Some(CRUN.to_owned()),
        None => Some(RUNC.to_owned()),
    })
}

/// Refuses a directory for the container's root file system that others could exchange for one of theirs: criu is told its
/// path, and looks it up again.
///
/// # Errors
/// [`ErrorKind::Denied`].
pub fn check_place(path: &Path) -> Result<()> {
    let hint = "the container's root would be mounted where they say: restore with a --root that nobody else can exchange";
    refuse_foreign(path).map_err(|error| error.hint(hint).path(path).doing("restore the container"))
}

fn check_config(path: &Path) -> Result<()> {
    let checked = match path.is_absolute() {
        true => refuse_foreign(path),
        false => Err(Error::new(ErrorKind::Denied, "not an absolute path")),
    };
    checked.map_err(|error| error.hint("an action script in it would run as the caller of onggi"))
}

/// The file, and every directory on the way to it, belong to root or the caller, and nobody else may write to them: what
/// is looked at here is then what criu opens. A directory with the sticky bit lets others add names, not exchange ours.
fn refuse_foreign(path: &Path) -> Result<()> {
    let denied = |text: &'static str| Err(Error::new(ErrorKind::Denied, text));
    let file = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        // criu passes over it.
        Err(Errno::NOENT) => return Ok(()),
        file => file.map_err(|errno| Error::os("open", errno))?,
    };
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = std::fs::read_link(&link).map_err(|error| Error::io("readlink", &error))?;
    let own = rustix::process::geteuid().as_raw();
    for (depth, part) in real.ancestors().enumerate() {
        let stat = rustix::fs::lstat(part).map_err(|errno| Error::os("lstat", errno))?;
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

/// The conversation with one criu process.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

/// What criu says.
#[derive(Debug)]
pub enum Event {
    /// It waits for [`Connection::acknowledge`]. The descriptor is there with `orphan-pts-master` only.
    Notification(Notification, Option<OwnedFd>),
    /// It has done what was asked, or has not.
    Done(Response),
}

impl Connection {
    /// Over a socket whose other end a criu process has.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Asks for its version, and checks that it is new enough.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it is not.
    pub fn check_version(&self) -> Result<Version> {
        let request = Request {
            keep_open: Some(true),
            ..request(Kind::Version)
        };
        let version = self.ask(&request)?.version.unwrap_or_default();
        if (version.major, version.minor) < OLDEST {
            let message = format!("criu {}.{} is too old", version.major, version.minor);
            return Err(Error::new(ErrorKind::Unsupported, message).hint("version 3.16 or newer is needed"));
        }
        Ok(version)
    }

    /// Asks which of the features are there; those that were not asked for are not.
    pub fn check_features(&self, wanted: Features) -> Result<Features> {
        let request = Request {
            keep_open: Some(true),
            features: Some(wanted),
            ..request(Kind::FeatureCheck)
        };
        Ok(self.ask(&request)?.features.unwrap_or_default())
    }

    /// A request that is answered at once.
    fn ask(&self, request: &Request) -> Result<Response> {
        self.send(request)?;
        match self.receive()? {
            Event::Done(response) if response.success => Ok(response),
            _ => Err(broken("it does not answer as it should")),
        }
    }

    /// Sends a request.
    pub fn send(&self, request: &Request) -> Result<()> {
        let bytes = request.encode_to_vec();
        runtime_sys::net::send(self.socket.as_fd(), &bytes, None)
            .map_err(|error| Error::os(error.call.name(), error.errno).doing("talk to criu"))
    }

    /// Answers a notification: criu goes on, or gives up and undoes what it has done.
    pub fn acknowledge(&self, success: bool) -> Result<()> {
        self.send(&Request {
            notify_success: Some(success),
            ..request(Kind::Notify)
        })
    }

    /// Waits for what criu says next.
    ///
    /// # Errors
    /// It has ended without a word, or says what is no message.
    pub fn receive(&self) -> Result<Event> {
        let mut buffer = vec![0; LARGEST];
        let received = unix_socket::receive_fds(self.socket.as_fd(), &mut buffer);
        let (length, fds) = match received {
            // It has ended with something of ours unread.
            Err((_, Errno::CONNRESET)) => (0, Vec::new()),
            received => received.map_err(|(call, errno)| Error::os(call, errno).doing("talk to criu"))?,
        };
        if length == 0 {
            return Err(broken("it ended without an answer"));
        }
        if length == LARGEST {
            return Err(broken("a message is too long"));
        }
        let response = Response::decode(&buffer[..length])
            .map_err(|error| broken(format!("not a message of criu: {error}")))?;
        match (response.kind(), &response.notification) {
            (Kind::Notify, Some(notification)) => {
                Ok(Event::Notification(notification.clone(), fds.into_iter().next()))
            }
            (Kind::Notify, None) => Err(broken("a notification without a name")),
            _ => Ok(Event::Done(response)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A request of this kind, without anything else.
pub fn request(kind: Kind) -> Request {
    Request {
        kind: kind.into(),
        ..Request::default()
    }
}

fn broken(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Os, message).doing("talk to criu")
}

/// A path for criu, which takes bytes.
pub fn path_bytes(path: impl AsRef<OsStr>) -> Vec<u8> {
    path.as_ref().as_bytes().to_vec()
}

/// The same file of the host by an absolute path without links, `.`, `..` or a slash at its end: criu takes paths apart by
/// their text. What cannot be opened has been refused before, or will be by criu, under the name that it was given.
pub fn clean_path(path: &Path) -> PathBuf {
    // The text alone: two slashes, `.` and a slash at the end.
    let named = || path.components().collect();
    let resolve = || {
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let resolved = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        // Of a file of another mount namespace, or one that has been covered, it is the path of something else here.
        let (held, found) = (rustix::fs::fstat(&file).ok()?, rustix::fs::stat(&resolved).ok()?);
        let is_it = resolved.is_absolute() && (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino);
        is_it.then_some(resolved)
    };
    resolve().unwrap_or_else(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criu_is_told_has_no_links_and_no_dots() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::write(base.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", base.join("link")).unwrap();
        for (path, clean) in [
            (".", ""),
            ("./a/.", "a"),
            ("a/b/../file", "a/file"),
            ("link/b/", "a/b"),
            ("link//./file", "a/file"),
            ("missing/./x/", "missing/x"),
        ] {
            let wish = base.join(clean);
            assert_eq!(
                clean_path(&base.join(path)).as_os_str(),
                wish.as_os_str()
                    .to_owned()
                    .as_bytes()
                    .strip_suffix(b"/")
                    .map_or(wish.as_os_str(), OsStr::from_bytes),
                "{path}"
            );
        }
    }

    fn pair() -> (Connection, OwnedFd) {
        let (socket, other) = runtime_sys::net::record_pair().unwrap();
        (Connection::new(socket), other)
    }

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

    #[test]
    fn a_conversation_ends_with_an_error_and_not_in_waiting() {
        let (connection, other) = pair();
        connection.send(&request(Kind::Version)).unwrap();
        drop(other);
        let error = connection.receive().unwrap_err();
        assert_eq!(error.to_string(), "talk to criu: it ended without an answer");

        let (connection, other) = pair();
        runtime_sys::net::send(other.as_fd(), b"\xff\xff\xff", None).unwrap();
        assert!(
            connection
                .receive()
                .unwrap_err()
                .to_string()
                .contains("not a message of criu")
        );
    }
}

//! Runs in: RUNTIME. What the global flags, the environment and the plain words of a command mean: state root, cgroup
//! driver, log, container id, signal.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use clap::ArgMatches;
use nix::sys::signal::Signal;
use runtime_core::{CgroupDriver, ContainerId, Error, ErrorKind, Result, Rootless};

use crate::report;

/// What this program calls itself: engines that were configured with a link named `runc` or `crun` want to see that name.
pub(crate) fn program_name(argument_zero: Option<OsString>) -> &'static str {
    let name = argument_zero.as_deref().map(Path::new).and_then(Path::file_name);
    match name.and_then(OsStr::to_str) {
        Some("runc") => "runc",
        Some("crun") => "crun",
        _ => "onggi",
    }
}

/// Opens the log that the global flags ask for.
pub(crate) fn open_log(globals: &ArgMatches) -> Result<()> {
    let text = |name| globals.get_one::<String>(name).map(String::as_str);
    let target = globals
        .get_one::<OsString>("log")
        .filter(|target| !target.is_empty());
    let level = match text("log-level") {
        _ if globals.get_flag("debug") => log::LevelFilter::Debug,
        Some("debug") => log::LevelFilter::Debug,
        Some("error") => log::LevelFilter::Error,
        // Engines want to read one line, and only of a failure: a warning is what the caller should mend, or what the
        // specification wants to be one.
        _ => log::LevelFilter::Warn,
    };
    report::open(
        target.map(OsString::as_os_str),
        text("log-format").unwrap_or("text"),
        level,
    )
}

/// The driver for new containers; an existing container keeps its own.
pub(crate) fn cgroup_driver(globals: &ArgMatches) -> CgroupDriver {
    match globals.get_one::<String>("cgroup-manager").map(String::as_str) {
        Some("systemd") => CgroupDriver::Systemd,
        Some("disabled") => CgroupDriver::Disabled,
        _ if globals.get_flag("systemd-cgroup") => CgroupDriver::Systemd,
        _ => CgroupDriver::Fs,
    }
}

/// What `--rootless` says; runc's other spellings of yes and no are the parser's business.
pub(crate) fn rootless(globals: &ArgMatches) -> Rootless {
    match globals.get_one::<String>("rootless").map(String::as_str) {
        Some("true") => Rootless::Yes,
        Some("false") => Rootless::No,
        _ => Rootless::Auto,
    }
}

/// The value of `--format`.
pub(crate) fn format(flags: &ArgMatches) -> &str {
    flags.get_one::<String>("format").map_or("table", String::as_str)
}

/// The directory of the containers' state.
#[derive(Debug)]
pub(crate) struct Root {
    /// Absolute, without `.` and `..`.
    pub(crate) path: PathBuf,
    named: bool,
}

impl Root {
    /// From `--root`, or the default for this user and for the name that the program is called by.
    pub(crate) fn new(globals: &ArgMatches, program: &str) -> Result<Self> {
        match globals
            .get_one::<PathBuf>("root")
            .filter(|root| !root.as_os_str().is_empty())
        {
            Some(root) => Ok(Self {
                path: named_root(root)?,
                named: true,
            }),
            None => Ok(Self {
                path: default_root(program)?,
                named: false,
            }),
        }
    }

    /// A root that somebody named and that is not there is a mistake; the default one just has no containers yet.
    pub(crate) fn must_exist_if_named(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Err(error) if self.named => Err(Error::io("stat", &error).path(&self.path)),
            _ => Ok(()),
        }
    }
}

fn named_root(root: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(root).map_err(|e| Error::io("getcwd", &e).path(root))?;
    let clean = without_dots(&absolute);
    if clean == Path::new("/") {
        return Err(Error::new(
            ErrorKind::Invalid,
            "Option --root argument should not be set to /",
        ));
    }
    Ok(clean)
}

/// Removes `.` and `..` from an absolute path by its text alone, as Go's filepath.Clean does.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            // The parent of "/" is "/".
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Called runc or crun, it is theirs: that is where those look who know of no other runtime, and where it would be wrong to say that
/// a container which they have made does not exist.
fn default_root(program: &str) -> Result<PathBuf> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let is_root = rustix::process::geteuid().is_root();
    match runtime_dir {
        // Root of a user namespace keeps the user's own directory; the real root never does.
        Some(dir) if !is_root || is_mapped_user()? => user_root(&dir, program),
        None if !is_root => Err(Error::new(
            ErrorKind::Denied,
            "XDG_RUNTIME_DIR is not set, so there is no place for the state of containers: set it, or give --root",
        )),
        _ => Ok(Path::new("/run").join(program)),
    }
}

fn user_root(runtime_dir: &OsStr, program: &str) -> Result<PathBuf> {
    let root = Path::new(runtime_dir).join(program);
    match fs::DirBuilder::new().mode(0o700).create(&root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(root),
        other => other.map_err(|e| {
            let error = Error::io("mkdir", &e)
                .path(&root)
                .doing("make the place for the state of containers");
            match e.kind() {
                io::ErrorKind::NotFound => {
                    error.hint("XDG_RUNTIME_DIR is not there: set it to a directory, or give --root")
                }
                _ => error.hint("XDG_RUNTIME_DIR must be a directory of yours: set it, or give --root"),
            }
        })?,
    }
    // The sticky bit keeps what cleans XDG_RUNTIME_DIR by age away from it (XDG base directory specification).
    fs::set_permissions(&root, fs::Permissions::from_mode(0o1700))
        .map_err(|e| Error::io("chmod", &e).path(&root))?;
    Ok(root)
}

/// Whether uid 0 is a name for another user, who entered a user namespace. Podman gives `start` and `delete` no USER.
fn is_mapped_user() -> Result<bool> {
    if std::env::var_os("USER").is_some_and(|user| user == "root") {
        return Ok(false);
    }
    let map = fs::read_to_string("/proc/self/uid_map")
        .map_err(|e| Error::io("read", &e).path("/proc/self/uid_map"))?;
    Ok(map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

/// A container's id.
pub(crate) fn container_id(word: Option<&OsString>) -> Result<ContainerId> {
    let word = word.ok_or_else(|| Error::new(ErrorKind::Invalid, "container id cannot be empty"))?;
    // What is not UTF-8 gets a replacement character, which no id may hold.
    ContainerId::new(word.to_string_lossy())
}

/// A signal by number, or by name in any case, with or without SIG; real-time signals as RTMIN+n and RTMAX-n.
pub(crate) fn signal(word: &OsStr) -> Result<i32> {
    let word = word.to_string_lossy();
    let unknown = || Error::new(ErrorKind::Invalid, format!("unknown signal \"{word}\""));
    if let Ok(number) = word.parse::<i32>() {
        let known = (0..=libc::SIGRTMAX()).contains(&number);
        return known.then_some(number).ok_or_else(unknown);
    }
    let name = word.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match name {
        // Second names (signal(7)).
        "IOT" => Some(libc::SIGABRT),
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGIO),
        _ => real_time_signal(name).or_else(|| {
            let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
            Some(signal as i32)
        }),
    };
    number.ok_or_else(unknown)
}

fn real_time_signal(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign| match rest.strip_prefix(sign) {
        None => rest.is_empty().then_some(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
        Some(_) => None,
    };
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => first.checked_add(offset(rest, '+')?)?,
        (_, Some(rest)) => last.checked_sub(offset(rest, '-')?)?,
        (None, None) => return None,
    };
    (first..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_by_name() {
        for (word, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigkill", 9),
            ("SigTerm", 15),
            ("0", 0),
            ("64", 64),
            ("iot", 6),
            ("SIGPOLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(signal(OsStr::new(word)).unwrap(), number, "{word}");
        }
        for word in [
            "",
            "FOO",
            "65",
            "-1",
            "SIGSIGKILL",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RT",
        ] {
            assert!(signal(OsStr::new(word)).is_err(), "{word}");
        }
    }

    #[test]
    fn the_root_is_made_absolute_and_is_never_the_root_directory() {
        assert_eq!(
            named_root(Path::new("/run//x/./y/../z/")).unwrap(),
            Path::new("/run/x/z")
        );
        assert_eq!(
            named_root(Path::new("r")).unwrap(),
            std::env::current_dir().unwrap().join("r")
        );
        for root in ["/", "//", "/x/..", "/../."] {
            let error = named_root(Path::new(root)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "Option --root argument should not be set to /",
                "{root}"
            );
        }
    }

    #[test]
    fn the_name_is_a_peers_only_if_called_so() {
        assert_eq!(program_name(Some("/usr/bin/runc".into())), "runc");
        assert_eq!(program_name(Some("crun".into())), "crun");
        assert_eq!(program_name(Some("/usr/bin/crun-wasm".into())), "onggi");
        assert_eq!(program_name(Some("/usr/bin/onggi".into())), "onggi");
        assert_eq!(program_name(None), "onggi");
    }
}

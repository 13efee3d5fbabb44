//! Runs in: RUNTIME. The flags in front of the command, and what they mean: state root, cgroup driver, log.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use log::LevelFilter;
use runtime_core::{CgroupDriver, Error, ErrorKind, Result, Rootless};

use crate::flags::{Choice, flags};
use crate::report;

flags! {
    /// The flags in front of the command.
    pub(crate) struct Globals {
        /// also log what is done, not only what failed
        debug: bool,
        /// write errors to this file, too; or file:PATH, syslog:NAME, journald:NAME
        log: Option<OsString> { value_name("path") },
        /// format of the log: text or json
        log_format: String { default_value("text") },
        /// what is logged [default: warning]; debug is the same as --debug
        log_level: Option<LevelFilter>,
        /// directory of the containers' state [default: /run/onggi, or $XDG_RUNTIME_DIR/onggi; called by a
        /// link named runc or crun, /run/runc or /run/crun]
        root: Option<PathBuf>,
        /// let systemd make the cgroups; cgroupsPath is slice:prefix:name
        systemd_cgroup: bool,
        /// who makes the cgroups: cgroupfs, systemd or disabled
        cgroup_manager: Option<CgroupDriver>,
        /// go without a cgroup where there is no right to make one
        rootless: Option<Rootless> { default_value("auto") },
        /// print the version
        version: bool { short('v') },
    }
}

impl Choice for LevelFilter {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warning", Self::Warn),
        ("debug", Self::Debug),
    ];
}

impl Choice for CgroupDriver {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("cgroupfs", Self::Fs),
        ("systemd", Self::Systemd),
        ("disabled", Self::Disabled),
    ];
}

/// runc's words. Other spellings of yes and no are refused.
impl Choice for Rootless {
    const WORDS: &'static [(&'static str, Self)] =
        &[("true", Self::Yes), ("false", Self::No), ("auto", Self::Auto)];
}

impl Globals {
    /// Opens the log that the flags ask for.
    pub(crate) fn open_log(&self) -> Result<()> {
        let level = match self.log_level {
            _ if self.debug => LevelFilter::Debug,
            // Engines want to read one line, and only of a failure: a warning is what the caller should mend,
            // or what the specification wants to be one.
            None => LevelFilter::Warn,
            Some(level) => level,
        };
        report::open(self.log.as_deref(), &self.log_format, level)
    }

    /// The driver for new containers; an existing container keeps its own.
    pub(crate) fn cgroup_driver(&self) -> CgroupDriver {
        match self.cgroup_manager {
            Some(CgroupDriver::Fs) | None if self.systemd_cgroup => CgroupDriver::Systemd,
            Some(driver) => driver,
            None => CgroupDriver::Fs,
        }
    }

    pub(crate) fn rootless(&self) -> Rootless {
        self.rootless.unwrap_or(Rootless::Auto)
    }
}

/// What this program calls itself: engines that were configured with a link named `runc` or `crun` want to
/// see that name.
pub(crate) fn program_name(argument_zero: Option<OsString>) -> &'static str {
    let name = argument_zero.as_deref().map(Path::new).and_then(Path::file_name);
    match name.and_then(OsStr::to_str) {
        Some("runc") => "runc",
        Some("crun") => "crun",
        _ => "onggi",
    }
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
    pub(crate) fn new(globals: &Globals, program: &str) -> Result<Self> {
        let (path, named) = match &globals.root {
            Some(root) => (named_root(root)?, true),
            None => (default_root(program)?, false),
        };
        Ok(Self { path, named })
    }

    /// A root that somebody named and that is not there is a mistake; the default one just has no containers
    /// yet.
    pub(crate) fn must_exist_if_named(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Err(error) if self.named => Err(Error::os("stat", error).with_path(&self.path)),
            _ => Ok(()),
        }
    }
}

fn named_root(root: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(root).map_err(|e| Error::os("getcwd", e).with_path(root))?;
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

/// Called runc or crun, it is theirs: that is where those look who know of no other runtime, and where it
/// would be wrong to say that a container which they have made does not exist.
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
            let error = Error::os("mkdir", e)
                .with_path(&root)
                .doing("make the place for the state of containers");
            match error.raw_os_error() {
                Some(libc::ENOENT) => {
                    error.with_hint("XDG_RUNTIME_DIR is not there: set it to a directory, or give --root")
                }
                _ => error.with_hint("XDG_RUNTIME_DIR must be a directory of yours: set it, or give --root"),
            }
        })?,
    }
    // The sticky bit keeps what cleans XDG_RUNTIME_DIR by age away from it (XDG base directory
    // specification).
    fs::set_permissions(&root, fs::Permissions::from_mode(0o1700))
        .map_err(|e| Error::os("chmod", e).with_path(&root))?;
    Ok(root)
}

/// Whether uid 0 is a name for another user, who entered a user namespace. Podman gives `start` and `delete`
/// no USER.
fn is_mapped_user() -> Result<bool> {
    if std::env::var_os("USER").is_some_and(|user| user == "root") {
        return Ok(false);
    }
    let map = fs::read_to_string("/proc/self/uid_map")
        .map_err(|e| Error::os("read", e).with_path("/proc/self/uid_map"))?;
    Ok(map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

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

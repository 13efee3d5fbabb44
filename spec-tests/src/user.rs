//! Runs in: SUITE. An ordinary user who runs the runtime: an id that no account has, the runtime copied to
//! where this user can reach it, and, where a test wants them, subordinate ids that only the runtime's own
//! mount namespace knows of.

use crate::{host::Host, outcome::Check};
use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, lchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

/// User and group id.
pub(crate) const UID: u32 = 64_123;
/// First of the [`COUNT`] subordinate ids.
pub(crate) const FIRST: u32 = 1_900_000;
pub(crate) const COUNT: u32 = 65_536;

/// Who runs the runtime instead of root.
#[derive(Debug)]
pub(crate) struct User {
    program: PathBuf,
    /// The test's folder, which is the user's home.
    home: PathBuf,
    /// Whether the user has subordinate ids.
    pub(crate) has_ranges: bool,
    /// A cgroup that the runtime is started in.
    pub(crate) cgroup: Option<PathBuf>,
    /// Whether whatever the test has made by then is the user's, each time that config.json is written.
    pub(crate) owns_all: bool,
    /// `PATH` of the runtime.
    pub(crate) path: String,
}

/// Puts the files over the host's and becomes the user: arguments are the folder with the files (empty for
/// none), the cgroup (empty for none), and the command.
const BECOME: &str = r#"
    if [ -n "$2" ]; then echo $$ > "$2/cgroup.procs" || exit 99; fi
    if [ -n "$1" ]; then
        for file in passwd subuid subgid; do mount --bind "$1/$file" /etc/$file || exit 99; done
    fi
    uid=$3; shift 3
    exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@""#;

impl User {
    /// Gives `dir` with all below it to the user.
    pub(crate) fn new(host: &Host, dir: &Path) -> Check<Self> {
        fs::create_dir_all(dir.join("run"))?;
        give(dir)?;
        fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o700))?;
        Ok(Self {
            program: host.for_users.clone(),
            home: dir.to_owned(),
            has_ranges: false,
            owns_all: false,
            cgroup: None,
            path: crate::host::PATH.to_owned(),
        })
    }

    /// Where `XDG_RUNTIME_DIR` points.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.home.join("run")
    }

    /// The runtime, started by the user.
    pub(crate) fn command(&self) -> Command {
        self.command_behind(&[])
    }

    /// The same after these words, a program that executes its arguments.
    pub(crate) fn command_behind(&self, words: &[&str]) -> Command {
        let mut command = match words.split_first() {
            _ if self.has_ranges || self.cgroup.is_some() => self.through_shell(),
            None => Command::new(&self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        if !self.has_ranges && self.cgroup.is_none() {
            // The standard library clears the groups where root changes its user.
            command.uid(UID).gid(UID);
        }
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.home)
            .env("USER", "st")
            .env("XDG_RUNTIME_DIR", self.runtime_dir());
        command
    }

    fn through_shell(&self) -> Command {
        let files = if self.has_ranges {
            self.home.as_path()
        } else {
            Path::new("")
        };
        let mut command = Command::new("/usr/bin/unshare");
        command
            .args(["--mount", "/bin/sh", "-c", BECOME, "sh"])
            .arg(files)
            .arg(self.cgroup.as_deref().unwrap_or(Path::new("")))
            .arg(UID.to_string())
            .arg(&self.program);
        command
    }

    /// Gives the user subordinate ids.
    pub(crate) fn with_ranges(&mut self) -> Check {
        let passwd = fs::read_to_string("/etc/passwd")? + &format!("st:x:{UID}:{UID}::/:/bin/sh\n");
        fs::write(self.home.join("passwd"), passwd)?;
        for file in ["subuid", "subgid"] {
            fs::write(self.home.join(file), format!("st:{FIRST}:{COUNT}\n"))?;
        }
        self.has_ranges = true;
        Ok(())
    }
}

/// Copies the runtime to where every user can reach it. Before there are threads: a fork of another test
/// would hold the copy open for writing, and it could not be executed (ETXTBSY).
pub(crate) fn prepare(base: &Path, runtime: &Path) -> io::Result<PathBuf> {
    let directory = base.join("for-users");
    fs::create_dir_all(&directory)?;
    let program = directory.join(runtime.file_name().unwrap_or_default());
    fs::copy(runtime, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Changes the owner of everything below `path`, but of the files that all tests share by hard links.
pub(crate) fn give(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    } else if metadata.nlink() > 1 {
        return Ok(());
    }
    lchown(path, Some(UID), Some(UID))
}

//! One program under measurement, and how it is called.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::AsFd;

use benches::{Outcome, timed};

use crate::bundle::Bundles;

/// A floor knows only `run`; an OCI runtime knows all commands.
pub(crate) enum Kind {
    Floor,
    Runtime,
}

pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) version: String,
    /// Whether spec-tests/shim/memlock.rs is loaded into it.
    pub(crate) preload: Option<PathBuf>,
    /// The container that ends by itself.
    passing: String,
    /// The container that `exec` and `state` are asked about.
    staying: String,
    program: PathBuf,
    work: PathBuf,
}

/// Where each engine has a directory, in the work directory.
pub(crate) const STATES: &str = "states";

impl Engine {
    pub(crate) fn floor(program: PathBuf, work: &Path) -> Outcome<Self> {
        Self::new("floor", Kind::Floor, program, String::new(), work)
    }

    pub(crate) fn runtime(name: &str, program: PathBuf, work: &Path) -> Outcome<Self> {
        let output = Command::new(&program).arg("--version").output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().unwrap_or_default().to_owned();
        Self::new(name, Kind::Runtime, program, version, work)
    }

    fn new(name: &str, kind: Kind, program: PathBuf, version: String, work: &Path) -> Outcome<Self> {
        let work = work.join(STATES).join(name);
        fs::create_dir_all(work.join("root"))?;
        Ok(Self {
            name: name.to_owned(),
            kind,
            version,
            preload: None,
            passing: format!("bench-{name}-passing"),
            staying: format!("bench-{name}-staying"),
            program,
            work,
        })
    }

    /// `run` of a container that ends by itself.
    pub(crate) fn run(&self, bundles: &Bundles, seccomp: bool) -> Outcome<Duration> {
        self.timed(self.run_command(bundles, seccomp))
    }

    fn run_command(&self, bundles: &Bundles, seccomp: bool) -> Command {
        let mut command = self.command();
        match self.kind {
            Kind::Floor => {
                if seccomp {
                    command.arg("--seccomp").arg(&bundles.filter);
                }
                command.arg(&bundles.rootfs);
            }
            Kind::Runtime => {
                let bundle = if seccomp { &bundles.seccomp } else { &bundles.plain };
                command.arg("run").arg("--bundle").arg(bundle).arg(&self.passing);
            }
        }
        command
    }

    /// The sum of `create`, `start` and `delete --force`. That the container ends is awaited, but not
    /// counted.
    pub(crate) fn create_start_delete(&self, bundles: &Bundles) -> Outcome<Duration> {
        let pid_file = self.work.join("pid");
        let mut create = self.command();
        create
            .arg("create")
            .arg("--bundle")
            .arg(&bundles.plain)
            .arg("--pid-file")
            .arg(&pid_file);
        create.arg(&self.passing);
        let created = self.timed(create)?;
        let pid = fs::read_to_string(&pid_file)?
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw);
        let pidfd = pidfd_open(pid.ok_or("the pid file holds no pid")?, PidfdFlags::empty())?;
        let mut start = self.command();
        start.args(["start", &self.passing]);
        let started = self.timed(start)?;
        poll(
            &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
            PollTimeout::NONE,
        )?;
        crate::reap_orphans()?;
        Ok(created + started + self.delete_passing()?)
    }

    pub(crate) fn delete_passing(&self) -> Outcome<Duration> {
        self.delete(&self.passing)
    }

    fn delete(&self, id: &str) -> Outcome<Duration> {
        let mut delete = self.command();
        delete.args(["delete", "--force", id]);
        self.timed(delete)
    }

    pub(crate) fn start_staying(&self, bundles: &Bundles) -> Outcome<()> {
        let mut command = self.command();
        command
            .arg("run")
            .arg("--detach")
            .arg("--bundle")
            .arg(&bundles.staying)
            .arg(&self.staying);
        self.timed(command).map(drop)
    }

    pub(crate) fn stop_staying(&self) -> Outcome<()> {
        self.delete(&self.staying).map(drop)
    }

    pub(crate) fn exec(&self) -> Outcome<Duration> {
        let mut command = self.command();
        command.args(["exec", &self.staying, "/bin/true"]);
        self.timed(command)
    }

    pub(crate) fn state(&self) -> Outcome<Duration> {
        let mut command = self.command();
        command.args(["state", &self.staying]);
        self.timed(command)
    }

    /// Peak resident memory of `run` in kilobytes.
    pub(crate) fn peak(&self, peak: &Path, bundles: &Bundles) -> Outcome<u64> {
        let run = self.run_command(bundles, false);
        let mut command = Command::new(peak);
        command.arg(run.get_program()).args(run.get_args());
        for (name, value) in run.get_envs() {
            command.env(name, value.unwrap_or(OsStr::new("")));
        }
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(|_| {
            let message = String::from_utf8_lossy(&output.stderr);
            format!("{}: peak memory: {message}", self.name).into()
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(preload) = &self.preload {
            command.env("LD_PRELOAD", preload);
        }
        if let Kind::Runtime = self.kind {
            command.arg("--root").arg(self.work.join("root"));
        }
        command
    }

    fn timed(&self, mut command: Command) -> Outcome<Duration> {
        timed(&mut command, &self.work.join("messages"))
    }
}

//! Runs in: SHIM. Every call of the library: one container of it, and its processes. All of it blocks but
//! `signal_init`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use runtime_core::stats::CgroupStats;
use runtime_core::{
    CgroupDriver, CheckpointOptions, Console, ContainerId, CreateOptions, CriuOptions, Document, ErrorKind,
    Event, ExecOptions, ManageCgroups, RestoreOptions, Runtime, Stdio,
};

use crate::failure::{Failure, Result};
use crate::options::Options;

/// The standard streams of a process.
#[derive(Debug)]
pub(crate) enum Streams {
    /// A terminal, whose master is sent to this socket.
    Terminal(OwnedFd),
    /// Input, output, errors.
    Three([Stdio; 3]),
}

/// A process of a container, by its pidfd.
#[derive(Debug)]
pub(crate) struct Process(runtime_core::Process);

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid().unsigned_abs()
    }

    /// What containerd calls the exit status, of a process that has ended: 128 and the signal, if one has
    /// killed it.
    ///
    /// # Errors
    /// It is lost.
    pub(crate) fn status(&self) -> Result<u32> {
        let status = self.0.wait()?;
        let number = match (status.code(), status.signal()) {
            (Some(code), _) => code,
            (None, signal) => 128 + signal.unwrap_or_default(),
        };
        Ok(number.unsigned_abs())
    }

    /// # Errors
    /// `NOT_FOUND` if it has ended.
    pub(crate) fn kill(&self, signal: i32) -> Result<()> {
        self.0.kill(signal).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => Failure::not_found("process already finished"),
            _ => error.into(),
        })
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A watch on a container: its descriptor is readable when there may be something to fetch.
#[derive(Debug)]
pub(crate) struct Events(runtime_core::Events);

impl Events {
    /// Whether the kernel has killed a process of it for want of memory, since this was asked last.
    pub(crate) fn is_out_of_memory(&mut self) -> bool {
        matches!(self.0.try_next(), Ok(Some(Event::Oom)))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What `create` and `restore` are given beside the streams.
#[derive(Debug, Clone)]
pub(crate) struct Creation {
    pub(crate) bundle: PathBuf,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// For criu, if not the directory of the images.
    pub(crate) criu_work: Option<PathBuf>,
}

/// What `checkpoint` is told.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) images: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) leave_running: bool,
    pub(crate) open_tcp: bool,
    pub(crate) external_unix_sockets: bool,
    pub(crate) terminal: bool,
    pub(crate) file_locks: bool,
    pub(crate) cgroups_mode: String,
}

/// A container of the library.
#[derive(Debug)]
pub(crate) struct Container {
    runtime: Runtime,
    id: ContainerId,
}

impl Container {
    /// # Errors
    /// The id is none.
    pub(crate) fn new(id: &str, namespace: &str, options: &Options) -> Result<Self> {
        let driver = match options.systemd_cgroup {
            true => CgroupDriver::Systemd,
            false => CgroupDriver::Fs,
        };
        Ok(Self {
            runtime: Runtime::new(options.state_root(namespace), driver),
            id: ContainerId::new(id)?,
        })
    }

    pub(crate) fn create(&self, creation: &Creation, streams: Streams) -> Result<Process> {
        let ([stdin, stdout, stderr], console) = split(streams);
        let options = CreateOptions::default()
            .bundle(&creation.bundle)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .console(console)
            .pid_file(pid_file(&creation.bundle))
            .no_pivot(creation.no_pivot)
            .no_new_keyring(creation.no_new_keyring);
        self.runtime
            .create(&self.id, options)
            .map(Process)
            .map_err(|error| Failure::from(error).doing("OCI runtime create failed"))
    }

    pub(crate) fn start(&self) -> Result<()> {
        self.runtime
            .start(&self.id)
            .map_err(|error| Failure::from(error).doing("OCI runtime start failed"))
    }

    /// `images`: of a checkpoint.
    pub(crate) fn restore(&self, creation: &Creation, images: &Path, streams: Streams) -> Result<Process> {
        let ([stdin, stdout, stderr], console) = split(streams);
        let criu = CriuOptions::default()
            .images(images)
            .work(creation.criu_work.clone());
        let options = RestoreOptions::default()
            .criu(criu)
            .bundle(&creation.bundle)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .console(console)
            .pid_file(pid_file(&creation.bundle));
        self.runtime
            .restore(&self.id, options)
            .map(Process)
            .map_err(|error| Failure::from(error).doing("OCI runtime restore failed"))
    }

    /// `process`: JSON, as `process` of config.json.
    pub(crate) fn exec(&self, process: &[u8], terminal: bool, streams: Streams) -> Result<Process> {
        let ([stdin, stdout, stderr], console) = split(streams);
        let options = ExecOptions::default()
            .process(Document::Json(process.to_vec()))
            .tty(terminal)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .console(console);
        self.runtime
            .exec(&self.id, options)
            .map(Process)
            .map_err(|error| Failure::from(error).doing("OCI runtime exec failed"))
    }

    /// # Errors
    /// `NOT_FOUND` if the process has ended, as runc's shim has it.
    pub(crate) fn kill(&self, signal: i32, all: bool) -> Result<()> {
        self.runtime
            .kill(&self.id, signal, all)
            .map_err(|error| match error.kind() {
                ErrorKind::WrongStatus | ErrorKind::NotFound => {
                    Failure::not_found("process already finished")
                }
                _ => error.into(),
            })
    }

    /// It is no error if it is gone.
    pub(crate) fn delete(&self, force: bool) -> Result<()> {
        match self.runtime.delete(&self.id, force) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| Failure::from(error).doing("failed to delete task")),
        }
    }

    pub(crate) fn pause(&self) -> Result<()> {
        Ok(self.runtime.pause(&self.id)?)
    }

    pub(crate) fn resume(&self) -> Result<()> {
        Ok(self.runtime.resume(&self.id)?)
    }

    /// `resources`: JSON, as `linux.resources` of config.json.
    pub(crate) fn update(&self, resources: &[u8]) -> Result<()> {
        Ok(self
            .runtime
            .update(&self.id, Document::Json(resources.to_vec()))?)
    }

    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let pids = self.runtime.pids(&self.id)?;
        Ok(pids.into_iter().map(i32::unsigned_abs).collect())
    }

    pub(crate) fn stats(&self) -> Result<(CgroupStats, u64)> {
        Ok((self.runtime.stats(&self.id)?, self.oom_kills()))
    }

    /// How many processes of it the kernel has killed for want of memory; 0 if that is not counted.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.runtime
            .oom_kills(&self.id)
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    /// A watch on it. None if it has no cgroup, or has ended already.
    pub(crate) fn events(&self) -> Option<Events> {
        self.runtime.events(&self.id).map(Events).ok()
    }

    pub(crate) fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let criu = CriuOptions::default()
            .images(&checkpoint.images)
            .work(checkpoint.work.clone())
            .tcp_established(checkpoint.open_tcp)
            .external_unix_sockets(checkpoint.external_unix_sockets)
            .shell_job(checkpoint.terminal)
            .file_locks(checkpoint.file_locks)
            .manage_cgroups(match checkpoint.cgroups_mode.as_str() {
                "full" => ManageCgroups::Full,
                "strict" => ManageCgroups::Strict,
                "ignore" => ManageCgroups::Ignore,
                _ => ManageCgroups::Soft,
            });
        let options = CheckpointOptions::default()
            .criu(criu)
            .leave_running(checkpoint.leave_running);
        Ok(self.runtime.checkpoint(&self.id, options)?)
    }
}

/// Where the pid of init is kept, for `delete`.
pub(crate) fn pid_file(bundle: &Path) -> PathBuf {
    bundle.join("init.pid")
}

fn split(streams: Streams) -> ([Stdio; 3], Option<Console>) {
    match streams {
        Streams::Terminal(console) => (Default::default(), Some(Console::Socket(console))),
        Streams::Three(stdio) => (stdio, None),
    }
}

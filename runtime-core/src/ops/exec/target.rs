//! Runs in: RUNTIME. The container's process that others join: held by its pidfd, with the namespaces that it
//! does not share with us, and the container's root.

use std::os::fd::OwnedFd;

use runtime_sys::namespace::Kinds;
use rustix::fs::{Mode, OFlags};

use crate::error::{CallResult, ErrorResult};
use crate::host::process::Process as HostProcess;
use crate::host::state::Record;
use crate::ops::container_root::ContainerRoot;
use crate::plan::process::ProcessPlan;
use crate::prepare::keep_off;
use crate::spec::namespace_kind::NamespaceKind;
use crate::{Error, ErrorKind, Result};

/// The container's process, and which of its namespaces differ from ours.
pub(in crate::ops) struct Target {
    pub(in crate::ops) pid: i32,
    pub(in crate::ops) process: HostProcess,
    /// What to join by pidfd in one setns(2), which gets their order right.
    pub(in crate::ops) kinds: Kinds,
    pub(in crate::ops) other_user: bool,
    pub(in crate::ops) root: ContainerRoot,
}

impl Target {
    /// Whether its pid namespace is not ours, so that only a child can be born there.
    pub(super) fn joins_pids(&self) -> bool {
        self.kinds.has(Kinds::PID)
    }

    /// Moves its descriptors off the numbers that the caller's files are to have.
    pub(super) fn keep_off(&mut self, program: &ProcessPlan) -> Result<()> {
        keep_off(self.process.as_mut(), program)?;
        self.root
            .instead
            .iter_mut()
            .try_for_each(|fd| keep_off(fd, program))
    }

    pub(in crate::ops) fn open(record: &Record) -> Result<Self> {
        let stopped = || Error::new(ErrorKind::WrongStatus, "cannot exec in a stopped container");
        let process = HostProcess::open(record.pid, record.start_time)?.ok_or_else(stopped)?;
        let kinds = other_kinds(&format!("/proc/{}/ns", record.pid))?;
        let root = ContainerRoot::find(record, kinds.has(Kinds::MOUNT))?;
        // Only now: had init ended before, its number could have been that of a process of the host, whose
        // namespaces are our own, and the program would run on the host.
        if process.has_ended()? {
            return Err(stopped());
        }
        Ok(Self {
            pid: record.pid,
            process,
            kinds,
            other_user: kinds.has(Kinds::USER),
            root,
        })
    }
}

/// In which kinds of namespaces the process with this directory in /proc is, and this thread is not.
fn other_kinds(directory: &str) -> Result<Kinds> {
    let own = "/proc/thread-self/ns";
    // From a descriptor each look takes half as long as by the whole path.
    let [theirs, ours] = [open_directory(directory)?, open_directory(own)?];
    let identity = |directory: &OwnedFd, path: &str, name: &str| {
        let stat = rustix::fs::statat(directory, name, rustix::fs::AtFlags::empty());
        stat.map(|stat| (stat.st_dev, stat.st_ino))
            .map_err(|errno| Error::os("stat", errno).with_path(format!("{path}/{name}")))
    };
    let mut kinds = Kinds::NONE;
    for NamespaceKind { flag, file, .. } in NamespaceKind::ALL {
        // A kernel without this kind of namespace has only one of them.
        let their = match identity(&theirs, directory, file) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT) && flag == Kinds::TIME => continue,
            Err(error) if error.errno() == Some(rustix::io::Errno::ACCESS) => {
                return Err(error.with_kind(ErrorKind::Denied).with_hint(
                    "the container is another user's; or it was not started yet, and only root may look into its init then",
                ));
            }
            other => other?,
        };
        if their != identity(&ours, own, file)? {
            kinds = kinds.with(flag);
        }
    }
    Ok(kinds)
}

fn open_directory(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .call("open")
        .path(path)
}

//! Runs in: RUNTIME. A process of a container, held by its pidfd: one that an operation has started, or that
//! was there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;

use super::Runtime;
use crate::error::ErrorResult;
use crate::host::process::{Process as HostProcess, STATUS_UNKNOWN, reap};
use crate::host::state::ContainerId;
use crate::{Error, ErrorKind, Result};

/// A container's process, held by its pidfd. Dropping it neither kills nor reaps the process.
///
/// The descriptor ([`AsFd`]) is readable when the process has ended: for poll(2), epoll(7) and what is built
/// on them.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

impl Process {
    pub(crate) fn new((pid, pidfd): (i32, OwnedFd)) -> Self {
        Self { pid, pidfd }
    }

    /// The pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pidfd, for whoever keeps it without the rest. Nobody waits for the process then.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Waits for the end of the process, and reaps it if it is a child of this program.
    ///
    /// # Errors
    /// ECHILD: it has ended, and how cannot be told: this program ignores SIGCHLD, or reaps its children
    /// elsewhere, or is not its parent, and the kernel does not keep the status for others (before Linux
    /// 6.15; and where it is yet to be reaped by its parent).
    pub fn wait(&self) -> Result<ExitStatus> {
        // waitid(2) does not wait for what is no child.
        runtime_sys::process::wait_readable(self.as_fd(), None).doing("wait for the process")?;
        match reap(self.as_fd())? {
            Some(status) => Ok(status),
            None => Err(Error::os("waitid", rustix::io::Errno::CHILD)
                .doing("wait for the process")
                .with_hint(STATUS_UNKNOWN)),
        }
    }

    /// As [`Process::wait`], if the process has ended; `None` as long as it has not.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        match runtime_sys::process::wait_readable(self.as_fd(), Some(0)).doing("wait for the process")? {
            true => self.wait().map(Some),
            false => Ok(None),
        }
    }

    /// Sends a signal, by number.
    ///
    /// # Errors
    /// ESRCH if it has ended; EINVAL for a number that is no signal.
    pub fn kill(&self, signal: i32) -> Result<()> {
        runtime_sys::process::send_signal_number(self.as_fd(), signal).map_err(Error::from)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Runtime {
    /// Takes hold of a container's first process, whoever has made it: another program, or this one before it
    /// was started anew. It is the very process of the record, by its start time, whatever has become of its
    /// number.
    ///
    /// # Errors
    /// `NotFound`; `WrongStatus` if it has ended.
    pub fn process(&self, id: &ContainerId) -> Result<Process> {
        let view = self.store.view(id)?;
        let record = view.record();
        match HostProcess::open(record.pid, record.start_time)? {
            Some(process) => Ok(Process::new((record.pid, process.into()))),
            None => Err(Error::new(
                ErrorKind::WrongStatus,
                format!("container with id {id} is not running"),
            )),
        }
    }
}

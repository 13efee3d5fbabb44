//! Runs in: RUNTIME. A process that an operation has started: a child of the caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::host::process::{STATUS_UNKNOWN, reap};
use crate::{Error, Result};

/// A container's process, held by its pidfd. Dropping it neither kills nor reaps the process.
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

    /// The pidfd: readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the end of the process and reaps it.
    ///
    /// # Errors
    /// ECHILD: it has ended, and its status is lost, since this program ignores SIGCHLD, or reaps it elsewhere.
    pub fn wait(&self) -> Result<ExitStatus> {
        let Some(status) = reap(self.pidfd())? else {
            return Err(Error::os("waitid", rustix::io::Errno::CHILD)
                .doing("wait for the process")
                .with_hint(STATUS_UNKNOWN));
        };
        let raw = match status.terminating_signal() {
            Some(signal) => signal,
            None => (status.exit_status().unwrap_or(0) & 0xff) << 8,
        };
        Ok(ExitStatus::from_raw(raw))
    }

    /// Sends a signal, by number.
    ///
    /// # Errors
    /// ESRCH if it has ended; EINVAL for a number that is no signal.
    pub fn kill(&self, signal: i32) -> Result<()> {
        runtime_sys::process::send_signal_number(self.pidfd.as_fd(), signal).map_err(Error::from)
    }
}

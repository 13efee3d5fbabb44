//! Runs in: RUNTIME. A process that an operation has started: a child of the caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{WaitId, WaitIdOptions, waitid};

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
    /// ECHILD if the program reaps it elsewhere.
    pub fn wait(&self) -> Result<ExitStatus> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) | Ok(None) => {}
                Err(errno) => return Err(Error::os("waitid", errno)),
                Ok(Some(status)) => {
                    let raw = match status.terminating_signal() {
                        Some(signal) => signal,
                        None => (status.exit_status().unwrap_or(0) & 0xff) << 8,
                    };
                    return Ok(ExitStatus::from_raw(raw));
                }
            }
        }
    }

    /// Sends a signal, by number.
    ///
    /// # Errors
    /// ESRCH if it has ended; EINVAL for a number that is no signal.
    pub fn kill(&self, signal: i32) -> Result<()> {
        runtime_init::sys::process::send_signal_number(self.pidfd.as_fd(), signal)
            .map_err(crate::prepare::sys_error)
    }
}

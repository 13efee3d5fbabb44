//! Runs in: RUNTIME. A child of ours: made by `clone3`, followed by its pidfd, and killed and reaped when it
//! is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_init::start::{self, Birth, Child};
use runtime_sys::memory::Role;
use runtime_sys::process as sys_process;
use rustix::process::Pid;

use crate::host::process as host_process;
use crate::{Error, ErrorKind, Result};

/// How long a child that was killed may take to end, in milliseconds.
const DEATH: i64 = 10_000;

/// A child on the way to becoming the container's process. Killed and reaped if it is dropped: no error on
/// the way may leave it behind.
#[derive(Debug)]
pub(crate) struct Launched {
    pub pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Launched {
    /// Makes a child that goes on with these arguments.
    pub(crate) fn start<R: Role>(birth: Birth<'_>, args: &R) -> runtime_sys::Result<Self> {
        start::start(birth, args).map(Self::new)
    }

    pub(crate) fn new(child: Child) -> Self {
        Self {
            pid: child.pid,
            pidfd: Some(child.pidfd),
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        match &self.pidfd {
            Some(pidfd) => pidfd.as_fd(),
            None => unreachable!("only `keep` takes it, and self with it"),
        }
    }

    /// When it was born, in the kernel's clock ticks: with its pid this tells it from any later process.
    pub(crate) fn start_time(&self) -> Result<u64> {
        host_process::start_time(pid_of(self.pid)?)
    }

    /// It has become the process; whoever has the pidfd waits for it.
    pub(crate) fn keep(mut self) -> (i32, OwnedFd) {
        match self.pidfd.take() {
            Some(pidfd) => (self.pid, pidfd),
            None => unreachable!("only `keep` takes it, and self with it"),
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        // It may have ended by itself, and a program that reaps all its children may have been faster: what
        // counts is that it is gone.
        let _already_gone = sys_process::send_signal(pidfd.as_fd(), rustix::process::Signal::KILL);
        // A dead file server can hold it in a sleep that SIGKILL does not end. Nobody can reap it then, and
        // its cgroup, which cannot be removed, says so.
        if let Ok(true) = sys_process::wait_readable(pidfd.as_fd(), Some(DEATH)) {
            let _already_reaped = sys_process::wait(pidfd.as_fd());
        }
    }
}

pub(crate) fn pid_of(pid: i32) -> Result<Pid> {
    Pid::from_raw(pid).ok_or_else(|| Error::new(ErrorKind::Internal, "a child has no pid in this namespace"))
}

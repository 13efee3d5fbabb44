//! Runs in: RUNTIME. Stands in for a process that it waits for: passes signals on, moves the terminal's
//! bytes, reaps orphans, and ends with the process's own status.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use runtime_core::{Cancel, Error, ErrorKind, NotifySocket, Process, Result, tell_ready};
use runtime_sys::{SysError, process};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::service_manager;
use crate::terminal::{ConsoleReceiver, Terminal};

/// All signals but those of the C library's threads, 32 and 33, and the kernel's answers to a fault of our
/// own program: blocked, those would kill it without a core dump's cause.
const PASSED_ON: u64 = !(bit(32)
    | bit(33)
    | bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGFPE)
    | bit(libc::SIGILL)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS));

/// A signal in the kernel's set.
const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// All signals that may be passed on, waiting to be read.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals, so that none that comes while the process is being started is lost or kills us.
    ///
    /// The init process is started with this mask; the library resets it there.
    pub(crate) fn block() -> Result<Self> {
        process::block_signals(PASSED_ON).map_err(sys_error)?;
        process::signalfd(PASSED_ON).map(Self).map_err(sys_error)
    }

    fn next(&self) -> Result<Option<i32>> {
        // struct signalfd_siginfo of signalfd(2), which begins with the signal's number.
        let mut info = [0; 128];
        match rustix::io::read(&self.0, &mut info) {
            Ok(_) => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(Error::os("read", errno).doing("wait for the process")),
        }
    }

    /// Whether one that has come is there to end us, now that there is nobody to pass it on to.
    fn ask_to_end(&self) -> Result<bool> {
        let mut asked = false;
        while let Some(signal) = self.next()? {
            asked |= matches!(
                signal,
                libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM
            );
        }
        Ok(asked)
    }
}

/// Makes the orphans of the container our children, so that none outlives us unseen.
pub(crate) fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| Error::os("prctl(PR_SET_CHILD_SUBREAPER)", e))
}

/// Takes the master of the terminal, if there is one, and waits for the process as `wait` does. If that fails
/// half way, the process must not be left running without a terminal.
pub(crate) fn stay(
    process: &Process,
    signals: &Signals,
    receiver: ConsoleReceiver,
    notify: Option<(NotifySocket, Cancel)>,
) -> Result<u8> {
    let terminal = receiver
        .receive()
        .and_then(|master| master.map(Terminal::join).transpose());
    let code = terminal.and_then(|terminal| wait(process, signals, terminal, notify));
    code.map_err(|error| match process.kill(libc::SIGKILL) {
        Err(second) if second.raw_os_error() != Some(libc::ESRCH) => error.and(second),
        _ => error,
    })
}

/// Waits until the process ends; its exit code, or 128 and the signal that killed it. Meanwhile tells the
/// service manager of its READY.
fn wait(
    process: &Process,
    signals: &Signals,
    mut terminal: Option<Terminal>,
    mut notify: Option<(NotifySocket, Cancel)>,
) -> Result<u8> {
    loop {
        let socket = notify.as_ref().map(|(socket, _)| socket);
        let ended = poll(process, signals, terminal.as_ref(), socket)?;
        if let Some((socket, cancel)) = &notify
            && socket.is_ready()?
        {
            let told = match service_manager::notify_socket() {
                // We stay the service's main process.
                Some(manager) => tell_ready(&manager, None, cancel),
                None => Ok(()),
            };
            match told {
                // The signal is the program's, and below it gets it.
                Err(error) if error.kind() == ErrorKind::Interrupted => log::info!("{error}"),
                told => told?,
            }
            notify = None;
        }
        while let Some(signal) = signals.next()? {
            pass_on(signal, process, terminal.as_ref())?;
        }
        if let Some(terminal) = &mut terminal {
            terminal.move_ready()?;
        }
        if !ended {
            continue;
        }
        let status = process.wait()?;
        if let Some(terminal) = &mut terminal {
            terminal.drain(signals.0.as_fd(), || signals.ask_to_end())?;
        }
        return Ok(exit_code(status));
    }
}

/// Sleeps until there is something to do; whether the process has ended.
fn poll(
    process: &Process,
    signals: &Signals,
    terminal: Option<&Terminal>,
    notify: Option<&NotifySocket>,
) -> Result<bool> {
    let pidfd = process.as_fd();
    let mut fds = vec![
        PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        PollFd::from_borrowed_fd(signals.0.as_fd(), PollFlags::IN),
    ];
    if let Some(terminal) = terminal {
        terminal.poll_fds(&mut fds);
    }
    if let Some(socket) = notify {
        fds.push(PollFd::new(socket, PollFlags::IN));
    }
    let patience = terminal.and_then(Terminal::patience);
    match rustix::event::poll(&mut fds, patience.as_ref()) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::os("poll", errno).doing("wait for the process")),
    }
}

fn pass_on(signal: i32, process: &Process, terminal: Option<&Terminal>) -> Result<()> {
    match (signal, terminal) {
        (libc::SIGCHLD, _) => reap_orphans(process.pid()),
        // The kernel tells the process itself, by the same signal. One that has the caller's terminal gets
        // ours.
        (libc::SIGWINCH, Some(terminal)) => {
            terminal.copy_window_size();
            Ok(())
        }
        // Ours: a reader of our output went away, which the write tells as well.
        (libc::SIGPIPE, _) => Ok(()),
        _ => match process.kill(signal) {
            // It has just ended, which the next poll tells.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        },
    }
}

/// Reaps every child that has ended, but leaves the process itself to `Process::wait`.
fn reap_orphans(process: i32) -> Result<()> {
    loop {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let pid = match waitid(Id::All, peek) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Ok(status) => status.pid(),
            Err(errno) => return Err(failed("waitid", errno)),
        };
        match pid {
            Some(pid) if pid.as_raw() != process => {
                waitpid(pid, Some(WaitPidFlag::WNOHANG)).map_err(|e| failed("waitpid", e))?;
            }
            // The kernel shows the same child again until it is reaped: our work is done soon anyway.
            _ => return Ok(()),
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    // Both are below 256: the kernel keeps eight bits of an exit code, and the highest signal is 64.
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn sys_error(error: SysError) -> Error {
    Error::from(error).doing("wait for the process")
}

fn failed(call: &'static str, errno: nix::errno::Errno) -> Error {
    Error::os(call, Errno::from_raw_os_error(errno as i32)).doing("wait for the process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_128_and_its_number() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGKILL)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(64)), 192);
    }
}

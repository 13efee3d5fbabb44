//! Runs in: RUNTIME. SIGINT, SIGTERM and their like while a process is set up: they end the set-up, with
//! everything undone, instead of killing us in the middle of it. They stay pending, and say the exit code.

use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use runtime_core::{Cancel, Error, Result};
use rustix::io::Errno;

/// What ends a program unless it says otherwise, and is sent to make it end: by somebody, or by the timers
/// and the limit of processor time that the caller has set before calling us.
const SIGNALS: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGXCPU,
];

/// Blocks these signals, from now on and for good; the [`Cancel`] is theirs.
pub(crate) fn block() -> Result<Cancel> {
    let set = wanted()?;
    set.thread_block().map_err(|errno| failed("sigprocmask", errno))?;
    let fd = signalfd(&set)?;
    let fd = fd.as_fd().try_clone_to_owned();
    fd.map(Cancel::when_readable)
        .map_err(|error| Error::os("fcntl", error).doing("wait for signals"))
}

/// Lets them through again: one that has come ends this program now.
pub(crate) fn unblock() -> Result<()> {
    wanted()?
        .thread_unblock()
        .map_err(|errno| failed("sigprocmask", errno))
}

/// 128 and the number of the signal that has ended the set-up, as a shell has it.
pub(crate) fn exit_code() -> Option<u8> {
    // There was one, since somebody was interrupted: if it cannot be told which, the caller has another code.
    let signal = wanted()
        .and_then(|set| signalfd(&set))
        .ok()?
        .read_signal()
        .ok()??;
    u8::try_from(128 + signal.ssi_signo).ok()
}

/// Without those that the caller has us ignore: nohup(1), or a shell that runs us in the background.
fn wanted() -> Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in SIGNALS {
        let is_ignored = runtime_sys::process::ignores(signal as i32)
            .map_err(|error| Error::from(error).doing("wait for signals"))?;
        if !is_ignored {
            set.add(signal);
        }
    }
    Ok(set)
}

fn signalfd(set: &SigSet) -> Result<SignalFd> {
    SignalFd::with_flags(set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| failed("signalfd", errno))
}

fn failed(call: &'static str, errno: nix::errno::Errno) -> Error {
    Error::os(call, Errno::from_raw_os_error(errno as i32)).doing("wait for signals")
}

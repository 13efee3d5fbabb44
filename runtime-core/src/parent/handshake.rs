//! Runs in: RUNTIME. Its half of the protocol that is drawn in `runtime_init::wire`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_init::sys::{SysError, process as sys_process};
use runtime_init::wire::{Failure, Link, Message};

use super::launch::Launched;
use super::seccomp_listener;
use crate::host::process::{Stat, reap};
use crate::prepare::sys_error;
use crate::{Cancel, Error, ErrorKind, Result};

/// What RUNTIME does when the child asks. `create`, `run` and `exec` give their own.
pub(crate) trait Counterpart {
    /// Runs prestart and createRuntime hooks. Only `create` and `run` are asked; so are the next two.
    fn run_hooks(&mut self, _pid: i32) -> Result<()> {
        Err(asked_too_late("hooks"))
    }
    /// Moves network devices to the namespace of the socket.
    fn move_net_devices(&mut self, _there: BorrowedFd<'_>) -> Result<()> {
        Err(asked_too_late("network devices"))
    }
    /// Sends the host's trees as they are locked in init's mount namespace, which init gives where RUNTIME may not take it.
    fn send_trees(
        &mut self,
        _init: &Launched,
        _mounts: Option<OwnedFd>,
        _link: BorrowedFd<'_>,
    ) -> Result<()> {
        Err(asked_too_late("trees"))
    }
    /// Passes a seccomp listener on to its agent.
    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()>;
    /// Says what a failure means; called while the child still waits, so that its file system can be looked at.
    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error;
}

fn asked_too_late(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the child asked for {what}, which only `create` gives"),
    )
}

/// Follows the child up to Ready.
pub(crate) fn until_ready(
    link: BorrowedFd<'_>,
    launched: &mut Launched,
    cancel: &Cancel,
    counterpart: &mut dyn Counterpart,
) -> Result<()> {
    loop {
        match receive(link, cancel)? {
            Some((Message::InitPid(pid), Some(pidfd))) => {
                replace(launched, pid, pidfd, cancel)?;
                Link(link).send(Message::Go).map_err(sys_error)?;
            }
            Some((Message::NeedNetDevices, Some(there))) => {
                counterpart.move_net_devices(there.as_fd())?;
                Link(link).send(Message::NetDevicesDone).map_err(sys_error)?;
            }
            Some((Message::NeedTrees, mounts)) => counterpart.send_trees(launched, mounts, link)?,
            Some((Message::RunHooks, _)) => {
                counterpart.run_hooks(launched.pid)?;
                Link(link).send(Message::HooksDone).map_err(sys_error)?;
            }
            Some((Message::SeccompFd, Some(shared))) => {
                let pid = launched.pid;
                seccomp_listener::take_over(shared.as_fd(), launched.pidfd(), cancel, |listener| {
                    counterpart.pass_listener(pid, listener)
                })?;
            }
            Some((Message::Ready, _)) => return Ok(()),
            Some((Message::Failure(failure), output)) => {
                return Err(counterpart.explain(launched.pid, failure, output));
            }
            Some((message, _)) => return Err(unexpected(message)),
            None => return Err(ended(launched.pidfd())),
        }
    }
}

/// Lets the child become the program, and returns when it has.
pub(crate) fn start(
    link: BorrowedFd<'_>,
    pid: i32,
    pidfd: BorrowedFd<'_>,
    cancel: &Cancel,
    counterpart: &mut dyn Counterpart,
) -> Result<()> {
    Link(link).send(Message::Start).map_err(sys_error)?;
    loop {
        wait_for_answer(link, cancel)?;
        match receive(link, &Cancel::default())? {
            // The child's end is close-on-exec, and the child the only one who has it.
            None => return check_execution(pid, pidfd),
            Some((Message::SeccompFd, Some(shared))) => {
                seccomp_listener::take_over(shared.as_fd(), pidfd, cancel, |listener| {
                    counterpart.pass_listener(pid, listener)
                })?;
            }
            Some((Message::Failure(failure), output)) => {
                return Err(counterpart.explain(pid, failure, output));
            }
            Some((message, _)) => return Err(unexpected(message)),
        }
    }
}

/// An answer that is there counts before the caller's wish to end: the program may run already, and is then told by
/// whoever forwards signals.
fn wait_for_answer(link: BorrowedFd<'_>, cancel: &Cancel) -> Result<()> {
    match cancel.wait_readable(link) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            match sys_process::wait_readable(link, Some(0)).map_err(sys_error)? {
                true => Ok(()),
                false => Err(error),
            }
        }
        waited => waited,
    }
}

/// The end of the link says that the program runs, unless the child was killed on the way there.
fn check_execution(pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
    match rustix::process::Pid::from_raw(pid)
        .map(Stat::read)
        .transpose()?
        .flatten()
    {
        Some(stat) if !stat.has_executed() => Err(ended(pidfd)),
        // None: a short program, which its parent has reaped already.
        _ => Ok(()),
    }
}

fn receive(link: BorrowedFd<'_>, cancel: &Cancel) -> Result<Option<(Message, Option<OwnedFd>)>> {
    cancel.wait_readable(link)?;
    Link(link)
        .receive()
        .map_err(|error: SysError| sys_error(error).doing("talk to the container's process"))
}

/// INTERMEDIATE has made INIT, or JOINER EXEC, and ends.
fn replace(launched: &mut Launched, pid: i32, pidfd: OwnedFd, cancel: &Cancel) -> Result<()> {
    let intermediate = std::mem::replace(launched, Launched::new(runtime_init::start::Child { pid, pidfd }));
    // Still killed if it is dropped now: somebody may have stopped it.
    cancel.wait_readable(intermediate.pidfd())?;
    let (_, intermediate) = intermediate.keep();
    reap(intermediate.as_fd()).map(drop)
}

fn unexpected(message: Message) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("unexpected message from the container's process: {message:?}"),
    )
}

/// It ended without a word: killed, then.
fn ended(pidfd: BorrowedFd<'_>) -> Error {
    let status = match sys_process::wait_readable(pidfd, Some(1000)) {
        Ok(true) => sys_process::wait(pidfd).ok(),
        _ => None,
    };
    let message = match status.and_then(|status| status.terminating_signal()) {
        Some(signal) => format!("the container's process was killed by signal {signal} while it was set up"),
        None => "the container's process ended while it was set up".to_owned(),
    };
    Error::new(ErrorKind::Internal, message)
}

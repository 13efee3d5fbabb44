//! Runs in: RUNTIME. Takes the seccomp listener from a child that can make no more system calls (its filter
//! may send each of them to the agent, who is still waiting for the listener): see `load_with_listener` in
//! `runtime-init`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::link::is_memfd;
use crate::error::{CallResult, ErrorResult};
use crate::{Cancel, Error, ErrorKind, Result};

const PAUSE: Duration = Duration::from_micros(50);
/// How the kernel names a listener (kernel/seccomp.c).
const LISTENER: &str = "anon_inode:seccomp notify";

/// Waits until the child has loaded its filter, takes the listener, hands it to `pass_on`, and lets the child
/// go on.
///
/// # Errors
/// `Interrupted`; `Denied` if the child gives something else for a listener.
pub(super) fn take_over(
    shared: &OwnedFd,
    pidfd: BorrowedFd<'_>,
    cancel: &Cancel,
    pass_on: impl FnOnce(OwnedFd) -> Result<()>,
) -> Result<()> {
    if !is_memfd(shared) {
        return Err(not_a_listener("the memory for its number"));
    }
    let shared = shared.as_fd();
    let number = loop {
        match read_word(shared)? {
            // Also the pause until the next look.
            0 if cancel.wait_readable_for(pidfd, Some(PAUSE))? => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "the container's process ended while its filter was loaded",
                ));
            }
            0 => {}
            // The failure itself comes over the link.
            number if number < 0 => return Ok(()),
            number => break number,
        }
    };
    let listener = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
        .call("pidfd_getfd")
        .field("linux.seccomp.listenerPath")?;
    let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
    let kind = std::fs::read_link(&path).call("readlink").path(&path)?;
    if kind.as_os_str() != LISTENER {
        return Err(not_a_listener("the descriptor"));
    }
    pass_on(listener)?;
    write_word(shared, 0)
}

/// A process in the container that traces the child could have anything of its own given to the agent.
fn not_a_listener(what: &str) -> Error {
    Error::new(
        ErrorKind::Denied,
        format!("{what} that the container's process gave is not that of a seccomp listener"),
    )
    .with_field("linux.seccomp.listenerPath")
}

fn read_word(shared: BorrowedFd<'_>) -> Result<i32> {
    let mut word = [0; 4];
    match rustix::io::pread(shared, &mut word, 0).call("pread")? {
        4 => Ok(i32::from_ne_bytes(word)),
        _ => Err(not_a_listener("the memory for its number")),
    }
}

fn write_word(shared: BorrowedFd<'_>, word: i32) -> Result<()> {
    rustix::io::pwrite(shared, &word.to_ne_bytes(), 0)
        .map(drop)
        .call("pwrite")
}

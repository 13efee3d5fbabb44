//! Runs in: RUNTIME. Takes the seccomp listener from a child that can make no more system calls (its filter may send
//! each of them to the agent, who is still waiting for the listener): see `load_with_listener` in `runtime-init`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::{Cancel, Error, ErrorKind, Result};

const PAUSE: Duration = Duration::from_micros(50);

/// Waits until the child has loaded its filter, takes the listener, hands it to `pass_on`, and lets the child go on.
pub(super) fn take_over(
    shared: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    cancel: &Cancel,
    pass_on: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<()> {
    let number = loop {
        match read_word(shared)? {
            // It may have been stopped or frozen on the way.
            0 if !cancel.wait_readable_for(pidfd, Some(PAUSE))? => {}
            0 => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "the container's process ended while its filter was loaded",
                ));
            }
            // The failure itself comes over the link.
            number if number < 0 => return Ok(()),
            number => break number,
        }
    };
    let listener = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
        .map_err(|errno| Error::os("pidfd_getfd", errno).field("linux.seccomp.listenerPath"))?;
    pass_on(listener.as_fd())?;
    write_word(shared, 0)
}

fn read_word(shared: BorrowedFd<'_>) -> Result<i32> {
    let mut word = [0; 4];
    rustix::io::pread(shared, &mut word, 0).map_err(|errno| Error::os("pread", errno))?;
    Ok(i32::from_ne_bytes(word))
}

fn write_word(shared: BorrowedFd<'_>, word: i32) -> Result<()> {
    rustix::io::pwrite(shared, &word.to_ne_bytes(), 0)
        .map(drop)
        .map_err(|errno| Error::os("pwrite", errno))
}

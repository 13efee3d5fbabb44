//! Runs in: RUNTIME, before anything else of Rust. The `main` that the C library calls.

use std::ffi::c_int;
use std::os::fd::IntoRawFd;

use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, Result};
use rustix::stdio::{stderr, stdin, stdout};

/// Without it, Rust would install a handler that explains an overflow of the stack, for which
/// glibc has to read and parse /proc/self/maps at every start: a sixth of all that is computed for `state`. The kernel
/// ends such a process all the same. The arguments reach `std::env` all the same, where the C library is glibc.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    if let Err(errno) = open_standard_streams().and_then(|()| ignore_broken_pipes()) {
        return errno.raw_os_error();
    }
    runtime_cli::main().into()
}

/// A caller may have closed them; then the next file that is opened would be taken for one of them, and a message be
/// written into it.
fn open_standard_streams() -> Result<()> {
    let mut streams =
        [stdin(), stdout(), stderr()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let now = Timespec::default();
    while let Err(errno) = poll(&mut streams, Some(&now)) {
        if errno != Errno::INTR {
            return Err(errno);
        }
    }
    let closed = streams
        .iter()
        .filter(|stream| stream.revents().contains(PollFlags::NVAL))
        .count();
    for _ in 0..closed {
        // The lowest number that is free is one that is missing. It stays open.
        let _number = open("/dev/null", OFlags::RDWR, Mode::empty())?.into_raw_fd();
    }
    Ok(())
}

/// So that a write to a pipe that nobody reads is an error that can be told.
fn ignore_broken_pipes() -> Result<()> {
    // SAFETY: no handler is installed, and no other thread runs yet.
    match unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) } {
        Ok(_default) => Ok(()),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}

//! Runs in: RUNTIME. The program `onggi`: what has to be done before the C library starts, what Rust's runtime would do
//! before `main`, and the command line.
#![cfg_attr(target_env = "gnu", no_main)]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;

/// What the C library calls. Rust's own would also install a handler that explains an overflow of the stack, for which
/// glibc has to read and parse /proc/self/maps at every start: a sixth of all that is computed for `state`. The kernel
/// ends such a process all the same. The arguments reach `std::env` without it, where the C library is glibc.
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    if let Err(errno) = open_standard_streams().and_then(|()| ignore_broken_pipes()) {
        return errno.raw_os_error();
    }
    runtime_cli::main().into()
}

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    runtime_cli::main().into()
}

/// A caller may have closed them; then the next file that is opened would be taken for one of them, and a message be
/// written into it.
#[cfg(target_env = "gnu")]
fn open_standard_streams() -> rustix::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{Mode, OFlags, open};
    use rustix::stdio::{stderr, stdin, stdout};
    use std::os::fd::IntoRawFd;

    let mut streams =
        [stdin(), stdout(), stderr()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let now = Timespec::default();
    while let Err(errno) = poll(&mut streams, Some(&now)) {
        if errno != rustix::io::Errno::INTR {
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
#[cfg(target_env = "gnu")]
fn ignore_broken_pipes() -> rustix::io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is installed, and no other thread runs yet.
    match unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) } {
        Ok(_default) => Ok(()),
        Err(errno) => Err(rustix::io::Errno::from_raw_os_error(errno as i32)),
    }
}

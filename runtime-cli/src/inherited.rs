//! Runs in: RUNTIME, first of all. What this program needs otherwise than its caller may have left it: the
//! table "What is inherited" in docs/design.md. What of it the container gets is the library's matter.

use std::os::fd::{AsRawFd, IntoRawFd};

use runtime_core::{Error, Result};
use runtime_sys::SysError;
use runtime_sys::process::{limit, set_limit, set_signal_action};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};

/// A caller may have closed them; then the next file that is opened would be taken for one of them, and a
/// message be written into it.
///
/// # Errors
/// `poll`, or /dev/null cannot be opened.
pub(crate) fn open_standard_streams() -> Result<()> {
    let mut streams =
        [stdin(), stdout(), stderr()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let now = Timespec::default();
    while let Err(errno) = poll(&mut streams, Some(&now)) {
        if errno != Errno::INTR {
            return Err(Error::os("ppoll", errno).doing("look at standard input, output and error"));
        }
    }
    let closed = streams
        .iter()
        .filter(|stream| stream.revents().contains(PollFlags::NVAL))
        .count();
    for _ in 0..closed {
        let path = "/dev/null";
        let null = open(path, OFlags::RDWR, Mode::empty()).map_err(|errno| {
            Error::os("open", errno)
                .with_path(path)
                .doing("open standard input, output and error")
        })?;
        // The lowest number that is free is one that is missing, and stays open. (One that was opened as a
        // path counts as closed above, and is not.)
        if null.as_raw_fd() <= stderr().as_raw_fd() {
            let _number = null.into_raw_fd();
        }
    }
    Ok(())
}

/// Signal actions survive execve(2) only where they are to ignore.
///
/// # Errors
/// That of the system call.
pub(crate) fn reset_signal_actions() -> Result<()> {
    // Who ignores it has no children to wait for: the kernel forgets how they ended (waitid(2)).
    let ignored = [
        (libc::SIGCHLD, false),
        // What a write does then to a pipe that nobody reads, and to a file that RLIMIT_FSIZE keeps from
        // growing, is an error that can be told.
        (libc::SIGPIPE, true),
        (libc::SIGXFSZ, true),
    ];
    ignored
        .iter()
        .try_for_each(|(signal, ignore)| set_signal_action(*signal, *ignore))
        .map_err(|error| Error::from(error).doing("reset the signal actions"))
}

/// Raises the limit of open files as far as it goes, for this process alone: each mount of a container takes
/// a descriptor, and the usual soft limit is low for the sake of programs that use select(2). Returns the
/// soft limit as it was, which is what everything gets that is started here.
///
/// # Errors
/// That of the system call.
pub(crate) fn raise_open_files() -> Result<u64> {
    let doing = |error: SysError| Error::from(error).doing("raise the limit of open files");
    let (soft, hard) = limit(libc::RLIMIT_NOFILE).map_err(doing)?;
    if soft == hard {
        return Ok(soft);
    }
    match set_limit(0, libc::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Ok(soft),
        // A hard limit that is above fs.nr_open by now, or a filter around us: then it has to do as it is.
        Err(error) if error.errno == Errno::PERM => Ok(soft),
        Err(error) => Err(doing(error)),
    }
}

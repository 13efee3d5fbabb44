//! Runs in: RUNTIME. The gate between `create` and `start`: `start.sock` in the container's state directory.
//!
//! ```text
//! create (RUNTIME)      INIT                          start (RUNTIME)
//! listen ─────────────► holds the listener
//! exits                 accept, wait                  connect, remove the file
//!                       ◄──────────────────────────── records, as over the link of `run` (`runtime_init::wire`)
//! ```
//!
//! The file is there exactly while the container's status is `created`, provided that INIT lives. What the
//! records mean is not known here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketType};

use crate::host::socket::unix_socket;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "start.sock";

/// Makes the socket file in the container's directory and returns the listener, close-on-exec, for INIT to
/// inherit.
pub(crate) fn listen(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let listen = || {
        let socket = unix_socket::socket(SocketType::SEQPACKET)?;
        // bind(2) gives the file the mode of the socket: nobody else may start it, whatever the caller's
        // umask is.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| ("fchmod", errno))?;
        let address = unix_socket::address_below(dir, NAME)?;
        rustix::net::bind(&socket, &address).map_err(|errno| ("bind", errno))?;
        rustix::net::listen(&socket, 1).map_err(|errno| ("listen", errno))?;
        Ok(socket)
    };
    listen().map_err(|(call, errno)| {
        Error::os(call, errno)
            .with_path(NAME)
            .doing("make the start socket")
    })
}

/// Whether the gate is shut: the container has been created and not started.
pub(crate) fn exists(dir: BorrowedFd<'_>) -> Result<bool> {
    match rustix::fs::accessat(dir, NAME, rustix::fs::Access::EXISTS, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::os("faccessat", errno)
            .with_path(NAME)
            .doing("look for the start socket")),
    }
}

fn try_connect(
    dir: BorrowedFd<'_>,
    set_up: impl FnOnce(&OwnedFd) -> std::result::Result<(), unix_socket::Failure>,
) -> std::result::Result<OwnedFd, unix_socket::Failure> {
    let socket = unix_socket::socket(SocketType::SEQPACKET)?;
    set_up(&socket)?;
    let address = unix_socket::address_below(dir, NAME)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))
        .map_err(|errno| ("connect", errno))?;
    Ok(socket)
}

/// Has an INIT that waits at the gate end, by hanging up without the word: for whoever does not know its pid.
/// Returns whether there was one. Without one it is no error.
///
/// # Errors
/// It does not answer within `patience`, or cannot be reached.
pub(crate) fn turn_away(dir: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let failed = |error: Error| {
        error
            .with_path(NAME)
            .doing("end the process that waits for start")
    };
    let no_waiting =
        |socket: &OwnedFd| rustix::io::ioctl_fionbio(socket, true).map_err(|errno| ("ioctl", errno));
    let socket = match try_connect(dir, no_waiting) {
        Ok(socket) => socket,
        Err((_, Errno::NOENT | Errno::CONNREFUSED)) => return Ok(false),
        Err((call, errno)) => return Err(failed(Error::os(call, errno))),
    };
    rustix::net::shutdown(&socket, Shutdown::Write).map_err(|errno| failed(Error::os("shutdown", errno)))?;
    // It has a last word, or closes its end: then it is on its way out.
    let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    let answered = runtime_sys::process::wait_readable(socket.as_fd(), Some(patience))
        .map_err(|error| failed(error.into()))?;
    match answered {
        true => Ok(true),
        false => Err(failed(Error::new(ErrorKind::Os, "it does not answer"))),
    }
}

/// Connects to INIT.
///
/// # Errors
/// [`ErrorKind::WrongStatus`] with runc's texts: the container was started before, or INIT is gone.
pub(crate) fn connect(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    // Before INIT can have answered: who takes the listener out of it must not answer in its place.
    let tell_sender = |socket: &OwnedFd| {
        rustix::net::sockopt::set_socket_passcred(socket, true).map_err(|errno| ("setsockopt", errno))
    };
    try_connect(dir, tell_sender).map_err(|(call, errno)| match errno {
        Errno::NOENT => Error::new(
            ErrorKind::WrongStatus,
            "cannot start an already running container",
        ),
        Errno::CONNREFUSED => Error::new(
            ErrorKind::WrongStatus,
            "cannot start a container that has stopped",
        ),
        _ => Error::os(call, errno)
            .with_path(NAME)
            .doing("connect to the start socket"),
    })
}

/// Removes the socket file: the container is no longer `created`. That it is not there is no failure.
pub(crate) fn remove(dir: BorrowedFd<'_>) -> Result<()> {
    match rustix::fs::unlinkat(dir, NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::os("unlinkat", errno)
            .with_path(NAME)
            .doing("remove the start socket")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use std::os::fd::AsFd;
    use std::thread;

    use rustix::io::FdFlags;

    use super::*;

    /// A state directory whose path is longer than a socket address.
    fn dir() -> (tempfile::TempDir, File) {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let dir = File::open(deep).unwrap();
        (base, dir)
    }

    #[test]
    fn the_gate_opens_once() {
        let (_base, dir) = dir();
        assert!(!exists(dir.as_fd()).unwrap());
        let listener = listen(dir.as_fd()).unwrap();
        assert!(
            rustix::io::fcntl_getfd(&listener)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
        assert!(exists(dir.as_fd()).unwrap());
        assert_eq!(listen(dir.as_fd()).unwrap_err().errno(), Some(Errno::ADDRINUSE));
        let _connection = connect(dir.as_fd()).unwrap();
        remove(dir.as_fd()).unwrap();
        remove(dir.as_fd()).unwrap();
        assert!(!exists(dir.as_fd()).unwrap());
        let error = connect(dir.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStatus);
        assert_eq!(error.to_string(), "cannot start an already running container");
    }

    #[test]
    fn whoever_waits_at_the_gate_is_turned_away() {
        let (_base, dir) = dir();
        let patience = Duration::from_secs(10);
        assert!(!turn_away(dir.as_fd(), patience).unwrap());
        let listener = listen(dir.as_fd()).unwrap();
        let init = thread::spawn(move || {
            let socket = rustix::net::accept(&listener).unwrap();
            let mut byte = [0; 2];
            (rustix::io::read(&socket, &mut byte).unwrap(), listener)
        });
        assert!(turn_away(dir.as_fd(), patience).unwrap());
        let (length, listener) = init.join().unwrap();
        assert_eq!(length, 0, "it was given the word");
        drop(listener);
        assert!(!turn_away(dir.as_fd(), patience).unwrap());
    }

    #[test]
    fn an_init_that_is_gone_is_told() {
        let (_base, state) = dir();
        drop(listen(state.as_fd()).unwrap());
        assert_eq!(
            connect(state.as_fd()).unwrap_err().to_string(),
            "cannot start a container that has stopped"
        );
    }
}

//! Runs in: RUNTIME. The gate between `create` and `start`: `start.sock` in the container's state directory.
//!
//! ```text
//! create (RUNTIME)      INIT                          start (RUNTIME)
//! listen ─────────────► holds the listener
//! exits                 accept, wait                  connect, remove the file
//!                       ◄──────────────────────────── records, as over the link of `run` (`runtime_init::wire`)
//! ```
//!
//! The file is there exactly while the container's status is `created`, provided that INIT lives. What the records mean is
//! not known here.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::SocketType;

use crate::host::unix_socket;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "start.sock";

/// Makes the socket file in the container's directory and returns the listener, close-on-exec, for INIT to inherit.
pub fn listen(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let listen = || {
        let socket = unix_socket::socket(SocketType::SEQPACKET)?;
        // bind(2) gives the file the mode of the socket: nobody else may start it, whatever the caller's umask is.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| ("fchmod", errno))?;
        let address = unix_socket::address_below(dir, NAME)?;
        rustix::net::bind(&socket, &address).map_err(|errno| ("bind", errno))?;
        rustix::net::listen(&socket, 1).map_err(|errno| ("listen", errno))?;
        Ok(socket)
    };
    listen().map_err(|(call, errno)| Error::os(call, errno).path(NAME).doing("make the start socket"))
}

/// Whether the gate is shut: the container has been created and not started.
pub fn exists(dir: BorrowedFd<'_>) -> Result<bool> {
    match rustix::fs::accessat(dir, NAME, rustix::fs::Access::EXISTS, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::os("faccessat", errno)
            .path(NAME)
            .doing("look for the start socket")),
    }
}

/// Connects to INIT.
///
/// # Errors
/// [`ErrorKind::WrongStatus`] with runc's texts: the container was started before, or INIT is gone.
pub fn connect(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let connect = || {
        let socket = unix_socket::socket(SocketType::SEQPACKET)?;
        // Before INIT can have answered: who takes the listener out of it must not answer in its place.
        rustix::net::sockopt::set_socket_passcred(&socket, true).map_err(|errno| ("setsockopt", errno))?;
        let address = unix_socket::address_below(dir, NAME)?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))
            .map_err(|errno| ("connect", errno))?;
        Ok(socket)
    };
    connect().map_err(|(call, errno)| match errno {
        Errno::NOENT => Error::new(
            ErrorKind::WrongStatus,
            "cannot start an already running container",
        ),
        Errno::CONNREFUSED => Error::new(
            ErrorKind::WrongStatus,
            "cannot start a container that has stopped",
        ),
        _ => Error::os(call, errno)
            .path(NAME)
            .doing("connect to the start socket"),
    })
}

/// Removes the socket file: the container is no longer `created`. That it is not there is no failure.
pub fn remove(dir: BorrowedFd<'_>) -> Result<()> {
    match rustix::fs::unlinkat(dir, NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::os("unlinkat", errno)
            .path(NAME)
            .doing("remove the start socket")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use std::os::fd::AsFd;

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
    fn an_init_that_is_gone_is_told() {
        let (_base, state) = dir();
        drop(listen(state.as_fd()).unwrap());
        assert_eq!(
            connect(state.as_fd()).unwrap_err().to_string(),
            "cannot start a container that has stopped"
        );
    }
}

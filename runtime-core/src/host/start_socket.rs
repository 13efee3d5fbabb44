//! Runs in: RUNTIME. The gate between `create` and `start`: `start.sock` in the container's state directory.
//!
//! ```text
//! create (RUNTIME)      INIT                          start (RUNTIME)
//! listen ─────────────► holds the listener
//! exits                 accept, wait                  connect, remove the file
//!                       ◄──────────────────────────── "go" (one byte)
//!                       startContainer hooks, execve
//!                       ────────────────────────────► end of file: the program runs (INIT's end is close-on-exec)
//!                       ────────────────────────────► 8 bytes: a Failure, then end of file
//! ```
//!
//! The file is there exactly while the container's status is `created`, provided that INIT lives. What the eight bytes
//! mean is not known here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketType};

use crate::host::unix_socket;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "start.sock";
const GO: [u8; 1] = [1];

/// The size of the record that INIT sends instead of executing the program.
pub const FAILURE_SIZE: usize = 8;

/// How INIT answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// End of file without a record: INIT's end was closed by `execve`. (Or by a SIGKILL between the byte and
    /// `execve`; to the caller that is a program that ended at once.)
    Running,
    /// A record that the caller explains.
    Failed([u8; FAILURE_SIZE]),
    /// INIT ended before it took the byte.
    Ended,
}

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

/// Has an INIT that waits at the gate end, by hanging up without the word: for whoever does not know its pid. Returns
/// whether there was one. Without one it is no error.
///
/// # Errors
/// It does not answer within `patience`, or cannot be reached.
pub fn turn_away(dir: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let failed = |error: Error| error.path(NAME).doing("end the process that waits for start");
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
    let answered = runtime_init::sys::process::wait_readable(socket.as_fd(), Some(patience))
        .map_err(|error| failed(Error::os(error.call.name(), error.errno)))?;
    match answered {
        true => Ok(true),
        false => Err(failed(Error::new(ErrorKind::Os, "it does not answer"))),
    }
}

/// Connects to INIT.
///
/// # Errors
/// [`ErrorKind::WrongStatus`] with runc's texts: the container was started before, or INIT is gone.
pub fn connect(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    try_connect(dir, |_| Ok(())).map_err(|(call, errno)| match errno {
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

/// Opens the gate and waits for the answer, through the startContainer hooks up to `execve`.
pub fn go(socket: impl AsFd) -> Result<Answer> {
    let os = |call, errno| {
        Error::os(call, errno)
            .path(NAME)
            .doing("start the container's process")
    };
    match rustix::io::retry_on_intr(|| rustix::net::send(&socket, &GO, SendFlags::NOSIGNAL)) {
        Ok(_) => {}
        Err(Errno::PIPE | Errno::CONNRESET) => return Ok(Answer::Ended),
        Err(errno) => return Err(os("sendto", errno)),
    }
    // One byte more than a record, so that a longer message is noticed.
    let mut message = [0; FAILURE_SIZE + 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(&socket, &mut message)) {
        Ok(0) => Ok(Answer::Running),
        Ok(FAILURE_SIZE) => {
            let mut failure = [0; FAILURE_SIZE];
            failure.copy_from_slice(&message[..FAILURE_SIZE]);
            Ok(Answer::Failed(failure))
        }
        Ok(length) => Err(Error::new(
            ErrorKind::Internal,
            format!("a message of {length} bytes came from the container's init process"),
        )),
        // The kernel says so when the other end is closed with our byte unread, or without having been accepted.
        Err(Errno::CONNRESET) => Ok(Answer::Ended),
        Err(errno) => Err(os("read", errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
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

    fn accept(listener: &OwnedFd) -> OwnedFd {
        let socket = rustix::net::accept(listener).unwrap();
        let mut byte = [0; 2];
        assert_eq!(rustix::io::read(&socket, &mut byte).unwrap(), 1);
        assert_eq!(byte[..1], GO);
        socket
    }

    #[test]
    fn end_of_file_means_running_and_the_gate_opens_once() {
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
        let socket = connect(dir.as_fd()).unwrap();
        remove(dir.as_fd()).unwrap();
        remove(dir.as_fd()).unwrap();
        assert!(!exists(dir.as_fd()).unwrap());
        let init = thread::spawn(move || drop(accept(&listener)));
        assert_eq!(go(&socket).unwrap(), Answer::Running);
        init.join().unwrap();
        let error = connect(dir.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStatus);
        assert_eq!(error.to_string(), "cannot start an already running container");
    }

    #[test]
    fn a_record_means_failed_and_any_other_message_is_refused() {
        let answers: [(&[u8], Option<Answer>); 4] = [
            (b"12345678", Some(Answer::Failed(*b"12345678"))),
            (b"1", None),
            (b"123456789", None),
            (&[7; 100], None),
        ];
        for (message, expected) in answers {
            let (_base, dir) = dir();
            let listener = listen(dir.as_fd()).unwrap();
            let init = thread::spawn(move || rustix::io::write(accept(&listener), message).unwrap());
            assert_eq!(go(connect(dir.as_fd()).unwrap()).ok(), expected);
            init.join().unwrap();
        }
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
    fn an_init_that_is_gone_is_told_before_and_after_connecting() {
        let (_base, state) = dir();
        drop(listen(state.as_fd()).unwrap());
        assert_eq!(
            connect(state.as_fd()).unwrap_err().to_string(),
            "cannot start a container that has stopped"
        );

        let (_base, state) = dir();
        let listener = listen(state.as_fd()).unwrap();
        let socket = connect(state.as_fd()).unwrap();
        drop(listener);
        assert_eq!(go(socket).unwrap(), Answer::Ended);

        let (_base, state) = dir();
        let listener = listen(state.as_fd()).unwrap();
        let socket = connect(state.as_fd()).unwrap();
        let init = thread::spawn(move || {
            let accepted = rustix::net::accept(&listener).unwrap();
            // Until the byte is there, and unread.
            let mut polled = [rustix::event::PollFd::new(
                &accepted,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut polled, None).unwrap();
        });
        assert_eq!(go(socket).unwrap(), Answer::Ended);
        init.join().unwrap();
    }
}

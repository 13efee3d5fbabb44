//! Runs in: RUNTIME. The console socket (`--console-socket`): reaching it, and being the other end of it. The
//! terminal is made, and its master sent, by INIT: to the console socket itself, or first to RUNTIME.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{CallResult, ErrorResult};
use crate::host::socket::unix_socket;
use crate::{Cancel, Error, ErrorKind, Result};

const FIELD: &str = "process.terminal";

/// Connects to the console socket, a listening AF_UNIX stream socket, before anything is created: a caller
/// who does not listen is told at once.
///
/// # Errors
/// The failed call, with `process.terminal` and the path; `Interrupted`.
pub(crate) fn connect(path: &Path, cancel: &Cancel) -> Result<OwnedFd> {
    unix_socket::connect_stream(path, cancel).map_err(|error| {
        error
            .with_field(FIELD)
            .with_path(path)
            .doing("connect to the console socket")
    })
}

/// The two ends of a socket by which INIT sends the master to RUNTIME: RUNTIME's, and INIT's.
///
/// # Errors
/// As socketpair(2).
pub(crate) fn relay() -> Result<(OwnedFd, OwnedFd)> {
    // What is not there when it is looked for never comes.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .call("socketpair")
        .field(FIELD)
}

/// Passes a master that INIT has sent on to the console socket.
///
/// # Errors
/// Those of [`receive_master`]; the failed call; `Interrupted`.
pub(crate) fn pass_on(from_init: impl AsFd, console: impl AsFd, cancel: &Cancel) -> Result<()> {
    let master = receive_master(from_init)?;
    send_master(&master, console, cancel)
}

/// Sends the master of a terminal to the console socket.
///
/// # Errors
/// The failed call; `Interrupted`.
pub(crate) fn send_master(master: impl AsFd, console: impl AsFd, cancel: &Cancel) -> Result<()> {
    unix_socket::send_fd(console.as_fd(), b"/dev/ptmx", master.as_fd(), cancel)
        .map_err(|error| error.with_field(FIELD).doing("pass the terminal on"))
}

/// Receives the master of the container's terminal from an accepted connection. Exactly one descriptor must
/// come; others are closed. The bytes that come with it, a name, are not used.
///
/// # Errors
/// [`ErrorKind::Internal`] if the sender closed without sending, or sent several.
pub fn receive_master(socket: impl AsFd) -> Result<OwnedFd> {
    let doing = "receive the terminal's master";
    let mut name = [0; 4096];
    let (length, fds) = unix_socket::receive_fds(socket.as_fd(), &mut name)
        .map_err(|(call, errno)| Error::os(call, errno).with_field(FIELD).doing(doing))?;
    let wrong = |text: String| {
        Err(Error::new(ErrorKind::Internal, text)
            .with_field(FIELD)
            .doing(doing))
    };
    match <[OwnedFd; 1]>::try_from(fds) {
        Ok([master]) => Ok(master),
        Err(fds) if fds.is_empty() && length == 0 => {
            wrong("the connection was closed before the master came".into())
        }
        Err(fds) => wrong(format!(
            "a message with {} descriptors came instead of 1",
            fds.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Write};
    use std::mem::MaybeUninit;
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::io::{Errno, FdFlags};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    fn send(socket: &UnixStream, count: usize) {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fds = vec![file.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(
            socket,
            &[IoSlice::new(b"/dev/ptmx")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
    }

    #[test]
    fn exactly_one_descriptor_is_taken_and_it_is_close_on_exec() {
        let (here, there) = UnixStream::pair().unwrap();
        send(&there, 1);
        let master = receive_master(&here).unwrap();
        assert!(
            rustix::io::fcntl_getfd(&master)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
        let device = rustix::fs::fstat(&master).unwrap().st_rdev;
        assert_eq!((rustix::fs::major(device), rustix::fs::minor(device)), (1, 3));
    }

    #[test]
    fn other_counts_are_refused() {
        for count in [2, 8, 40] {
            let (here, there) = UnixStream::pair().unwrap();
            send(&there, count);
            let error = receive_master(&here).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
            assert!(
                error.to_string().contains("descriptors came instead of 1"),
                "{error}"
            );
        }
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"no descriptor").unwrap();
        assert!(
            receive_master(&here)
                .unwrap_err()
                .to_string()
                .contains("with 0 descriptors")
        );
        drop(there);
        assert!(
            receive_master(&here)
                .unwrap_err()
                .to_string()
                .contains("closed before")
        );
    }

    #[test]
    fn a_path_of_any_length_is_reached() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        for path in [
            base.path().join("short"),
            deep.join("s"),
            base.path().join("n".repeat(255)),
        ] {
            // Bound under a short name, because std cannot bind a long one.
            let short = base.path().join("bound");
            let listener = UnixListener::bind(&short).unwrap();
            std::fs::rename(&short, &path).unwrap();
            let socket = connect(&path, &Cancel::default()).unwrap();
            assert!(
                rustix::io::fcntl_getfd(&socket)
                    .unwrap()
                    .contains(FdFlags::CLOEXEC)
            );
            let (accepted, _) = listener.accept().unwrap();
            send(&UnixStream::from(socket), 1);
            receive_master(&accepted).unwrap();
        }
    }

    #[test]
    fn failure_names_field_and_path() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("d".repeat(200)).join("none");
        for path in [base.path().join("none"), long] {
            let error = connect(&path, &Cancel::default()).unwrap_err();
            assert_eq!(error.field(), Some("process.terminal"));
            assert_eq!(error.errno(), Some(Errno::NOENT));
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
        let file = base.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(
            connect(&file, &Cancel::default()).unwrap_err().errno(),
            Some(Errno::CONNREFUSED)
        );
    }
}

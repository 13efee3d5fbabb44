//! Runs in: RUNTIME. The proxy of sd_notify(3) between a service manager and a container: a datagram socket
//! in the container's state directory, which the container sees at `/run/notify`. Of what comes there only
//! `READY=` goes on; everything else (MAINPID, stored descriptors, …) would let the container speak for the
//! service.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix, SocketType};
use rustix::pipe::PipeFlags;

use crate::error::CallResult;
use crate::host::socket::unix_socket;
use crate::{Cancel, Error, Result};

/// The directory below the container's.
pub(crate) const DIRECTORY: &str = "notify";
/// Where the container sees that directory.
pub(crate) const IN_CONTAINER: &str = "/run/notify";
/// The socket in it.
pub(crate) const NAME: &str = "notify.sock";
/// sd_notify(3) has no longer messages.
const LONGEST: usize = 4096;
/// How many messages are read without looking at anything else.
const MOST_MESSAGES: usize = 64;
/// How long the service manager may take to read a message, or to answer BARRIER.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the directory, for the container's mount.
pub(crate) fn make_directory(dir: BorrowedFd<'_>) -> Result<()> {
    let failed = |call| {
        move |errno| {
            Error::os(call, errno)
                .with_path(DIRECTORY)
                .doing("make the notify socket")
        }
    };
    rustix::fs::mkdirat(dir, DIRECTORY, Mode::RWXU).map_err(failed("mkdirat"))?;
    // Whatever the umask is: the container's users reach the socket through it.
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    rustix::fs::chmodat(dir, DIRECTORY, mode, AtFlags::empty()).map_err(failed("fchmodat"))
}

/// The socket that the container writes to.
#[derive(Debug)]
pub struct NotifySocket(OwnedFd);

impl NotifySocket {
    /// Makes the socket; none if the container was created without that directory.
    pub fn bind(dir: BorrowedFd<'_>) -> Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let below = match rustix::fs::openat(dir, DIRECTORY, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.call("openat"),
        };
        let bind = |below: OwnedFd| {
            let socket = unix_socket::socket(SocketType::DGRAM)?;
            // bind(2) gives the file the mode of the socket: any user of the container may write.
            rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o777)).map_err(|errno| ("fchmod", errno))?;
            let address = unix_socket::address_below(below.as_fd(), NAME)?;
            rustix::net::bind(&socket, &address).map_err(|errno| ("bind", errno))?;
            open_to_all(below.as_fd())?;
            Ok(Self(socket))
        };
        below
            .and_then(|below| bind(below).map_err(|(call, errno)| Error::os(call, errno)))
            .map(Some)
            .map_err(|error| error.with_path(NAME).doing("make the notify socket"))
    }

    /// Whether READY is among what has come. Does not wait, and looks at a bounded number of messages, since
    /// the container may write faster than we read: what is left is seen the next time.
    ///
    /// # Errors
    /// That of recv(2).
    pub fn is_ready(&self) -> Result<bool> {
        let mut message = [0; LONGEST];
        for _ in 0..MOST_MESSAGES {
            match rustix::net::recv(&self.0, &mut message, RecvFlags::DONTWAIT) {
                Ok((_, length)) if says_ready(&message[..length.min(LONGEST)]) => return Ok(true),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(Error::os("recv", errno).doing("wait for the container's READY")),
            }
        }
        Ok(false)
    }

    /// Waits for READY; false if the process behind `pidfd` ends before.
    pub fn wait(&self, pidfd: BorrowedFd<'_>) -> Result<bool> {
        loop {
            let mut fds = [
                PollFd::new(&self.0, PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("poll", errno).doing("wait for the container's READY")),
            }
            let has_ended = !fds[1].revents().is_empty();
            if self.is_ready()? {
                return Ok(true);
            }
            if has_ended {
                return Ok(false);
            }
        }
    }
}

/// Gives the socket's file the bits that the umask has taken. A container with the right to mount can write
/// to the directory, and put a link to a file of the host there meanwhile: so none is followed, and nothing
/// but a socket changed.
fn open_to_all(dir: BorrowedFd<'_>) -> std::result::Result<(), unix_socket::Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, NAME, flags, Mode::empty()).map_err(|errno| ("openat", errno))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| ("fstat", errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(("fchmodat", Errno::NOTSOCK));
    }
    // The descriptor's own link: fchmod(2) takes none that was opened as a path.
    rustix::fs::chmod(
        format!("/proc/self/fd/{}", file.as_raw_fd()),
        Mode::from_raw_mode(0o777),
    )
    .map_err(|errno| ("chmod", errno))
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) fn says_ready(message: &[u8]) -> bool {
    message
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"READY=1")
}

/// Tells the service manager at `host` (the value of NOTIFY_SOCKET) that the container is ready. With
/// `main_pid`, the process that is the service's when the caller has ended, it also waits until the manager
/// has taken note: of a sender who is gone it would not know whose message it is.
///
/// # Errors
/// The socket cannot be reached, or nobody answers for half a minute; `Interrupted`.
pub fn tell_ready(host: &OsStr, main_pid: Option<i32>, cancel: &Cancel) -> Result<()> {
    let at = |error: Error| {
        error
            .with_path(host)
            .doing("tell the service manager that it is ready")
    };
    let failed = |call, errno| at(Error::os(call, errno));
    let address = match host.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
        path => SocketAddrUnix::new(path),
    }
    .map_err(|errno| failed("connect", errno))?;
    let socket = unix_socket::socket(SocketType::DGRAM).map_err(|(call, errno)| failed(call, errno))?;
    rustix::net::connect(&socket, &address).map_err(|errno| failed("connect", errno))?;
    let send = |text: &str| {
        loop {
            // Until there is room in its queue.
            if !cancel
                .wait(socket.as_fd(), PollFlags::OUT, Some(PATIENCE))
                .map_err(at)?
            {
                return Err(failed("poll", Errno::TIMEDOUT));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&socket, text.as_bytes(), flags) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                sent => return sent.map(drop).map_err(|errno| failed("send", errno)),
            }
        }
    };
    send("READY=1\n")?;
    let Some(pid) = main_pid else { return Ok(()) };
    send(&format!("MAINPID={pid}\n"))?;
    // sd_notify_barrier(3): the manager closes the descriptor once it has read what came before.
    let (ours, theirs) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("pipe2", errno))?;
    unix_socket::send_fd(socket.as_fd(), b"BARRIER=1", theirs.as_fd(), cancel).map_err(at)?;
    drop(theirs);
    match cancel
        .wait(ours.as_fd(), PollFlags::empty(), Some(PATIENCE))
        .map_err(at)?
    {
        true => Ok(()),
        false => Err(failed("poll", Errno::TIMEDOUT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_is_ready() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\nMAINPID=7\n"));
        for message in [&b""[..], b"READY=0", b"xREADY=1", b"READY=11", b"STATUS=READY=1"] {
            assert!(!says_ready(message), "{message:?}");
        }
    }

    #[test]
    fn without_the_directory_there_is_no_socket_and_with_it_everybody_may_write() {
        let place = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(place.path()).unwrap();
        assert!(NotifySocket::bind(dir.as_fd()).unwrap().is_none());
        make_directory(dir.as_fd()).unwrap();
        let socket = NotifySocket::bind(dir.as_fd()).unwrap().unwrap();
        let path = place.path().join(DIRECTORY).join(NAME);
        let mode = rustix::fs::stat(&path).unwrap().st_mode;
        assert_eq!(mode & 0o777, 0o777);
        assert!(!socket.is_ready().unwrap());
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        client.send_to(b"STATUS=soon", &path).unwrap();
        client.send_to(b"READY=1\n", &path).unwrap();
        assert!(socket.is_ready().unwrap());
    }

    #[test]
    fn a_link_that_was_put_in_the_place_of_the_socket_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, place.path().join(NAME)).unwrap();
        let before = rustix::fs::stat(&file).unwrap().st_mode;
        let dir = std::fs::File::open(place.path()).unwrap();
        assert_eq!(open_to_all(dir.as_fd()), Err(("fchmodat", Errno::NOTSOCK)));
        assert_eq!(rustix::fs::stat(&file).unwrap().st_mode, before);
    }
}

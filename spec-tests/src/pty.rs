//! Runs in: SUITE. Both sides of terminals: the console socket that receives a pty's master, and a pty of the
//! suite's own to run a foreground runtime on.

use crate::outcome::{Check, fail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use std::{
    fs::File,
    io::{IoSliceMut, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a text is waited for: an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing more comes after this.
const SILENCE: Duration = Duration::from_secs(2);

/// A listening unix socket that a runtime sends file descriptors to.
#[derive(Debug)]
pub(crate) struct FdSocket {
    listener: UnixListener,
    pub(crate) path: PathBuf,
}

/// What came through the socket.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) payload: Vec<u8>,
}

impl FdSocket {
    pub(crate) fn new(path: PathBuf) -> Check<Self> {
        Ok(Self {
            listener: UnixListener::bind(&path)?,
            path,
        })
    }

    pub(crate) fn path_text(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Accepts one connection and its one message.
    pub(crate) fn receive(&self) -> Check<Received> {
        if !readable(&self.listener, Duration::from_secs(10))? {
            return fail("nobody has connected to the socket for 10 s");
        }
        let (stream, _) = self.listener.accept()?;
        if !readable(&stream, Duration::from_secs(10))? {
            return fail("nothing was sent to the socket for 10 s");
        }
        receive_fds(&stream)
    }

    /// As `receive`, with all that comes until the other side closes the connection, which it must.
    pub(crate) fn receive_until_closed(&self) -> Check<Received> {
        if !readable(&self.listener, Duration::from_secs(10))? {
            return fail("nobody has connected to the socket for 10 s");
        }
        let (mut stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut received = receive_fds(&stream)?;
        match stream.read_to_end(&mut received.payload) {
            Ok(_) => Ok(received),
            Err(error) => fail(format!("the connection is not closed: {error}")),
        }
    }
}

pub(crate) fn receive_fds(stream: &UnixStream) -> Check<Received> {
    let mut buffer = [0_u8; 16384];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 8]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            fds.extend(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    Ok(Received {
        fds,
        payload: buffer.get(..length).unwrap_or_default().to_vec(),
    })
}

fn readable(fd: &impl AsFd, timeout: Duration) -> Check<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut fds, timeout)? > 0)
}

/// The master side of a pty.
#[derive(Debug)]
pub(crate) struct Master {
    file: File,
    seen: String,
}

impl From<Master> for OwnedFd {
    fn from(master: Master) -> Self {
        master.file.into()
    }
}

impl Master {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            file: File::from(fd),
            seen: String::new(),
        }
    }

    /// Reads until `text` has appeared; returns everything seen so far.
    pub(crate) fn expect(&mut self, text: &str) -> Check<String> {
        self.read_until(|seen| seen.contains(text), PATIENCE)?;
        if self.seen.contains(text) {
            return Ok(self.seen.clone());
        }
        fail(format!(
            "terminal output:\n    wish:    contains {text:?}\n    reality: {:?}",
            self.seen
        ))
    }

    /// Reads to the end (the other side closed) or until nothing comes for a while.
    pub(crate) fn rest(&mut self) -> Check<String> {
        self.read_until(|_| false, SILENCE)?;
        Ok(self.seen.clone())
    }

    /// Until `done`, or until nothing has come for as long as `silence`.
    fn read_until(&mut self, done: impl Fn(&str) -> bool, silence: Duration) -> Check {
        let end = Instant::now() + PATIENCE;
        while !done(&self.seen) && Instant::now() < end {
            if !readable(&self.file, silence)? {
                return Ok(());
            }
            let mut buffer = [0_u8; 4096];
            match self.file.read(&mut buffer) {
                // EIO: every slave is closed.
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => self.seen += &String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()),
            }
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, text: &str) -> Check {
        self.file.write_all(text.as_bytes())?;
        Ok(())
    }

    pub(crate) fn set_size(&self, rows: u16, columns: u16) -> Check {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ only reads the struct, which lives through the call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        if result == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error().into())
        }
    }

    /// (rows, columns) of the terminal.
    pub(crate) fn size(&self) -> Check<(u16, u16)> {
        let mut size = libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCGWINSZ writes to the struct, which lives through the call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
        if result == 0 {
            Ok((size.ws_row, size.ws_col))
        } else {
            Err(std::io::Error::last_os_error().into())
        }
    }

    pub(crate) fn settings(&self) -> Check<nix::sys::termios::Termios> {
        Ok(nix::sys::termios::tcgetattr(&self.file)?)
    }
}

/// A pty of the suite: (master, slave as three stdio files).
pub(crate) fn own_pty() -> Check<(Master, File)> {
    let pty = openpty(None, None)?;
    // openpty sets no close-on-exec; other tests start programs at any moment.
    for fd in [&pty.master, &pty.slave] {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    Ok((Master::new(pty.master), File::from(pty.slave)))
}

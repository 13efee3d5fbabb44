//! Runs in: RUNTIME. Joins the caller's terminal (or pipes) with the container's, for `run` and `exec` that
//! are not detached: raw mode, both directions, window size. It never blocks: `foreground` waits, this moves
//! what is ready.

use std::io::{IoSliceMut, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_core::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
    tcsetwinsize,
};

/// What a pipe takes without blocking after poll called it writable (PIPE_BUF).
const CHUNK: usize = 4096;

/// Our end of the socket on which the library hands the terminal's master over.
#[derive(Debug)]
pub(crate) struct ConsoleReceiver(OwnedFd);

impl ConsoleReceiver {
    /// The receiver, and the end that the library sends on.
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| Error::os("socketpair", e).doing("receive the console"))?;
        Ok((Self(ours), theirs))
    }

    /// The master, which was sent before the library returned; none if the process has no terminal.
    pub(crate) fn receive(self) -> Result<Option<OwnedFd>> {
        let mut payload = [0; CHUNK];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut payload)],
            &mut control,
            RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
        );
        let bytes = match received {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN) => 0,
            Err(errno) => return Err(Error::os("recvmsg", errno).doing("receive the console")),
        };
        let master = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if master.is_none() && bytes > 0 {
            return Err(Error::new(
                ErrorKind::Internal,
                "the console message holds no file descriptor",
            ));
        }
        Ok(master)
    }
}

/// The caller's terminal in raw mode, but that it goes on to put a carriage return in front of newlines, if
/// it did: the container's leaves that to it, so that what goes into a pipe or a file has none. Dropping it
/// sets back what was there.
#[derive(Debug)]
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<Self> {
        let failed = |call| move |e| Error::os(call, e).doing("set the terminal to raw mode");
        let saved = tcgetattr(stdin()).map_err(failed("tcgetattr"))?;
        let mut raw = saved.clone();
        raw.make_raw();
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(stdin(), OptionalActions::Flush, &raw).map_err(failed("tcsetattr"))?;
        Ok(Self(saved))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may have been closed: then there is nothing to restore.
        let _gone = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Bytes that were read and not yet written.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        let rest = &self.bytes[self.written..];
        &rest[..rest.len().min(CHUNK)]
    }

    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.written = 0;
    }

    fn clear(&mut self) {
        self.set(&[]);
    }
}

/// The joined terminals.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// None after the caller has hung up.
    master: Option<OwnedFd>,
    /// No process had the terminal open when it was last read. It may be opened again, and closing the master
    /// now would kill a process that is on its way to a clean end.
    unattended: bool,
    /// Standard output of our own; none if the caller's has to do.
    output: Option<OwnedFd>,
    input_open: bool,
    /// Whether the terminal collected lines (ICANON) when the end of the input was last passed on.
    ended_in: Option<bool>,
    /// The last byte of the input ended a line, so that one end-of-file character is enough.
    at_line_start: bool,
    to_process: Pending,
    to_caller: Pending,
    /// Held for its drop.
    _raw: Option<RawMode>,
}

/// The caller's terminal, if there is one.
fn own_terminal() -> Option<BorrowedFd<'static>> {
    [stdin(), stdout(), stderr()]
        .into_iter()
        .find(IsTerminal::is_terminal)
}

/// Rows and columns of the caller's terminal: the program must find them there when it starts.
pub(crate) fn own_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(own_terminal()?).ok()?;
    (size.ws_row != 0 && size.ws_col != 0).then_some((size.ws_row, size.ws_col))
}

impl Terminal {
    /// Joins the master with standard input and output.
    pub(crate) fn join(master: OwnedFd) -> Result<Self> {
        let failed = |e| Error::os("fcntl(F_SETFL)", e).doing("join the terminals");
        let flags = rustix::fs::fcntl_getfl(&master).map_err(failed)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(failed)?;
        // If input is a pipe, the terminal must go on to make signals of keys: nobody else reads them.
        let raw = if stdin().is_terminal() {
            Some(RawMode::enter()?)
        } else {
            None
        };
        let output = output_that_never_blocks()?;
        let terminal = Self {
            master: Some(master),
            unattended: false,
            output,
            input_open: true,
            ended_in: None,
            at_line_start: true,
            to_process: Pending::default(),
            to_caller: Pending::default(),
            _raw: raw,
        };
        terminal.copy_window_size();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of the caller's.
    pub(crate) fn copy_window_size(&self) {
        let ours = own_terminal();
        if let (Some(master), Some(ours)) = (&self.master, ours) {
            // A wrong size is a blemish, and a terminal that went away is seen when it is read.
            let _blemish = tcgetwinsize(ours).and_then(|size| tcsetwinsize(master, size));
        }
    }

    /// How long to wait at most: the kernel tells of a terminal that is opened again only to those who read.
    pub(crate) fn patience(&self) -> Option<Timespec> {
        self.unattended.then_some(Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        })
    }

    /// Adds what to wait for.
    pub(crate) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let Some(master) = self.master.as_ref().filter(|_| !self.unattended) else {
            return;
        };
        let mut wanted = PollFlags::empty();
        if self.to_caller.is_empty() {
            wanted |= PollFlags::IN;
        } else {
            fds.push(PollFd::from_borrowed_fd(self.output(), PollFlags::OUT));
        }
        if !self.to_process.is_empty() {
            wanted |= PollFlags::OUT;
        } else if self.input_open {
            fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
        // A hang-up is reported even if it is not asked for: without a wish, it would wake us for ever.
        if !wanted.is_empty() {
            fds.push(PollFd::new(master, wanted));
        }
    }

    /// Moves what can be moved now.
    pub(crate) fn move_ready(&mut self) -> Result<()> {
        self.read_output()?;
        if !self.input_open && self.to_process.is_empty() {
            self.end_input();
        }
        if !self.unattended
            && self.to_process.is_empty()
            && self.input_open
            && is_ready(stdin(), PollFlags::IN)?
        {
            self.read_input()?;
        }
        if !self.unattended {
            self.write_to_process()?;
        }
        if !self.to_caller.is_empty() && is_ready(self.output(), PollFlags::OUT)? {
            self.write_to_caller()?;
        }
        Ok(())
    }

    /// Moves what the process wrote before it ended. Waits for the caller to take it, until `signals` can be
    /// read and `is_over` says so of them.
    pub(crate) fn drain(
        &mut self,
        signals: BorrowedFd<'_>,
        mut is_over: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        loop {
            self.read_output()?;
            if self.to_caller.is_empty() {
                return Ok(());
            }
            let mut fds = [
                PollFd::from_borrowed_fd(self.output(), PollFlags::OUT),
                PollFd::from_borrowed_fd(signals, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("move the terminal's bytes", "poll", errno)),
            }
            let [output, signals] = fds.map(|fd| !fd.revents().is_empty());
            if signals && is_over()? {
                return Ok(());
            }
            if output {
                self.write_to_caller()?;
            }
        }
    }

    fn output(&self) -> BorrowedFd<'_> {
        self.output.as_ref().map_or(stdout(), AsFd::as_fd)
    }

    fn hang_up(&mut self) {
        self.master = None;
        self.to_process.clear();
        self.to_caller.clear();
    }

    fn read_input(&mut self) -> Result<()> {
        let mut buffer = [0; CHUNK];
        match io::read(stdin(), &mut buffer) {
            // EIO: the terminal is gone, or we are in its subject.
            Ok(0) | Err(Errno::IO) => {
                self.input_open = false;
                self.end_input();
                Ok(())
            }
            Ok(count) => {
                self.at_line_start = buffer[count - 1] == b'\n';
                self.to_process.set(&buffer[..count]);
                Ok(())
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(errno) => Err(failed("read standard input", "read", errno)),
        }
    }

    /// A terminal has no end of file of its own: its line discipline, or a program that edits lines, makes
    /// one of a character. The discipline forgets it when a program takes over, as a shell does before its
    /// first prompt; so it is sent once more whenever that has changed.
    fn end_input(&mut self) {
        let Some(Ok(mode)) = self.master.as_ref().map(tcgetattr) else {
            return;
        };
        let collects_lines = mode.local_modes.contains(LocalModes::ICANON);
        if self.ended_in == Some(collects_lines) {
            return;
        }
        let end = mode.special_codes[SpecialCodeIndex::VEOF];
        // On a begun line the first one only sends the line.
        let count = if self.at_line_start || !collects_lines {
            1
        } else {
            2
        };
        self.to_process.set(&[end, end][..count]);
        self.ended_in = Some(collects_lines);
        self.at_line_start = true;
    }

    fn write_to_process(&mut self) -> Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        if self.to_process.is_empty() {
            return Ok(());
        }
        match io::write(master, self.to_process.rest()) {
            Ok(count) => self.to_process.written += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            // No process has the terminal open any more.
            Err(Errno::IO) => self.to_process.clear(),
            Err(errno) => return Err(failed("write to the container's terminal", "write", errno)),
        }
        Ok(())
    }

    fn read_output(&mut self) -> Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        if !self.to_caller.is_empty() {
            return Ok(());
        }
        let mut buffer = [0; CHUNK];
        match io::read(master, &mut buffer) {
            // EIO: no process has the terminal open, and all that was written has been read.
            Ok(0) | Err(Errno::IO) => self.unattended = true,
            Ok(count) => {
                self.unattended = false;
                self.to_caller.set(&buffer[..count]);
            }
            Err(Errno::AGAIN) => self.unattended = false,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("read the container's terminal", "read", errno)),
        }
        Ok(())
    }

    fn write_to_caller(&mut self) -> Result<()> {
        match io::write(self.output(), self.to_caller.rest()) {
            Ok(count) => self.to_caller.written += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads any more: to the process that is a terminal that was switched off.
            Err(Errno::PIPE | Errno::IO) => self.hang_up(),
            Err(errno) => return Err(failed("write to standard output", "write", errno)),
        }
        Ok(())
    }
}

/// A terminal or a pipe opened again, so that it can be non-blocking without changing the caller's. None for
/// a regular file, which never blocks and whose position we share with the caller, and for what cannot be
/// opened again: a socket, or a terminal of another user.
fn output_that_never_blocks() -> Result<Option<OwnedFd>> {
    let stat = rustix::fs::fstat(stdout()).map_err(|e| failed("join the terminals", "fstat", e))?;
    if !matches!(
        FileType::from_raw_mode(stat.st_mode),
        FileType::CharacterDevice | FileType::Fifo
    ) {
        return Ok(None);
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()).ok())
}

fn is_ready(fd: BorrowedFd<'_>, wanted: PollFlags) -> Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(failed("move the terminal's bytes", "poll", errno)),
    }
}

fn failed(doing: &'static str, call: &'static str, errno: Errno) -> Error {
    Error::os(call, errno).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_loses_nothing() {
        let mut pending = Pending::default();
        assert!(pending.is_empty());
        pending.set(b"hello");
        pending.written += 2;
        assert_eq!(pending.rest(), b"llo");
        assert!(!pending.is_empty());
        pending.written += 3;
        assert!(pending.is_empty());
        assert_eq!(pending.rest(), b"");
    }

    #[test]
    fn no_message_means_no_terminal() {
        let (receiver, sender) = ConsoleReceiver::pair().unwrap();
        assert!(receiver.receive().unwrap().is_none(), "the sender is still open");
        let (receiver, closed) = ConsoleReceiver::pair().unwrap();
        drop((sender, closed));
        assert!(receiver.receive().unwrap().is_none(), "the sender is closed");
    }

    #[test]
    fn a_message_without_a_descriptor_is_an_error() {
        let (receiver, sender) = ConsoleReceiver::pair().unwrap();
        io::write(&sender, b"/dev/ptmx").unwrap();
        assert!(receiver.receive().is_err());
    }

    #[test]
    fn a_descriptor_arrives() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let (receiver, sender) = ConsoleReceiver::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(
            &sender,
            &[std::io::IoSlice::new(b"/dev/ptmx")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        let master = receiver.receive().unwrap().expect("a descriptor");
        assert!(io::fcntl_getfd(&master).unwrap().contains(io::FdFlags::CLOEXEC));
    }
}

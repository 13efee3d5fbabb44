//! Runs in: SHIM. The standard streams of a process: opens what containerd names (fifos, `file://`,
//! `binary://`), makes what the process gets, and runs the copying in between.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use runtime_core::Stdio;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};
use rustix::termios::Winsize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};

use crate::failure::{Failure, Result};
use crate::logger::Logger;
use crate::runtime::Streams;
use crate::streams::{Sink, Source, copy_input, copy_output};

/// How long `Delete` waits for a reader of what the process has written.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the reader of a fifo may take to come.
const READER: Duration = Duration::from_secs(30);

/// What containerd names for a process. Empty: /dev/null.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// What else decides how they are opened.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// For loggers.
    pub(crate) id: String,
    pub(crate) namespace: String,
    /// Whose the pipes are.
    pub(crate) owner: (u32, u32),
}

/// Our side, opened, of a process that is not there yet.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The fifo of standard input; empty if there is none.
    input: String,
    /// Where input goes, if not to a terminal.
    input_pipe: Option<OwnedFd>,
    /// Output and where it goes; of a terminal the source comes later.
    outputs: Vec<(Option<OwnedFd>, Sink)>,
    /// Where the master of the terminal comes from.
    console: Option<OwnedFd>,
    logger: Option<Logger>,
}

/// Opens the streams: what the process gets, and our side.
///
/// # Errors
/// The stream that cannot be opened.
pub(crate) fn open(names: &Names, terms: &Terms) -> Result<(Streams, Opened)> {
    let mut ours = Opened::default();
    if names.terminal {
        let streams = open_terminal(names, terms, &mut ours)?;
        return Ok((streams, ours));
    }
    let stdin = open_input(names, terms, &mut ours)?;
    if let Some(uri) = names.stdout.strip_prefix("binary://") {
        let (logger, stdout, stderr) = Logger::start(uri, terms)?;
        ours.logger = Some(logger);
        return Ok((
            Streams::Three([stdin, Stdio::Fd(stdout), Stdio::Fd(stderr)]),
            ours,
        ));
    }
    let stdout = open_output(&names.stdout, terms, &mut ours)?;
    // As with runc's shim, a file takes both.
    let stderr_name = match names.stdout.starts_with("file://") {
        true => &names.stdout,
        false => &names.stderr,
    };
    let stderr = open_output(stderr_name, terms, &mut ours)?;
    Ok((Streams::Three([stdin, stdout, stderr]), ours))
}

fn open_terminal(names: &Names, terms: &Terms, ours: &mut Opened) -> Result<Streams> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let (console, of_process) =
        pair.map_err(|errno| Failure::io("make the way of the terminal", "socketpair", errno))?;
    ours.console = Some(console);
    ours.input.clone_from(&names.stdin);
    if let Some(uri) = names.stdout.strip_prefix("binary://") {
        let (logger, stdout, _stderr) = Logger::start(uri, terms)?;
        set_nonblocking(&stdout)?;
        ours.logger = Some(logger);
        ours.outputs.push((None, Sink::Pipe(stdout)));
    } else if !names.stdout.is_empty() {
        ours.outputs.push((None, open_sink(&names.stdout)?));
    }
    Ok(Streams::Terminal(of_process))
}

fn open_input(names: &Names, terms: &Terms, ours: &mut Opened) -> Result<Stdio> {
    if names.stdin.is_empty() {
        return Ok(Stdio::Null);
    }
    ours.input.clone_from(&names.stdin);
    let (read, write) = owned_pipe(terms)?;
    set_nonblocking(&write)?;
    ours.input_pipe = Some(write);
    Ok(Stdio::Fd(read))
}

/// One end of the fifo of standard input. Each end is on its own: only so is there an end of input once the
/// writers are gone.
fn open_end(name: &str, writes: bool) -> Result<OwnedFd> {
    let opened = OpenOptions::new()
        .read(!writes)
        .write(writes)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(name);
    match opened {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(Failure::io("open standard input", name, error)),
    }
}

fn open_output(name: &str, terms: &Terms, ours: &mut Opened) -> Result<Stdio> {
    if name.is_empty() {
        return Ok(Stdio::Null);
    }
    let sink = open_sink(name)?;
    let (read, write) = owned_pipe(terms)?;
    set_nonblocking(&read)?;
    ours.outputs.push((Some(read), sink));
    Ok(Stdio::Fd(write))
}

/// A fifo by path, or a file by `file://`.
fn open_sink(name: &str) -> Result<Sink> {
    let (path, makes) = match name.split_once("://") {
        None | Some(("fifo", _)) => (name.trim_start_matches("fifo://"), false),
        Some(("file", path)) => (path, true),
        Some((scheme, _)) => return Err(Failure::invalid(format!("unknown STDIO scheme {scheme}"))),
    };
    let failed = |error: std::io::Error| Failure::io("open an output", path, error);
    if let Some(parent) = Path::new(path).parent().filter(|_| makes) {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // Kept until ours is open: a reader whose only writer goes is at the end.
    let _writer = match makes {
        true => None,
        false => Some(await_reader(path).map_err(failed)?),
    };
    let file = open_both_ends(path, makes).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    match kind.is_fifo() {
        true => Ok(Sink::Pipe(file.into())),
        false => Ok(Sink::File(file)),
    }
}

/// Waits until a fifo has a reader: what is written into one without is lost if we are done before the reader
/// comes, and a reader that finds no writer waits for ever.
fn await_reader(path: &str) -> std::io::Result<File> {
    let end = Instant::now() + READER;
    let mut options = OpenOptions::new();
    options
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY);
    let mut pause = Duration::from_millis(1);
    loop {
        match options.open(path) {
            // Nobody reads yet, and the kernel has no way to wait for that which another could not hold us
            // by.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && Instant::now() < end => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// With both ends of a fifo in one descriptor a reader may come, go, and come again, and the open itself
/// waits for nobody.
fn open_both_ends(path: &str, makes: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(makes)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
}

/// A pipe of the container's, who may open it anew by /proc/self/fd.
fn owned_pipe(terms: &Terms) -> Result<(OwnedFd, OwnedFd)> {
    let failed = |errno: rustix::io::Errno| Failure::io("make a pipe", "pipe2", errno);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (uid, gid) = terms.owner;
    if (uid, gid) != (0, 0) {
        for end in [&read, &write] {
            rustix::fs::fchown(end, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        }
    }
    Ok((read, write))
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    rustix::fs::fcntl_getfl(fd)
        .and_then(|flags| rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK))
        .map_err(|errno| Failure::io("open a stream", "fcntl(F_SETFL)", errno))
}

/// The streams of a process that is there.
#[derive(Debug)]
pub(crate) struct Running {
    input: Input,
    outputs: Vec<JoinHandle<()>>,
    master: Option<OwnedFd>,
    logger: Option<Logger>,
}

/// Standard input of a process that is there.
#[derive(Debug)]
enum Input {
    /// There is none, or it is over.
    None,
    /// Before `Start`: its fifo, where it goes, and whether it has been ended already.
    Waits(String, OwnedFd, bool),
    /// The copying, and what keeps the fifo from ending before containerd says so.
    Copied(JoinHandle<()>, Option<OwnedFd>),
}

impl Opened {
    /// Begins to copy output. `gone` tells that the process has ended.
    ///
    /// # Errors
    /// The terminal has not come.
    pub(crate) fn run(mut self, gone: &watch::Receiver<bool>) -> Result<Running> {
        let master = self
            .console
            .take()
            .map(runtime_core::receive_terminal)
            .transpose()?;
        if let Some(master) = &master {
            set_nonblocking(master)?;
        }
        let copy_of_master = || -> Result<Option<OwnedFd>> {
            let copy = master.as_ref().map(|master| master.as_fd().try_clone_to_owned());
            copy.transpose()
                .map_err(|error| Failure::io("share the terminal", "fcntl", error))
        };
        let mut outputs = Vec::new();
        for (source, sink) in self.outputs {
            let source = match (source, copy_of_master()?) {
                (Some(pipe), _) => Source::Pipe(pipe),
                (None, Some(master)) => Source::Terminal(master, gone.clone()),
                (None, None) => continue,
            };
            outputs.push(tokio::spawn(async move {
                if let Err(error) = copy_output(source, sink).await {
                    log::warn!("copy the output of a process: {error}");
                }
            }));
        }
        let to = match self.input_pipe {
            Some(pipe) => Some(pipe),
            None => copy_of_master()?,
        };
        let input = match to {
            Some(to) if !self.input.is_empty() => Input::Waits(self.input, to, false),
            _ => Input::None,
        };
        Ok(Running {
            input,
            outputs,
            master,
            logger: self.logger,
        })
    }
}

impl Running {
    /// Begins to copy input. Not before `Start`: a client may have read all of it as soon as we open the
    /// fifo, and is only then sure to know the process whose input it ends.
    ///
    /// # Errors
    /// The fifo cannot be opened.
    pub(crate) fn begin_input(&mut self) -> Result<()> {
        let Input::Waits(name, to, is_ended) = std::mem::replace(&mut self.input, Input::None) else {
            return Ok(());
        };
        let from = open_end(&name, false)?;
        let keeper = match is_ended {
            true => None,
            false => Some(open_end(&name, true)?),
        };
        let copying = tokio::spawn(async move {
            if let Err(error) = copy_input(from, to).await {
                log::debug!("copy the input of a process: {error}");
            }
        });
        self.input = Input::Copied(copying, keeper);
        Ok(())
    }

    /// Lets the input end where its other writers have ended it.
    pub(crate) fn close_input(&mut self) {
        match &mut self.input {
            Input::None => {}
            Input::Waits(_, _, is_ended) => *is_ended = true,
            Input::Copied(_, keeper) => *keeper = None,
        }
    }

    /// The process has ended: nobody reads any more.
    pub(crate) fn stop_input(&mut self) {
        if let Input::Copied(copying, _) = std::mem::replace(&mut self.input, Input::None) {
            copying.abort();
        }
    }

    /// # Errors
    /// As ioctl(TIOCSWINSZ).
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master, size)
            .map_err(|errno| Failure::io("resize the terminal", "ioctl(TIOCSWINSZ)", errno))
    }

    /// Waits until everything is written that the process has, up to a time; then closes all, and ends the
    /// logger.
    pub(crate) async fn drain(mut self) {
        self.stop_input();
        let all = async {
            for output in &mut self.outputs {
                // A task that panicked would have ended the program.
                let _done = output.await;
            }
        };
        if timeout(DRAIN, all).await.is_err() {
            log::warn!("the output of a process was not read in time, and is lost");
        }
        for output in &self.outputs {
            output.abort();
        }
        if let Some(logger) = self.logger.take() {
            logger.end().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_schemes_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/log");
        let name = format!("file://{}", file.display());
        assert!(matches!(open_sink(&name).unwrap(), Sink::File(_)));
        assert!(std::fs::metadata(file).is_ok());
        assert!(open_sink("https://example.org/").is_err());
        assert!(open_sink("/no/such/fifo").is_err());
    }
}

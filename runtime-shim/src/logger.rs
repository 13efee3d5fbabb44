//! Runs in: SHIM; `become_logger` in a child of it. Programs that take a container's output (`binary://`):
//! they find it at descriptors 3 and 4, and close 5 when they are ready.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::time::timeout;

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::polled::polled;
use crate::stdio::Terms;

/// How long a logger may take to read the rest of the output, and to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(2);

/// How long it may take to be ready.
const READY: Timespec = Timespec {
    tv_sec: 12,
    tv_nsec: 0,
};

/// A logger at work.
#[derive(Debug)]
pub(crate) struct Logger {
    child: Child,
    pidfd: OwnedFd,
}

impl Logger {
    /// Starts the program of a URI without its scheme; returns when it is ready, with where to write.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready.
    pub(crate) fn start(uri: &str, terms: &Terms) -> Result<(Self, OwnedFd, OwnedFd)> {
        let (path, words) = split(uri)?;
        let failed = |error: std::io::Error| Failure::io("start the logger", &path, error);
        // Its end before it is ready means that it is ready: one that cannot be executed must not look like
        // that.
        rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).map_err(|errno| failed(errno.into()))?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()));
        let ((stdout, to_stdout), (stderr, to_stderr), (ready, to_ready)) = (pipe()?, pipe()?, pipe()?);
        let child = Command::new("/proc/self/exe")
            .arg("log")
            .arg(&path)
            .args(words)
            .env("CONTAINER_ID", &terms.id)
            .env("CONTAINER_NAMESPACE", &terms.namespace)
            .stdin(stdout)
            .stdout(stderr)
            .stderr(to_ready)
            .spawn()
            .map_err(failed)?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
        let logger = Self { child, pidfd };
        await_ready(&ready).map_err(failed)?;
        Ok((logger, to_stdout, to_stderr))
    }

    /// Lets it read to the end of the output; then tells it to end, and then makes it.
    pub(crate) async fn end(self) {
        if self.ends_by_itself().await.is_err() {
            log::warn!("a logger did not end, and is killed");
        }
    }

    async fn ends_by_itself(&self) -> std::io::Result<()> {
        let pidfd = polled(self.pidfd.try_clone()?, Interest::READABLE)?;
        if timeout(PATIENCE, pidfd.readable()).await.is_ok() {
            return Ok(());
        }
        pidfd_send_signal(&self.pidfd, Signal::TERM)?;
        drop(timeout(GRACE, pidfd.readable()).await??);
        Ok(())
    }
}

impl Drop for Logger {
    /// Ends and reaps it, if it has not ended by itself.
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            log::warn!("end a logger: {error}");
        }
    }
}

/// A byte, or the end: both mean that it is ready, as with runc's shim.
fn await_ready(ready: &OwnedFd) -> std::io::Result<()> {
    let mut fds = [PollFd::new(ready, PollFlags::IN)];
    let count = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&READY)))?;
    match count {
        0 => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "it does not say that it is ready",
        )),
        _ => Ok(()),
    }
}

/// The program's path, and its arguments: names and values of the query.
fn split(uri: &str) -> Result<(String, Vec<String>)> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut words = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        words.push(decoded(name)?);
        if !value.is_empty() {
            words.push(decoded(value)?);
        }
    }
    Ok((decoded_path(path)?, words))
}

fn decoded_path(text: &str) -> Result<String> {
    match text.contains('+') {
        // Only in a query is it a space.
        true => text
            .split('+')
            .map(decoded)
            .collect::<Result<Vec<_>>>()
            .map(|parts| parts.join("+")),
        false => decoded(text),
    }
}

/// Percent-encoding undone, of a query's part.
fn decoded(text: &str) -> Result<String> {
    let wrong = || Failure::invalid(format!("not the query of a URI: {text}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                u8::try_from(high * 16 + low).map_err(|_| wrong())?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// In the child: its standard streams become descriptors 3, 4 and 5, and it the program.
///
/// # Errors
/// A failed call; the program cannot be executed.
pub(crate) fn become_logger(arguments: &Arguments) -> Result<()> {
    let mut words: Vec<OsString> = arguments.rest.clone();
    if words.is_empty() {
        return Err(Failure::invalid("log: the program is missing"));
    }
    let program = words.remove(0);
    let failed = |error: std::io::Error| Failure::io("start the logger", &program, error);
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut moved = Vec::new();
    for (number, stream) in (3..).zip([streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()]) {
        // In order, since nothing else is open.
        moved.push(rustix::io::fcntl_dupfd_cloexec(stream, number).map_err(|errno| failed(errno.into()))?);
    }
    for fd in &moved {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).map_err(|errno| failed(errno.into()))?;
    }
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(failed)?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(|errno| failed(errno.into()))?;
    Err(failed(Command::new(&program).args(words).exec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_becomes_arguments() {
        let (path, words) = split("/bin/log%20ger+?--path=/var/log/a%2Bb&x+y&-z=").unwrap();
        assert_eq!(path, "/bin/log ger+");
        assert_eq!(words, ["--path", "/var/log/a+b", "x y", "-z"]);
        assert_eq!(split("/bin/logger").unwrap(), ("/bin/logger".to_owned(), vec![]));
        assert!(split("/bin/logger?a=%4").is_err());
        assert!(split("/bin/logger?a=%zz").is_err());
        assert!(split("/bin/logger?a=%ff").is_err());
    }
}

//! Runs in: SHIM. Moves bytes between the standard streams of a container's process and what containerd has
//! named for them. The other ends of our pipes and terminals are in the hands of the container: it may write
//! without end, or never read.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::polled::polled;

const CHUNK: usize = 32 << 10;

/// How long a terminal that no process has open is left alone before it is looked at again.
const UNATTENDED: Duration = Duration::from_millis(100);

/// Where output goes.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A fifo, a pipe or the like, non-blocking.
    Pipe(OwnedFd),
    /// A regular file, opened for appending.
    File(File),
}

/// Where output comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A pipe: over when nobody can write any more.
    Pipe(OwnedFd),
    /// The master of a terminal: over when no process has it open, and the one that it was made for is gone.
    Terminal(OwnedFd, watch::Receiver<bool>),
}

/// Copies output until it is over, or its reader is gone for good.
pub(crate) async fn copy_output(source: Source, sink: Sink) -> io::Result<()> {
    let sink = OpenSink::new(sink)?;
    match source {
        Source::Pipe(pipe) => {
            let pipe = polled(pipe, Interest::READABLE)?;
            while copy_what_is_there(&pipe, &sink).await? {}
            Ok(())
        }
        Source::Terminal(master, mut gone) => {
            let master = polled(master, Interest::READABLE)?;
            loop {
                let is_gone = *gone.borrow();
                match copy_what_is_there(&master, &sink).await {
                    Ok(_) => {}
                    // No process has the terminal open, and all that was written has been read.
                    Err(error) if error.raw_os_error() == Some(libc::EIO) && is_gone => return Ok(()),
                    Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                        let _whichever = tokio::time::timeout(UNATTENDED, gone.wait_for(|gone| *gone)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Copies input until its end, which the process sees when `to` is dropped, or until the process reads no
/// more.
pub(crate) async fn copy_input(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let from = polled(from, Interest::READABLE)?;
    let sink = OpenSink::new(Sink::Pipe(to))?;
    while copy_what_is_there(&from, &sink).await? {}
    Ok(())
}

/// Waits until something can be read, and copies until nothing is left for now. False at the end.
async fn copy_what_is_there(source: &AsyncFd<OwnedFd>, sink: &OpenSink) -> io::Result<bool> {
    let mut guard = source.readable().await?;
    // Not kept while nothing comes: most processes are silent most of the time.
    let mut buffer = vec![0; CHUNK];
    loop {
        match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
            Err(_would_block) => return Ok(true),
            Ok(Ok(0)) => return Ok(false),
            Ok(Ok(count)) => sink.write_all(&buffer[..count]).await?,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

enum OpenSink {
    Pipe(AsyncFd<OwnedFd>),
    File(File),
}

impl OpenSink {
    fn new(sink: Sink) -> io::Result<Self> {
        Ok(match sink {
            Sink::Pipe(pipe) => Self::Pipe(polled(pipe, Interest::WRITABLE)?),
            Sink::File(file) => Self::File(file),
        })
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let pipe = match self {
            Self::Pipe(pipe) => pipe,
            Self::File(file) => {
                let mut file = file;
                return file.write_all(bytes);
            }
        };
        while !bytes.is_empty() {
            let mut guard = pipe.writable().await?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Err(_would_block) => {}
                Ok(Ok(count)) => bytes = &bytes[count..],
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

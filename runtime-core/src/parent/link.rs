//! Runs in: RUNTIME. Its end of the link: waits for the next record of the one process that may speak, for
//! that process's end, and for the caller's wish to end. Knows nothing of what records mean.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use runtime_init::wire::{Message, RECORD};
use runtime_sys::{SysError, net};
use rustix::event::PollFlags;
use rustix::fs::SealFlags;
use rustix::io::Errno;

use super::child::Launched;
use crate::error::ErrorResult;
use crate::{Cancel, Error, ErrorKind, Result};

/// The process whose records count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speaker<'a> {
    /// As RUNTIME sees it.
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
}

impl Launched {
    pub(crate) fn speaker(&self) -> Speaker<'_> {
        Speaker {
            pid: self.pid,
            pidfd: self.pidfd(),
        }
    }
}

/// A record, and the descriptor that came with it.
pub(crate) type Record = (Message, Option<OwnedFd>);

/// Waits for the next record of `speaker`. `None`: nothing more comes, since its end is closed, or it has
/// ended. (Somebody else may still have a copy of that end: a process that it has made, or one that has taken
/// it.)
///
/// A record that is there counts before the caller's wish to end.
///
/// # Errors
/// `Interrupted`; `Internal` for what is no record, or comes from another process.
pub(crate) fn receive(link: BorrowedFd<'_>, speaker: Speaker<'_>, cancel: &Cancel) -> Result<Option<Record>> {
    loop {
        let has_ended = wait(link, speaker, cancel)?;
        // One byte more than a record: a longer one is none.
        let mut buffer = [0; RECORD + 1];
        let received = match net::receive_now(link, &mut buffer) {
            Err(SysError {
                errno: Errno::AGAIN, ..
            }) if has_ended => return Ok(None),
            Err(SysError {
                errno: Errno::AGAIN, ..
            }) => continue,
            // It ended, or executed its program, with something of ours unread.
            Err(SysError {
                errno: Errno::CONNRESET,
                ..
            }) => return Ok(None),
            received => received.doing("talk to the container's process")?,
        };
        // An empty record has a sender, the end of file has none.
        if received.length == 0 && received.sender.is_none() {
            return Ok(None);
        }
        if received.sender != Some(speaker.pid) {
            return Err(foreign(received.sender));
        }
        return match buffer.get(..received.length).and_then(Message::decode) {
            Some(message) => Ok(Some((message, received.fd))),
            None => Err(Error::new(
                ErrorKind::Internal,
                "the container's process sent what is no record",
            )),
        };
    }
}

/// Waits until there is something to read, or to be known. Whether the speaker has ended: then no record
/// comes after those that are there.
fn wait(link: BorrowedFd<'_>, speaker: Speaker<'_>, cancel: &Cancel) -> Result<bool> {
    match cancel.wait_any([link, speaker.pidfd], PollFlags::IN, None) {
        Ok([_, has_ended]) => Ok(has_ended),
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            match Cancel::default().wait(link, PollFlags::IN, Some(Duration::ZERO))? {
                true => Ok(false),
                false => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

fn foreign(sender: Option<i32>) -> Error {
    let sender = match sender {
        Some(pid @ 1..) => format!("process {pid}"),
        _ => "an unknown process".to_owned(),
    };
    let text = format!("{sender} sent a record in the place of the container's process");
    Error::new(ErrorKind::Denied, text)
}

/// Whether a descriptor from a child is a memfd: whatever else it could be (a pipe, a file of FUSE) might
/// hold who reads it.
pub(crate) fn is_memfd(fd: impl AsFd) -> bool {
    // EINVAL for every other kind of file (fcntl(2)).
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| !seals.contains(SealFlags::WRITE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::Links;
    use runtime_init::wire::Link;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    fn own_pidfd() -> OwnedFd {
        pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
    }

    fn us(pidfd: &OwnedFd) -> Speaker<'_> {
        Speaker {
            pid: getpid().as_raw_pid(),
            pidfd: pidfd.as_fd(),
        }
    }

    #[test]
    fn records_of_the_speaker_come_with_their_descriptor() {
        let (links, pidfd) = (Links::new().unwrap(), own_pidfd());
        let null = std::fs::File::open("/dev/null").unwrap();
        let child = Link(links.child.as_fd());
        child.send(Message::RunHooks).unwrap();
        child.send_fd(Message::NeedNetDevices, null.as_fd()).unwrap();
        let next = || receive(links.runtime.as_fd(), us(&pidfd), &Cancel::default()).unwrap();
        assert!(matches!(next(), Some((Message::RunHooks, None))));
        assert!(matches!(next(), Some((Message::NeedNetDevices, Some(_)))));
        drop(links.child);
        assert!(next().is_none());
    }

    #[test]
    fn a_record_of_another_process_is_refused_and_named() {
        let (links, pidfd) = (Links::new().unwrap(), own_pidfd());
        Link(links.child.as_fd()).send(Message::Ready).unwrap();
        let speaker = Speaker {
            pid: 1,
            pidfd: pidfd.as_fd(),
        };
        let error = receive(links.runtime.as_fd(), speaker, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(
            error.to_string(),
            format!(
                "process {} sent a record in the place of the container's process",
                getpid().as_raw_pid()
            )
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let pidfd = own_pidfd();
        for bytes in [
            &b""[..],
            b"1234567",
            b"\x05\0\0\0\0\0\0\0\0",
            b"\x63\0\0\0\0\0\0\0",
            b"\x05\0\0\0\x01\0\0\0",
        ] {
            let links = Links::new().unwrap();
            net::send(links.child.as_fd(), bytes, None).unwrap();
            let error = receive(links.runtime.as_fd(), us(&pidfd), &Cancel::default()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the container's process sent what is no record",
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn the_end_of_the_speaker_ends_the_wait_though_its_end_of_the_link_lives_on() {
        let links = Links::new().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let speaker = Speaker {
            pid: pid.as_raw_pid(),
            pidfd: pidfd.as_fd(),
        };
        let heard = receive(links.runtime.as_fd(), speaker, &Cancel::default()).unwrap();
        assert!(heard.is_none());
        child.wait().unwrap();
    }

    #[test]
    fn a_record_counts_before_the_wish_to_end_and_that_before_all_else() {
        let (links, pidfd) = (Links::new().unwrap(), own_pidfd());
        let (wish, caller) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let cancel = Cancel::when_readable(wish);
        rustix::io::write(&caller, b"x").unwrap();
        Link(links.child.as_fd()).send(Message::Ready).unwrap();
        let next = || receive(links.runtime.as_fd(), us(&pidfd), &cancel);
        assert!(matches!(next().unwrap(), Some((Message::Ready, None))));
        assert_eq!(next().unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn only_a_memfd_is_one() {
        let memfd = runtime_sys::fs::memfd(c"test").unwrap();
        assert!(is_memfd(&memfd));
        let (pipe, _other) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        assert!(!is_memfd(&pipe));
        assert!(!is_memfd(std::fs::File::open("/proc/self/stat").unwrap()));
    }
}

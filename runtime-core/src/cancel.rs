//! Runs in: RUNTIME. The caller's means to end an operation that waits: for a hook, for the container's process, for a
//! program. Owns no signal and no thread: what makes the descriptor readable is the caller's business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::{Error, ErrorKind, Result};

/// Says when `create`, `run`, `exec` or `restore` shall give up: once a descriptor can be read, a signalfd(2) or an
/// eventfd(2), say. It is only polled. The operation then fails with [`ErrorKind::Interrupted`], and leaves nothing.
///
/// The default never does.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Option<Arc<OwnedFd>>);

impl Cancel {
    /// Gives up when `fd` becomes readable.
    pub fn when_readable(fd: OwnedFd) -> Self {
        Self(Some(Arc::new(fd)))
    }

    /// Whether there is something that may come.
    pub(crate) fn may_come(&self) -> bool {
        self.0.is_some()
    }

    /// For those who wait for several things.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|fd| fd.as_fd())
    }

    /// Waits until `fd` can be read, or its other end is gone. Without a descriptor of its own it returns at once, and
    /// the waiting is left to the read.
    ///
    /// # Errors
    /// `Interrupted`, also if both have come.
    pub(crate) fn wait_readable(&self, fd: BorrowedFd<'_>) -> Result<()> {
        if !self.may_come() {
            return Ok(());
        }
        self.wait_readable_for(fd, None).map(drop)
    }

    /// Waits until `fd` can be read, or its other end is gone, with a descriptor of its own or without. False once this time
    /// has passed.
    ///
    /// # Errors
    /// `Interrupted`, also if both have come.
    pub(crate) fn wait_readable_for(&self, fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> Result<bool> {
        let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        fds.extend(self.fd().map(|own| PollFd::from_borrowed_fd(own, PollFlags::IN)));
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout))
            .map_err(|errno| Error::os("poll", errno))?;
        match fds.get(1) {
            Some(own) if !own.revents().is_empty() => Err(interrupted()),
            _ => Ok(ready > 0),
        }
    }
}

/// The error of an operation that was told to give up.
pub(crate) fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted before it was done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_counts_and_the_wish_to_end_before_all() {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (ours, theirs) = pipe();
        let (wish, caller) = pipe();
        Cancel::default().wait_readable(ours.as_fd()).unwrap();
        let cancel = Cancel::when_readable(wish);
        rustix::io::write(&theirs, b"x").unwrap();
        cancel.wait_readable(ours.as_fd()).unwrap();
        assert!(cancel.wait_readable_for(ours.as_fd(), None).unwrap());
        let (silent, _writer) = pipe();
        let at_once = Timespec::default();
        assert!(!cancel.wait_readable_for(silent.as_fd(), Some(&at_once)).unwrap());
        assert!(
            !Cancel::default()
                .wait_readable_for(silent.as_fd(), Some(&at_once))
                .unwrap()
        );
        rustix::io::write(&caller, b"x").unwrap();
        let error = cancel.clone().wait_readable(ours.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}

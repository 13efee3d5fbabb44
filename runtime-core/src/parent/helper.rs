//! Runs in: RUNTIME. A helper: a child with a link, which does one thing for RUNTIME and ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_init::start::Birth;
use runtime_init::wire::{Failure, Message};
use runtime_sys::memory::Role;

use super::child::Launched;
use super::link::{self, Record};
use crate::{Cancel, Error, ErrorKind, Result};

/// A helper, and RUNTIME's end of the link to it. Killed and reaped when it is dropped, if it has not ended
/// by then.
#[derive(Debug)]
pub(crate) struct Helper {
    pub process: Launched,
    link: OwnedFd,
}

impl Helper {
    /// Makes it. Whoever has the helper's own end of `link` drops it then, so that its end is seen.
    pub(crate) fn start<R: Role>(birth: Birth<'_>, args: &R, link: OwnedFd) -> Result<Self> {
        let process = Launched::start(birth, args)?;
        Ok(Self { process, link })
    }

    pub(crate) fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Its next record; `None` at its end.
    pub(crate) fn receive(&self, cancel: &Cancel) -> Result<Option<Record>> {
        link::receive(self.link.as_fd(), self.process.speaker(), cancel)
    }

    /// Waits until it says that all is done; `explain` says what a failure means, `work` what has ended
    /// without a word.
    pub(crate) fn await_ready(&self, work: &str, explain: impl FnOnce(Failure) -> Error) -> Result<()> {
        match self.receive(&Cancel::default())? {
            Some((Message::Ready, _)) => Ok(()),
            Some((Message::Failure(failure), _)) => Err(explain(failure)),
            _ => Err(Error::new(ErrorKind::Internal, format!("{work} ended half way"))),
        }
    }
}

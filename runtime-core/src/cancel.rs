//! Runs in: RUNTIME. The caller's means to end an operation that waits: for a hook, for the container's
//! process, for a program. Owns no signal and no thread: what makes the descriptor readable is the caller's
//! business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::CallResult;
use crate::{Error, ErrorKind, Result};

/// How long a process that is waited for may be frozen. Who freezes whole trees for a moment, for a suspend
/// to RAM, say, thaws them again.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

/// Says when `create`, `run`, `exec` or `restore` shall give up: once a descriptor can be read, a signalfd(2)
/// or an eventfd(2), say. It is only polled. The operation then fails with [`ErrorKind::Interrupted`], and
/// leaves nothing.
///
/// The default never does.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    fd: Option<Arc<OwnedFd>>,
    /// What is waited for is in a cgroup, which may be frozen.
    cgroup: Option<Arc<Freezer>>,
}

/// Whether the processes of a cgroup stand still.
#[derive(Debug)]
pub(crate) struct Freezer {
    /// `cgroup.events`, which the kernel makes readable (POLLPRI) whenever it changes.
    pub(crate) events: OwnedFd,
    /// For messages.
    pub(crate) path: PathBuf,
}

impl Freezer {
    /// `None` once the cgroup is gone.
    fn is_frozen(&self) -> Result<Option<bool>> {
        let mut text = [0; 256];
        match rustix::io::retry_on_intr(|| rustix::io::pread(&self.events, &mut text, 0)) {
            Ok(length) => Ok(Some(
                text[..length]
                    .split(|byte| *byte == b'\n')
                    .any(|line| line == b"frozen 1"),
            )),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::os("pread", errno).with_path(self.path.join("cgroup.events"))),
        }
    }
}

impl Freezer {
    fn has_stood_still(&self) -> Error {
        let text = "container's cgroup was frozen while it was set up";
        Error::new(ErrorKind::WrongStatus, text).with_path(&self.path)
    }
}

impl Cancel {
    /// Gives up when `fd` becomes readable.
    pub fn when_readable(fd: OwnedFd) -> Self {
        Self {
            fd: Some(Arc::new(fd)),
            cgroup: None,
        }
    }

    /// Gives up, too, with `WrongStatus`, once all processes of this cgroup have stood still for ten seconds.
    pub(crate) fn or_when_frozen(&self, cgroup: Option<Freezer>) -> Self {
        Self {
            fd: self.fd.clone(),
            cgroup: cgroup.map(Arc::new),
        }
    }

    /// For those who wait in short turns, none of which is long enough: refuses what stands still since
    /// `since`, which is kept for the next turn.
    pub(crate) fn check_frozen(&self, since: &mut Option<Instant>) -> Result<()> {
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        *since = match *since {
            _ if cgroup.is_frozen()? != Some(true) => None,
            None => Some(Instant::now()),
            Some(begin) if begin.elapsed() < FREEZE_PATIENCE => Some(begin),
            Some(_) => return Err(cgroup.has_stood_still()),
        };
        Ok(())
    }

    /// Whether there is a wish to end it that may come.
    pub(crate) fn may_come(&self) -> bool {
        self.fd.is_some()
    }

    /// For those who wait for several things.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// Whether it has come.
    ///
    /// # Errors
    /// `Interrupted`, then.
    pub(crate) fn check(&self) -> Result<()> {
        match self.fd() {
            Some(fd) => self.wait(fd, PollFlags::IN, Some(Duration::ZERO)).map(drop),
            None => Ok(()),
        }
    }

    /// Waits until `fd` can be read, or its other end is gone. Without anything of its own to wait for it
    /// returns at once, and the waiting is left to the read.
    ///
    /// # Errors
    /// `Interrupted`, also if both have come; `WrongStatus` for a process that is frozen.
    pub(crate) fn wait_readable(&self, fd: BorrowedFd<'_>) -> Result<()> {
        match (&self.fd, &self.cgroup) {
            (None, None) => Ok(()),
            _ => self.wait(fd, PollFlags::IN, None).map(drop),
        }
    }

    /// Waits until `fd` can be written to; likewise.
    ///
    /// # Errors
    /// As [`Cancel::wait_readable`].
    pub(crate) fn wait_writable(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.wait(fd, PollFlags::OUT, None).map(drop)
    }

    /// Waits until `fd` can be read, or its other end is gone, with a descriptor of its own or without. False
    /// once this time has passed.
    ///
    /// # Errors
    /// As [`Cancel::wait_readable`].
    pub(crate) fn wait_readable_for(&self, fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool> {
        self.wait(fd, PollFlags::IN, timeout)
    }

    /// As [`Cancel::wait_readable_for`], for whatever is to be possible with `fd`.
    pub(crate) fn wait(
        &self,
        fd: BorrowedFd<'_>,
        what: PollFlags,
        timeout: Option<Duration>,
    ) -> Result<bool> {
        self.wait_any([fd], what, timeout).map(|[has_come]| has_come)
    }

    /// The same for several: which of them.
    pub(crate) fn wait_any<const N: usize>(
        &self,
        them: [BorrowedFd<'_>; N],
        what: PollFlags,
        timeout: Option<Duration>,
    ) -> Result<[bool; N]> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut cgroup = self.cgroup.as_deref().map(Frozen::new);
        loop {
            let mut fds = Vec::from(them.map(|fd| PollFd::from_borrowed_fd(fd, what)));
            fds.extend(self.fd().map(|own| PollFd::from_borrowed_fd(own, PollFlags::IN)));
            let mut next = deadline;
            if let Some(watched) = &mut cgroup {
                match watched.look()? {
                    Some(until) => {
                        fds.push(PollFd::new(&watched.cgroup.events, PollFlags::PRI));
                        next = next.into_iter().chain(until).min();
                    }
                    // Gone, and nobody can be frozen in it. It would be readable for ever.
                    None => cgroup = None,
                }
            }
            let left = next.map(|next| timespec(next.saturating_duration_since(Instant::now())));
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, left.as_ref())).call("poll")?;
            let has_come = |place: usize| fds.get(place).is_some_and(|fd| !fd.revents().is_empty());
            if self.may_come() && has_come(N) {
                return Err(interrupted());
            }
            let have_come: [bool; N] = std::array::from_fn(has_come);
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || have_come.contains(&true) {
                return Ok(have_come);
            }
        }
    }
}

/// How long a cgroup has been frozen in one wait.
struct Frozen<'a> {
    cgroup: &'a Freezer,
    until: Option<Instant>,
}

impl<'a> Frozen<'a> {
    fn new(cgroup: &'a Freezer) -> Self {
        Self { cgroup, until: None }
    }

    /// Until when it has to be thawed, if it is frozen; nothing once it is gone. An error if that time is
    /// over.
    fn look(&mut self) -> Result<Option<Option<Instant>>> {
        let Some(is_frozen) = self.cgroup.is_frozen()? else {
            return Ok(None);
        };
        self.until = match self.until {
            _ if !is_frozen => None,
            None => Instant::now().checked_add(FREEZE_PATIENCE),
            Some(until) if Instant::now() < until => Some(until),
            Some(_) => return Err(self.cgroup.has_stood_still()),
        };
        Ok(Some(self.until))
    }
}

fn timespec(duration: Duration) -> Timespec {
    // The longest time that fits is no limit in practice.
    Timespec::try_from(duration).unwrap_or(Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    })
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
        let at_once = Duration::ZERO;
        assert!(!cancel.wait_readable_for(silent.as_fd(), Some(at_once)).unwrap());
        cancel.check().unwrap();
        Cancel::default().check().unwrap();
        cancel.wait_writable(theirs.as_fd()).unwrap();
        assert!(
            !Cancel::default()
                .wait_readable_for(silent.as_fd(), Some(at_once))
                .unwrap()
        );
        rustix::io::write(&caller, b"x").unwrap();
        let error = cancel.clone().wait_readable(ours.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert_eq!(cancel.check().unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(cancel.wait_writable(theirs.as_fd()).is_err());
    }
}

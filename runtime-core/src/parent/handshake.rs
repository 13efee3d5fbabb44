//! Runs in: RUNTIME. Its half of the protocol that is drawn in `runtime_init::wire`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use runtime_init::start::Child;
use runtime_init::wire::{Failure, Link, Message};
use runtime_sys::process as sys_process;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::child::Launched;
use super::link::{self, Speaker};
use super::seccomp_listener;
use crate::error::CallResult;
use crate::host::process::signals;
use crate::host::process::{self, Stat, reap};
use crate::{Cancel, Error, ErrorKind, Result};

/// What RUNTIME does when the child asks. `create`, `run` and `exec` give their own.
pub(crate) trait Answers {
    /// Runs prestart and createRuntime hooks. Only `create` and `run` are asked; so are the next four.
    fn run_hooks(&mut self, _pid: i32) -> Result<()> {
        Err(asked_too_late("hooks"))
    }
    /// Writes the maps of a user namespace that the child has just made.
    fn map_ids(&mut self, _init: &Launched) -> Result<()> {
        Err(asked_too_late("maps of ids"))
    }
    /// Moves network devices to the namespace of the socket.
    fn move_net_devices(&mut self, _there: BorrowedFd<'_>) -> Result<()> {
        Err(asked_too_late("network devices"))
    }
    /// Sends the host's trees as they are locked in init's mount namespace, which init gives where RUNTIME
    /// may not take it.
    fn send_trees(
        &mut self,
        _init: &Launched,
        _mounts: Option<OwnedFd>,
        _link: BorrowedFd<'_>,
    ) -> Result<()> {
        Err(asked_too_late("trees"))
    }
    /// Gives the tree the id mapping of the next mount whose source is inside the rootfs.
    fn map_mount(&mut self, _pid: i32, _tree: OwnedFd) -> Result<()> {
        Err(asked_too_late("the id mapping of a mount"))
    }
    /// Passes a seccomp listener on to its agent.
    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()>;
    /// Says what a failure means; called while the child still waits, so that its file system can be looked
    /// at.
    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error;
}

fn asked_too_late(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the child asked for {what}, which only `create` gives"),
    )
}

/// RUNTIME's side of the conversation with one child, from Go until its program runs.
///
/// Whatever comes may come from an attacker: a process in the container that may trace EXEC can take its end
/// of the link. So each record is taken once, in the order of the protocol, and only from the process that
/// the kernel names as the child.
pub(crate) struct Conversation {
    link: OwnedFd,
    /// The record of the highest rank so far: what comes has a higher one.
    heard: Rank,
    /// Whether a helper speaks, which is yet to make the process.
    awaits_birth: bool,
    /// Whether the end of the link says nothing yet: it is that of a connection which init may never have
    /// taken.
    awaits_taken: bool,
    /// The listener of a filter that a helper has loaded for the process that it is yet to make.
    held: Option<OwnedFd>,
}

/// The order of what a child may say, each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Nothing,
    Maps,
    Trees,
    NetDevices,
    /// More than one: how many, the answers knows by the plan.
    MountMaps,
    Hooks,
    Listener,
    Ready,
    /// A filter that is loaded after `start`.
    LateListener,
}

impl Conversation {
    /// Tells a child that waits for it to go on. `awaits_birth`: it is a helper, which makes the process.
    pub(crate) fn begin(link: OwnedFd, awaits_birth: bool) -> Result<Self> {
        let begun = Self::new(link, awaits_birth);
        begun.send(Message::Go)?;
        Ok(begun)
    }

    fn new(link: OwnedFd, awaits_birth: bool) -> Self {
        Self {
            link,
            heard: Rank::Nothing,
            awaits_birth,
            awaits_taken: false,
            held: None,
        }
    }

    /// With a process that was Ready long ago, and is reached by another socket.
    pub(crate) fn with_ready(link: OwnedFd) -> Self {
        Self {
            heard: Rank::Ready,
            awaits_taken: true,
            ..Self::new(link, false)
        }
    }

    /// Follows the child up to Ready.
    pub(crate) fn until_ready(
        &mut self,
        launched: &mut Launched,
        cancel: &Cancel,
        answers: &mut impl Answers,
    ) -> Result<()> {
        loop {
            self.await_record_or_call(launched.speaker(), cancel, answers)?;
            let Some((message, fd)) = link::receive(self.link.as_fd(), launched.speaker(), cancel)? else {
                return Err(ended(launched.pidfd()));
            };
            match (message, fd) {
                (Message::Born, Some(pidfd)) if self.awaits_birth => {
                    self.awaits_birth = false;
                    replace(launched, pidfd, cancel)?;
                    if let Some(listener) = self.held.take() {
                        answers.pass_listener(launched.pid, listener.as_fd())?;
                    }
                    self.send(Message::Go)?;
                }
                (Message::NeedMaps, _) => {
                    self.advance(Rank::Maps, message)?;
                    answers.map_ids(launched)?;
                    self.send(Message::Mapped)?;
                }
                (Message::NeedTrees, mounts) => {
                    self.advance(Rank::Trees, message)?;
                    answers.send_trees(launched, mounts, self.link.as_fd())?;
                }
                (Message::NeedNetDevices, Some(there)) => {
                    self.advance(Rank::NetDevices, message)?;
                    answers.move_net_devices(there.as_fd())?;
                    self.send(Message::NetDevicesDone)?;
                }
                (Message::NeedMountMap, Some(tree)) => {
                    if self.heard != Rank::MountMaps {
                        self.advance(Rank::MountMaps, message)?;
                    }
                    answers.map_mount(launched.pid, tree)?;
                    self.send(Message::MountMapped)?;
                }
                (Message::RunHooks, _) => {
                    self.advance(Rank::Hooks, message)?;
                    answers.run_hooks(launched.pid)?;
                    self.send(Message::HooksDone)?;
                }
                (Message::SeccompFd, Some(shared)) => {
                    self.advance(Rank::Listener, message)?;
                    self.take_listener(&shared, launched.speaker(), cancel, answers)?;
                }
                (Message::Ready, _) if !self.awaits_birth => return self.advance(Rank::Ready, message),
                (Message::Failure(failure), output) => {
                    return Err(answers.explain(launched.pid, failure, output));
                }
                (message, _) => return Err(unexpected(message)),
            }
        }
    }

    /// Lets the child become the program, and returns when it has.
    pub(crate) fn start(
        &mut self,
        child: Speaker<'_>,
        cancel: &Cancel,
        answers: &mut impl Answers,
    ) -> Result<()> {
        match Link(self.link.as_fd()).send(Message::Start) {
            Err(error) if self.awaits_taken && error.errno == Errno::PIPE => return Err(stopped()),
            sent => sent?,
        }
        loop {
            match link::receive(self.link.as_fd(), child, cancel)? {
                None if self.awaits_taken => return Err(stopped()),
                Some((Message::Taken, None)) if self.awaits_taken => self.awaits_taken = false,
                // The child's end is close-on-exec.
                None => return check_execution(child),
                Some((Message::SeccompFd, Some(shared))) => {
                    self.advance(Rank::LateListener, Message::SeccompFd)?;
                    self.take_listener(&shared, child, cancel, answers)?;
                }
                Some((Message::Failure(failure), output)) => {
                    return Err(answers.explain(child.pid, failure, output));
                }
                Some((message, _)) => return Err(unexpected(message)),
            }
        }
    }

    fn send(&self, message: Message) -> Result<()> {
        Link(self.link.as_fd()).send(message).map_err(Error::from)
    }

    fn advance(&mut self, rank: Rank, message: Message) -> Result<()> {
        if rank <= self.heard {
            return Err(unexpected(message));
        }
        self.heard = rank;
        Ok(())
    }

    /// The agent is told the pid of the process, which is not there yet where a helper has loaded the filter:
    /// so the listener is held until it is, or until the helper makes a call that the agent has to answer.
    fn take_listener(
        &mut self,
        shared: &OwnedFd,
        child: Speaker<'_>,
        cancel: &Cancel,
        answers: &mut impl Answers,
    ) -> Result<()> {
        let Self {
            awaits_birth, held, ..
        } = self;
        seccomp_listener::take_over(shared, child.pidfd, cancel, |listener| match awaits_birth {
            true => {
                *held = Some(listener);
                Ok(())
            }
            false => answers.pass_listener(child.pid, listener.as_fd()),
        })
    }

    /// With a listener that is held: returns when a record is there, and passes the listener on if a call
    /// comes first.
    fn await_record_or_call(
        &mut self,
        helper: Speaker<'_>,
        cancel: &Cancel,
        answers: &mut impl Answers,
    ) -> Result<()> {
        let Some(listener) = &self.held else {
            return Ok(());
        };
        let them = [self.link.as_fd(), helper.pidfd, listener.as_fd()];
        match cancel.wait_any(them, PollFlags::IN, None) {
            Ok([false, false, true]) => {
                answers.pass_listener(helper.pid, listener.as_fd())?;
                self.held = None;
                Ok(())
            }
            Ok(_) => Ok(()),
            // Whether a record counts before it, `receive` says.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What `start` says of every container whose init is gone.
pub(crate) fn stopped() -> Error {
    let text = "cannot start a container that has stopped";
    Error::new(ErrorKind::WrongStatus, text)
}

/// The end of the link says that the program runs, unless the child was killed on the way there.
fn check_execution(child: Speaker<'_>) -> Result<()> {
    match rustix::process::Pid::from_raw(child.pid)
        .map(Stat::read)
        .transpose()?
        .flatten()
    {
        Some(stat) if !stat.has_executed() => Err(ended(child.pidfd)),
        // None: a short program, which its parent has reaped already.
        _ => Ok(()),
    }
}

/// A helper has made the process, and ends. Which process that is, the kernel says: a pidfd could be
/// anybody's, and its number is not asked of whoever sent it.
fn replace(launched: &mut Launched, pidfd: OwnedFd, cancel: &Cancel) -> Result<()> {
    if !sys_process::is_child(pidfd.as_fd())? {
        return Err(Error::new(
            ErrorKind::Denied,
            "the process that was announced is no child of the runtime",
        ));
    }
    let pid = process::pid_of(pidfd.as_fd())?;
    let helper = std::mem::replace(launched, Launched::new(Child { pid, pidfd }));
    // Still killed if it is dropped now: somebody may have stopped it.
    cancel.wait_readable(helper.pidfd())?;
    let (_, helper) = helper.keep();
    reap(helper.as_fd()).map(drop)
}

fn unexpected(message: Message) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("unexpected message from the container's process: {message:?}"),
    )
}

/// It ended without a word: killed, then.
fn ended(pidfd: BorrowedFd<'_>) -> Error {
    let status = match sys_process::wait_readable(pidfd, Some(1000)) {
        Ok(true) => reap(pidfd).ok().flatten(),
        _ => None,
    };
    // Process 1 ends itself (`end_at_signals` in runtime-init), as a shell would say it.
    let by_itself = |status: ExitStatus| Some(status.code()? - 128).filter(|signal| *signal > 0);
    let signal = status.and_then(|status| status.signal().or_else(|| by_itself(status)));
    let message = match signal {
        Some(signal) => format!(
            "the container's process was ended by a signal while it was set up: {}",
            signals::name(signal)
        ),
        None => "the container's process ended while it was set up".to_owned(),
    };
    Error::new(ErrorKind::Internal, message)
}

/// What RUNTIME does with records that anybody may have sent: for the fuzz target.
#[cfg(feature = "unstable")]
#[allow(missing_docs, reason = "counts of what the fuzz target asks about")]
pub mod hostile {
    use super::*;
    use crate::prepare::Links;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    /// How many id-mapped mounts inside the rootfs there are in this plan.
    pub const MOUNT_MAPS: usize = 2;

    /// How often RUNTIME was asked for what, and how it ended.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub struct Outcome {
        pub maps: usize,
        pub trees: usize,
        pub net_devices: usize,
        pub mount_maps: usize,
        pub hooks: usize,
        pub listeners: usize,
        /// Up to Ready, and from there until the program runs.
        pub ready: bool,
        pub started: bool,
        /// Whom RUNTIME takes for the child.
        pub pid: i32,
    }

    impl Answers for Outcome {
        fn map_ids(&mut self, _init: &Launched) -> Result<()> {
            self.maps += 1;
            Ok(())
        }
        fn send_trees(
            &mut self,
            _init: &Launched,
            _mounts: Option<OwnedFd>,
            _link: BorrowedFd<'_>,
        ) -> Result<()> {
            self.trees += 1;
            Ok(())
        }
        fn move_net_devices(&mut self, _there: BorrowedFd<'_>) -> Result<()> {
            self.net_devices += 1;
            Ok(())
        }
        fn map_mount(&mut self, _pid: i32, _tree: OwnedFd) -> Result<()> {
            if self.mount_maps == MOUNT_MAPS {
                return Err(asked_too_late("one mapping more than the plan has"));
            }
            self.mount_maps += 1;
            Ok(())
        }
        fn run_hooks(&mut self, _pid: i32) -> Result<()> {
            self.hooks += 1;
            Ok(())
        }
        fn pass_listener(&mut self, _pid: i32, _listener: BorrowedFd<'_>) -> Result<()> {
            self.listeners += 1;
            Ok(())
        }
        fn explain(&mut self, _pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
            if let Some(output) = output.filter(|output| link::is_memfd(output)) {
                let _bytes = rustix::io::pread(&output, &mut [0; 64], 0);
            }
            Error::os(failure.call.name(), failure.errno)
        }
    }

    /// Sends each record, with one of these descriptors, over a link whose speaker is this process, closes
    /// it, and follows RUNTIME.
    pub fn follow(records: &[(&[u8], Option<BorrowedFd<'_>>)], awaits_birth: bool) -> Result<Outcome> {
        let links = Links::new()?;
        for (bytes, fd) in records {
            runtime_sys::net::send(links.child.as_fd(), bytes, *fd)?;
        }
        drop(links.child);
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).call("pidfd_open")?;
        let mut launched = Launched::new(Child {
            pid: getpid().as_raw_pid(),
            pidfd,
        });
        let (mut outcome, cancel) = (Outcome::default(), Cancel::default());
        let mut conversation = Conversation::new(links.runtime, awaits_birth);
        outcome.ready = conversation
            .until_ready(&mut launched, &cancel, &mut outcome)
            .is_ok();
        if outcome.ready {
            outcome.started = conversation
                .start(launched.speaker(), &cancel, &mut outcome)
                .is_ok();
        }
        // Not to be killed when it is dropped.
        (outcome.pid, _) = launched.keep();
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::Links;
    use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

    /// Answers nothing but failures, and counts what it is asked.
    #[derive(Default)]
    struct Asked(usize);

    impl Answers for Asked {
        fn run_hooks(&mut self, _pid: i32) -> Result<()> {
            self.0 += 1;
            Ok(())
        }
        fn map_mount(&mut self, _pid: i32, _tree: OwnedFd) -> Result<()> {
            Ok(())
        }
        fn pass_listener(&mut self, _pid: i32, _listener: BorrowedFd<'_>) -> Result<()> {
            panic!("nobody may get a listener here")
        }
        fn explain(&mut self, _pid: i32, failure: Failure, _output: Option<OwnedFd>) -> Error {
            Error::os(failure.call.name(), failure.errno)
        }
    }

    fn ourselves() -> Launched {
        Launched::new(Child {
            pid: getpid().as_raw_pid(),
            pidfd: pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
        })
    }

    /// What RUNTIME says to these records, sent by this very process in the place of its child; and how many
    /// hooks it ran.
    fn answer(awaits_birth: bool, records: &[(Message, Option<BorrowedFd<'_>>)]) -> (Result<()>, usize) {
        let links = Links::new().unwrap();
        for (message, fd) in records {
            match fd {
                Some(fd) => Link(links.child.as_fd()).send_fd(*message, *fd).unwrap(),
                None => Link(links.child.as_fd()).send(*message).unwrap(),
            }
        }
        let mut launched = ourselves();
        let mut asked = Asked::default();
        let cancel = Cancel::default();
        let mut conversation = Conversation::new(links.runtime, awaits_birth);
        let result = conversation.until_ready(&mut launched, &cancel, &mut asked);
        // It would be killed.
        drop(launched.keep());
        (result, asked.0)
    }

    #[test]
    fn each_record_is_taken_once_and_in_order() {
        let plain = |message| (message, None);
        assert_eq!(answer(false, &[plain(Message::Ready)]).1, 0);
        let (result, hooks) = answer(false, &[plain(Message::RunHooks), plain(Message::Ready)]);
        result.unwrap();
        assert_eq!(hooks, 1);
        let twice = [plain(Message::RunHooks), plain(Message::RunHooks)];
        let (result, hooks) = answer(false, &twice);
        assert_eq!(
            result.unwrap_err().to_string(),
            "unexpected message from the container's process: RunHooks"
        );
        assert_eq!(hooks, 1);
        let (result, _) = answer(false, &[plain(Message::RunHooks), plain(Message::NeedTrees)]);
        assert_eq!(
            result.unwrap_err().to_string(),
            "unexpected message from the container's process: NeedTrees"
        );
        for never in [
            Message::Go,
            Message::Start,
            Message::Tree,
            Message::Taken,
            Message::CriuSocket,
        ] {
            assert!(answer(false, &[plain(never)]).0.is_err(), "{never:?}");
        }
    }

    #[test]
    fn mounts_are_mapped_one_after_the_other_and_only_before_hooks() {
        let file = rustix::fs::memfd_create("tree", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let map = (Message::NeedMountMap, Some(file.as_fd()));
        let (result, _) = answer(
            false,
            &[map, map, (Message::RunHooks, None), (Message::Ready, None)],
        );
        result.unwrap();
        for late in [[(Message::RunHooks, None), map], [map, (Message::NeedMaps, None)]] {
            assert!(answer(false, &late).0.is_err(), "{late:?}");
        }
        let nothing = answer(false, &[(Message::NeedMountMap, None)]).0;
        assert_eq!(
            nothing.unwrap_err().to_string(),
            "unexpected message from the container's process: NeedMountMap"
        );
    }

    #[test]
    fn nobody_is_born_where_no_helper_is_and_no_helper_is_ready() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let born = (Message::Born, Some(pidfd.as_fd()));
        assert_eq!(
            answer(false, &[born]).0.unwrap_err().to_string(),
            "unexpected message from the container's process: Born"
        );
        assert_eq!(
            answer(true, &[(Message::Ready, None)]).0.unwrap_err().to_string(),
            "unexpected message from the container's process: Ready"
        );
        assert_eq!(
            answer(true, &[(Message::Born, None)]).0.unwrap_err().to_string(),
            "unexpected message from the container's process: Born"
        );
    }

    #[test]
    fn only_a_child_can_be_announced() {
        let parent = rustix::process::getppid().unwrap_or(Pid::INIT);
        let other = pidfd_open(parent, PidfdFlags::empty()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        for fd in [other.as_fd(), null.as_fd()] {
            let (result, _) = answer(true, &[(Message::Born, Some(fd))]);
            assert_eq!(
                result.unwrap_err().to_string(),
                "the process that was announced is no child of the runtime"
            );
        }
    }

    #[test]
    fn an_end_before_the_word_was_taken_is_no_start() {
        let links = Links::new().unwrap();
        let launched = ourselves();
        drop(links.child);
        let cancel = Cancel::default();
        let mut conversation = Conversation::with_ready(links.runtime);
        // The word itself cannot be sent any more.
        let error = conversation
            .start(launched.speaker(), &cancel, &mut Asked::default())
            .unwrap_err();
        drop(launched.keep());
        assert_eq!(error.kind(), ErrorKind::WrongStatus);
        assert_eq!(error.to_string(), "cannot start a container that has stopped");
    }
}

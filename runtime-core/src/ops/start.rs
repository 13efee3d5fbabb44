//! Runs in: RUNTIME. `start`: opens the gate that init waits at, and returns when the program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_init::wire::Failure;

use super::container::{self, CONFIG};
use super::hooks::run_poststart;
use super::{Runtime, Status, listener};
use crate::host::process::Process as HostProcess;
use crate::host::socket::start_socket;
use crate::host::state::{ContainerId, Record, Slot};
use crate::parent::explain::{self, Subject};
use crate::parent::handshake::{Answers, Conversation, stopped};
use crate::parent::link::Speaker;
use crate::plan::{CallerOptions, ConsoleRequest, Plan};
use crate::spec::Config;
use crate::{Cancel, Error, ErrorKind, Result};

impl Runtime {
    /// OCI `start`.
    ///
    /// # Errors
    /// `WrongStatus` with runc's texts unless the status is `created`; `Hook`, the container is deleted then;
    /// or why the program could not be executed: it is stopped then.
    pub fn start(&self, id: &ContainerId) -> Result<()> {
        self.start_unless(id, &Cancel::default())
    }

    /// As `start`, but gives up when it is told to: the container is stopped then, as after any failure but
    /// that of a hook.
    ///
    /// # Errors
    /// Those of `start`, and `Interrupted`.
    pub fn start_unless(&self, id: &ContainerId, cancel: &Cancel) -> Result<()> {
        match self.start_or_stop(id, cancel) {
            // runtime.md, Lifecycle 8 and 9: the container is destroyed, and then come the poststop hooks.
            Err(error) if error.kind() == ErrorKind::Hook => Err(match self.delete(id, true) {
                Ok(()) => error,
                Err(second) => error.and(second),
            }),
            other => other,
        }
    }

    fn start_or_stop(&self, id: &ContainerId, cancel: &Cancel) -> Result<()> {
        let slot = self.store.lock(id)?;
        check_status(container::status(slot.record(), slot.dir())?)?;
        let record = slot.record().clone();
        let init = HostProcess::open(record.pid, record.start_time)?.ok_or_else(stopped)?;
        let connection = start_socket::connect(slot.dir())?;
        // Before the word is given: if we are killed in between, init hears it, and ends. The other way
        // round, a running container would look like a created one.
        start_socket::remove(slot.dir())?;
        let mut answers = StartAnswers {
            slot: &slot,
            cancel,
            replanned: None,
        };
        let speaker = Speaker {
            pid: record.pid,
            pidfd: init.as_fd(),
        };
        let started = Conversation::with_ready(connection)
            .start(speaker, cancel, &mut answers)
            .and_then(|()| self.poststart(&slot, &record, cancel));
        if started.is_err() {
            // It may have ended by itself.
            let _already_gone = init.kill(libc::SIGKILL);
        }
        started
    }

    fn poststart(&self, slot: &Slot, record: &Record, cancel: &Cancel) -> Result<()> {
        if !record.poststart {
            return Ok(());
        }
        let json = slot.read_file(CONFIG)?;
        let config = container::saved_config(json)?;
        run_poststart(&config, record, self.hook_terms(cancel)?)
    }
}

fn check_status(status: Status) -> Result<()> {
    let text = match status {
        Status::Created => return Ok(()),
        Status::Stopped => return Err(stopped()),
        Status::Creating => "cannot start a container that is being created",
        Status::Running => "cannot start an already running container",
        Status::Paused => "cannot start a container in the paused state",
    };
    Err(Error::new(ErrorKind::WrongStatus, text))
}

/// RUNTIME's answers, from a command that has not made the plan: it is made again where it is needed.
struct StartAnswers<'a> {
    slot: &'a Slot,
    cancel: &'a Cancel,
    replanned: Option<(Config, Plan)>,
}

impl StartAnswers<'_> {
    fn plan(&mut self) -> Result<&(Config, Plan)> {
        let planned = match self.replanned.take() {
            Some(planned) => planned,
            None => self.plan_again()?,
        };
        Ok(self.replanned.insert(planned))
    }

    fn plan_again(&self) -> Result<(Config, Plan)> {
        let config = container::saved_config(self.slot.read_file(CONFIG)?)?;
        let facts = container::facts_of(self.slot.record())?;
        let caller = CallerOptions {
            console: ConsoleRequest::Optional,
            ..CallerOptions::default()
        };
        let plan = Plan::new(&config, self.slot.id().as_str(), &facts, caller)?;
        Ok((config, plan))
    }
}

impl Answers for StartAnswers<'_> {
    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()> {
        let record = self.slot.record().clone();
        let cancel = self.cancel;
        let (_, plan) = self.plan()?;
        listener::pass_on(plan.seccomp.as_ref(), &record, "created", pid, listener, cancel)
    }

    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
        match self.plan() {
            Ok((config, plan)) => {
                let subject = Subject {
                    process: &plan.process,
                    container: Some((plan, &config.spec)),
                };
                explain::explain(subject, pid, failure, output)
            }
            Err(other) => Error::os(failure.call.name(), failure.errno)
                .doing(explain::doing(failure.step))
                .and(other),
        }
    }
}

//! Runs in: RUNTIME. `run`.

use std::os::fd::AsFd;

use runtime_core::{
    Cancel, Console, ContainerId, CreateOptions, NotifySocket, Process, Result, Runtime, tell_ready,
};

use super::common_flags::CreateFlags;
use super::{Command, Definition, FailurePrefix, Invocation};
use crate::flags::flags;
use crate::foreground::{self, Signals};
use crate::terminal::{self, ConsoleReceiver};
use crate::{interrupt, report, service_manager};

flags! {
    pub(crate) struct Run {
        ..create: CreateFlags,
        /// do not wait for the container to end
        detach: bool { short('d') },
        /// do not delete the container after it has ended
        keep: bool,
        /// do not adopt the orphans of the container
        no_subreaper: bool,
    }
}

impl Command for Run {
    const DEFINITION: Definition = Definition {
        seals: true,
        creates: true,
        failure: FailurePrefix::ProgramAndCommand,
        ..Definition::new::<Self>("run", "create and start a container")
    };

    fn stays(&self) -> bool {
        !self.detach
    }

    fn preserved_fds(&self) -> u32 {
        self.create.preserve_fds
    }

    /// Unless detached, waits for the container and deletes it. Returns its exit code.
    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        if self.detach {
            let options = self.create.options()?;
            let started = begin(&runtime, &id, options, &interrupt::block()?)?;
            interrupt::unblock()?;
            return detached(&started);
        }
        self.create.console.refuse(call.program)?;
        let signals = Signals::block()?;
        if !self.no_subreaper {
            foreground::become_subreaper()?;
        }
        let (receiver, sender) = ConsoleReceiver::pair()?;
        let options = self
            .create
            .options()?
            .console(Console::Socket(sender))
            .terminal_size(terminal::own_size())
            .plain_newlines(true);
        let cancel = interrupt::block()?;
        let (process, notify) = begin(&runtime, &id, options, &cancel)?;
        let notify = notify.map(|socket| (socket, cancel));
        let code = foreground::stay(&process, &signals, receiver, notify);
        if code.as_ref().is_ok_and(|code| *code == KILLED) && was_out_of_memory(&runtime, &id) {
            report::failure(&format!(
                "{} run: container {id} was killed because its memory ran out (memory limit too low?)",
                call.program
            ));
        }
        if self.keep && code.is_ok() {
            return code;
        }
        match (code, runtime.delete(&id, true)) {
            (code, Ok(())) => code,
            (Ok(_), Err(error)) => Err(error),
            (Err(first), Err(second)) => Err(first.and(second)),
        }
    }
}

/// The exit code of a container that SIGKILL has ended.
const KILLED: u8 = 128 + 9;

fn was_out_of_memory(runtime: &Runtime, id: &ContainerId) -> bool {
    // If it cannot be told, the exit code is all that there is to say.
    runtime
        .oom_kills(id)
        .ok()
        .flatten()
        .is_some_and(|kills| kills > 0)
}

/// Creates and starts. A service manager that wants to hear of it makes two steps of that: the socket has to
/// be there before the program is.
fn begin(
    runtime: &Runtime,
    id: &ContainerId,
    options: CreateOptions,
    cancel: &Cancel,
) -> Result<(Process, Option<NotifySocket>)> {
    let options = options.cancel(cancel.clone());
    if service_manager::notify_socket().is_none() {
        return Ok((runtime.run(id, options)?, None));
    }
    let process = runtime.create(id, options)?;
    let started = runtime
        .notify_socket(id)
        .and_then(|socket| runtime.start_unless(id, cancel).map(|()| socket));
    match started {
        Ok(socket) => Ok((process, socket)),
        Err(error) => Err(match runtime.delete(id, true) {
            Ok(()) => error,
            Err(second) => error.and(second),
        }),
    }
}

/// Nobody waits for the container, but the service manager may wait for its READY.
fn detached((process, notify): &(Process, Option<NotifySocket>)) -> Result<u8> {
    if let (Some(socket), Some(manager)) = (notify, service_manager::notify_socket())
        && socket.wait(process.as_fd())?
    {
        // Its signals are let through by now, and end it.
        tell_ready(&manager, Some(process.pid()), &Cancel::default())?;
    }
    Ok(0)
}

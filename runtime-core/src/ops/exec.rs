//! Runs in: RUNTIME. `exec`: one more process in a running container.

mod launch;
mod place;
pub(crate) mod process;
mod target;

use std::mem::take;

use self::launch::PlannedExec;
use self::place::cgroup_of;
use self::process::{Affinity, process_of};
pub(super) use self::target::Target;
use super::container::{self, CONFIG};
use super::descriptors::Descriptors;
use super::options::ExecOptions;
use super::terminal::{connect_console, console_request};
use super::{Process, Runtime, Status};
use crate::host::random;
use crate::host::state::{ContainerId, Record};
use crate::plan::keyring::{KeyringPlan, KeyringSecret};
use crate::plan::process::ProcessPlan;
use crate::plan::{CallerOptions, HostFacts, plan_seccomp};
use crate::prepare::without_listener;
use crate::{Error, ErrorKind, Result, spec};

impl Runtime {
    /// Starts a process in the container; returns when its program runs. The process is a child of the
    /// caller.
    ///
    /// # Errors
    /// `WrongStatus` for a stopped or paused container; `Invalid` for the process; why the program could not
    /// be executed.
    pub fn exec(&self, id: &ContainerId, mut options: ExecOptions) -> Result<Process> {
        let descriptors = Descriptors::inherited(0, options.preserve_fds)?;
        let standard = [&mut options.stdin, &mut options.stdout, &mut options.stderr].map(take);
        let descriptors = descriptors.given(standard, take(&mut options.descriptors))?;
        let placed = descriptors.placed();
        let view = self.store.view(id)?;
        let record = view.record().clone();
        check_status(container::status(&record, view.dir())?, &options)?;
        let config = container::saved_config(view.read_file(CONFIG)?)?;
        let (process, extra) = process_of(&config, &options)?;
        spec::validate_process(&process, &extra)?;
        container::warn_of_spellings(&extra.spellings);
        if options.process.is_some() {
            // Those of config.json were told of by `create`.
            container::warn_of_capabilities(&extra.unknown_capabilities);
        }
        let caller = CallerOptions {
            console: console_request(options.console.as_ref()),
            terminal_size: options.terminal_size,
            plain_newlines: options.plain_newlines,
            inherited: &descriptors.inherited,
            placed: &placed,
            open_files: self.open_files()?,
            ..CallerOptions::default()
        };
        let mut init = Target::open(&record)?;
        let facts = HostFacts::of_host(record.bundle.clone())?;
        let plan = ProcessPlan::new(
            &process,
            config.spec.linux().as_ref(),
            &facts,
            init.other_user,
            caller,
        )?;
        plan.warn();
        init.keep_off(&plan)?;
        let console = connect_console(options.console.take().filter(|_| plan.terminal), &options.cancel)?;
        let seccomp = plan_seccomp(&config.spec)?;
        let notifies = seccomp.as_ref().is_some_and(|seccomp| seccomp.listener.is_some());
        if plan.unprivileged && notifies {
            return Err(without_listener().with_field("linux.seccomp.listenerPath"));
        }
        let cgroup = cgroup_of(&record, &options, init.pid)?;
        let affinity = Affinity::of(&extra)?;
        let keyring = keyring(&record, &facts, init.other_user)?;
        let exec = PlannedExec {
            unprivileged: !facts.may_mount,
            affinity,
            keyring: keyring.as_ref(),
            record: &record,
            plan: &plan,
            seccomp: seccomp.as_ref(),
            console,
            init: &init,
        };
        exec.launch(cgroup, &options)
    }
}

/// The container's session keyring, if it has one.
fn keyring(record: &Record, facts: &HostFacts, inside: bool) -> Result<Option<KeyringPlan>> {
    if !record.keyring {
        return Ok(None);
    }
    let of_older_releases = || format!("_ses.{}", record.id);
    let name = record.keyring_name.clone().unwrap_or_else(of_older_releases);
    let secret = KeyringSecret::new(random::bytes()?);
    KeyringPlan::new(&name, secret, facts, inside).map(Some)
}

fn check_status(status: Status, options: &ExecOptions) -> Result<()> {
    let text = match status {
        Status::Created | Status::Running => return Ok(()),
        Status::Paused if options.ignore_paused => return Ok(()),
        Status::Paused => "cannot exec in a paused container (use --ignore-paused to override)",
        Status::Stopped => "cannot exec in a stopped container",
        Status::Creating => "cannot exec in a container that is being created",
    };
    Err(Error::new(ErrorKind::WrongStatus, text))
}

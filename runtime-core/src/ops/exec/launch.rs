//! Runs in: RUNTIME. JOINER is made in the container's cgroup, EXEC is followed until its program runs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use runtime_init::args::{JoinArgs, JoinProcessArgs, ProcessArgs};
use runtime_init::start::Birth;
use runtime_init::wire::Failure;
use runtime_sys::SysError;

use super::place::Cgroups;
use super::process::Affinity;
use super::target::Target;
use crate::host::cgroup::{Cgroup, CgroupManager};
use crate::host::pid_file;
use crate::host::process::proc_handle::ProcHandle;
use crate::host::resctrl;
use crate::host::socket::pidfd_socket;
use crate::host::state::Record;
use crate::ops::options::ExecOptions;
use crate::ops::{Process, container, listener};
use crate::parent::attributes::{set_limits, set_oom_score, set_scheduler};
use crate::parent::child::{Launched, pid_of};
use crate::parent::explain::{self, Subject};
use crate::parent::handshake::{Answers, Conversation};
use crate::parent::views::{ProcessVectors, console_view, keyring_view};
use crate::plan::keyring::KeyringPlan;
use crate::plan::process::ProcessPlan;
use crate::plan::seccomp::SeccompPlan;
use crate::prepare::{Links, keep_off};
use crate::{Cancel, Error, Result};

/// One `exec`, with everything decided.
pub(super) struct PlannedExec<'a> {
    pub(super) unprivileged: bool,
    pub(super) affinity: Affinity,
    pub(super) keyring: Option<&'a KeyringPlan>,
    pub(super) record: &'a Record,
    pub(super) plan: &'a ProcessPlan,
    pub(super) seccomp: Option<&'a SeccompPlan>,
    pub(super) console: Option<OwnedFd>,
    pub(super) init: &'a Target,
}

impl PlannedExec<'_> {
    pub(super) fn launch(mut self, cgroups: Cgroups, options: &ExecOptions) -> Result<Process> {
        let mut links = Links::new()?;
        keep_off(&mut links.child, self.plan)?;
        self.console
            .iter_mut()
            .try_for_each(|fd| keep_off(fd, self.plan))?;
        let freezer = cgroups.freezer()?;
        let mut launched = self.make(&links, cgroups)?;
        drop(links.child);
        set_oom_score(self.plan, launched.pid)?;
        self.affinity.begin(launched.pid)?;
        let mut conversation = Conversation::begin(links.runtime, self.init.joins_pids())?;
        let mut answers = ExecAnswers {
            record: self.record,
            plan: self.plan,
            seccomp: self.seccomp,
            cancel: &options.cancel,
        };
        let or_frozen = options.cancel.or_when_frozen(freezer);
        conversation.until_ready(&mut launched, &or_frozen, &mut answers)?;
        set_limits(self.plan, launched.pid)?;
        if let Some(group) = &self.record.resctrl {
            let monitoring = container::monitoring_group(self.record);
            resctrl::add(&group.path, monitoring.as_deref(), launched.pid)?;
        }
        self.affinity.settle(launched.pid)?;
        set_scheduler(self.plan, launched.pid)?;
        if let Some(path) = &options.pidfd_socket {
            pidfd_socket::send(path, b"setns", launched.pidfd(), &options.cancel)?;
        }
        conversation.start(launched.speaker(), &options.cancel, &mut answers)?;
        if let Some(path) = &options.pid_file {
            pid_file::write(path, launched.pid)?;
        }
        Ok(Process::new(launched.keep()))
    }

    fn make(&self, links: &Links, cgroups: Cgroups) -> Result<Launched> {
        let needs_procfs = self.plan.apparmor.is_some() || self.plan.selinux.is_some();
        let mut procfs = needs_procfs.then(ProcHandle::open).transpose()?;
        procfs
            .iter_mut()
            .try_for_each(|fd| keep_off(fd.as_mut(), self.plan))?;
        let attempt = |cgroup: Option<BorrowedFd<'_>>| self.clone_into(links, cgroup, procfs.as_ref());
        cgroups.refuse_frozen(cgroups.below.as_ref())?;
        let first = cgroups.first();
        let mut refused = match attempt(first.map(Cgroup::dir)) {
            Ok(launched) => return Ok(launched),
            Err(error) => error,
        };
        let mut place = None;
        if takes_no_process(refused) {
            place = cgroups.second()?;
            cgroups.refuse_frozen(place.as_ref())?;
            match place.as_ref().map(|second| attempt(Some(second.dir()))) {
                Some(Ok(launched)) => return Ok(launched),
                Some(Err(error)) => refused = error,
                None => {}
            }
        }
        match (
            cgroups.mover().filter(|_| is_denied(refused)),
            place.as_ref().or(first),
        ) {
            (Some(manager), _) => moved(attempt(None)?, manager),
            (None, Some(place)) => Err(place.explain_entry("clone3", refused.errno)),
            (None, None) => Err(Error::from(refused)),
        }
    }

    fn clone_into(
        &self,
        links: &Links,
        cgroup: Option<BorrowedFd<'_>>,
        procfs: Option<&ProcHandle>,
    ) -> runtime_sys::Result<Launched> {
        let init = self.init;
        let join = [JoinArgs {
            index: 0,
            fd: init.process.as_fd(),
            kind: init.kinds,
        }];
        let join: &[JoinArgs<'_>] = if init.kinds.is_empty() { &[] } else { &join };
        let own = [
            Some(init.process.as_fd()),
            init.root.instead.as_ref().map(AsFd::as_fd),
            self.console.as_ref().map(AsFd::as_fd),
            procfs.map(AsFd::as_fd),
        ];
        let own = own.iter().flatten().map(AsRawFd::as_raw_fd);
        let keep = links.kept_with(own.chain(self.plan.kept()));
        let mut vectors = ProcessVectors::new(self.plan);
        let console = self
            .console
            .as_ref()
            .map(|socket| console_view(self.plan, socket.as_fd(), false));
        Launched::start(
            Birth {
                cgroup,
                ..Birth::default()
            },
            &JoinProcessArgs {
                link: links.child.as_fd(),
                keep: &keep,
                unprivileged: self.unprivileged,
                namespaces: join,
                joins_pids: init.joins_pids(),
                become_root: init.other_user,
                root: init.root.args(),
                keyring: self.keyring.map(keyring_view),
                procfs: procfs.map(AsFd::as_fd),
                process: ProcessArgs {
                    scheduler: None,
                    ..vectors.args(self.plan, self.seccomp, console)
                },
            },
        )
    }
}

fn takes_no_process(error: SysError) -> bool {
    use rustix::io::Errno;
    matches!(
        error.errno,
        Errno::BUSY | Errno::OPNOTSUPP | Errno::NODEV | Errno::NOENT
    )
}

fn is_denied(error: SysError) -> bool {
    use rustix::io::Errno;
    matches!(error.errno, Errno::ACCESS | Errno::PERM)
}

/// Has the process, which waits for `Go`, moved into the container's cgroup.
fn moved(launched: Launched, manager: &CgroupManager) -> Result<Launched> {
    manager.add_process(pid_of(launched.pid)?)?;
    Ok(launched)
}

/// RUNTIME's answers.
struct ExecAnswers<'a> {
    record: &'a Record,
    plan: &'a ProcessPlan,
    seccomp: Option<&'a SeccompPlan>,
    cancel: &'a Cancel,
}

impl Answers for ExecAnswers<'_> {
    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()> {
        listener::pass_on(self.seccomp, self.record, "running", pid, listener, self.cancel)
    }

    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
        explain::explain(
            Subject {
                process: self.plan,
                container: None,
            },
            pid,
            failure,
            output,
        )
    }
}

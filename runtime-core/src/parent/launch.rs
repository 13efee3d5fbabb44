//! Runs in: RUNTIME. `clone3`, and what must be done for the child from outside before it may go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::LinuxIdMapping;
use runtime_init::start::{Birth, Child, start_init};
use runtime_init::wire::{Link, Message};
use runtime_sys::process as sys_process;
use rustix::process::Pid;

use super::{explain, id_mapped, views};
use crate::host::cgroup::{CgroupManager, CgroupPlan};
use crate::host::id_map::{IdMap, deny_setgroups};
use crate::host::{id_map_program, resctrl, user_namespaces};
use crate::plan::Plan;
use crate::plan::namespaces::UserNamespace;
use crate::plan::process::ProcessPlan;
use crate::prepare::{Links, Prepared, sys_error};
use crate::{Cancel, Error, ErrorKind, Result};

/// How long a child that was killed may take to end, in milliseconds.
const DEATH: i64 = 10_000;

/// A child on the way to becoming the container's process. Killed and reaped if it is dropped: no error on the way may
/// leave it behind.
#[derive(Debug)]
pub(crate) struct Launched {
    pub pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Launched {
    pub(crate) fn new(child: Child) -> Self {
        Self {
            pid: child.pid,
            pidfd: Some(child.pidfd),
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        match &self.pidfd {
            Some(pidfd) => pidfd.as_fd(),
            None => unreachable!("only `keep` takes it, and self with it"),
        }
    }

    /// It has become the process; whoever has the pidfd waits for it.
    pub(crate) fn keep(mut self) -> (i32, OwnedFd) {
        match self.pidfd.take() {
            Some(pidfd) => (self.pid, pidfd),
            None => unreachable!("only `keep` takes it, and self with it"),
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        // It may have ended by itself, and a program that reaps all its children may have been faster: what counts is
        // that it is gone.
        let _already_gone = sys_process::send_signal(pidfd.as_fd(), rustix::process::Signal::KILL);
        // A dead file server can hold it in a sleep that SIGKILL does not end. Nobody can reap it then, and its cgroup,
        // which cannot be removed, says so.
        if let Ok(true) = sys_process::wait_readable(pidfd.as_fd(), Some(DEATH)) {
            let _already_reaped = sys_process::wait(pidfd.as_fd());
        }
    }
}

/// Makes INIT (or INTERMEDIATE), prepares its surroundings, and lets it go on.
pub(crate) fn launch(
    plan: &Plan,
    prepared: &Prepared,
    links: &Links,
    cgroup: &mut CgroupManager,
    cgroup_plan: &CgroupPlan,
    resctrl: Option<&resctrl::Group>,
    cancel: &Cancel,
) -> Result<Launched> {
    let launched = Launched::new(make(plan, prepared, links, cgroup)?);
    cgroup.adopt(pid_of(launched.pid)?)?;
    // Behind that: before Linux 6.2 a cpuset that is entered says it again.
    allow_all_cpus(launched.pid);
    cgroup.filter_devices(cgroup_plan)?;
    if !plan.namespaces.unshares_user {
        map_ids(plan, prepared, &launched, cancel)?;
    }
    set_oom_score(&plan.process, launched.pid)?;
    // What INTERMEDIATE is in, its children are in too.
    if let Some(group) = resctrl {
        group.add(launched.pid)?;
    }
    Link(links.runtime.as_fd()).send(Message::Go).map_err(sys_error)?;
    Ok(launched)
}

/// The CPUs that the caller was confined to are not the container's: its cpuset is, which the kernel takes from all.
pub(crate) fn allow_all_cpus(pid: i32) {
    // Where a filter forbids it, or a real-time policy, it runs, only not everywhere. That it has ended is seen elsewhere.
    if let Err(error) = sys_process::allow_all_cpus(pid) {
        log::info!("the container keeps the CPUs of the caller: {}", sys_error(error));
    }
}

fn make(plan: &Plan, prepared: &Prepared, links: &Links, cgroup: &CgroupManager) -> Result<Child> {
    let directory = cgroup.cgroup().map(crate::host::cgroup::Cgroup::dir);
    let birth = Birth {
        flags: plan.namespaces.birth,
        cgroup: directory,
    };
    let child = views::with_init_args(plan, prepared, &links.child, |args| start_init(birth, args));
    child.map_err(|error| explain_clone(error, plan, cgroup))
}

fn explain_clone(error: runtime_sys::SysError, plan: &Plan, cgroup: &CgroupManager) -> Error {
    use rustix::io::Errno;
    let explained = sys_error(error).doing("make the container's process");
    match (error.errno, cgroup.cgroup()) {
        (Errno::NOSPC | Errno::USERS, _) => explained.field("linux.namespaces").hint(
            obstacle(plan)
                .unwrap_or("too many namespaces: see /proc/sys/user/max_*_namespaces, or nested too deep"),
        ),
        (Errno::BUSY | Errno::OPNOTSUPP | Errno::ACCESS, Some(cgroup)) => {
            cgroup.explain_entry("clone3", error.errno)
        }
        (Errno::AGAIN, _) => explained.hint("pids.max of a cgroup above, or RLIMIT_NPROC"),
        (Errno::PERM, _) if plan.namespaces.birth != 0 => explained
            .field("linux.namespaces")
            .with_kind(ErrorKind::Denied)
            .hint(obstacle(plan).unwrap_or("new namespaces need CAP_SYS_ADMIN")),
        _ => explained,
    }
}

fn obstacle(plan: &Plan) -> Option<&'static str> {
    plan.namespaces
        .makes(libc::CLONE_NEWUSER as u32)
        .then(user_namespaces::obstacle)
        .flatten()
}

/// Writes the maps of the child's new user namespace, and gives the mounts theirs, which may be the same.
pub(crate) fn map_ids(plan: &Plan, prepared: &Prepared, launched: &Launched, cancel: &Cancel) -> Result<()> {
    if let UserNamespace::New { uids, gids } = &plan.namespaces.user {
        write_maps(launched.pid, uids, gids, cancel)?;
    }
    id_mapped::apply(plan, prepared, launched.pid)
}

/// From outside, and not by the process itself before it makes another: SCHED_DEADLINE forbids it to, RESET_ON_FORK takes the
/// policy from the other again, and in a user namespace it has no CAP_SYS_NICE that counts (sched(7)).
pub(crate) fn set_scheduler(process: &ProcessPlan, pid: i32) -> Result<()> {
    let Some(scheduler) = &process.scheduler else {
        return Ok(());
    };
    sys_process::sched_setattr(pid, scheduler).map_err(|error| {
        let explained = sys_error(error)
            .doing("set the scheduler")
            .field("process.scheduler");
        match error.errno {
            rustix::io::Errno::PERM => explained.hint(explain::refused_scheduler(scheduler)),
            _ => explained,
        }
    })
}

/// Writes both maps of a child in a new user namespace.
pub(super) fn write_maps(
    pid: i32,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
    cancel: &Cancel,
) -> Result<()> {
    let pid = pid_of(pid)?;
    let (uid_text, gid_text) = (IdMap::Uid.text(uids)?, IdMap::Gid.text(gids)?);
    match IdMap::Uid.write(pid, &uid_text) {
        Err(error) if error.kind() == ErrorKind::Denied => {
            map_by_program(IdMap::Uid, pid, uids, error, cancel)?
        }
        written => written?,
    }
    match IdMap::Gid.write(pid, &gid_text) {
        Err(error) if error.kind() == ErrorKind::Denied && is_own_group(gids) => {
            // What the kernel demands for it (user_namespaces(7)).
            deny_setgroups(pid)?;
            IdMap::Gid.write(pid, &gid_text)
        }
        Err(error) if error.kind() == ErrorKind::Denied => {
            map_by_program(IdMap::Gid, pid, gids, error, cancel)
        }
        written => written,
    }
}

/// The single group that a process may map without privileges.
fn is_own_group(gids: &[LinuxIdMapping]) -> bool {
    matches!(gids, [range] if range.size() == 1 && range.host_id() == rustix::process::getegid().as_raw())
}

/// Root has other means than newuidmap, and what denies it something will not be asked a second time.
fn map_by_program(
    map: IdMap,
    pid: Pid,
    ranges: &[LinuxIdMapping],
    denied: Error,
    cancel: &Cancel,
) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Err(denied);
    }
    id_map_program::run(map.program(), pid, ranges, cancel)
        .map_err(|error| error.field(map.field()).doing("map ids into the user namespace"))
}

pub(crate) fn pid_of(pid: i32) -> Result<Pid> {
    Pid::from_raw(pid).ok_or_else(|| Error::new(ErrorKind::Internal, "a child has no pid in this namespace"))
}

/// From outside, since RUNTIME may have CAP_SYS_RESOURCE where the container has not.
pub(crate) fn set_oom_score(process: &ProcessPlan, pid: i32) -> Result<()> {
    let Some(score) = process.oom_score_adj else {
        return Ok(());
    };
    let path = format!("/proc/{pid}/oom_score_adj");
    let Err(error) = std::fs::write(&path, score.to_string()) else {
        return Ok(());
    };
    let is_denied = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    let explained = Error::io("write", &error).field("process.oomScoreAdj").path(path);
    match (is_denied, process.is_rootless) {
        // Engines ask for the same value whoever runs them. The container then keeps that of its user, which is no
        // gain to it.
        (true, true) => {
            log::debug!("{explained}: not changed, since the runtime is rootless");
            Ok(())
        }
        (true, false) => Err(explained
            .with_kind(ErrorKind::Denied)
            .hint("a value below the runtime's own needs CAP_SYS_RESOURCE")),
        (false, _) => Err(explained),
    }
}

//! Runs in: RUNTIME. `clone3`, and what must be done for the child from outside before it may go on.

use std::os::fd::AsFd;

use runtime_init::start::{Birth, Child, start_init};
use runtime_init::wire::{Link, Message};
use runtime_sys::process as sys_process;

use super::id_maps::write_maps;
use super::launched::{Launched, pid_of};
use super::{explain, id_mapped, views};
use crate::host::cgroup::CgroupManager;
use crate::host::resctrl;
use crate::host::user_namespace::obstacle;
use crate::plan::Plan;
use crate::plan::namespaces::UserNamespace;
use crate::plan::process::ProcessPlan;
use crate::prepare::{Links, Prepared, sys_error};
use crate::{Cancel, Error, ErrorKind, Result};

/// Makes INIT (or INTERMEDIATE), prepares its surroundings, and lets it go on.
pub(crate) fn launch(
    plan: &Plan,
    prepared: &Prepared,
    links: &Links,
    cgroup: &mut CgroupManager,
    resctrl: Option<&resctrl::Group>,
    cancel: &Cancel,
) -> Result<Launched> {
    let launched = Launched::new(make(plan, prepared, links, cgroup)?);
    cgroup.adopt(pid_of(launched.pid)?)?;
    // Behind that: before Linux 6.2 a cpuset that is entered says it again.
    allow_all_cpus(launched.pid);
    cgroup.filter_devices(&plan.cgroup)?;
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
            obstacle_of(plan)
                .unwrap_or("too many namespaces: see /proc/sys/user/max_*_namespaces, or nested too deep"),
        ),
        (Errno::BUSY | Errno::OPNOTSUPP | Errno::ACCESS, Some(cgroup)) => {
            cgroup.explain_entry("clone3", error.errno)
        }
        (Errno::AGAIN, _) => explained.hint("pids.max of a cgroup above, or RLIMIT_NPROC"),
        (Errno::PERM, _) if plan.namespaces.birth != 0 => explained
            .field("linux.namespaces")
            .with_kind(ErrorKind::Denied)
            .hint(obstacle_of(plan).unwrap_or("new namespaces need CAP_SYS_ADMIN")),
        _ => explained,
    }
}

fn obstacle_of(plan: &Plan) -> Option<&'static str> {
    plan.namespaces
        .makes(libc::CLONE_NEWUSER as u32)
        .then(obstacle)
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
            rustix::io::Errno::PERM => explained.hint(explain::HIGHER_PRIORITY),
            _ => explained,
        }
    })
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

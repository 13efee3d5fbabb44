//! Runs in: RUNTIME. What of a child's process is set from outside, while it waits.

use runtime_sys::process as sys_process;
use rustix::io::Errno;

use super::explain;
use crate::plan::process::ProcessPlan;
use crate::{Error, ErrorKind, Result};

/// The CPUs that the caller was confined to are not the container's: its cpuset is, which the kernel takes
/// from all.
pub(crate) fn allow_all_cpus(pid: i32) {
    // Where a filter forbids it, or a real-time policy, it runs, only not everywhere. That it has ended is
    // seen elsewhere.
    if let Err(error) = sys_process::allow_all_cpus(pid) {
        log::info!(
            "the container keeps the CPUs of the caller: {}",
            Error::from(error)
        );
    }
}

/// From outside, and not by the process itself before it makes another: SCHED_DEADLINE forbids it to,
/// RESET_ON_FORK takes the policy from the other again, and in a user namespace it has no CAP_SYS_NICE that
/// counts (sched(7)).
pub(crate) fn set_scheduler(process: &ProcessPlan, pid: i32) -> Result<()> {
    let Some(scheduler) = &process.scheduler else {
        return Ok(());
    };
    sys_process::sched_setattr(pid, scheduler).map_err(|error| {
        let explained = Error::from(error)
            .doing("set the scheduler")
            .with_field("process.scheduler");
        match error.errno {
            Errno::PERM => explained.with_hint(explain::refused_scheduler(scheduler)),
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
    let explained = Error::os("write", error)
        .with_field("process.oomScoreAdj")
        .with_path(path);
    match (is_denied, process.is_rootless) {
        // Engines ask for the same value whoever runs them. The container then keeps that of its user, which
        // is no gain to it.
        (true, true) => {
            log::debug!("{explained}: not changed, since the runtime is rootless");
            Ok(())
        }
        (true, false) => Err(explained
            .with_kind(ErrorKind::Denied)
            .with_hint("a value below the runtime's own needs CAP_SYS_RESOURCE")),
        (false, _) => Err(explained),
    }
}

/// Sets the resource limits of a process that waits in a user namespace, where it could not raise them
/// itself.
pub(crate) fn set_limits(process: &ProcessPlan, pid: i32) -> Result<()> {
    if !process.limits_from_outside {
        return Ok(());
    }
    for limit in &process.rlimits {
        let set = sys_process::set_limit(pid, limit.resource, limit.soft, limit.hard);
        set.map_err(|error| {
            let explained = Error::from(error).with_field(format!("process.rlimits[{}]", limit.index));
            match error.errno {
                Errno::PERM => explained
                    .with_kind(ErrorKind::Denied)
                    .with_hint(explain::RAISED_LIMIT),
                _ => explained,
            }
        })?;
    }
    Ok(())
}

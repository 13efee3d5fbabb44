//! Runs in: RUNTIME. Why `clone3` has made no process.

use runtime_sys::namespace::Kinds;
use rustix::io::Errno;

use crate::host::cgroup::CgroupManager;
use crate::host::user_namespace;
use crate::plan::Plan;
use crate::{Error, ErrorKind};

/// The error of `clone3` for INIT, with what it is about.
pub(crate) fn explain_clone(error: runtime_sys::SysError, plan: &Plan, cgroup: &CgroupManager) -> Error {
    let explained = Error::from(error).doing("make the container's process");
    match (error.errno, cgroup.cgroup()) {
        (Errno::NOSPC | Errno::USERS, _) => explained.with_field("linux.namespaces").with_hint(
            obstacle(plan)
                .unwrap_or("too many namespaces: see /proc/sys/user/max_*_namespaces, or nested too deep"),
        ),
        (Errno::BUSY | Errno::OPNOTSUPP | Errno::ACCESS, Some(cgroup)) => {
            cgroup.explain_entry("clone3", error.errno)
        }
        (Errno::AGAIN, _) => explained.with_hint("pids.max of a cgroup above, or RLIMIT_NPROC"),
        (Errno::PERM, _) if !plan.namespaces.birth.is_empty() => explained
            .with_field("linux.namespaces")
            .with_kind(ErrorKind::Denied)
            .with_hint(obstacle(plan).unwrap_or("new namespaces need CAP_SYS_ADMIN")),
        _ => explained,
    }
}

fn obstacle(plan: &Plan) -> Option<&'static str> {
    plan.namespaces
        .makes(Kinds::USER)
        .then(user_namespace::obstacle)
        .flatten()
}

//! Runs in: RUNTIME. `clone3`, and what must be done for the child from outside before it may go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::LinuxIdMapping;
use runtime_init::start::{Birth, Child, start_init};
use runtime_init::sys::{namespace, process as sys_process};
use runtime_init::wire::{Link, Message};
use rustix::process::Pid;

use super::{id_mapped, views};
use crate::host::cgroup::{CgroupManager, CgroupPlan};
use crate::host::id_map::{IdMap, deny_setgroups};
use crate::host::{id_map_program, resctrl, user_namespaces};
use crate::plan::namespaces::UserNamespace;
use crate::plan::process::ProcessPlan;
use crate::plan::{Plan, namespaces};
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
    cgroup.filter_devices(cgroup_plan)?;
    map_ids(&plan.namespaces.user, launched.pid, cancel)?;
    id_mapped::apply(plan, prepared, launched.pid)?;
    set_oom_score(&plan.process, launched.pid)?;
    // What INTERMEDIATE is in, its children are in too.
    if let Some(group) = resctrl {
        group.add(launched.pid)?;
    }
    Link(links.runtime.as_fd()).send(Message::Go).map_err(sys_error)?;
    Ok(launched)
}

fn make(plan: &Plan, prepared: &Prepared, links: &Links, cgroup: &CgroupManager) -> Result<Child> {
    let home = enter_pid_namespace(prepared.join_pid.as_ref().map(AsFd::as_fd)).map_err(|error| {
        let index = plan.namespaces.join_pid.as_ref().map_or(0, |join| join.index);
        error.field(namespaces::field(index))
    })?;
    let directory = cgroup.cgroup().map(crate::host::cgroup::Cgroup::dir);
    let birth = Birth {
        flags: plan.namespaces.birth,
        cgroup: directory,
    };
    let child = views::with_init_args(plan, prepared, &links.child, |args| start_init(birth, args));
    drop(home);
    child.map_err(|error| explain_clone(error, plan, cgroup))
}

fn explain_clone(error: runtime_init::sys::SysError, plan: &Plan, cgroup: &CgroupManager) -> Error {
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

/// This thread's children are born in another pid namespace, until this is dropped.
#[derive(Debug)]
pub(crate) struct AwayFromHome(OwnedFd);

/// Joining a pid namespace is about children only, and per thread: the host program does not notice.
pub(crate) fn enter_pid_namespace(namespace: Option<BorrowedFd<'_>>) -> Result<Option<AwayFromHome>> {
    let Some(target) = namespace else { return Ok(None) };
    let path = "/proc/thread-self/ns/pid_for_children";
    let home = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|errno| Error::os("open", errno).path(path))?;
    // Into where it is already: whether there will be a way back.
    namespace::setns(home.as_fd(), libc::CLONE_NEWPID as u32).map_err(|error| {
        sys_error(error).hint(
            "the runtime may not come back to its own pid namespace, which belongs to a user namespace above: join the \
             user namespace, too, instead of a new one",
        )
    })?;
    namespace::setns(target, libc::CLONE_NEWPID as u32).map_err(sys_error)?;
    Ok(Some(AwayFromHome(home)))
}

/// How often it is tried.
const WAYS_HOME: usize = 16;

impl Drop for AwayFromHome {
    fn drop(&mut self) {
        // It was this thread's own a moment ago, so only a passing want of memory can be in the way. If it cannot be had
        // back at all, whatever the host program starts from this thread would land in the container: then there is only
        // one thing left to do, and nobody left to return the error to.
        let mut result = Ok(());
        for _ in 0..WAYS_HOME {
            result = namespace::setns(self.0.as_fd(), libc::CLONE_NEWPID as u32).map_err(sys_error);
            if result.is_ok() {
                return;
            }
        }
        if let Err(error) = result {
            eprintln!("come back to the own pid namespace: {error}");
            std::process::abort();
        }
    }
}

fn map_ids(user: &UserNamespace, pid: i32, cancel: &Cancel) -> Result<()> {
    let UserNamespace::New { uids, gids } = user else {
        return Ok(());
    };
    write_maps(pid, uids, gids, cancel)
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

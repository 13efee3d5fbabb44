//! Runs in: RUNTIME, before `clone3`. Acquires everything that the child needs and cannot make itself:
//! descriptors, detached mounts, buffers for text. The last use of the heap for the child. Everything here is
//! close-on-exec.

pub(crate) mod trees;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use runtime_init::args::EnterRoot;
use runtime_sys::namespace::Kinds;
use runtime_sys::net;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{CallResult, ErrorResult};
use crate::host::cgroup::CgroupManager;
use crate::host::net_devices::NetDevices;
use crate::host::process::hooks::OutputFiles;
use crate::host::process::proc_handle::ProcHandle;
use crate::plan::namespaces::Join;
use crate::plan::process::ProcessPlan;
use crate::plan::{Plan, Sysctl, namespaces};
use crate::{Error, Result};

pub(crate) use trees::{
    HostTree, NewNode, PreparedMount, ProcfsContext, TreePolicy, Use, change_mount, change_rootfs,
};

/// Everything the child borrows.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Parallel to `plan.namespaces.join`.
    pub joins: Vec<OwnedFd>,
    pub rootfs: OwnedFd,
    pub rootfs_path: CString,
    /// Trees that are copied, most of them once more, when INIT's mount namespace is there.
    pub to_lock: Vec<HostTree>,
    /// Parallel to `plan.mounts`.
    pub mounts: Vec<PreparedMount>,
    /// Parallel to `plan.devices.nodes`.
    pub device_nodes: Vec<Option<OwnedFd>>,
    pub null: Option<OwnedFd>,
    pub procfs: Option<ProcHandle>,
    /// What `plan.net_devices` names, if it names any.
    pub net_devices: Option<NetDevices>,
    pub console: Option<OwnedFd>,
    /// The listener of `start.sock`; `None`: the gate is the link.
    pub gate: Option<OwnedFd>,
    /// The state for hooks that the child runs: before and after the pid, for `creating` and `created`.
    pub hook_states: [(Vec<u8>, Vec<u8>); 2],
    /// Where hooks in its namespaces write to.
    pub hook_files: OutputFiles,
    /// The environment of RUNTIME, for hooks of createContainer that give none.
    pub inherited_environment: Vec<CString>,
}

/// A descriptor of ours that has come to a number which one of the caller's is to have in the child moves
/// above all of these: the caller, who had something there, has closed it meanwhile.
pub(crate) fn keep_off(fd: &mut OwnedFd, program: &ProcessPlan) -> Result<()> {
    let targets = program.placed.iter().map(|(_, target)| *target);
    if targets.clone().any(|target| target == fd.as_raw_fd()) {
        let above = targets.max().map_or(0, |highest| highest + 1);
        *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, above).call("fcntl(F_DUPFD_CLOEXEC)")?;
    }
    Ok(())
}

/// The two ends of the link.
#[derive(Debug)]
pub(crate) struct Links {
    pub runtime: OwnedFd,
    pub child: OwnedFd,
}

impl Links {
    pub(crate) fn new() -> Result<Self> {
        let (runtime, child) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .call("socketpair")?;
        // Before anybody can have sent anything.
        net::tell_sender(runtime.as_fd())?;
        Ok(Self { runtime, child })
    }

    /// The descriptors that the child keeps: its end, and these. Sorted.
    pub(crate) fn kept_with(&self, others: impl IntoIterator<Item = RawFd>) -> Vec<RawFd> {
        let mut kept: Vec<_> = others.into_iter().chain([self.child.as_raw_fd()]).collect();
        kept.sort_unstable();
        kept
    }
}

/// What comes from outside of the plan.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    pub cgroup: &'a CgroupManager,
    pub console: Option<OwnedFd>,
    pub gate: Option<OwnedFd>,
    pub hook_states: [(Vec<u8>, Vec<u8>); 2],
    /// Where hooks in its namespaces write to.
    pub hook_files: OutputFiles,
}

impl Prepared {
    /// Acquires everything. On error, what was acquired is closed again, and with it every mount is gone.
    pub(crate) fn acquire(plan: &Plan, inputs: Inputs<'_>) -> Result<Self> {
        let joins: Vec<OwnedFd> = plan
            .namespaces
            .join
            .iter()
            .map(open_namespace)
            .collect::<Result<_>>()?;
        refuse_mounts_of_the_host(plan, &joins)?;
        refuse_sysctls_of_the_host(plan, &joins)?;
        let net_devices = find_net_devices(plan, &joins)?;
        check_seccomp_agent(plan)?;
        let (rootfs, rootfs_path) = trees::rootfs(plan)?;
        let mounts = trees::mounts(plan, inputs.cgroup, TreePolicy::new(plan, &rootfs_path)?)?;
        let mut prepared = Self {
            joins,
            to_lock: match plan.unprivileged {
                false => trees::to_lock(plan, (&rootfs, &rootfs_path), &mounts)?,
                true => Vec::new(),
            },
            rootfs,
            rootfs_path,
            mounts,
            device_nodes: trees::device_nodes(plan)?,
            null: trees::null(plan)?,
            procfs: needs_procfs(plan).then(ProcHandle::open).transpose()?,
            net_devices,
            console: inputs.console,
            gate: inputs.gate,
            hook_states: inputs.hook_states,
            hook_files: inputs.hook_files,
            inherited_environment: inherited_environment(plan),
        };
        if plan.unprivileged {
            prepared.to_lock = trees::to_copy(plan, &prepared)?;
        }
        Ok(prepared)
    }

    /// Moves all of them off the numbers that the caller's files are to have.
    pub(crate) fn keep_off(&mut self, program: &ProcessPlan) -> Result<()> {
        if program.placed.is_empty() {
            return Ok(());
        }
        let ours = [Some(&mut self.rootfs), self.null.as_mut()];
        let ours = ours.into_iter().flatten();
        let ours = ours
            .chain(&mut self.console)
            .chain(&mut self.gate)
            .chain(&mut self.joins);
        let ours = ours
            .chain(&mut self.hook_files.stdout)
            .chain(&mut self.hook_files.stderr);
        let of_mounts = self.mounts.iter_mut().flat_map(|mount| {
            let context = mount.context.as_mut().map(|context| &mut context.fd);
            mount.tree.as_mut().into_iter().chain(context)
        });
        let ours = ours
            .chain(of_mounts)
            .chain(self.device_nodes.iter_mut().flatten());
        let mut ours = ours.chain(self.procfs.as_mut().map(ProcHandle::as_mut));
        ours.try_for_each(|fd| keep_off(fd, program))
    }

    /// The descriptors that the child keeps, sorted, with those that the program inherits.
    pub(crate) fn kept_by_child(&self, link: &OwnedFd, program: &ProcessPlan) -> Vec<RawFd> {
        let ours = [Some(link), Some(&self.rootfs), self.null.as_ref()];
        let ours = ours.into_iter().flatten();
        let ours = ours.chain(&self.console).chain(&self.gate).chain(&self.joins);
        let ours = ours.chain(&self.hook_files.stdout).chain(&self.hook_files.stderr);
        let ours = ours.chain(self.mounts.iter().filter_map(|mount| mount.tree.as_ref()));
        let ours = ours.chain(
            self.mounts
                .iter()
                .filter_map(|mount| mount.context.as_ref().map(|context| &context.fd)),
        );
        let ours = ours.chain(self.device_nodes.iter().flatten());
        let ours = ours.map(AsRawFd::as_raw_fd);
        let procfs = self.procfs.as_ref().map(|procfs| procfs.as_fd().as_raw_fd());
        let mut kept: Vec<RawFd> = ours.chain(procfs).chain(program.kept()).collect();
        kept.sort_unstable();
        kept
    }
}

fn needs_procfs(plan: &Plan) -> bool {
    let offsets = plan
        .namespaces
        .intermediate
        .as_ref()
        .is_some_and(|i| !i.time_offsets.is_empty());
    let hides = plan.rootfs.enter == EnterRoot::MoveAndChroot;
    offsets
        || hides
        || !plan.sysctl.is_empty()
        || plan.process.apparmor.is_some()
        || plan.process.selinux.is_some()
}

/// Opens a namespace file and checks that it is what the config says: setns(2) into the wrong one would leave
/// the container in a namespace of the host.
pub(crate) fn open_namespace(join: &Join) -> Result<OwnedFd> {
    let fd = open_host(&join.path).map_err(|error| error.with_field(namespaces::field(join.index)))?;
    match namespace_kind(fd.as_fd()) {
        Some(kind) if kind == join.kind.flag => Ok(fd),
        _ => Err(namespaces::not_that_kind(join)),
    }
}

/// A namespace given by path may be the host's own: then its kernel parameters are the host's.
fn refuse_sysctls_of_the_host(plan: &Plan, joins: &[OwnedFd]) -> Result<()> {
    if plan.sysctl.is_empty() {
        return Ok(());
    }
    for (join, namespace) in plan.namespaces.join.iter().zip(joins) {
        let of_kind = |sysctl: &&Sysctl| {
            crate::spec::sysctl::namespace(&crate::spec::sysctl::dotted(&sysctl.name)) == Some(join.kind.flag)
        };
        let Some(sysctl) = plan.sysctl.iter().find(of_kind) else {
            continue;
        };
        if is_our_own(join, namespace)? {
            let message = format!("sysctl {:?} is not in a separate kernel namespace", sysctl.name);
            return Err(Error::invalid("linux.sysctl", message));
        }
    }
    Ok(())
}

/// The container gets its root by pivot_root(2), which changes that of everybody in the mount namespace who
/// has the old one: of the whole host, in its own.
fn refuse_mounts_of_the_host(plan: &Plan, joins: &[OwnedFd]) -> Result<()> {
    for (join, namespace) in plan.namespaces.join.iter().zip(joins) {
        if join.kind.flag != Kinds::MOUNT {
            continue;
        }
        let of_first = match is_at("/proc/1/ns/mnt", join, namespace) {
            // Who may not look there may not join it either.
            Err(error) if matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::NOENT)) => false,
            other => other?,
        };
        if of_first || is_our_own(join, namespace)? {
            let message = "is the host's mount namespace, whose root would become the container's";
            return Err(Error::invalid(namespaces::field(join.index), message)
                .with_path(&join.path)
                .with_hint("without `mount` in linux.namespaces the container is in that of the runtime, and has its root by chroot"));
        }
    }
    Ok(())
}

/// Whether a joined namespace is the one that this thread is in.
fn is_our_own(join: &Join, namespace: &OwnedFd) -> Result<bool> {
    is_at(
        &format!("/proc/thread-self/ns/{}", join.kind.file),
        join,
        namespace,
    )
}

fn is_at(path: &str, join: &Join, namespace: &OwnedFd) -> Result<bool> {
    let known = rustix::fs::stat(path).call("stat").path(path)?;
    let theirs = rustix::fs::fstat(namespace).call("fstat").path(&join.path)?;
    Ok((known.st_dev, known.st_ino) == (theirs.st_dev, theirs.st_ino))
}

/// A device that is not there, or has nowhere to go, is known before anything is made.
pub(crate) fn find_net_devices(plan: &Plan, joins: &[OwnedFd]) -> Result<Option<NetDevices>> {
    if plan.net_devices.is_empty() {
        return Ok(None);
    }
    refuse_own_network(plan, joins)?;
    NetDevices::find(&plan.net_devices).map(Some)
}

/// Devices move out of RUNTIME's network namespace, so it may not be the container's.
pub(crate) fn refuse_own_network(plan: &Plan, joins: &[OwnedFd]) -> Result<()> {
    for (join, namespace) in plan.namespaces.join.iter().zip(joins) {
        if join.kind.flag == Kinds::NETWORK && is_our_own(join, namespace)? {
            let message = "unable to move network devices without a private NET namespace";
            return Err(Error::invalid("linux.netDevices", message).with_path(&join.path));
        }
    }
    Ok(())
}

/// The listener is taken from a process that is dumpable for that moment, and a copy of RUNTIME's memory.
/// Nobody in the container may see it then.
pub(crate) fn without_listener() -> Error {
    Error::new(
        crate::ErrorKind::Unsupported,
        "a filter that notifies needs privileges here",
    )
    .with_hint("an ordinary user can have one in create and run, with a new pid namespace and no startContainer hooks")
}

/// The agent is only needed when the program starts; that it is not there should be known before.
fn check_seccomp_agent(plan: &Plan) -> Result<()> {
    let Some(agent) = plan
        .seccomp
        .as_ref()
        .and_then(|seccomp| seccomp.listener.as_ref())
    else {
        return Ok(());
    };
    let at = |error: Error| {
        error
            .with_field("linux.seccomp.listenerPath")
            .with_path(&agent.path)
    };
    let hidden = plan.namespaces.makes(Kinds::PID) && plan.hooks.start_container.is_empty();
    if plan.unprivileged && !hidden {
        return Err(at(without_listener()));
    }
    let stat = rustix::fs::stat(&agent.path).map_err(|errno| at(Error::os("stat", errno)))?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFSOCK => Ok(()),
        _ => Err(at(Error::new(crate::ErrorKind::Invalid, "is not a socket"))),
    }
}

fn open_host(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    // A fifo at that path must not hold us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty())
        .call("open")
        .path(path)
}

/// The kind of a namespace file; `None` if it is none.
fn namespace_kind(fd: BorrowedFd<'_>) -> Option<Kinds> {
    runtime_sys::namespace::kind(fd).ok()
}

fn inherited_environment(plan: &Plan) -> Vec<CString> {
    use std::os::unix::ffi::OsStrExt;
    if plan.hooks.create_container.iter().all(|hook| hook.envp.is_some()) {
        return Vec::new();
    }
    let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    std::env::vars_os().filter_map(entry).collect()
}

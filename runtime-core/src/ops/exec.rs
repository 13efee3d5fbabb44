//! Runs in: RUNTIME. `exec`: one more process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, User};
use runtime_init::args::{JoinArgs, JoinProcessArgs, ProcessArgs};
use runtime_init::start::{Birth, Child, start_join};
use runtime_init::sys::SysError;
use runtime_init::wire::{Failure, Link, Message};
use rustix::fs::{Mode, OFlags};
use rustix::thread::CpuSet;

use super::container::{self, CONFIG};
use super::create::{
    check_descriptors, connect_console, console_wish, send_listener, send_pidfd, set_limits,
};
use super::options::ExecOptions;
use super::{Process, Runtime, Status};
use crate::host::cgroup::{Cgroup, CgroupDriver, CgroupManager};
use crate::host::pid_file;
use crate::host::proc_handle::ProcHandle;
use crate::host::process::Process as HostProcess;
use crate::host::resctrl;
use crate::host::state::{ContainerId, Record};
use crate::parent::explain::{self, Background};
use crate::parent::handshake::{self, Counterpart};
use crate::parent::launch::{Launched, set_oom_score};
use crate::parent::views::{ProcessRoom, console_view};
use crate::plan::process::ProcessPlan;
use crate::plan::seccomp::SeccompPlan;
use crate::plan::{HostFacts, Wishes, keyring_name, plan_seccomp};
use crate::prepare::{Links, sys_error, without_listener};
use crate::{Error, ErrorKind, Result, spec};

impl Runtime {
    /// Starts a process in the container; returns when its program runs. The process is a child of the caller.
    ///
    /// # Errors
    /// `WrongStatus` for a stopped or paused container; `Invalid` for the process; why the program could not be
    /// executed.
    pub fn exec(&self, id: &ContainerId, mut options: ExecOptions) -> Result<Process> {
        check_descriptors(options.preserve_fds)?;
        let view = self.store.view(id)?;
        let record = view.record().clone();
        check_status(container::status(&record, view.dir())?, &options)?;
        let config = container::saved_config(view.read_file(CONFIG)?)?;
        let (process, extra) = process_of(&config, &options)?;
        spec::validate_process(&process, &extra)?;
        let wishes = Wishes {
            console: console_wish(options.console.as_ref()),
            terminal_size: options.terminal_size,
            preserve_fds: options.preserve_fds,
            ..Wishes::default()
        };
        let init = Target::open(&record)?;
        let facts = HostFacts::of_host(record.bundle.clone())?;
        let plan = ProcessPlan::new(
            &process,
            config.spec.linux().as_ref(),
            &facts,
            init.other_user,
            wishes,
        )?;
        let console = connect_console(options.console.take().filter(|_| plan.terminal))?;
        let seccomp = plan_seccomp(&config.spec)?;
        let notifies = seccomp.as_ref().is_some_and(|seccomp| seccomp.listener.is_some());
        if plan.unprivileged && notifies {
            return Err(without_listener().field("linux.seccomp.listenerPath"));
        }
        let cgroup = cgroup_of(&record, &options, init.pid)?;
        let affinity = Affinity::of(&extra)?;
        let job = Job {
            unprivileged: !facts.may_mount,
            affinity,
            record: &record,
            plan: &plan,
            seccomp: seccomp.as_ref(),
            console,
            init: &init,
        };
        job.launch(cgroup, &options)
    }
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

/// The process: from the file, or the container's own with the options on top.
fn process_of(
    config: &spec::Config,
    options: &ExecOptions,
) -> Result<(oci_spec::runtime::Process, spec::ProcessExtra)> {
    let (mut process, extra) = match &options.process_file {
        Some(path) => {
            let json = std::fs::read(path).map_err(|error| Error::io("read", &error).path(path))?;
            spec::parse_process(&json).map_err(|error| error.path(path))?
        }
        None => {
            let own = config.spec.process().clone();
            let mut own = own.ok_or_else(|| Error::invalid("process", "missing"))?;
            // What the container's own process does with its terminal is not for others.
            own.set_terminal(Some(false));
            own.set_console_size(None);
            own.set_args(None);
            (own, config.extra.process.clone())
        }
    };
    override_process(&mut process, options)?;
    Ok((process, extra))
}

fn override_process(process: &mut oci_spec::runtime::Process, options: &ExecOptions) -> Result<()> {
    let text = |word: &std::ffi::OsString, what: &'static str| {
        word.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid(what, "is not UTF-8"))
    };
    if !options.args.is_empty() {
        let args = options.args.iter().map(|word| text(word, "process.args"));
        process.set_args(Some(args.collect::<Result<_>>()?));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &options.env {
        env.push(text(entry, "process.env")?);
    }
    process.set_env(Some(env));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    if options.tty {
        process.set_terminal(Some(true));
    }
    if let Some(user) = &options.user {
        set_user(process, user)?;
    }
    if !options.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&options.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if let Some(label) = &options.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &options.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(wanted) = options.no_new_privs {
        process.set_no_new_privileges(Some(wanted));
    }
    add_capabilities(process, &options.capabilities)
}

/// `UID[:GID]`, nothing else: a name taken for 0 would be root (CVE-2026-30892). Other groups are of the other user.
fn set_user(process: &mut oci_spec::runtime::Process, text: &str) -> Result<()> {
    let wrong = || {
        Error::invalid(
            "process.user",
            format!("{text:?}: not UID or UID:GID, in numbers"),
        )
    };
    let number = |part: &str| {
        let is_digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_digits
            .then(|| part.parse::<u32>().ok())
            .flatten()
            .ok_or_else(wrong)
    };
    let mut user: User = process.user().clone();
    match text.split_once(':') {
        Some((uid, gid)) => {
            user.set_uid(number(uid)?);
            user.set_gid(number(gid)?);
        }
        None => drop(user.set_uid(number(text)?)),
    }
    process.set_user(user);
    Ok(())
}

/// Never the inheritable set: a program without privileges could get them back by execve (CVE-2022-29162).
fn add_capabilities(process: &mut oci_spec::runtime::Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let added: Capabilities = names.iter().map(|name| capability(name)).collect::<Result<_>>()?;
    let own = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<Capabilities>| {
        set.iter()
            .flatten()
            .chain(&added)
            .copied()
            .collect::<Capabilities>()
    };
    let inheritable = own.inheritable().clone().unwrap_or_default();
    // The plan keeps of it what is inheritable: that alone the kernel takes.
    let ambient = match own.inheritable() {
        Some(_) => with(own.ambient()),
        None => own.ambient().clone().unwrap_or_default(),
    };
    let sets: LinuxCapabilities = LinuxCapabilitiesBuilder::default()
        .bounding(with(own.bounding()))
        .effective(with(own.effective()))
        .permitted(with(own.permitted()))
        .inheritable(inheritable)
        .ambient(ambient)
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    process.set_capabilities(Some(sets));
    Ok(())
}

fn capability(name: &str) -> Result<Capability> {
    let wrong = || Error::invalid("process.capabilities", format!("{name:?}: unknown capability"));
    if !name.starts_with("CAP_") {
        return Err(wrong());
    }
    serde_json::from_value(name.into()).map_err(|_| wrong())
}

/// The container's process, and which of its namespaces differ from ours.
pub(super) struct Target {
    pub(super) pid: i32,
    pub(super) process: HostProcess,
    /// `CLONE_NEW*` to join by pidfd in one setns(2), which gets their order right.
    pub(super) kinds: u32,
    pub(super) other_user: bool,
    chroot: Option<OwnedFd>,
}

impl Target {
    const KINDS: [(&str, u32); 8] = [
        ("user", libc::CLONE_NEWUSER as u32),
        ("mnt", libc::CLONE_NEWNS as u32),
        ("uts", libc::CLONE_NEWUTS as u32),
        ("ipc", libc::CLONE_NEWIPC as u32),
        ("net", libc::CLONE_NEWNET as u32),
        ("pid", libc::CLONE_NEWPID as u32),
        ("cgroup", libc::CLONE_NEWCGROUP as u32),
        ("time", 0x80),
    ];

    pub(super) fn open(record: &Record) -> Result<Self> {
        let stopped = || Error::new(ErrorKind::WrongStatus, "cannot exec in a stopped container");
        let process = HostProcess::open(record.pid, record.start_time)?.ok_or_else(stopped)?;
        let kinds = other_kinds(&format!("/proc/{}/ns", record.pid))?;
        let has_mounts = kinds & libc::CLONE_NEWNS as u32 != 0;
        let chroot = (!has_mounts)
            .then(|| open(record.pid, "root", OFlags::PATH | OFlags::DIRECTORY))
            .transpose()?;
        // Only now: had init ended before, its number could have been that of a process of the host, whose namespaces are
        // our own, and the program would run on the host.
        if process.has_ended()? {
            return Err(stopped());
        }
        Ok(Self {
            pid: record.pid,
            process,
            kinds,
            other_user: kinds & libc::CLONE_NEWUSER as u32 != 0,
            chroot,
        })
    }
}

/// In which kinds of namespaces the process with this directory in /proc is, and this thread is not.
fn other_kinds(directory: &str) -> Result<u32> {
    let own = "/proc/thread-self/ns";
    // From a descriptor each look takes half as long as by the whole path.
    let [theirs, ours] = [open_directory(directory)?, open_directory(own)?];
    let identity = |directory: &OwnedFd, path: &str, name: &str| {
        let stat = rustix::fs::statat(directory, name, rustix::fs::AtFlags::empty());
        stat.map(|stat| (stat.st_dev, stat.st_ino))
            .map_err(|errno| Error::os("stat", errno).path(format!("{path}/{name}")))
    };
    let mut kinds = 0;
    for (name, kind) in Target::KINDS {
        // A kernel without this kind of namespace has only one of them.
        let their = match identity(&theirs, directory, name) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT) && name == "time" => continue,
            Err(error) if error.errno() == Some(rustix::io::Errno::ACCESS) => {
                return Err(error.with_kind(ErrorKind::Denied).hint(
                    "the container is another user's; or it was not started yet, and only root may look into its init then",
                ));
            }
            other => other?,
        };
        if their != identity(&ours, own, name)? {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

fn open_directory(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::os("open", errno).path(path))
}

fn open(pid: i32, name: &str, flags: OFlags) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/{name}");
    rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::os("open", errno).path(path))
}

/// The cgroups that the process may be born in.
struct Cgroups {
    manager: Option<CgroupManager>,
    /// `--cgroup`: one below the container's, and no other.
    below: Option<Cgroup>,
    init: i32,
    ignore_paused: bool,
}

impl Cgroups {
    /// The one that is tried first.
    fn first(&self) -> Option<&Cgroup> {
        let own = self.manager.as_ref().and_then(CgroupManager::cgroup);
        self.below.as_ref().or(own)
    }

    /// Sub-cgroups are the container's to freeze. What is born in a frozen one stands still before it has joined anything,
    /// and `exec` would wait for it.
    fn refuse_frozen(&self, place: Option<&Cgroup>) -> Result<()> {
        match place {
            Some(place) if !self.ignore_paused && place.is_effectively_frozen()? => {
                let text = "cannot exec in a frozen sub-cgroup (use --ignore-paused to override)";
                Err(Error::new(ErrorKind::WrongStatus, text).path(place.path()))
            }
            _ => Ok(()),
        }
    }

    /// Where init is now: with subtree_control set, its own cgroup takes no processes (no internal processes).
    fn second(&self) -> Result<Option<Cgroup>> {
        match self.below.is_none() && self.first().is_some() {
            true => Cgroup::of_process(rustix_pid(self.init)?).map(Some),
            false => Ok(None),
        }
    }

    /// systemd, if it may move a process to where the caller may not: from his session to his own unit.
    fn mover(&self) -> Option<&CgroupManager> {
        let is_unit = |manager: &&CgroupManager| manager.driver() == CgroupDriver::Systemd;
        self.manager
            .as_ref()
            .filter(is_unit)
            .filter(|_| self.below.is_none())
    }
}

fn cgroup_of(record: &Record, options: &ExecOptions, init: i32) -> Result<Cgroups> {
    let manager = container::cgroup(record)?;
    let own = manager.as_ref().and_then(CgroupManager::cgroup);
    let below = match (own, &options.cgroup) {
        (Some(own), Some(below)) => Some(own.sub(sub_cgroup(below)?)?),
        (None, Some(_)) => return Err(container::no_cgroup(record)),
        // Its own is gone, so init has been moved elsewhere: not out into the caller's.
        (None, None) if record.cgroup.is_some() => Some(Cgroup::of_process(rustix_pid(init)?)?),
        (_, None) => None,
    };
    Ok(Cgroups {
        manager,
        below,
        init,
        ignore_paused: options.ignore_paused,
    })
}

/// The path in `--cgroup`. runc's other form, `CONTROLLER[,CONTROLLER]:PATH`, is for the many trees of version 1.
fn sub_cgroup(text: &str) -> Result<&std::path::Path> {
    match text.split_once(':') {
        Some((controllers, _)) if !controllers.contains('/') => {
            let message = format!("invalid --cgroup argument: {text}");
            Err(Error::new(ErrorKind::Invalid, message).hint(format!(
                "cgroup version 2 has one tree for all controllers: give the path without {controllers:?}"
            )))
        }
        _ if leads_out(text) => {
            let message = format!("invalid --cgroup argument: {text} is not a sub cgroup path");
            Err(Error::new(ErrorKind::Invalid, message))
        }
        _ => Ok(std::path::Path::new(text)),
    }
}

/// Whether `..` goes above where the path begins.
fn leads_out(path: &str) -> bool {
    let mut depth = 0;
    path.split('/').any(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth < 0
    })
}

/// `process.execCPUAffinity`: the CPUs while the process is set up, and those that its program gets.
struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    fn of(extra: &spec::ProcessExtra) -> Result<Self> {
        let Some(affinity) = &extra.exec_cpu_affinity else {
            return Ok(Self {
                initial: None,
                last: None,
            });
        };
        Ok(Self {
            initial: cpus(affinity.initial.as_deref(), "process.execCPUAffinity.initial")?,
            last: cpus(affinity.last.as_deref(), "process.execCPUAffinity.final")?,
        })
    }

    fn set(cpus: Option<&CpuSet>, pid: i32) -> Result<()> {
        let Some(cpus) = cpus else { return Ok(()) };
        rustix::thread::sched_setaffinity(Some(rustix_pid(pid)?), cpus)
            .map_err(|errno| Error::os("sched_setaffinity", errno).field("process.execCPUAffinity"))
    }
}

fn cpus(list: Option<&str>, field: &'static str) -> Result<Option<CpuSet>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let wrong = || Error::invalid(field, format!("{list:?}: not a list of CPUs, as in 0-3,7"));
    let mut cpus = CpuSet::new();
    for cpu in spec::parse_ranges(list).ok_or_else(wrong)?.into_iter().flatten() {
        let cpu = usize::try_from(cpu)
            .ok()
            .filter(|cpu| *cpu < CpuSet::MAX_CPU)
            .ok_or_else(wrong)?;
        cpus.set(cpu);
    }
    Ok(Some(cpus))
}

/// One `exec`, with everything decided.
struct Job<'a> {
    unprivileged: bool,
    affinity: Affinity,
    record: &'a Record,
    plan: &'a ProcessPlan,
    seccomp: Option<&'a SeccompPlan>,
    console: Option<OwnedFd>,
    init: &'a Target,
}

impl Job<'_> {
    fn launch(self, cgroups: Cgroups, options: &ExecOptions) -> Result<Process> {
        let links = Links::new()?;
        let mut launched = Launched::new(self.make(&links, cgroups)?);
        drop(links.child);
        set_oom_score(self.plan, launched.pid)?;
        let link = links.runtime;
        Affinity::set(self.affinity.initial.as_ref(), launched.pid)?;
        Link(link.as_fd()).send(Message::Go).map_err(sys_error)?;
        let mut host = Host {
            record: self.record,
            plan: self.plan,
            seccomp: self.seccomp,
        };
        handshake::until_ready(link.as_fd(), &mut launched, &mut host)?;
        set_limits(self.plan, launched.pid)?;
        if let Some(group) = &self.record.resctrl {
            let monitoring = container::monitoring_group(self.record);
            resctrl::add(&group.path, monitoring.as_deref(), launched.pid)?;
        }
        Affinity::set(self.affinity.last.as_ref(), launched.pid)?;
        self.set_scheduler(launched.pid)?;
        if let Some(path) = &options.pidfd_socket {
            send_pidfd(path, b"setns", launched.pidfd())?;
        }
        handshake::start(link.as_fd(), launched.pid, launched.pidfd(), &mut host)?;
        if let Some(path) = &options.pid_file {
            pid_file::write(path, launched.pid)?;
        }
        Ok(Process::new(launched.keep()))
    }

    /// From outside, and not by JOINER: SCHED_DEADLINE forbids it to make EXEC, RESET_ON_FORK takes the policy from EXEC
    /// again, and in a user namespace it has no CAP_SYS_NICE that counts (sched(7)).
    fn set_scheduler(&self, pid: i32) -> Result<()> {
        let Some(scheduler) = &self.plan.scheduler else {
            return Ok(());
        };
        runtime_init::sys::process::sched_setattr(pid, scheduler).map_err(|error| {
            let explained = sys_error(error)
                .doing("set the scheduler")
                .field("process.scheduler");
            match error.errno {
                rustix::io::Errno::PERM => explained.hint(explain::HIGHER_PRIORITY),
                _ => explained,
            }
        })
    }

    fn make(&self, links: &Links, cgroups: Cgroups) -> Result<Child> {
        let keyring = match self.record.keyring {
            true => keyring_name(&self.record.id, Wishes::default())?,
            false => None,
        };
        let needs_procfs = self.plan.apparmor.is_some() || self.plan.selinux.is_some();
        let procfs = needs_procfs.then(ProcHandle::open).transpose()?;
        let attempt = |cgroup: Option<BorrowedFd<'_>>| {
            self.clone_into(links, cgroup, keyring.as_deref(), procfs.as_ref())
        };
        cgroups.refuse_frozen(cgroups.below.as_ref())?;
        let first = cgroups.first();
        let mut refused = match attempt(first.map(Cgroup::dir)) {
            Ok(child) => return Ok(child),
            Err(error) => error,
        };
        let mut place = None;
        if will_not_have_it(refused) {
            place = cgroups.second()?;
            cgroups.refuse_frozen(place.as_ref())?;
            match place.as_ref().map(|second| attempt(Some(second.dir()))) {
                Some(Ok(child)) => return Ok(child),
                Some(Err(error)) => refused = error,
                None => {}
            }
        }
        match (
            cgroups.mover().filter(|_| is_denied(refused)),
            place.as_ref().or(first),
        ) {
            (Some(manager), _) => moved(attempt(None).map_err(sys_error)?, manager),
            (None, Some(place)) => Err(place.explain_entry("clone3", refused.errno)),
            (None, None) => Err(sys_error(refused)),
        }
    }

    fn clone_into(
        &self,
        links: &Links,
        cgroup: Option<BorrowedFd<'_>>,
        keyring: Option<&std::ffi::CStr>,
        procfs: Option<&ProcHandle>,
    ) -> std::result::Result<Child, SysError> {
        let init = self.init;
        let join = [JoinArgs {
            index: 0,
            fd: init.process.as_fd(),
            kind: init.kinds,
        }];
        let join: &[JoinArgs<'_>] = if init.kinds == 0 { &[] } else { &join };
        let mut keep: Vec<_> = [Some(links.child.as_fd()), Some(init.process.as_fd())]
            .into_iter()
            .chain([
                init.chroot.as_ref().map(AsFd::as_fd),
                self.console.as_ref().map(AsFd::as_fd),
            ])
            .chain([procfs.map(AsFd::as_fd)])
            .flatten()
            .map(|fd| std::os::fd::AsRawFd::as_raw_fd(&fd))
            .chain(3..3 + self.plan.preserve_fds as i32)
            .collect();
        keep.sort_unstable();
        let mut room = ProcessRoom::new(self.plan);
        let console = self
            .console
            .as_ref()
            .map(|socket| console_view(self.plan, socket.as_fd(), false));
        start_join(
            Birth { flags: 0, cgroup },
            JoinProcessArgs {
                link: links.child.as_fd(),
                keep: &keep,
                unprivileged: self.unprivileged,
                namespaces: join,
                joins_pids: init.kinds & libc::CLONE_NEWPID as u32 != 0,
                become_root: init.other_user,
                chroot: init.chroot.as_ref().map(AsFd::as_fd),
                keyring,
                procfs: procfs.map(AsFd::as_fd),
                process: ProcessArgs {
                    scheduler: None,
                    ..room.view(self.plan, self.seccomp, console)
                },
            },
        )
    }
}

fn will_not_have_it(error: SysError) -> bool {
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
fn moved(child: Child, manager: &CgroupManager) -> Result<Child> {
    let pid = rustix_pid(child.pid)?;
    let launched = Launched::new(child);
    manager.add_process(pid)?;
    let (pid, pidfd) = launched.keep();
    Ok(Child { pid, pidfd })
}

fn rustix_pid(pid: i32) -> Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::new(ErrorKind::Internal, "no pid in the state"))
}

/// RUNTIME's answers.
struct Host<'a> {
    record: &'a Record,
    plan: &'a ProcessPlan,
    seccomp: Option<&'a SeccompPlan>,
}

impl Counterpart for Host<'_> {
    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()> {
        match self.seccomp.and_then(|seccomp| seccomp.listener.as_ref()) {
            Some(agent) => send_listener(agent, self.record, "running", pid, listener),
            None => Err(Error::new(
                ErrorKind::Internal,
                "a seccomp listener came without having been asked for",
            )),
        }
    }

    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
        explain::explain(
            Background {
                process: self.plan,
                container: None,
            },
            pid,
            failure,
            output,
        )
    }
}

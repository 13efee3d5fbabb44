//! Runs in: RUNTIME. `create` and `run`: from a bundle to a container that waits for `start`, or to one that runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use runtime_init::args::EnterRoot;
use runtime_init::wire::Failure;

use super::container::{self, CONFIG};
use super::delete::Failed;
use super::options::{Console, CreateOptions};
use super::{Process, Runtime, delete, descriptors, exec, notify};
use crate::host::cgroup::{Cgroup, CgroupLocation, CgroupManager, CgroupPlan};
use crate::host::resctrl::{self, Resctrl};
use crate::host::state::{ContainerId, Phase, Record, ResctrlRecord, Slot};
use crate::host::{
    console, hooks, notify_socket, pid_file, pidfd_socket, process as host_process, random, rootfs_mount,
    seccomp_agent, start_socket, stdio,
};
use crate::parent::explain::{self, Background};
use crate::parent::handshake::{Conversation, Counterpart};
use crate::parent::launch::{self, Launched};
use crate::parent::{id_mapped, locked_trees, procfs_context};
use crate::plan::keyring::KeyringSecret;
use crate::plan::process::ProcessPlan;
use crate::plan::{ConsoleWish, HostFacts, Plan, Wishes, annotations};
use crate::prepare::{Inputs, Links, Prepared, sys_error};
use crate::spec::{self, Config};
use crate::{Cancel, Error, ErrorKind, Result};

/// How long the poststop hooks have, together, when the creation was interrupted: whoever has done that waits for the end.
const LAST_HOOKS: Duration = Duration::from_secs(5);

impl Runtime {
    /// OCI `create`: leaves an init process that waits just before the program, and the status `created`.
    ///
    /// Init is a child of the caller and inherits standard input, output and error.
    ///
    /// # Errors
    /// `Invalid` with the field of config.json, `AlreadyExists`, or what failed on the way. Nothing is left then.
    pub fn create(&self, id: &ContainerId, options: CreateOptions) -> Result<Process> {
        self.make(id, options, Purpose::Create)
    }

    /// `create` and `start` in one, without the waiting in between: returns when the program runs.
    ///
    /// # Errors
    /// As `create` and `start`.
    pub fn run(&self, id: &ContainerId, options: CreateOptions) -> Result<Process> {
        self.make(id, options, Purpose::Run)
    }

    fn make(&self, id: &ContainerId, options: CreateOptions, purpose: Purpose) -> Result<Process> {
        let inherited = descriptors::inherited(options.listen_fds, options.preserve_fds)?;
        let mut config = load(&options)?;
        if options.notify {
            notify::add_socket(&mut config, &self.store.root().join(id.as_str()));
        }
        if let Some(names) = &options.listen_names {
            notify::add_variable(&mut config, "LISTEN_FDNAMES", names);
        }
        spec::validate(&config).map_err(|error| match error.spec_field() {
            // Its value says nothing, so that the file has to.
            Some("ociVersion") => error.path(config_path(&options)),
            _ => error,
        })?;
        container::warn_of_spellings(&config.extra.spellings);
        let resources = config
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref());
        for text in resources.into_iter().flat_map(spec::odd_letters) {
            log::warn!("{text}");
        }
        container::warn_of_capabilities(&config.extra.process.unknown_capabilities);
        let facts = HostFacts::probe(bundle(&options))?;
        let wishes = self.wishes(&options, &config, &inherited)?;
        let plan = Plan::new(&config, id.as_str(), &facts, wishes)?;
        plan.process.warn();
        for name in annotations::ignored(&config.spec) {
            log::warn!("annotations[{name}]: only crun has this, ignored");
        }
        let cgroup = CgroupPlan {
            rootless: self.rootless.holds(facts.is_rootless),
            ..self.plan_cgroup(&config, id)?
        };
        let location = cgroup.locate(&options.cancel)?;
        let record = self.record(id, &config, &facts, &plan, location.as_ref());
        let mut slot = self.store.claim(id, &record)?;
        let hooks_begun = Cell::new(false);
        let cancel = options.cancel.clone();
        let job = Job {
            config: &config,
            plan: &plan,
            cgroup_plan: &cgroup,
            options,
            purpose,
            hooks_begun: &hooks_begun,
        };
        let refuse = |cgroup: &Cgroup| self.refuse_shared(cgroup, id);
        let made = container::mark(&slot)
            .and_then(|mark| CgroupManager::create(&cgroup, location, &mark, refuse))
            .map_err(Failed::by_itself)
            .and_then(|mut cgroup| {
                let launched = record_absence(&mut slot, &cgroup)
                    .and_then(|()| job.launch(&mut slot, &mut cgroup))
                    .map_err(|error| explain_kill(&cgroup, error));
                launched.map_err(|error| Failed::in_cgroup(&self.store, slot.record(), &cgroup, error))
            });
        made.map_err(|failed| undo(slot, &config, hooks_begun.get(), terms(&plan, &cancel), failed))
    }

    fn wishes<'a>(
        &self,
        options: &CreateOptions,
        config: &Config,
        inherited: &'a [RawFd],
    ) -> Result<Wishes<'a>> {
        let keeps_groups = config
            .spec
            .annotations()
            .as_ref()
            .and_then(|all| all.get("run.oci.keep_original_groups"));
        Ok(Wishes {
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            keyring_secret: KeyringSecret::new(random::bytes()?),
            console: console_wish(options.console.as_ref()),
            terminal_size: options.terminal_size,
            plain_newlines: options.plain_newlines,
            inherited,
            listen_fds: options.listen_fds,
            keep_groups: keeps_groups.is_some_and(|value| value == "1"),
            open_files: self.open_files()?,
        })
    }

    pub(super) fn plan_cgroup(&self, config: &Config, id: &ContainerId) -> Result<CgroupPlan> {
        let linux = config.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let plan = CgroupPlan::new(self.driver, path, id.as_str(), resources, config.extra.pids_limit)?;
        match config.spec.annotations() {
            Some(annotations) => plan.annotated(annotations),
            None => Ok(plan),
        }
    }

    /// A cgroup that was there may be that of another container, which has stopped or is being created. With two in one,
    /// pausing, limiting or deleting one would hit the other.
    pub(super) fn refuse_shared(&self, cgroup: &Cgroup, id: &ContainerId) -> Result<()> {
        for other in self.store.ids()?.iter().filter(|other| *other != id) {
            let record = match self.store.read(other) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                // Damaged: its cgroup still says whose it is.
                Err(error) if error.kind() == ErrorKind::Internal => None,
                record => Some(record?),
            };
            let is_theirs = match record {
                Some(record) => record.cgroup.is_some_and(|theirs| theirs.path == cgroup.path()),
                None => cgroup.is_marked_for(other.as_str())?,
            };
            if is_theirs {
                let message = format!("the cgroup belongs to container {other}");
                return Err(Error::new(ErrorKind::WrongStatus, message)
                    .field("linux.cgroupsPath")
                    .path(cgroup.path())
                    .hint("delete that container first, or choose another path"));
            }
        }
        Ok(())
    }

    pub(super) fn record(
        &self,
        id: &ContainerId,
        config: &Config,
        facts: &HostFacts,
        plan: &Plan,
        cgroup: Option<&CgroupLocation>,
    ) -> Record {
        let annotations = config.spec.annotations().iter().flatten();
        Record {
            annotations: annotations
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
            owner_uid: rustix::process::geteuid().as_raw(),
            cgroup: cgroup.map(|location| container::cgroup_record(self.driver, location)),
            poststart: has_any(config, |hooks| hooks.poststart()),
            poststop: has_any(config, |hooks| hooks.poststop()),
            own_pids: plan.namespaces.makes(libc::CLONE_NEWPID as u32),
            stdio: if plan.process.terminal {
                Vec::new()
            } else {
                stdio::pipes()
            },
            keyring: plan.keyring.is_some(),
            keyring_name: plan
                .keyring
                .as_ref()
                .map(|keyring| keyring.name.to_string_lossy().into_owned()),
            ..Record::creating(id, config.spec.version(), &facts.bundle, &plan.rootfs.path)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Create,
    Run,
}

fn bundle(options: &CreateOptions) -> &Path {
    if options.bundle.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &options.bundle
    }
}

fn load(options: &CreateOptions) -> Result<Config> {
    spec::load_file(&config_path(options), &options.cancel)
}

fn config_path(options: &CreateOptions) -> PathBuf {
    match &options.config {
        Some(file) => file.clone(),
        None => bundle(options).join("config.json"),
    }
}

/// Later commands must not take a cgroup of that name for the container's, if it has none.
fn record_absence(slot: &mut Slot, cgroup: &CgroupManager) -> Result<()> {
    if cgroup.cgroup().is_some() || cgroup.is_awaited() || slot.record().cgroup.is_none() {
        return Ok(());
    }
    let record = Record {
        cgroup: None,
        ..slot.record().clone()
    };
    slot.write(record)
}

/// Why init has ended, if it was for want of memory: what was seen of it then is only the consequence.
fn explain_kill(cgroup: &CgroupManager, error: Error) -> Error {
    // If it cannot be told, the error stays as it is.
    let kills = cgroup
        .cgroup()
        .and_then(|cgroup| cgroup.oom_kills().ok().flatten());
    match kills {
        Some(1..) => Error::new(
            ErrorKind::Os,
            "container init was OOM-killed (memory limit too low?)",
        )
        .field("linux.resources.memory.limit"),
        _ => error,
    }
}

/// Gives the cgroup to the container's user, who may then divide it among sub-cgroups.
fn delegate(plan: &Plan, cgroup: &CgroupManager) -> Result<()> {
    match (plan.cgroup_owner(), cgroup.cgroup()) {
        (Some(uid), Some(cgroup)) => match cgroup.delegate(rustix::fs::Uid::from_raw(uid)) {
            // Without CAP_CHOWN the owner is who has made it, and few containers need the cgroup at all.
            Err(error) if error.errno() == Some(rustix::io::Errno::PERM) => {
                log::info!("{error}");
                Ok(())
            }
            other => other,
        },
        _ => Ok(()),
    }
}

fn has_any(config: &Config, list: fn(&Hooks) -> &Option<Vec<Hook>>) -> bool {
    let hooks = config.spec.hooks().as_ref();
    hooks
        .and_then(|hooks| list(hooks).as_ref())
        .is_some_and(|list| !list.is_empty())
}

/// One creation, with everything decided.
struct Job<'a> {
    config: &'a Config,
    plan: &'a Plan,
    cgroup_plan: &'a CgroupPlan,
    options: CreateOptions,
    purpose: Purpose,
    /// A prestart or createRuntime hook may have done something.
    hooks_begun: &'a Cell<bool>,
}

/// How the terminal comes from INIT to whoever waits for it. Through RUNTIME, since INIT has it long before the container can
/// be started.
struct TerminalWay {
    from_init: OwnedFd,
    console: OwnedFd,
}

impl Job<'_> {
    /// From here on there are side effects in the kernel; an error anywhere drops, and so undoes, what is held here.
    fn launch(mut self, slot: &mut Slot, cgroup: &mut CgroupManager) -> Result<Process> {
        slot.save_file(CONFIG, &self.config.json)?;
        if self.options.notify {
            notify_socket::make_directory(slot.dir())?;
        }
        let mut resctrl = self.make_resctrl_group(slot)?;
        let terminal = self.connect_terminal()?;
        let (terminal, console) = terminal.unzip();
        let prepared = self.prepare(slot, cgroup, console)?;
        self.record_host_mount(slot, &prepared)?;
        let links = Links::new()?;
        let mut launched = launch::launch(
            self.plan,
            &prepared,
            &links,
            cgroup,
            self.cgroup_plan,
            resctrl.as_ref(),
            &self.options.cancel,
        )?;
        // The child has its own: with ours open, its end would not be seen.
        drop(links.child);
        let link = links.runtime;
        let mut host = Host {
            job: &self,
            prepared,
            record: slot.record().clone(),
            maps_given: 0,
        };
        let cancel = &self.options.cancel;
        let or_frozen = cancel.or_when_frozen(cgroup.cgroup().map(Cgroup::freezer).transpose()?);
        let awaits_birth = self.plan.namespaces.intermediate.is_some();
        let mut conversation = Conversation::new(link.as_fd(), awaits_birth);
        conversation.until_ready(&mut launched, &or_frozen, &mut host)?;
        if self.plan.namespaces.init_is_made_last() {
            launch::set_scheduler(&self.plan.process, launched.pid)?;
        }
        cgroup.settle(launch::pid_of(launched.pid)?)?;
        delegate(self.plan, cgroup)?;
        set_limits(&self.plan.process, launched.pid)?;
        self.publish(slot, &launched, cgroup, terminal)?;
        if self.purpose == Purpose::Run {
            conversation.start(launched.speaker(), cancel, &mut host)?;
            self.poststart(slot.record())?;
        }
        resctrl.iter_mut().for_each(resctrl::Group::keep);
        Ok(Process::new(launched.keep()))
    }

    /// The group of `linux.intelRdt`. It is in the record before it is there, so that `delete` finds it in any case.
    fn make_resctrl_group(&self, slot: &mut Slot) -> Result<Option<resctrl::Group>> {
        let Some(plan) = &self.plan.intel_rdt else {
            return Ok(None);
        };
        let mut group = Resctrl::find()?.group(plan, slot.id().as_str())?;
        let mut record = slot.record().clone();
        record.resctrl = Some(ResctrlRecord {
            path: group.path.clone(),
            is_own: group.is_new,
            monitoring: group.monitoring.is_some(),
        });
        slot.write(record)?;
        group.make(plan)?;
        Ok(Some(group))
    }

    /// The way of the terminal, if there is to be one, and INIT's end of it.
    fn connect_terminal(&mut self) -> Result<Option<(TerminalWay, OwnedFd)>> {
        let console = self.options.console.take().filter(|_| self.plan.process.terminal);
        let Some(console) = connect_console(console, &self.options.cancel)? else {
            return Ok(None);
        };
        let (from_init, of_init) = console::relay()?;
        Ok(Some((TerminalWay { from_init, console }, of_init)))
    }

    /// What INIT is about to mount on the host. It is in the record before it is there, so that `delete` finds it in any case.
    fn record_host_mount(&self, slot: &mut Slot, prepared: &Prepared) -> Result<()> {
        if self.plan.rootfs.enter != EnterRoot::MountAndChroot {
            return Ok(());
        }
        let path = Path::new(OsStr::from_bytes(prepared.rootfs_path.to_bytes()));
        let mut record = slot.record().clone();
        record.host_mount = Some(rootfs_mount::record(path, &prepared.rootfs)?);
        slot.write(record)
    }

    fn prepare(&self, slot: &Slot, cgroup: &CgroupManager, console: Option<OwnedFd>) -> Result<Prepared> {
        let gate = match self.purpose {
            Purpose::Create => Some(start_socket::listen(slot.dir())?),
            Purpose::Run => None,
        };
        let inside = &self.plan.hooks;
        let (states, hook_files) = if inside.create_container.is_empty() && inside.start_container.is_empty()
        {
            Default::default()
        } else {
            let record = slot.record();
            let states = [
                container::split_state(record, "creating")?,
                container::split_state(record, "created")?,
            ];
            let files = hooks::OutputFiles::open(&record.annotations, &record.bundle)?;
            (states, files)
        };
        let mut prepared = Prepared::acquire(
            self.plan,
            Inputs {
                cgroup,
                console,
                gate,
                hook_states: states,
                hook_files,
            },
        )?;
        procfs_context::open_all(self.plan, &mut prepared, &self.options.cancel)?;
        Ok(prepared)
    }

    /// The container is there for others: its state, and then its terminal, its pidfd, its pid file. Whoever waits for one of
    /// these may go on with `start` at once.
    fn publish(
        &self,
        slot: &mut Slot,
        launched: &Launched,
        cgroup: &CgroupManager,
        terminal: Option<TerminalWay>,
    ) -> Result<()> {
        let mut record = slot.record().clone();
        record.pid = launched.pid;
        record.start_time = start_time(launched.pid)?;
        record.root = exec::root_record(launched.pid)?;
        container::record_identity(&mut record, cgroup)?;
        record.phase = Phase::Created;
        slot.write(record)?;
        if let Some(way) = terminal {
            console::pass_on(&way.from_init, &way.console, &self.options.cancel)?;
        }
        let own = self.options.pidfd_socket.as_deref();
        for path in own
            .into_iter()
            .chain(annotations::pidfd_receiver(&self.config.spec))
        {
            pidfd_socket::send(path, b"standard", launched.pidfd(), &self.options.cancel)?;
        }
        match &self.options.pid_file {
            Some(path) => pid_file::write(path, launched.pid),
            None => Ok(()),
        }
    }

    fn poststart(&self, record: &Record) -> Result<()> {
        let hooks = self
            .config
            .spec
            .hooks()
            .as_ref()
            .and_then(|hooks| hooks.poststart().as_ref());
        container::run_hooks(
            "poststart",
            hooks,
            record,
            "running",
            record.pid,
            terms(self.plan, &self.options.cancel),
        )
    }
}

/// RUNTIME's answers to what init asks.
struct Host<'a> {
    job: &'a Job<'a>,
    /// Held until the child no longer asks for anything in it.
    prepared: Prepared,
    record: Record,
    /// How many mounts inside the rootfs have their id mapping.
    maps_given: usize,
}

impl Counterpart for Host<'_> {
    fn run_hooks(&mut self, pid: i32) -> Result<()> {
        self.job.hooks_begun.set(true);
        let terms = terms(self.job.plan, &self.job.options.cancel);
        run_runtime_hooks(self.job.config, &self.record, pid, terms)
    }

    fn map_ids(&mut self, init: &Launched) -> Result<()> {
        launch::map_ids(self.job.plan, &self.prepared, init, &self.job.options.cancel)
    }

    fn send_trees(&mut self, init: &Launched, mounts: Option<OwnedFd>, link: BorrowedFd<'_>) -> Result<()> {
        let cancel = &self.job.options.cancel;
        locked_trees::send(self.job.plan, &self.prepared, init, mounts, link, cancel)
    }

    fn move_net_devices(&mut self, there: BorrowedFd<'_>) -> Result<()> {
        match &self.prepared.net_devices {
            Some(found) => found.move_to(&self.job.plan.net_devices, there),
            None => Err(Error::new(
                ErrorKind::Internal,
                "init asked for network devices without having been told to",
            )),
        }
    }

    fn map_mount(&mut self, pid: i32, tree: OwnedFd) -> Result<()> {
        let number = self.maps_given;
        self.maps_given += 1;
        id_mapped::apply_inside(self.job.plan, &self.prepared, number, &tree, pid)
    }

    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()> {
        let cancel = &self.job.options.cancel;
        pass_listener(self.job.plan, &self.record, "creating", pid, listener, cancel)
    }

    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
        let background = Background {
            process: &self.job.plan.process,
            container: Some((self.job.plan, &self.job.config.spec)),
        };
        explain::explain(background, pid, failure, output)
    }
}

/// What holds for the hooks of a creation.
pub(super) fn terms<'a>(plan: &Plan, cancel: &'a Cancel) -> hooks::Terms<'a> {
    hooks::Terms {
        cancel,
        at: None,
        open_files: plan.process.hook_files,
    }
}

/// Gives the id back after a failed creation, and has poststop hooks take back what hooks have done. Where something is
/// left, both are for a later `delete`.
pub(super) fn undo(
    slot: Slot,
    config: &Config,
    hooks_begun: bool,
    terms: hooks::Terms<'_>,
    failed: Failed,
) -> Error {
    let record = slot.record().clone();
    let (error, is_gone) = failed.give_back(slot);
    if !is_gone {
        return error;
    }
    // runtime.md, Lifecycle: after a hook that fails the container is destroyed, and then come these. They also take back
    // what prestart and createRuntime hooks have done, if something else fails after them.
    if hooks_begun || error.kind() == ErrorKind::Hook {
        // The signal that ends the creation has come already; it would end these at once.
        let terms = match error.kind() {
            ErrorKind::Interrupted => hooks::Terms {
                cancel: &Cancel::default(),
                at: Instant::now().checked_add(LAST_HOOKS),
                ..terms
            },
            _ => terms,
        };
        delete::run_poststop(Some(config), &record, terms);
    }
    error
}

/// The hooks that run in the runtime's namespaces once those of the container are there.
pub(super) fn run_runtime_hooks(
    config: &Config,
    record: &Record,
    pid: i32,
    terms: hooks::Terms<'_>,
) -> Result<()> {
    let Some(hooks) = config.spec.hooks() else {
        return Ok(());
    };
    #[allow(deprecated, reason = "prestart is deprecated, and engines still use it")]
    let prestart = hooks.prestart().as_ref();
    container::run_hooks("prestart", prestart, record, "creating", pid, terms)?;
    let create_runtime = hooks.create_runtime().as_ref();
    container::run_hooks("createRuntime", create_runtime, record, "creating", pid, terms)
}

/// Sends a seccomp listener to the agent named in the plan.
pub(super) fn pass_listener(
    plan: &Plan,
    record: &Record,
    status: &str,
    pid: i32,
    listener: BorrowedFd<'_>,
    cancel: &Cancel,
) -> Result<()> {
    match plan
        .seccomp
        .as_ref()
        .and_then(|seccomp| seccomp.listener.as_ref())
    {
        Some(agent) => send_listener(agent, record, status, pid, listener, cancel),
        None => Err(Error::new(
            ErrorKind::Internal,
            "a seccomp listener came without having been asked for",
        )),
    }
}

/// Sends a seccomp listener to its agent.
pub(super) fn send_listener(
    agent: &crate::plan::seccomp::SeccompListener,
    record: &Record,
    status: &str,
    pid: i32,
    listener: BorrowedFd<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let state = seccomp_agent::State {
        oci_version: crate::OCI_VERSION,
        id: &record.id,
        status,
        pid: if record.pid > 0 { record.pid } else { pid },
        bundle: &record.bundle.to_string_lossy(),
        annotations: &record.annotations,
    };
    seccomp_agent::pass_on(&agent.path, listener, pid, &agent.metadata, &state, cancel)
}

/// What the caller has said about the terminal, by what it gave.
pub(super) fn console_wish(console: Option<&Console>) -> ConsoleWish {
    match console {
        None => ConsoleWish::No,
        Some(Console::Socket(_)) => ConsoleWish::Welcome,
        Some(Console::Path(_)) => ConsoleWish::Expected,
    }
}

/// Connects to where the terminal goes.
pub(super) fn connect_console(console: Option<Console>, cancel: &Cancel) -> Result<Option<OwnedFd>> {
    match console {
        None => Ok(None),
        Some(Console::Socket(socket)) => Ok(Some(socket)),
        Some(Console::Path(path)) => console::connect(&path, cancel).map(Some),
    }
}

/// Sets the resource limits of a process that waits in a user namespace, where it could not raise them itself.
pub(super) fn set_limits(process: &ProcessPlan, pid: i32) -> Result<()> {
    if !process.limits_from_outside {
        return Ok(());
    }
    for limit in &process.rlimits {
        let set = runtime_sys::process::set_limit(pid, limit.resource, limit.soft, limit.hard);
        set.map_err(|error| {
            let explained = sys_error(error).field(format!("process.rlimits[{}]", limit.index));
            match error.errno {
                rustix::io::Errno::PERM => explained.with_kind(ErrorKind::Denied).hint(explain::RAISED_LIMIT),
                _ => explained,
            }
        })?;
    }
    Ok(())
}

pub(super) fn start_time(pid: i32) -> Result<u64> {
    match rustix::process::Pid::from_raw(pid) {
        Some(pid) => host_process::start_time(pid),
        None => Err(Error::new(
            ErrorKind::Internal,
            "a child has no pid in this namespace",
        )),
    }
}

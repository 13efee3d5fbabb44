//! Runs in: RUNTIME. `create` and `run`: from a bundle to a container that waits for `start`, or to one that
//! runs.

use std::ffi::OsStr;
use std::mem::take;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use runtime_init::args::EnterRoot;
use runtime_init::start::{Birth, start};
use runtime_init::wire::Failure;

use super::container::CONFIG;
use super::creation::{self, Creation, Planned};
use super::descriptors::Descriptors;
use super::hooks::{run_poststart, run_runtime_hooks, split_state, terms};
use super::options::CreateOptions;
use super::terminal::{Relay, connect_console, console_request};
use super::{Process, Runtime, container, container_root, listener, notify};
use crate::host::cgroup::{Cgroup, CgroupManager};
use crate::host::mount::rootfs_mount;
use crate::host::process::hooks;
use crate::host::resctrl::{self, Resctrl};
use crate::host::socket::{notify_socket, pidfd_socket, start_socket};
use crate::host::state::{ContainerId, Phase, Record, ResctrlRecord, Slot};
use crate::host::{pid_file, random};
use crate::parent::attributes::{allow_all_cpus, set_limits, set_oom_score, set_scheduler};
use crate::parent::child::{Launched, pid_of};
use crate::parent::explain::clone3::explain_clone;
use crate::parent::explain::{self, Subject};
use crate::parent::handshake::{Answers, Conversation};
use crate::parent::{id_mapped, locked_trees, procfs_context, views};
use crate::plan::keyring::KeyringSecret;
use crate::plan::{CallerOptions, HostFacts, Plan, annotations};
use crate::prepare::{Inputs, Links, Prepared, keep_off};
use crate::spec::{self, Config};
use crate::{Cancel, Error, ErrorKind, Result};

/// When the program of a new container starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Init waits at a socket for `start`.
    OnCommand,
    AtOnce,
}

impl Runtime {
    /// OCI `create`: leaves an init process that waits just before the program, and the status `created`.
    ///
    /// Init is a child of the caller and inherits standard input, output and error.
    ///
    /// # Errors
    /// `Invalid` with the field of config.json, `AlreadyExists`, or what failed on the way. Nothing is left
    /// then.
    pub fn create(&self, id: &ContainerId, mut options: CreateOptions) -> Result<Process> {
        let planned = self.plan_creation(id, &mut options)?;
        let mut creation = Creation::begin(self, id, &planned, &options.cancel)?;
        let created = launch(&mut creation, options, Start::OnCommand);
        end(creation, created)
    }

    /// `create` and `start` in one, without the waiting in between: returns when the program runs.
    ///
    /// # Errors
    /// As `create` and `start`.
    pub fn run(&self, id: &ContainerId, mut options: CreateOptions) -> Result<Process> {
        let planned = self.plan_creation(id, &mut options)?;
        let mut creation = Creation::begin(self, id, &planned, &options.cancel)?;
        let started = launch(&mut creation, options, Start::AtOnce);
        end(creation, started)
    }

    /// Everything that can be decided, or refused, before anything is done.
    fn plan_creation(&self, id: &ContainerId, options: &mut CreateOptions) -> Result<Planned> {
        let descriptors = Descriptors::inherited(options.listen_fds, options.preserve_fds)?;
        let standard = [&mut options.stdin, &mut options.stdout, &mut options.stderr].map(take);
        let descriptors = descriptors.given(standard, take(&mut options.descriptors))?;
        let placed = descriptors.placed();
        let config = self.load(id, options)?;
        let facts = HostFacts::probe(creation::bundle_or_here(&options.bundle))?;
        let caller = CallerOptions {
            inherited: &descriptors.inherited,
            placed: &placed,
            ..self.caller(options, &config, &facts)?
        };
        let plan = Plan::new(&config, id.as_str(), &facts, caller)?;
        plan.process.warn();
        for name in annotations::ignored(&config.spec) {
            log::warn!("annotations[{name}]: only crun has this, ignored");
        }
        plan.cgroup.resources.log_ignored();
        Ok(Planned {
            config,
            facts,
            plan,
            descriptors,
        })
    }

    /// The validated configuration, with what the caller adds to it.
    fn load(&self, id: &ContainerId, options: &mut CreateOptions) -> Result<Config> {
        let bundle = creation::bundle_or_here(&options.bundle);
        let document = creation::configuration(bundle, options.config.take());
        let mut config = spec::load(&document, &options.cancel)?;
        if options.notify {
            notify::add_socket(&mut config, &self.store.root().join(id.as_str()));
        }
        if let Some(names) = &options.listen_names {
            notify::add_variable(&mut config, "LISTEN_FDNAMES", names);
        }
        spec::validate(&config).map_err(|error| match error.field() {
            // Its value says nothing, so that the file has to.
            Some("ociVersion") => document.blamed(error),
            _ => error,
        })?;
        container::warn_of_spellings(&config.extra.spellings);
        let linux = config.spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        for text in resources.into_iter().flat_map(spec::odd_letters) {
            log::warn!("{text}");
        }
        container::warn_of_capabilities(&config.extra.process.unknown_capabilities);
        Ok(config)
    }

    fn caller(
        &self,
        options: &CreateOptions,
        config: &Config,
        facts: &HostFacts,
    ) -> Result<CallerOptions<'static>> {
        let keeps_groups = config
            .spec
            .annotations()
            .as_ref()
            .and_then(|all| all.get("run.oci.keep_original_groups"));
        Ok(CallerOptions {
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            keyring_secret: KeyringSecret::new(random::bytes()?),
            console: console_request(options.console.as_ref()),
            terminal_size: options.terminal_size,
            plain_newlines: options.plain_newlines,
            listen_fds: options.listen_fds,
            keep_groups: keeps_groups.is_some_and(|value| value == "1"),
            open_files: self.open_files()?,
            cgroup_driver: self.driver,
            rootless: self.rootless.holds(facts.is_rootless),
            ..CallerOptions::default()
        })
    }
}

/// The story of a container's first process. From here on there are side effects in the kernel; an error
/// anywhere drops, and so undoes, what is held here.
fn launch(creation: &mut Creation<'_>, mut options: CreateOptions, start: Start) -> Result<Process> {
    let Creation {
        planned,
        slot,
        cgroup,
        hooks_begun,
        ..
    } = creation;
    let plan = &planned.plan;
    record_absence(slot, cgroup)?;
    slot.save_file(CONFIG, &planned.config.json)?;
    if options.notify {
        notify_socket::make_directory(slot.dir())?;
    }
    let mut resctrl = make_resctrl_group(plan, slot)?;
    let (relay, terminal) = connect_terminal(plan, &mut options)?.unzip();
    let mut prepared = prepare(plan, slot, cgroup, terminal, start)?;
    procfs_context::open_all(plan, &mut prepared, &options.cancel)?;
    record_host_mount(plan, slot, &prepared)?;
    let mut links = Links::new()?;
    keep_off(&mut links.child, &plan.process)?;
    prepared.keep_off(&plan.process)?;
    let mut init = make_init(plan, &prepared, &links, cgroup)?;
    drop(links.child);
    set_surroundings(planned, &prepared, &init, cgroup, &options.cancel)?;
    if let Some(group) = &resctrl {
        // What INTERMEDIATE is in, its children are in too.
        group.add(init.pid)?;
    }
    let mut conversation = Conversation::begin(links.runtime, plan.namespaces.intermediate.is_some())?;
    let mut answers = CreationAnswers {
        planned,
        cancel: &options.cancel,
        record: slot.record().clone(),
        prepared,
        maps_given: 0,
        hooks_begun,
    };
    let or_frozen = options
        .cancel
        .or_when_frozen(cgroup.cgroup().map(Cgroup::freezer).transpose()?);
    conversation.until_ready(&mut init, &or_frozen, &mut answers)?;
    complete_surroundings(plan, &init, cgroup)?;
    publish(planned, slot, &init, cgroup, relay, &options)?;
    if start == Start::AtOnce {
        conversation.start(init.speaker(), &options.cancel, &mut answers)?;
        run_poststart(&planned.config, slot.record(), terms(plan, &options.cancel))?;
    }
    resctrl.iter_mut().for_each(resctrl::Group::keep);
    Ok(Process::new(init.keep()))
}

/// Makes INIT, or INTERMEDIATE, which waits for Go.
fn make_init(plan: &Plan, prepared: &Prepared, links: &Links, cgroup: &CgroupManager) -> Result<Launched> {
    let birth = Birth {
        namespaces: plan.namespaces.birth,
        cgroup: cgroup.cgroup().map(Cgroup::dir),
    };
    // Each borrows from those before it; all of them, and so what the child reads, are in this frame.
    let options = views::all_option_views(plan);
    let mut vectors = views::InitVectors::new(plan, prepared);
    let mut views = views::InitViews::new(plan, prepared, &links.child, &options, &mut vectors);
    let args = views.args(birth.cgroup.is_some());
    match start(birth, &args) {
        Ok(child) => Ok(Launched::new(child)),
        Err(error) => Err(explain_clone(error, plan, cgroup)),
    }
}

/// What must be done for it from outside before it may go on.
fn set_surroundings(
    planned: &Planned,
    prepared: &Prepared,
    init: &Launched,
    cgroup: &mut CgroupManager,
    cancel: &Cancel,
) -> Result<()> {
    let plan = &planned.plan;
    cgroup.adopt(pid_of(init.pid)?)?;
    // After that: before Linux 6.2 a cpuset that is entered says it again.
    allow_all_cpus(init.pid);
    cgroup.filter_devices(&planned.plan.cgroup)?;
    if !plan.namespaces.unshares_user {
        id_mapped::map_ids(plan, prepared, init, cancel)?;
    }
    set_oom_score(&plan.process, init.pid)
}

/// What is done for it from outside once it stands where it will stay.
fn complete_surroundings(plan: &Plan, init: &Launched, cgroup: &mut CgroupManager) -> Result<()> {
    if plan.namespaces.init_is_made_last() {
        set_scheduler(&plan.process, init.pid)?;
    }
    cgroup.settle(pid_of(init.pid)?)?;
    delegate(plan, cgroup)?;
    set_limits(&plan.process, init.pid)
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

fn end(creation: Creation<'_>, made: Result<Process>) -> Result<Process> {
    let explained = made.map_err(|error| explain_kill(&creation.cgroup, error));
    creation.end(explained)
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
        .with_field("linux.resources.memory.limit"),
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

/// The group of `linux.intelRdt`. It is in the record before it is there, so that `delete` finds it in any
/// case.
fn make_resctrl_group(plan: &Plan, slot: &mut Slot) -> Result<Option<resctrl::Group>> {
    let Some(plan) = &plan.intel_rdt else {
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
fn connect_terminal(plan: &Plan, options: &mut CreateOptions) -> Result<Option<(Relay, OwnedFd)>> {
    let console = options.console.take().filter(|_| plan.process.terminal);
    match connect_console(console, &options.cancel)? {
        Some(console) => Relay::to(console).map(Some),
        None => Ok(None),
    }
}

/// What INIT is about to mount on the host. It is in the record before it is there, so that `delete` finds it
/// in any case.
fn record_host_mount(plan: &Plan, slot: &mut Slot, prepared: &Prepared) -> Result<()> {
    if plan.rootfs.enter != EnterRoot::MountAndChroot {
        return Ok(());
    }
    let path = Path::new(OsStr::from_bytes(prepared.rootfs_path.to_bytes()));
    let mut record = slot.record().clone();
    record.host_mount = Some(rootfs_mount::record(path, &prepared.rootfs)?);
    slot.write(record)
}

fn prepare(
    plan: &Plan,
    slot: &Slot,
    cgroup: &CgroupManager,
    console: Option<OwnedFd>,
    start: Start,
) -> Result<Prepared> {
    let gate = match start {
        Start::OnCommand => Some(start_socket::listen(slot.dir())?),
        Start::AtOnce => None,
    };
    let (record, inside) = (slot.record(), &plan.hooks);
    let has_none = inside.create_container.is_empty() && inside.start_container.is_empty();
    let (hook_states, hook_files) = match has_none {
        true => Default::default(),
        false => (
            [split_state(record, "creating")?, split_state(record, "created")?],
            hooks::OutputFiles::open(&record.annotations, &record.bundle)?,
        ),
    };
    let inputs = Inputs {
        cgroup,
        console,
        gate,
        hook_states,
        hook_files,
    };
    Prepared::acquire(plan, inputs)
}

/// The container is there for others: its state, and then its terminal, its pidfd, its pid file. Whoever
/// waits for one of these may go on with `start` at once.
fn publish(
    planned: &Planned,
    slot: &mut Slot,
    init: &Launched,
    cgroup: &CgroupManager,
    relay: Option<Relay>,
    options: &CreateOptions,
) -> Result<()> {
    let mut record = slot.record().clone();
    record.pid = init.pid;
    record.start_time = init.start_time()?;
    record.root = container_root::root_record(init.pid)?;
    container::record_identity(&mut record, cgroup)?;
    record.phase = Phase::Created;
    slot.write(record)?;
    if let Some(relay) = relay {
        relay.pass_on(&options.cancel)?;
    }
    let own = options.pidfd_socket.as_deref();
    let others = annotations::pidfd_receiver(&planned.config.spec);
    for path in own.into_iter().chain(others) {
        pidfd_socket::send(path, b"standard", init.pidfd(), &options.cancel)?;
    }
    match &options.pid_file {
        Some(path) => pid_file::write(path, init.pid),
        None => Ok(()),
    }
}

/// RUNTIME's answers to what init asks.
struct CreationAnswers<'a> {
    planned: &'a Planned,
    cancel: &'a Cancel,
    /// As it was before anything of the container was published.
    record: Record,
    /// Held until the child no longer asks for anything in it.
    prepared: Prepared,
    /// How many mounts inside the rootfs have their id mapping.
    maps_given: usize,
    hooks_begun: &'a mut bool,
}

impl Answers for CreationAnswers<'_> {
    fn run_hooks(&mut self, pid: i32) -> Result<()> {
        *self.hooks_begun = true;
        let terms = terms(&self.planned.plan, self.cancel);
        run_runtime_hooks(&self.planned.config, &self.record, pid, terms)
    }

    fn map_ids(&mut self, init: &Launched) -> Result<()> {
        id_mapped::map_ids(&self.planned.plan, &self.prepared, init, self.cancel)
    }

    fn send_trees(&mut self, init: &Launched, mounts: Option<OwnedFd>, link: BorrowedFd<'_>) -> Result<()> {
        let plan = &self.planned.plan;
        locked_trees::send(plan, &self.prepared, init, mounts, link, self.cancel)
    }

    fn move_net_devices(&mut self, there: BorrowedFd<'_>) -> Result<()> {
        match &self.prepared.net_devices {
            Some(found) => found.move_to(&self.planned.plan.net_devices, there),
            None => Err(Error::new(
                ErrorKind::Internal,
                "init asked for network devices without having been told to",
            )),
        }
    }

    fn map_mount(&mut self, pid: i32, tree: OwnedFd) -> Result<()> {
        let number = self.maps_given;
        self.maps_given += 1;
        id_mapped::apply_inside(&self.planned.plan, &self.prepared, number, &tree, pid)
    }

    fn pass_listener(&mut self, pid: i32, listener: BorrowedFd<'_>) -> Result<()> {
        let seccomp = self.planned.plan.seccomp.as_ref();
        listener::pass_on(seccomp, &self.record, "creating", pid, listener, self.cancel)
    }

    fn explain(&mut self, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
        let Planned { plan, config, .. } = self.planned;
        let subject = Subject {
            process: &plan.process,
            container: Some((plan, &config.spec)),
        };
        explain::explain(subject, pid, failure, output)
    }
}

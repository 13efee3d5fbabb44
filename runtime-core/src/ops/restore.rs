//! Runs in: RUNTIME. `restore`: has criu make the processes of a container from the files of a checkpoint, in
//! a cgroup and a state directory made as by `create`.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::mem::take;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime_init::args::EnterRoot;
use runtime_sys::namespace::Kinds;
use runtime_sys::{namespace, net};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

use super::checkpoint::{DESCRIPTORS, shared_key};
use super::container::CONFIG;
use super::creation::{self, Creation, Planned, bundle_or_here};
use super::descriptors::Descriptors;
use super::hooks::{run_runtime_hooks, terms};
use super::options::RestoreOptions;
use super::terminal::{connect_console, console_request};
use super::{Process, Runtime, container, container_root};
use crate::criu::{
    self, Attendant, Directories, Features, InheritFd, JoinNamespace, Kind, Notification, Options, Session,
    Start, Surroundings, common_options, need_root, path_bytes,
};
use crate::error::{CallResult, ErrorResult};
use crate::host::cgroup::{Cgroup, CgroupManager};
use crate::host::net_devices::NetDevices;
use crate::host::process::stdio;
use crate::host::socket::console;
use crate::host::state::{ContainerId, Phase, Slot};
use crate::host::{pid_file, process as host_process, random};
use crate::parent::child::{Launched, pid_of};
use crate::parent::explain::Subject;
use crate::plan::keyring::{KeyringPlan, KeyringSecret, keyring_name};
use crate::plan::namespaces::Join;
use crate::plan::{CallerOptions, HostFacts, Plan, namespaces};
use crate::prepare::{self, trees};
use crate::spec::{self, Config};
use crate::{Error, ErrorKind, Result};

const LOG: &str = "restore.log";

impl Runtime {
    /// Makes a container from the files of a checkpoint, by criu(8). The processes run on when this returns;
    /// the first of them is a child of the caller. Standard input, output and error of the caller take the
    /// places of the pipes that the container had there.
    ///
    /// Hooks: prestart and createRuntime, in the new namespaces, as by runc; the others have had their
    /// effect, or come with `delete`.
    ///
    /// # Errors
    /// As `create`; `NotFound` if there are no images; `Unsupported` if there is no criu, or it is too old;
    /// `Os` with the path of criu's log and the last error in it. Nothing is left then.
    pub fn restore(&self, id: &ContainerId, mut options: RestoreOptions) -> Result<Process> {
        let standard = [&mut options.stdin, &mut options.stdout, &mut options.stderr].map(take);
        let given = Descriptors::default().given(standard, Vec::new())?;
        let bundle = bundle_or_here(&options.bundle);
        let document = creation::configuration(bundle, options.config.take());
        let config = spec::load(&document, &options.cancel)?;
        spec::validate(&config)?;
        container::warn_of_spellings(&config.extra.spellings);
        let planned = self.plan_restore(id, config, given, &options)?;
        need_root(&planned.facts)?;
        check_plan(&planned.plan)?;
        criu::find()?;
        let mut directories = criu::open_images(&options.criu.images, options.criu.work.as_deref())?;
        if options.criu.auto_dedup {
            // It writes to the images, too.
            directories.refuse_links()?;
        }
        criu::mapped_images::show(&mut directories, &planned.plan.namespaces.user)?;
        let descriptors = read_descriptors(&options.criu.images, &directories)?;
        let cancel = options.cancel.clone();
        let restore = PlannedRestore {
            config: &planned.config,
            plan: &planned.plan,
            placed: planned.descriptors.placed(),
            pipes: stdio::pipes(planned.descriptors.standard()),
            options,
            directories,
            descriptors,
        };
        let mut creation = Creation::begin(self, id, &planned, &cancel)?;
        let restored = restore.restore(&mut creation);
        creation.end(restored)
    }

    fn plan_restore(
        &self,
        id: &ContainerId,
        config: Config,
        descriptors: Descriptors,
        options: &RestoreOptions,
    ) -> Result<Planned> {
        let facts = HostFacts::probe(bundle_or_here(&options.bundle))?;
        let caller = CallerOptions {
            console: console_request(options.console.as_ref()),
            keyring_secret: KeyringSecret::new(random::bytes()?),
            open_files: self.open_files()?,
            cgroup_driver: self.driver,
            ..CallerOptions::default()
        };
        let mut plan = Plan::new(&config, id.as_str(), &facts, caller)?;
        // CRIU makes it, which is not in the container's user namespace.
        let name = keyring_name(id.as_str(), caller.keyring_secret);
        plan.keyring = Some(KeyringPlan::new(&name, caller.keyring_secret, &facts, false)?);
        plan.cgroup.resources.log_ignored();
        Ok(Planned {
            config,
            facts,
            plan,
            descriptors,
        })
    }
}

fn check_plan(plan: &Plan) -> Result<()> {
    let refused = |field: String, text: &'static str| {
        Err(Error::invalid(field, text).with_kind(ErrorKind::Unsupported))
    };
    if matches!(plan.rootfs.enter, EnterRoot::Chroot | EnterRoot::MountAndChroot) {
        let text = "a container without a mount namespace cannot be restored";
        return refused("linux.namespaces".to_owned(), text);
    }
    let mut joins = plan.namespaces.join.iter();
    if let Some(join) = joins.find(|join| join.kind.flag == Kinds::USER) {
        // It enters it first, and then may neither make nor enter the others.
        let text =
            "criu cannot restore into a user namespace that is there already: without a path it makes one";
        return refused(namespaces::field(join.index), text);
    }
    criu::mounts::refuse_id_mapped(plan)
}

/// The names of the pipes that standard input, output and error were.
fn read_descriptors(path: &Path, directories: &Directories) -> Result<Vec<String>> {
    /// More than three names are long.
    const LARGEST: u64 = 64 << 10;
    let at = |error: Error| {
        error
            .with_path(path.join(DESCRIPTORS))
            .doing("read the names of the descriptors")
    };
    // Nobody may have to write into a fifo for us to go on.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directories.images.fd, DESCRIPTORS, flags, Mode::empty())
        .map_err(|errno| at(Error::os("openat", errno)))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| at(Error::os("fstat", errno)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(at(Error::new(ErrorKind::Invalid, "not a regular file")));
    }
    let mut text = Vec::new();
    File::from(file)
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| at(Error::os("read", error)))?;
    serde_json::from_slice(&text).map_err(|error| at(Error::new(ErrorKind::Invalid, error.to_string())))
}

struct PlannedRestore<'a> {
    config: &'a Config,
    plan: &'a Plan,
    placed: Vec<(RawFd, RawFd)>,
    /// The names of the pipes that standard input, output and error are now.
    pipes: Vec<String>,
    options: RestoreOptions,
    directories: Directories,
    descriptors: Vec<String>,
}

impl PlannedRestore<'_> {
    fn restore(mut self, creation: &mut Creation<'_>) -> Result<Process> {
        let Creation {
            slot,
            cgroup,
            hooks_begun,
            ..
        } = creation;
        let place = criu::clean_path(slot.path());
        criu::check_place(&place)?;
        slot.save_file(CONFIG, &self.config.json)?;
        let console = self.options.console.take().filter(|_| self.plan.process.terminal);
        let console = connect_console(console, &self.options.cancel)?;
        let namespaces = Namespaces::open(self.plan)?;
        let devices = self.find_net_devices(&namespaces)?;
        let surroundings = self.surroundings(&place, cgroup)?;
        let start = Start {
            directories: &self.directories,
            inherit: &namespaces.all,
            placed: &self.placed,
            restore: Some(surroundings),
        };
        let mut session = Session::open(&start, LOG, self.options.cancel.clone())?;
        drop(start);
        // What criu makes is where criu is.
        cgroup.adopt(pid_of(session.pid())?)?;
        session.give_up_when_frozen(cgroup.cgroup().map(Cgroup::freezer).transpose()?);
        if self.options.criu.lazy_pages {
            session.need(Features {
                lazy_pages: Some(true),
                ..Features::default()
            })?;
        }
        let request = self.request(slot, &place, &session, namespaces.options)?;
        let mut attendant = Restore {
            restore: &self,
            slot,
            cgroup,
            hooks_begun,
            console,
            terminal: None,
            devices,
            init: None,
        };
        let answered = session.run(Kind::Restore, request, &mut attendant);
        // Dropped on an error, and with it killed and reaped: criu has only killed it.
        let init = attendant.init.take();
        let pid = answered?.restored.map(|restored| restored.pid);
        if let Some(pid) = pid {
            cgroup.settle(pid_of(pid)?)?;
        }
        match init {
            Some(init) if Some(init.pid) == pid => Ok(Process::new(init.keep())),
            _ => Err(Error::new(
                ErrorKind::Internal,
                "criu has restored another process than it told of",
            )),
        }
    }

    /// In a network namespace by path those that `create` moved there are there still.
    fn find_net_devices(&self, namespaces: &Namespaces) -> Result<Option<NetDevices>> {
        let planned = &self.plan.net_devices;
        let Some(network) = namespaces.network(self.plan).filter(|_| !planned.is_empty()) else {
            return prepare::find_net_devices(self.plan, &namespaces.all);
        };
        prepare::refuse_own_network(self.plan, &namespaces.all)?;
        let copy = network.try_clone().call("fcntl")?;
        let there = enter_network(copy, false)?;
        NetDevices::find_unless_there(planned, there.as_fd()).map(Some)
    }

    fn surroundings<'a>(&'a self, place: &Path, cgroup: &'a CgroupManager) -> Result<Surroundings<'a>> {
        let (rootfs, _) = trees::rootfs(self.plan)?;
        // Copied anew: before Linux 6.15 a detached tree cannot be copied.
        let (draft, _) = trees::rootfs(self.plan)?;
        let place = CString::new(place.as_os_str().as_bytes())
            .map_err(|_| Error::new(ErrorKind::Invalid, "a path with a null byte").with_path(place))?;
        Ok(Surroundings {
            cgroup: cgroup.cgroup().map(|cgroup| cgroup.dir()),
            keyring: self.plan.keyring.clone(),
            place,
            rootfs: [rootfs, draft],
            mounts: trees::mounts(self.plan, cgroup, trees::TreePolicy::of_restore())?,
            subject: Subject {
                process: &self.plan.process,
                container: Some((self.plan, &self.config.spec)),
            },
        })
    }

    fn request(&self, slot: &Slot, place: &Path, session: &Session, namespaces: Options) -> Result<Options> {
        let network = (session.version(), self.plan.namespaces.joins(Kinds::NETWORK));
        let common = common_options(&self.options.criu, &self.directories, slot.record(), network)?;
        let mut inherit_fd = namespaces.inherit_fd;
        inherit_fd.extend(self.inherited_pipes());
        Ok(Options {
            log_file: Some(LOG.to_owned()),
            root: Some(path_bytes(place)),
            rst_sibling: Some(true),
            evasive_devices: Some(true),
            tcp_close: Some(self.options.criu.tcp_close),
            // Without a terminal of the container's, `--shell-job` gives that of the caller.
            orphan_pts_master: Some(self.plan.process.terminal || !self.options.criu.shell_job),
            lsm_profile: self.options.lsm_profile.clone(),
            lsm_mount_context: self.options.lsm_mount_context.clone(),
            ext_mnt: criu::mounts::of_restore(self.plan)?,
            cg_root: criu::cgroup_roots(session.pid())?,
            inherit_fd,
            join_ns: namespaces.join_ns,
            ..common
        })
    }

    /// Of the caller's pipes those that have taken the place of one.
    fn attached(&self) -> Vec<String> {
        let mut own = self.pipes.clone();
        let before = self.descriptors.iter().map(|name| stdio::is_pipe(name));
        for (name, was_pipe) in own.iter_mut().zip(before.chain(std::iter::repeat(false))) {
            if !was_pipe {
                name.clear();
            }
        }
        own
    }

    fn inherited_pipes(&self) -> impl Iterator<Item = InheritFd> {
        let names = self.descriptors.iter().take(3).enumerate();
        names
            .filter(|(_, name)| stdio::is_pipe(name))
            .map(|(fd, name)| InheritFd {
                key: name.clone(),
                fd: fd as i32,
            })
    }
}

/// The namespaces that config.json gives by path: for criu they are there already.
struct Namespaces {
    /// Parallel to `plan.namespaces.join`, and then the pid namespace. criu inherits them all.
    all: Vec<OwnedFd>,
    options: Options,
}

impl Namespaces {
    /// The network namespace, if it is given by path.
    fn network(&self, plan: &Plan) -> Option<&OwnedFd> {
        self.all.get(plan.namespaces.place_of_joined(Kinds::NETWORK)?)
    }

    fn open(plan: &Plan) -> Result<Self> {
        let mut all = Vec::new();
        let mut options = Options::default();
        for join in &plan.namespaces.join {
            let namespace = prepare::open_namespace(join)?;
            // Those that have a name in the dump for what was outside.
            let mut inherit = |key: &str| {
                options.inherit_fd.push(InheritFd {
                    key: key.to_owned(),
                    fd: namespace.as_raw_fd(),
                });
            };
            match shared_key(join.kind.flag) {
                Some(key) => inherit(key),
                None => options.join_ns.push(join_by_path(join)?),
            }
            all.push(namespace);
        }
        Ok(Self { all, options })
    }
}

fn join_by_path(join: &Join) -> Result<JoinNamespace> {
    const KNOWN: Kinds = Kinds::IPC.with(Kinds::UTS).with(Kinds::TIME);
    if !KNOWN.has(join.kind.flag) {
        let message = "criu cannot restore into a namespace of this kind";
        let error = Error::invalid(namespaces::field(join.index), message).with_path(&join.path);
        return Err(error.with_kind(ErrorKind::Unsupported));
    }
    Ok(JoinNamespace {
        kind: join.kind.file.to_owned(),
        // A name in /proc that leads to no path: only its text can be put right.
        path: path_bytes(join.path.components().collect::<PathBuf>()),
    })
}

/// RUNTIME's part in a restore.
struct Restore<'a> {
    restore: &'a PlannedRestore<'a>,
    slot: &'a mut Slot,
    cgroup: &'a CgroupManager,
    hooks_begun: &'a mut bool,
    console: Option<OwnedFd>,
    /// What goes there.
    terminal: Option<OwnedFd>,
    devices: Option<NetDevices>,
    init: Option<Launched>,
}

impl Attendant for Restore<'_> {
    fn attend(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<()> {
        match notification.script() {
            "setup-namespaces" => {
                let pid = self.take_init(notification.pid())?;
                self.set_up_network(pid)?;
                *self.hooks_begun = true;
                let terms = terms(self.restore.plan, &self.restore.options.cancel);
                run_runtime_hooks(self.restore.config, self.slot.record(), pid, terms)
            }
            "orphan-pts-master" => self.take_terminal(fd),
            // The processes are there, and stand still: what others wait for is written before they run.
            "post-restore" => {
                let pid = self.take_init(notification.pid())?;
                self.publish(pid)
            }
            _ => Ok(()),
        }
    }

    fn init(&self) -> Option<&Launched> {
        self.init.as_ref()
    }
}

impl Restore<'_> {
    /// Takes hold of the container's first process. It is our child, so its pid stays its own until we reap
    /// it.
    fn take_init(&mut self, pid: i32) -> Result<i32> {
        if self.init.as_ref().is_some_and(|init| init.pid == pid) {
            return Ok(pid);
        }
        let target = if pid > 0 { Pid::from_raw(pid) } else { None };
        let Some(target) = target else {
            return Err(Error::new(
                ErrorKind::Internal,
                "criu tells no pid of the container's process",
            ));
        };
        let pidfd = rustix::process::pidfd_open(target, PidfdFlags::empty())
            .call("pidfd_open")
            .doing("take hold of the restored process")?;
        self.init = Some(Launched::new(runtime_init::start::Child { pid, pidfd }));
        Ok(pid)
    }

    /// criu makes a network namespace without anything in it.
    fn set_up_network(&self, pid: i32) -> Result<()> {
        let plan = self.restore.plan;
        if !plan.namespaces.loopback && self.devices.is_none() {
            return Ok(());
        }
        let path = format!("/proc/{pid}/ns/net");
        let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .call("open")
            .path(&path)?;
        let there = enter_network(namespace, plan.namespaces.loopback)?;
        match &self.devices {
            Some(devices) => devices.move_to(&plan.net_devices, there.as_fd()),
            None => Ok(()),
        }
    }

    fn take_terminal(&mut self, master: Option<OwnedFd>) -> Result<()> {
        let failed = |error: Error| error.with_field("process.terminal").doing("pass the terminal on");
        if master.is_none() {
            return Err(failed(Error::new(ErrorKind::Internal, "criu sent no terminal")));
        }
        if self.console.is_none() || self.terminal.is_some() {
            let message = "the container has a terminal, but config.json asks for none";
            return Err(failed(Error::new(ErrorKind::Invalid, message)));
        }
        self.terminal = master;
        Ok(())
    }

    /// criu has set it as it was when it was saved.
    fn pass_terminal(&mut self) -> Result<()> {
        let (Some(master), Some(console)) = (self.terminal.take(), self.console.take()) else {
            return Ok(());
        };
        if self.restore.options.plain_newlines {
            net::leave_newlines(master.as_fd()).field("process.terminal")?;
        }
        console::send_master(&master, &console, &self.restore.options.cancel)
    }

    fn publish(&mut self, pid: i32) -> Result<()> {
        let mut record = self.slot.record().clone();
        record.pid = pid;
        record.start_time = host_process::start_time(pid_of(pid)?)?;
        record.root = container_root::root_record(pid)?;
        container::record_identity(&mut record, self.cgroup)?;
        record.phase = Phase::Created;
        record.stdio = self.restore.attached();
        self.slot.write(record)?;
        self.pass_terminal()?;
        match &self.restore.options.pid_file {
            Some(path) => pid_file::write(path, pid),
            None => Ok(()),
        }
    }
}

/// Enters a network namespace, and brings `lo` up as INIT does it in one of its own. Done by a thread of its
/// own, which ends with it: joining a namespace is for a thread, and the caller's stay where they are.
/// Returns a route socket in the namespace.
fn enter_network(namespace: OwnedFd, loopback: bool) -> Result<OwnedFd> {
    let work = move || {
        namespace::setns(namespace.as_fd(), Kinds::NETWORK)?;
        if loopback {
            net::loopback_up()?;
        }
        net::route_socket()
    };
    let thread = std::thread::Builder::new().spawn(work).call("clone")?;
    match thread.join() {
        Ok(done) => done.doing("set the network namespace up"),
        Err(_) => Err(Error::new(ErrorKind::Internal, "a thread has panicked")),
    }
}

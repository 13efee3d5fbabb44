//! Runs in: INIT, process 1 of the container, from `clone3` to `execve`. Read `set_up` from top to bottom:
//! each line is a [`Step`], in the order of `step.rs` and of `docs/design.md`.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::args::{Gate, InitArgs, IntermediateArgs};
use crate::report::{self, At, Result};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{
    console, devices, environment, hooks, intermediate, masks, mounts, namespaces, pivot, program, trees,
};
use runtime_sys::memory::Role;
use runtime_sys::namespace::Kinds;
use runtime_sys::{SysError, fs, net, process};

impl Role for InitArgs<'_> {
    /// The whole life of init: it becomes the program, or reports why not and ends.
    fn run(mut args: InitArgs<'static>) -> ! {
        let link = Link(args.link);
        let connection = match up_to_start(&mut args, link) {
            Ok(connection) => connection,
            Err(stop) => stop.report(link),
        };
        // With `start` connected, failures are its to hear.
        let link = connection.as_ref().map_or(link, |start| Link(start.as_fd()));
        if let Err(stop) = started(&mut args, link) {
            stop.report(link)
        }
        let Err(stop) = program::execute(&args.process);
        stop.report(link)
    }

    fn give_up(args: &InitArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

/// Everything before `start`. After `create` it waits for that at a socket, and returns the connection.
fn up_to_start(args: &mut InitArgs<'_>, link: Link<'_>) -> Result<Option<OwnedFd>> {
    match &args.intermediate {
        Some(intermediate) => intermediate::enter(args, intermediate, link)?,
        None => enter(args, link)?,
    }
    set_up(args, link)?;
    if let Some(intermediate) = args.intermediate.as_ref().filter(|by| by.last) {
        make_init_last(args, intermediate, link)?;
    }
    environment::add_listen_pid(&mut args.process);
    await_start(args, link)
}

fn enter(args: &mut InitArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, args.unprivileged).at(Step::Detach)?;
    program::place(args.process.placed).at(Step::Detach)?;
    if args.has_its_cgroup && namespaces::need_nothing_first(&args.namespaces) {
        // A network namespace takes the kernel longer than all the rest: RUNTIME loads the device filter
        // meanwhile.
        namespaces::unshare_rest(&args.namespaces).at(Step::Unshare)?;
        args.namespaces.unshare = Kinds::NONE;
    }
    await_go(args, link)?;
    namespaces::enter(&args.namespaces, args.unprivileged, link)
}

/// In a user namespace that is yet to be made, RUNTIME writes the maps after Go.
pub(crate) fn await_go(args: &InitArgs<'_>, link: Link<'_>) -> Result<()> {
    let hides = args.unprivileged && !args.namespaces.new_user;
    program::await_go(hides, link).at(Step::AwaitGo)
}

fn set_up(args: &mut InitArgs<'_>, link: Link<'_>) -> Result<()> {
    let root = args.rootfs.tree;
    namespaces::unshare_rest(&args.namespaces).at(Step::Unshare)?;
    trees::receive(args.locked_trees, args.unprivileged, link)?;
    let is_init = !is_made_last(args);
    if is_init {
        process::setsid().at(Step::Session)?;
    }
    program::label_keyring(args.procfs, args.keyring, &args.process).at(Step::Keyring)?;
    program::new_keyring(args.keyring).at(Step::Keyring)?;
    namespaces::loopback(&args.namespaces).at(Step::Loopback)?;
    namespaces::ask_for_net_devices(args.net_devices, link).at(Step::NetDevices)?;
    namespaces::set_names(args.hostname, args.domainname)?;
    pivot::cut_host_propagation(&args.rootfs).at(Step::HostPropagation)?;
    pivot::attach_rootfs(&args.rootfs).at(Step::AttachRootfs)?;
    let dev = mounts::mount_all(root, args.mounts, link)?;
    devices::make_all(root, args.devices, dev)?;
    devices::link_all(root, args.device_links, dev)?;
    ask_for_runtime_hooks(args.runtime_hooks, link).at(Step::RuntimeHooks)?;
    hooks::run_create_container(root, &mut args.hooks)?;
    pivot::enter(&args.rootfs, args.procfs).at(Step::Pivot)?;
    program::make_cwd(root, args.process.cwd).at(Step::CreateCwd)?;
    console::open(root, args.process.console.as_ref(), dev).at(Step::Console)?;
    if is_init {
        console::take_control(args.process.console.as_ref()).at(Step::Console)?;
    }
    program::take_own_null(root).at(Step::Stdio)?;
    program::give_stdio(&args.process.credentials).at(Step::Stdio)?;
    mounts::make_readonly(root, args.rootfs.readonly_mounts)?;
    pivot::make_readonly(&args.rootfs).at(Step::ReadonlyRootfs)?;
    program::write_sysctls(args.procfs, args.sysctl)?;
    masks::make_readonly(root, args.readonly_paths)?;
    masks::hide(root, &args.masked)?;
    pivot::set_propagation(&args.rootfs).at(Step::RootPropagation)?;
    let own = own(args);
    // Here, since a filter may forbid it.
    program::end_at_signals().at(Step::Session)?;
    program::settle(root, args.procfs, &mut args.process, &own, link)
}

fn ask_for_runtime_hooks(any: bool, link: Link<'_>) -> runtime_sys::Result<()> {
    if !any {
        return Ok(());
    }
    link.send(Message::RunHooks)?;
    link.expect(Message::HooksDone)
}

fn is_made_last(args: &InitArgs<'_>) -> bool {
    args.intermediate
        .as_ref()
        .is_some_and(|intermediate| intermediate.last)
}

/// Makes INIT where that comes last, and returns in it. Until here nobody in its pid namespace could see it.
fn make_init_last(args: &InitArgs<'_>, intermediate: &IntermediateArgs<'_>, link: Link<'_>) -> Result<()> {
    // What was opened on the way is closed before anybody there can see it.
    if !program::loads_seccomp_early(&args.process) {
        program::close_all_but(&own(args), args.process.inherited).at(Step::CloneInit)?;
    }
    intermediate::make_sibling(Kinds::NONE, intermediate.index, link)?;
    program::end_at_signals().at(Step::Session)?;
    process::setsid().at(Step::Session)?;
    console::take_control(args.process.console.as_ref()).at(Step::Console)
}

/// The descriptors that INIT needs while it waits, and then for its hooks. Where there is none, the link
/// stands for it.
fn own<'a>(args: &InitArgs<'a>) -> [BorrowedFd<'a>; program::OWN] {
    let listener = match args.gate {
        Gate::Socket(listener) => listener,
        Gate::Link => args.link,
    };
    let files = [args.hooks.stdout, args.hooks.stderr];
    let [stdout, stderr] = files.map(|file| match args.hooks.start_container {
        [] => args.link,
        _ => file.unwrap_or(args.link),
    });
    [args.link, listener, stdout, stderr]
}

/// Says Ready and waits. `Some`: `start` has connected, and failures from now on are its to hear.
fn await_start(args: &InitArgs<'_>, link: Link<'_>) -> Result<Option<OwnedFd>> {
    let preserved = args.process.inherited;
    // From here on the death of RUNTIME is no reason to die: `create` ends, and `run` may be detached.
    process::parent_death_signal(None).at(Step::AwaitStart)?;
    let closed_already = program::loads_seccomp_early(&args.process);
    let Gate::Socket(listener) = args.gate else {
        if !closed_already {
            program::close_all_but(&own(args), preserved).at(Step::AwaitStart)?;
        }
        link.send(Message::Ready).at(Step::AwaitStart)?;
        link.expect(Message::Start).at(Step::AwaitStart)?;
        return Ok(None);
    };
    if !closed_already {
        program::close_all_but(&own(args), preserved).at(Step::AwaitStart)?;
    }
    link.send(Message::Ready).at(Step::AwaitStart)?;
    let connection = net::accept(listener).at(Step::AwaitStart)?;
    process::close(link.0).at(Step::AwaitStart)?;
    process::close(listener).at(Step::AwaitStart)?;
    let start = Link(connection.as_fd());
    start.expect(Message::Start).at(Step::AwaitStart)?;
    start.send(Message::Taken).at(Step::AwaitStart)?;
    Ok(Some(connection))
}

/// What comes between `start` and the program.
fn started(args: &mut InitArgs<'_>, link: Link<'_>) -> Result<()> {
    if !program::loads_seccomp_early(&args.process) {
        program::heed_no_file_limit().at(Step::AwaitStart)?;
    }
    program::set_limits(args.process.late_rlimits)?;
    program::load_seccomp_late(&args.process, link).at(Step::Seccomp)?;
    hooks::run_start_container(&args.process.envp, &mut args.hooks)
}

/// Opens the root as the process sees it.
pub(crate) fn open_root() -> runtime_sys::Result<OwnedFd> {
    fs::open_host(c"/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY)
}

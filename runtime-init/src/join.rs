//! Runs in: JOINER and EXEC: `exec`, a process that enters a running container.
//!
//! JOINER is born in the container's cgroup, but outside of its pid namespace, where nobody in the container
//! can see it: a process with CAP_SYS_PTRACE could otherwise take over one that still has the host's root and
//! all capabilities. It enters all namespaces, becomes the user with the capabilities of the program, and
//! only then makes EXEC, its sibling (CLONE_PARENT), in the pid namespace. Where the pid namespace is
//! RUNTIME's own, JOINER goes on as EXEC.

use core::convert::Infallible;

use rustix::fd::AsFd;

use crate::args::JoinProcessArgs;
use crate::report::{self, At, Result};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{console, container_root, intermediate, namespaces, program};
use runtime_sys::memory::Role;
use runtime_sys::namespace::Kinds;
use runtime_sys::{self as sys, SysError, process};

impl Role for JoinProcessArgs<'_> {
    /// The whole life of a joining process: it becomes the program, or reports why not and ends.
    fn run(mut args: JoinProcessArgs<'static>) -> ! {
        let link = Link(args.link);
        let Err(stop) = join_and_execute(&mut args, link);
        stop.report(link)
    }

    fn give_up(args: &JoinProcessArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

fn join_and_execute(args: &mut JoinProcessArgs<'_>, link: Link<'_>) -> Result<Infallible> {
    enter(args, link)?;
    if args.joins_pids {
        make_exec(args, link)?;
    }
    become_program(args, link)
}

/// Runs in: JOINER.
fn enter(args: &mut JoinProcessArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, args.unprivileged).at(Step::Detach)?;
    program::place(args.process.placed).at(Step::Detach)?;
    program::await_go(args.unprivileged, link).at(Step::AwaitGo)?;
    namespaces::join(args.namespaces)?;
    namespaces::become_root(args.become_root).at(Step::BecomeRoot)?;
    program::label_keyring(args.procfs, args.keyring, &args.process).at(Step::Keyring)?;
    program::join_keyring(args.keyring).at(Step::Keyring)?;
    let root = container_root::enter(&args.root).at(Step::Pivot)?;
    console::open(root.as_fd(), args.process.console.as_ref(), None).at(Step::Console)?;
    program::take_own_null(root.as_fd()).at(Step::Stdio)?;
    program::give_stdio(&args.process.credentials).at(Step::Stdio)?;
    let own = [link.0, root.as_fd()];
    program::settle(root.as_fd(), args.procfs, &mut args.process, &own, link)
}

/// Runs in: JOINER. Makes EXEC, and returns in it.
fn make_exec(args: &JoinProcessArgs<'_>, link: Link<'_>) -> Result<()> {
    // Everything that was opened on the way is closed before the container can see it.
    if !program::loads_seccomp_early(&args.process) {
        program::close_all_but(&[link.0], args.process.inherited).at(Step::CloneInit)?;
    }
    intermediate::make_sibling(Kinds::NONE, 0, link)
}

/// Runs in: EXEC. Returns only with the reason why there is no program.
fn become_program(args: &JoinProcessArgs<'_>, link: Link<'_>) -> Result<Infallible> {
    process::setsid().at(Step::Session)?;
    console::take_control(args.process.console.as_ref()).at(Step::Console)?;
    await_start(args, link).at(Step::AwaitStart)?;
    program::set_limits(args.process.late_rlimits)?;
    program::load_seccomp_late(&args.process, link).at(Step::Seccomp)?;
    program::execute(&args.process)
}

fn await_start(args: &JoinProcessArgs<'_>, link: Link<'_>) -> sys::Result<()> {
    process::parent_death_signal(None)?;
    if !program::loads_seccomp_early(&args.process) {
        program::close_all_but(&[link.0], args.process.inherited)?;
    }
    link.send(Message::Ready)?;
    link.expect(Message::Start)
}

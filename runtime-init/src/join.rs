//! Runs in: EXEC, a process that enters a running container. It was born in the container's pid namespace and cgroup.

use core::convert::Infallible;

use rustix::fd::AsFd;

use crate::args::JoinProcessArgs;
use crate::report::{At, Result};
use crate::step::Step;
use crate::sys::{self, fs, mount, process};
use crate::wire::{Link, Message};
use crate::{console, init, namespaces, program};

/// The whole life of a joining process. Never returns: it becomes the program, or reports why not and ends.
pub(crate) fn run(mut args: JoinProcessArgs<'_>) -> ! {
    let link = Link(args.link);
    let stop = match become_program(&mut args, link) {
        Err(stop) => stop,
        Ok(never) => match never {},
    };
    stop.report(link)
}

fn become_program(args: &mut JoinProcessArgs<'_>, link: Link<'_>) -> Result<Infallible> {
    program::detach(args.keep).at(Step::Detach)?;
    link.expect(Message::Go).at(Step::AwaitGo)?;
    namespaces::join(args.namespaces)?;
    namespaces::become_root(args.become_root).at(Step::BecomeRoot)?;
    process::setsid().at(Step::Session)?;
    program::join_keyring(args.keyring).at(Step::Keyring)?;
    enter_root(args).at(Step::Pivot)?;
    let root = init::open_root().at(Step::Pivot)?;
    program::make_cwd(root.as_fd(), args.process.cwd).at(Step::CreateCwd)?;
    console::set_up(root.as_fd(), args.process.console.as_ref()).at(Step::Console)?;
    program::give_stdio(&args.process.credentials).at(Step::Stdio)?;
    program::settle(root.as_fd(), args.procfs, &mut args.process)?;
    await_start(args, link).at(Step::AwaitStart)?;
    program::load_seccomp(&args.process, link).at(Step::Seccomp)?;
    Err(program::execute(&args.process))
}

/// setns(2) into the mount namespace has made its root ours; without one of its own the container is a chroot.
fn enter_root(args: &JoinProcessArgs<'_>) -> sys::Result<()> {
    let Some(root) = args.chroot else { return Ok(()) };
    fs::chdir(root)?;
    mount::chroot_here()
}

fn await_start(args: &JoinProcessArgs<'_>, link: Link<'_>) -> sys::Result<()> {
    process::parent_death_signal(None)?;
    program::close_all_but(&[link.0], args.process.preserve_fds)?;
    link.send(Message::Ready)?;
    link.expect(Message::Start)
}

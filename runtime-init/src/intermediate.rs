//! Runs in: INTERMEDIATE, which exists only where init cannot be made by RUNTIME itself: a new pid namespace
//! that must belong to a joined user namespace, a time namespace whose offsets must be written before anybody
//! is in it, or a pid namespace given by path, whose processes must not see INIT before it is what it is to
//! be. It makes INIT as its sibling (CLONE_PARENT), tells RUNTIME, and ends: in the last case when everything
//! is set up (`init.rs`).

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;

use crate::args::{InitArgs, IntermediateArgs};
use crate::report::{At, Result, refused};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{init, namespaces, program};
use runtime_sys::namespace::Kinds;
use runtime_sys::process::{CloneFlags, Cloned};
use runtime_sys::{self as sys, fs, namespace, process};

/// Enters the namespaces, and returns in INIT; or, where INIT is made last, as INTERMEDIATE still: `init.rs`
/// makes it then.
pub(crate) fn enter(args: &InitArgs<'_>, intermediate: &IntermediateArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, args.unprivileged).at(Step::Detach)?;
    let offsets = open_offsets(args, intermediate).at(Step::TimeOffsets)?;
    init::await_go(args, link)?;
    namespaces::enter(&args.namespaces, args.unprivileged, link)?;
    new_time_namespace(intermediate, offsets).at(Step::TimeOffsets)?;
    if intermediate.last {
        return Ok(());
    }
    make_sibling(intermediate.clone, intermediate.index, link)
}

/// Makes a process that is a child of RUNTIME as we are, in these new namespaces, tells RUNTIME of it, and
/// ends. Returns in the other.
pub(crate) fn make_sibling(namespaces: Kinds, index: u16, link: Link<'_>) -> Result<()> {
    let flags = CloneFlags {
        namespaces,
        flags: libc::CLONE_PARENT as u64,
        cgroup: None,
        exit_signal: 0,
    };
    match process::clone3(flags).at_index(Step::CloneInit, index)? {
        Cloned::Child => {
            process::parent_death_signal(Some(rustix::process::Signal::KILL)).at(Step::CloneInit)?;
            // RUNTIME must know us before it hears us.
            link.expect(Message::Go).at(Step::CloneInit)
        }
        Cloned::Parent(_, pidfd) => {
            link.send_fd(Message::Born, pidfd.as_fd()).at(Step::CloneInit)?;
            process::exit_now(0)
        }
    }
}

/// The file of the time namespace that children will be born in, while it still belongs to us: once the ids
/// are changed, or the process is not dumpable, it is the host root's.
fn open_offsets(args: &InitArgs<'_>, intermediate: &IntermediateArgs<'_>) -> sys::Result<Option<OwnedFd>> {
    if intermediate.time_offsets.is_empty() {
        return Ok(None);
    }
    let procfs = args.procfs.ok_or(refused(rustix::io::Errno::BADF))?;
    fs::open_beneath(procfs, c"self/timens_offsets", OFlags::WRONLY).map(Some)
}

/// Our children are born in the new time namespace; its offsets freeze when the first one is.
fn new_time_namespace(intermediate: &IntermediateArgs<'_>, offsets: Option<OwnedFd>) -> sys::Result<()> {
    if intermediate.unshare.is_empty() {
        return Ok(());
    }
    namespace::unshare(intermediate.unshare)?;
    match offsets {
        Some(file) => fs::write_once(file.as_fd(), intermediate.time_offsets),
        None => Ok(()),
    }
}

//! Runs in: MOUNTER (`run`) and the holder (`hold`). Mounts in a container that runs already, or takes mounts
//! away.
//!
//! MOUNTER joins the container's namespaces, but stays in RUNTIME's pid namespace: nobody in the container
//! can see it, trace it, or reach what it has open. A process in the container may exchange directories
//! meanwhile, so each place is looked up once, below a descriptor of the container's root, and what was found
//! is used.
//!
//! The holder has a mount namespace that belongs to the container's user namespace. Copies of the host's
//! trees that are made there are locked (`trees.rs`), which the container's own mount namespace can no longer
//! give: the host's mounts are gone from it.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::args::{HolderArgs, MounterArgs, MounterWork, RemovalArgs};
use crate::report::{self, At, Result};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{container_root, mounts, namespaces, program};
use runtime_sys::memory::Role;
use runtime_sys::{self as sys, SysError, fs, mount, namespace, process};

impl Role for MounterArgs<'_> {
    /// Runs in: MOUNTER. Says Ready when everything is done, and ends.
    fn run(args: MounterArgs<'static>) -> ! {
        let link = Link(args.link);
        report::end(work(&args, link), link)
    }

    fn give_up(args: &MounterArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

fn work(args: &MounterArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, false).at(Step::Detach)?;
    namespaces::join(args.namespaces)?;
    namespaces::become_root(args.become_root).at(Step::BecomeRoot)?;
    // The change of ids sets it to what fs.suid_dumpable says.
    process::set_undumpable().at(Step::Detach)?;
    let root = container_root::enter(&args.root).at(Step::MountTarget)?;
    match &args.work {
        MounterWork::Add(wanted) => drop(mounts::mount_all(root.as_fd(), wanted, link)?),
        MounterWork::Remove(removals) => {
            for removal in *removals {
                remove(root.as_fd(), removal).at_index(Step::MountTarget, removal.index)?;
            }
        }
    }
    link.send(Message::Ready).at(Step::AwaitStart)
}

/// Through no link at all: one that the container makes meanwhile could lead to what hides something from it.
/// umount2(2) itself refuses what is not a mount point.
fn remove(root: BorrowedFd<'_>, removal: &RemovalArgs<'_>) -> sys::Result<()> {
    let parent = fs::open_in_root_no_links(root, removal.directory, OFlags::PATH | OFlags::DIRECTORY)?;
    fs::chdir(parent.as_fd())?;
    mount::detach_here(removal.name)
}

impl Role for HolderArgs<'_> {
    /// Runs in: the holder. Says Ready when its mount namespace is there, and ends with RUNTIME's end of the
    /// link.
    fn run(args: HolderArgs<'static>) -> ! {
        let link = Link(args.link);
        report::end(hold_namespace(&args, link), link)
    }

    fn give_up(args: &HolderArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

fn hold_namespace(args: &HolderArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, false).at(Step::Detach)?;
    namespaces::join(core::slice::from_ref(&args.user))?;
    process::parent_death_signal(Some(Signal::KILL)).at(Step::LockedTree)?;
    namespace::unshare(namespace::Kinds::MOUNT).at(Step::LockedTree)?;
    link.send(Message::Ready).at(Step::LockedTree)?;
    // RUNTIME never writes: this ends with its end of the link.
    link.receive().map(drop).at(Step::LockedTree)
}

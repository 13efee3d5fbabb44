//! Runs in: CRIU, from the clone to `execve` of criu(8). For a restore it has a mount namespace of its own,
//! in which the places of the container's mounts are made and the rootfs is mounted where criu looks for it:
//! nothing of that is seen on the host, and nothing has to be undone. Does not talk to criu.

use core::convert::Infallible;
use core::ffi::CStr;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{CriuArgs, CriuDirectory, CriuRootArgs};
use crate::report::{self, At, Result, refused};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{paths, program};
use runtime_sys::memory::Role;
use runtime_sys::mount::{self, MountAttr};
use runtime_sys::{self as sys, SysError, credentials, fs, namespace, net, process};

/// What criu makes without a mode of its own is for its user alone.
const UMASK: u32 = 0o077;

impl Role for CriuArgs<'_> {
    /// Becomes criu, or says why not.
    fn run(args: CriuArgs<'static>) -> ! {
        let link = Link(args.link);
        let Err(stop) = become_criu(&args, link);
        stop.report(link)
    }

    fn give_up(args: &CriuArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

fn become_criu(args: &CriuArgs<'_>, link: Link<'_>) -> Result<Infallible> {
    prepare(args, link)?;
    Err(process::execve(args.program, &args.argv, &args.envp)).at(Step::Exec)
}

fn prepare(args: &CriuArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, false).at(Step::Detach)?;
    program::place(args.placed).at(Step::Detach)?;
    program::new_keyring(args.keyring).at(Step::Keyring)?;
    if let Some(root) = &args.root {
        arrange(root)?;
    }
    for directory in args.directories {
        take_directory(directory, args.root.is_some()).at(Step::AwaitStart)?;
    }
    for fd in args.inherit {
        inherit(*fd).at(Step::AwaitStart)?;
    }
    connect(args.socket, link).at(Step::AwaitStart)?;
    credentials::umask(UMASK);
    // criu must come to an end by itself: killed half way through a dump it would leave the container frozen.
    // When RUNTIME dies its next question goes unanswered, and it undoes what it has done.
    process::parent_death_signal(None).at(Step::AwaitStart)
}

/// criu asks the kernel who has made its socket, and opens the directories by their numbers in that process:
/// so that is this one.
fn connect(place: BorrowedFd<'_>, link: Link<'_>) -> sys::Result<()> {
    let (ours, criu) = net::record_pair()?;
    link.send_fd(Message::CriuSocket, ours.as_fd())?;
    process::exchange(criu.as_fd(), place)?;
    inherit(place)
}

/// criu mounts in its directory, which therefore must be one of the mount namespace that it is in.
fn take_directory(directory: &CriuDirectory<'_>, anew: bool) -> sys::Result<()> {
    if anew {
        let found = fs::open_host_no_links(directory.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stat = fs::fstat(found.as_fd())?;
        if (stat.st_dev, stat.st_ino) != directory.identity {
            // Somebody has put something else there since RUNTIME has looked.
            return Err(refused(Errno::STALE));
        }
        process::exchange(found.as_fd(), directory.fd)?;
    }
    inherit(directory.fd)
}

fn inherit(fd: BorrowedFd<'_>) -> sys::Result<()> {
    process::dup_onto(fd, fd.as_raw_fd())
}

fn arrange(args: &CriuRootArgs<'_>) -> Result<()> {
    namespace::unshare(namespace::Kinds::MOUNT).at(Step::Unshare)?;
    mount::mount_setattr_path(c"/", &MountAttr::propagation(libc::MS_SLAVE), true)
        .at(Step::HostPropagation)?;
    attach(args.draft, args.place)?;
    make_places(args)?;
    // With everything on it: criu wants the bare rootfs, and mounts for itself.
    mount::detach(args.place).at(Step::AttachRootfs)?;
    attach(args.rootfs, args.place)
}

fn attach(tree: BorrowedFd<'_>, place: &CStr) -> Result<()> {
    let place = fs::open_host(place, OFlags::PATH | OFlags::DIRECTORY).at(Step::AttachRootfs)?;
    mount::attach(tree, place.as_fd()).at(Step::AttachRootfs)
}

/// What INIT would make on its way: the rootfs may be a fresh copy of the image. One place may be in the tree
/// that is mounted on another.
fn make_places(args: &CriuRootArgs<'_>) -> Result<()> {
    for mount in args.mounts {
        if let Some(link) = mount.link {
            paths::make_link(args.draft, mount.target.path, link).at_index(Step::MountTarget, mount.index)?;
            continue;
        }
        let place = paths::open_target(args.draft, &mount.target).at_index(Step::MountTarget, mount.index)?;
        if let Some(tree) = mount.tree {
            mount::attach(tree, place.as_fd()).at_index(Step::MountAttach, mount.index)?;
        }
    }
    Ok(())
}

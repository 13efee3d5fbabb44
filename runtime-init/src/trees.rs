//! Runs in: INIT (`receive`) and TREES (`run`). Copies of the host's trees for a container with a user namespace.
//!
//! A copy that RUNTIME makes in its own mount namespace could be changed by whoever has CAP_SYS_ADMIN in the
//! container: remounted writable, or unmounted from over what it hides. What INIT's mount namespace has inherited is
//! locked against that (mount_namespaces(7), "Restrictions on mount namespaces"), and so are copies made there. INIT
//! itself may not reach the paths, so TREES, with the rights of RUNTIME, joins INIT's mount namespace for it.
//!
//! A RUNTIME without privileges may not copy any mount. Then TREES also joins the user namespace, which gives it the
//! right to; it stays the same user. What INIT holds before are only the places (O_PATH), not copies.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{TreeSource, TreesArgs};
use crate::program;
use crate::report::{At, Result, refused};
use crate::step::Step;
use crate::sys::{self, fs, mount, namespace, process};
use crate::wire::{Link, Message};

/// Runs in: INIT. Exchanges the descriptors for those of locked trees, under their old numbers.
pub(crate) fn receive(trees: &[BorrowedFd<'_>], unprivileged: bool, link: Link<'_>) -> Result<()> {
    if trees.is_empty() {
        return Ok(());
    }
    ask(unprivileged, link).at(Step::LockedTree)?;
    for (index, old) in trees.iter().enumerate() {
        receive_one(*old, link).at_index(Step::LockedTree, index as u16)?;
    }
    Ok(())
}

/// A RUNTIME without privileges may not look into a process that is not dumpable, so it gets the namespace itself.
fn ask(unprivileged: bool, link: Link<'_>) -> sys::Result<()> {
    if !unprivileged {
        return link.send(Message::NeedTrees);
    }
    let namespace = fs::open_host(c"/proc/self/ns/mnt", OFlags::RDONLY)?;
    link.send_fd(Message::NeedTrees, namespace.as_fd())
}

fn receive_one(old: BorrowedFd<'_>, link: Link<'_>) -> sys::Result<()> {
    match link.receive()? {
        Some((Message::Tree, Some(tree))) => process::exchange(tree.as_fd(), old),
        Some(_) => Err(refused(Errno::PROTO)),
        None => Err(refused(Errno::SRCH)),
    }
}

/// Runs in: TREES. Sends the copies to RUNTIME and ends.
pub(crate) fn run(args: TreesArgs<'_>) -> ! {
    let link = Link(args.link);
    match send_all(&args, link) {
        Err(stop) => stop.report(link),
        Ok(()) => process::exit_now(0),
    }
}

fn send_all(args: &TreesArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, false).at(Step::LockedTree)?;
    for joined in args.namespaces {
        namespace::setns(joined.fd, joined.kind).at(Step::LockedTree)?;
    }
    for (index, source) in args.sources.iter().enumerate() {
        send_one(source, link).at_index(Step::LockedTree, index as u16)?;
    }
    Ok(())
}

fn send_one(source: &TreeSource<'_>, link: Link<'_>) -> sys::Result<()> {
    let tree = copy(source)?;
    link.send_fd(Message::Tree, tree.as_fd())
}

/// Runs in: TREES and INIT. A copy of what RUNTIME has seen at that place.
pub(crate) fn copy(source: &TreeSource<'_>) -> sys::Result<OwnedFd> {
    // The source may itself be a link (`src-nofollow`); the identity tells whether it is.
    let found = fs::open_host_no_links(source.path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = fs::fstat(found.as_fd())?;
    if (stat.st_dev, stat.st_ino) != source.identity {
        // Somebody has put something else there since RUNTIME has looked.
        return Err(refused(Errno::STALE));
    }
    let tree = mount::clone_tree(found.as_fd(), source.recursive)?;
    for (attributes, recursive) in source.attributes {
        mount::mount_setattr(tree.as_fd(), attributes, *recursive)?;
    }
    Ok(tree)
}

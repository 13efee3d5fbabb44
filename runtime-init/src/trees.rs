//! Runs in: INIT (`receive`) and TREES (`run`). Copies of the host's trees for a container with a user
//! namespace.
//!
//! A copy that RUNTIME makes in its own mount namespace could be changed by whoever has CAP_SYS_ADMIN in the
//! container: remounted writable, or unmounted from over what it hides. What INIT's mount namespace has
//! inherited is locked against that (mount_namespaces(7), "Restrictions on mount namespaces"), and so are
//! copies made there. INIT itself may not reach the paths, so TREES, with the rights of RUNTIME, joins INIT's
//! mount namespace for it.
//!
//! Device nodes of a container with a user namespace, which may make none, are made here as well: in a tmpfs
//! that belongs to RUNTIME's user namespace, or they would be dead, and with the owners that the container's
//! ids are on the host.
//!
//! A RUNTIME without privileges may not copy any mount. Then TREES also joins the user namespace, which gives
//! it the right to; it stays the same user. What INIT holds before are only the places (O_PATH), not copies.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{NodeArgs, TreeSource, TreesArgs};
use crate::devices;
use crate::program;
use crate::report::{self, At, Result, refused};
use crate::step::Step;
use crate::wire::{Link, Message};
use runtime_sys::memory::Role;
use runtime_sys::{self as sys, SysError, fs, mount, namespace, process};

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

/// A RUNTIME without privileges may not look into a process that is not dumpable, so it gets the namespace
/// itself.
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

impl Role for TreesArgs<'_> {
    /// Runs in: TREES. Sends the copies to RUNTIME and ends.
    fn run(args: TreesArgs<'static>) -> ! {
        let link = Link(args.link);
        report::end(send_all(&args, link), link)
    }

    fn give_up(args: &TreesArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

fn send_all(args: &TreesArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, false).at(Step::LockedTree)?;
    for joined in args.namespaces {
        namespace::setns(joined.fd, joined.kind).at(Step::LockedTree)?;
    }
    let mut nodes = None;
    let last = args.sources.len().saturating_sub(1);
    for (index, source) in args.sources.iter().enumerate() {
        let at = index as u16;
        let tree = obtain(source, args.label, &mut nodes).at_index(Step::LockedTree, at)?;
        // INIT goes on when it has the last one, and must not find anything over its root then.
        if let Some(nodes) = nodes.take_if(|_| index == last) {
            take_away(&nodes).at_index(Step::LockedTree, at)?;
        }
        link.send_fd(Message::Tree, tree.as_fd())
            .at_index(Step::LockedTree, at)?;
    }
    Ok(())
}

/// `nodes` is where device nodes are made, once there is one.
fn obtain(
    source: &TreeSource<'_>,
    label: Option<(&CStr, Option<&CStr>)>,
    nodes: &mut Option<OwnedFd>,
) -> sys::Result<OwnedFd> {
    match (&source.node, &nodes) {
        (None, _) => copy(source),
        (Some(node), Some(place)) => make_node(place.as_fd(), node, source.path),
        (Some(node), None) => make_node(nodes.insert(place_for_nodes(label)?).as_fd(), node, source.path),
    }
}

/// A tmpfs on top of "/", where no path leads. Before Linux 6.15 only what is mounted somewhere can be
/// copied.
fn place_for_nodes(label: Option<(&CStr, Option<&CStr>)>) -> sys::Result<OwnedFd> {
    let context = mount::fsopen(c"tmpfs")?;
    if let Some((key, value)) = label {
        mount::fsconfig(context.as_fd(), key, value)?;
    }
    mount::fsconfig_create(context.as_fd())?;
    let attributes = mount::ATTR_NOSUID | mount::ATTR_NOEXEC | access_time_of_dev()?;
    let nodes = mount::fsmount(context.as_fd(), attributes)?;
    let root = fs::open_host(c"/", OFlags::PATH)?;
    mount::attach(nodes.as_fd(), root.as_fd())?;
    Ok(nodes)
}

/// That of the host's /dev: criu restores these mounts from the host's nodes, and an access time is locked in
/// a user namespace.
fn access_time_of_dev() -> sys::Result<u64> {
    const ST_NOATIME: i64 = 1 << 10;
    const ST_RELATIME: i64 = 1 << 12;
    let dev = match fs::open_host(c"/dev", OFlags::PATH) {
        Err(error) if error.errno == Errno::NOENT => return Ok(0),
        dev => dev?,
    };
    let flags = fs::fstatfs(dev.as_fd())?.f_flags as i64;
    Ok(match (flags & ST_NOATIME != 0, flags & ST_RELATIME != 0) {
        (true, _) => mount::ATTR_NOATIME,
        (false, true) => 0,
        (false, false) => mount::ATTR_STRICTATIME,
    })
}

fn make_node(place: BorrowedFd<'_>, node: &NodeArgs<'_>, host_path: &CStr) -> sys::Result<OwnedFd> {
    if let Err(error) = fs::mknod(place, node.name, node.file_type, 0, node.device) {
        if devices::is_directory(place, host_path)? {
            // So it is in the container, as /dev/shm, where INIT leaves the entry out, or it cannot mount
            // this.
            return mount::clone_tree(place, false);
        }
        return devices::instead_of(error, Some(host_path), node.file_type, node.device);
    }
    fs::chown_child(place, node.name, node.uid, node.gid)?;
    // The umask is the caller's.
    fs::chmod_child(place, node.name, node.mode)?;
    let made = fs::open_child(place, node.name, OFlags::PATH | OFlags::NOFOLLOW)?;
    mount::clone_tree(made.as_fd(), false)
}

/// The copies stay.
fn take_away(nodes: &OwnedFd) -> sys::Result<()> {
    fs::chdir(nodes.as_fd())?;
    mount::detach_here(c".")
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

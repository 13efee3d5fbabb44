//! Runs in: RUNTIME. Has the host's trees copied in INIT's mount namespace, where the kernel locks them, gives the
//! copies their attributes, and sends them to INIT. The reason is in `runtime_init`, `trees.rs`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use runtime_init::args::{TreeSource, TreesArgs};
use runtime_init::start::start_trees;
use runtime_init::step::Step;
use runtime_init::wire::{Failure, Link, Message};
use rustix::io::Errno;

use super::id_mapped;
use super::launch::Launched;
use crate::plan::Plan;
use crate::prepare::{HostTree, Links, Prepared, PreparedMount, change_rootfs, sys_error};
use crate::{Error, ErrorKind, Result};

/// Copies, changes and sends all of them, in order.
pub(crate) fn send(plan: &Plan, prepared: &Prepared, init: &Launched, link: BorrowedFd<'_>) -> Result<()> {
    let copies = copy(plan, prepared, init.pidfd())?;
    for (tree, copy) in prepared.to_lock.iter().zip(copies) {
        let copy = change(plan, prepared, tree, copy, init.pid).map_err(|error| locate(error, plan, tree))?;
        Link(link)
            .send_fd(Message::Tree, copy.as_fd())
            .map_err(sys_error)?;
    }
    Ok(())
}

fn copy(plan: &Plan, prepared: &Prepared, init: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let links = Links::new()?;
    let mut keep = [links.child.as_raw_fd(), init.as_raw_fd()];
    keep.sort_unstable();
    let sources: Vec<_> = prepared
        .to_lock
        .iter()
        .map(|tree| TreeSource {
            path: &tree.path,
            identity: tree.identity,
            recursive: tree.recursive,
        })
        .collect();
    let args = TreesArgs {
        link: links.child.as_fd(),
        keep: &keep,
        init,
        sources: &sources,
    };
    // Killed and reaped when it is dropped, if it has not ended by then.
    let _helper = Launched::new(start_trees(args).map_err(sys_error)?);
    drop(links.child);
    let link = Link(links.runtime.as_fd());
    let mut copies = Vec::with_capacity(sources.len());
    while copies.len() < sources.len() {
        match link.receive().map_err(sys_error)? {
            Some((Message::Tree, Some(tree))) => copies.push(tree),
            Some((Message::Failure(failure), _)) => return Err(explain(failure, plan, prepared)),
            _ => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "the copying of mounts ended half way",
                ));
            }
        }
    }
    Ok(copies)
}

fn explain(failure: Failure, plan: &Plan, prepared: &Prepared) -> Error {
    debug_assert_eq!(failure.step, Step::LockedTree);
    let error = Error::os(failure.call.name(), failure.errno).doing("copy a tree of the host");
    let Some(tree) = prepared.to_lock.get(usize::from(failure.index)) else {
        return error;
    };
    let error = locate(error, plan, tree);
    match failure.errno {
        Errno::STALE => error.hint("it was replaced while the container was created"),
        Errno::INVAL if !tree.recursive => error.hint(
            "something is mounted below it, which must not come to light in a user namespace: use rbind",
        ),
        _ => error,
    }
}

fn locate(error: Error, plan: &Plan, tree: &HostTree) -> Error {
    let path = tree.path.to_string_lossy().into_owned();
    match tree.mount.and_then(|place| plan.mounts.get(place)) {
        Some(mount) => error.field(format!("mounts[{}]", mount.index)).path(path),
        None => error.field("root.path").path(path),
    }
}

fn change(plan: &Plan, prepared: &Prepared, tree: &HostTree, copy: OwnedFd, init: i32) -> Result<OwnedFd> {
    let Some(mount) = tree.mount.and_then(|place| plan.mounts.get(place)) else {
        change_rootfs(plan, &copy)?;
        return Ok(copy);
    };
    let prepared_copy = PreparedMount {
        tree: Some(copy),
        is_directory: false,
    };
    prepared_copy.change(mount)?;
    let Some(copy) = prepared_copy.tree else {
        unreachable!("it was put there above")
    };
    id_mapped::apply_one(plan, prepared, mount, &copy, init)?;
    Ok(copy)
}

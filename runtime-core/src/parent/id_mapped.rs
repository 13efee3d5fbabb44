//! Runs in: RUNTIME, between `clone3` and Go. Id-mapped mounts (mount_setattr(2), MOUNT_ATTR_IDMAP): the
//! mapping is a user namespace, the container's own or one made for it. The trees are shared with the child
//! by descriptor.

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::LinuxIdMapping;
use runtime_init::args::NamespaceHolderArgs;
use runtime_init::start::Birth;
use runtime_sys::mount::{self, ATTR_IDMAP, MountAttr};
use runtime_sys::namespace::Kinds;
use rustix::fd::AsRawFd;

use super::child::Launched;
use super::id_maps::write_maps;
use crate::error::{CallResult, ErrorResult};
use crate::plan::Plan;
use crate::plan::mounts::{MountIdMap, MountPlan};
use crate::plan::namespaces::UserNamespace;
use crate::prepare::{Links, Prepared, PreparedMount, Use};
use crate::{Cancel, Error, ErrorKind, Result};

/// Writes the maps of the child's new user namespace, and gives the mounts theirs, which may be the same.
pub(crate) fn map_ids(plan: &Plan, prepared: &Prepared, launched: &Launched, cancel: &Cancel) -> Result<()> {
    if let UserNamespace::New { uids, gids } = &plan.namespaces.user {
        write_maps(launched.pid, uids, gids, cancel)?;
    }
    apply(plan, prepared, launched.pid)
}

/// Maps every mount that asks for it, but those whose trees are still to be exchanged.
fn apply(plan: &Plan, prepared: &Prepared, init: i32) -> Result<()> {
    for (place, mount) in plan.mounts.iter().enumerate() {
        let is_exchanged = prepared
            .to_lock
            .iter()
            .any(|tree| tree.used_for == Use::Mount(place));
        match prepared.mounts.get(place).and_then(|mount| mount.tree.as_ref()) {
            Some(tree) if !is_exchanged => apply_one(mount, tree, joined(plan, prepared), init)?,
            _ => {}
        }
    }
    Ok(())
}

/// Maps a tree that INIT has copied inside the rootfs, for the mount that is the `number`th of those.
pub(crate) fn apply_inside(
    plan: &Plan,
    prepared: &Prepared,
    number: usize,
    tree: &OwnedFd,
    init: i32,
) -> Result<()> {
    let is_inside =
        |(mount, held): &(&MountPlan, &PreparedMount)| mount.id_map.is_some() && held.inside.is_some();
    let mut mounts = plan.mounts.iter().zip(&prepared.mounts).filter(is_inside);
    match mounts.nth(number) {
        Some((mount, _)) => apply_one(mount, tree, joined(plan, prepared), init),
        None => Err(Error::new(
            ErrorKind::Internal,
            "init asked for the id mapping of a mount that is not in the plan",
        )),
    }
}

/// The user namespace given by path, if there is one.
pub(super) fn joined<'a>(plan: &Plan, prepared: &'a Prepared) -> Option<&'a OwnedFd> {
    prepared.joins.get(plan.namespaces.place_of_joined(Kinds::USER)?)
}

/// Maps one mount, if it asks for it. The container's user namespace is `joined`, or the one that `init` is
/// in.
pub(super) fn apply_one(
    mount: &MountPlan,
    tree: &OwnedFd,
    joined: Option<&OwnedFd>,
    init: i32,
) -> Result<()> {
    let Some(map) = &mount.id_map else { return Ok(()) };
    let at = |error: Error| error.with_field(format!("mounts[{}].uidMappings", mount.index));
    let namespace = user_namespace(joined, map, init).map_err(at)?;
    self::map(tree, &namespace, map.recursive).map_err(|error| at(explain(error)))
}

fn explain(error: runtime_sys::SysError) -> Error {
    match error.errno {
        rustix::io::Errno::INVAL => Error::from(error)
            .with_kind(ErrorKind::Unsupported)
            .with_hint("the file system of the source, or of a mount below it, cannot be id-mapped"),
        rustix::io::Errno::PERM => Error::from(error)
            .with_kind(ErrorKind::Denied)
            .with_hint("an id-mapped mount needs CAP_SYS_ADMIN over the source's file system"),
        _ => Error::from(error),
    }
}

fn user_namespace(joined: Option<&OwnedFd>, map: &MountIdMap, init: i32) -> Result<OwnedFd> {
    if let Some((uids, gids)) = &map.mappings {
        return new_user_namespace(uids, gids);
    }
    match joined {
        Some(namespace) => namespace.try_clone().call("dup"),
        None => open_namespace(init),
    }
}

/// A user namespace with these mappings and nobody in it.
pub(crate) fn new_user_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let links = Links::new()?;
    let args = NamespaceHolderArgs {
        link: links.child.as_fd(),
    };
    let holder = Launched::start(Birth::NEW_USER, &args)?;
    // Only root makes such mounts, and needs no program for it that would have to be waited for.
    write_maps(holder.pid, uids, gids, &Cancel::default())?;
    open_namespace(holder.pid)
}

/// Gives a detached tree the mapping of a user namespace.
pub(crate) fn map(tree: &OwnedFd, namespace: &OwnedFd, recursive: bool) -> runtime_sys::Result<()> {
    let attr = MountAttr {
        set: ATTR_IDMAP,
        userns_fd: namespace.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    mount::mount_setattr(tree.as_fd(), &attr, recursive)
}

fn open_namespace(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
        .call("open")
        .path(path)
}

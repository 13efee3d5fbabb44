//! Runs in: RUNTIME. Has the host's trees copied in INIT's mount namespace, where the kernel locks them,
//! gives the copies their attributes, and sends them to INIT. The reason is in `runtime_init`, `trees.rs`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use runtime_init::args::{JoinArgs, NodeArgs, TreeSource, TreesArgs};
use runtime_init::start::Birth;
use runtime_init::step::Step;
use runtime_init::wire::{Failure, Link, Message};
use runtime_sys::namespace::Kinds;
use runtime_sys::{Call, namespace};
use rustix::io::Errno;

use super::child::Launched;
use super::helper::Helper;
use super::id_mapped;
use crate::error::{CallResult, ErrorResult};
use crate::host::user_namespace::id_map;
use crate::plan::Plan;
use crate::plan::mount_label::MountLabel;
use crate::prepare::{HostTree, Links, NewNode, Prepared, Use, change_mount, change_rootfs, trees};
use crate::{Cancel, Error, ErrorKind, Result};

/// Copies, changes and sends all of them, in order.
pub(crate) fn send(
    plan: &Plan,
    prepared: &Prepared,
    init: &Launched,
    mounts: Option<OwnedFd>,
    link: BorrowedFd<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let way = Way::new(init.pidfd(), mounts.as_ref())?;
    // One after the other: INIT holds as many descriptors, and RUNTIME does already.
    let maps = Maps::of(&prepared.to_lock, init.pid)?;
    copy_each(
        plan,
        &prepared.to_lock,
        &way.joins(),
        &maps,
        cancel,
        |tree, copy| {
            change(plan, prepared, tree, &copy, init.pid).map_err(|error| {
                let located = locate(error, plan, tree);
                match located.errno() {
                    Some(Errno::PERM) => located.with_hint(
                        "in a user namespace the kernel locks the access-time options of the host's mounts",
                    ),
                    _ => located,
                }
            })?;
            // It may stand still with all that it has not taken yet.
            cancel.wait_writable(link)?;
            Link(link)
                .send_fd(Message::Tree, copy.as_fd())
                .map_err(Error::from)
        },
    )
}

/// How TREES gets into INIT's mount namespace.
enum Way<'a> {
    Pidfd(BorrowedFd<'a>),
    /// The mount namespace, and the user namespace that owns it if it is not RUNTIME's own.
    Namespaces(BorrowedFd<'a>, Option<OwnedFd>),
}

impl<'a> Way<'a> {
    fn new(init: BorrowedFd<'a>, mounts: Option<&'a OwnedFd>) -> Result<Self> {
        let Some(mounts) = mounts.map(AsFd::as_fd) else {
            return Ok(Self::Pidfd(init));
        };
        let owner = namespace::owner(mounts)?;
        let theirs = rustix::fs::fstat(&owner).call("fstat")?;
        let path = "/proc/self/ns/user";
        let ours = rustix::fs::stat(path).call("stat").path(path)?;
        let is_other = (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino);
        Ok(Self::Namespaces(mounts, is_other.then_some(owner)))
    }

    fn joins(&self) -> Vec<JoinArgs<'_>> {
        let join = |fd, kind| JoinArgs { index: 0, fd, kind };
        match self {
            Self::Pidfd(init) => vec![join(*init, Kinds::MOUNT)],
            Self::Namespaces(mounts, owner) => owner
                .as_ref()
                .map(|owner| join(owner.as_fd(), Kinds::USER))
                .into_iter()
                .chain([join(*mounts, Kinds::MOUNT)])
                .collect(),
        }
    }
}

/// Copies of all of them, in order, as whoever has these namespaces may have them.
pub(super) fn copy(
    plan: &Plan,
    trees: &[HostTree],
    namespaces: &[JoinArgs<'_>],
    cancel: &Cancel,
) -> Result<Vec<OwnedFd>> {
    let mut copies = Vec::with_capacity(trees.len());
    copy_each(plan, trees, namespaces, &Maps::default(), cancel, |_, copy| {
        copies.push(copy);
        Ok(())
    })?;
    Ok(copies)
}

fn copy_each(
    plan: &Plan,
    trees: &[HostTree],
    namespaces: &[JoinArgs<'_>],
    maps: &Maps,
    cancel: &Cancel,
    mut take: impl FnMut(&HostTree, OwnedFd) -> Result<()>,
) -> Result<()> {
    let links = Links::new()?;
    let keep = links.kept_with(namespaces.iter().map(|join| join.fd.as_raw_fd()));
    let sources: Vec<_> = trees
        .iter()
        .map(|tree| TreeSource {
            path: &tree.path,
            identity: tree.identity,
            recursive: tree.recursive,
            attributes: &tree.attributes,
            node: tree.node.as_ref().map(|node| maps.view(node)),
        })
        .collect();
    let label = plan.mount_label.as_ref().map(MountLabel::option);
    let args = TreesArgs {
        link: links.child.as_fd(),
        keep: &keep,
        namespaces,
        sources: &sources,
        label: label
            .as_ref()
            .map(|(key, value)| (key.as_c_str(), value.as_deref())),
    };
    let helper = Helper::start(Birth::default(), &args, links.runtime)?;
    drop(links.child);
    for tree in trees {
        match helper.receive(cancel)? {
            Some((Message::Tree, Some(copy))) => take(tree, copy)?,
            Some((Message::Failure(failure), _)) => return Err(explain(failure, plan, trees)),
            _ => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "the copying of mounts ended half way",
                ));
            }
        }
    }
    Ok(())
}

/// The ids of the container's user namespace, if there is a node whose owner they say.
#[derive(Default)]
struct Maps {
    uids: String,
    gids: String,
}

impl Maps {
    fn of(trees: &[HostTree], init: i32) -> Result<Self> {
        if !trees.iter().any(|tree| tree.node.is_some()) {
            return Ok(Self::default());
        }
        let read = |file| {
            let path = format!("/proc/{init}/{file}");
            std::fs::read_to_string(&path).call("read").path(path)
        };
        Ok(Self {
            uids: read("uid_map")?,
            gids: read("gid_map")?,
        })
    }

    fn view<'a>(&self, node: &'a NewNode) -> NodeArgs<'a> {
        /// Nobody, in the container as well.
        const UNMAPPED: u32 = 65534;
        NodeArgs {
            name: &node.name,
            file_type: node.file_type,
            mode: node.mode,
            device: node.device,
            uid: id_map::outside(&self.uids, node.uid).unwrap_or(UNMAPPED),
            gid: id_map::outside(&self.gids, node.gid).unwrap_or(UNMAPPED),
        }
    }
}

fn explain(failure: Failure, plan: &Plan, trees: &[HostTree]) -> Error {
    let error = Error::os(failure.call.name(), failure.errno);
    // It may not have come as far as that: it leaves the host program's memory behind first.
    let tree = trees.get(usize::from(failure.index));
    let Some(tree) = tree.filter(|_| failure.step == Step::LockedTree) else {
        return error.doing("copy a tree of the host");
    };
    if tree.node.is_some() {
        return locate(error.doing("make a device"), plan, tree);
    }
    let error = locate(error.doing("copy a tree of the host"), plan, tree);
    match failure.errno {
        Errno::STALE => error.with_hint(trees::REPLACED),
        Errno::INVAL if !tree.recursive => error.with_hint(
            "something is mounted below it, which must not come to light in a user namespace: use rbind",
        ),
        Errno::PERM if failure.call == Call::MountSetattr => error.with_hint(
            "in a user namespace no option may take away ro, nosuid, nodev or noexec of the host's mount, or change its atime",
        ),
        _ => error,
    }
}

pub(super) fn locate(error: Error, plan: &Plan, tree: &HostTree) -> Error {
    let error = error.with_path(tree.path.to_string_lossy().as_ref());
    let number = |place: usize| plan.mounts.get(place).map_or(0, |mount| mount.index);
    match tree.used_for {
        Use::Rootfs => error.with_field("root.path"),
        Use::Mount(place) => error.with_field(format!("mounts[{}]", number(place))),
        Use::Device(place) => match plan.devices.nodes.get(place) {
            Some(device) => error.with_field(device.field.clone()),
            None => error.with_field("linux.devices"),
        },
        Use::Mask => error.with_field("linux.maskedPaths"),
    }
}

/// What RUNTIME may change itself; else TREES has done it (`HostTree::attributes`).
fn change(plan: &Plan, prepared: &Prepared, tree: &HostTree, copy: &OwnedFd, init: i32) -> Result<()> {
    if plan.unprivileged {
        return Ok(());
    }
    match tree.used_for {
        Use::Rootfs => change_rootfs(plan, copy),
        Use::Mount(place) => match plan.mounts.get(place) {
            Some(mount) => {
                change_mount(mount, copy)?;
                id_mapped::apply_one(mount, copy, id_mapped::joined(plan, prepared), init)
            }
            None => Ok(()),
        },
        Use::Device(_) | Use::Mask => Ok(()),
    }
}

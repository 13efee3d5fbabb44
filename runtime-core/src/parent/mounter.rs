//! Runs in: RUNTIME. Mounts for a container that runs already: copies of the host's trees, and MOUNTER, which
//! puts them there or takes mounts away. How it does that is in `runtime_init`, `mounter.rs`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use oci_spec::runtime::Spec;
use runtime_init::args::{HolderArgs, JoinArgs, MounterArgs, MounterWork, RemovalArgs, RootArgs};
use runtime_init::start::Birth;
use runtime_init::wire::Failure;
use runtime_sys::Call;
use runtime_sys::namespace::Kinds;
use rustix::io::Errno;

use super::explain::{self, Subject};
use super::helper::Helper;
use super::{id_mapped, locked_trees, views};
use crate::host::cgroup::CgroupManager;
use crate::host::facts::resolve_directory;
use crate::plan::Plan;
use crate::prepare::{Links, PreparedMount, Use, change_mount, trees};
use crate::{Cancel, Error, Result};

/// What ends half way, if MOUNTER or the holder does.
const WORK: &str = "the process that changes the mounts";

/// A container's process, and which of its namespaces are others than RUNTIME's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside<'a> {
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    /// These.
    pub kinds: Kinds,
    /// The container's root.
    pub root: RootArgs<'a>,
}

impl<'a> Inside<'a> {
    fn has_users(self) -> bool {
        self.kinds.has(Kinds::USER)
    }

    fn join(self, kind: Kinds) -> JoinArgs<'a> {
        JoinArgs {
            index: 0,
            fd: self.pidfd,
            kind,
        }
    }
}

/// A mount point to take away.
#[derive(Debug)]
pub(crate) struct Removal {
    /// Place in the list.
    pub index: u16,
    /// Directory part; "." for the root.
    pub directory: CString,
    pub name: CString,
}

/// Mounts all of `plan.mounts`, which are those of `spec`.
pub(crate) fn add(plan: &Plan, spec: &Spec, inside: Inside<'_>, cgroup: &CgroupManager) -> Result<()> {
    let mounts = prepare(plan, inside, cgroup)?;
    let options = views::all_option_views(plan);
    let args = views::mount_views(plan, &mounts, &options);
    let trees = mounts.iter().filter_map(|mount| mount.tree.as_ref());
    let trees: Vec<_> = trees.map(AsRawFd::as_raw_fd).collect();
    run(inside, trees, MounterWork::Add(&args), |failure| {
        let subject = Subject {
            process: &plan.process,
            container: Some((plan, spec)),
        };
        explain::explain(subject, inside.pid, failure, None)
    })
}

/// Takes the mounts away, in order.
pub(crate) fn remove(removals: &[Removal], inside: Inside<'_>) -> Result<()> {
    let args: Vec<_> = removals
        .iter()
        .map(|removal| RemovalArgs {
            index: removal.index,
            directory: &removal.directory,
            name: &removal.name,
        })
        .collect();
    run(inside, Vec::new(), MounterWork::Remove(&args), |failure| {
        explain_removal(removals, failure)
    })
}

fn explain_removal(removals: &[Removal], failure: Failure) -> Error {
    let error = Error::os(failure.call.name(), failure.errno).doing("remove a mount");
    let Some(removal) = removals.iter().find(|removal| removal.index == failure.index) else {
        return error;
    };
    let error = error.with_field(format!("mounts[{}]", removal.index)).with_path(
        format!(
            "/{}/{}",
            removal.directory.to_string_lossy(),
            removal.name.to_string_lossy()
        )
        .replace("/./", "/"),
    );
    match (failure.call, failure.errno) {
        (Call::Umount, Errno::INVAL) => {
            error.with_hint("it is no mount point, or one that the kernel locks in a user namespace")
        }
        (Call::Open, Errno::LOOP) => error.with_hint("symbolic links are not followed here"),
        _ => error,
    }
}

/// What RUNTIME holds for them: trees that are ready to be mounted.
fn prepare(plan: &Plan, inside: Inside<'_>, cgroup: &CgroupManager) -> Result<Vec<PreparedMount>> {
    // It may be gone.
    let rootfs = resolve_directory(&plan.rootfs.path).ok();
    let mut mounts = trees::mounts(plan, cgroup, trees::TreePolicy::of_mounter(rootfs.as_deref()))?;
    if inside.has_users() {
        lock(plan, &mut mounts, inside)?;
    }
    for (mount, prepared) in plan.mounts.iter().zip(&mounts) {
        if let Some(tree) = &prepared.tree {
            id_mapped::apply_one(mount, tree, None, inside.pid)?;
        }
    }
    Ok(mounts)
}

/// Exchanges the trees for locked ones.
fn lock(plan: &Plan, mounts: &mut [PreparedMount], inside: Inside<'_>) -> Result<()> {
    let to_lock = trees::mounts_to_lock(plan, mounts)?;
    if to_lock.is_empty() {
        return Ok(());
    }
    let links = Links::new()?;
    let keep = links.kept_with([inside.pidfd.as_raw_fd()]);
    let args = HolderArgs {
        link: links.child.as_fd(),
        keep: &keep,
        user: inside.join(Kinds::USER),
    };
    let holder = Helper::start(Birth::default(), &args, links.runtime)?;
    drop(links.child);
    holder.await_ready(WORK, |failure| {
        Error::os(failure.call.name(), failure.errno).doing("make a mount namespace for the copies")
    })?;
    let join = JoinArgs {
        index: 0,
        fd: holder.process.pidfd(),
        kind: Kinds::MOUNT,
    };
    let copies = locked_trees::copy(plan, &to_lock, &[join], &Cancel::default())?;
    for (tree, copy) in to_lock.iter().zip(copies) {
        let Use::Mount(place) = tree.used_for else {
            continue;
        };
        let (Some(mount), Some(prepared)) = (plan.mounts.get(place), mounts.get_mut(place)) else {
            continue;
        };
        change_mount(mount, &copy).map_err(|error| locked_trees::locate(error, plan, tree))?;
        prepared.tree = Some(copy);
    }
    Ok(())
}

/// Has MOUNTER do the work.
fn run(
    inside: Inside<'_>,
    trees: Vec<RawFd>,
    work: MounterWork<'_>,
    explain: impl FnOnce(Failure) -> Error,
) -> Result<()> {
    let links = Links::new()?;
    let root = inside.root.instead.map(|root| root.as_raw_fd());
    let keep = links.kept_with(trees.into_iter().chain([inside.pidfd.as_raw_fd()]).chain(root));
    // Children of these two would be born there, and MOUNTER has none.
    const OF_CHILDREN: Kinds = Kinds::PID.with(Kinds::TIME);
    let args = MounterArgs {
        link: links.child.as_fd(),
        keep: &keep,
        namespaces: &[inside.join(inside.kinds.without(OF_CHILDREN))],
        become_root: inside.has_users(),
        root: inside.root,
        work,
    };
    let mounter = Helper::start(Birth::default(), &args, links.runtime)?;
    drop(links.child);
    mounter.await_ready(WORK, explain)
}

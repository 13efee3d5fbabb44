//! Runs in: RUNTIME, before `clone3`. Copies of the host's mounts as detached trees (open_tree(2)): nothing is attached
//! anywhere, so nobody sees them, and they are gone when their descriptors are closed.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use runtime_init::args::EnterRoot;
use runtime_init::sys::mount::{self, MountAttr};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::host::cgroup::CgroupManager;
use crate::host::facts::resolve_directory;
use crate::plan::mounts::{MountPlan, MountSource};
use crate::plan::{Plan, c_string};
use crate::{Error, ErrorKind, Result};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A tree of the host that has to be copied once more, in INIT's mount namespace (`runtime_init`, `trees.rs`).
#[derive(Debug)]
pub(crate) struct HostTree {
    /// `None`: the rootfs; else the place in `plan.mounts`.
    pub mount: Option<usize>,
    /// Absolute, without links.
    pub path: CString,
    /// Device and inode.
    pub identity: (u64, u64),
    pub recursive: bool,
}

/// The trees of the host that must be locked in the container: all, if it has a user namespace and a mount namespace
/// of its own. Something without a path (a namespace file, say) is a single file, and has nothing to lock.
pub(super) fn to_lock(plan: &Plan, rootfs: &CStr) -> Result<Vec<HostTree>> {
    let mut trees = Vec::new();
    if !plan.namespaces.is_user_namespaced() || plan.namespaces.unshare & libc::CLONE_NEWNS as u32 == 0 {
        return Ok(trees);
    }
    let rootfs_path = Path::new(OsStr::from_bytes(rootfs.to_bytes()));
    trees.extend(host_tree(
        None,
        &open_path(rootfs_path, OFlags::DIRECTORY)?,
        true,
    )?);
    for (place, mount) in plan.mounts.iter().enumerate() {
        let MountSource::Bind { path, recursive, .. } = &mount.source else {
            continue;
        };
        let at = |error: Error| error.field(format!("mounts[{}]", mount.index)).path(path);
        let source = open_path(path, OFlags::empty()).map_err(at)?;
        trees.extend(host_tree(Some(place), &source, *recursive).map_err(at)?);
    }
    Ok(trees)
}

fn host_tree(mount: Option<usize>, source: &OwnedFd, recursive: bool) -> Result<Option<HostTree>> {
    let stat = rustix::fs::fstat(source).map_err(|errno| Error::os("fstat", errno))?;
    let link = format!("/proc/self/fd/{}", source.as_raw_fd());
    let path = std::fs::read_link(&link).map_err(|error| Error::io("readlink", &error).path(link))?;
    let path = c_string(path.into_os_string().into_encoded_bytes(), "mounts")?;
    let has_path = path.as_bytes().starts_with(b"/") && !path.as_bytes().ends_with(b" (deleted)");
    Ok(has_path.then_some(HostTree {
        mount,
        path,
        identity: (stat.st_dev, stat.st_ino),
        recursive,
    }))
}

/// What RUNTIME holds for one mount.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    /// The tree to mount; for a cgroup mount the one to fall back to.
    pub tree: Option<OwnedFd>,
    /// Whether a directory (not a file) is made where the destination is missing.
    pub is_directory: bool,
}

/// The rootfs tree, and its path without links.
pub(super) fn rootfs(plan: &Plan) -> Result<(OwnedFd, CString)> {
    let path = &plan.rootfs.path;
    let at = |error: Error| error.field("root.path").path(path);
    let resolved = resolve_directory(path).map_err(|error| match error.errno() {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            at(Error::os("open", error.errno().unwrap_or(Errno::NOENT)).with_kind(ErrorKind::Invalid))
                .hint("the rootfs must be an existing directory")
        }
        _ => at(error),
    })?;
    if resolved == Path::new("/") {
        return Err(at(Error::new(
            ErrorKind::Invalid,
            "the host's root cannot be the container's",
        )));
    }
    let directory = open_path(&resolved, OFlags::DIRECTORY).map_err(at)?;
    let resolved = c_string(resolved.as_os_str().as_bytes(), "root.path")?;
    if plan.rootfs.enter == EnterRoot::Chroot {
        return Ok((directory, resolved));
    }
    let tree = mount::clone_tree(directory.as_fd(), true)
        .map_err(sys_error)
        .map_err(at)?;
    change_rootfs(plan, &tree).map_err(at)?;
    Ok((tree, resolved))
}

/// Gives a copy of the rootfs its propagation.
pub(crate) fn change_rootfs(plan: &Plan, tree: &OwnedFd) -> Result<()> {
    set_propagation(tree, plan.rootfs.copy_propagation)?;
    if plan.rootfs.copy_propagation != 0 {
        return Ok(());
    }
    // pivot_root(2) wants no shared mount for the new root; those below it stay peers of the host's.
    mount::mount_setattr(tree.as_fd(), &MountAttr::propagation(libc::MS_PRIVATE), false).map_err(sys_error)
}

fn set_propagation(tree: &OwnedFd, propagation: u64) -> Result<()> {
    if propagation == 0 {
        return Ok(());
    }
    mount::mount_setattr(tree.as_fd(), &MountAttr::propagation(propagation), true).map_err(sys_error)
}

/// The trees of `mounts`.
pub(super) fn mounts(plan: &Plan, cgroup: &CgroupManager) -> Result<Vec<PreparedMount>> {
    let prepare = |mount: &MountPlan| {
        let result = prepare_mount(mount, plan, cgroup);
        result.map_err(|error| match error.spec_field() {
            Some(_) => error,
            None => error.field(format!("mounts[{}]", mount.index)),
        })
    };
    plan.mounts.iter().map(prepare).collect()
}

fn prepare_mount(mount: &MountPlan, plan: &Plan, cgroup: &CgroupManager) -> Result<PreparedMount> {
    match &mount.source {
        MountSource::Bind {
            path,
            recursive,
            must_be_procfs,
        } => {
            let source = open_path(path, OFlags::empty())?;
            if *must_be_procfs {
                check_is_procfs(&source).map_err(|error| error.path(path))?;
            }
            let prepared = copy_of(source, *recursive).map_err(|error| error.path(path))?;
            prepared.change(mount).map_err(|error| error.path(path))?;
            Ok(prepared)
        }
        MountSource::Cgroup(_) => {
            let path = match (plan.namespaces.has_own_cgroups, cgroup.cgroup()) {
                (true, Some(cgroup)) => cgroup.path().to_owned(),
                _ => crate::host::cgroup::mount_point()?,
            };
            let source = open_path(&path, OFlags::DIRECTORY)?;
            let prepared = copy_of(source, false).map_err(|error| error.path(&path))?;
            let MountSource::Cgroup(new) = &mount.source else {
                return Ok(prepared);
            };
            let slave = MountAttr {
                set: new.attributes,
                propagation: libc::MS_SLAVE,
                ..MountAttr::default()
            };
            prepared.apply(&slave, false).map_err(|error| error.path(&path))?;
            prepared.change(mount).map_err(|error| error.path(&path))?;
            Ok(prepared)
        }
        _ => Ok(PreparedMount {
            tree: None,
            is_directory: true,
        }),
    }
}

fn check_is_procfs(source: &OwnedFd) -> Result<()> {
    let found = rustix::fs::fstatfs(source).map_err(|errno| Error::os("fstatfs", errno))?;
    if found.f_type as i64 == PROC_SUPER_MAGIC {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        "cannot be mounted on /proc because it is not of type proc",
    ))
}

fn copy_of(source: OwnedFd, recursive: bool) -> Result<PreparedMount> {
    let stat = rustix::fs::fstat(&source).map_err(|errno| Error::os("fstat", errno))?;
    let tree = mount::clone_tree(source.as_fd(), recursive).map_err(sys_error)?;
    Ok(PreparedMount {
        tree: Some(tree),
        is_directory: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
    })
}

impl PreparedMount {
    pub(crate) fn change(&self, mount: &MountPlan) -> Result<()> {
        // Read-only must come after an id mapping, which RUNTIME adds once the user namespace is there.
        mount
            .attributes
            .iter()
            .try_for_each(|(attr, recursive)| self.apply(attr, *recursive))
    }

    fn apply(&self, attr: &MountAttr, recursive: bool) -> Result<()> {
        match &self.tree {
            Some(tree) => mount::mount_setattr(tree.as_fd(), attr, recursive).map_err(sys_error),
            None => Ok(()),
        }
    }
}

/// The host's nodes, where the container's user namespace may not make its own.
pub(super) fn device_nodes(plan: &Plan) -> Result<Vec<Option<OwnedFd>>> {
    let prepare = |device: &crate::plan::devices::DevicePlan| {
        let Some(path) = &device.host_path else {
            return Ok(None);
        };
        let at = |error: Error| error.field(device.field.clone()).path(path);
        let node = open_path(path, OFlags::NOFOLLOW).map_err(at)?;
        let stat = rustix::fs::fstat(&node).map_err(|errno| at(Error::os("fstat", errno)))?;
        if stat.st_rdev != device.device || stat.st_mode & libc::S_IFMT != device.file_type {
            let message = "the host's file is another device, and none can be made in a user namespace";
            return Err(at(Error::new(ErrorKind::Invalid, message)));
        }
        let tree = mount::clone_tree(node.as_fd(), false)
            .map_err(sys_error)
            .map_err(at)?;
        set_propagation(&tree, libc::MS_PRIVATE).map_err(at)?;
        Ok(Some(tree))
    };
    plan.devices.nodes.iter().map(prepare).collect()
}

/// A mount of /dev/null for masked files: verified, since one that is something else would show it (CVE-2025-31133).
pub(super) fn null(plan: &Plan) -> Result<Option<OwnedFd>> {
    if plan.rootfs.masked_paths.is_empty() {
        return Ok(None);
    }
    let path = Path::new("/dev/null");
    let at = |error: Error| error.field("linux.maskedPaths").path(path);
    let null = open_path(path, OFlags::NOFOLLOW).map_err(at)?;
    let stat = rustix::fs::fstat(&null).map_err(|errno| at(Error::os("fstat", errno)))?;
    if stat.st_rdev != rustix::fs::makedev(1, 3) || stat.st_mode & libc::S_IFMT != libc::S_IFCHR {
        return Err(at(Error::new(ErrorKind::Internal, "is not the null device")));
    }
    let tree = mount::clone_tree(null.as_fd(), false)
        .map_err(sys_error)
        .map_err(at)?;
    set_propagation(&tree, libc::MS_PRIVATE).map_err(at)?;
    Ok(Some(tree))
}

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::os("open", errno).path(path))
}

/// A failed call of the shared wrappers, as an error of ours.
pub(crate) fn sys_error(error: runtime_init::sys::SysError) -> Error {
    Error::os(error.call.name(), error.errno)
}

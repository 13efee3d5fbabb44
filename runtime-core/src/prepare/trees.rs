//! Runs in: RUNTIME, before `clone3`. Copies of the host's mounts as detached trees (open_tree(2)): nothing
//! is attached anywhere, so nobody sees them, and they are gone when their descriptors are closed.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use runtime_init::args::{EnterRoot, Links};
use runtime_sys::fs::identity;
use runtime_sys::mount::{self, MountAttr};
use runtime_sys::namespace::Kinds;
use runtime_sys::process::limit;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{CallResult, ErrorResult};
use crate::host::cgroup::CgroupManager;
use crate::host::facts::resolve_directory;
use crate::host::mount::mount_table::MountTable;
use crate::plan::devices::DevicePlan;
use crate::plan::mounts::{MountPlan, MountSource, SourceLink};
use crate::plan::rootfs::rest_inside;
use crate::plan::{Plan, c_string};
use crate::{Error, ErrorKind, Result};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// How many links are followed, as the kernel's own limit.
const MAX_LINKS: usize = 40;
/// Why what is found at a path is refused.
pub(crate) const REPLACED: &str = "it was replaced while the container was created";

/// A tree of the host that has to be copied in INIT's mount namespace (`runtime_init`, `trees.rs`).
#[derive(Debug)]
pub(crate) struct HostTree {
    pub used_for: Use,
    /// Absolute, without links.
    pub path: CString,
    /// Device and inode.
    pub identity: (u64, u64),
    pub recursive: bool,
    /// What RUNTIME may not change on the copy itself.
    pub attributes: Vec<(MountAttr, bool)>,
    /// A device node to make instead of a copy. `path` is then where the container has it, and nothing is
    /// looked for.
    pub node: Option<NewNode>,
}

/// A device node that TREES makes.
#[derive(Debug)]
pub(crate) struct NewNode {
    pub name: CString,
    pub file_type: u32,
    pub mode: u32,
    pub device: rustix::fs::Dev,
    /// In the container.
    pub uid: u32,
    /// In the container.
    pub gid: u32,
}

/// What a copied tree is for; numbers are places in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Rootfs,
    Mount(usize),
    Device(usize),
    Mask,
}

/// The trees of the host that must be locked in the container: all, if it has a user namespace and a mount
/// namespace of its own. Something without a path (a namespace file, say) is a single file, and has nothing
/// to lock.
pub(super) fn to_lock(
    plan: &Plan,
    rootfs: (&OwnedFd, &CStr),
    mounts: &[PreparedMount],
) -> Result<Vec<HostTree>> {
    let mut trees = Vec::new();
    if !plan.namespaces.is_user_namespaced() || !plan.namespaces.unshare.has(Kinds::MOUNT) {
        return Ok(trees);
    }
    trees.push(HostTree {
        used_for: Use::Rootfs,
        path: rootfs.1.to_owned(),
        identity: file_identity(rootfs.0)?,
        recursive: true,
        attributes: Vec::new(),
        node: None,
    });
    trees.extend(mounts_to_lock(plan, mounts)?);
    for (place, device) in plan.devices.nodes.iter().enumerate() {
        trees.extend(node_to_make(place, device)?);
    }
    Ok(trees)
}

fn node_to_make(place: usize, device: &DevicePlan) -> Result<Option<HostTree>> {
    let Some(path) = device.host_path.as_ref().filter(|_| device.is_made) else {
        return Ok(None);
    };
    Ok(Some(HostTree {
        used_for: Use::Device(place),
        path: c_string(path.as_os_str().as_bytes(), device.field.clone())?,
        identity: (0, 0),
        recursive: false,
        attributes: Vec::new(),
        node: Some(NewNode {
            name: c_string(place.to_string(), device.field.clone())?,
            file_type: device.file_type,
            mode: device.mode,
            device: device.device,
            uid: device.uid,
            gid: device.gid,
        }),
    }))
}

/// Those of `mounts` alone.
pub(crate) fn mounts_to_lock(plan: &Plan, mounts: &[PreparedMount]) -> Result<Vec<HostTree>> {
    let mut trees = Vec::new();
    for (place, (mount, prepared)) in plan.mounts.iter().zip(mounts).enumerate() {
        let (Some((path, recursive)), true) = (host_source(mount), prepared.tree.is_some()) else {
            continue;
        };
        let at = |error: Error| {
            error
                .with_field(format!("mounts[{}]", mount.index))
                .with_path(path)
        };
        let source = open_path(path, source_flags(mount)).map_err(at)?;
        let tree = host_tree(Use::Mount(place), &source, recursive).map_err(at)?;
        refuse_replaced(tree.as_ref(), prepared.tree.as_ref()).map_err(at)?;
        trees.extend(tree);
    }
    Ok(trees)
}

/// All trees of the host, where RUNTIME may copy none: `Prepared` holds their places (O_PATH) so far.
pub(super) fn to_copy(plan: &Plan, prepared: &super::Prepared) -> Result<Vec<HostTree>> {
    let mut trees = Vec::new();
    if !plan.namespaces.has_own_mounts {
        return Ok(trees);
    }
    let mut add = |used_for,
                   place: &OwnedFd,
                   recursive,
                   attributes: Vec<(MountAttr, bool)>,
                   error: &dyn Fn(Error) -> Error| {
        let tree = host_tree(used_for, place, recursive).map_err(error)?;
        let tree = tree.ok_or_else(|| error(without_path()))?;
        trees.push(HostTree { attributes, ..tree });
        Result::Ok(())
    };
    let private = || vec![(MountAttr::propagation(libc::MS_PRIVATE), false)];
    add(
        Use::Rootfs,
        &prepared.rootfs,
        true,
        rootfs_attributes(plan),
        &|error| error.with_field("root.path"),
    )?;
    for (place, (mount, held)) in plan.mounts.iter().zip(&prepared.mounts).enumerate() {
        let Some(tree) = &held.tree else { continue };
        let recursive = host_source(mount).is_some_and(|(_, recursive)| recursive);
        add(
            Use::Mount(place),
            tree,
            recursive,
            mount_attributes(mount),
            &|error| error.with_field(format!("mounts[{}]", mount.index)),
        )?;
    }
    for (place, (device, node)) in plan.devices.nodes.iter().zip(&prepared.device_nodes).enumerate() {
        let Some(node) = node else { continue };
        add(
            Use::Device(place),
            node,
            false,
            vec![(mount::DEVICE_NODE, false)],
            &|error| error.with_field(device.field.clone()),
        )?;
    }
    if let Some(null) = &prepared.null {
        add(Use::Mask, null, false, private(), &|error| {
            error.with_field("linux.maskedPaths")
        })?;
    }
    Ok(trees)
}

fn without_path() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "what has no path cannot be mounted without CAP_SYS_ADMIN",
    )
}

/// What of the host a mount shows, and whether with all below; `None` for a new file system with nothing
/// instead.
fn host_source(mount: &MountPlan) -> Option<(&Path, bool)> {
    match &mount.source {
        MountSource::Bind { path, recursive, .. } => Some((path, *recursive)),
        MountSource::New(new) => new.instead.as_deref().map(|path| (path, true)),
        _ => None,
    }
}

/// How the source of a mount is opened.
fn source_flags(mount: &MountPlan) -> OFlags {
    match &mount.source {
        MountSource::Bind {
            link: SourceLink::Itself | SourceLink::Copy,
            ..
        } => OFlags::NOFOLLOW,
        _ => OFlags::empty(),
    }
}

/// All changes of the copy that is mounted, in order.
fn mount_attributes(mount: &MountPlan) -> Vec<(MountAttr, bool)> {
    let mut attributes = match &mount.source {
        MountSource::New(new) | MountSource::Cgroup(new) => new.attributes_instead(),
        _ => Vec::new(),
    };
    attributes.extend_from_slice(&mount.attributes);
    attributes
}

fn rootfs_attributes(plan: &Plan) -> Vec<(MountAttr, bool)> {
    match plan.rootfs.copy_propagation {
        // pivot_root(2) wants no shared mount for the new root; those below it stay peers of the host's.
        0 => vec![(MountAttr::propagation(libc::MS_PRIVATE), false)],
        propagation => vec![(MountAttr::propagation(propagation), true)],
    }
}

/// Device and inode.
fn file_identity(file: &OwnedFd) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file).call("fstat")?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What is copied once more must be what the first copy is of, which was looked at.
fn refuse_replaced(found: Option<&HostTree>, first: Option<&OwnedFd>) -> Result<()> {
    let (Some(found), Some(first)) = (found, first) else {
        return Ok(());
    };
    if found.identity == file_identity(first)? {
        return Ok(());
    }
    Err(Error::os("open", Errno::STALE).with_hint(REPLACED))
}

fn host_tree(used_for: Use, source: &OwnedFd, recursive: bool) -> Result<Option<HostTree>> {
    let path = c_string(path_of(source)?.into_os_string().into_encoded_bytes(), "mounts")?;
    let has_path = path.as_bytes().starts_with(b"/") && !path.as_bytes().ends_with(b" (deleted)");
    Ok(has_path.then_some(HostTree {
        used_for,
        path,
        identity: file_identity(source)?,
        recursive,
        attributes: Vec::new(),
        node: None,
    }))
}

fn path_of(file: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(&link).call("readlink").path(link)
}

/// A procfs that is yet to be made: what fsopen(2) has given.
#[derive(Debug)]
pub(crate) struct ProcfsContext {
    pub fd: OwnedFd,
    /// Device and inode of the pid namespace that it must show: where it comes from a process that others
    /// could reach.
    pub must_show: Option<(u64, u64)>,
}

/// What RUNTIME holds for one mount.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    /// The tree to mount; for a new file system what is mounted instead if it is refused. Only the place of
    /// it (O_PATH) where RUNTIME may not copy mounts.
    pub tree: Option<OwnedFd>,
    /// What INIT copies itself, when it is its turn.
    pub late: Option<HostTree>,
    /// A path inside the rootfs: INIT mounts what lies there when it is the mount's turn.
    pub inside: Option<CString>,
    /// What a symbolic link says that is made at the destination, with nothing mounted.
    pub link: Option<CString>,
    /// Whether a directory (not a file) is made where the destination is missing.
    pub is_directory: bool,
    /// Whether the host's mount of the source is read-only itself, where places are to be made below it.
    pub is_readonly: bool,
    /// A procfs that is yet to be made, where its pid namespace is given by path.
    pub context: Option<ProcfsContext>,
}

/// The rootfs tree, and its path without links.
pub(crate) fn rootfs(plan: &Plan) -> Result<(OwnedFd, CString)> {
    let path = &plan.rootfs.path;
    let at = |error: Error| error.with_field("root.path").with_path(path);
    let resolved = resolve_directory(path).map_err(|error| match error.errno() {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            at(Error::os("open", error.errno().unwrap_or(Errno::NOENT)).with_kind(ErrorKind::Invalid))
                .with_hint("the rootfs must be an existing directory")
        }
        _ => at(error),
    })?;
    if resolved == Path::new("/") {
        return Err(at(Error::new(
            ErrorKind::Invalid,
            "the host's root cannot be the container's",
        )));
    }
    let directory = open_no_links(&resolved).map_err(at)?;
    let resolved = c_string(resolved.as_os_str().as_bytes(), "root.path")?;
    if plan.rootfs.enter == EnterRoot::Chroot {
        return Ok((directory, resolved));
    }
    if plan.unprivileged {
        return Ok((directory, resolved));
    }
    let tree = mount::clone_tree(directory.as_fd(), true)
        .map_err(Error::from)
        .map_err(at)?;
    change_rootfs(plan, &tree).map_err(at)?;
    Ok((tree, resolved))
}

/// Gives a copy of the rootfs its propagation.
pub(crate) fn change_rootfs(plan: &Plan, tree: &OwnedFd) -> Result<()> {
    change(tree, &rootfs_attributes(plan))
}

/// Gives a copy of the source of a mount its attributes. Read-only must come after an id mapping, which
/// RUNTIME adds once the user namespace is there.
pub(crate) fn change_mount(mount: &MountPlan, tree: &OwnedFd) -> Result<()> {
    change(tree, &mount_attributes(mount))
}

fn change(tree: &OwnedFd, attributes: &[(MountAttr, bool)]) -> Result<()> {
    attributes.iter().try_for_each(|(attr, recursive)| {
        mount::mount_setattr(tree.as_fd(), attr, *recursive).map_err(Error::from)
    })
}

/// How many trees may be held, one descriptor each, and which are not left to INIT beyond that.
#[derive(Debug)]
pub(crate) struct TreePolicy<'a> {
    left: usize,
    /// What INIT finds below it is not what RUNTIME sees there; `None` where it is not INIT that mounts.
    rootfs: Option<&'a Path>,
    /// Whether a source inside the rootfs is left to whoever mounts.
    leaves_inside: bool,
}

/// Descriptors for all else, in RUNTIME and in its child.
const OTHERS: usize = 64;

impl<'a> TreePolicy<'a> {
    /// For `create` and `run`.
    pub(super) fn new(plan: &Plan, rootfs: &'a CStr) -> Result<Self> {
        let (soft, _) = limit(libc::RLIMIT_NOFILE)?;
        let limit = usize::try_from(soft).unwrap_or(usize::MAX);
        let wanted = plan.mounts.len() + plan.devices.nodes.len() + OTHERS;
        // So far from the limit that nobody has to count.
        let left = match wanted < limit / 2 {
            true => usize::MAX,
            false => limit.saturating_sub(open_files()? + plan.devices.nodes.len() + OTHERS),
        };
        Ok(Self {
            left,
            rootfs: Some(Path::new(OsStr::from_bytes(rootfs.to_bytes()))),
            leaves_inside: true,
        })
    }

    /// For `mounts add`: every tree is held, and is what the host has, but no link of the container's leads
    /// there.
    pub(crate) fn of_mounter(rootfs: Option<&'a Path>) -> Self {
        Self {
            left: usize::MAX,
            rootfs,
            leaves_inside: false,
        }
    }

    /// For `restore`: criu mounts again what has come from inside the rootfs.
    pub(crate) fn of_restore() -> Self {
        Self {
            leaves_inside: true,
            ..Self::of_mounter(None)
        }
    }

    /// Whether INIT would copy the same, in its own mount namespace and before the first mount there.
    fn may_wait(&self, plan: &Plan, mount: &MountPlan, tree: &HostTree) -> bool {
        let has_own = plan.namespaces.unshare.has(Kinds::MOUNT);
        let is_bind = matches!(
            mount.source,
            MountSource::Bind {
                must_be_procfs: false,
                ..
            }
        );
        // INIT's are slaves of the host's: a copy of one could not be in the host's peer group.
        let leaves_group = |(attr, recursive): &(MountAttr, bool)| *recursive && attr.propagation != 0;
        let is_shared = |(attr, _): &(MountAttr, bool)| attr.propagation == libc::MS_SHARED;
        let is_apart = mount.attributes.iter().any(leaves_group) && !mount.attributes.iter().any(is_shared);
        let path = Path::new(OsStr::from_bytes(tree.path.to_bytes()));
        let may_enter = !plan.namespaces.is_user_namespaced() && !plan.unprivileged;
        has_own
            && may_enter
            && is_bind
            && is_apart
            && mount.id_map.is_none()
            && self.rootfs.is_some_and(|rootfs| !path.starts_with(rootfs))
    }
}

fn open_files() -> Result<usize> {
    let path = "/proc/self/fd";
    let entries = std::fs::read_dir(path).call("open").path(path)?;
    Ok(entries.count())
}

/// The trees of `mounts`. Those that may not be held any more are left to INIT, if it can copy them as well.
pub(crate) fn mounts(
    plan: &Plan,
    cgroup: &CgroupManager,
    mut policy: TreePolicy<'_>,
) -> Result<Vec<PreparedMount>> {
    let prepare = |mount: &MountPlan| {
        let result = prepare_mount(mount, plan, cgroup, &policy);
        if let Ok(PreparedMount { tree: Some(_), .. }) = result {
            policy.left = policy.left.saturating_sub(1);
        }
        result.map_err(|error| match error.field() {
            Some(_) => error,
            None => error.with_field(format!("mounts[{}]", mount.index)),
        })
    };
    plan.mounts.iter().map(prepare).collect()
}

fn prepare_mount(
    mount: &MountPlan,
    plan: &Plan,
    cgroup: &CgroupManager,
    policy: &TreePolicy<'_>,
) -> Result<PreparedMount> {
    match &mount.source {
        MountSource::Bind { .. } => prepare_bind(mount, plan, policy),
        MountSource::Cgroup(_) => prepare_cgroup(mount, plan, cgroup, policy),
        MountSource::New(new) => match &new.instead {
            Some(path) => match open_path(path, OFlags::DIRECTORY) {
                Ok(source) => copy(mount, plan, source, path, true, policy),
                // Then there is only what was asked for.
                Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => {
                    Ok(PreparedMount::without_tree())
                }
                Err(error) => Err(error),
            },
            None => Ok(PreparedMount::without_tree()),
        },
        _ => Ok(PreparedMount::without_tree()),
    }
}

fn copy(
    mount: &MountPlan,
    plan: &Plan,
    source: OwnedFd,
    path: &Path,
    recursive: bool,
    policy: &TreePolicy<'_>,
) -> Result<PreparedMount> {
    prepare_copy(mount, plan, source, recursive, policy).path(path)
}

fn prepare_bind(mount: &MountPlan, plan: &Plan, policy: &TreePolicy<'_>) -> Result<PreparedMount> {
    let MountSource::Bind {
        path,
        recursive,
        inside,
        link,
        must_be_procfs,
    } = &mount.source
    else {
        return Ok(PreparedMount::without_tree());
    };
    let source = match find_source(path, inside.as_deref(), source_flags(mount), policy)? {
        Source::Host(source) => source,
        Source::Inside(inside) => {
            return Ok(PreparedMount {
                inside: Some(inside),
                ..PreparedMount::without_tree()
            });
        }
    };
    if *link == SourceLink::Copy
        && let Some(text) = read_if_link(&source).path(path)?
    {
        if mount.links == Links::Refuse {
            // What stands there must be the kernel's; a link leads where the image says.
            let error = Error::invalid(
                format!("mounts[{}].options", mount.index),
                "no link can be copied to this place",
            );
            return Err(error.with_path(path));
        }
        return Ok(PreparedMount {
            link: Some(text),
            ..PreparedMount::without_tree()
        });
    }
    if *must_be_procfs {
        check_is_procfs(&source).path(path)?;
    }
    copy(mount, plan, source, path, *recursive, policy)
}

fn prepare_cgroup(
    mount: &MountPlan,
    plan: &Plan,
    cgroup: &CgroupManager,
    policy: &TreePolicy<'_>,
) -> Result<PreparedMount> {
    let has_own = plan.namespaces.has_own_cgroups;
    // No tree of a cgroup that is not there yet. The host's would show what is not the container's.
    if has_own && cgroup.is_awaited() {
        return Ok(PreparedMount::without_tree());
    }
    // Only a user namespace is ever refused a cgroup2 of its own. A tree that nobody attaches costs a grace
    // period (RCU) of the kernel when it is closed.
    if has_own && !plan.namespaces.is_user_namespaced() && !plan.process.is_rootless {
        return Ok(PreparedMount::without_tree());
    }
    let path = match (has_own, cgroup.cgroup()) {
        (true, Some(cgroup)) => cgroup.path().to_owned(),
        // There is nothing that would show what it would have shown.
        (true, None) => return Ok(PreparedMount::without_tree()),
        _ => crate::host::cgroup::mount_point()?,
    };
    let source = open_path(&path, OFlags::DIRECTORY)?;
    copy(mount, plan, source, &path, false, policy)
}

/// Where the source of a bind mount is.
enum Source {
    /// Outside of the rootfs: nothing that INIT mounts changes it.
    Host(OwnedFd),
    /// Inside, and not to be looked up before it is the mount's turn (ADR 7).
    Inside(CString),
}

fn find_source(path: &Path, inside: Option<&CStr>, flags: OFlags, policy: &TreePolicy<'_>) -> Result<Source> {
    if let Some(inside) = inside.filter(|_| policy.leaves_inside) {
        return Ok(Source::Inside(inside.to_owned()));
    }
    let Some(rootfs) = policy.rootfs else {
        return open_path(path, flags).map(Source::Host);
    };
    // Before it is opened: a link of the image would lead out of it again.
    if let Some(rest) = inside.map(CStr::to_owned).or_else(|| rest_below(path, rootfs)) {
        return match policy.leaves_inside {
            true => Ok(Source::Inside(rest)),
            false => open_inside(rootfs, &rest, flags).map(Source::Host),
        };
    }
    let found = open_path(path, flags)?;
    let inside = path_of(&found)?.strip_prefix(rootfs).ok().and_then(rest_inside);
    let inside = inside.filter(|_| policy.leaves_inside);
    Ok(inside.map_or(Source::Host(found), Source::Inside))
}

/// A path below the rootfs, whose links lead nowhere else.
fn open_inside(rootfs: &Path, rest: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let root = open_no_links(rootfs)?;
    let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, rest, flags, Mode::empty(), resolve)
        .call("openat2")
        .path(rest.to_string_lossy().as_ref())
}

/// The rest of a path below the rootfs, links of the host followed up to there; `None` if it does not lead
/// there. What is below is not looked at.
fn rest_below(path: &Path, rootfs: &Path) -> Option<CString> {
    let mut todo = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(rest) = todo.strip_prefix(rootfs) {
            return rest_inside(rest);
        }
        todo = follow_first_link(&todo)?;
    }
    None
}

/// The path with its first link replaced by what it says.
fn follow_first_link(path: &Path) -> Option<PathBuf> {
    let mut done = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        match component {
            Component::ParentDir => {
                done.pop();
                continue;
            }
            component => done.push(component),
        }
        if let Ok(link) = std::fs::read_link(&done) {
            done.pop();
            return Some(done.join(link).join(components.as_path()));
        }
    }
    // None was left: the path as it is without "..", if that is another.
    (done != path).then_some(done)
}

/// What a symbolic link says; `None` for anything else. Of what is open: a path that is looked up a second
/// time may have become a link, which is not to be followed.
fn read_if_link(file: &OwnedFd) -> Result<Option<CString>> {
    match rustix::fs::readlinkat(file, "", Vec::new()) {
        Ok(text) => Ok(Some(text)),
        // The empty path says ENOENT where it is no link (readlink(2)).
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::os("readlinkat", errno)),
    }
}

fn check_is_procfs(source: &OwnedFd) -> Result<()> {
    let found = rustix::fs::fstatfs(source).call("fstatfs")?;
    if found.f_type as i64 == PROC_SUPER_MAGIC {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        "cannot be mounted on /proc because it is not of type proc",
    ))
}

/// By the mount table: statfs(2) would ask a file server, and one that hangs never answers. A mount of
/// another namespace, which is not in the table, is taken for read-only.
fn is_readonly(source: &OwnedFd) -> Result<bool> {
    let found = identity(source.as_fd())?;
    Ok(MountTable::of(None)?.is_readonly(found.mount).unwrap_or(true))
}

fn prepare_copy(
    mount: &MountPlan,
    plan: &Plan,
    source: OwnedFd,
    recursive: bool,
    policy: &TreePolicy<'_>,
) -> Result<PreparedMount> {
    let stat = rustix::fs::fstat(&source).call("fstat")?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // The table may be long: only where it matters.
    let is_readonly = mount.places_below && is_readonly(&source)?;
    if policy.left == 0
        && let Some(tree) = host_tree(Use::Mount(mount.index.into()), &source, recursive)?
        && policy.may_wait(plan, mount, &tree)
    {
        return Ok(PreparedMount {
            late: Some(tree),
            is_directory,
            ..PreparedMount::without_tree()
        });
    }
    let tree = if plan.unprivileged {
        source
    } else {
        let tree = mount::clone_tree(source.as_fd(), recursive)?;
        change_mount(mount, &tree)?;
        tree
    };
    Ok(PreparedMount {
        tree: Some(tree),
        late: None,
        inside: None,
        link: None,
        is_directory,
        is_readonly,
        context: None,
    })
}

impl PreparedMount {
    fn without_tree() -> Self {
        Self {
            tree: None,
            late: None,
            inside: None,
            link: None,
            is_directory: true,
            is_readonly: false,
            context: None,
        }
    }
}

/// The host's nodes, where the container's user namespace may not make its own.
pub(super) fn device_nodes(plan: &Plan) -> Result<Vec<Option<OwnedFd>>> {
    let prepare = |device: &DevicePlan| {
        let Some(path) = &device.host_path else {
            return Ok(None);
        };
        let at = |error: Error| error.with_field(device.field.clone()).with_path(path);
        if device.is_made {
            // Only a number, which INIT exchanges.
            return open_path(Path::new("/"), OFlags::empty()).map(Some).map_err(at);
        }
        let node = open_path(path, OFlags::NOFOLLOW).map_err(at)?;
        let stat = rustix::fs::fstat(&node).map_err(|errno| at(Error::os("fstat", errno)))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // So it is in the container, as /dev/shm, or INIT is refused what it then tries.
            return Ok(None);
        }
        if stat.st_rdev != device.device || stat.st_mode & libc::S_IFMT != device.file_type {
            let message = "the host's file is another device, and none can be made in a user namespace";
            return Err(at(Error::new(ErrorKind::Invalid, message)));
        }
        attached_copy(plan, node, &mount::DEVICE_NODE)
            .map(Some)
            .map_err(at)
    };
    plan.devices.nodes.iter().map(prepare).collect()
}

/// A mount of /dev/null for masked files: verified, since one that is something else would show it
/// (CVE-2025-31133).
pub(super) fn null(plan: &Plan) -> Result<Option<OwnedFd>> {
    if plan.rootfs.masked_paths.is_empty() {
        return Ok(None);
    }
    let path = Path::new("/dev/null");
    let at = |error: Error| error.with_field("linux.maskedPaths").with_path(path);
    let null = open_path(path, OFlags::NOFOLLOW).map_err(at)?;
    let stat = rustix::fs::fstat(&null).map_err(|errno| at(Error::os("fstat", errno)))?;
    if stat.st_rdev != rustix::fs::makedev(1, 3) || stat.st_mode & libc::S_IFMT != libc::S_IFCHR {
        return Err(at(Error::new(ErrorKind::Internal, "is not the null device")));
    }
    let private = MountAttr::propagation(libc::MS_PRIVATE);
    attached_copy(plan, null, &private).map(Some).map_err(at)
}

fn attached_copy(plan: &Plan, file: OwnedFd, attributes: &MountAttr) -> Result<OwnedFd> {
    if plan.unprivileged {
        return Ok(file);
    }
    let tree = mount::clone_tree(file.as_fd(), false)?;
    change(&tree, &[(*attributes, false)])?;
    Ok(tree)
}

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .call("open")
        .path(path)
}

/// A directory by a path that is resolved already.
fn open_no_links(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)
        .call("openat2")
        .path(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_the_host_are_followed_as_far_as_the_rootfs() {
        let dir = std::env::temp_dir().join(format!("onggi-rest-below-{}", std::process::id()));
        let rootfs = dir.join("b/rootfs");
        std::fs::create_dir_all(&rootfs).unwrap();
        symlink("b/rootfs/data", dir.join("relative")).unwrap();
        symlink(dir.join("relative"), dir.join("chain")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        symlink("/etc", rootfs.join("of-the-image")).unwrap();
        let cases: [(&str, Option<&CStr>); 9] = [
            ("b/rootfs/x/y", Some(c"x/y")),
            ("b/./rootfs/../rootfs/x", None),
            ("relative", Some(c"data")),
            ("relative/sub", Some(c"data/sub")),
            ("chain/sub", Some(c"data/sub")),
            ("b/../chain", Some(c"data")),
            // What the image says is for INIT to read.
            ("b/rootfs/of-the-image/passwd", Some(c"of-the-image/passwd")),
            ("loop/x", None),
            ("b/elsewhere", None),
        ];
        let results: Vec<_> = cases
            .iter()
            .map(|(path, _)| rest_below(&dir.join(path), &rootfs))
            .collect();
        std::fs::remove_dir_all(&dir).unwrap();
        for ((path, inside), result) in cases.iter().zip(results) {
            assert_eq!(result.as_deref(), *inside, "{path}");
        }
    }
}

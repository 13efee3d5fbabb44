//! Runs in: RUNTIME. Which mounts of a container criu leaves to the host, and by which names. The names are
//! those of runc, so that either runtime restores what the other has saved: the place in the container, and
//! `/dev/null` for masked files and devices.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime_init::args::Links;
use rustix::fs::{Mode, OFlags};

use super::paths::{clean_path, path_bytes};
use super::rpc::ExternalMount;
use crate::error::{CallResult, ErrorResult};
use crate::host::mount::mount_table::{ContainerMounts, MountTable};
use crate::plan::Plan;
use crate::plan::devices::DevicePlan;
use crate::plan::mounts::{MountPlan, MountSource, SourceLink};
use crate::{Error, ErrorKind, Result};

const NULL: &str = "/dev/null";

/// criu would mount them without their mapping, and files would belong to the wrong ids.
pub(crate) fn refuse_id_mapped(plan: &Plan) -> Result<()> {
    let Some(mount) = plan.mounts.iter().find(|mount| mount.id_map.is_some()) else {
        return Ok(());
    };
    let field = format!("mounts[{}].options", mount.index);
    let error = Error::invalid(field, "criu cannot save and restore id-mapped mounts");
    Err(error.with_kind(ErrorKind::Unsupported))
}

/// For a dump: from the places in the container, as it is now, to names.
pub(crate) fn of_dump(plan: &Plan, pid: i32) -> Result<Vec<ExternalMount>> {
    refuse_links(plan)?;
    let mounts = ContainerMounts::open(pid)?;
    let host = MountTable::of(None)?;
    let mut external = Vec::new();
    for (target, source, recursive) in binds(plan) {
        let Some((place, _)) = mounts.at(target)? else {
            continue;
        };
        for rest in submounts(&host, source, recursive) {
            let place = place.join(&rest);
            if mounts.table.has(&place) {
                external.push(entry(&place, &place));
            }
        }
        external.push(entry(&place, &place));
    }
    refuse_stacks(&mounts.table, &external)?;
    for path in &plan.rootfs.masked_paths {
        if let Some((place, stat)) = mounts.at(path)?
            && stat.st_mode & libc::S_IFMT == libc::S_IFCHR
        {
            external.push(entry(&place, Path::new(NULL)));
        }
    }
    external.extend(mounted_nodes(plan, &mounts)?);
    Ok(external)
}

/// Devices that are mounts: in a user namespace, and where INIT was refused mknod(2), which only the
/// container itself shows.
fn mounted_nodes(plan: &Plan, mounts: &ContainerMounts) -> Result<Vec<ExternalMount>> {
    let mut nodes = Vec::new();
    for device in &plan.devices.nodes {
        let name = device_path(device);
        let path = CString::new(path_bytes(&name))
            .map_err(|_| Error::new(ErrorKind::Internal, "a device with a null byte").with_path(&name))?;
        if let Some((place, stat)) = mounts.at(&path)?
            && stat.st_mode & libc::S_IFMT == device.file_type
        {
            nodes.push(entry(&place, &name));
        }
    }
    Ok(nodes)
}

/// For a restore: from names to the host's paths. The places have been made, so links in the rootfs can be
/// followed.
pub(crate) fn of_restore(plan: &Plan) -> Result<Vec<ExternalMount>> {
    refuse_links(plan)?;
    let host = MountTable::of(None)?;
    let mut external = vec![entry(Path::new(NULL), Path::new(NULL))];
    for (target, source, recursive) in binds(plan) {
        let clean = clean_path(source);
        let named = Path::new("/").join(OsStr::from_bytes(target.to_bytes()));
        let resolved = resolve(&plan.rootfs.path, target).filter(|resolved| *resolved != named);
        for place in [Some(named), resolved].into_iter().flatten() {
            for rest in submounts(&host, source, recursive) {
                external.push(entry(&place.join(&rest), &clean.join(&rest)));
            }
            external.push(entry(&place, &clean));
        }
    }
    for device in &plan.devices.nodes {
        let instead = device
            .instead
            .as_ref()
            .map(|path| Path::new(OsStr::from_bytes(path.to_bytes())));
        if let Some(host_path) = device.host_path.as_deref().or(instead) {
            external.push(entry(&device_path(device), &clean_path(host_path)));
        }
    }
    Ok(external)
}

fn binds(plan: &Plan) -> impl Iterator<Item = (&CStr, &Path, bool)> {
    plan.mounts.iter().filter_map(|mount| match &mount.source {
        // Then there is a link in the rootfs, and no mount.
        MountSource::Bind {
            link: SourceLink::Copy,
            path,
            ..
        } if path.is_symlink() => None,
        // It is a copy of a mount that is the container's own, which criu knows from there.
        MountSource::Bind { inside: Some(_), .. } => None,
        MountSource::Bind { path, recursive, .. } => {
            Some((mount.target.as_c_str(), path.as_path(), *recursive))
        }
        _ => None,
    })
}

/// criu binds by mount(2), which follows links at both ends.
fn refuse_links(plan: &Plan) -> Result<()> {
    let is_kept = |mount: &&MountPlan| {
        let link = match &mount.source {
            MountSource::Bind { link, .. } => *link,
            _ => SourceLink::Follow,
        };
        link == SourceLink::Itself || mount.links == Links::KeepLast
    };
    match plan.mounts.iter().find(is_kept) {
        None => Ok(()),
        Some(mount) => Err(Error::new(
            ErrorKind::Unsupported,
            "criu follows symbolic links: a mount with src-nofollow or dest-nofollow cannot be restored",
        )
        .with_field(format!("mounts[{}].options", mount.index))),
    }
}

/// criu knows what is the host's by its place alone, and would take a tmpfs over a bind mount, as that of a
/// masked directory, for the latter: after a restore the processes would see what was covered.
fn refuse_stacks(table: &MountTable, external: &[ExternalMount]) -> Result<()> {
    let places = external
        .iter()
        .map(|mount| Path::new(OsStr::from_bytes(&mount.key)));
    match places.into_iter().find(|place| table.is_stack(place)) {
        None => Ok(()),
        Some(place) => {
            let text = "several mounts lie on each other there, one of them a bind mount, which criu cannot tell apart";
            Err(Error::new(ErrorKind::Unsupported, text)
                .with_field("mounts")
                .with_path(place))
        }
    }
}

/// What the host has mounted below the source of a recursive bind mount, as paths from there.
fn submounts(host: &MountTable, source: &Path, recursive: bool) -> Vec<PathBuf> {
    match open(source) {
        Some((_, source)) if recursive => host.below(&source).map(Path::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Where a path leads in the rootfs, as a path from its root.
fn resolve(rootfs: &Path, target: &CStr) -> Option<PathBuf> {
    let (root, rootfs) = open(rootfs)?;
    // Where this fails, criu has the name as it was given, and says what it misses.
    let found = runtime_sys::fs::open_in_root(root.as_fd(), target, OFlags::PATH).ok()?;
    Some(Path::new("/").join(path_of(&found)?.strip_prefix(&rootfs).ok()?))
}

/// A file of the host, with its path without links. What cannot be opened has been refused before, or will be
/// by criu.
fn open(path: &Path) -> Option<(OwnedFd, PathBuf)> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let path = path_of(&file)?;
    Some((file, path))
}

fn path_of(file: &OwnedFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

fn device_path(device: &DevicePlan) -> PathBuf {
    Path::new("/")
        .join(OsStr::from_bytes(device.directory.to_bytes()))
        .join(OsStr::from_bytes(device.name.to_bytes()))
}

fn entry(key: &Path, value: &Path) -> ExternalMount {
    ExternalMount {
        key: path_bytes(key),
        value: path_bytes(value),
    }
}

/// The inode of a namespace file, by which criu knows the namespace.
pub(crate) fn inode(path: &str) -> Result<u64> {
    let stat = rustix::fs::stat(path).call("stat").path(path)?;
    Ok(stat.st_ino)
}

//! Runs in: RUNTIME. Shows the images of a container with a user namespace to its root. criu reads most of
//! them after it has become that root, whom files of the host's root tell nothing, and whom their directory
//! does not let in. Opening them to everybody would give the container's secrets away: so criu gets them on
//! an id-mapped copy of their mount, which nobody else has.
//!
//! The clocks alone it reads earlier, at times before ids are mapped: as the host's root without privileges.
//! Their group is therefore shown as that root's, which may enter.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use runtime_sys::{fs, mount};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::images::{Directories, Directory, MappedImages};
use crate::error::{CallResult, ErrorResult};
use crate::parent::id_mapped;
use crate::plan::namespaces::UserNamespace;
use crate::{Error, ErrorKind, Result};

/// Has criu read the images as the root of this user namespace, where that is not the host's.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if their file system cannot be id-mapped.
pub(crate) fn show(directories: &mut Directories, user: &UserNamespace) -> Result<()> {
    let UserNamespace::New { uids, .. } = user else {
        return Ok(());
    };
    let root = uids.iter().find(|range| range.container_id() == 0);
    // Without a root criu restores nothing, and says so.
    let Some(root) = root.map(LinuxIdMapping::host_id).filter(|root| *root != 0) else {
        return Ok(());
    };
    let path = Path::new(OsStr::from_bytes(directories.images.path.to_bytes()));
    let mapped = map(&directories.images, path, root)
        .and_then(|mapped| let_in(&directories.images).map(|()| mapped))
        .path(path)
        .doing("show the images to the container's root")?;
    directories.mapped = Some(mapped);
    Ok(())
}

/// The group may find the images by name, and read what clocks showed, if it is root's: below a directory
/// that hands its group down it is not, and then criu may have to say that it cannot read the clocks.
fn let_in(images: &Directory) -> Result<()> {
    add_mode(&images.fd, 0o710)?;
    for entry in Dir::read_from(&images.fd).call("getdents64")? {
        let entry = entry.call("getdents64")?;
        if entry.file_name().to_bytes().starts_with(b"timens-") {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file =
                rustix::fs::openat(&images.fd, entry.file_name(), flags, Mode::empty()).call("openat")?;
            add_mode(&file, 0o040)?;
        }
    }
    Ok(())
}

fn add_mode(file: &OwnedFd, bits: u32) -> Result<()> {
    let stat = rustix::fs::fstat(file).call("fstat")?;
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let kind = FileType::from_raw_mode(stat.st_mode);
    // A second name may stand where others are let in.
    let is_alone = kind == FileType::Directory || kind == FileType::RegularFile && stat.st_nlink == 1;
    let mode = stat.st_mode & 0o7777;
    if (stat.st_uid, stat.st_gid) != own || !is_alone || mode & bits == bits {
        return Ok(());
    }
    match rustix::fs::fchmod(file, Mode::from_raw_mode(mode | bits)) {
        // Nearly always ids are mapped before criu looks.
        Err(Errno::ROFS) => Ok(()),
        changed => changed.call("fchmod"),
    }
}

/// The whole mount, since images can name those of an earlier dump beside them.
fn map(images: &Directory, path: &Path, root: u32) -> Result<MappedImages> {
    let mount_root = images.mount_root()?;
    let stat = rustix::fs::fstat(&images.fd).call("fstat")?;
    let own_group = rustix::process::getegid().as_raw();
    let namespace =
        id_mapped::new_user_namespace(&single(stat.st_uid, root)?, &single(stat.st_gid, own_group)?)?;
    let top = rustix::fs::open(mount_root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).call("open")?;
    let tree = mount::clone_tree(top.as_fd(), false)?;
    id_mapped::map(&tree, &namespace, false).map_err(explain)?;
    let rest = path.strip_prefix(mount_root).unwrap_or(path);
    let below = match rest.as_os_str().is_empty() {
        true => c".".to_owned(),
        false => CString::new(rest.as_os_str().as_bytes())
            .map_err(|_| Error::new(ErrorKind::Internal, "a path with a null byte"))?,
    };
    let directory = fs::open_beneath(tree.as_fd(), &below, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let stat = fs::fstat(directory.as_fd())?;
    if (stat.st_dev, stat.st_ino) != images.identity {
        // Somebody has put something else there since it was opened.
        return Err(Error::os("openat2", Errno::STALE));
    }
    Ok(MappedImages {
        directory,
        _tree: tree,
    })
}

/// What belongs to the one id on disk is shown as the other's.
fn single(on_disk: u32, shown: u32) -> Result<Vec<LinuxIdMapping>> {
    let range = LinuxIdMappingBuilder::default()
        .container_id(on_disk)
        .host_id(shown)
        .size(1u32)
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    Ok(vec![range])
}

fn explain(error: runtime_sys::SysError) -> Error {
    match error.errno {
        Errno::INVAL => Error::from(error).with_kind(ErrorKind::Unsupported).with_hint(
            "put them on a file system that can be id-mapped: ext4, xfs, btrfs, or tmpfs since Linux 6.3",
        ),
        _ => Error::from(error),
    }
}

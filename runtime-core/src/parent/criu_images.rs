//! Runs in: RUNTIME. Shows the images of a container with a user namespace to its root. criu reads most of them after it
//! has become that root, whom files of the host's root tell nothing, and whom their directory does not let in. Opening
//! them to everybody would give the container's secrets away: so criu gets them on an id-mapped copy of their mount, which
//! nobody else has.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::{ffi::CString, path::Path};

use oci_spec::runtime::LinuxIdMapping;
use runtime_init::sys::{fs, mount};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::id_mapped;
use crate::host::criu::{Directories, MappedImages};
use crate::plan::namespaces::UserNamespace;
use crate::prepare::sys_error;
use crate::{Error, ErrorKind, Result};

/// Has criu read the images as the root of this user namespace, where that is not the host's.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if their file system cannot be id-mapped.
pub(crate) fn show(directories: &mut Directories, user: &UserNamespace) -> Result<()> {
    let UserNamespace::New { uids, gids } = user else {
        return Ok(());
    };
    if is_hosts_root(uids) && is_hosts_root(gids) {
        return Ok(());
    }
    let images = &directories.images;
    let path = Path::new(std::ffi::OsStr::from_bytes(images.path.to_bytes()));
    let mapped = map(path, images.mount_root()?, images.identity, uids, gids)
        .map_err(|error| error.path(path).doing("show the images to the container's root"))?;
    directories.mapped = Some(mapped);
    Ok(())
}

fn is_hosts_root(ranges: &[LinuxIdMapping]) -> bool {
    ranges
        .iter()
        .any(|range| range.container_id() == 0 && range.host_id() == 0)
}

/// The whole mount, since images can name those of an earlier dump beside them.
fn map(
    path: &Path,
    mount_root: &Path,
    identity: (u64, u64),
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<MappedImages> {
    let root = rustix::fs::open(mount_root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::os("open", errno))?;
    let tree = mount::clone_tree(root.as_fd(), false).map_err(sys_error)?;
    let namespace = id_mapped::new_user_namespace(uids, gids)?;
    id_mapped::map(&tree, &namespace, false).map_err(explain)?;
    let rest = path.strip_prefix(mount_root).unwrap_or(path);
    let below = match rest.as_os_str().is_empty() {
        true => c".".to_owned(),
        false => CString::new(rest.as_os_str().as_bytes())
            .map_err(|_| Error::new(ErrorKind::Internal, "a path with a null byte"))?,
    };
    let directory =
        fs::open_beneath(tree.as_fd(), &below, OFlags::RDONLY | OFlags::DIRECTORY).map_err(sys_error)?;
    let stat = fs::fstat(directory.as_fd()).map_err(sys_error)?;
    if (stat.st_dev, stat.st_ino) != identity {
        // Somebody has put something else there since it was opened.
        return Err(Error::os("openat2", Errno::STALE));
    }
    Ok(MappedImages { directory, tree })
}

fn explain(error: runtime_init::sys::SysError) -> Error {
    match error.errno {
        Errno::INVAL => sys_error(error).with_kind(ErrorKind::Unsupported).hint(
            "put them on a file system that can be id-mapped: ext4, xfs, btrfs, or tmpfs since Linux 6.3",
        ),
        _ => sys_error(error),
    }
}

//! Runs in: RUNTIME. The one mount on the host of a container that has no mount namespace: its rootfs over
//! its own directory, with all that the container has mounted on it. Takes it away; INIT has made it.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use runtime_sys::fs::{Identity, identity};
use runtime_sys::mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::ErrorResult;
use crate::host::mount::mount_table::MountTable;
use crate::host::state::{HostMount, RootRecord};
use crate::{Error, ErrorKind, Result};

/// What the record says of a tree that is about to be mounted at a path without links.
pub(crate) fn record(path: &Path, tree: &OwnedFd) -> Result<HostMount> {
    let found = identity(tree.as_fd()).path(path)?;
    Ok(HostMount {
        path: path.to_owned(),
        root: as_record(found),
    })
}

/// Takes the mount away, with all that is mounted on it. That it is gone already is no error: it was never
/// made, or somebody has unmounted it.
///
/// # Errors
/// It is there and cannot be reached: something else is mounted over it.
pub(crate) fn remove(mounted: &HostMount) -> Result<()> {
    let at = |error: Error| {
        error
            .doing("unmount the container's rootfs")
            .with_path(&mounted.path)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = match rustix::fs::openat2(
        rustix::fs::CWD,
        &mounted.path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    ) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return refuse_hidden(mounted).map_err(at),
        Err(errno) => return Err(at(Error::os("openat2", errno))),
    };
    let top = identity(found.as_fd()).map_err(|error| at(error.into()))?;
    if as_record(top) != mounted.root {
        return refuse_hidden(mounted).map_err(at);
    }
    // By the descriptor: the path may lead to another mount by now.
    let place = CString::new(format!("/proc/thread-self/fd/{}", found.as_raw_fd())).unwrap_or_default();
    mount::detach(&place).map_err(|error| at(error.into()))
}

fn refuse_hidden(mounted: &HostMount) -> Result<()> {
    match MountTable::of(None)?.is_at(mounted.root.mount, &mounted.path) {
        false => Ok(()),
        true => Err(
            Error::new(ErrorKind::WrongStatus, "something else is mounted over it")
                .with_hint("unmount that first; another container may have the same rootfs"),
        ),
    }
}

fn as_record(identity: Identity) -> RootRecord {
    RootRecord {
        device: identity.device,
        inode: identity.inode,
        mount: identity.mount,
    }
}

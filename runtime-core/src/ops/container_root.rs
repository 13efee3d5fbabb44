//! Runs in: RUNTIME. The container's root: what it was when the container was made, and where it is found
//! again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use runtime_init::args::RootArgs;
use runtime_sys::fs::{Identity, identity};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{CallResult, ErrorResult};
use crate::host::state::{Record, RootRecord};
use crate::{Error, ErrorKind, Result};

/// The container's root, for processes that join its namespaces.
#[derive(Debug)]
pub(super) struct ContainerRoot {
    known: Option<Vec<Identity>>,
    pub(super) instead: Option<OwnedFd>,
}

impl ContainerRoot {
    pub(super) fn args(&self) -> RootArgs<'_> {
        RootArgs {
            known: self.known.as_deref(),
            instead: self.instead.as_ref().map(AsFd::as_fd),
        }
    }

    /// `has_mounts`: the container has a mount namespace that is not ours.
    ///
    /// Where init has changed its own root by chroot(2), as many servers do, that of the mount namespace is
    /// still the container's. Where it has changed that one (switch_root, say), both are the same again.
    /// Anything else is refused.
    pub(super) fn find(record: &Record, has_mounts: bool) -> Result<Self> {
        let (inits, now) = of_process(record.pid)?;
        let created = record.root.map(identity_of);
        let (known, instead) = match created {
            // An ordinary user, who may not look into an init that waits for `start`, cannot be in a chroot
            // either: there the kernel makes no user namespace.
            None if has_mounts => (None, None),
            None => (Some(Vec::new()), Some(inits)),
            Some(created) if created == now => (
                Some(has_mounts.then_some(created).into_iter().collect()),
                Some(inits),
            ),
            Some(created) if has_mounts => (Some(vec![created, now]), None),
            Some(created) => (Some(Vec::new()), Some(rootfs(record, created)?)),
        };
        Ok(Self { known, instead })
    }
}

/// What the root of a container is that has just been made. `None` where we may not look into it.
pub(super) fn root_record(pid: i32) -> Result<Option<RootRecord>> {
    match of_process(pid) {
        Ok((_, found)) => Ok(Some(RootRecord {
            device: found.device,
            inode: found.inode,
            mount: found.mount,
        })),
        Err(error) if matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn of_process(pid: i32) -> Result<(OwnedFd, Identity)> {
    open(Path::new(&format!("/proc/{pid}/root")))
}

/// The root of a container without a mount namespace, by its path.
fn rootfs(record: &Record, created: Identity) -> Result<OwnedFd> {
    match open(&record.rootfs)? {
        (root, found) if found == created => Ok(root),
        _ => Err(Error::new(
            ErrorKind::WrongStatus,
            "the container's root is gone: its init has another one by now",
        )
        .with_path(&record.rootfs)),
    }
}

fn open(path: &Path) -> Result<(OwnedFd, Identity)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())
        .call("open")
        .path(path)?;
    let found = identity(directory.as_fd()).path(path)?;
    Ok((directory, found))
}

fn identity_of(record: RootRecord) -> Identity {
    Identity {
        device: record.device,
        inode: record.inode,
        mount: record.mount,
    }
}

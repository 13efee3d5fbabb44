//! Runs in: RUNTIME. Reads what the plan has to know of the host, and nothing more.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::error::{CallResult, ErrorResult};
use crate::plan::HostFacts;
use crate::{Error, ErrorKind, Result};

const USER_NAMESPACE: &str = "/proc/self/ns/user";

impl HostFacts {
    /// Reads the facts for a bundle.
    ///
    /// # Errors
    /// The bundle is not a directory that can be opened.
    pub fn probe(bundle: &Path) -> Result<Self> {
        Self::of_host(resolve_directory(bundle)?)
    }

    /// Reads the facts for a bundle whose absolute path is known.
    ///
    /// # Errors
    /// What the kernel says, in capget(2) and below /proc.
    pub fn of_host(bundle: PathBuf) -> Result<Self> {
        let in_user_namespace = is_in_user_namespace()?;
        let permitted = rustix::thread::capabilities(None).call("capget")?;
        Ok(Self {
            bundle,
            last_capability: last_capability()?,
            permitted_capabilities: permitted.permitted.bits(),
            in_user_namespace,
            selinux: has_selinux(),
            is_rootless: in_user_namespace || !rustix::process::geteuid().is_root(),
            may_mount: permitted.effective.contains(CapabilitySet::SYS_ADMIN)
                && (!in_user_namespace || owns_mount_namespace()?),
        })
    }
}

/// As libselinux asks: where it is off, or hidden from us in a container, nothing is mounted there.
fn has_selinux() -> bool {
    const SELINUX_MAGIC: u64 = 0xf97c_ff8c;
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|status| status.f_type as u64 == SELINUX_MAGIC)
}

/// Whether this process is in another user namespace than the first, which has always the same inode number.
fn is_in_user_namespace() -> Result<bool> {
    /// `PROC_USER_INIT_INO` of linux/proc_ns.h.
    const FIRST: u64 = 0xefff_fffd;
    let own = rustix::fs::stat(USER_NAMESPACE)
        .call("stat")
        .path(USER_NAMESPACE)?;
    Ok(own.st_ino != FIRST)
}

/// Whether the mount namespace belongs to the own user namespace: a process may have entered only the latter.
fn owns_mount_namespace() -> Result<bool> {
    let mounts = "/proc/self/ns/mnt";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(mounts, flags, Mode::empty())
        .call("open")
        .path(mounts)?;
    let owner = match runtime_sys::namespace::owner(namespace.as_fd()) {
        // It belongs to a user namespace above the own.
        Err(error) if error.errno == Errno::PERM => return Ok(false),
        owner => owner.path(mounts)?,
    };
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let owner = rustix::fs::fstat(&owner).call("fstat").path(mounts)?;
    let own = rustix::fs::stat(USER_NAMESPACE)
        .call("stat")
        .path(USER_NAMESPACE)?;
    Ok(identity(owner) == identity(own))
}

/// The absolute path of a directory of the host, without links, as the kernel knows it.
pub(crate) fn resolve_directory(path: &Path) -> Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())
        .call("open")
        .path(path)?;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    std::fs::read_link(&link).call("readlink").path(link)
}

fn last_capability() -> Result<u32> {
    const FILE: &str = "/proc/sys/kernel/cap_last_cap";
    let text = std::fs::read_to_string(FILE).call("read").path(FILE)?;
    text.trim()
        .parse()
        .map_err(|_| Error::new(ErrorKind::Internal, format!("not a number: {text:?}")).with_path(FILE))
}

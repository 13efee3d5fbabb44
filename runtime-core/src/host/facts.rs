//! Runs in: RUNTIME. Reads what the plan has to know of the host, and nothing more.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::plan::HostFacts;
use crate::{Error, ErrorKind, Result};

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
        let permitted = rustix::thread::capabilities(None).map_err(|errno| Error::os("capget", errno))?;
        Ok(Self {
            bundle,
            last_capability: last_capability()?,
            permitted_capabilities: permitted.permitted.bits(),
        })
    }
}

/// The absolute path of a directory of the host, without links, as the kernel knows it.
pub(crate) fn resolve_directory(path: &Path) -> Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::os("open", errno).path(path))?;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    std::fs::read_link(&link).map_err(|error| Error::io("readlink", &error).path(link))
}

fn last_capability() -> Result<u32> {
    const FILE: &str = "/proc/sys/kernel/cap_last_cap";
    let text = std::fs::read_to_string(FILE).map_err(|error| Error::io("read", &error).path(FILE))?;
    text.trim()
        .parse()
        .map_err(|_| Error::new(ErrorKind::Internal, format!("not a number: {text:?}")).path(FILE))
}

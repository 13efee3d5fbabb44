//! Runs in: JOINER, MOUNTER. The container's root, for who has joined its namespaces. Does not decide what it
//! is.
//!
//! setns(2) into a mount namespace makes the root of that *namespace* ours. It is the container's where
//! `pivot.rs` has made it so; where it is another one, or there is no mount namespace to join, it could be
//! that of the machine.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::args::RootArgs;
use crate::init::open_root;
use crate::report::refused;
use runtime_sys::{self as sys, fs, mount};

/// Makes the container's root ours if it is not yet, and opens it. The working directory is the root after
/// that.
pub(crate) fn enter(root: &RootArgs<'_>) -> sys::Result<OwnedFd> {
    let found = open_root()?;
    let Some(known) = root.known else {
        return Ok(found);
    };
    if known.contains(&fs::identity(found.as_fd())?) {
        return Ok(found);
    }
    let Some(instead) = root.instead else {
        return Err(refused(Errno::STALE));
    };
    fs::chdir(instead)?;
    mount::chroot_here()?;
    open_root()
}

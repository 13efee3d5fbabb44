//! Runs in: RUNTIME. Which of the caller's open files the programs that we start may have.

use runtime_core::{Error, Result};
use rustix::io::Errno;

/// Leaves `count` descriptors from 3 on to be handed to the container's process, and marks all after them
/// close-on-exec: hooks, newuidmap and their like would inherit what the caller has left open, and a pipe or
/// a lock of an engine with it.
pub(crate) fn keep_after(count: u32) -> Result<()> {
    let first = count.saturating_add(3);
    match runtime_sys::process::close_range(first, u32::MAX, true) {
        Ok(()) => Ok(()),
        // A filter around us from before Linux 5.9: no container can be made here, but its hooks on `delete`
        // can be run.
        Err(error) if matches!(error.errno, Errno::PERM | Errno::NOSYS) => {
            log::debug!("hooks inherit the caller's files: {error}");
            Ok(())
        }
        Err(error) => Err(Error::from(error).doing("keep the caller's files to ourselves")),
    }
}

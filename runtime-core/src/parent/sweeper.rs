//! Runs in: RUNTIME. Has the cgroups below a container's removed by a process with the container's ids, where
//! RUNTIME, an ordinary user, may not: they belong to subordinate ids.

use std::os::fd::AsFd;

use oci_spec::runtime::LinuxIdMapping;
use runtime_init::args::SweeperArgs;
use runtime_init::start::Birth;
use runtime_sys::{net, process};

use super::helper::Helper;
use super::id_maps::write_maps;
use crate::host::cgroup::Cgroup;
use crate::host::process::reap;
use crate::prepare::Links;
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// A container may have made many.
const PATIENCE: i64 = 30_000;

/// Removes all cgroups below `cgroup`, which must have no processes any more.
///
/// # Errors
/// The ids cannot be mapped, or a cgroup is busy.
pub(crate) fn sweep(cgroup: &Cgroup, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
    let doing = |error: Error| {
        error
            .with_path(cgroup.path())
            .doing("remove the sub-cgroups of subordinate ids")
    };
    let links = Links::new()?;
    let args = SweeperArgs {
        link: links.child.as_fd(),
        cgroup: cgroup.dir(),
    };
    let sweeper = Helper::start(Birth::NEW_USER, &args, links.runtime)?;
    write_maps(sweeper.process.pid, uids, gids, &Cancel::default()).map_err(doing)?;
    net::send(sweeper.link(), &[0], None).map_err(|error| doing(Error::from(error)))?;
    if !process::wait_readable(sweeper.process.pidfd(), Some(PATIENCE))? {
        return Err(doing(Error::new(ErrorKind::Os, "not done within 30 seconds")));
    }
    let (_, pidfd) = sweeper.process.keep();
    let status = reap(pidfd.as_fd())?;
    match status.and_then(|status| status.code()) {
        Some(0) => Ok(()),
        // What is left is seen by the caller, who removes the cgroup itself.
        None if status.is_none() => Ok(()),
        Some(errno) => Err(doing(Error::os("rmdir", Errno::from_raw_os_error(errno)))),
        None => Err(doing(Error::new(
            ErrorKind::Os,
            "the process that does it was killed",
        ))),
    }
}

//! Runs in: RUNTIME. Removes a container's cgroup, with the processes in it, but not with other containers.

use super::container::PATIENCE;
use super::nested;
use crate::host::cgroup::{Cgroup, CgroupManager, Marked};
use crate::parent::sweeper;
use crate::spec::Config;
use crate::{Errno, Error, Result};

/// Kills everything in a cgroup and removes it. What `others` tells of is not killed; then the cgroup stays,
/// and that is an error.
pub(super) fn empty_cgroup(
    manager: &CgroupManager,
    others: impl FnOnce(&Cgroup) -> Result<Vec<Marked>>,
) -> Result<()> {
    if let Some(cgroup) = manager.whole()
        && cgroup.is_populated()?
    {
        let others = others(cgroup)?;
        nested::kill(cgroup, &others)?;
        if !others.is_empty() {
            return Err(nested::in_the_way(cgroup, &others));
        }
    }
    manager.remove(PATIENCE)
}

/// An ordinary user may not remove what the container has made with subordinate ids. By now it has no
/// processes.
pub(super) fn sweep(
    config: impl FnOnce() -> Result<Config>,
    manager: &CgroupManager,
    refused: Error,
) -> Result<()> {
    let is_denied = matches!(refused.errno(), Some(Errno::ACCESS | Errno::PERM));
    let (true, Some(cgroup)) = (is_denied, manager.cgroup()) else {
        return Err(refused);
    };
    let config = match config() {
        Ok(config) => config,
        Err(error) => return Err(refused.and(error)),
    };
    let linux = config.spec.linux().as_ref();
    let maps = linux.and_then(|linux| linux.uid_mappings().as_ref().zip(linux.gid_mappings().as_ref()));
    let Some((uids, gids)) = maps else {
        return Err(refused);
    };
    match sweeper::sweep(cgroup, uids, gids) {
        Ok(()) => manager.remove(PATIENCE),
        Err(error) => Err(refused.and(error)),
    }
}

//! Runs in: RUNTIME. `delete --force` of a container whose record is missing or damaged: what is left of it
//! is looked for by other marks. Never called for a record that only cannot be read now.

use super::cgroup_removal::{empty_cgroup, sweep};
use super::container::{self, CONFIG, PATIENCE};
use super::nested::{self, Init};
use crate::host::cgroup::{Cgroup, CgroupManager};
use crate::host::socket::start_socket;
use crate::host::state::{Store, Wreck};
use crate::spec::Config;
use crate::{Error, ErrorKind, Result};

/// Ends what can be found, then removes the directory. If nothing was found it says so, after it has removed
/// what could not be of use any more.
///
/// # Errors
/// Something could not be ended: the directory, and what tells of the container in it, stays. Nothing was
/// found.
pub(super) fn delete(store: &Store, wreck: Wreck) -> Result<()> {
    if wreck.reason().kind() == ErrorKind::Unsupported {
        return wreck.remove();
    }
    let config = wreck.read_file(CONFIG).and_then(container::saved_config);
    let cgroups = find_cgroups(&wreck)?;
    let emptied = cgroups
        .into_iter()
        .map(|cgroup| empty(store, &wreck, &config, cgroup).map(|()| true));
    let waiting = std::iter::once_with(|| start_socket::turn_away(wreck.dir(), PATIENCE));
    let (mut found_something, mut errors) = (false, Vec::new());
    for found in emptied.chain(waiting) {
        match found {
            Ok(found) => found_something |= found,
            Err(error) => errors.push(error),
        }
    }
    Error::join(errors)?;
    let left = left_behind(&wreck, &config, found_something);
    wreck.remove()?;
    match left {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

fn find_cgroups(wreck: &Wreck) -> Result<Vec<Cgroup>> {
    match Cgroup::find_marked(wreck.id().as_str(), &wreck.place()?) {
        // No cgroup2 tree, no cgroup.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Vec::new()),
        found => found,
    }
}

fn empty(store: &Store, wreck: &Wreck, config: &Result<Config>, cgroup: Cgroup) -> Result<()> {
    let manager = CgroupManager::Fs(cgroup);
    // Nobody knows whether it has a pid namespace of its own, nor its init.
    let others = |cgroup: &Cgroup| nested::others(store, wreck.id().as_str(), false, Init::Runs, cgroup);
    let config = || match config {
        Ok(config) => Ok(config.clone()),
        Err(error) => Err(Error::new(error.kind(), error.to_string())),
    };
    empty_cgroup(&manager, others).or_else(|error| sweep(config, &manager, error))
}

/// What may be left although nothing has failed.
fn left_behind(wreck: &Wreck, config: &Result<Config>, found_something: bool) -> Option<Error> {
    let mut parts = Vec::new();
    if !found_something {
        parts.push("processes: no cgroup is marked as its own, and nothing waits for start");
    }
    if let Ok(config) = config {
        let has_group = config
            .spec
            .linux()
            .as_ref()
            .is_some_and(|linux| linux.intel_rdt().is_some());
        if has_group {
            parts.push("its group of resctrl");
        }
        let hooks = config.spec.hooks().as_ref();
        if hooks.is_some_and(|hooks| hooks.poststop().as_ref().is_some_and(|list| !list.is_empty())) {
            parts.push("what its poststop hooks would have taken back");
        }
    }
    if parts.is_empty() {
        return None;
    }
    let message = format!(
        "the record is removed, but it was damaged, and this may be left of the container: {}",
        parts.join("; ")
    );
    Some(Error::new(ErrorKind::Internal, message).with_hint(wreck.reason().to_string()))
}

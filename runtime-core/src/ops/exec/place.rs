//! Runs in: RUNTIME. The cgroups that a process of `exec` may be born in, in the order in which they are
//! tried.

use std::path::Path;

use crate::cancel::Freezer;
use crate::host::cgroup::{Cgroup, CgroupManager};
use crate::host::state::Record;
use crate::ops::container;
use crate::ops::options::ExecOptions;
use crate::parent::child::pid_of;
use crate::plan::cgroup::CgroupDriver;
use crate::{Error, ErrorKind, Result};

/// The cgroups that the process may be born in.
pub(super) struct Cgroups {
    manager: Option<CgroupManager>,
    /// `--cgroup`: one below the container's, and no other.
    pub(super) below: Option<Cgroup>,
    init: i32,
    ignore_paused: bool,
}

impl Cgroups {
    /// The one that is tried first.
    pub(super) fn first(&self) -> Option<&Cgroup> {
        let own = self.manager.as_ref().and_then(CgroupManager::cgroup);
        self.below.as_ref().or(own)
    }

    /// Sub-cgroups are the container's to freeze. What is born in a frozen one stands still before it has
    /// joined anything, and `exec` would wait for it.
    pub(super) fn refuse_frozen(&self, place: Option<&Cgroup>) -> Result<()> {
        match place {
            Some(place) if !self.ignore_paused && place.is_effectively_frozen()? => {
                let text = "cannot exec in a frozen sub-cgroup (use --ignore-paused to override)";
                Err(Error::new(ErrorKind::WrongStatus, text).with_path(place.path()))
            }
            _ => Ok(()),
        }
    }

    /// What tells that the container is paused meanwhile, unless that is the caller's wish.
    pub(super) fn freezer(&self) -> Result<Option<Freezer>> {
        match self.ignore_paused {
            true => Ok(None),
            false => self.first().map(Cgroup::freezer).transpose(),
        }
    }

    /// Where init is now: with subtree_control set, its own cgroup takes no processes (no internal
    /// processes).
    pub(super) fn second(&self) -> Result<Option<Cgroup>> {
        match self.below.is_none() && self.first().is_some() {
            true => Cgroup::of_process(pid_of(self.init)?).map(Some),
            false => Ok(None),
        }
    }

    /// systemd, if it may move a process to where the caller may not: from a session to a unit of the
    /// caller's.
    pub(super) fn mover(&self) -> Option<&CgroupManager> {
        let is_unit = |manager: &&CgroupManager| manager.driver() == CgroupDriver::Systemd;
        self.manager
            .as_ref()
            .filter(is_unit)
            .filter(|_| self.below.is_none())
    }
}

pub(super) fn cgroup_of(record: &Record, options: &ExecOptions, init: i32) -> Result<Cgroups> {
    let manager = container::cgroup(record)?;
    let own = manager.as_ref().and_then(CgroupManager::cgroup);
    let below = match (own, &options.cgroup) {
        (Some(own), Some(below)) => Some(own.sub(sub_cgroup(below)?)?),
        (None, Some(_)) => return Err(container::no_cgroup(record)),
        // Its own is gone, so init has been moved elsewhere: not out into the caller's.
        (None, None) if record.cgroup.is_some() => Some(Cgroup::of_process(pid_of(init)?)?),
        (_, None) => None,
    };
    Ok(Cgroups {
        manager,
        below,
        init,
        ignore_paused: options.ignore_paused,
    })
}

/// The path in `--cgroup`. runc's other form, `CONTROLLER[,CONTROLLER]:PATH`, is for the many trees of
/// version 1.
fn sub_cgroup(text: &str) -> Result<&Path> {
    match text.split_once(':') {
        Some((controllers, _)) if !controllers.contains('/') => {
            let message = format!("invalid --cgroup argument: unknown controller {controllers} in {text}");
            Err(Error::new(ErrorKind::Invalid, message).with_hint(format!(
                "cgroup version 2 has one tree for all controllers: give the path without {controllers:?}"
            )))
        }
        _ if leads_out(text) => {
            // The words of runc up to 1.3, and those since.
            let message = format!("bad sub cgroup path: {text} is not a sub cgroup path");
            Err(Error::new(ErrorKind::Invalid, message))
        }
        _ => Ok(Path::new(text)),
    }
}

/// Whether `..` goes above where the path begins.
fn leads_out(path: &str) -> bool {
    let mut depth = 0;
    path.split('/').any(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth < 0
    })
}

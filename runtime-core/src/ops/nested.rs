//! Runs in: RUNTIME. Containers whose cgroups lie below another one's. The kernel kills a cgroup with all
//! below it; here is decided what in there is whose, and the one is killed without the other.
//!
//! A container may mark cgroups of its own as another container's, to outlive its end. So a mark alone is not
//! believed:
//!
//! | the container | is another's |
//! |---|---|
//! | has a pid namespace of its own, and its init is gone | what is marked and has processes: all of the container's died with init |
//! | shares its pid namespace | what has a mark that takes CAP_SYS_ADMIN on the host to write |
//! | any | what is in the record of another container of the same root, by path and inode |

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::container::{self, PATIENCE};
use crate::host::cgroup::{Cgroup, Marked};
use crate::host::process::{Process as HostProcess, Stat};
use crate::host::state::Store;
use crate::{Error, ErrorKind, Result};

/// Whether the container's init may still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    Runs,
    IsGone,
}

/// The cgroups below `cgroup`, which is that of the container `id`, that are other containers', and have
/// processes.
pub(super) fn others(
    store: &Store,
    id: &str,
    own_pids: bool,
    init: Init,
    cgroup: &Cgroup,
) -> Result<Vec<Marked>> {
    let mut others = Vec::new();
    for marked in cgroup.containers_below()? {
        let is_told = match own_pids {
            true => init == Init::IsGone,
            false => marked.mark.is_trusted,
        };
        if is_told || is_recorded(store, id, &marked)? {
            others.push(marked);
        }
    }
    Ok(others)
}

/// Whether another container of this root says that the cgroup is its own.
fn is_recorded(store: &Store, id: &str, marked: &Marked) -> Result<bool> {
    for other in store.ids()? {
        if other.as_str() == id {
            continue;
        }
        let is_theirs = match store.view(&other) {
            Ok(view) => container::is_cgroup_of(view.record(), marked),
            Err(error) => match error.kind() {
                // Damaged: then the mark is all that there is.
                ErrorKind::Internal => marked.mark.text.starts_with(&format!("{other}, created ")),
                // Deleted meanwhile; of another user, or another runtime, who do not mark as we do.
                ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unsupported => false,
                _ => return Err(error),
            },
        };
        if is_theirs {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Kills what is in the cgroup and below it, but for what is in the `spared` ones.
pub(super) fn kill(cgroup: &Cgroup, spared: &[Marked]) -> Result<()> {
    if spared.is_empty() {
        return cgroup.kill();
    }
    let paths: Vec<PathBuf> = spared.iter().map(|marked| marked.path.clone()).collect();
    for above in cgroup.kill_around(&paths)? {
        kill_each(&above)?;
    }
    Ok(())
}

/// One by one, until there are none: the kernel's way takes those below along.
fn kill_each(cgroup: &Cgroup) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pids = cgroup.own_processes()?;
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message = format!("{} process(es) are still in it", pids.len());
            let error = Error::new(ErrorKind::Os, message).with_path(cgroup.path());
            return Err(error.doing("kill the processes of the cgroup"));
        }
        signal_each(pids, libc::SIGKILL, || cgroup.own_processes())?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends the signal to those of `pids` that `still_there` tells again after they have been taken hold of:
/// they are the processes that they were taken for.
pub(super) fn signal_each(
    pids: Vec<Pid>,
    signal: i32,
    still_there: impl FnOnce() -> Result<Vec<Pid>>,
) -> Result<()> {
    let mut held = Vec::new();
    for pid in pids {
        // It may end at any moment, and its pid may then be another's.
        let Some(stat) = Stat::read(pid)? else {
            continue;
        };
        if let Some(process) = HostProcess::open(pid.as_raw_pid(), stat.start_time)? {
            held.push((pid, process));
        }
    }
    let still_there = still_there()?;
    for (pid, process) in held {
        if still_there.contains(&pid) {
            // False: it has ended meanwhile.
            let _was_there = process.kill(signal)?;
        }
    }
    Ok(())
}

/// Why the cgroup cannot be removed.
pub(super) fn in_the_way(cgroup: &Cgroup, others: &[Marked]) -> Error {
    let names: Vec<String> = others
        .iter()
        .map(|other| {
            let id = other.mark.text.split(", created ").next().unwrap_or_default();
            format!("{} of container {id:?}", other.path.display())
        })
        .collect();
    let message = format!(
        "the cgroup of another container is below it: {}",
        names.join(", ")
    );
    Error::new(ErrorKind::WrongStatus, message)
        .with_path(cgroup.path())
        .doing("remove the cgroup")
        .with_hint("the container's own processes are dead; delete the other one, then this one again")
}

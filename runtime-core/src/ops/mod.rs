//! Runs in: RUNTIME. The operations of a container's life, one file each. Each reads as a story: what is
//! done, in order, in terms of the layers below.

mod cgroup_removal;
mod checkpoint;
mod container;
mod container_root;
mod create;
mod creation;
mod delete;
mod descriptors;
mod events;
pub(crate) mod exec;
mod features;
mod hooks;
mod kill;
mod list;
mod listener;
mod mounts;
mod nested;
mod notify;
mod options;
mod process;
mod restore;
mod start;
mod state;
mod terminal;
mod update;
mod wreck;

use std::path::PathBuf;

use runtime_sys::process as sys_process;

use crate::host::process::hooks::Terms;
use crate::host::state::Store;
use crate::plan::cgroup::CgroupDriver;
use crate::{Cancel, Result};

pub use container::Status;
pub use events::{Event, Events};
pub use features::{Features, features};
pub use options::{CheckpointOptions, Console, CreateOptions, ExecOptions, RestoreOptions, Rootless, Stdio};
pub use process::Process;
pub use state::State;

/// A place where containers are kept, and the way their cgroups are made: the start of every operation.
///
/// Two `Runtime`s with the same root see the same containers, also in different processes; every operation
/// takes the locks it needs on disk. All methods run in the calling process and may be called from any
/// thread.
#[derive(Debug)]
pub struct Runtime {
    store: Store,
    driver: CgroupDriver,
    rootless: Rootless,
    open_files: Option<u64>,
}

impl Runtime {
    /// `root` is the directory of states (runc's `--root`), made when it is needed. `driver` is for new
    /// containers; others have theirs in their state.
    pub fn new(root: impl Into<PathBuf>, driver: CgroupDriver) -> Self {
        Self {
            store: Store::new(root),
            driver,
            rootless: Rootless::default(),
            open_files: None,
        }
    }

    /// Says whether a container is made without a cgroup where the right to make one is missing: runc's
    /// `--rootless`. By default that is found out.
    #[must_use]
    pub fn with_rootless(self, rootless: Rootless) -> Self {
        Self { rootless, ..self }
    }

    /// For a program that has raised its own soft limit of open files (RLIMIT_NOFILE): the one that
    /// containers' processes, if config.json names none, and hooks get instead. By default they get the
    /// program's.
    #[must_use]
    pub fn with_open_files(self, soft_limit: u64) -> Self {
        Self {
            open_files: Some(soft_limit),
            ..self
        }
    }

    /// What holds for hooks in the runtime's namespaces.
    fn hook_terms<'a>(&self, cancel: &'a Cancel) -> Result<Terms<'a>> {
        Ok(Terms {
            cancel,
            at: None,
            open_files: self.open_files()?,
        })
    }

    /// That, with the hard limit, which is the program's.
    fn open_files(&self) -> Result<Option<(u64, u64)>> {
        let Some(soft) = self.open_files else {
            return Ok(None);
        };
        let (_, hard) = sys_process::limit(libc::RLIMIT_NOFILE)?;
        Ok(Some((soft.min(hard), hard)))
    }
}

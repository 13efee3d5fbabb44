//! The OCI container lifecycle over a bundle, as a library.
//!
//! Everything in this crate runs in the process that calls it (RUNTIME in the documents); what runs after
//! `clone3`, in the container's first process, is the crate `runtime-init`. See `docs/design.md`.
#![deny(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "clippy.toml is about the product; tests look at what is there"
    )
)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "unstable"),
    allow(
        unreachable_pub,
        unused_imports,
        reason = "what the feature `unstable` shows is public"
    )
)]

#[macro_use]
mod setters;

mod cancel;
mod criu;
mod error;
mod host;
mod ops;
mod parent;
mod plan;
mod prepare;
mod spec;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable;

pub use cancel::Cancel;
pub use criu::{CriuOptions, ManageCgroups, NetworkLock};
pub use error::{Error, ErrorKind, Result};
pub use host::socket::console::receive_master as receive_terminal;
pub use host::socket::notify_socket::{NotifySocket, tell_ready};
pub use host::state::ContainerId;
pub use ops::{
    CheckpointOptions, Console, CreateOptions, Event, Events, ExecOptions, Features, Process, RestoreOptions,
    Rootless, Runtime, State, Status, Stdio, features,
};
pub use plan::cgroup::CgroupDriver;
pub use spec::example as example_config;
pub use spec::given::Document;

use rustix::io::Errno;

/// What a container uses: the parts of [`CgroupStats`](stats::CgroupStats).
pub mod stats {
    pub use crate::host::cgroup::stats::{
        BlockIo, CgroupStats, Counter, Cpu, CpuSet, CpuUsage, Empty, HugePages, Memory, Pids, Pressure,
        Stall, Throttling, Transfer,
    };
}

/// The version of the runtime-spec that onggi follows.
pub const OCI_VERSION: &str = "1.3.0";

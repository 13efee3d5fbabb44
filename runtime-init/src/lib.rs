//! Everything of onggi that runs after `clone3`, and the contract with the process that calls it.
//!
//! No heap, no locks, no formatting, no panics: the process that called `clone3` may have had threads, and
//! every lock they held is held for ever here. What can fail for another reason than a system call has been
//! done before, in `runtime-core`, and arrives as borrowed views ([`args::InitArgs`]). A child takes these
//! along into memory of its own, and gives all other memory of the host program back
//! ([`runtime_sys::memory`]) before anybody can look at it.
//!
//! | file | runs in |
//! |---|---|
//! | `init.rs` | INIT, process 1 of the container: read this first |
//! | `intermediate.rs` | INTERMEDIATE, where a namespace order forces one |
//! | `procfs.rs` | PROCFS, where a pid namespace is given by path, before Linux 6.17 |
//! | `trees.rs` | TREES, a helper for containers with a user namespace, and INIT |
//! | `join.rs` | JOINER, which enters a running container, and EXEC, the process it makes there |
//! | `mounter.rs` | MOUNTER, a helper of `mounts` that enters a container |
//! | `criu.rs` | CRIU, which becomes criu |
//! | `host_hook.rs` | a hook in the namespaces of RUNTIME, before its program |
//! | `sweeper.rs` | SWEEPER, a helper of `delete` for cgroups that an ordinary user cannot remove |
//! | `start.rs` | RUNTIME up to `clone3`, then one of the above |
//! | `carry.rs` | each of them, first of all |
//! | all others | INIT and EXEC |
#![no_std]
#![deny(missing_docs)]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod args;
mod carry;
mod console;
mod container_root;
mod copy_up;
mod criu;
mod devices;
mod environment;
mod hooks;
mod host_hook;
mod init;
mod intermediate;
mod join;
mod masks;
mod mounter;
mod mounts;
mod namespaces;
mod old_root;
mod paths;
mod pivot;
mod procfs;
mod program;
pub mod report;
pub mod start;
pub mod step;
mod sweeper;
mod trees;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable;
pub mod wire;

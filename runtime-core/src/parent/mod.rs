//! Runs in: RUNTIME, from `clone3` on: makes the child, does for it what can only be done from outside,
//! follows the handshake, and explains its failures.

pub(crate) mod attributes;
pub(crate) mod child;
pub(crate) mod diagnose;
pub(crate) mod explain;
pub(crate) mod handshake;
pub(crate) mod helper;
pub(crate) mod id_mapped;
pub(crate) mod id_maps;
pub(crate) mod link;
pub(crate) mod locked_trees;
pub(crate) mod mounter;
pub(crate) mod procfs_context;
pub(crate) mod seccomp_listener;
pub(crate) mod sweeper;
pub(crate) mod views;

//! Runs in: RUNTIME. What is mounted, in the host's mount namespace and in a container's.

pub mod mount_table;
pub(crate) mod mountinfo;
pub mod rootfs_mount;

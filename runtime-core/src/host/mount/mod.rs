//! Runs in: RUNTIME. What is mounted, in the host's mount namespace and in a container's.

pub(crate) mod mount_table;
pub(crate) mod mountinfo;
pub(crate) mod rootfs_mount;

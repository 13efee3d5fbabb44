//! Runs in: RUNTIME. One outside resource per file. The files do not know each other; `unix_socket` is what the
//! files for sockets share, and `mountinfo` what those for mounted file systems do.

pub mod cgroup;
pub mod console;
pub mod criu;
pub mod facts;
pub mod hooks;
pub mod id_map;
pub mod id_map_program;
pub mod mount_table;
pub(crate) mod mountinfo;
pub mod net_devices;
pub mod notify_socket;
pub mod pid_file;
pub mod pidfd_socket;
pub mod proc_handle;
pub mod process;
pub mod random;
pub mod resctrl;
pub mod rootfs_mount;
pub mod seccomp_agent;
pub(crate) mod signals;
pub mod start_socket;
pub mod state;
pub mod stdio;
mod unix_socket;
pub mod user_namespaces;

//! Runs in: RUNTIME. A room for each resource outside: what is in it knows that resource and no other. What it does there
//! is decided in `plan`. `socket::unix_socket` is what all sockets share, `mount::mountinfo` what the kernel's lists of
//! mounts do.

pub mod cgroup;
pub mod facts;
pub mod mount;
pub mod net_devices;
pub mod pid_file;
pub mod process;
pub mod random;
pub mod resctrl;
pub mod socket;
pub mod state;
pub mod user_namespace;

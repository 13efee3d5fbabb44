//! Runs in: RUNTIME. A module for each resource outside: what is in it knows that resource and no other. What
//! it does there is decided in `plan`. `socket::unix_socket` is what all sockets share, `mount::mountinfo`
//! what the kernel's lists of mounts do.

pub(crate) mod cgroup;
pub(crate) mod facts;
pub(crate) mod mount;
pub(crate) mod net_devices;
pub(crate) mod pid_file;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod resctrl;
pub(crate) mod socket;
pub(crate) mod state;
pub(crate) mod user_namespace;

//! Runs in: RUNTIME. The sockets by which the runtime talks to its caller, to agents, and to a container that
//! waits for `start`.

pub(crate) mod console;
pub(crate) mod notify_socket;
pub(crate) mod pidfd_socket;
pub(crate) mod seccomp_agent;
pub(crate) mod start_socket;
pub(crate) mod unix_socket;

//! Runs in: RUNTIME. The sockets by which the runtime talks to its caller, to agents, and to a container that waits for
//! `start`.

pub mod console;
pub mod notify_socket;
pub mod pidfd_socket;
pub mod seccomp_agent;
pub mod start_socket;
pub(crate) mod unix_socket;

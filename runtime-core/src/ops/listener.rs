//! Runs in: RUNTIME. Sends seccomp listeners to their agents (config-linux.md, Seccomp).

use std::os::fd::BorrowedFd;

use crate::host::socket::seccomp_agent;
use crate::host::state::Record;
use crate::plan::seccomp::{SeccompListener, SeccompPlan};
use crate::{Cancel, Error, ErrorKind, Result};

/// Sends the listener of a process to the agent that the plan names. `status` is the container's.
pub(super) fn pass_on(
    seccomp: Option<&SeccompPlan>,
    record: &Record,
    status: &str,
    pid: i32,
    listener: BorrowedFd<'_>,
    cancel: &Cancel,
) -> Result<()> {
    match seccomp.and_then(|seccomp| seccomp.listener.as_ref()) {
        Some(agent) => send(agent, record, status, pid, listener, cancel),
        None => Err(Error::new(
            ErrorKind::Internal,
            "a seccomp listener came without having been asked for",
        )),
    }
}

fn send(
    agent: &SeccompListener,
    record: &Record,
    status: &str,
    pid: i32,
    listener: BorrowedFd<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let state = seccomp_agent::State {
        oci_version: crate::OCI_VERSION,
        id: &record.id,
        status,
        pid: if record.pid > 0 { record.pid } else { pid },
        bundle: &record.bundle.to_string_lossy(),
        annotations: &record.annotations,
    };
    seccomp_agent::pass_on(&agent.path, listener, pid, &agent.metadata, &state, cancel)
}

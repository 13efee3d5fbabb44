//! Runs in: RUNTIME. `start`.

use std::os::fd::AsFd;

use runtime_core::{Cancel, Error, Result, tell_ready};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::start_options::notify_host;
use super::{Definition, Invocation, command};

pub(crate) const COMMAND: Definition =
    command("start", "start the program of a created container", Vec::new, run);

/// With NOTIFY_SOCKET in the environment, `start` lasts until the container is ready, or has ended.
fn run(call: &Invocation) -> Result<u8> {
    let (runtime, id) = (call.runtime()?, call.id()?);
    let Some(host) = notify_host() else {
        runtime.start(&id)?;
        return Ok(0);
    };
    let socket = runtime.notify_socket(&id)?;
    let pid = runtime.state(&id)?.pid;
    let init = Pid::from_raw(pid)
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .transpose()
        .map_err(|errno| Error::os("pidfd_open", errno))?;
    runtime.start(&id)?;
    if let (Some(socket), Some(init)) = (socket, init)
        && socket.wait(init.as_fd())?
    {
        tell_ready(&host, Some(pid), &Cancel::default())?;
    }
    Ok(0)
}

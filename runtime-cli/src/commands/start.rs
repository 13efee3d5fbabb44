//! Runs in: RUNTIME. `start`.

use std::os::fd::AsFd;

use runtime_core::{Cancel, Error, Result, tell_ready};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::service_manager;

flags! {
    pub(crate) struct Start {}
}

impl Command for Start {
    const DEFINITION: Definition =
        Definition::new::<Self>("start", "start the program of a created container");

    /// With NOTIFY_SOCKET in the environment, `start` lasts until the container is ready, or has ended.
    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        let Some(manager) = service_manager::notify_socket() else {
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
            tell_ready(&manager, Some(pid), &Cancel::default())?;
        }
        Ok(0)
    }
}

//! Runs in: RUNTIME. How a container's terminal comes to whoever waits for it.

use std::os::fd::OwnedFd;

use super::options::Console;
use crate::host::socket::console;
use crate::plan::ConsoleRequest;
use crate::{Cancel, Result};

/// What the caller has said about the terminal, by what it gave.
pub(super) fn console_request(console: Option<&Console>) -> ConsoleRequest {
    match console {
        None => ConsoleRequest::None,
        Some(Console::Socket(_)) => ConsoleRequest::Optional,
        Some(Console::Path(_)) => ConsoleRequest::Required,
    }
}

/// Connects to where the terminal goes.
pub(super) fn connect_console(console: Option<Console>, cancel: &Cancel) -> Result<Option<OwnedFd>> {
    match console {
        None => Ok(None),
        Some(Console::Socket(socket)) => Ok(Some(socket)),
        Some(Console::Path(path)) => console::connect(&path, cancel).map(Some),
    }
}

/// The way from INIT through RUNTIME, since INIT has the terminal long before the container can be started.
#[derive(Debug)]
pub(super) struct Relay {
    from_init: OwnedFd,
    console: OwnedFd,
}

impl Relay {
    /// To a console that is connected; and INIT's end of the way.
    pub(super) fn to(console: OwnedFd) -> Result<(Self, OwnedFd)> {
        let (from_init, of_init) = console::relay()?;
        Ok((Self { from_init, console }, of_init))
    }

    /// Passes on what INIT has sent.
    pub(super) fn pass_on(self, cancel: &Cancel) -> Result<()> {
        console::pass_on(&self.from_init, &self.console, cancel)
    }
}

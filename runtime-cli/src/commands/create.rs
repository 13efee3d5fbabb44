//! Runs in: RUNTIME. `create`.

use clap::Arg;
use runtime_core::Result;

use super::start_options::{console_socket, create_flags, create_options};
use super::{Definition, Invocation, command};
use crate::flags::switch;
use crate::interrupt;

pub(crate) const COMMAND: Definition = Definition {
    failure: |program| format!("{program} create failed: "),
    ..command("create", "create a container", flags, run)
};

fn flags() -> Vec<Arg> {
    let mut flags = create_flags();
    // crun's; a command that ends at once has no orphans to adopt.
    flags.push(switch("no-subreaper", "accepted for crun's callers, without effect").hide(true));
    flags
}

/// Leaves the start to `start`.
fn run(call: &Invocation) -> Result<u8> {
    let mut options = create_options(call, console_socket(call))?;
    options.cancel = interrupt::block()?;
    call.runtime()?.create(&call.id()?, options)?;
    Ok(0)
}

//! Runs in: RUNTIME. `start`.

use runtime_core::Result;

use super::{Definition, Invocation, command};

pub(crate) const COMMAND: Definition =
    command("start", "start the program of a created container", Vec::new, run);

fn run(call: &Invocation) -> Result<u8> {
    call.runtime()?.start(&call.id()?)?;
    Ok(0)
}

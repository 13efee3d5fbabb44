//! Runs in: RUNTIME. `pause`.

use runtime_core::Result;

use super::{Definition, Invocation, command};

pub(crate) const COMMAND: Definition =
    command("pause", "suspend all processes of a container", Vec::new, run);

fn run(call: &Invocation) -> Result<u8> {
    call.runtime()?.pause(&call.id()?)?;
    Ok(0)
}

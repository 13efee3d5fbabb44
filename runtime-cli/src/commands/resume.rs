//! Runs in: RUNTIME. `resume`.

use runtime_core::Result;

use super::{Definition, Invocation, command};

pub(crate) const COMMAND: Definition = command(
    "resume",
    "resume all processes of a paused container",
    Vec::new,
    run,
);

fn run(call: &Invocation) -> Result<u8> {
    call.runtime()?.resume(&call.id()?)?;
    Ok(0)
}

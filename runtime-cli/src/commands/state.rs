//! Runs in: RUNTIME. `state`.

use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::output;

pub(crate) const COMMAND: Definition =
    command("state", "print the state of a container, as JSON", Vec::new, run);

/// Two spaces deep, and no newline at the end, as runc has it.
fn run(call: &Invocation) -> Result<u8> {
    let state = call.runtime()?.state(&call.id()?)?;
    let json = serde_json::to_string_pretty(&state).map_err(output::unprintable)?;
    output::print(&output::without_controls(json))?;
    Ok(0)
}

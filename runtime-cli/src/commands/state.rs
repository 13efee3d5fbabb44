//! Runs in: RUNTIME. `state`.

use runtime_core::Result;

use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::output;

flags! {
    pub(crate) struct State {}
}

impl Command for State {
    const DEFINITION: Definition =
        Definition::new::<Self>("state", "print the state of a container, as JSON");

    /// Two spaces deep, and no newline at the end, as runc has it.
    fn run(self, call: &Invocation) -> Result<u8> {
        let state = call.runtime()?.state(&call.id()?)?;
        let json = serde_json::to_string_pretty(&state).map_err(output::unprintable)?;
        output::print(&output::without_controls(json))?;
        Ok(0)
    }
}

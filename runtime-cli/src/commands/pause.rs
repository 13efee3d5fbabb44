//! Runs in: RUNTIME. `pause`.

use runtime_core::Result;

use super::{Command, Definition, Invocation};
use crate::flags::flags;

flags! {
    pub(crate) struct Pause {}
}

impl Command for Pause {
    const DEFINITION: Definition = Definition::new::<Self>("pause", "suspend all processes of a container");

    fn run(self, call: &Invocation) -> Result<u8> {
        call.runtime()?.pause(&call.id()?)?;
        Ok(0)
    }
}

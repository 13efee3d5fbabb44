//! Runs in: RUNTIME. `resume`.

use runtime_core::Result;

use super::{Command, Definition, Invocation};
use crate::flags::flags;

flags! {
    pub(crate) struct Resume {}
}

impl Command for Resume {
    const DEFINITION: Definition =
        Definition::new::<Self>("resume", "resume all processes of a paused container");

    fn run(self, call: &Invocation) -> Result<u8> {
        call.runtime()?.resume(&call.id()?)?;
        Ok(0)
    }
}

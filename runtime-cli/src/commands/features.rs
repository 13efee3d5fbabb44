//! Runs in: RUNTIME. `features`.

use runtime_core::Result;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::output;

flags! {
    pub(crate) struct Features {}
}

impl Command for Features {
    const DEFINITION: Definition = Definition {
        usage: &[""],
        words: (0, 0),
        ..Definition::new::<Self>("features", "show what this runtime supports, as JSON")
    };

    /// Four spaces deep, as runc has it.
    fn run(self, _: &Invocation) -> Result<u8> {
        let mut text = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
        runtime_core::features()
            .serialize(&mut serializer)
            .map_err(output::unprintable)?;
        text.push(b'\n');
        output::print_bytes(&text)?;
        Ok(0)
    }
}

//! Runs in: RUNTIME. `features`.

use runtime_core::Result;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{Definition, Invocation, command};
use crate::output;

pub(crate) const COMMAND: Definition = Definition {
    usage: &[""],
    words: (0, 0),
    ..command(
        "features",
        "show what this runtime supports, as JSON",
        Vec::new,
        run,
    )
};

/// Four spaces deep, as runc has it.
fn run(_: &Invocation) -> Result<u8> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    runtime_core::features()
        .serialize(&mut serializer)
        .map_err(output::unprintable)?;
    text.push(b'\n');
    output::print_bytes(&text)?;
    Ok(0)
}

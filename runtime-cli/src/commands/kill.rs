//! Runs in: RUNTIME. `kill`.

use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::flags::switch;
use crate::go_flags::FlagsEnd;
use crate::settings;

pub(crate) const COMMAND: Definition = Definition {
    usage: &["<container-id> [signal]"],
    words: (1, 2),
    flags_end: FlagsEnd::AtFirstPositional,
    ..command(
        "kill",
        "send a signal (default: SIGTERM) to the container's init process",
        || vec![switch("all", "send it to all processes of the container").short('a')],
        run,
    )
};

fn run(call: &Invocation) -> Result<u8> {
    let signal = settings::signal(call.words().get(1))?;
    call.runtime()?.kill(&call.id()?, signal, call.flag("all"))?;
    Ok(0)
}

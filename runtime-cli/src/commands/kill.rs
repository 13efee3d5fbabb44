//! Runs in: RUNTIME. `kill`.

use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::flags::{regex, switch};
use crate::go_flags::FlagsEnd;
use crate::settings;

pub(crate) const COMMAND: Definition = Definition {
    usage: &["<container-id> [signal]"],
    words: (1, 2),
    flags_end: FlagsEnd::AtFirstPositional,
    ..command(
        "kill",
        "send a signal (default: SIGTERM) to the container's init process",
        || {
            vec![
                switch("all", "it is no error that the container has stopped").short('a'),
                regex(),
            ]
        },
        run,
    )
};

fn run(call: &Invocation) -> Result<u8> {
    let signal = settings::signal(call.words().get(1))?;
    call.for_each(|runtime, id| runtime.kill(id, signal, call.flag("all")))?;
    Ok(0)
}

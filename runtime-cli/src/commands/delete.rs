//! Runs in: RUNTIME. `delete`.

use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::flags::{regex, switch};

pub(crate) const COMMAND: Definition = command(
    "delete",
    "delete any resources held by a container",
    || {
        vec![
            switch("force", "kill it first if it still runs").short('f'),
            regex(),
        ]
    },
    run,
);

fn run(call: &Invocation) -> Result<u8> {
    call.for_each(|runtime, id| runtime.delete(id, call.flag("force")))?;
    Ok(0)
}

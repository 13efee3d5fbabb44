//! Runs in: RUNTIME. `delete`.

use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::flags::switch;

pub(crate) const COMMAND: Definition = command(
    "delete",
    "delete any resources held by a container",
    || vec![switch("force", "kill it first if it still runs").short('f')],
    run,
);

fn run(call: &Invocation) -> Result<u8> {
    call.runtime()?.delete(&call.id()?, call.flag("force"))?;
    Ok(0)
}

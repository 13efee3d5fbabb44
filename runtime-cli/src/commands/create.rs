//! Runs in: RUNTIME. `create`.

use runtime_core::Result;

use super::start_options::{console_socket, create_flags, create_options};
use super::{Definition, Invocation, command};

pub(crate) const COMMAND: Definition = Definition {
    failure: |program| format!("{program} create failed: "),
    ..command("create", "create a container", create_flags, run)
};

/// Leaves the start to `start`.
fn run(call: &Invocation) -> Result<u8> {
    call.runtime()?
        .create(&call.id()?, create_options(call, console_socket(call))?)?;
    Ok(0)
}

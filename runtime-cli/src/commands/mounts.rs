//! Runs in: RUNTIME. `mounts`: adds mounts to a running container, or takes them away. crun's.

use runtime_core::Result;

use super::{Definition, Invocation, command};

pub(crate) const COMMAND: Definition = Definition {
    usage: &["add|remove <container-id> <mounts.json>"],
    words: (3, 3),
    ..command(
        "mounts",
        "add mounts to a running container, or remove them",
        Vec::new,
        run,
    )
};

fn run(call: &Invocation) -> Result<u8> {
    Err(call.not_in_this_version("mounts"))
}

//! Runs in: RUNTIME. `events`: statistics and out-of-memory events of a container.

use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::flags::{switch, value};

pub(crate) const COMMAND: Definition = command(
    "events",
    "print statistics and out-of-memory events of a container, as JSON",
    || {
        vec![
            value("interval")
                .value_name("duration")
                .default_value("5s")
                .help("time between two statistics, as in 5s or 1m30s"),
            switch("stats", "print the statistics once, and end"),
        ]
    },
    run,
);

fn run(call: &Invocation) -> Result<u8> {
    Err(call.not_in_this_version("events"))
}

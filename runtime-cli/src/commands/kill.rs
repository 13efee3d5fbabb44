//! Runs in: RUNTIME. `kill`.

use std::ffi::OsStr;

use runtime_core::{ContainerId, Result, Runtime};

use super::common_flags::RegexFlag;
use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::go_flags::FlagsEnd;
use crate::words;

/// config.md, Annotations: what the image wants to be ended with.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

flags! {
    pub(crate) struct Kill {
        /// it is no error that the container has stopped
        all: bool { short('a') },
        ..regex: RegexFlag,
    }
}

impl Command for Kill {
    const DEFINITION: Definition = Definition {
        usage: &["<container-id> [signal]"],
        words: (1, 2),
        flags_end: FlagsEnd::AtFirstPositional,
        ..Definition::new::<Self>(
            "kill",
            "send a signal (default: the image's stop signal, or SIGTERM) to the container's init process",
        )
    };

    fn run(self, call: &Invocation) -> Result<u8> {
        let given = call.words.get(1).filter(|word| !word.is_empty());
        // A wrong one is said before any container is looked at.
        let given = given.map(|word| words::signal(word)).transpose()?;
        self.regex.for_each(call, |runtime, id| {
            let signal = match given {
                Some(signal) => signal,
                None => stop_signal(runtime, id)?,
            };
            runtime.kill(id, signal, self.all)
        })?;
        Ok(0)
    }
}

fn stop_signal(runtime: &Runtime, id: &ContainerId) -> Result<i32> {
    let state = runtime.state(id)?;
    let Some(name) = state.annotations.get(STOP_SIGNAL).filter(|name| !name.is_empty()) else {
        return Ok(libc::SIGTERM);
    };
    match words::signal(OsStr::new(name)) {
        // 0 is no signal, and would end nothing.
        Ok(signal) if signal > 0 => Ok(signal),
        _ => {
            let name: String = name.chars().take(80).collect();
            log::warn!("annotations[{STOP_SIGNAL}]: {name:?} is no signal; SIGTERM is sent");
            Ok(libc::SIGTERM)
        }
    }
}

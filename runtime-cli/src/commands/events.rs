//! Runs in: RUNTIME. `events`: statistics and out-of-memory events of a container.

use std::time::Instant;

use runtime_core::stats::CgroupStats;
use runtime_core::{ContainerId, Error, ErrorKind, Event, Result, Runtime};
use serde::Serialize;

use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::{output, units};

flags! {
    pub(crate) struct Events {
        /// time between two statistics, as in 5s or 1m30s
        interval: String { value_name("duration").default_value("5s") },
        /// print the statistics once, and end
        stats: bool,
    }
}

/// One line of output.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<CgroupStats>,
}

impl Command for Events {
    const DEFINITION: Definition = Definition::new::<Self>(
        "events",
        "print statistics and out-of-memory events of a container, as JSON",
    );

    /// Prints statistics at each interval, and each kill for memory at once, until the container ends.
    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        let wrong = |text| Err(Error::new(ErrorKind::Invalid, text));
        let Some(interval) = units::duration(&self.interval) else {
            return wrong(format!(
                "invalid value {:?} for flag -interval: not a duration, as in 5s or 1m30s",
                self.interval
            ));
        };
        if interval.is_zero() {
            return wrong("duration interval must be greater than 0".to_owned());
        }
        if self.stats {
            print_stats(&runtime, &id)?;
            return Ok(0);
        }
        let mut events = runtime.events(&id)?;
        let mut next = Instant::now() + interval;
        loop {
            match events.next(Some(next))? {
                Some(Event::Ended) => return Ok(0),
                Some(Event::Oom) => print("oom", &id, None)?,
                // What runc's `events` does not know.
                Some(_) => {}
                None => {
                    match print_stats(&runtime, &id) {
                        // It has ended, and may have been deleted, just now.
                        Err(error)
                            if matches!(error.kind(), ErrorKind::WrongStatus | ErrorKind::NotFound) =>
                        {
                            return Ok(0);
                        }
                        other => other?,
                    }
                    next = (next + interval).max(Instant::now());
                }
            }
        }
    }
}

fn print_stats(runtime: &Runtime, id: &ContainerId) -> Result<()> {
    print("stats", id, Some(runtime.stats(id)?))
}

fn print(kind: &'static str, id: &ContainerId, data: Option<CgroupStats>) -> Result<()> {
    let line = Line {
        r#type: kind,
        id: id.as_str(),
        data,
    };
    output::print(&(serde_json::to_string(&line).map_err(output::unprintable)? + "\n"))
}

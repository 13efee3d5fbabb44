//! Runs in: SUITE. What passes between the suite in a machine and the one on the host: one JSON object a line
//! for each finished test, and `exit N` at the end.

use crate::report::{Record, Verdict};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// In the machine: sends results.
#[derive(Debug)]
pub(crate) struct Sender(Mutex<File>);

impl Sender {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .append(true)
            .open(path)
            .map_err(|e| io::Error::new(e.kind(), format!("--results {}: {e}", path.display())))?;
        Ok(Self(Mutex::new(file)))
    }

    /// A lost result is a failure on the host's side, so an error is only printed.
    pub(crate) fn send(&self, record: &Record) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("{}\n", to_line(record)).as_bytes()) {
            eprintln!("spec-tests: result of {}: {error}", record.name);
        }
    }
}

fn to_line(record: &Record) -> Value {
    let (verdict, text) = match &record.verdict {
        Verdict::Passed => ("passed", ""),
        Verdict::Failed(why) => ("failed", why.as_str()),
        Verdict::Skipped(why) => ("skipped", why.as_str()),
    };
    json!({"test": record.name, "verdict": verdict, "text": text, "ms": record.time.as_millis() as u64})
}

fn from_line(line: &str, place: &'static str) -> Option<Record> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = value["text"].as_str()?.to_owned();
    let verdict = match value["verdict"].as_str()? {
        "passed" => Verdict::Passed,
        "failed" => Verdict::Failed(text),
        "skipped" => Verdict::Skipped(text),
        _ => return None,
    };
    Some(Record {
        name: value["test"].as_str()?.to_owned(),
        verdict,
        time: Duration::from_millis(value["ms"].as_u64()?),
        place,
    })
}

/// On the host: what has come from one machine.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<String, Record>,
    /// Place and, in words, how the machine ended; nothing comes after.
    ended: Option<(&'static str, String)>,
}

impl Outcomes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one line of the machine; the code of an `exit` line is returned.
    pub(crate) fn deliver(&self, line: &str, place: &'static str) -> Option<i32> {
        if let Some(code) = line.strip_prefix("exit ") {
            return code.trim().parse().ok();
        }
        match from_line(line, place) {
            Some(record) => {
                self.state().records.insert(record.name.clone(), record);
                self.changed.notify_all();
            }
            None => eprintln!("spec-tests: the {place} sent: {line}"),
        }
        None
    }

    /// Says that nothing comes any more, and why.
    pub(crate) fn end(&self, place: &'static str, how: String) {
        self.state().ended = Some((place, how));
        self.changed.notify_all();
    }

    pub(crate) fn wait_for_end(&self) {
        let mut state = self.state();
        while state.ended.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for this test's record; a machine that ended without it makes a failure.
    pub(crate) fn wait_for(&self, name: &str) -> Record {
        let mut state = self.state();
        loop {
            if let Some(record) = state.records.remove(name) {
                return record;
            }
            if let Some((place, how)) = &state.ended {
                return Record {
                    name: name.to_owned(),
                    verdict: Verdict::Failed(format!("no result from the {place}: {how}")),
                    time: Duration::ZERO,
                    place,
                };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcomes, to_line};
    use crate::report::{Record, Verdict};
    use std::time::Duration;

    fn record(verdict: Verdict) -> Record {
        Record {
            name: "a/b".into(),
            verdict,
            time: Duration::from_millis(12),
            place: "fast machine",
        }
    }

    #[test]
    fn a_record_survives_the_way() {
        for verdict in [
            Verdict::Passed,
            Verdict::Failed("two\nlines \"x\"".into()),
            Verdict::Skipped("why".into()),
        ] {
            let sent = record(verdict);
            let outcomes = Outcomes::default();
            let line = to_line(&sent).to_string();
            assert_eq!(line.lines().count(), 1);
            assert_eq!(outcomes.deliver(&line, "fast machine"), None);
            assert_eq!(format!("{:?}", outcomes.wait_for("a/b")), format!("{sent:?}"));
        }
    }

    #[test]
    fn no_record_is_a_failure() {
        let outcomes = Outcomes::default();
        assert_eq!(outcomes.deliver("exit 3", "fast machine"), Some(3));
        outcomes.end("fast machine", "it panicked".into());
        let record = outcomes.wait_for("a/b");
        assert!(matches!(record.verdict, Verdict::Failed(text) if text.contains("it panicked")));
    }
}

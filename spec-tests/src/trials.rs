//! Runs in: SUITE. One test at a time: where its result comes from (its body here, or a machine), what is
//! made of it (known differences of peers), and the record of it.

use crate::{
    case::{self, Case},
    expected::Known,
    host::Host,
    machine::{Machine, Sender},
    need::Need,
    outcome::{Check, Stop},
    placement::Place,
    report::{Record, Verdict},
    tests::Test,
};
use libtest_mimic::{Completion, Failed, Trial};
use std::{
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// [`Record::place`] of what ran in no place.
pub(crate) const NOWHERE: &str = "nowhere";

/// What the tests of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) host: &'static Host,
    /// The name of the place where this process is.
    pub(crate) here: &'static str,
    /// At work for this run.
    pub(crate) machines: Vec<Machine>,
    /// In a machine: the way to the host.
    sender: Option<Sender>,
    records: Mutex<Vec<Record>>,
    /// What names the containers of tests that have failed as their peer's list says: such a test has not
    /// come to its own clean-up, so the leak check at the end knows of nothing of theirs.
    excused: Mutex<Vec<[String; 2]>>,
    /// Held for reading by every test that runs here, for writing by one that must be alone.
    company: RwLock<()>,
}

impl Shared {
    pub(crate) fn new(
        host: &'static Host,
        here: &'static str,
        machines: Vec<Machine>,
        sender: Option<Sender>,
    ) -> Self {
        Self {
            host,
            here,
            machines,
            sender,
            records: Mutex::default(),
            excused: Mutex::default(),
            company: RwLock::default(),
        }
    }

    /// Files the record, and sends it to the host if this is a machine.
    pub(crate) fn file(&self, record: Record) {
        if let Some(sender) = &self.sender {
            sender.send(&record);
        }
        self.records().push(record);
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line of the leak check is about something that is known to stay.
    pub(crate) fn is_excused(&self, line: &str) -> bool {
        let excused = self.excused.lock().unwrap_or_else(PoisonError::into_inner);
        excused.iter().flatten().any(|mark| case::names(line, mark))
    }

    fn record(&self, (name, needs, body): Test, place: &Place, known: Option<Known>) -> Record {
        let nowhere = |verdict| Record {
            name: name.to_owned(),
            verdict,
            time: Duration::ZERO,
            place: NOWHERE,
        };
        match place {
            Place::LeftOut(why) | Place::Nowhere(why) => nowhere(Verdict::Failed(why.clone())),
            Place::Machine(kind) => match self.machines.iter().find(|m| m.kind() == *kind) {
                Some(machine) => machine.outcome(name),
                None => nowhere(Verdict::Failed(format!("the {} was not started", kind.place()))),
            },
            Place::Here => {
                let started = Instant::now();
                Record {
                    name: name.to_owned(),
                    verdict: judge(self.in_company(needs, body, known.is_some()), known),
                    time: started.elapsed(),
                    place: self.here,
                }
            }
        }
    }

    fn in_company(&self, needs: &[Need], body: fn(&mut Case) -> Check, may_fail: bool) -> Check {
        if needs.contains(&Need::Alone) {
            let _alone = self.company.write().unwrap_or_else(PoisonError::into_inner);
            self.one_test(body, may_fail)
        } else {
            let _company = self.company.read().unwrap_or_else(PoisonError::into_inner);
            self.one_test(body, may_fail)
        }
    }

    /// The body, then the runtime's own clean-up, then the light leak check.
    fn one_test(&self, body: fn(&mut Case) -> Check, may_fail: bool) -> Check {
        let mut case = Case::new(self.host)?;
        let result = body(&mut case).and_then(|()| match case.close().as_slice() {
            [] => Ok(()),
            left => Err(Stop::Fail(format!("left behind: {}", left.join("; ")))),
        });
        if result.is_err() {
            case.kill_by_mark();
            if may_fail {
                let mut excused = self.excused.lock().unwrap_or_else(PoisonError::into_inner);
                excused.push(case.marks());
            }
        }
        result
    }
}

/// The test in the form of libtest-mimic.
pub(crate) fn trial(shared: &'static Shared, test: Test, place: Place, known: Option<Known>) -> Trial {
    let kind = match &place {
        Place::Machine(kind) => kind.name(),
        Place::Here | Place::LeftOut(_) | Place::Nowhere(_) => "",
    };
    let body = move || {
        let record = shared.record(test, &place, known);
        shared.file(record.clone());
        match record.verdict {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Skipped(why) => Ok(Completion::ignored_with(why)),
            Verdict::Failed(why) => Err(Failed::from(why)),
        }
    };
    Trial::ignorable_test(test.0, body).with_kind(kind)
}

fn judge(result: Check, known: Option<Known>) -> Verdict {
    match (result, known) {
        (
            Ok(()),
            Some(Known {
                reason,
                sometimes: false,
            }),
        ) => Verdict::Failed(format!(
            "passes, but the expected list says it fails ({reason}): mend the list"
        )),
        (Ok(()), _) => Verdict::Passed,
        (Err(Stop::Unsupported(reason)), _) => {
            Verdict::Skipped(format!("unsupported on this host: {reason}"))
        }
        (Err(Stop::Fail(_)), Some(known)) => Verdict::Skipped(format!("known difference: {}", known.reason)),
        (Err(Stop::Fail(why)), None) => Verdict::Failed(why),
    }
}

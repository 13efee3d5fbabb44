//! Runs in: SUITE. From the list of tests to the last line: wraps each test (clean-up, light leak check, known
//! differences), runs them by libtest-mimic, compares the host before and after, and counts.

use crate::{
    case::Case,
    children,
    expected::{self, Expected, Known},
    host::{self, Host},
    leaks,
    need::{self, Need},
    options::{Format, Options},
    outcome::{Check, Stop},
    report::{self, Record, Verdict},
    tests,
};
use libtest_mimic::{Completion, Failed, Trial};
use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A test that runs everywhere: its name and its body.
pub(crate) type Test = (&'static str, fn(&mut Case) -> Check);

/// A test that needs more than every place has: its name, its needs and its body.
pub(crate) type NeedyTest = (&'static str, &'static [Need], fn(&mut Case) -> Check);

type Records = Arc<Mutex<Vec<Record>>>;

/// Runs everything that `options` asks for.
pub(crate) fn run(mut options: Options) -> io::Result<ExitCode> {
    if options.libtest.list {
        let trials = tests::all()
            .into_iter()
            .map(|(name, _, _)| Trial::test(name, || Ok(())))
            .collect();
        libtest_mimic::run(&options.libtest, trials).exit_if_failed();
        return Ok(ExitCode::SUCCESS);
    }
    let Some(runtime) = options.runtime.clone() else {
        return Err(io::Error::other(
            "--runtime PATH is missing (--help lists the options)",
        ));
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(io::Error::other("the suite needs root"));
    }
    if !options.hybrid {
        host::enter_pure_view()?;
    }
    let before = leaks::snapshot();
    let mut host = Host::new(&runtime, !options.hybrid)?;
    let expected = known_failures(&options, &host.runtime_name)?;
    let needs_shim = expected::for_runtime(&host.runtime_name).is_ok_and(|list| list.memlock_shim);
    if needs_shim && !host::has_capability(host::CAP_SYS_RESOURCE) {
        host.use_memlock_shim()?;
    }
    children::start_reaper()?;
    // One value for the whole process, which tests in several threads refer to until its end.
    let host: &'static Host = Box::leak(Box::new(host));

    let records = Records::default();
    let started = Instant::now();
    if options.format != Format::Libtest {
        options.libtest.logfile = Some("/dev/null".into());
    }
    if options.libtest.test_threads.is_none() {
        options.libtest.test_threads = Some(3);
    }
    let trials = trials(host, expected, &records);
    let conclusion = libtest_mimic::run(&options.libtest, trials);

    if let Err(error) = fs::remove_dir_all(&host.work) {
        // The leak check says what is in the way.
        eprintln!("spec-tests: remove {}: {error}", host.work.display());
    }
    if !options.no_leak_check {
        let record = leak_record(&before, host, started);
        if let (Format::Libtest, Verdict::Failed(text)) = (options.format, &record.verdict) {
            println!("---- {} ----\n{text}\n", record.name);
        }
        locked(&records).push(record);
    }
    Ok(finish(&options, &locked(&records), conclusion.num_ignored))
}

fn known_failures(options: &Options, name: &str) -> io::Result<Expected> {
    let expected = match &options.expected {
        None => expected::for_runtime(name).map_err(io::Error::other)?,
        Some(path) if path == Path::new("none") => Expected::default(),
        Some(path) => expected::from_file(path)?,
    };
    let names: Vec<&str> = tests::all().into_iter().map(|(name, _, _)| name).collect();
    match expected.failures.keys().find(|k| !names.contains(&k.as_str())) {
        Some(unknown) => Err(io::Error::other(format!(
            "the expected list names an unknown test: {unknown}"
        ))),
        None => Ok(expected),
    }
}

fn trials(host: &'static Host, mut expected: Expected, records: &Records) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, needs, body) in tests::all() {
        let known = expected.failures.remove(name);
        let records = Arc::clone(records);
        trials.push(Trial::ignorable_test(name, move || {
            let started = Instant::now();
            let verdict = judge(one_test(host, needs, body), known);
            let record = Record {
                name: name.to_owned(),
                verdict: verdict.clone(),
                time: started.elapsed(),
            };
            locked(&records).push(record);
            match verdict {
                Verdict::Passed => Ok(Completion::Completed),
                Verdict::Skipped(why) => Ok(Completion::ignored_with(why)),
                Verdict::Failed(why) => Err(Failed::from(why)),
            }
        }));
    }
    trials
}

/// The body, then the runtime's own clean-up, then the light leak check.
fn one_test(host: &'static Host, needs: &[Need], body: fn(&mut Case) -> Check) -> Check {
    let unmet: Vec<Need> = needs.iter().copied().filter(|n| !n.is_met(host)).collect();
    if !unmet.is_empty() {
        return Err(Stop::Unsupported(format!("it lacks {}", need::words(&unmet))));
    }
    let mut case = Case::new(host)?;
    body(&mut case)?;
    let left = case.close();
    if left.is_empty() {
        Ok(())
    } else {
        Err(Stop::Fail(format!("left behind: {}", left.join("; "))))
    }
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

fn leak_record(before: &leaks::Snapshot, host: &Host, started: Instant) -> Record {
    let marks = [
        format!("st{}-", std::process::id()),
        format!("spec-tests-{}", std::process::id()),
    ];
    let me = format!("parent={} ", std::process::id());
    let ours = |line: &str| {
        // On a shared machine other programs come and go: processes and files count only with our mark; mounts of our
        // own namespace, cgroups and keys of ours always.
        marks.iter().any(|m| line.contains(m)) || line.contains(&me) || line.starts_with("mount: ")
    };
    let mut left = Vec::new();
    // The kernel removes some things a moment after the last process has gone.
    for _ in 0..50 {
        left = leaks::new_lines(before, &leaks::snapshot(), ours);
        if left.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let verdict = match left.as_slice() {
        [] => Verdict::Passed,
        lines => Verdict::Failed(format!(
            "{} has left behind:\n  {}",
            host.runtime_name,
            lines.join("\n  ")
        )),
    };
    Record {
        name: "suite/leaves_nothing_behind".into(),
        verdict,
        time: started.elapsed(),
    }
}

fn finish(options: &Options, records: &[Record], never_started: u64) -> ExitCode {
    match options.format {
        Format::Libtest => {}
        Format::Tap => print!("{}", report::tap(records)),
        Format::Junit => print!("{}", report::junit(records)),
    }
    let count = |f: fn(&Verdict) -> bool| records.iter().filter(|r| f(&r.verdict)).count();
    let failed = count(|v| matches!(v, Verdict::Failed(_)));
    let skipped = count(|v| matches!(v, Verdict::Skipped(_)));
    let skipped = skipped.max(usize::try_from(never_started).unwrap_or(0));
    let summary = format!(
        "{} passed, {failed} failed, {skipped} skipped",
        count(|v| matches!(v, Verdict::Passed))
    );
    if options.format == Format::Junit {
        // stdout is the XML document.
        eprintln!("{summary}");
    } else {
        println!("{summary}");
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn locked(records: &Records) -> std::sync::MutexGuard<'_, Vec<Record>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Runs in: SUITE. From the list of tests to the last line: places the tests, runs them by libtest-mimic here
//! and in machines, compares the host before and after, and counts.

use crate::{
    children, conformance,
    expected::{self, Expected},
    faults::Extent,
    host::{self, Host},
    leaks, machine,
    machine::{Images, Kind, Order, Ready, Sender},
    need::{self, Need},
    options::{Format, Options, Where},
    placement::{self, Place},
    report::{self, HOST, Record, Verdict},
    tests::{self, Test},
    trials::{NOWHERE, Shared, trial},
};
use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

const LEAK_TEST: &str = "suite/leaves_nothing_behind";

/// Runs everything that `options` asks for.
pub(crate) fn run(options: Options) -> io::Result<ExitCode> {
    if options.libtest.list {
        return list(&options);
    }
    if let Some(kind) = options.shell {
        let files: Vec<_> = options.runtime.iter().chain(&options.files).cloned().collect();
        return machine::shell(kind, options.kernel, &files, options.command.as_deref());
    }
    let Some(runtime) = options.runtime.clone() else {
        return Err(io::Error::other(
            "--runtime PATH is missing (--help lists the options)",
        ));
    };
    if let Some(file) = &options.conformance {
        let runtimes: Vec<_> = [runtime].into_iter().chain(options.peers).collect();
        let mut passed_on = vec!["--kernel".to_owned(), options.kernel.name().to_owned()];
        if options.machine == Where::HostOnly {
            passed_on.extend(["--machine".to_owned(), "none".to_owned()]);
        }
        return conformance::write(file, &runtimes, &options.recorded, &passed_on)
            .map(|()| ExitCode::SUCCESS);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(io::Error::other("the suite needs root"));
    }
    if !options.hybrid {
        host::enter_pure_view()?;
    }
    let before = leaks::snapshot();
    let mut host = Host::new(&runtime, !options.hybrid)?;
    (host.cases, host.seed) = (options.cases, options.seed);
    host.faults = options.faults.clone();
    let work = host.work.clone();
    let result = run_tests(options, host, &before);
    if result.is_err() && work.exists() {
        fs::remove_dir_all(&work)?;
    }
    result
}

/// As libtest does; in its pretty form with what each test needs.
fn list(options: &Options) -> io::Result<ExitCode> {
    let selected = placement::selected(options)?;
    let terse = options.libtest.format == Some(libtest_mimic::FormatSetting::Terse);
    for (name, needs, _) in &selected {
        match needs {
            needs if needs.is_empty() || terse => println!("{name}: test"),
            needs => println!("{name}: test    (needs {})", need::words(needs)),
        }
    }
    if !terse {
        println!("\n{} tests", selected.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn run_tests(mut options: Options, mut host: Host, before: &leaks::Snapshot) -> io::Result<ExitCode> {
    let mut expected = known_failures(&options, &host.runtime_name)?;
    host.may_leave_cgroups = expected.may_leave_cgroups;
    let shims = expected::for_runtime(&host.runtime_name).unwrap_or_default();
    if shims.iptables_shim && !host::in_path("iptables-restore") {
        host.use_iptables_shim()?;
    }
    if shims.memlock_shim && !host::has_capability(host::CAP_SYS_RESOURCE) {
        host.use_memlock_shim()?;
    }
    let placed: Vec<(Test, Place)> = placement::selected(&options)?
        .into_iter()
        .map(|test| (test, placement::place(&options, &host, test.1)))
        .collect();
    let left_out = announce_left_out(&placed);
    // Starts programs and waits for them, so it comes before the thread that reaps.
    let machines = prepare_machines(&options, &host, &placed)?;
    let sender = options.results.as_deref().map(Sender::open).transpose()?;
    let here = match options.machine {
        Where::Inside(kind) => kind.place(),
        Where::Auto | Where::HostOnly | Where::Only(_) => HOST,
    };
    children::start_reaper()?;
    let machines = machines
        .into_iter()
        .map(Ready::start)
        .collect::<io::Result<_>>()?;
    // One value each for the whole process, which tests in several threads refer to until its end.
    let host: &'static Host = Box::leak(Box::new(host));
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(host, here, machines, sender)));

    let started = Instant::now();
    if options.format != Format::Libtest {
        options.libtest.logfile = Some("/dev/null".into());
    }
    if options.libtest.test_threads.is_none() {
        options.libtest.test_threads = Some(3);
    }
    // The results of machines come last, when they are there.
    let (away, present): (Vec<_>, Vec<_>) = placed
        .into_iter()
        .filter(|(_, place)| !matches!(place, Place::LeftOut(_)))
        .partition(|(_, place)| matches!(place, Place::Machine(_)));
    let trials = present
        .into_iter()
        .chain(away)
        .map(|(test, place)| trial(shared, test, place, expected.failures.remove(test.0)))
        .collect();
    let conclusion = libtest_mimic::run(&options.libtest, trials);
    tests::print_counts_of_faults(&options, started.elapsed());
    let machine_leaks = end_machines(shared, options.no_leak_check);

    if let Err(error) = fs::remove_dir_all(&host.work) {
        // The leak check says what is in the way.
        eprintln!("spec-tests: remove {}: {error}", host.work.display());
    }
    let own_leaks = (!options.no_leak_check).then(|| leak_record(before, shared, started));
    let unmade = tests::without_any_fault(&options).map(|text| Record {
        name: "faults/any_is_made".into(),
        verdict: Verdict::Failed(text),
        time: Duration::ZERO,
        place: shared.here,
    });
    for record in machine_leaks.into_iter().chain(own_leaks).chain(unmade) {
        if let (Format::Libtest, Verdict::Failed(text)) = (options.format, &record.verdict) {
            println!("---- {} ----\n{text}\n", record.name);
        }
        shared.file(record);
    }
    Ok(finish(
        &options,
        &host.runtime_name,
        &shared.records(),
        left_out,
        conclusion.num_ignored,
    ))
}

/// What the user has left out with `--machine` counts no more than what a filter leaves out, but it is said.
fn announce_left_out(placed: &[(Test, Place)]) -> usize {
    let mut number = 0;
    for ((name, _, _), place) in placed {
        if let Place::LeftOut(why) = place {
            eprintln!("spec-tests: left out: {name}: {why}");
            number += 1;
        }
    }
    number
}

/// For each machine that has tests: all that it boots from.
fn prepare_machines(options: &Options, host: &Host, placed: &[(Test, Place)]) -> io::Result<Vec<Ready>> {
    let tests_of = |kind: Kind| -> Vec<&'static str> {
        let there = placed.iter().filter(|(_, place)| *place == Place::Machine(kind));
        there.map(|((name, _, _), _)| *name).collect()
    };
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| !tests_of(*kind).is_empty())
        .collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let away = placed
        .iter()
        .filter(|(_, place)| matches!(place, Place::Machine(_)));
    let with_validation = away
        .clone()
        .any(|((_, needs, _), _)| needs.contains(&Need::ValidationPrograms));
    let images = Images::ready(options.kernel, &kinds, with_validation)?;
    let mut passed_on = Vec::new();
    if options.no_leak_check {
        passed_on.push("--no-leak-check".to_owned());
    }
    passed_on.extend(options.faults.words());
    if let Some(threads) = options.libtest.test_threads {
        passed_on.push(format!("--test-threads {threads}"));
    }
    let order = |kind| Order {
        kind,
        tests: tests_of(kind),
        runtime: host.runtime.clone(),
        expected: options.expected.clone(),
        options: passed_on.clone(),
        makes_all_faults: options.faults != Extent::Sample,
    };
    kinds
        .into_iter()
        .map(|kind| Ready::new(&order(kind), &images, &host.work.join(kind.name())))
        .collect()
}

/// Waits for the machines' ends; what their own leak checks have found.
fn end_machines(shared: &Shared, no_leak_check: bool) -> Vec<Record> {
    let mut leaks = Vec::new();
    for machine in &shared.machines {
        machine.wait();
        if !no_leak_check {
            let mut record = machine.outcome(LEAK_TEST);
            record.name = format!("{LEAK_TEST}_in_the_{}_machine", machine.kind().name());
            leaks.push(record);
        }
    }
    leaks
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

fn leak_record(before: &leaks::Snapshot, shared: &Shared, started: Instant) -> Record {
    let marks = [
        format!("st{}-", std::process::id()),
        format!("spec-tests-{}", std::process::id()),
    ];
    let me = format!("parent={} ", std::process::id());
    let ours = |line: &str| {
        // On a shared machine other programs come and go: processes and files count only with our mark;
        // mounts of our own namespace, cgroups and keys of ours always.
        let is_ours =
            marks.iter().any(|m| line.contains(m)) || line.contains(&me) || line.starts_with("mount: ");
        is_ours && !shared.is_excused(line)
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
            shared.host.runtime_name,
            lines.join("\n  ")
        )),
    };
    Record {
        name: LEAK_TEST.into(),
        verdict,
        time: started.elapsed(),
        place: shared.here,
    }
}

fn finish(
    options: &Options,
    runtime: &str,
    records: &[Record],
    left_out: usize,
    never_started: u64,
) -> ExitCode {
    match options.format {
        Format::Libtest => {}
        Format::Tap => print!("{}", report::tap(runtime, records)),
        Format::Junit => print!("{}", report::junit(records)),
    }
    let count = |f: fn(&Verdict) -> bool| records.iter().filter(|r| f(&r.verdict)).count();
    let failed = count(|v| matches!(v, Verdict::Failed(_)));
    let skipped = count(|v| matches!(v, Verdict::Skipped(_)));
    let skipped = skipped.max(usize::try_from(never_started).unwrap_or(0));
    let summary = format!(
        "{}\n{} passed, {failed} failed, {skipped} skipped",
        places(records, left_out),
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

/// How many ran where, in words.
fn places(records: &[Record], left_out: usize) -> String {
    let at = |place: &str| records.iter().filter(|r| r.place == place).count();
    let mut parts = vec![format!("{} on the host", at(HOST))];
    for kind in Kind::ALL {
        match at(kind.place()) {
            0 => {}
            number => parts.push(format!("{number} in the {}", kind.place())),
        }
    }
    for (number, what) in [(at(NOWHERE), "nowhere"), (left_out, "left out")] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    parts.join(", ")
}

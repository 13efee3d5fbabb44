//! Runs in: SUITE. Each call of each process of a command fails once in each way, and is once where the
//! process is killed. Whatever fails: the command ends, it says why in one line, its exit code is right,
//! after `delete --force` nothing is left; and where it says that all is well, the program sees what it sees
//! without a fault. Natively a sample of all faults takes a minute, the whole (`--faults whole`) some; in
//! machines every so many take part.

mod attempt;
mod scenario;
mod steps;
mod view;

use crate::{
    case::Case,
    faults::{Extent, Fault, What, name_of_call, on_a_kernel_before_6_17},
    options::Options,
    outcome::{Check, fail},
    tests::namespaces::in_own_network,
};
pub(super) use attempt::Attempt;
use attempt::World;
use scenario::{CREATES, OTHERS, SYSTEMD, Scenario};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A test for each scenario, with the name of it.
macro_rules! scenarios {
    ($($list:ident $needs:tt $($index:literal)+;)+) => {
        tests! { @list $($(($list[$index].name, $needs, |c| test(c, &$list[$index])),)+)+ }
    };
}

scenarios! {
    CREATES [] 0 1 2 3 4;
    OTHERS [] 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20;
    SYSTEMD [&[Systemd]] 0 1 2 3 4;
}

/// Of a sample, every so many faults are made. It has no factor in common with the six ways to fail, so all
/// of them occur.
const STRIDE: usize = 31;
/// Of the same and of the whole in an emulated machine, where each takes a hundred times as long.
const STRIDE_IN_A_MACHINE: usize = 1201;
const STRIDE_OF_THE_WHOLE_IN_A_MACHINE: usize = 25;

/// A sample ends after so many faults with something wrong.
const ENOUGH: usize = 5;

/// What a scenario has come to.
#[derive(Debug, Default)]
struct Count {
    name: &'static str,
    /// By the name of a process: its calls.
    calls: BTreeMap<String, usize>,
    made: BTreeMap<String, usize>,
    /// The call of that number was not made this time.
    not_reached: usize,
    failed: usize,
    time: Duration,
}

static COUNTS: Mutex<Vec<Count>> = Mutex::new(Vec::new());

fn test(c: &mut Case, scenario: &'static Scenario) -> Check {
    let extent = match (&c.host.faults, c.host.is_emulated()) {
        (Extent::Whole, true) => Extent::Sample,
        (extent, _) => extent.clone(),
    };
    let stride = match (c.host.is_emulated(), &c.host.faults) {
        (false, _) => STRIDE,
        (true, Extent::Whole) => STRIDE_OF_THE_WHOLE_IN_A_MACHINE,
        (true, _) => STRIDE_IN_A_MACHINE,
    };
    let wrong = in_own_network(c, |c| {
        let mut all = || all(c, scenario, |calls| extent.faults(calls, stride), |_| ());
        if scenario.before_6_17 {
            on_a_kernel_before_6_17(all)
        } else {
            all()
        }
    })?;
    match wrong.as_slice() {
        [] => Ok(()),
        wrong if c.host.faults == Extent::Whole && !c.host.is_emulated() => {
            fail(format!("{} faults, told above", wrong.len()))
        }
        wrong => fail(format!("{} faults:\n{}", wrong.len(), wrong.join("\n"))),
    }
}

/// Every call of every container process that the scenarios of `create` have, failing with EIO; `see` sees
/// what comes of each.
pub(super) fn each_call_of_children(
    c: &Case,
    stride: usize,
    see: impl Fn(Attempt) + Sync,
) -> Check<Vec<String>> {
    let host = c.host;
    let is_a_childs = |fault: &Fault| fault.process != crate::faults::RUNTIME;
    let is_eio = |fault: &Fault| fault.what == What::Errno(nix::errno::Errno::EIO);
    let next = Mutex::new(CREATES.iter());
    let work = || -> Check<Vec<String>> {
        let mut wrong = Vec::new();
        loop {
            let scenario = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(scenario) = scenario else {
                return Ok(wrong);
            };
            let mut own = Case::new(host)?;
            let choose = |calls: &_| -> Vec<_> {
                let whole = Extent::Whole.faults(calls, 1);
                let of_children = whole
                    .into_iter()
                    .filter(|(fault, _)| is_a_childs(fault) && is_eio(fault));
                of_children.step_by(stride).collect()
            };
            wrong.extend(in_own_network(&mut own, |own| all(own, scenario, choose, &see))?);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        let mut wrong = Vec::new();
        for thread in threads {
            wrong.extend(
                thread
                    .join()
                    .unwrap_or_else(|_| fail("the thread of a scenario ended"))?,
            );
        }
        Ok(wrong)
    })
}

type Calls = BTreeMap<String, Vec<crate::faults::Call>>;

/// The scenario with each of the faults that `choose` chooses. What was wrong, in words.
fn all(
    c: &mut Case,
    scenario: &'static Scenario,
    choose: impl Fn(&Calls) -> Vec<(Fault, crate::faults::Call)>,
    see: impl Fn(Attempt),
) -> Check<Vec<String>> {
    let started = Instant::now();
    let is_whole = c.host.faults == Extent::Whole && !c.host.is_emulated();
    let is_sample = c.host.faults == Extent::Sample;
    let mut world = World::new(c, scenario)?;
    let (first, second) = (world.attempt(None)?, world.attempt(None)?);
    for attempt in [&first, &second] {
        if let [problem, ..] = attempt.problems.as_slice() {
            return fail(format!("without a fault: {problem}"));
        }
    }
    let wish = first.view;
    if let (Some(wish), Some(reality)) = (&wish, &second.view)
        && let [difference, ..] = view::differences(wish, reality).as_slice()
    {
        return fail(format!("differs without a fault: {difference}"));
    }
    let mut count = Count {
        name: scenario.name,
        calls: second
            .calls
            .iter()
            .map(|(name, calls)| (name.clone(), calls.len()))
            .collect(),
        ..Count::default()
    };
    let mut wrong = Vec::new();
    for (fault, call) in choose(&second.calls) {
        let mut attempt = world.attempt(Some(&fault))?;
        if let (Some(wish), Some(reality)) = (&wish, &attempt.view) {
            let differences = view::differences(wish, reality);
            let differs = |text: &String| format!("the program sees something else: {text}");
            attempt.problems.extend(differences.iter().map(differs));
        }
        match attempt.hit {
            Some(_) => *count.made.entry(fault.what.to_string()).or_default() += 1,
            None => count.not_reached += 1,
        }
        if !attempt.problems.is_empty() {
            count.failed += 1;
            let text = told(&world, &fault, &attempt, call);
            if is_whole {
                // There may be an hour to the end.
                println!("{text}");
            }
            wrong.push(text);
            if is_sample && wrong.len() == ENOUGH {
                break;
            }
        }
        see(attempt);
    }
    count.time = started.elapsed();
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner).push(count);
    Ok(wrong)
}

/// What was wrong, and how to see it again.
fn told(world: &World<'_>, fault: &Fault, attempt: &Attempt, call: crate::faults::Call) -> String {
    let name = name_of_call(attempt.hit.unwrap_or(call).number);
    let reached = if attempt.hit.is_some() {
        ""
    } else {
        " (not reached)"
    };
    format!(
        "{}: {} at call {} of {}, {name}{reached}\n    {}\n    again: --exact {} --fault {fault}",
        world.scenario.name,
        fault.what,
        fault.nth,
        fault.process,
        attempt.problems.join("\n    "),
        world.scenario.name,
    )
}

/// After a run that was asked for certain faults: what is wrong if none of them was made. Nothing was tested
/// then.
pub(crate) fn without_any(options: &Options) -> Option<String> {
    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = counts.iter().flat_map(|count| count.made.values()).sum();
    let not_reached = counts.iter().map(|count| count.not_reached).sum();
    match counts.is_empty() {
        true => None,
        false => options.faults.unmade(made, not_reached),
    }
}

/// After a run that was asked for faults: how many of which there were.
pub(crate) fn print_counts(options: &Options, time: Duration) {
    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    if options.faults == Extent::Sample || counts.is_empty() {
        return;
    }
    let (mut total, mut by_what) = (0, BTreeMap::<String, usize>::new());
    for count in counts.iter() {
        let made: usize = count.made.values().sum();
        total += made;
        for (what, number) in &count.made {
            *by_what.entry(what.clone()).or_default() += number;
        }
        let words = |map: &BTreeMap<String, usize>| {
            let parts: Vec<String> = map
                .iter()
                .map(|(name, number)| format!("{name} {number}"))
                .collect();
            parts.join(", ")
        };
        println!(
            "{}: calls: {}; faults: {}; not reached {}; wrong {}; {:.0} s",
            count.name,
            words(&count.calls),
            words(&count.made),
            count.not_reached,
            count.failed,
            count.time.as_secs_f64()
        );
    }
    let failed: usize = counts.iter().map(|count| count.failed).sum();
    let by_what: Vec<String> = by_what
        .iter()
        .map(|(what, made)| format!("{what} {made}"))
        .collect();
    println!(
        "{total} faults ({}), {failed} with something wrong, in {:.0} s",
        by_what.join(", "),
        time.as_secs_f64()
    );
}

//! The list of steps is told three times: in `step.rs`, by the code that takes them, and in `docs/design.md`.
//! A reader may trust any of them, because they are compared here, as text.

use std::path::{Path, PathBuf};

use runtime_init::step::Step;

/// Taken by INTERMEDIATE only, which goes through the story of `init.rs` in the place of INIT, up to where it
/// makes that.
const INTERMEDIATE: [Step; 2] = [Step::CloneInit, Step::TimeOffsets];

/// Taken in one of two places or half in each, so that they have no single one: the directory is entered
/// before the ids change, and once more, where that failed, after; the bounding set is dropped before the ids
/// change, the others after; the filter is loaded with the capabilities, or with no_new_privs at the end;
/// namespaces are made before Go where they can be, or when everything else is joined and mapped.
const IN_TWO_PLACES: [Step; 4] = [Step::Unshare, Step::Cwd, Step::Capabilities, Step::Seccomp];

/// JOINER has done most steps when EXEC, which alone can lead a session in the pid namespace, is born.
const LATE_IN_EXEC: [Step; 2] = [Step::Session, Step::CloneInit];

/// Here the order of lines is not the order of execution: they are arms of a match.
const IN_ARMS: &str = "mounts";

#[test]
fn init_takes_the_steps_in_the_order_of_the_list() {
    let mut taken = expand("init", "run", &mut Vec::new());
    for step in INTERMEDIATE {
        assert!(taken.contains(&step), "{step:?} is not found from init.rs on");
    }
    taken.retain(|step| !INTERMEDIATE.contains(step));
    let expected: Vec<_> = Step::ALL
        .iter()
        .filter(|step| !INTERMEDIATE.contains(step))
        .collect();
    let missing: Vec<_> = expected.iter().filter(|step| !taken.contains(step)).collect();
    assert!(missing.is_empty(), "never taken from init.rs on: {missing:?}");
    assert_eq!(
        ordered(&taken),
        ordered(Step::ALL.iter().filter(|step| taken.contains(step)))
    );
}

#[test]
fn exec_takes_a_subset_in_the_same_order() {
    let mut taken = expand("join", "run", &mut Vec::new());
    for step in LATE_IN_EXEC {
        assert!(taken.contains(&step), "{step:?} is not in join.rs");
    }
    taken.retain(|step| !LATE_IN_EXEC.contains(step));
    assert!(taken.len() > 15, "only {taken:?} were found in join.rs");
    assert_eq!(
        ordered(&taken),
        ordered(Step::ALL.iter().filter(|step| taken.contains(step)))
    );
}

#[test]
fn intermediate_takes_the_steps_that_init_does_not() {
    let taken = expand("intermediate", "enter", &mut Vec::new());
    for step in INTERMEDIATE {
        assert!(taken.contains(&step), "{step:?} is not in intermediate.rs");
    }
}

#[test]
fn the_design_lists_the_same_steps() {
    let path = root().join("docs/design.md");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}, which must have the table of steps: {error}", path.display()));
    let table = text
        .split_once("<!-- steps -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /steps -->"))
        .map(|(table, _)| table)
        .unwrap_or_else(|| panic!("{} has no <!-- steps --> … <!-- /steps -->", path.display()));
    let listed: Vec<_> = rows(table).collect();
    let expected: Vec<_> = Step::ALL.iter().map(|step| step.name()).collect();
    assert_eq!(listed, expected);
}

/// The first cells of a table's rows, without its head and the line below it.
fn rows(table: &str) -> impl Iterator<Item = &str> {
    table
        .lines()
        .filter_map(|line| line.trim().strip_prefix('|'))
        .filter_map(|line| line.split('|').next())
        .map(|cell| cell.trim().trim_matches('`'))
        .skip_while(|cell| !cell.starts_with("--"))
        .skip(1)
}

#[test]
fn rows_are_read_without_head() {
    let table = "\n| Step | what |\n|---|---|\n| `Detach` | x |\n| AwaitGo | y |\n";
    assert_eq!(rows(table).collect::<Vec<_>>(), ["Detach", "AwaitGo"]);
}

/// Each step where it is met first, without those that have no single place.
fn ordered<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Vec<Step> {
    let mut first: Vec<Step> = Vec::new();
    for step in steps {
        if !first.contains(step) && !IN_TWO_PLACES.contains(step) {
            first.push(*step);
        }
    }
    first
}

/// The steps that a function names, in the order of its text, with those of the functions that it calls in
/// their place.
fn expand(module: &str, function: &str, callers: &mut Vec<(String, String)>) -> Vec<Step> {
    let here = (module.to_owned(), function.to_owned());
    let Some(body) = body(module, function).filter(|_| !callers.contains(&here)) else {
        return Vec::new();
    };
    callers.push(here);
    let mut steps = Vec::new();
    for word in words(&body) {
        if let Some(name) = word.text.strip_prefix("Step::") {
            let step = Step::ALL.iter().find(|step| step.name() == name);
            steps.push(*step.unwrap_or_else(|| panic!("{module}.rs: no step {name}")));
            continue;
        }
        if word.is_call {
            let (callee, function) = word.text.rsplit_once("::").unwrap_or((module, word.text));
            steps.extend(expand(callee, function, callers));
        }
    }
    callers.pop();
    if module == IN_ARMS {
        steps.sort();
    }
    steps
}

struct Word<'a> {
    text: &'a str,
    is_call: bool,
}

/// Paths like `Step::Pivot` and `mounts::mount_all`, and whether arguments follow.
fn words(body: &str) -> impl Iterator<Item = Word<'_>> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    body.split_inclusive(move |letter| !is_part(letter))
        .map(move |piece| Word {
            text: piece.trim_end_matches(|letter| !is_part(letter)),
            is_call: piece.ends_with('('),
        })
}

/// The body of a function of `runtime-init`; rustfmt ends it by a line of its own. `None` if there is none.
fn body(module: &str, function: &str) -> Option<String> {
    let path = root().join(format!("runtime-init/src/{module}.rs"));
    let source = std::fs::read_to_string(path).ok()?;
    let mut lines = source.lines().skip_while(|line| !declares(line, function));
    let first = lines.next()?;
    let indentation = first.len() - first.trim_start().len();
    let end = format!("{}}}", " ".repeat(indentation));
    let code = lines
        .take_while(|line| *line != end)
        .filter(|line| !line.trim_start().starts_with("//"));
    Some(code.collect::<Vec<_>>().join("\n"))
}

fn declares(line: &str, function: &str) -> bool {
    let name = line
        .trim_start()
        .trim_start_matches("pub(crate) ")
        .strip_prefix("fn ");
    name.and_then(|name| name.strip_prefix(function))
        .is_some_and(|rest| rest.starts_with(['(', '<']))
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.unwrap_or(Path::new("/")).to_owned()
}

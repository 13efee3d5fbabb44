//! Runs in: SUITE. `--conformance`: what the runtime-spec asks, from requirements.txt, beside the tests that
//! show it and how they end on several runtimes. Runs this same program once for each runtime and reads what
//! it prints.

use crate::{expected, report::TAP_OF, tests::engines::runtime_tools};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The reviewed list.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// One line of the list.
#[derive(Debug)]
struct Requirement<'a> {
    id: &'a str,
    section: &'a str,
    level: &'a str,
    text: &'a str,
    tests: Vec<&'a str>,
    argument: Option<&'a str>,
}

/// A document of the specification with its requirements.
type Chapter<'a> = (&'a str, Vec<Requirement<'a>>);

fn parse(text: &str) -> Result<Vec<Chapter<'_>>, String> {
    let mut chapters: Vec<Chapter<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: &str| Err(format!("requirements.txt, line {}: {what}", index + 1));
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            chapters.push((name, Vec::new()));
            continue;
        }
        let Some((_, requirements)) = chapters.last_mut() else {
            return wrong("a requirement before the first [document]");
        };
        if let Some(argument) = line.strip_prefix("= ") {
            match requirements.last_mut() {
                Some(last) => last.argument = Some(argument),
                None => return wrong("an argument before the first requirement"),
            }
            continue;
        }
        let fields: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [id, section, level, text, tests] = fields[..] else {
            return wrong("not `id | section | level | text | tests`");
        };
        requirements.push(Requirement {
            id,
            section,
            level,
            text,
            tests: tests.split_whitespace().collect(),
            argument: None,
        });
    }
    Ok(chapters)
}

/// How one test ended on one runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    /// A unit test of onggi's library, which says nothing of others.
    Elsewhere,
    /// What it needs is not on this machine.
    Missing,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "yes",
            Self::Elsewhere => "–",
            Self::Missing => "not here",
            Self::Failed => "no",
        }
    }
}

/// One runtime and what it did.
#[derive(Debug)]
struct Results {
    name: String,
    /// Passed, failed, skipped.
    counts: [u32; 3],
    outcomes: BTreeMap<String, Outcome>,
    /// Test to reason: known differences, and needs that are not met.
    reasons: BTreeMap<String, String>,
    is_first: bool,
}

impl Results {
    /// Of what is recorded of the runtime, or else of a run.
    fn of_runtime(
        runtime: &Path,
        is_first: bool,
        recorded: &[String],
        options: &[String],
    ) -> io::Result<Self> {
        let file_name = runtime.file_name().unwrap_or_default().to_string_lossy();
        let mark = format!("{TAP_OF}{file_name}");
        let is_of_it = |text: &&String| text.lines().any(|line| line == mark);
        let texts: Vec<&String> = recorded.iter().filter(is_of_it).collect();
        let version = Command::new(runtime).arg("--version").output()?;
        let name = short_name(&String::from_utf8_lossy(&version.stdout));
        match texts.as_slice() {
            [] => Self::of_texts(name, is_first, &[&run(runtime, options)?]),
            texts => Self::of_texts(name, is_first, texts),
        }
    }

    /// Of one run, or of several that had a part of the tests each.
    fn of_texts(name: String, is_first: bool, texts: &[&String]) -> io::Result<Self> {
        let mut results = Self {
            name,
            counts: [0; 3],
            outcomes: BTreeMap::new(),
            reasons: BTreeMap::new(),
            is_first,
        };
        for text in texts {
            let summary = text.lines().last().and_then(counts);
            let Some(summary) = summary else {
                return Err(io::Error::other(format!(
                    "{}: a run that has not come to its end",
                    results.name
                )));
            };
            for (sum, part) in results.counts.iter_mut().zip(summary) {
                *sum += part;
            }
            for line in text.lines() {
                results.read(line);
            }
        }
        Ok(results)
    }

    /// `ok 1 - topic/name # SKIP reason`
    fn read(&mut self, line: &str) {
        let (is_ok, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return,
        };
        let Some((_, rest)) = rest.split_once(" - ") else {
            return;
        };
        let (name, reason) = rest.split_once(" # SKIP ").unwrap_or((rest, ""));
        let outcome = match reason.strip_prefix("known difference: ") {
            Some(_) => Outcome::Failed,
            None if !is_ok => Outcome::Failed,
            None if reason.is_empty() => Outcome::Passed,
            None => Outcome::Missing,
        };
        self.outcomes.insert(name.to_owned(), outcome);
        if !reason.is_empty() {
            let reason = reason.trim_start_matches("known difference: ");
            self.reasons.insert(name.to_owned(), reason.to_owned());
        }
    }

    /// The worst of its tests.
    fn of(&self, requirement: &Requirement<'_>) -> Outcome {
        let of_test = |test: &&str| match self.outcomes.get(*test) {
            Some(outcome) => *outcome,
            None if !test.contains("::") => Outcome::Missing,
            // The library's own tests run before this suite does, and a failure there stops everything.
            None if self.is_first => Outcome::Passed,
            None => Outcome::Elsewhere,
        };
        requirement
            .tests
            .iter()
            .map(of_test)
            .max()
            .unwrap_or(Outcome::Elsewhere)
    }
}

/// What the suite prints for the runtime.
fn run(runtime: &Path, options: &[String]) -> io::Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--runtime")
        .arg(runtime)
        .args(["--format", "tap"])
        .args(options)
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `runc version 1.1.5\n…` is runc 1.1.5.
fn short_name(version: &str) -> String {
    let words: Vec<&str> = version
        .split_whitespace()
        .take(3)
        .filter(|word| *word != "version")
        .collect();
    words.join(" ")
}

/// The numbers of `N passed, N failed, N skipped`.
fn counts(line: &str) -> Option<[u32; 3]> {
    let mut parts = line.split(", ");
    let mut number = |word| parts.next()?.strip_suffix(word)?.parse().ok();
    Some([number(" passed")?, number(" failed")?, number(" skipped")?])
}

/// Runs the suite with `options` on every runtime of which nothing is recorded and writes the document.
pub(crate) fn write(
    file: &Path,
    runtimes: &[PathBuf],
    recorded: &[PathBuf],
    options: &[String],
) -> io::Result<()> {
    let chapters = parse(REQUIREMENTS).map_err(io::Error::other)?;
    let recorded: Vec<String> = recorded
        .iter()
        .map(fs::read_to_string)
        .collect::<io::Result<_>>()?;
    let of =
        |(index, runtime): (usize, &PathBuf)| Results::of_runtime(runtime, index == 0, &recorded, options);
    let results: Vec<Results> = runtimes.iter().enumerate().map(of).collect::<io::Result<_>>()?;
    fs::write(file, document(&chapters, &results).map_err(io::Error::other)?)
}

fn document(chapters: &[Chapter<'_>], results: &[Results]) -> Result<String, std::fmt::Error> {
    let mut text = String::from(INTRODUCTION);
    let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
    writeln!(text, "\n## Summary\n\n| | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(results.len()))?;
    for outcome in [
        Outcome::Passed,
        Outcome::Failed,
        Outcome::Missing,
        Outcome::Elsewhere,
    ] {
        let count = |result: &Results| {
            let all = chapters.iter().flat_map(|(_, requirements)| requirements);
            all.filter(|requirement| result.of(requirement) == outcome)
                .count()
                .to_string()
        };
        let counts: Vec<String> = results.iter().map(count).collect();
        writeln!(
            text,
            "| requirements: {} | {} |",
            outcome.word(),
            counts.join(" | ")
        )?;
    }
    let summary =
        |Results {
             counts: [passed, failed, skipped],
             ..
         }: &Results| { format!("{passed} passed, {failed} failed, {skipped} skipped") };
    let summaries: Vec<String> = results.iter().map(summary).collect();
    writeln!(text, "| the whole suite | {} |", summaries.join(" | "))?;
    for (name, requirements) in chapters {
        writeln!(
            text,
            "\n## {name}\n\n| | section | level | what is asked | shown by | {} |",
            names.join(" | ")
        )?;
        writeln!(text, "|---|---|---|---|---|{}", "---|".repeat(results.len()))?;
        for requirement in requirements {
            writeln!(text, "{}", row(requirement, results))?;
        }
        arguments(&mut text, requirements)?;
    }
    reasons(&mut text, chapters, results)?;
    validation_programs(&mut text)?;
    Ok(text)
}

/// What `--validation` shows, from the lists that it is compared with: a listed program that passes fails
/// that run.
fn validation_programs(text: &mut String) -> std::fmt::Result {
    let all = runtime_tools::names().count();
    let wrong: BTreeSet<&str> = runtime_tools::wrong().map(|(program, _, _)| program).collect();
    text.push_str(VALIDATION);
    writeln!(
        text,
        "\nThere are {all} programs. {} of them pass on onggi as they are, and the other {} but for what they have wrong:\n",
        all - wrong.len(),
        wrong.len()
    )?;
    writeln!(
        text,
        "| program | what it reports | why that is wrong |\n|---|---|---|"
    )?;
    for (program, part, reason) in runtime_tools::wrong() {
        writeln!(text, "| {program} | {part} | {reason} |")?;
    }
    writeln!(text, "\nOn the peers of Debian 12 these fail besides:\n")?;
    for peer in ["runc", "crun"] {
        let known = expected::for_runtime(peer).unwrap_or_default().failures;
        for (name, known) in known
            .iter()
            .filter(|(name, _)| name.starts_with("runtime_tools/"))
        {
            let often = if known.sometimes { " (sometimes)" } else { "" };
            writeln!(text, "- {peer}: `{name}`{often}: {}", known.reason)?;
        }
    }
    Ok(())
}

fn row(requirement: &Requirement<'_>, results: &[Results]) -> String {
    let tests: Vec<String> = requirement
        .tests
        .iter()
        .map(|test| format!("`{}`", shown(test)))
        .collect();
    let words: Vec<&str> = results
        .iter()
        .map(|result| result.of(requirement).word())
        .collect();
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        requirement.id,
        requirement.section,
        requirement.level,
        requirement.text,
        tests.join(", "),
        words.join(" | ")
    )
}

/// A unit test without the folders before it.
fn shown(test: &str) -> &str {
    test.rsplit_once("/src/").map_or(test, |(_, rest)| rest)
}

fn arguments(text: &mut String, requirements: &[Requirement<'_>]) -> std::fmt::Result {
    let argued: Vec<_> = requirements
        .iter()
        .filter_map(|requirement| Some((requirement.id, requirement.argument?)))
        .collect();
    if !argued.is_empty() {
        writeln!(text)?;
    }
    for (id, argument) in argued {
        writeln!(text, "- **{id}**: {argument}")?;
    }
    Ok(())
}

fn reasons(text: &mut String, chapters: &[Chapter<'_>], results: &[Results]) -> std::fmt::Result {
    for result in results {
        let named = |test: &&&str| result.reasons.contains_key(**test);
        let all = chapters.iter().flat_map(|(_, requirements)| requirements);
        let mut tests: Vec<&str> = all
            .flat_map(|requirement| requirement.tests.iter())
            .filter(named)
            .copied()
            .collect();
        tests.sort_unstable();
        tests.dedup();
        if tests.is_empty() {
            continue;
        }
        writeln!(text, "\n## Why not: {}\n", result.name)?;
        for test in tests {
            writeln!(text, "- `{test}`: {}", result.reasons[test])?;
        }
    }
    Ok(())
}

const VALIDATION: &str = "
## The OCI's own validation programs

`make validation` builds the programs of the OCI's runtime-tools from Debian's source and runs them in a virtual machine
with cgroup v2. They are of 2023, and most of what they ask of cgroups is version 1.
";

const INTRODUCTION: &str = "\
# Conformance with runtime-spec 1.3.0

Generated by `spec-tests --conformance` from `spec-tests/requirements.txt`; do not edit. Every MUST, SHOULD and MAY of the
specification for Linux (and what it calls REQUIRED or OPTIONAL, where a runtime can do it wrong) has a number of ours, a
paraphrase, the tests that show it, and their result on each runtime, on one machine:

- **yes**: every test that is named passes;
- **no**: one of them fails. Why, is below: for peers in the words of `spec-tests/expected/`;
- **not here**: the machine lacks what a test needs;
- **–**: shown by a unit test of onggi's library only, which cannot run on another runtime.

A level AUTHOR is a rule for whoever writes config.json. Intel RDT is tested on a made-up resctrl tree: no machine with
the real one was there.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests;

    #[test]
    fn every_test_that_is_named_exists() {
        let names: BTreeSet<&str> = tests::all().into_iter().map(|(name, _, _)| name).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let exists = |test: &str| match test.split_once("::") {
            Some((file, function)) => {
                let text = fs::read_to_string(root.join(file)).unwrap_or_default();
                text.contains(&format!("fn {function}("))
            }
            None => names.contains(test),
        };
        let mut wrong = Vec::new();
        for (_, requirements) in parse(REQUIREMENTS).unwrap() {
            for requirement in requirements {
                let missing = requirement.tests.iter().filter(|test| !exists(test));
                wrong.extend(missing.map(|test| format!("{}: {test}", requirement.id)));
            }
        }
        assert!(wrong.is_empty(), "no such tests:\n{}", wrong.join("\n"));
    }

    #[test]
    fn every_requirement_has_an_id_of_its_own_a_level_and_a_test() {
        const LEVELS: &[&str] = &[
            "MUST",
            "MUST NOT",
            "SHOULD",
            "SHOULD NOT",
            "MAY",
            "MAY NOT",
            "REQUIRED",
            "OPTIONAL",
            "NOT RECOMMENDED",
            "AUTHOR",
        ];
        let chapters = parse(REQUIREMENTS).unwrap();
        let all: Vec<_> = chapters
            .iter()
            .flat_map(|(_, requirements)| requirements)
            .collect();
        let ids: BTreeSet<&str> = all.iter().map(|requirement| requirement.id).collect();
        assert_eq!(ids.len(), all.len(), "an id is used twice");
        for requirement in all {
            assert!(
                LEVELS.contains(&requirement.level),
                "{}: level {:?}",
                requirement.id,
                requirement.level
            );
            assert!(!requirement.tests.is_empty(), "{} has no test", requirement.id);
        }
    }

    #[test]
    fn parts_of_a_run_are_put_together() {
        let part = |line: &str, counts: &str| format!("TAP version 13\n# of it\n1..1\n{line}\n{counts}\n");
        let (one, two) = (
            part("ok 1 - a/b", "1 passed, 0 failed, 0 skipped"),
            part("not ok 1 - a/c", "0 passed, 1 failed, 0 skipped"),
        );
        let results = Results::of_texts("it 1".into(), false, &[&one, &two]);
        assert!(results.is_ok_and(|results| results.counts == [1, 1, 0] && results.outcomes.len() == 2));
        let cut_off = "TAP version 13\nok 1 - a/b\n".to_owned();
        assert!(Results::of_texts("it 1".into(), false, &[&one, &cut_off]).is_err());
    }

    #[test]
    fn results_are_read_from_tap() {
        let mut results = Results {
            name: String::new(),
            counts: [0; 3],
            outcomes: BTreeMap::new(),
            reasons: BTreeMap::new(),
            is_first: false,
        };
        for line in [
            "TAP version 13",
            "ok 1 - a/b",
            "not ok 2 - a/c",
            "ok 3 - a/d # SKIP known difference: too old",
            "ok 4 - a/e # SKIP unsupported on this host: no swap",
        ] {
            results.read(line);
        }
        let outcomes: Vec<_> = results.outcomes.values().copied().collect();
        assert_eq!(
            outcomes,
            [
                Outcome::Passed,
                Outcome::Failed,
                Outcome::Failed,
                Outcome::Missing
            ]
        );
        assert_eq!(results.reasons["a/d"], "too old");
    }
}

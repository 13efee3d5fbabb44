//! Runs in: SUITE. Which tests run, and where each of them does.

use crate::{
    host::Host,
    machine::Kind,
    need::{self, Need},
    options::{Options, Where},
    tests::{self, Test},
};
use libtest_mimic::Trial;
use std::{collections::BTreeSet, fs, io};

/// Where a test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process: on the host, or in the machine that this process is in.
    Here,
    Machine(Kind),
    /// The user has left out the places that could run it; the text is the reason.
    LeftOut(String),
    /// There is no place for it, which is a failure.
    Nowhere(String),
}

/// The tests that the command line asks for.
pub(crate) fn selected(options: &Options) -> io::Result<Vec<Test>> {
    let named = match &options.tests {
        None => None,
        Some(file) => Some(
            fs::read_to_string(file)?
                .lines()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>(),
        ),
    };
    let mut libtest = options.libtest.clone();
    let mut wanted = |name: &str| {
        if let Some(named) = &named {
            return named.contains(name);
        }
        // libtest's own rules, for each of the filters.
        let trial = Trial::test(name, || Ok(()));
        let mut passes = |filter: Option<&String>| {
            libtest.filter = filter.cloned();
            !libtest.is_filtered_out(&trial)
        };
        match options.filters.as_slice() {
            [] => passes(None),
            filters => filters.iter().any(|f| passes(Some(f))),
        }
    };
    Ok(tests::all()
        .into_iter()
        .filter(|(name, needs, _)| wanted(name) && (named.is_some() || is_of_this_run(options, needs)))
        .collect())
}

/// The validation programs take minutes, and show little that the suite's own tests do not: they are asked
/// for.
fn is_of_this_run(options: &Options, needs: &[Need]) -> bool {
    options.validation == needs.contains(&Need::ValidationPrograms)
}

/// The place of a test with these needs.
pub(crate) fn place(options: &Options, host: &Host, needs: &[Need]) -> Place {
    let here = || {
        needs
            .iter()
            .copied()
            .filter(|n| !n.is_met(host))
            .collect::<Vec<_>>()
    };
    let lacking = |kind: Kind| {
        let lacks = |n: &Need| !kind.offers(options.kernel, *n);
        needs.iter().copied().filter(lacks).collect::<Vec<_>>()
    };
    let without = |place: &str, lack: &[Need]| format!("the {place} lacks {}", need::words(lack));
    match options.machine {
        Where::Only(kind) => match lacking(kind) {
            lack if lack.is_empty() => Place::Machine(kind),
            lack => Place::LeftOut(without(kind.place(), &lack)),
        },
        Where::Inside(kind) => match here() {
            lack if lack.is_empty() => Place::Here,
            lack => Place::Nowhere(without(kind.place(), &lack)),
        },
        Where::HostOnly => match here() {
            lack if lack.is_empty() => Place::Here,
            lack => Place::LeftOut(format!("{} (--machine none)", without("host", &lack))),
        },
        Where::Auto => match here() {
            lack if lack.is_empty() => Place::Here,
            lack => match Kind::ALL.into_iter().find(|kind| lacking(*kind).is_empty()) {
                Some(kind) => Place::Machine(kind),
                None => Place::Nowhere(format!("no place has all it needs; {}", without("host", &lack))),
            },
        },
    }
}

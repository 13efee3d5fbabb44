//! Runs in: SUITE. The suite's own options; everything else goes to libtest-mimic.

use libtest_mimic::Arguments;
use std::{ffi::OsString, path::PathBuf};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// By libtest-mimic (pretty, terse, json).
    Libtest,
    Tap,
    Junit,
}

/// The command line.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) runtime: Option<PathBuf>,
    pub(crate) hybrid: bool,
    pub(crate) expected: Option<PathBuf>,
    pub(crate) no_leak_check: bool,
    pub(crate) format: Format,
    pub(crate) libtest: Arguments,
}

/// Shown by `--help` before libtest's own options.
pub(crate) const USAGE: &str = "\
spec-tests --runtime PATH [FILTER] [options]
  --runtime PATH      the OCI runtime to test
  --list              print the names of the tests
  --format FORMAT     pretty (default), terse, json, tap or junit
  --hybrid            stay in the host's cgroup view instead of a private pure cgroup2 view
  --expected FILE     known failures (`test/name: reason` a line); `none` for no list
  --no-leak-check     skip the comparison of the host before and after (other users on the machine)
  libtest's options (--exact, --skip, --test-threads, ...):
";

/// Splits the suite's options from libtest's.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut words = words.peekable();
    let mut rest: Vec<OsString> = words.next().into_iter().collect();
    let (mut runtime, mut expected, mut hybrid, mut no_leak_check) = (None, None, false, false);
    let mut format = Format::Libtest;
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (text.clone(), None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| words.next())
                .ok_or(format!("{name} needs a value"))
        };
        match name.as_str() {
            "--runtime" => runtime = Some(value()?.into()),
            "--expected" => expected = Some(value()?.into()),
            "--hybrid" => hybrid = true,
            "--no-leak-check" => no_leak_check = true,
            "--help" | "-h" => {
                print!("{USAGE}");
                rest.push(word);
            }
            "--format" => match value()?.to_str() {
                Some("tap") => format = Format::Tap,
                Some("junit") => format = Format::Junit,
                other => rest.push(format!("--format={}", other.unwrap_or_default()).into()),
            },
            _ => rest.push(word),
        }
    }
    let libtest = Arguments::from_iter(rest);
    Ok(Options {
        runtime,
        hybrid,
        expected,
        no_leak_check,
        format,
        libtest,
    })
}

//! Runs in: SUITE. The suite's own options; everything else goes to libtest-mimic.

use crate::{
    faults::Extent,
    machine::{Kernel, Kind},
};
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

/// Which machines take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// The host, and the machines for what it cannot do.
    Auto,
    /// The host alone.
    HostOnly,
    /// This machine alone, for everything it can do.
    Only(Kind),
    /// This process is in the machine: `--inside`.
    Inside(Kind),
}

/// The command line.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) runtime: Option<PathBuf>,
    pub(crate) hybrid: bool,
    pub(crate) expected: Option<PathBuf>,
    pub(crate) no_leak_check: bool,
    /// The validation programs of the OCI instead of the suite's own tests.
    pub(crate) validation: bool,
    pub(crate) format: Format,
    pub(crate) machine: Where,
    pub(crate) kernel: Kernel,
    /// A machine for a person.
    pub(crate) shell: Option<Kind>,
    pub(crate) command: Option<String>,
    pub(crate) files: Vec<PathBuf>,
    /// In the machine: the names of the tests to run, and where results go.
    pub(crate) tests: Option<PathBuf>,
    pub(crate) results: Option<PathBuf>,
    /// How many random configurations, and the first of their seeds.
    pub(crate) cases: u32,
    pub(crate) seed: u64,
    /// How many calls fail in `faults/`.
    pub(crate) faults: Extent,
    /// Write this document instead of running the tests once.
    pub(crate) conformance: Option<PathBuf>,
    /// Other runtimes in it.
    pub(crate) peers: Vec<PathBuf>,
    /// TAP of earlier runs.
    pub(crate) recorded: Vec<PathBuf>,
    /// Parts of names; a test with any of them runs. None: every test.
    pub(crate) filters: Vec<String>,
    pub(crate) libtest: Arguments,
}

/// Shown by `--help` before libtest's own options.
pub(crate) const USAGE: &str = "\
spec-tests --runtime PATH [FILTER]... [options]
  --runtime PATH      the OCI runtime to test
  --list              print the names of the tests, and what they need
  --format FORMAT     pretty (default), terse, json, tap or junit
  --machine WHERE     auto (default): on the host, and in virtual machines what it cannot do; none: the host only;
                      fast, systemd, bare, selinux: everything in this machine only
  --kernel VERSION    of the machines: 6.1, 6.12 (default) or newest
  --validation        instead of the suite's own tests, the validation programs of the OCI's runtime-tools
  --shell MACHINE     a shell in the machine (fast, systemd, bare, selinux, engines); --runtime and every --file PATH are in its /payload
  --command LINE      with --shell: run this line instead, and end with its status
  --hybrid            stay in the host's cgroup view instead of a private pure cgroup2 view
  --expected FILE     known failures (`test/name: reason` a line); `none` for no list
  --cases N           random configurations to run (default 500; a tenth in machines)
  --seed N            the first of their seeds (default 1)
  --faults EXTENT     of the calls that `faults/` lets fail: sample (default) or whole
  --fault FAULT       only this one, PROCESS:CALL:WHAT as a failure prints it; `*` stands for all, CALL may be a name
  --conformance FILE  run everything on --runtime and on each --peer, and write the table of docs/conformance.md
  --peer PATH         see --conformance; may be repeated
  --recorded FILE     with --conformance: what `--format tap` has printed for one of these runtimes, which is then not run
                      again; may be repeated, for parts of a run too
  --no-leak-check     skip the comparison of the host before and after (other users on the machine)
  libtest's options (--exact, --skip, --test-threads, ...):
";

/// Options of libtest that take their value as a word of its own.
const LIBTEST_VALUES: &[&str] = &["--test-threads", "--logfile", "--skip", "--color", "-Z"];

/// Splits the suite's options from libtest's.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut words = words.peekable();
    let mut rest: Vec<OsString> = words.next().into_iter().collect();
    let mut options = Options {
        runtime: None,
        hybrid: false,
        expected: None,
        no_leak_check: false,
        validation: false,
        format: Format::Libtest,
        machine: Where::Auto,
        kernel: Kernel::V6_12,
        shell: None,
        command: None,
        files: Vec::new(),
        tests: None,
        results: None,
        cases: 500,
        seed: 1,
        faults: Extent::Sample,
        conformance: None,
        peers: Vec::new(),
        recorded: Vec::new(),
        filters: Vec::new(),
        libtest: Arguments::default(),
    };
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) if text.starts_with('-') => (name.to_owned(), Some(OsString::from(value))),
            _ => (text.clone(), None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| words.next())
                .ok_or(format!("{name} needs a value"))
        };
        let mut text_value = || Ok::<_, String>(value()?.to_string_lossy().into_owned());
        match name.as_str() {
            "--runtime" => options.runtime = Some(value()?.into()),
            "--expected" => options.expected = Some(value()?.into()),
            "--cases" => options.cases = number(&name, &text_value()?)?,
            "--seed" => options.seed = number(&name, &text_value()?)?,
            "--faults" => options.faults = Extent::from_name(&text_value()?)?,
            "--fault" => options.faults = Extent::one(&text_value()?)?,
            "--conformance" => options.conformance = Some(value()?.into()),
            "--recorded" => options.recorded.push(value()?.into()),
            "--peer" => options.peers.push(value()?.into()),
            "--hybrid" => options.hybrid = true,
            "--validation" => options.validation = true,
            "--no-leak-check" => options.no_leak_check = true,
            "--machine" => options.machine = machine(&text_value()?)?,
            "--kernel" => options.kernel = Kernel::from_name(&text_value()?)?,
            "--shell" => options.shell = Some(Kind::of_a_shell(&text_value()?)?),
            "--command" => options.command = Some(text_value()?),
            "--file" => options.files.push(value()?.into()),
            "--inside" => options.machine = Where::Inside(Kind::from_name(&text_value()?)?),
            "--tests" => options.tests = Some(value()?.into()),
            "--results" => options.results = Some(value()?.into()),
            "--help" | "-h" => {
                print!("{USAGE}");
                rest.push(word);
            }
            "--format" => match value()?.to_str() {
                Some("tap") => options.format = Format::Tap,
                Some("junit") => options.format = Format::Junit,
                other => rest.push(format!("--format={}", other.unwrap_or_default()).into()),
            },
            _ if !text.starts_with('-') => options.filters.push(text),
            _ => {
                rest.push(word);
                if LIBTEST_VALUES.contains(&text.as_str()) {
                    rest.extend(words.next());
                }
            }
        }
    }
    options.libtest = Arguments::from_iter(rest);
    Ok(options)
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{name}: {text:?} is not a number"))
}

fn machine(text: &str) -> Result<Where, String> {
    match text {
        "auto" => Ok(Where::Auto),
        "none" => Ok(Where::HostOnly),
        name => Kind::from_name(name).map(Where::Only),
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Where, parse};
    use crate::machine::Kind;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn several_filters_and_values_of_libtest() -> Result<(), String> {
        let options =
            parsed("spec-tests mounts/ --test-threads 2 --runtime=/bin/x cgroup/ --skip a=b --exact")?;
        assert_eq!(options.filters, ["mounts/", "cgroup/"]);
        assert_eq!(options.libtest.test_threads, Some(2));
        assert_eq!(options.libtest.skip, ["a=b"]);
        assert!(options.libtest.exact && options.libtest.filter.is_none());
        Ok(())
    }

    #[test]
    fn machines_by_name() -> Result<(), String> {
        assert_eq!(parsed("s")?.machine, Where::Auto);
        assert_eq!(parsed("s --machine none")?.machine, Where::HostOnly);
        assert_eq!(parsed("s --machine fast")?.machine, Where::Only(Kind::Fast));
        assert!(parsed("s --machine slow").is_err());
        assert!(parsed("s --kernel 2.6").is_err());
        Ok(())
    }
}

//! Runs in: RUNTIME. Reads flags as Go's flag package does, which engines rely on: `-long` is `--long`, a
//! value may be a lone `-`, a flag may follow positional arguments. It knows the flags from clap's own
//! `Command`, and hands them to clap in the one form that leaves nothing to guess: `--name=value`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{ArgAction, Command};

/// Where flags end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlagsEnd {
    /// At the first argument that is not a flag: the words after it belong to somebody else.
    AtFirstPositional,
    /// Nowhere: what comes after a positional argument is still looked at.
    AtLastArgument,
}

/// What was found on one level of the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Each flag as `--name` or `--name=value`.
    pub(crate) flags: Vec<OsString>,
    /// The other arguments, in order.
    pub(crate) positionals: Vec<OsString>,
    /// `-h` or `--help` was among the flags.
    pub(crate) help: bool,
}

impl Scan {
    /// The flags for clap, which wants the program's name first.
    pub(crate) fn for_clap(&self) -> Vec<OsString> {
        let program = OsString::new();
        std::iter::once(program)
            .chain(self.flags.iter().cloned())
            .collect()
    }
}

/// Sorts `arguments` by the flags that `command` defines.
///
/// # Errors
/// The sentences of Go's flag package, which engines search for: `flag provided but not defined: -x`,
/// `flag needs an argument: -x`.
pub(crate) fn scan(command: &Command, arguments: &[OsString], end: FlagsEnd) -> Result<Scan, String> {
    let mut found = Scan::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some((name, value)) = split_flag(argument) else {
            found.positionals.push(argument.clone());
            if end == FlagsEnd::AtFirstPositional {
                break;
            }
            continue;
        };
        if name.is_empty() {
            break;
        }
        let name = name.to_string_lossy();
        if name == "h" || name == "help" {
            found.help = true;
            return Ok(found);
        }
        let Some((long, takes_value)) = lookup(command, &name) else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let mut flag = OsString::from(format!("--{long}"));
        let value = match value {
            None if takes_value => Some(
                rest.next()
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?
                    .as_os_str(),
            ),
            value => value,
        };
        if let Some(value) = value {
            flag.push("=");
            flag.push(value);
        }
        found.flags.push(flag);
    }
    found.positionals.extend(rest.cloned());
    Ok(found)
}

/// `-name`, `--name`, `-name=value`; the name of `--` is empty. A lone `-` is not a flag.
fn split_flag(argument: &OsStr) -> Option<(OsString, Option<&OsStr>)> {
    let bytes = argument.as_bytes();
    let name = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    if bytes == b"-" {
        return None;
    }
    let (name, value) = match name.iter().position(|&b| b == b'=') {
        Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]))),
        None => (name, None),
    };
    Some((OsString::from_vec(name.to_vec()), value))
}

/// The long name of a flag that was given by its long or its short name, and whether a value must follow.
fn lookup<'a>(command: &'a Command, name: &str) -> Option<(&'a str, bool)> {
    command.get_arguments().find_map(|arg| {
        let long = arg.get_long()?;
        let short_matches = arg.get_short().is_some_and(|short| {
            let mut letters = name.chars();
            letters.next() == Some(short) && letters.next().is_none()
        });
        (long == name || short_matches).then(|| (long, !is_switch(arg)))
    })
}

/// A switch may be given alone; its value, if it has one, comes after `=` (`--tty=false`).
fn is_switch(arg: &clap::Arg) -> bool {
    !matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) || arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn scan_words(command: &str, words: &[&str], end: FlagsEnd) -> Result<Scan, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let known = crate::commands::ALL.iter().find(|known| known.name == command);
        scan(&args::command(known.expect("a known command")), &words, end)
    }

    fn strings(words: &[OsString]) -> Vec<&str> {
        words.iter().map(|w| w.to_str().expect("UTF-8")).collect()
    }

    #[test]
    fn one_dash_and_two_are_the_same() {
        let scan = scan_words(
            "run",
            &["-no-subreaper", "--keep", "-bundle=/b", "-d", "c1"],
            FlagsEnd::AtLastArgument,
        )
        .unwrap();
        assert_eq!(
            strings(&scan.flags),
            ["--no-subreaper", "--keep", "--bundle=/b", "--detach"]
        );
        assert_eq!(strings(&scan.positionals), ["c1"]);
    }

    #[test]
    fn flags_may_follow_positionals_unless_the_words_belong_to_the_program() {
        let scan = scan_words("create", &["c1", "--bundle", "/b"], FlagsEnd::AtLastArgument).unwrap();
        assert_eq!(strings(&scan.flags), ["--bundle=/b"]);
        let scan = scan_words(
            "exec",
            &["-t", "c1", "ls", "-l", "--", "x"],
            FlagsEnd::AtFirstPositional,
        )
        .unwrap();
        assert_eq!(strings(&scan.flags), ["--tty"]);
        assert_eq!(strings(&scan.positionals), ["c1", "ls", "-l", "--", "x"]);
    }

    #[test]
    fn a_value_is_taken_as_it_is() {
        let scan = scan_words(
            "exec",
            &["--process", "-", "-e", "A=-x=1,B=2", "--env", "--", "c1"],
            FlagsEnd::AtFirstPositional,
        )
        .unwrap();
        assert_eq!(
            strings(&scan.flags),
            ["--process=-", "--env=A=-x=1,B=2", "--env=--"]
        );
        assert_eq!(strings(&scan.positionals), ["c1"]);
    }

    #[test]
    fn a_lone_dash_is_positional_and_two_end_the_flags() {
        let scan = scan_words("create", &["-", "--", "--bundle"], FlagsEnd::AtLastArgument).unwrap();
        assert_eq!(strings(&scan.positionals), ["-", "--bundle"]);
        assert!(scan.flags.is_empty());
    }

    #[test]
    fn errors_are_those_that_engines_search_for() {
        let missing = scan_words("create", &["--bundle"], FlagsEnd::AtLastArgument);
        assert_eq!(missing.unwrap_err(), "flag needs an argument: -bundle");
        let unknown = scan_words("state", &["--bogus=1", "c1"], FlagsEnd::AtLastArgument);
        assert_eq!(unknown.unwrap_err(), "flag provided but not defined: -bogus");
    }
}

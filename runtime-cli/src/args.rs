//! Runs in: RUNTIME. Reads the command line: the global flags, the command, and its flags. Which commands there are is
//! `commands`' business. Only the command that was asked for is built, so that start-up stays cheap.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::commands::{self, Definition};
use crate::flags::{choice, path, switch, value};
use crate::go_flags::{self, FlagsEnd, Scan};

/// What the program is called in help texts and manual pages.
pub(crate) const PROGRAM: &str = "onggi";

/// A mistake on the command line.
#[derive(Debug)]
pub(crate) struct UsageError {
    /// What is wrong, in one sentence.
    pub(crate) message: String,
    /// What a person who made the mistake wants to see: what kind of mistake it is, and the help.
    pub(crate) help: Option<String>,
    /// runc's exit code for it.
    pub(crate) exit_code: u8,
}

/// The first half of the command line.
#[derive(Debug)]
pub(crate) struct Globals {
    /// The flags in front of the command.
    pub(crate) flags: ArgMatches,
    /// The command and its arguments; empty if help is asked for.
    rest: Vec<OsString>,
}

/// The second half of the command line.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print this text.
    Help(String),
    /// Print the version.
    Version,
    /// Run this command.
    Command(&'static Definition, ArgMatches),
}

/// Reads the flags in front of the command.
pub(crate) fn parse_globals(arguments: &[OsString]) -> Result<Globals, UsageError> {
    let usage = |message: String| UsageError {
        help: Some(format!("Incorrect Usage. {message}\n\n{}", overview())),
        message,
        exit_code: 1,
    };
    let command = globals();
    let mut scan = go_flags::scan(&command, arguments, FlagsEnd::AtFirstPositional).map_err(usage)?;
    let mut rest = std::mem::take(&mut scan.positionals);
    if scan.help {
        rest.clear();
    }
    Ok(Globals {
        flags: to_matches(command, &scan).map_err(usage)?,
        rest,
    })
}

/// Reads the command and its flags.
pub(crate) fn parse_command(globals: &Globals, program: &str) -> Result<Request, UsageError> {
    if globals.flags.get_flag("version") {
        return Ok(Request::Version);
    }
    let Some((name, arguments)) = globals.rest.split_first() else {
        return Ok(Request::Help(overview()));
    };
    if name == "help" || name == "h" {
        return help_on(arguments.first());
    }
    let definition = find(name)?;
    let usage = |message: String| UsageError {
        help: Some(format!(
            "Incorrect Usage: {message}\n\n{}",
            help_text(command(definition))
        )),
        message,
        exit_code: 1,
    };
    let command = command(definition);
    let scan = go_flags::scan(&command, arguments, definition.flags_end).map_err(usage)?;
    if scan.help {
        return Ok(Request::Help(help_text(command)));
    }
    check_count(definition, scan.positionals.len(), program)?;
    let flags = to_matches(command, &scan).map_err(usage)?;
    Ok(Request::Command(definition, flags))
}

/// The description of one command.
pub(crate) fn command(definition: &Definition) -> Command {
    let words = Arg::new("words")
        .num_args(0..)
        .hide(true)
        .value_parser(value_parser!(OsString));
    let usage: Vec<String> = definition
        .usage
        .iter()
        .map(|words| {
            format!("{PROGRAM} {} [options] {words}", definition.name)
                .trim_end()
                .to_owned()
        })
        .collect();
    base(definition.name, definition.about)
        .override_usage(usage.join("\n       "))
        .args((definition.flags)())
        .arg(words)
}

/// Every command and flag as clap shows them to people: in help texts, manual pages and completions.
pub(crate) fn presentable() -> Command {
    let commands = commands::ALL.iter().map(|definition| {
        // A command's words are hidden, but completions would offer them all the same.
        people(command(definition)).mut_arg("words", |words| words.value_name("argument"))
    });
    people(globals()).subcommands(commands)
}

fn help_on(name: Option<&OsString>) -> Result<Request, UsageError> {
    match name {
        None => Ok(Request::Help(overview())),
        Some(name) => find(name).map(|definition| Request::Help(help_text(command(definition)))),
    }
}

fn find(name: &OsString) -> Result<&'static Definition, UsageError> {
    let known = commands::ALL.iter().find(|known| name == known.name);
    known.copied().ok_or_else(|| UsageError {
        message: unknown_command(name),
        help: None,
        exit_code: 3,
    })
}

/// clap knows which of the names is near; it needs all of them only here.
fn unknown_command(name: &OsString) -> String {
    let found = match all_commands().try_get_matches_from([&OsString::from(PROGRAM), name]) {
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => sentence(&error),
        _ => format!("unknown command '{}'", name.display()),
    };
    match found.ends_with(')') {
        true => found,
        false => format!("{found} ({PROGRAM} --help lists the commands)"),
    }
}

fn to_matches(command: Command, scan: &Scan) -> Result<ArgMatches, String> {
    command
        .try_get_matches_from(scan.for_clap())
        .map_err(|error| sentence(&error))
}

/// clap's text without its frame: the error, and the tips in brackets.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut sentence = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    for tip in lines.filter_map(|line| line.strip_prefix("tip: ")) {
        sentence.push_str(&format!(" ({tip})"));
    }
    sentence
}

fn check_count(definition: &Definition, count: usize, program: &str) -> Result<(), UsageError> {
    let (least, most) = definition.words;
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let wanted = match count {
        _ if least == most => format!("exactly {least}"),
        few if few < least => format!("a minimum of {least}"),
        _ => format!("a maximum of {most}"),
    };
    Err(UsageError {
        message: format!("{program}: \"{}\" requires {wanted} argument(s)", definition.name),
        help: Some(format!("Incorrect Usage.\n\n{}", help_text(command(definition)))),
        exit_code: 1,
    })
}

fn overview() -> String {
    help_text(all_commands())
}

fn all_commands() -> Command {
    globals().subcommands(commands::ALL.map(|known| Command::new(known.name).about(known.about)))
}

fn help_text(command: Command) -> String {
    people(command).render_help().to_string()
}

/// That a switch takes `=false` is for engines; people would only stumble over it.
fn people(command: Command) -> Command {
    command.mut_args(|arg| match arg.is_require_equals_set() {
        true => arg
            .require_equals(false)
            .hide_default_value(false)
            .num_args(0)
            .action(ArgAction::SetTrue),
        false => arg,
    })
}

/// The flags in front of the command.
pub(crate) fn globals() -> Command {
    base(PROGRAM, "an OCI container runtime")
        .override_usage("onggi [global options] command [command options] [arguments...]")
        .arg(switch("debug", "also log what is done, not only what failed"))
        .arg(
            value("log")
                .value_name("path")
                .value_parser(value_parser!(OsString))
                .help("write errors to this file, too; or file:PATH, syslog:NAME, journald:NAME"),
        )
        .arg(
            value("log-format")
                .default_value("text")
                .help("format of the log: text or json"),
        )
        .arg(
            choice("log-level", ["error", "warning", "debug"])
                .help("what is logged [default: warning]; debug is the same as --debug"),
        )
        .arg(
            path("root")
                .help("directory of the containers' state [default: /run/onggi, or $XDG_RUNTIME_DIR/onggi; called by a link named runc or crun, /run/runc or /run/crun]"),
        )
        .arg(switch(
            "systemd-cgroup",
            "let systemd make the cgroups; cgroupsPath is slice:prefix:name",
        ))
        .arg(
            choice("cgroup-manager", ["cgroupfs", "systemd", "disabled"])
                .help("who makes the cgroups: cgroupfs, systemd or disabled"),
        )
        .arg(
            choice("rootless", ["true", "false", "auto"])
                .default_value("auto")
                .help("go without a cgroup where there is no right to make one"),
        )
        .arg(switch("version", "print the version").short('v'))
}

fn base(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
}

/// The words of a command that are not flags.
#[cfg(test)]
fn words(flags: &ArgMatches) -> Vec<&OsString> {
    flags.get_many("words").into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request, UsageError> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse_command(&parse_globals(&words)?, PROGRAM)
    }

    fn flags(words: &[&str]) -> ArgMatches {
        match parse(words) {
            Ok(Request::Command(_, flags)) => flags,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn mistake(words: &[&str]) -> UsageError {
        parse(words).expect_err("a usage error")
    }

    #[test]
    fn every_command_is_described_and_well_formed() {
        for definition in commands::ALL {
            command(definition).debug_assert();
        }
        presentable().debug_assert();
        all_commands().debug_assert();
    }

    #[test]
    fn the_forms_that_engines_use() {
        let run = flags(&[
            "--root",
            "/r",
            "--systemd-cgroup",
            "run",
            "c1",
            "-no-subreaper",
            "--bundle",
            "/b",
            "-d",
        ]);
        assert!(run.get_flag("no-subreaper") && run.get_flag("detach") && !run.get_flag("keep"));
        assert_eq!(
            run.get_one::<std::path::PathBuf>("bundle").unwrap().as_os_str(),
            "/b"
        );
        let exec = flags(&[
            "--log-format=json",
            "exec",
            "-e",
            "A=1,2",
            "--env=B",
            "-t=false",
            "c1",
            "sh",
            "-c",
            "x",
        ]);
        assert_eq!(words(&exec), ["c1", "sh", "-c", "x"]);
        let env: Vec<&OsString> = exec.get_many("env").unwrap().collect();
        assert_eq!(env, ["A=1,2", "B"]);
        assert!(!exec.get_flag("tty"));
        let kill = flags(&["kill", "--all", "c1", "-9"]);
        assert_eq!(words(&kill), ["c1", "-9"]);
    }

    #[test]
    fn whether_a_switch_was_given_can_be_told() {
        use clap::parser::ValueSource;
        let given = flags(&["exec", "--no-new-privs=false", "c1", "ls"]);
        assert_eq!(given.value_source("no-new-privs"), Some(ValueSource::CommandLine));
        assert!(!given.get_flag("no-new-privs"));
        let absent = flags(&["exec", "c1", "ls"]);
        assert_eq!(
            absent.value_source("no-new-privs"),
            Some(ValueSource::DefaultValue)
        );
        assert!(flags(&["run", "--keep=false", "--keep", "c1"]).get_flag("keep"));
    }

    #[test]
    fn wrong_argument_counts_are_told_in_runcs_words() {
        assert_eq!(
            mistake(&["state"]).message,
            "onggi: \"state\" requires exactly 1 argument(s)"
        );
        assert_eq!(
            mistake(&["list", "x"]).message,
            "onggi: \"list\" requires exactly 0 argument(s)"
        );
        assert_eq!(
            mistake(&["exec"]).message,
            "onggi: \"exec\" requires a minimum of 1 argument(s)"
        );
        assert_eq!(
            mistake(&["kill", "a", "9", "b"]).message,
            "onggi: \"kill\" requires a maximum of 2 argument(s)"
        );
        assert_eq!(mistake(&["state"]).exit_code, 1);
    }

    #[test]
    fn an_unknown_command_is_named_with_a_near_one() {
        let error = mistake(&["stat", "c1"]);
        assert!(
            error.message.contains("'stat'") && error.message.contains("'state'"),
            "{}",
            error.message
        );
        assert!(!error.message.contains('\n'));
        assert_eq!(error.exit_code, 3);
        assert!(mistake(&["zzzzzz"]).message.contains("'zzzzzz'"));
    }

    #[test]
    fn values_are_checked() {
        assert!(
            mistake(&["exec", "--preserve-fds", "a", "c1", "ls"])
                .message
                .contains("'a'")
        );
        assert!(mistake(&["run", "--keep=x", "c1"]).message.contains("'x'"));
        assert!(
            mistake(&["--rootless", "perhaps", "list"])
                .message
                .contains("perhaps")
        );
        assert_eq!(
            mistake(&["create", "--bundle"]).message,
            "flag needs an argument: -bundle"
        );
    }

    #[test]
    fn help_comes_from_any_place() {
        for words in [&[][..], &["-h"], &["help"], &["--debug", "--help"]] {
            assert!(
                matches!(parse(words), Ok(Request::Help(text)) if text.contains("features")),
                "{words:?}"
            );
        }
        for words in [&["run", "--help"][..], &["help", "run"], &["run", "c1", "-h"]] {
            assert!(
                matches!(parse(words), Ok(Request::Help(text)) if text.contains("--keep")),
                "{words:?}"
            );
        }
        assert!(matches!(parse(&["-v"]), Ok(Request::Version)));
    }
}

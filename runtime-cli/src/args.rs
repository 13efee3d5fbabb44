//! Runs in: RUNTIME. Reads the command line: the global flags, the command, and its flags. Which commands
//! there are is `commands`' business. Only the command that was asked for is built, so that start-up stays
//! cheap.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::commands::{self, AnyCommand, Definition};
use crate::flags::Flags;
use crate::globals::Globals;
use crate::go_flags::{self, FlagsEnd, Scan};

/// What the program is called in help texts and manual pages.
pub(crate) const PROGRAM: &str = "onggi";

/// A mistake on the command line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    /// What is wrong, in one sentence.
    pub(crate) message: String,
    /// What a person who made the mistake wants to see: what kind of mistake it is, and the help.
    pub(crate) help: Option<String>,
    /// runc's exit code for it.
    pub(crate) exit_code: u8,
}

/// The command line after the flags in front of the command.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, which is moved twice"
)]
pub(crate) enum Request {
    /// Print this text.
    Help(String),
    /// Print the version.
    Version,
    /// Run this command, with the words that are not flags.
    Command(AnyCommand, Vec<OsString>),
}

/// Reads the flags in front of the command. Returns them and what comes after them: the command and its
/// arguments, or nothing if help is asked for.
pub(crate) fn parse_globals(arguments: &[OsString]) -> Result<(Globals, Vec<OsString>), UsageError> {
    let usage = |message: String| UsageError {
        help: Some(format!("Incorrect Usage. {message}\n\n{}", overview())),
        message,
        exit_code: 1,
    };
    let command = globals();
    let scan = go_flags::scan(&command, arguments, FlagsEnd::AtFirstPositional).map_err(usage)?;
    let mut matches = matches_of(command, &scan).map_err(usage)?;
    let rest = match scan.help {
        true => Vec::new(),
        false => scan.positionals,
    };
    Ok((Globals::read(&mut matches), rest))
}

/// Reads the command and its flags, which come after the global ones.
pub(crate) fn parse_command(
    globals: &Globals,
    rest: &[OsString],
    program: &str,
) -> Result<Request, UsageError> {
    if globals.version {
        return Ok(Request::Version);
    }
    let Some((name, arguments)) = rest.split_first() else {
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
    let mut matches = matches_of(command, &scan).map_err(usage)?;
    Ok(Request::Command(definition.read(&mut matches), scan.positionals))
}

/// The description of one command.
pub(crate) fn command(definition: &Definition) -> Command {
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
        .args(definition.flags())
}

/// Every command and flag as clap shows them to people: in help texts, manual pages and completions.
pub(crate) fn presentable() -> Command {
    let commands = commands::ALL.iter().map(|definition| {
        let words = Arg::new("words").num_args(0..).hide(true);
        let words = words.value_parser(value_parser!(OsString)).value_name("argument");
        people(command(definition)).arg(words)
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
    known.ok_or_else(|| UsageError {
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

fn matches_of(command: Command, scan: &Scan) -> Result<ArgMatches, String> {
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
    let commands = commands::ALL.iter();
    globals().subcommands(commands.map(|known| Command::new(known.name).about(known.about)))
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
    let mut flags = Vec::new();
    Globals::define(&mut flags);
    base(PROGRAM, "an OCI container runtime")
        .override_usage("onggi [global options] command [command options] [arguments...]")
        .args(flags)
}

fn base(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::exec::Exec;
    use crate::commands::run::Run;

    fn parse(words: &[&str]) -> Result<Request, UsageError> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (globals, rest) = parse_globals(&words)?;
        parse_command(&globals, &rest, PROGRAM)
    }

    fn command_of(words: &[&str]) -> (AnyCommand, Vec<OsString>) {
        match parse(words) {
            Ok(Request::Command(command, words)) => (command, words),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn exec_of(words: &[&str]) -> (Exec, Vec<OsString>) {
        match command_of(words) {
            (AnyCommand::Exec(exec), words) => (exec, words),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn run_of(words: &[&str]) -> Run {
        match command_of(words) {
            (AnyCommand::Run(run), _) => run,
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
        let run = run_of(&[
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
        assert!(run.no_subreaper && run.detach && !run.keep);
        assert_eq!(run.create.bundle.bundle.unwrap().as_os_str(), "/b");
        let (exec, words) = exec_of(&[
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
        assert_eq!(words, ["c1", "sh", "-c", "x"]);
        assert_eq!(exec.env, ["A=1,2", "B"]);
        assert!(!exec.tty);
        let (kill, words) = command_of(&["kill", "--all", "c1", "-9"]);
        assert!(matches!(kill, AnyCommand::Kill(kill) if kill.all));
        assert_eq!(words, ["c1", "-9"]);
    }

    #[test]
    fn the_last_value_counts_and_may_begin_with_a_hyphen() {
        let (exec, _) = exec_of(&[
            "exec", "--cwd", "/a", "--cwd=-b", "--user", "-1", "-g", "1", "-g=2", "c1",
        ]);
        assert_eq!(exec.cwd.unwrap().as_os_str(), "-b");
        assert_eq!(exec.user.as_deref(), Some("-1"));
        assert_eq!(exec.additional_gids, [1, 2]);
    }

    #[test]
    fn whether_a_switch_was_given_can_be_told() {
        let (given, _) = exec_of(&["exec", "--no-new-privs=false", "c1", "ls"]);
        assert_eq!(given.no_new_privs, Some(false));
        assert_eq!(exec_of(&["exec", "c1", "ls"]).0.no_new_privs, None);
        assert!(run_of(&["run", "--keep=false", "--keep", "c1"]).keep);
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

//! Runs in: RUNTIME. The command line: which commands and flags there are, and how they may be combined. Only the
//! command that was asked for is built, so that start-up stays cheap. How a flag may be spelled is `go_flags`'
//! business; what a flag means is the business of the command's own file.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::go_flags::{self, FlagsEnd, Scan};

const PROGRAM: &str = "onggi";

/// Every command, with what help says of it.
const COMMANDS: [(&str, &str); 13] = [
    ("create", "create a container"),
    ("delete", "delete any resources held by a container"),
    ("exec", "run another process in a container"),
    ("features", "show what this runtime supports, as JSON"),
    (
        "kill",
        "send a signal (default: SIGTERM) to the container's init process",
    ),
    ("list", "list the containers"),
    ("pause", "suspend all processes of a container"),
    ("ps", "list the processes of a container"),
    ("resume", "resume all processes of a paused container"),
    ("run", "create and start a container"),
    ("spec", "write an example config.json"),
    ("start", "start the program of a created container"),
    ("state", "print the state of a container, as JSON"),
];

/// A mistake on the command line.
#[derive(Debug)]
pub(crate) struct UsageError {
    /// What is wrong, in one sentence.
    pub(crate) message: String,
    /// The help that a person who made the mistake wants to see.
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
    /// Run the command of this name.
    Command(&'static str, ArgMatches),
}

/// Reads the flags in front of the command.
pub(crate) fn parse_globals(arguments: &[OsString]) -> Result<Globals, UsageError> {
    let usage = |message| UsageError {
        message,
        help: Some(overview()),
        exit_code: 1,
    };
    let mut scan =
        go_flags::scan(&global_command(), arguments, FlagsEnd::AtFirstPositional).map_err(usage)?;
    let mut rest = std::mem::take(&mut scan.positionals);
    if scan.help {
        rest.clear();
    }
    Ok(Globals {
        flags: to_matches(global_command(), &scan).map_err(usage)?,
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
    let (name, command) = find(name)?;
    let end = match name {
        "exec" | "kill" | "ps" => FlagsEnd::AtFirstPositional,
        _ => FlagsEnd::AtLastArgument,
    };
    let usage = |message| UsageError {
        message,
        help: self::command(name).map(help_text),
        exit_code: 1,
    };
    let scan = go_flags::scan(&command, arguments, end).map_err(usage)?;
    if scan.help {
        return Ok(Request::Help(help_text(command)));
    }
    check_count(name, scan.positionals.len(), program).map_err(usage)?;
    Ok(Request::Command(name, to_matches(command, &scan).map_err(usage)?))
}

/// The words of a command that are not flags: the container's id first, where there is one.
pub(crate) fn words(flags: &ArgMatches) -> Vec<OsString> {
    flags
        .get_many::<OsString>("words")
        .map(|words| words.cloned().collect())
        .unwrap_or_default()
}

fn help_on(name: Option<&OsString>) -> Result<Request, UsageError> {
    match name {
        None => Ok(Request::Help(overview())),
        Some(name) => find(name).map(|(_, command)| Request::Help(help_text(command))),
    }
}

fn find(name: &OsString) -> Result<(&'static str, Command), UsageError> {
    let known = COMMANDS.iter().find(|(known, _)| name == known);
    known
        .and_then(|(known, _)| command(known).map(|command| (*known, command)))
        .ok_or_else(|| UsageError {
            message: unknown_command(name),
            help: None,
            exit_code: 3,
        })
}

/// clap knows which of the names is near; it needs all of them only here.
fn unknown_command(name: &OsString) -> String {
    match all_commands().try_get_matches_from([&OsString::from(PROGRAM), name]) {
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => sentence(&error),
        _ => format!("unknown command '{}'", name.display()),
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

fn check_count(name: &str, count: usize, program: &str) -> Result<(), String> {
    let allowed: RangeInclusive<usize> = match name {
        "list" | "spec" | "features" => 0..=0,
        "exec" | "ps" => 1..=usize::MAX,
        "kill" => 1..=2,
        _ => 1..=1,
    };
    if allowed.contains(&count) {
        return Ok(());
    }
    let wanted = match (allowed.start(), allowed.end()) {
        (least, most) if least == most => format!("exactly {least}"),
        (least, _) if count < *least => format!("a minimum of {least}"),
        (_, most) => format!("a maximum of {most}"),
    };
    Err(format!("{program}: \"{name}\" requires {wanted} argument(s)"))
}

fn overview() -> String {
    help_text(all_commands())
}

fn all_commands() -> Command {
    global_command().subcommands(COMMANDS.map(|(name, about)| Command::new(name).about(about)))
}

fn help_text(command: Command) -> String {
    // That a switch takes `=false` is for engines; people would only stumble over it.
    let mut command = command.mut_args(|arg| match arg.is_require_equals_set() {
        true => arg
            .require_equals(false)
            .hide_possible_values(false)
            .hide_default_value(false)
            .num_args(0)
            .action(ArgAction::SetTrue),
        false => arg,
    });
    command.render_help().to_string()
}

fn global_command() -> Command {
    base(PROGRAM, "an OCI container runtime")
        .override_usage("onggi [global options] command [command options] [arguments...]")
        .arg(switch("debug", "also log what is done, not only what failed"))
        .arg(path("log").help("write errors to this file, too"))
        .arg(
            value("log-format")
                .default_value("text")
                .help("format of the log: text or json"),
        )
        .arg(
            path("root")
                .help("directory of the containers' state [default: /run/onggi, or $XDG_RUNTIME_DIR/onggi]"),
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
                .help("accepted for runc's callers; whether it is rootless is seen from the user namespace"),
        )
        .arg(switch("version", "print the version").short('v'))
}

/// The description of one command.
pub(crate) fn command(name: &str) -> Option<Command> {
    let (name, about) = *COMMANDS.iter().find(|(known, _)| *known == name)?;
    let words = Arg::new("words")
        .num_args(0..)
        .hide(true)
        .value_parser(value_parser!(OsString));
    let command = base(name, about).arg(words);
    let id = |command: Command| command.override_usage(format!("onggi {name} [options] <container-id>"));
    Some(match name {
        "create" => id(command).args(create_flags()),
        "run" => id(command).args(create_flags()).args([
            switch("detach", "do not wait for the container to end").short('d'),
            switch("keep", "do not delete the container after it has ended"),
            switch("no-subreaper", "do not adopt the orphans of the container"),
        ]),
        "exec" => command
            .override_usage(
                "onggi exec [options] <container-id> <command> [args...]\n       \
                 onggi exec [options] -p process.json <container-id>",
            )
            .args(exec_flags()),
        "delete" => id(command).arg(switch("force", "kill it first if it still runs").short('f')),
        "kill" => command
            .override_usage("onggi kill [options] <container-id> [signal]")
            .arg(switch("all", "send it to all processes of the container").short('a')),
        "list" => command
            .arg(table_or_json())
            .arg(switch("quiet", "print only the ids").short('q')),
        "ps" => command
            .override_usage("onggi ps [options] <container-id> [ps options]")
            .arg(table_or_json()),
        "spec" => command
            .arg(
                path("bundle")
                    .short('b')
                    .help("directory to write it into [default: .]"),
            )
            .arg(switch("rootless", "for a user who is not root")),
        "features" => command,
        _ => id(command),
    })
}

fn create_flags() -> Vec<Arg> {
    vec![
        path("bundle").short('b').help("path of the bundle [default: .]"),
        path("config")
            .short('f')
            .help("config.json to use instead of the bundle's"),
        path("console-socket").help("socket that gets the master of the terminal"),
        path("pidfd-socket").help("socket that gets a pidfd of the init process"),
        path("pid-file").help("file to write the init process's id to"),
        switch("no-pivot", "do not use pivot_root (for a root on a ramdisk)"),
        switch("no-new-keyring", "keep the caller's session keyring"),
        number("preserve-fds").help("pass this many more file descriptors on, from 3"),
    ]
}

fn exec_flags() -> Vec<Arg> {
    vec![
        path("console-socket").help("socket that gets the master of the terminal"),
        path("pidfd-socket").help("socket that gets a pidfd of the process"),
        path("cwd").help("working directory in the container"),
        list("env")
            .short('e')
            .help("set an environment variable, NAME=VALUE"),
        switch("tty", "allocate a terminal").short('t'),
        value("user").short('u').help("UID[:GID]"),
        Arg::new("additional-gids")
            .long("additional-gids")
            .short('g')
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .value_parser(value_parser!(u32))
            .help("additional group id"),
        path("process").short('p').help("process.json"),
        switch("detach", "do not wait for the process to end").short('d'),
        path("pid-file").help("file to write the process id to"),
        value("process-label").help("SELinux label"),
        value("apparmor").help("AppArmor profile"),
        switch("no-new-privs", "set no_new_privs"),
        list("cap").short('c').help("add a capability"),
        number("preserve-fds").help("pass this many more file descriptors on, from 3"),
        value("cgroup").help("run the process in this sub-cgroup of the container's"),
        switch("ignore-paused", "also run in a paused container"),
    ]
}

fn base(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
}

/// On or off; `--name=false` is Go's way to say off. The last one counts.
fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .hide_possible_values(true)
        .overrides_with(name)
        .value_parser(
            PossibleValuesParser::new([
                "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
            ])
            .map(|word| word.starts_with(['1', 't', 'T'])),
        )
        .help(help)
}

fn value(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .allow_hyphen_values(true)
        .overrides_with(name)
}

fn path(name: &'static str) -> Arg {
    value(name).value_parser(value_parser!(std::path::PathBuf))
}

fn number(name: &'static str) -> Arg {
    value(name).value_parser(value_parser!(u32))
}

fn choice<const N: usize>(name: &'static str, values: [&'static str; N]) -> Arg {
    value(name).value_parser(PossibleValuesParser::new(values))
}

fn list(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(OsString))
}

fn table_or_json() -> Arg {
    value("format")
        .short('f')
        .default_value("table")
        .help("table or json")
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
        for (name, _) in COMMANDS {
            command(name).expect(name).debug_assert();
        }
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

//! Runs in: RUNTIME. runc's command line over the library `runtime_core`: from the arguments to the exit
//! code. The commands themselves are in `commands`. It is a library so that manual pages and completions can
//! be made from the same definitions; programs that want to run containers use `runtime_core`.

mod args;
mod commands;
mod descriptors;
mod flags;
mod foreground;
mod globals;
mod go_flags;
mod inherited;
mod interrupt;
mod memory_fault;
mod output;
mod report;
mod sealed_exe;
mod service_manager;
mod terminal;
mod units;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable;
mod words;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use args::{Request, UsageError};
/// For the part of the program that runs before this library can.
#[doc(hidden)]
pub use commands::SEALED;
use commands::{AnyCommand, Command, Definition, Invocation};
pub use memory_fault::explain as explain_memory_faults;
use runtime_core::{Error, ErrorKind, Result};
use runtime_sys::arguments::Arguments;

/// Runs the command line of this process; its exit code. What is printed has been flushed. `explained` is
/// what [`explain_memory_faults`] has returned.
pub fn main(arguments: Arguments, explained: Result<()>) -> u8 {
    let (command, call) = match prepare(arguments, explained) {
        Ok(prepared) => prepared,
        Err(Done(code)) => return code,
    };
    let (definition, stays) = (command.definition(), command.stays());
    let result = match command {
        AnyCommand::Checkpoint(command) => command.run(&call),
        AnyCommand::Create(command) => command.run(&call),
        AnyCommand::Delete(command) => command.run(&call),
        AnyCommand::Events(command) => command.run(&call),
        AnyCommand::Exec(command) => command.run(&call),
        AnyCommand::Features(command) => command.run(&call),
        AnyCommand::Kill(command) => command.run(&call),
        AnyCommand::List(command) => command.run(&call),
        AnyCommand::Mounts(command) => command.run(&call),
        AnyCommand::Pause(command) => command.run(&call),
        AnyCommand::Ps(command) => command.run(&call),
        AnyCommand::Restore(command) => command.run(&call),
        AnyCommand::Resume(command) => command.run(&call),
        AnyCommand::Run(command) => command.run(&call),
        AnyCommand::Spec(command) => command.run(&call),
        AnyCommand::Start(command) => command.run(&call),
        AnyCommand::State(command) => command.run(&call),
        AnyCommand::Update(command) => command.run(&call),
    };
    match result {
        Ok(code) => code,
        Err(error) => failed(definition, call.program, stays, error),
    }
}

/// Every command and flag, described for people: what manual pages and completions are made from.
pub fn definitions() -> clap::Command {
    args::presentable()
}

/// There is nothing more to do than to end with this exit code: help has been printed, or a mistake told.
struct Done(u8);

/// All that comes before the command: this process is made fit for it, and the command line is read.
fn prepare(
    arguments: Arguments,
    explained: Result<()>,
) -> std::result::Result<(AnyCommand, Invocation), Done> {
    report::panics_on_one_line();
    let mut words = arguments.map(|argument| OsString::from_vec(argument.to_bytes().to_vec()));
    let program = globals::program_name(words.next());
    let words: Vec<OsString> = words.collect();
    let open_files = explained
        .and_then(|()| make_fit(&words, arguments))
        .map_err(tell)?;
    let (globals, rest) = args::parse_globals(&words).map_err(tell_mistake)?;
    globals.open_log().map_err(tell)?;
    let (command, words) = match args::parse_command(&globals, &rest, program).map_err(tell_mistake)? {
        Request::Command(command, words) => (command, words),
        Request::Help(text) => return Err(printed(output::print(&text))),
        Request::Version => return Err(printed(output::version(program))),
    };
    let definition = command.definition();
    log::debug!(
        "{program} {} (onggi), command {}",
        env!("CARGO_PKG_VERSION"),
        definition.name
    );
    if !definition.takes_descriptors {
        let handed_on = command
            .preserved_fds()
            .saturating_add(service_manager::listen_fds());
        let kept = descriptors::keep_after(handed_on);
        kept.map_err(|error| Done(failed(definition, program, false, error)))?;
    }
    let call = Invocation {
        program,
        globals,
        words,
        open_files,
    };
    Ok((command, call))
}

/// What comes before the command line is read. Returns the caller's soft limit of open files.
fn make_fit(words: &[OsString], arguments: Arguments) -> Result<u64> {
    inherited::open_standard_streams()?;
    inherited::reset_signal_actions()?;
    if may_seal(words) {
        sealed_exe::ensure(arguments)?;
    }
    // After that: what has been executed anew would take the raised limit for the caller's.
    inherited::raise_open_files()
}

/// Whether the command may be one that seals the own executable (`sealed_exe.rs`). A value of a flag may have
/// such a name as well: then sealing was not needed, and does no harm.
fn may_seal(arguments: &[OsString]) -> bool {
    let is_sealed = |word: &OsString| {
        commands::ALL
            .iter()
            .any(|known| known.seals && word == known.name)
    };
    arguments.iter().any(is_sealed)
}

/// What the container's own process ends with, when its program cannot be executed (runc since 1.2).
const CANNOT_BE_EXECUTED: u8 = 255;

/// Tells of the command's failure; the exit code.
fn failed(definition: &Definition, program: &str, stays: bool, error: Error) -> u8 {
    let interrupted = match error.kind() {
        ErrorKind::Interrupted => interrupt::exit_code(),
        _ => None,
    };
    let prefix = definition.prefix(program);
    // In the foreground a program that cannot be executed speaks for itself, in words that scripts look for:
    // with runc they are those of the container's own process.
    if stays && error.kind() == ErrorKind::Exec {
        log::info!("{prefix}{error}");
        report::failure(&error.bare().to_string());
        return interrupted.unwrap_or(CANNOT_BE_EXECUTED);
    }
    report::failure(&format!(
        "{prefix}{}",
        report::text_of(&error, definition.creates)
    ));
    interrupted.unwrap_or(definition.failure_code)
}

/// Tells of an error that belongs to no command.
fn tell(error: Error) -> Done {
    report::failure(&report::text_of(&error, false));
    Done(1)
}

fn printed(result: Result<()>) -> Done {
    match result {
        Ok(()) => Done(0),
        Err(error) => tell(error),
    }
}

fn tell_mistake(mistake: UsageError) -> Done {
    if let Some(help) = &mistake.help {
        // The message itself goes to standard error: without standard output only the help is lost.
        let _only_help = output::print(&format!("{help}\n"));
    }
    report::failure(&mistake.message);
    Done(mistake.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_for_the_early_part_are_those_of_the_definitions() {
        assert_eq!(SEALED, *b"create\0exec\0mounts\0restore\0run\0");
    }

    #[test]
    fn only_commands_that_start_something_are_sealed() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(may_seal(&words("--root /r --log l create -b . c1")));
        assert!(may_seal(&words("exec c1 ls")));
        assert!(!may_seal(&words("state c1")));
    }
}

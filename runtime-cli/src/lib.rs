//! Runs in: RUNTIME. runc's command line over the library `runtime_core`: from the arguments to the exit code. The
//! commands themselves are in `commands`. It is a library so that manual pages and completions can be made from the
//! same definitions; programs that want to run containers use `runtime_core`.

mod args;
mod commands;
mod descriptors;
mod flags;
mod foreground;
mod go_flags;
mod inherited;
mod interrupt;
mod memory_fault;
mod output;
mod report;
#[cfg(test)]
mod runc_flags;
mod sealed_exe;
mod settings;
mod terminal;
mod units;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable;

use std::ffi::OsString;

use args::{Request, UsageError};
use commands::{Definition, Invocation};
use runtime_core::{ErrorKind, Result};

/// Runs the command line of this process; its exit code. What is printed has been flushed.
pub fn main() -> u8 {
    // Before anything is allocated.
    let explained = memory_fault::explain();
    report::panics_on_one_line();
    let mut arguments = std::env::args_os();
    let program = settings::program_name(arguments.next());
    let arguments: Vec<OsString> = arguments.collect();
    match explained.and_then(|()| begin(&arguments)) {
        Ok(open_files) => onggi(program, &arguments, open_files),
        Err(error) => {
            report::failure(&report::text_of(&error, false));
            1
        }
    }
}

/// What comes before the command line is read. Returns the caller's soft limit of open files.
fn begin(arguments: &[OsString]) -> Result<u64> {
    inherited::open_standard_streams()?;
    inherited::reset_signal_actions()?;
    if starts_something(arguments) {
        sealed_exe::ensure()?;
    }
    // Behind that: what has been executed anew would take the raised limit for the caller's.
    inherited::raise_open_files()
}

/// Every command and flag, described for people: what manual pages and completions are made from.
pub fn definitions() -> clap::Command {
    args::presentable()
}

/// Whether the command may be one whose process the container gets to see. A value of a flag may have such a name as
/// well: then sealing was not needed, and does no harm.
fn starts_something(arguments: &[OsString]) -> bool {
    arguments.iter().any(|word| {
        word == "create" || word == "run" || word == "exec" || word == "restore" || word == "mounts"
    })
}

fn onggi(program: &str, arguments: &[OsString], open_files: u64) -> u8 {
    let globals = match args::parse_globals(arguments) {
        Ok(globals) => globals,
        Err(mistake) => return usage(&mistake),
    };
    if let Err(error) = settings::open_log(&globals.flags) {
        report::failure(&report::text_of(&error, false));
        return 1;
    }
    match args::parse_command(&globals, program) {
        Ok(Request::Command(definition, flags)) => {
            let invocation = Invocation {
                program,
                globals: &globals.flags,
                flags,
                open_files,
            };
            command(definition, &invocation)
        }
        Ok(Request::Help(text)) => printed(output::print(&text)),
        Ok(Request::Version) => printed(output::version(program)),
        Err(mistake) => usage(&mistake),
    }
}

fn command(definition: &Definition, invocation: &Invocation) -> u8 {
    log::debug!(
        "{} {} (onggi), command {}",
        invocation.program,
        env!("CARGO_PKG_VERSION"),
        definition.name
    );
    let kept = match definition.name {
        // It takes one of them by its number first.
        "checkpoint" => Ok(()),
        _ => descriptors::keep_behind(invocation.handed_on()),
    };
    match kept.and_then(|()| (definition.run)(invocation)) {
        Ok(code) => code,
        Err(error) => {
            let interrupted = (error.kind() == ErrorKind::Interrupted).then(interrupt::exit_code);
            let prefix = (definition.failure)(invocation.program);
            let starts = matches!(definition.name, "create" | "run" | "restore");
            if stands_in(definition, invocation) && error.kind() == ErrorKind::Exec {
                log::info!("{prefix}{error}");
                report::failure(&error.bare().to_string());
                return interrupted.flatten().unwrap_or(CANNOT_BE_EXECUTED);
            }
            report::failure(&format!("{prefix}{}", report::text_of(&error, starts)));
            interrupted.flatten().unwrap_or(definition.failure_code)
        }
    }
}

/// What the container's own process ends with, when its program cannot be executed (runc since 1.2).
const CANNOT_BE_EXECUTED: u8 = 255;

/// In the foreground a program that cannot be executed speaks for itself, in words that scripts look for: with runc they are
/// those of the container's own process.
fn stands_in(definition: &Definition, invocation: &Invocation) -> bool {
    matches!(definition.name, "run" | "exec") && !invocation.flag("detach")
}

fn printed(result: Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            report::failure(&report::text_of(&error, false));
            1
        }
    }
}

fn usage(mistake: &UsageError) -> u8 {
    if let Some(help) = &mistake.help {
        // The message itself goes to standard error: without standard output only the help is lost.
        let _only_help = output::print(&format!("{help}\n"));
    }
    report::failure(&mistake.message);
    mistake.exit_code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_start_something_are_sealed() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(starts_something(&words("--root /r --log l create -b . c1")));
        assert!(starts_something(&words("exec c1 ls")));
        assert!(!starts_something(&words("state c1")));
    }
}

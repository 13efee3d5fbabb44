//! Runs in: RUNTIME. runc's command line over the library `runtime_core`. This file is the table of contents: which
//! command is which call.

mod args;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;
mod foreground;
mod go_flags;
mod lifecycle;
mod report;
mod sealed_exe;
mod settings;
mod show;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Globals, Request, UsageError};
use clap::ArgMatches;
use runtime_core::{Error, Result, Runtime};
use settings::{Root, container_id, signal};
use show::Listing;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = settings::program_name(arguments.next());
    let arguments: Vec<OsString> = arguments.collect();
    if starts_something(&arguments)
        && let Err(error) = sealed_exe::ensure()
    {
        report::failure(&report::text_of(&error));
        return ExitCode::FAILURE;
    }
    ExitCode::from(onggi(program, &arguments))
}

/// Whether the command may be one whose process the container gets to see. A value of a flag may have such a name as
/// well: then sealing was not needed, and does no harm.
fn starts_something(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .any(|word| word == "create" || word == "run" || word == "exec")
}

fn onggi(program: &str, arguments: &[OsString]) -> u8 {
    let globals = match args::parse_globals(arguments) {
        Ok(globals) => globals,
        Err(mistake) => return usage(&mistake),
    };
    if let Err(error) = settings::open_log(&globals.flags) {
        report::failure(&report::text_of(&error));
        return 1;
    }
    let (name, flags) = match args::parse_command(&globals, program) {
        Ok(Request::Command(name, flags)) => (name, flags),
        Ok(Request::Help(text)) => return finish(show::print(&text).map(|()| 0), "", 1),
        Ok(Request::Version) => return finish(show::version(program).map(|()| 0), "", 1),
        Err(mistake) => return usage(&mistake),
    };
    let (prefix, code_of_failure) = match name {
        "create" | "run" => (format!("{program} {name} failed: "), 1),
        "exec" => ("exec failed: ".to_owned(), 255),
        _ => (String::new(), 1),
    };
    finish(command(name, &globals, &flags), &prefix, code_of_failure)
}

fn command(name: &str, globals: &Globals, flags: &ArgMatches) -> Result<u8> {
    match name {
        "features" => return show::features().map(|()| 0),
        "spec" => {
            return show::spec(
                flags.get_one("bundle").map(std::path::PathBuf::as_path),
                flags.get_flag("rootless"),
            )
            .map(|()| 0);
        }
        _ => {}
    }
    let root = Root::new(&globals.flags)?;
    let runtime = Runtime::new(root.path.clone(), settings::cgroup_driver(&globals.flags));
    if name == "list" {
        root.must_exist_if_named()?;
        let listing = Listing::new(settings::format(flags), flags.get_flag("quiet"))?;
        return show::list(&runtime, &root.path, listing).map(|()| 0);
    }
    let words = args::words(flags);
    let (id, words) = container_id(&words)?;
    match name {
        "create" => lifecycle::create(&runtime, &id, flags)?,
        "run" => return lifecycle::run(&runtime, &id, flags),
        "exec" => return lifecycle::exec(&runtime, &id, words, flags),
        "start" => runtime.start(&id)?,
        "state" => show::state(&runtime.state(&id)?)?,
        "kill" => runtime.kill(&id, signal(words.first())?, flags.get_flag("all"))?,
        "delete" => runtime.delete(&id, flags.get_flag("force"))?,
        "pause" => runtime.pause(&id)?,
        "resume" => runtime.resume(&id)?,
        "ps" => show::ps(
            &runtime.pids(&id)?,
            Listing::new(settings::format(flags), false)?,
            words,
        )?,
        other => {
            return Err(Error::new(
                runtime_core::ErrorKind::Internal,
                format!("no code for command {other}"),
            ));
        }
    }
    Ok(0)
}

fn finish(result: Result<u8>, prefix: &str, code_of_failure: u8) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) => {
            report::failure(&format!("{prefix}{}", report::text_of(&error)));
            code_of_failure
        }
    }
}

fn usage(mistake: &UsageError) -> u8 {
    if let Some(help) = &mistake.help {
        // The message itself goes to standard error: without standard output only the help is lost.
        let _only_help = show::print(&format!("Incorrect Usage.\n\n{help}\n"));
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

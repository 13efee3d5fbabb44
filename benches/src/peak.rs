//! Prints the peak resident memory of a command in kilobytes: of the process itself or of whichever process
//! it waited for, if that one was larger.
//!
//!     peak PROGRAM [ARGUMENT]...
//!
//! A program of its own, because the kernel counts what a process was before `execve` as its own: a child of
//! a big program starts with the peak of that program. This one is smaller than anything worth measuring.

use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: peak PROGRAM [ARGUMENT]...");
        return ExitCode::from(2);
    };
    // Command uses vfork where it can: no copy of this process.
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status();
    match (status, getrusage(UsageWho::RUSAGE_CHILDREN)) {
        (Ok(status), Ok(usage)) if status.success() => {
            println!("{}", usage.max_rss());
            ExitCode::SUCCESS
        }
        (status, usage) => {
            eprintln!("peak: {status:?}, {usage:?}");
            ExitCode::FAILURE
        }
    }
}

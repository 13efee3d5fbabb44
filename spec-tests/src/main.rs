//! Runs in: SUITE. Black-box conformance suite for any OCI runtime: `spec-tests --runtime PATH [FILTER]`.
//! Knows only runc's command line and the runtime-spec; shares no code with onggi.

mod bundle;
mod case;
mod children;
mod config;
mod conformance;
#[cfg(test)]
mod documents;
mod expected;
mod faults;
mod host;
mod label;
mod leaks;
mod machine;
mod need;
mod options;
mod outcome;
mod placement;
mod pty;
mod report;
mod runner;
mod schema;
mod seen;
mod suite;
mod tests;
mod trials;
mod user;

use nix::sys::signal::{SigHandler, Signal, signal};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("spec-tests: {text}");
            return ExitCode::from(2);
        }
    };
    if let Err(errno) = default_signals() {
        eprintln!("spec-tests: rt_sigaction: {errno}");
        return ExitCode::from(2);
    }
    suite::run(options).unwrap_or_else(|error| {
        eprintln!("spec-tests: {error}");
        ExitCode::from(2)
    })
}

/// A shell's job in the background ignores SIGINT and SIGQUIT, and what nohup(1) starts SIGHUP: the runtimes,
/// which inherit that and keep to it, would not be ended by them.
fn default_signals() -> nix::Result<()> {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM]
        .into_iter()
        .try_for_each(|number| {
            // SAFETY: the default disposition runs no code of ours.
            unsafe { signal(number, SigHandler::SigDfl) }.map(drop)
        })
}

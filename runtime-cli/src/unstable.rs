//! Runs in: the targets of `fuzz/`, which reach the inside by this. No promise to anybody else.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use crate::{args, commands, go_flags, units, words};

/// Flags and positionals, or the mistake.
pub type Scanned = Result<(Vec<OsString>, Vec<OsString>), String>;

/// Reads a whole command line; the error is the message of a mistake.
pub fn parse(arguments: &[OsString]) -> Result<(), String> {
    let (globals, rest) = args::parse_globals(arguments).map_err(|mistake| mistake.message)?;
    args::parse_command(&globals, &rest, "onggi")
        .map(drop)
        .map_err(|mistake| mistake.message)
}

/// Sorts the arguments of a command; `None` if there is none of this name, or help is asked for.
pub fn scan(name: &OsStr, arguments: &[OsString]) -> Option<Scanned> {
    let definition = commands::ALL.iter().find(|known| name == known.name)?;
    match go_flags::scan(&args::command(definition), arguments, definition.flags_end) {
        Ok(scan) if scan.help => None,
        Ok(scan) => Some(Ok((scan.flags, scan.positionals))),
        Err(message) => Some(Err(message)),
    }
}

/// `units::bytes`.
pub fn bytes_of(text: &str) -> Option<i64> {
    units::bytes(text)
}

/// `units::duration`.
pub fn duration_of(text: &str) -> Option<Duration> {
    units::duration(text)
}

/// `words::signal`.
pub fn signal_of(word: &OsStr) -> Option<i32> {
    words::signal(word).ok()
}

//! Runs in: RUNTIME. The kinds of flags, and the flags that several commands share. What a flag means is the business
//! of the command's own file; how it may be spelled is `go_flags`'.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ValueHint, value_parser};

/// On or off; `--name=false` is Go's way to say off. The last one counts.
pub(crate) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .overrides_with(name)
        .value_parser(truth)
        .help(help)
}

/// The words that Go takes. Not a list of possible values for clap: it would be copied for every switch at every start.
fn truth(word: &str) -> Result<bool, &'static str> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// One text; the last one counts.
pub(crate) fn value(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .allow_hyphen_values(true)
        .overrides_with(name)
}

/// One path.
pub(crate) fn path(name: &'static str) -> Arg {
    value(name)
        .value_name("path")
        .value_hint(ValueHint::AnyPath)
        .value_parser(value_parser!(PathBuf))
}

/// One number from 0 on.
pub(crate) fn number(name: &'static str) -> Arg {
    value(name).value_name("number").value_parser(value_parser!(u32))
}

/// One of these words.
pub(crate) fn choice<const N: usize>(name: &'static str, values: [&'static str; N]) -> Arg {
    value(name).value_parser(PossibleValuesParser::new(values))
}

/// A text that may be given several times, and is never split at commas.
pub(crate) fn list(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(OsString))
}

/// `--format` of `list` and `ps`.
pub(crate) fn table_or_json() -> Arg {
    value("format")
        .short('f')
        .default_value("table")
        .help("table or json")
}

/// `--bundle` of the commands that make a container.
pub(crate) fn bundle() -> Arg {
    path("bundle").short('b').help("path of the bundle [default: .]")
}

/// `--regex` of `kill` and `delete`.
pub(crate) fn regex() -> Arg {
    switch(
        "regex",
        "the id is a regular expression; for all containers that it matches",
    )
    .short('r')
}

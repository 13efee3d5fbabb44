//! Runs in: RUNTIME. The kinds of flags, and the structs that commands declare theirs by. What a flag means
//! is the business of the command's own file; how it may be spelled is `go_flags`'.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, ValueHint, value_parser};

/// A struct of flags. clap describes them to people and checks the values; commands see the fields only.
pub(crate) trait Flags: Sized {
    /// Adds the flags, in the order of the help text.
    fn define(flags: &mut Vec<Arg>);

    /// What has been said about the flags that `define` adds.
    fn read(matches: &mut ArgMatches) -> Self;
}

/// The type of a field of such a struct: what kind of flag it is.
pub(crate) trait Value: Sized {
    fn define(name: &'static str) -> Arg;
    fn read(matches: &mut ArgMatches, name: &'static str) -> Self;
}

/// Declares a struct of flags. A field is a flag of the same name with hyphens; its comment is the help, its
/// type the kind of flag, and after the type there may be calls of [`Arg`]'s methods. `..name: Type` takes
/// another struct's flags in.
macro_rules! flags {
    (
        $(#[$attribute:meta])*
        $visible:vis struct $name:ident {
            $(
                $(..$part:ident: $flags:ident)?
                $($(#[doc = $help:literal])+ $field:ident: $kind:ty $({ $($with:tt)+ })?)?
            ),+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug)]
        $visible struct $name {
            $(
                $($(#[doc = $help])+ pub(crate) $field: $kind,)?
                $(pub(crate) $part: $flags,)?
            )+
        }

        impl $crate::flags::Flags for $name {
            fn define(_flags: &mut Vec<clap::Arg>) {
                $(
                    $(_flags.push(
                        <$kind as $crate::flags::Value>::define($crate::flags::name_of!($field))
                            .help(concat!($($help),+).trim_start())
                            $(.$($with)+)?
                    );)?
                    $(<$flags as $crate::flags::Flags>::define(_flags);)?
                )+
            }

            fn read(_matches: &mut clap::ArgMatches) -> Self {
                Self {
                    $(
                        $($field: $crate::flags::Value::read(_matches, $crate::flags::name_of!($field)),)?
                        $($part: $crate::flags::Flags::read(_matches),)?
                    )+
                }
            }
        }
    };
}
pub(crate) use flags;

/// The name of a field as a flag's: with hyphens.
macro_rules! name_of {
    ($field:ident) => {{
        const FIELD: &str = stringify!($field);
        const BYTES: [u8; FIELD.len()] = $crate::flags::with_hyphens(FIELD);
        const NAME: &str = match std::str::from_utf8(&BYTES) {
            Ok(name) => name,
            Err(_) => panic!("a field's name is UTF-8"),
        };
        NAME
    }};
}
pub(crate) use name_of;

pub(crate) const fn with_hyphens<const N: usize>(field: &str) -> [u8; N] {
    let mut name = [0; N];
    let mut index = 0;
    while index < N {
        name[index] = match field.as_bytes()[index] {
            b'_' => b'-',
            letter => letter,
        };
        index += 1;
    }
    name
}

/// On or off; `--name=false` is Go's way to say off. The last one counts.
impl Value for bool {
    fn define(name: &'static str) -> Arg {
        Arg::new(name)
            .long(name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .overrides_with(name)
            .value_parser(truth)
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches.get_flag(name)
    }
}

/// A switch of which it matters whether it was named at all.
impl Value for Option<bool> {
    fn define(name: &'static str) -> Arg {
        bool::define(name)
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        let is_named = matches.value_source(name) == Some(ValueSource::CommandLine);
        is_named.then(|| matches.get_flag(name))
    }
}

/// The words that Go takes. Not a list of possible values for clap: it would be copied for every switch at
/// every start.
fn truth(word: &str) -> Result<bool, &'static str> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// A flag with one value; the last one counts.
fn valued(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .allow_hyphen_values(true)
        .overrides_with(name)
}

/// One text.
impl Value for Option<String> {
    fn define(name: &'static str) -> Arg {
        valued(name)
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches.remove_one(name)
    }
}

/// One text with a default, which the declaration has to name.
impl Value for String {
    fn define(name: &'static str) -> Arg {
        valued(name)
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches.remove_one(name).unwrap_or_default()
    }
}

/// One text that need not be UTF-8; an empty one is none.
impl Value for Option<OsString> {
    fn define(name: &'static str) -> Arg {
        valued(name).value_parser(value_parser!(OsString))
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches
            .remove_one(name)
            .filter(|text: &OsString| !text.is_empty())
    }
}

/// One path. clap refuses an empty one.
impl Value for Option<PathBuf> {
    fn define(name: &'static str) -> Arg {
        valued(name)
            .value_name("path")
            .value_hint(ValueHint::AnyPath)
            .value_parser(value_parser!(PathBuf))
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches.remove_one(name)
    }
}

/// One number from 0 on, which is the default.
impl Value for u32 {
    fn define(name: &'static str) -> Arg {
        valued(name).value_name("number").value_parser(value_parser!(u32))
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches.remove_one(name).unwrap_or(0)
    }
}

/// Texts: the flag may be given several times. A value is never split at commas.
impl Value for Vec<OsString> {
    fn define(name: &'static str) -> Arg {
        repeated(name).value_parser(value_parser!(OsString))
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches
            .remove_many(name)
            .map(Iterator::collect)
            .unwrap_or_default()
    }
}

/// Numbers: the flag may be given several times.
impl Value for Vec<u32> {
    fn define(name: &'static str) -> Arg {
        repeated(name).value_parser(value_parser!(u32))
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        matches
            .remove_many(name)
            .map(Iterator::collect)
            .unwrap_or_default()
    }
}

fn repeated(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
}

/// A type whose values have words on the command line.
pub(crate) trait Choice: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of a [`Choice`].
impl<C: Choice> Value for Option<C> {
    fn define(name: &'static str) -> Arg {
        let words = C::WORDS.iter().map(|(word, _)| *word);
        valued(name).value_parser(PossibleValuesParser::new(words))
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        let given: String = matches.remove_one(name)?;
        let known = C::WORDS.iter().find(|(word, _)| *word == given);
        known.map(|(_, value)| *value)
    }
}

/// A text that remembers the name of its flag, for messages; an empty one is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedText {
    pub(crate) flag: &'static str,
    pub(crate) text: Option<String>,
}

impl Value for NamedText {
    fn define(name: &'static str) -> Arg {
        valued(name)
    }

    fn read(matches: &mut ArgMatches, name: &'static str) -> Self {
        let text = matches.remove_one(name).filter(|text: &String| !text.is_empty());
        Self { flag: name, text }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_flag_has_the_name_of_its_field() {
        assert_eq!(name_of!(no_new_privs), "no-new-privs");
        assert_eq!(name_of!(all), "all");
    }
}

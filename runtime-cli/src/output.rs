//! Runs in: RUNTIME. Printing to standard output. Engines parse what commands print, so spacing and newlines
//! are runc's.

use std::io::{self, Write};

use runtime_core::{Error, ErrorKind, Result};

/// How `list` and `ps` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// For people.
    Table,
    /// For engines.
    Json,
    /// Only ids.
    Quiet,
}

impl Listing {
    /// Reads the value of `--format`.
    pub(crate) fn new(format: &str, quiet: bool) -> Result<Self> {
        match (format, quiet) {
            (_, true) => Ok(Self::Quiet),
            ("table", false) => Ok(Self::Table),
            ("json", false) => Ok(Self::Json),
            _ => Err(Error::new(ErrorKind::Invalid, "invalid format option")),
        }
    }
}

/// Prints the three lines that engines read from `--version`, and for those who think that this is crun what
/// it can do: crun's words for it, less the name of the library that reads JSON.
pub(crate) fn version(program: &str) -> Result<()> {
    let commit = option_env!("ONGGI_COMMIT").unwrap_or("unknown");
    let features = match program {
        "crun" => "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU\n",
        _ => "",
    };
    print(&format!(
        "{program} version {}\ncommit: {commit}\nspec: 1.3.0\n{features}",
        env!("CARGO_PKG_VERSION")
    ))
}

/// JSON that means the same, and in which no control character of Unicode's speaks to a terminal (U+009B
/// begins a sequence as ESC [ does); serde_json escapes those below the blank. Outside of strings JSON has
/// none.
pub(crate) fn without_controls(json: String) -> String {
    if !json.contains(is_late_control) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 64);
    for letter in json.chars() {
        match is_late_control(letter) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            false => text.push(letter),
        }
    }
    text
}

fn is_late_control(letter: char) -> bool {
    matches!(letter, '\u{7f}'..='\u{9f}')
}

/// Prints a text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints bytes to standard output.
pub(crate) fn print_bytes(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|e| Error::os("write", e).doing("print to standard output"))
}

/// The error of a value that has no JSON.
pub(crate) fn unprintable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, error.to_string()).doing("print as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_other_than_the_two_are_refused() {
        assert_eq!(Listing::new("json", false).unwrap(), Listing::Json);
        assert_eq!(Listing::new("json", true).unwrap(), Listing::Quiet);
        assert_eq!(
            Listing::new("xml", false).unwrap_err().to_string(),
            "invalid format option"
        );
    }
}

//! Runs in: RUNTIME. The container id: the one name that becomes a directory name, so it is checked before
//! use.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

/// NAME_MAX of Linux filesystems: the id is the name of the container's directory.
const LONGEST: usize = 255;

/// A checked container id: one to 255 bytes of `[A-Za-z0-9_+.-]`, and neither `.` nor `..`.
///
/// The alphabet is runc's. No id can therefore climb out of the root directory, and none can be taken for one
/// of the store's own names, which all begin with `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with runc's texts `container id cannot be empty` and
    /// `invalid container ID format`.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "container id cannot be empty"));
        }
        if id.len() > LONGEST {
            let head: String = id.chars().take(32).collect();
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "invalid container ID format: {head:?}... has {} bytes, at most {LONGEST} are allowed",
                    id.len()
                ),
            ));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id == "." || id == ".." || !id.bytes().all(allowed) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("invalid container ID format: {id:?}"),
            ));
        }
        Ok(Self(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_alphabet_of_runc() {
        for id in [
            "a",
            "0",
            ".hidden",
            "...",
            "_",
            "-",
            "a.b+c_d-E9",
            &"x".repeat(255),
        ] {
            assert_eq!(ContainerId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn refuses_what_could_leave_the_directory_or_upset_a_terminal() {
        for id in [
            ".",
            "..",
            "a/b",
            "../x",
            "/",
            "a b",
            "a\0",
            "a\n",
            "\u{e9}",
            "@claim-1",
            "a:b",
            &"x".repeat(256),
            &"x".repeat(2000),
        ] {
            let error = ContainerId::new(id).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(
                error.to_string().starts_with("invalid container ID format: "),
                "{error}"
            );
            assert!(!error.to_string().contains(['\n', '\0']), "{error}");
        }
        assert_eq!(
            ContainerId::new("").unwrap_err().to_string(),
            "container id cannot be empty"
        );
    }
}

//! Runs in: SHIM. Why something could not be done, with the code by which containerd tells failures apart.

use std::fmt;

use containerd_shim_protos::protobuf;
use containerd_shim_protos::ttrpc::{self, Code};
use runtime_core::{Error, ErrorKind};

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A failure: its class, and a text for people, in which engines look for the words of `docs/design.md`.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Code::INVALID_ARGUMENT, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(Code::NOT_FOUND, text)
    }

    pub(crate) fn precondition(text: impl Into<String>) -> Self {
        Self::new(Code::FAILED_PRECONDITION, text)
    }

    /// A failed system call or operation of the standard library on a path.
    pub(crate) fn io(
        doing: &str,
        path: impl AsRef<std::path::Path>,
        error: impl Into<std::io::Error>,
    ) -> Self {
        let text = format!("{doing}: {}: {}", path.as_ref().display(), error.into());
        Self::new(Code::UNKNOWN, text)
    }

    /// Names the operation in front of what is there.
    pub(crate) fn doing(mut self, doing: &str) -> Self {
        self.text = format!("{doing}: {}", self.text);
        self
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Code::NOT_FOUND
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NOT_FOUND,
            ErrorKind::AlreadyExists => Code::ALREADY_EXISTS,
            ErrorKind::WrongStatus => Code::FAILED_PRECONDITION,
            // The others are those of a program that containerd has executed: a text.
            _ => Code::UNKNOWN,
        };
        Self::new(code, error.to_string())
    }
}

impl From<protobuf::Error> for Failure {
    fn from(error: protobuf::Error) -> Self {
        Self::invalid(format!("read a message: {error}"))
    }
}

impl From<Failure> for ttrpc::Error {
    fn from(failure: Failure) -> Self {
        Self::RpcStatus(ttrpc::get_status(failure.code, failure.text))
    }
}

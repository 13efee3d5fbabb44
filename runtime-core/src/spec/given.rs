//! Runs in: RUNTIME. A document in the form that the caller has it: in a file, as text, as a value. Its
//! contents are judged elsewhere.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::Serialize;

use super::read;
use crate::{Cancel, Error, ErrorKind, Result};

/// A document of the runtime-spec, in the form that the caller has it. In whatever form: it is checked alike,
/// and what is wrong with it is told by the field.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Document<T> {
    /// In a file, which may be a pipe. Read once.
    File(PathBuf),
    /// As JSON.
    Json(Vec<u8>),
    /// As a value. It is written as JSON, and what the type does not know is not in it.
    Value(Box<T>),
}

impl<T> From<PathBuf> for Document<T> {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl<T> From<Vec<u8>> for Document<T> {
    fn from(json: Vec<u8>) -> Self {
        Self::Json(json)
    }
}

macro_rules! of_values {
    ($($type:ty),*) => {$(
        impl From<$type> for Document<$type> {
            fn from(value: $type) -> Self {
                Self::Value(Box::new(value))
            }
        }
    )*};
}

of_values!(Spec, Process, LinuxResources);

impl<T: Serialize> Document<T> {
    /// Its text.
    ///
    /// # Errors
    /// That of the system call, with the path; `Interrupted`.
    pub(crate) fn json(&self, cancel: &Cancel) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => read(path, cancel),
            Self::Json(json) => Ok(json.clone()),
            Self::Value(value) => serde_json::to_vec(value).map_err(|error| {
                Error::new(ErrorKind::Invalid, error.to_string()).doing("write the document as JSON")
            }),
        }
    }

    /// What to name it by in an error, beside the field.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// With its path.
    pub(crate) fn blamed(&self, error: Error) -> Error {
        match self.path() {
            Some(path) => error.with_path(path),
            None => error,
        }
    }
}

//! The OCI container lifecycle over a bundle, as a library.
//!
//! Everything in this crate runs in the process that calls it (RUNTIME in the documents); what runs after `clone3`,
//! in the container's first process, is the crate `runtime-init`. See `docs/design.md`.
#![deny(missing_docs)]

mod error;
pub mod host;
pub mod plan;
pub mod spec;

pub use error::{Errno, Error, ErrorKind, Result, errno_text};

//! Runs in: SUITE. The command line: flags, texts, logs.

pub(crate) mod called_runc;
pub(crate) mod errors;
pub(crate) mod flags;
pub(crate) mod logs;
pub(crate) mod recorded;

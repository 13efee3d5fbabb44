//! Runs in: SUITE. `exec`.

pub(crate) mod file;
pub(crate) mod options;
pub(crate) mod process;

//! Runs in: SUITE. Programs of others that use or judge a runtime.

pub(crate) mod containerd;
pub(crate) mod runtime_tools;

//! Runs in: SUITE. Signals to the runtime and to containers.

pub(crate) mod created;
pub(crate) mod forwarded;
pub(crate) mod hung_peers;
pub(crate) mod interrupt;

//! Runs in: SUITE. The life of a container: operations, hooks, annotations, its end.

pub(crate) mod annotations;
pub(crate) mod crash;
pub(crate) mod deletion;
pub(crate) mod hooks;
pub(crate) mod many;
pub(crate) mod operations;
pub(crate) mod run;
pub(crate) mod service_managers;

//! Runs in: SUITE. Sentences of the specification that no other topic has.

pub(crate) mod bad_input;
pub(crate) mod defaults;
pub(crate) mod examples;
pub(crate) mod features;
pub(crate) mod keys;
pub(crate) mod mount_options;
pub(crate) mod sentences;
pub(crate) mod values;

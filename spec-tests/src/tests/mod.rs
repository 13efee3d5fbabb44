//! Runs in: SUITE. The tests, one file per topic; each file lists its own in `TESTS`.

mod bad_input;
mod lifecycle;

use crate::suite::Test;

/// Every test, in the order of the topics.
pub(crate) fn all() -> Vec<Test> {
    [lifecycle::TESTS, bad_input::TESTS].concat()
}

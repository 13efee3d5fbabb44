//! What the programs of this crate have in common: a command is timed, numbers become a table.

pub mod table;
mod timed;

pub use timed::{Outcome, timed};

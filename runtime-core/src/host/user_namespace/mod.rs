//! Runs in: RUNTIME. User namespaces of children: their id maps, and what of the host may forbid them.

pub mod id_map;
pub mod id_map_program;
mod obstacle;

pub use obstacle::obstacle;

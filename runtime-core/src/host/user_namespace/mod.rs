//! Runs in: RUNTIME. User namespaces of children: their id maps, and what of the host may forbid them.

pub(crate) mod id_map;
pub(crate) mod id_map_program;
mod obstacle;

pub(crate) use obstacle::obstacle;

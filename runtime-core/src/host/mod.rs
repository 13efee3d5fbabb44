//! Runs in: RUNTIME. One outside resource per file. The files do not know each other.

pub mod pid_file;
pub mod proc_handle;
pub mod process;
pub mod state;

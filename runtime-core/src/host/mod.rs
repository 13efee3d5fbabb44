//! Runs in: RUNTIME. One outside resource per file. The files do not know each other.

pub mod cgroup;

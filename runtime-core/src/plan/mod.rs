//! Runs in: RUNTIME. Decides, from config and host facts, what will be done. Pure: no I/O, no clock, no environment.

pub mod seccomp;

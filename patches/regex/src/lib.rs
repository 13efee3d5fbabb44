//! Runs in: RUNTIME. What oci-spec uses of the crate regex, from regex-lite. oci-spec checks one pattern of
//! `execCPUAffinity` with it, and onggi does not even let that string reach it
//! (`runtime_core::spec::lenient`): half a megabyte of automata and Unicode tables, and their relocations at
//! every start, for nothing. `[patch.crates-io]` in Cargo.toml puts it into place; programs that embed
//! `runtime-core` link the real one unless they do the same.

#![no_std]

pub use regex_lite::{Error, Regex};

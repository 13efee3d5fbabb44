//! Has relocations packed (DT_RELR), where the C library is musl, which knows the format since 1.2.4; Rust
//! has that since 1.93. Every start reads them all, and a shim is started three times for a container.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_musl = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|value| value == "musl");
    if is_musl && rust_version() >= Some((1, 93)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Of the compiler that builds this. `None`: unknown.
fn rust_version() -> Option<(u32, u32)> {
    let rustc = std::env::var_os("RUSTC")?;
    let output = Command::new(rustc).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split(' ').nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

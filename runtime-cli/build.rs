//! Tells the linker two things about the binary.
//!
//! - `early::onggi_entry` is the first instruction of an optimised binary. Without optimisation the
//!   compiler calls even trivial functions through addresses that a static program relocates only later;
//!   `sealed_exe::ensure` then does the whole work.
//! - Relocations are packed (DT_RELR): they would be a quarter of a megabyte, and every start would read
//!   them all. A static program brings its own relocating code along, and that of musl knows the format since
//!   1.2.4, which Rust has since 1.93.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ONGGI_COMMIT");
    let is =
        |name: &str, values: &[&str]| std::env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    if is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"]) && is("OPT_LEVEL", &["2", "3", "s", "z"]) {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,onggi_entry");
    }
    if is("CARGO_CFG_TARGET_ENV", &["musl"]) && rust_version() >= Some((1, 93)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Of the compiler that builds this. `None`: unknown.
fn rust_version() -> Option<(u32, u32)> {
    let output = Command::new(std::env::var_os("RUSTC")?)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split(' ').nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

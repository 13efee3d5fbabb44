//! Tells the linker two things about the binary.
//!
//! - `early::onggi_entry` is the first instruction of an optimised binary. Without optimisation the compiler calls even
//!   trivial functions through addresses that a static program relocates only later; `sealed_exe::ensure` then does
//!   the whole work.
//! - Relocations are packed (DT_RELR): they would be a quarter of a megabyte, and every start would read them all. A static
//!   program brings its own relocating code along, and that of glibc knows the format since 2.36.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ONGGI_COMMIT");
    let is =
        |name: &str, values: &[&str]| std::env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    let optimised = is("OPT_LEVEL", &["2", "3", "s", "z"]);
    if is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"]) && optimised {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,onggi_entry");
    }
    let native = std::env::var("TARGET").ok() == std::env::var("HOST").ok();
    let static_glibc = is("CARGO_CFG_TARGET_ENV", &["gnu"])
        && std::env::var("CARGO_CFG_TARGET_FEATURE")
            .is_ok_and(|all| all.split(',').any(|feature| feature == "crt-static"));
    println!("cargo::rustc-check-cfg=cfg(quick_start, memset_has_threshold)");
    if native && static_glibc {
        let version = glibc_version();
        if version >= Some((2, 36)) {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
        // The versions whose csu/libc-start.c quick_start.rs was compared with: those of Debian 12 and 13.
        let known = matches!(version, Some((2, 36 | 41)));
        if known && optimised && is("CARGO_CFG_TARGET_ARCH", &["x86_64"]) {
            println!("cargo::rustc-cfg=quick_start");
            if version == Some((2, 41)) {
                println!("cargo::rustc-cfg=memset_has_threshold");
            }
        }
    }
}

/// Of this machine, whose static library is linked. `None`: unknown.
fn glibc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

//! Builds the small artefacts that the suite embeds: the probe and the attacker that run inside, static, and
//! the RLIMIT_MEMLOCK shim. Both use nothing but std (or less), so plain rustc is enough and
//! `cargo run -p spec-tests` needs no extra step.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());

    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/bin/probe.rs");
    println!("cargo::rerun-if-changed=src/bin/attacker.rs");
    println!("cargo::rerun-if-changed=shim/memlock.rs");

    let compile = |source: &str, output: &str, extra: &[&str]| {
        let status = Command::new(&rustc)
            .args([
                "--edition",
                "2024",
                "--target",
                &target,
                "-C",
                "opt-level=1",
                "-C",
                "panic=abort",
            ])
            .args(["-C", "strip=symbols"])
            .args(extra)
            .arg("-o")
            .arg(out.join(output))
            .arg(source)
            .status()
            .expect("rustc can be started");
        assert!(status.success(), "rustc failed on {source}");
    };
    // Static, because the rootfs of a test has no dynamic loader.
    let static_program = &["-C", "target-feature=+crt-static"];
    compile("src/bin/probe.rs", "probe", static_program);
    compile("src/bin/attacker.rs", "attacker", static_program);
    compile("shim/memlock.rs", "memlock.so", &["--crate-type", "cdylib"]);
}

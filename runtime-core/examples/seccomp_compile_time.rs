//! Prints the size of the compiled filter of a profile and how long compiling takes.
//!
//!     cargo run --release -p runtime-core --example seccomp_compile_time [linux.seccomp as a JSON file]

use std::time::{Duration, Instant};

use runtime_core::unstable::plan::seccomp::compile;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../spec-tests/fixtures/seccomp-default.json"
    );
    let path = std::env::args().nth(1).unwrap_or_else(|| default.to_owned());
    let seccomp = serde_json::from_slice(&std::fs::read(&path)?)?;
    let start = Instant::now();
    let plan = compile(&seccomp)?;
    let first = start.elapsed();
    let mut times = Vec::with_capacity(1000);
    for _ in 0..1000 {
        let start = Instant::now();
        std::hint::black_box(compile(&seccomp)?);
        times.push(start.elapsed());
    }
    times.sort();
    let size = plan.map_or(0, |plan| plan.program.len());
    let (median, least): (Duration, Duration) = (times[times.len() / 2], times[0]);
    println!("{path}: {size} instructions; first compile {first:?}, median {median:?}, least {least:?}");
    Ok(())
}

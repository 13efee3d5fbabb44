//! Runs in: RUNTIME. The program `onggi`: what has to be done before the C library starts, and the command line.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime_cli::main()
}

//! Runs in: RUNTIME. The program `onggi`: what has to be done before the C library starts, what Rust's runtime would do
//! before `main`, and the command line.
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;
#[cfg(quick_start)]
mod quick_start;
#[cfg(all(target_env = "gnu", not(test)))]
mod start;

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    runtime_cli::main().into()
}

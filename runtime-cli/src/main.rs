//! Runs in: RUNTIME. The program `onggi`: the command line, and what comes before the C library starts.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;

/// musl's own asks the kernel for every page anew.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    runtime_cli::main().into()
}

//! Runs in: RUNTIME. The program `onggi`: the command line, and what comes before the C library starts.
#![cfg_attr(not(test), no_main)]

#[cfg(target_env = "musl")]
mod allocator;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;

#[cfg(not(test))]
use std::ffi::{c_char, c_int};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// The `main` that the C library calls. Before a `fn main`, Rust's own start would make a dozen system calls,
/// and abort where one fails; and with glibc read /proc/self/maps.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: what the C library has from the kernel, and nobody changes.
    let arguments = unsafe { runtime_sys::arguments::Arguments::new(count, arguments) };
    // First, and by a function that needs little stack itself.
    let explained = runtime_cli::explain_memory_faults();
    runtime_cli::main(arguments, explained).into()
}

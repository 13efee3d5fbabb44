//! Runs in: RUNTIME, before anything else of Rust. The `main` that the C library calls.

use std::ffi::c_int;

/// Without it, Rust would install a handler that explains an overflow of the stack, for which
/// glibc has to read and parse /proc/self/maps at every start: a sixth of all that is computed for `state`. The kernel
/// ends such a process all the same. The arguments reach `std::env` all the same, where the C library is glibc.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    runtime_cli::main().into()
}

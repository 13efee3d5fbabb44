//! Runs in: HOOK, for a hook in the runtime's namespaces: from `clone3` to `execve`. What becomes of it is RUNTIME's to see.

use rustix::fd::{BorrowedFd, RawFd};

use crate::args::HostHookArgs;
use runtime_sys::{self as sys, SysError, fs, process};

/// What nobody sees: RUNTIME has the errno.
const CANNOT_EXECUTE: i32 = 127;

/// Becomes the hook's program, or tells RUNTIME the errno and ends. Nothing of the host program's signal actions and mask
/// is left in it.
pub(crate) fn run(args: HostHookArgs<'_>) -> ! {
    give_up(
        args.failure,
        match set_up(&args) {
            Ok(()) => process::execve(args.path, &args.argv, &args.envp),
            Err(error) => error,
        },
    )
}

/// Tells RUNTIME the errno, and ends.
pub(crate) fn give_up(failure: BorrowedFd<'_>, error: SysError) -> ! {
    // A RUNTIME that is gone does not hear it.
    let _nobody = fs::write_all(failure, &error.errno.raw_os_error().to_ne_bytes());
    process::exit_now(CANNOT_EXECUTE)
}

fn set_up(args: &HostHookArgs<'_>) -> sys::Result<()> {
    process::default_signal_actions()?;
    process::set_signal_mask(0)?;
    if args.own_group {
        process::lead_process_group()?;
    }
    for (number, stream) in args.stdio.iter().enumerate() {
        process::dup_onto(*stream, number as RawFd)?;
    }
    if let Some(directory) = args.directory {
        fs::chdir(directory)?;
    }
    match args.open_files {
        Some((soft, hard)) => process::set_limit(0, libc::RLIMIT_NOFILE, soft, hard),
        None => Ok(()),
    }
}

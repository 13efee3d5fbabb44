//! Runs in: HOOK, for a hook in the runtime's namespaces: from `clone3` to `execve`. What becomes of it is
//! RUNTIME's to see.

use rustix::fd::RawFd;

use crate::args::HostHookArgs;
use runtime_sys::memory::Role;
use runtime_sys::{self as sys, SysError, fs, process};

/// What nobody sees: RUNTIME has the errno.
const CANNOT_EXECUTE: i32 = 127;

impl Role for HostHookArgs<'_> {
    /// Becomes the hook's program, or tells RUNTIME the errno and ends. Nothing of the host program's signal
    /// actions and mask is left in it.
    fn run(args: HostHookArgs<'static>) -> ! {
        let error = match set_up(&args) {
            Ok(()) => process::execve(args.path, &args.argv, &args.envp),
            Err(error) => error,
        };
        Self::give_up(&args, error)
    }

    fn give_up(args: &HostHookArgs<'static>, error: SysError) -> ! {
        // A RUNTIME that is gone does not hear it.
        let _nobody = fs::write_all(args.failure, &error.errno.raw_os_error().to_ne_bytes());
        process::exit_now(CANNOT_EXECUTE)
    }
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

//! Runs in: SHIM. The program `containerd-shim-onggi-v1`, which containerd starts for a pod: from the command
//! line to what it asks for. Containers are made by the library, in this process: no runtime is executed, and
//! no process is reaped that is not ours.
#![forbid(unsafe_code)]

mod arguments;
mod bootstrap;
mod container;
mod creation;
mod delete;
mod events;
mod failure;
mod id_mapped;
mod info;
mod log_fifo;
mod logger;
mod metrics;
mod options;
mod pod;
mod polled;
mod process;
mod protection;
mod rootfs;
mod runtime;
mod server;
mod service;
mod socket;
mod start;
mod stdio;
mod streams;
mod values;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use crate::arguments::{Action, Arguments};
use crate::failure::Result;

/// musl's own makes a system call for nearly every growth (docs/adr/0018).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What `-info` and the log call this program.
pub(crate) const NAME: &str = "containerd-shim-onggi-v1";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows standard error; without one there is nobody to tell.
            let _nobody = writeln!(std::io::stderr(), "{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    if arguments.action != Action::Log {
        close_inherited()?;
    }
    match arguments.action {
        Action::Version => info::print_version(),
        Action::Info => info::print(),
        Action::Start => start::start(&arguments),
        Action::Delete => delete::delete(&arguments),
        Action::Serve => server::serve(&arguments),
        Action::HoldUserNamespace => id_mapped::hold_user_namespace(),
        Action::Log => logger::become_logger(&arguments),
    }
}

/// What whoever has started us left open by mistake: a shim, which lives long, would keep it.
fn close_inherited() -> Result<()> {
    let closed = runtime_sys::process::close_range(3, u32::MAX, false);
    closed.map_err(|error| failure::Failure::io("close what is not for us", "close_range", error.errno))
}

//! Runs in: INIT, and the part after the clone in a HOOK process. createContainer hooks run before
//! pivot_root, with programs of the host; startContainer hooks after everything, with programs of the
//! container.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::args::{Hook, HookArgs};
use crate::environment::decimal;
use crate::report::{At, Result, Stop, refused};
use crate::step::Step;
use runtime_sys::process::{CloneFlags, Cloned, ExecVector};
use runtime_sys::{self as sys, Call, SysError, fs, process};

/// Exit status of a hook whose program could not be executed, as a shell would.
const CANNOT_EXECUTE: i32 = 126;

/// createContainer hooks, with the rootfs as working directory.
pub(crate) fn run_create_container(root: BorrowedFd<'_>, hooks: &mut HookArgs<'_>) -> Result<()> {
    if hooks.create_container.is_empty() {
        return Ok(());
    }
    fs::chdir(root).at(Step::CreateContainerHook)?;
    run_all(
        Step::CreateContainerHook,
        hooks.create_container,
        hooks.creating_state,
        Inherited {
            environment: None,
            open_files: hooks.open_files,
            output: [hooks.stdout, hooks.stderr],
        },
    )?;
    // That of RUNTIME may be among them.
    hooks
        .create_container
        .iter_mut()
        .for_each(|hook| hook.envp.wipe());
    Ok(())
}

/// startContainer hooks, with the environment of the process where they give none.
pub(crate) fn run_start_container(environment: &ExecVector<'_>, hooks: &mut HookArgs<'_>) -> Result<()> {
    run_all(
        Step::StartContainerHook,
        hooks.start_container,
        hooks.created_state,
        Inherited {
            environment: Some(environment),
            open_files: None,
            output: [hooks.stdout, hooks.stderr],
        },
    )
}

/// What a hook gets that does not come from its entry in config.json.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    /// Where the hook gives none; `None`: that of RUNTIME, which the hook has already.
    environment: Option<&'a ExecVector<'a>>,
    /// Soft and hard limit; `None`: that of INIT.
    open_files: Option<(u64, u64)>,
    /// Files of the caller's for standard output and error.
    output: [Option<BorrowedFd<'a>>; 2],
}

fn run_all(step: Step, hooks: &[Hook<'_>], state: (&[u8], &[u8]), inherited: Inherited<'_>) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run(hook, state, inherited, step, index as u16)?;
    }
    Ok(())
}

fn run(
    hook: &Hook<'_>,
    state: (&[u8], &[u8]),
    inherited: Inherited<'_>,
    step: Step,
    index: u16,
) -> Result<()> {
    fs::may_execute(hook.path).at_index(step, index)?;
    let input = state_file(state).at_index(step, index)?;
    let output = fs::memfd(c"onggi-hook-output").at_index(step, index)?;
    let flags = CloneFlags {
        exit_signal: libc::SIGCHLD as u64,
        ..CloneFlags::default()
    };
    let pidfd = match process::clone3(flags).at_index(step, index)? {
        Cloned::Child => execute(hook, inherited, input.as_fd(), output.as_fd()),
        Cloned::Parent(_, pidfd) => pidfd,
    };
    let status = wait(pidfd.as_fd(), hook.timeout)
        .at_index(step, index)
        .map_err(|stop| with_output(stop, &output))?;
    if status == 0 {
        return Ok(());
    }
    let failed = Stop::new(
        step,
        index,
        SysError {
            call: Call::Wait,
            errno: Errno::CANCELED,
        },
    )
    .at_sub(status);
    Err(with_output(failed, &output))
}

fn with_output(stop: Stop, output: &OwnedFd) -> Stop {
    match rustix::io::dup(output) {
        Ok(copy) => stop.with_output(copy),
        // Out of descriptors: the failure itself matters more than what was printed.
        Err(_) => stop,
    }
}

/// The state of the container, as a file at its beginning: a hook reads standard input to its end, and a file
/// can neither block us nor break if it does not.
fn state_file((before_pid, after_pid): (&[u8], &[u8])) -> sys::Result<OwnedFd> {
    let file = fs::memfd(c"onggi-state")?;
    let mut digits = [0; 12];
    let pid = decimal(rustix::process::getpid().as_raw_pid() as u64, &mut digits);
    for part in [before_pid, pid, after_pid] {
        fs::write_all(file.as_fd(), part)?;
    }
    fs::rewind(file.as_fd())?;
    Ok(file)
}

/// Runs in: HOOK. Standard input is the state, output and error go to a file that RUNTIME may be shown, or to
/// the caller's.
fn execute(hook: &Hook<'_>, inherited: Inherited<'_>, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> ! {
    let set_up = || -> sys::Result<()> {
        process::dup_onto(input, 0)?;
        let [stdout, stderr] = inherited.output;
        process::dup_onto(stdout.unwrap_or(output), 1)?;
        process::dup_onto(stderr.unwrap_or(output), 2)?;
        if let Some((soft, hard)) = inherited.open_files {
            process::set_limit(0, libc::RLIMIT_NOFILE, soft, hard)?;
        }
        keep_to_itself()
    };
    if set_up().is_ok() {
        let environment = inherited
            .environment
            .filter(|_| hook.inherit)
            .unwrap_or(&hook.envp);
        process::execve(hook.path, &hook.argv, environment);
    }
    process::exit_now(CANNOT_EXECUTE)
}

/// Everything of ours is close-on-exec; this marks what the program is to inherit, and the hook is not.
fn keep_to_itself() -> sys::Result<()> {
    match process::close_range(3, u32::MAX, true) {
        // A startContainer hook under a filter from before Linux 5.9: it inherits what the program does.
        Err(SysError {
            errno: Errno::PERM | Errno::NOSYS,
            ..
        }) => Ok(()),
        other => other,
    }
}

/// The exit status, 256 and more for a signal. ETIMEDOUT once the hook has been killed for its time.
fn wait(pidfd: BorrowedFd<'_>, timeout: Option<i64>) -> sys::Result<u16> {
    if timeout.is_some() && !process::wait_readable(pidfd, timeout)? {
        process::send_signal(pidfd, Signal::KILL)?;
        process::wait(pidfd)?;
        return Err(refused(Errno::TIMEDOUT));
    }
    let status = process::wait(pidfd)?;
    let by_signal = status.terminating_signal().map(|signal| 256 + signal as u16);
    Ok(by_signal.unwrap_or(status.exit_status().unwrap_or(0) as u16))
}

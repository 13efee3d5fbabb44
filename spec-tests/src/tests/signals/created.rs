//! Signals that reach a created container, from whoever has its pid or its pidfd: they end it as they would
//! end any process, though the kernel spares process 1 of a pid namespace.

use crate::{
    case::Case,
    children::{self, Exit},
    config::Syscall,
    outcome::{Check, ensure, fail, same},
    pty::FdSocket,
    runner,
};
use nix::sys::signal::{SigHandler, Signal};
use std::{fs, os::unix::process::CommandExt, time::Duration};

tests! {
    signals/end_a_created_container,
    signals/all_fatal_ones_end_a_created_container,
    signals/others_leave_a_created_container,
    signals/by_pidfd,
    signals/under_a_filter,
    signals/in_the_host_pid_namespace,
    signals/ignored_by_the_caller,
}

/// Sends a signal to the init of a created container by kill(2): not as the runtime's command.
fn signal_created(c: &mut Case, signal: i32) -> Check<i32> {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let pid = c.pid()?;
    same("kill(2)", 0, kill(pid, signal))?;
    Ok(pid)
}

fn kill(pid: i32, signal: i32) -> i32 {
    // SAFETY: takes integers only.
    unsafe { libc::kill(pid, signal) }
}

/// It has ended, as `start` and `delete` say too, and has not run its program.
fn has_ended(c: &Case, pid: i32, signal: i32) -> Check {
    let end = children::wait_for(pid, Duration::from_secs(10));
    ensure!(
        end.is_some(),
        "signal {signal}: init {pid} still lives after 10 s"
    );
    ensure!(
        end != Some(Exit::Code(0)),
        "signal {signal}: wish the end of a failure, reality {end:?}"
    );
    same("status", "stopped", c.status()?.as_str())?;
    c.rt(&["start", &c.id])?.refused()?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

/// What engines and people send: Docker's and Kubernetes' stop signals, a service manager's, Ctrl-C.
fn end_a_created_container(c: &mut Case) -> Check {
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGABRT,
    ] {
        let pid = signal_created(c, signal)?;
        has_ended(c, pid, signal)?;
    }
    Ok(())
}

/// As signal(7) has it: process 1 of a pid namespace is spared by the kernel, whoever waits in it must not
/// be.
const NOT_FATAL: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

fn all_fatal_ones_end_a_created_container(c: &mut Case) -> Check {
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| !NOT_FATAL.contains(signal)) {
        let pid = signal_created(c, signal)?;
        has_ended(c, pid, signal)?;
    }
    Ok(())
}

fn others_leave_a_created_container(c: &mut Case) -> Check {
    c.shell("grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status >/log; exit 4");
    c.create()?.ok()?;
    let pid = c.pid()?;
    for signal in NOT_FATAL {
        same("kill(2)", 0, kill(pid, signal))?;
    }
    same("kill(2)", 0, kill(pid, libc::SIGCONT))?;
    same("status", "created", c.status()?.as_str())?;
    c.rt(&["start", &c.id])?.ok()?;
    same(
        "end",
        Some(Exit::Code(4)),
        children::wait_for(pid, Duration::from_secs(10)),
    )?;
    // grep is a child of the shell, which handles nothing of its own.
    let none = "0000000000000000";
    let wish = format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n");
    same(
        "signals of the program",
        wish,
        fs::read_to_string(c.rootfs("/log"))?,
    )
}

fn by_pidfd(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let socket = FdSocket::new(c.dir.join("pidfd.sock"))?;
    let live = c.spawn(&c.bundle_args("create", &["--pidfd-socket", &socket.path_text()], &c.id)?)?;
    let received = socket.receive();
    live.finish()?.ok()?;
    let Some(pidfd) = received?.fds.pop() else {
        return fail("no descriptor came");
    };
    let pid = c.pid()?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a live descriptor, and no information about the signal.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, libc::SIGTERM, no_info, 0) };
    same("pidfd_send_signal(2)", 0, sent)?;
    has_ended(c, pid, libc::SIGTERM)
}

/// Without no_new_privs the filter is there while the container waits; it allows no more than the wait and
/// the program take.
fn under_a_filter(c: &mut Case) -> Check {
    c.process().no_new_privileges(false);
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .architectures(["SCMP_ARCH_X86_64"])
        .syscalls([Syscall::new()
            .names([
                "rt_sigaction",
                "rt_sigprocmask",
                "rt_sigreturn",
                "signalfd4",
                "poll",
                "ppoll",
                "kill",
                "tgkill",
            ])
            .action("SCMP_ACT_ERRNO")]);
    let pid = signal_created(c, libc::SIGTERM)?;
    has_ended(c, pid, libc::SIGTERM)?;
    c.shell("exit 5");
    c.create()?.ok()?;
    let pid = c.pid()?;
    c.rt(&["start", &c.id])?.ok()?;
    let end = children::wait_for(pid, Duration::from_secs(10));
    same("end of a program under the filter", Some(Exit::Code(5)), end)?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn in_the_host_pid_namespace(c: &mut Case) -> Check {
    c.drop_namespace("pid");
    let pid = signal_created(c, libc::SIGTERM)?;
    has_ended(c, pid, libc::SIGTERM)
}

fn ignored_by_the_caller(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = c.command();
        command.args(c.bundle_args("create", &[], &c.id)?);
        // SAFETY: the closure makes one async-signal-safe call and allocates nothing.
        unsafe { command.pre_exec(move || ignore(signal)) };
        runner::start(&mut command, &c.dir)?.finish()?.ok()?;
        let pid = c.pid()?;
        same("kill(2)", 0, kill(pid, signal as i32))?;
        has_ended(c, pid, signal as i32)?;
    }
    Ok(())
}

fn ignore(number: Signal) -> std::io::Result<()> {
    // SAFETY: SIG_IGN is no function of ours.
    unsafe { nix::sys::signal::signal(number, SigHandler::SigIgn) }?;
    Ok(())
}

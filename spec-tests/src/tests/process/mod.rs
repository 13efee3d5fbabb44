//! Runs in: SUITE. What the program finds.

pub(crate) mod capabilities;
pub(crate) mod descriptors;
pub(crate) mod inherited;
pub(crate) mod program;
pub(crate) mod terminal;

use crate::{
    case::Case,
    outcome::{Check, fail},
    pty::{self, FdSocket, Master},
    runner::{self, Live},
    seen::Report,
};
use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

pub(crate) fn fd_numbers(report: &Report) -> Vec<i32> {
    report.fds.iter().map(|f| f.0).collect()
}

/// Runs the runtime by a shell that has opened these fds on the bundle folder.
pub(crate) fn run_with_fds(
    c: &Case,
    fds: &[u32],
    environment: &[&str],
    options: &[&str],
) -> Check<runner::Run> {
    let words = c.bundle_args("run", options, &c.id)?;
    let opens: String = fds
        .iter()
        .map(|fd| format!("exec {fd}<{}; ", c.bundle.display()))
        .collect();
    let mut runtime = c.host.runtime_words();
    // `env -i NAME=value ... runtime`: the caller's variables go before the program.
    let at = runtime.len() - 1;
    for variable in environment {
        runtime.insert(at, variable.into());
    }
    let mut command = Command::new("/bin/sh");
    // The runtime's words are `env -i NAME=value ... PATH`; only the shell knows the pid that LISTEN_PID must
    // name.
    let script = format!("{opens}shift 2; exec /usr/bin/env -i LISTEN_PID=$$ \"$@\"");
    command.arg("-c").arg(script).arg("sh").args(runtime);
    command
        .arg("--root")
        .arg(&c.state_root)
        .args(words)
        .stdin(Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()
}

/// Does it with a profile of this test's own, of which it gets the name.
pub(crate) fn with_profile(c: &mut Case, body: impl FnOnce(&mut Case, &str) -> Check) -> Check {
    let name = format!("spec-tests-{}", c.id);
    let file = c.dir.join("profile");
    // Later rules do not matter: a `deny` wins.
    let rules =
        "file, network, capability, mount, umount, pivot_root, signal, ptrace, unix, deny /forbidden r,";
    fs::write(
        &file,
        format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n"),
    )?;
    let dir = c.dir.clone();
    let parser = |action: &str| {
        let mut command = Command::new("apparmor_parser");
        command.args([action, "--skip-cache"]).arg(&file);
        runner::start(&mut command, &dir)?.finish()?.ok()
    };
    parser("--replace")?;
    let result = body(c, &name);
    let deleted = c.delete();
    parser("--remove")?;
    result.and(deleted)
}

pub(crate) fn with_terminal(c: &mut Case) {
    c.process().terminal(true);
}

pub(crate) fn socket(c: &Case) -> Check<FdSocket> {
    FdSocket::new(c.dir.join("console.sock"))
}

/// create with a console socket; returns the master.
pub(crate) fn create_with_socket(c: &Case) -> Check<Master> {
    let socket = socket(c)?;
    let live = c.spawn(&c.bundle_args("create", &["--console-socket", &socket.path_text()], &c.id)?)?;
    let received = socket.receive();
    live.finish()?.ok()?;
    let mut fds = received?.fds;
    match (fds.pop(), fds.is_empty()) {
        (Some(fd), true) => Ok(Master::new(fd)),
        (fd, _) => fail(format!("wish exactly one descriptor, reality {fd:?} and {fds:?}")),
    }
}

/// Makes fd 0 the controlling terminal of a new session. Runs between fork and exec.
pub(crate) fn take_controlling_terminal() -> std::io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: TIOCSCTTY takes no pointer.
    match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Starts the runtime on a pty of the suite, as its controlling terminal.
pub(crate) fn on_own_pty(c: &Case, words: &[OsString], rows: u16, columns: u16) -> Check<(Live, Master)> {
    let (master, slave) = pty::own_pty()?;
    master.set_size(rows, columns)?;
    let mut command = c.command();
    command
        .args(words)
        .stdin(slave.try_clone()?)
        .stdout(slave.try_clone()?)
        .stderr(Stdio::from(slave));
    // SAFETY: the closure makes two async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(take_controlling_terminal) };
    let live = runner::start_with_own_stdio(&mut command, c.dir.join("pty-out"), c.dir.join("pty-err"))?;
    Ok((live, master))
}

/// Two lines, and what `stty` says of ONLCR.
pub(crate) const TWO_LINES: &str = "echo one; echo two; stty -a 2>/dev/null | grep -o -e '[-]*onlcr'";

/// What the runtime, on a terminal of the suite, writes into a file that is its standard output.
pub(crate) fn into_file(c: &Case, words: &[OsString]) -> Check<String> {
    let (_master, slave) = pty::own_pty()?;
    let file = c.dir.join("written");
    let mut command = c.command();
    command
        .args(words)
        .stdin(slave.try_clone()?)
        .stdout(fs::File::create(&file)?)
        .stderr(Stdio::from(slave));
    // SAFETY: the closure makes two async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(take_controlling_terminal) };
    runner::start_with_own_stdio(&mut command, c.dir.join("pty-out"), c.dir.join("pty-err"))?
        .finish()?
        .ok()?;
    Ok(fs::read_to_string(&file)?)
}

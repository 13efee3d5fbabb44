//! Terminals: the console socket of `create`, and the foreground of `run` and `exec -t`.

use super::{TWO_LINES, create_with_socket, into_file, on_own_pty, socket, with_terminal};
use crate::{
    case::Case,
    children::{self, Exit},
    outcome::{Check, ensure, fail, same},
    pty::{FdSocket, Master},
    runner::{self, Live},
    seen::{Access, Report},
};
use nix::sys::{
    signal::Signal,
    termios::{LocalFlags, OutputFlags},
};
use serde_json::json;
use std::{ffi::OsString, fs, time::Duration};

tests! {
    terminal/console_socket_receives_the_master,
    terminal/console_socket_pty_is_the_stdio,
    terminal/console_socket_create_lets_go_of_stdio,
    terminal/console_size,
    terminal/console_size_has_both,
    terminal/console_size_ignored_without_terminal,
    terminal/dev_console,
    terminal/owner_of_the_pty_is_the_user,
    terminal/run_in_the_foreground,
    terminal/run_sets_raw_mode_and_restores,
    terminal/run_forwards_input_and_control_characters,
    terminal/run_passes_the_window_size_and_its_changes,
    terminal/run_exit_status,
    terminal/run_with_console_socket_detached,
    terminal/run_restores_after_the_container_is_killed,
    terminal/exec_in_the_foreground,
    terminal/exec_passes_the_window_sizes_changes,
    terminal/exec_console_socket_detached,
    terminal/exec_process_file_with_terminal,
    terminal/newlines_in_the_foreground_are_plain,
    terminal/newlines_on_the_callers_terminal,
    terminal/newlines_of_a_console_socket_are_the_kernels,
}

fn console_socket_receives_the_master(c: &mut Case) -> Check {
    with_terminal(c);
    c.shell("echo hello from the terminal; sleep 1000");
    let mut master = create_with_socket(c)?;
    c.rt(&["start", &c.id])?.ok()?;
    master.expect("hello from the terminal")?;
    Ok(())
}

/// The probe's report, printed on a terminal.
fn report_of(master: &mut Master) -> Check<Report> {
    let text = master.expect("\"mknod\":{}}")?;
    let start = text.find('{').unwrap_or(0);
    let end = text.rfind('}').map_or(text.len(), |at| at + 1);
    Ok(serde_json::from_str(text.get(start..end).unwrap_or_default())?)
}

fn probe_on_socket(c: &mut Case, options: &[&str]) -> Check<Report> {
    with_terminal(c);
    let mut args = vec!["/bin/probe"];
    args.extend(options);
    c.args(&args);
    let mut master = create_with_socket(c)?;
    c.rt(&["start", &c.id])?.ok()?;
    report_of(&mut master)
}

fn console_socket_pty_is_the_stdio(c: &mut Case) -> Check {
    let report = probe_on_socket(c, &[])?;
    same(
        "stdin, stdout, stderr are terminals",
        [true, true, true],
        report.tty,
    )?;
    same("foreground process group", report.pgid, report.foreground)?;
    same("/dev/tty opens (controlling terminal)", 0, report.dev_tty)?;
    same("number of descriptors", 3, report.fds.len())?;
    for fd in report.fds {
        let target = &fd.1;
        ensure!(
            target.starts_with("/dev/pts/") || target == "/dev/console",
            "{fd:?}: wish a pty of the container"
        );
    }
    Ok(())
}

fn console_socket_create_lets_go_of_stdio(c: &mut Case) -> Check {
    // containerd reads stdout of `create` to its end when there is a terminal: nobody may keep it open.
    with_terminal(c);
    c.args(&["/bin/sleep", "1000"]);
    let socket = socket(c)?;
    let words = c.bundle_args("create", &["--console-socket", &socket.path_text()], &c.id)?;
    let (reader, writer) = std::io::pipe()?;
    let mut command = c.command();
    command.args(words).stdout(writer.try_clone()?).stderr(writer);
    let live = runner::start_with_own_stdio(&mut command, c.dir.join("o"), c.dir.join("e"))?;
    drop(command);
    let received = socket.receive()?;
    live.finish()?.ok()?;
    let mut poll = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(&reader),
        nix::poll::PollFlags::POLLIN,
    )];
    let ready = nix::poll::poll(&mut poll, 2000_u16)?;
    ensure!(
        ready > 0,
        "stdout of create is still open somewhere 2 s after create has ended"
    );
    drop(received);
    Ok(())
}

fn console_size(c: &mut Case) -> Check {
    c.process().console_size(json!({"height": 33, "width": 117}));
    let report = probe_on_socket(c, &[])?;
    same("rows and columns", [33, 117], report.winsize)
}

fn console_size_has_both(c: &mut Case) -> Check {
    let socket = socket(c)?;
    with_terminal(c);
    for key in ["height", "width"] {
        c.process().console_size(json!({key: 33}));
        let run = c.create_with(&["--console-socket", &socket.path_text()])?;
        run.refused()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn console_size_ignored_without_terminal(c: &mut Case) -> Check {
    c.process().console_size(json!({"height": 33, "width": 117}));
    c.probe(&[])?;
    Ok(())
}

pub(crate) fn dev_console(c: &mut Case) -> Check {
    let report = probe_on_socket(c, &["--access", "/dev/console"])?;
    let node = &report.dev["console"];
    ensure!(
        node.kind == "char" || node.kind == "link",
        "/dev/console: wish the pty, reality {node:?}"
    );
    if node.kind == "char" {
        same("major number of a pty", Some(136), node.major)?;
    }
    same("opens", Access::new(0, 0), report.access["/dev/console"])
}

fn owner_of_the_pty_is_the_user(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    let report = probe_on_socket(c, &["--stat", "/dev/pts/0"])?;
    same("uid of /dev/pts/0", Some(1000), report.stat["/dev/pts/0"].uid)
}

fn run_on_own_pty(c: &mut Case, line: &str) -> Check<(Live, Master)> {
    with_terminal(c);
    c.shell(line);
    on_own_pty(c, &c.bundle_args("run", &[], &c.id)?, 30, 90)
}

fn run_in_the_foreground(c: &mut Case) -> Check {
    let (live, mut master) = run_on_own_pty(c, "tty; test -t 0 && test -t 1 && test -t 2 && echo all-ttys")?;
    let seen = master.expect("all-ttys")?;
    live.finish()?.ok()?;
    ensure!(
        seen.contains("/dev/pts/0") || seen.contains("/dev/console"),
        "tty of the container: {seen:?}"
    );
    c.nothing_left()
}

fn run_sets_raw_mode_and_restores(c: &mut Case) -> Check {
    let (live, mut master) = run_on_own_pty(c, "echo ready; read line; echo got $line")?;
    let before = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
    master.expect("ready")?;
    let during = master.settings()?.local_flags & before;
    master.write("word\r")?;
    master.expect("got word")?;
    live.finish()?.ok()?;
    same(
        "canonical, echo and signal flags of the caller's terminal while it runs",
        LocalFlags::empty(),
        during,
    )?;
    let after = master.settings()?;
    same("the same flags afterwards", before, after.local_flags & before)?;
    ensure!(
        after.output_flags.contains(OutputFlags::OPOST),
        "OPOST is not restored"
    );
    Ok(())
}

fn run_forwards_input_and_control_characters(c: &mut Case) -> Check {
    let (live, mut master) = run_on_own_pty(
        c,
        "trap 'echo interrupted; exit 8' INT; echo ready; while true; do usleep 10000; done",
    )?;
    master.expect("ready")?;
    // Ctrl-C goes through as a byte; the pty in the container makes the signal.
    master.write("\u{3}")?;
    master.expect("interrupted")?;
    live.finish()?.wants(8)?;
    Ok(())
}

fn run_passes_the_window_size_and_its_changes(c: &mut Case) -> Check {
    let (live, mut master) = run_on_own_pty(
        c,
        "trap 'echo changed $(stty size)' WINCH; echo first $(stty size); while true; do usleep 10000; done",
    )?;
    master.expect("first 30 90")?;
    master.set_size(41, 101)?;
    master.expect("changed 41 101")?;
    same("size of the caller's terminal", (41, 101), master.size()?)?;
    children::signal(live.pid, Signal::SIGTERM);
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    live.finish()?;
    Ok(())
}

fn run_exit_status(c: &mut Case) -> Check {
    let (live, mut master) = run_on_own_pty(c, "echo bye; exit 23")?;
    let run = live.finish()?;
    master.expect("bye")?;
    same("exit", Exit::Code(23), run.exit)?;
    c.nothing_left()
}

fn run_with_console_socket_detached(c: &mut Case) -> Check {
    with_terminal(c);
    c.shell("echo detached; sleep 1000");
    let socket = socket(c)?;
    let live = c.spawn(&c.bundle_args("run", &["-d", "--console-socket", &socket.path_text()], &c.id)?)?;
    let received = socket.receive();
    live.finish()?.ok()?;
    match received?.fds.pop() {
        Some(fd) => Master::new(fd).expect("detached").map(drop),
        None => fail("no descriptor came"),
    }
}

fn run_restores_after_the_container_is_killed(c: &mut Case) -> Check {
    let (live, mut master) = run_on_own_pty(c, "echo ready; exec sleep 1000")?;
    master.expect("ready")?;
    c.wait_status("running")?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    same("exit", Exit::Code(137), live.finish()?.exit)?;
    ensure!(
        master
            .settings()?
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO),
        "the terminal is still raw"
    );
    Ok(())
}

fn exec_in_the_foreground(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let words = [
        "exec",
        "-t",
        &c.id,
        "/bin/sh",
        "-c",
        "stty size; test -t 0 && echo is-a-tty; read x; echo got $x; exit 4",
    ];
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let (live, mut master) = on_own_pty(c, &words, 22, 66)?;
    master.expect("is-a-tty")?;
    master.write("typed\r")?;
    let seen = master.expect("got typed")?;
    same("exit", Exit::Code(4), live.finish()?.exit)?;
    ensure!(
        seen.contains("22 66"),
        "window size: wish 22 66, reality {seen:?}"
    );
    Ok(())
}

fn exec_passes_the_window_sizes_changes(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let line = "trap 'echo changed $(stty size)' WINCH; trap 'exit 7' TERM; echo ready; \
                while true; do usleep 10000; done";
    let words = ["exec", "-t", &c.id, "/bin/sh", "-c", line];
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let (live, mut master) = on_own_pty(c, &words, 22, 66)?;
    master.expect("ready")?;
    for (rows, columns) in [(41, 101), (50, 132)] {
        master.set_size(rows, columns)?;
        master.expect(&format!("changed {rows} {columns}"))?;
    }
    children::signal(live.pid, Signal::SIGTERM);
    live.finish()?.wants(7)?;
    Ok(())
}

fn exec_console_socket_detached(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let socket = socket(c)?;
    let pid_file = c.dir.join("exec.pid");
    let live = c.spawn(&[
        "exec",
        "-t",
        "-d",
        "--console-socket",
        &socket.path_text(),
        "--pid-file",
        &pid_file.to_string_lossy(),
        &c.id,
        "/bin/sh",
        "-c",
        "echo on the exec terminal; exit 5",
    ])?;
    let received = socket.receive();
    live.finish()?.ok()?;
    let pid: i32 = fs::read_to_string(&pid_file)?.parse()?;
    // Kept open to the end: closing it would send SIGHUP.
    let Some(fd) = received?.fds.pop() else {
        return fail("no descriptor came");
    };
    let mut master = Master::new(fd);
    master.expect("on the exec terminal")?;
    same(
        "exit status",
        Some(Exit::Code(5)),
        children::wait_for(pid, Duration::from_secs(10)),
    )
}

fn exec_process_file_with_terminal(c: &mut Case) -> Check {
    // CRI-O's streaming exec: terminal in the process file, the caller's stdio is a pty, no console socket.
    c.start_sleeper()?;
    let file = c.dir.join("process.json");
    fs::write(&file, json!({"terminal": true, "args": ["/bin/sh", "-c", "test -t 0 && echo is-a-tty; exit 6"], "env": ["PATH=/bin"], "cwd": "/"}).to_string())?;
    let words: Vec<OsString> = vec!["exec".into(), "--process".into(), file.into(), (&c.id).into()];
    let (live, mut master) = on_own_pty(c, &words, 20, 70)?;
    let run = live.finish()?;
    let seen = master.rest()?;
    ensure!(seen.contains("is-a-tty"), "output: {seen:?}");
    same("exit", Exit::Code(6), run.exit)
}

fn exec_two_lines<'a>(c: &'a Case, flag: &'a str) -> Vec<OsString> {
    let words = ["exec", flag, &c.id, "/bin/sh", "-c", TWO_LINES];
    words.iter().map(OsString::from).collect()
}

/// A pipe or a file gets what the program wrote: who reads `runc run` in a script finds no carriage returns.
pub(crate) fn newlines_in_the_foreground_are_plain(c: &mut Case) -> Check {
    let plain = "one\ntwo\n-onlcr\n".to_owned();
    with_terminal(c);
    c.shell(TWO_LINES);
    let words = c.bundle_args("run", &[], &c.id)?;
    same("run into a file", plain.clone(), into_file(c, &words)?)?;
    c.nothing_left()?;
    c.process().terminal(false);
    c.start_sleeper()?;
    let words = exec_two_lines(c, "-t");
    same("exec -t into a file", plain.clone(), into_file(c, &words)?)?;
    let file = c.dir.join("process.json");
    let process =
        json!({"terminal": true, "args": ["/bin/sh", "-c", TWO_LINES], "env": ["PATH=/bin"], "cwd": "/"});
    fs::write(&file, process.to_string())?;
    let words = ["exec", "--process", &file.to_string_lossy(), &c.id].map(OsString::from);
    same("exec --process into a file", plain, into_file(c, &words)?)
}

/// On a terminal each line begins at its left edge, as if there were one terminal only.
fn newlines_on_the_callers_terminal(c: &mut Case) -> Check {
    let lines = "one\r\ntwo\r\n-onlcr\r\n".to_owned();
    let (live, mut master) = run_on_own_pty(c, TWO_LINES)?;
    live.finish()?.ok()?;
    same("run on a terminal", lines.clone(), master.rest()?)?;
    c.nothing_left()?;
    c.process().terminal(false);
    c.start_sleeper()?;
    let (live, mut master) = on_own_pty(c, &exec_two_lines(c, "-t"), 22, 66)?;
    live.finish()?.ok()?;
    same("exec on a terminal", lines, master.rest()?)
}

/// Whoever takes the terminal by a socket sets it at will.
fn newlines_of_a_console_socket_are_the_kernels(c: &mut Case) -> Check {
    let lines = "one\r\ntwo\r\nonlcr\r\n";
    with_terminal(c);
    c.shell(&format!("{TWO_LINES}; sleep 1000"));
    let mut master = create_with_socket(c)?;
    c.rt(&["start", &c.id])?.ok()?;
    same("create", lines.to_owned(), master.expect("onlcr\r\n")?)?;
    let socket = FdSocket::new(c.dir.join("exec.sock"))?;
    let mut words = exec_two_lines(c, "-dt");
    let path = socket.path_text();
    words.splice(1..2, ["-d", "-t", "--console-socket", &path].map(OsString::from));
    let live = c.spawn(&words)?;
    let received = socket.receive();
    live.finish()?.ok()?;
    let Some(fd) = received?.fds.pop() else {
        return fail("no descriptor came");
    };
    same("exec", lines.to_owned(), Master::new(fd).expect("onlcr\r\n")?)
}

//! Peers of the runtime that have stopped: sockets whose listener accepts nobody any more, queues that nobody
//! reads, and cgroups that somebody freezes. Whatever the runtime waits for, SIGTERM ends it, and nothing is
//! left.

use crate::{
    case::Case,
    children,
    config::Hook,
    outcome::{Check, contains, ensure, fail, same},
    pty,
    runner::{self, Live},
    tests::seccomp::GETPRIORITY,
};
use nix::sys::{signal::Signal, stat::Mode};
use serde_json::json;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

tests! {
    interrupt/create_while_the_console_socket_accepts_nobody,
    interrupt/run_while_the_console_socket_accepts_nobody,
    interrupt/exec_while_the_console_socket_accepts_nobody,
    interrupt/create_while_the_pidfd_socket_accepts_nobody,
    interrupt/exec_while_the_pidfd_socket_accepts_nobody,
    lifecycle/console_comes_when_the_container_is_created,
    interrupt/run_while_the_seccomp_agent_accepts_nobody,
    interrupt/exec_while_the_seccomp_agent_accepts_nobody,
    interrupt/exec_while_nobody_writes_the_process_file,
    interrupt/signals_get_through_while_the_manager_reads_nothing,
    interrupt/run_while_nobody_reads_the_terminal,
    cgroup/frozen_while_it_is_created => frozen_meanwhile,
    cgroup/frozen_for_a_moment_while_it_is_created,
}

// The same by systemd.
tests! {
    systemd/frozen_cgroup_is_refused: &[Systemd],
    systemd/frozen_slice_is_refused: &[Systemd],
    systemd/frozen_while_it_is_created: &[Systemd] => frozen_unit_meanwhile,
}

/// "At once", on a machine that is emulated.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A listener whose backlog is full.
struct Full {
    path: PathBuf,
    listener: UnixListener,
    _waiting: UnixStream,
}

impl Full {
    fn new(path: PathBuf) -> Check<Self> {
        let listener = UnixListener::bind(&path)?;
        // SAFETY: takes integers; the descriptor is the listener's.
        if unsafe { libc::listen(listener.as_raw_fd(), 0) } != 0 {
            return fail("listen");
        }
        // There is room for one.
        let waiting = UnixStream::connect(&path)?;
        Ok(Self {
            path,
            listener,
            _waiting: waiting,
        })
    }

    fn text(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}

/// Once it sleeps in connect(2): SIGTERM ends it, or kills it. One that refuses a full backlog at once is
/// right, too.
fn terminate(c: &Case, live: Live) -> Check {
    let threads = PathBuf::from(format!("/proc/{}/task", live.pid));
    let waits = |thread: fs::DirEntry| {
        fs::read_to_string(thread.path().join("wchan"))
            .is_ok_and(|place| place.contains("unix_wait_for_peer"))
    };
    let mut looks = 0;
    c.wait_until("it waits for the peer", || {
        looks += 1;
        let mut all = fs::read_dir(&threads).into_iter().flatten().flatten();
        // Another process may do it for the runtime.
        Ok(looks > 300 || !threads.exists() || all.any(waits))
    })?;
    if !threads.exists() {
        let run = live.finish()?;
        ensure!(run.code() != 0, "not refused: {}", run.report());
        return Ok(());
    }
    children::signal(live.pid, Signal::SIGTERM);
    let run = live.finish_within(AT_ONCE)?;
    same("exit code, or 128 and the signal", 143, run.code())
}

fn with_terminal(c: &mut Case) {
    c.process().terminal(true);
    c.args(&["/bin/sleep", "1000"]);
}

fn console(c: &mut Case, command: &str, more: &[&str]) -> Check {
    let socket = Full::new(c.dir.join("console.sock"))?;
    with_terminal(c);
    let path = socket.text();
    let options = [more, &["--console-socket", &path]].concat();
    let live = c.spawn(&c.bundle_args(command, &options, &c.id)?)?;
    terminate(c, live)?;
    c.nothing_left()
}

fn create_while_the_console_socket_accepts_nobody(c: &mut Case) -> Check {
    console(c, "create", &[])
}

fn run_while_the_console_socket_accepts_nobody(c: &mut Case) -> Check {
    console(c, "run", &["--detach"])
}

/// Only init is left in the container.
fn only_init(c: &Case) -> Check {
    let procs = c.cgroup().join("cgroup.procs");
    c.wait_until("the process is gone", || {
        Ok(fs::read_to_string(&procs)?.lines().count() == 1)
    })
}

fn exec_while_the_console_socket_accepts_nobody(c: &mut Case) -> Check {
    let socket = Full::new(c.dir.join("console.sock"))?;
    c.start_sleeper()?;
    let words = [
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        &socket.text(),
        &c.id,
        "/bin/sleep",
        "1000",
    ];
    terminate(c, c.spawn(&words)?)?;
    only_init(c)
}

fn create_while_the_pidfd_socket_accepts_nobody(c: &mut Case) -> Check {
    let socket = Full::new(c.dir.join("pidfd.sock"))?;
    c.args(&["/bin/sleep", "1000"]);
    let live = c.spawn(&c.bundle_args("create", &["--pidfd-socket", &socket.text()], &c.id)?)?;
    terminate(c, live)?;
    c.nothing_left()
}

fn exec_while_the_pidfd_socket_accepts_nobody(c: &mut Case) -> Check {
    let socket = Full::new(c.dir.join("pidfd.sock"))?;
    c.start_sleeper()?;
    let words = [
        "exec",
        "--detach",
        "--pidfd-socket",
        &socket.text(),
        &c.id,
        "/bin/sleep",
        "1000",
    ];
    terminate(c, c.spawn(&words)?)?;
    only_init(c)
}

fn agent(c: &mut Case) -> Check<Full> {
    let socket = Full::new(c.dir.join("agent.sock"))?;
    crate::tests::seccomp::filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    c.linux().seccomp().listener_path(&socket.path);
    Ok(socket)
}

/// Whoever waits for the terminal may start the container as soon as it comes.
fn console_comes_when_the_container_is_created(c: &mut Case) -> Check {
    let agent = agent(c)?;
    c.process().no_new_privileges(false);
    with_terminal(c);
    let path = c.dir.join("console.sock");
    let console = UnixListener::bind(&path)?;
    let words = c.bundle_args("create", &["--console-socket", &path.to_string_lossy()], &c.id)?;
    let mut live = c.spawn(&words)?;
    console.set_nonblocking(true)?;
    let mut accepted = None;
    c.wait_until("the runtime connects", || {
        accepted = console.accept().ok();
        Ok(accepted.is_some())
    })?;
    let Some((mut terminal, _)) = accepted else {
        return fail("nobody has connected");
    };
    // Meanwhile the runtime comes to wait for the agent.
    terminal.set_nonblocking(false)?;
    terminal.set_read_timeout(Some(Duration::from_millis(500)))?;
    let early = terminal.read(&mut [0; 16]);
    ensure!(
        early
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
        "the terminal is there before the container: {early:?}"
    );
    ensure!(
        live.finished_within(Duration::ZERO).is_none(),
        "create has not waited for the agent"
    );
    // Room for one more, and that one.
    let _both = (agent.listener.accept()?, agent.listener.accept()?);
    terminal.set_read_timeout(None)?;
    let received = pty::receive_fds(&terminal)?;
    same("descriptors", 1, received.fds.len())?;
    same(
        "status when the terminal has come",
        "created",
        c.status()?.as_str(),
    )?;
    c.rt(&["start", &c.id])?.ok()?;
    live.finish()?.ok().map(drop)
}

fn run_while_the_seccomp_agent_accepts_nobody(c: &mut Case) -> Check {
    let _socket = agent(c)?;
    c.args(&["/bin/probe", "--syscall", &format!("{GETPRIORITY}:0:0")]);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    terminate(c, live)?;
    c.nothing_left()
}

/// The container itself is there already when its agent stops.
fn exec_while_the_seccomp_agent_accepts_nobody(c: &mut Case) -> Check {
    let path = c.dir.join("agent.sock");
    crate::tests::seccomp::filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    c.linux().seccomp().listener_path(&path);
    let first = UnixListener::bind(&path)?;
    c.start_sleeper()?;
    drop(first);
    fs::remove_file(&path)?;
    let _socket = Full::new(path)?;
    terminate(c, c.spawn(&["exec", &c.id, "/bin/sleep", "1000"])?)?;
    only_init(c)
}

fn exec_while_nobody_writes_the_process_file(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let path = c.dir.join("process.json");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU)?;
    for options in [
        ["exec", "--process"].as_slice(),
        &["exec", "--detach", "--process"],
    ] {
        let live = c.spawn(&[options, &[&*path.to_string_lossy(), &c.id]].concat())?;
        let status = format!("/proc/{}/status", live.pid);
        c.wait_until("it waits for the document", || {
            Ok(fs::read_to_string(&status)?.contains("State:\tS"))
        })?;
        std::thread::sleep(Duration::from_millis(50));
        children::signal(live.pid, Signal::SIGTERM);
        let run = live.finish_within(AT_ONCE)?;
        same("exit code, or 128 and the signal", 143, run.code())?;
    }
    Ok(())
}

/// The runtime that stands in for the program goes on to do so.
fn signals_get_through_while_the_manager_reads_nothing(c: &mut Case) -> Check {
    let path = c.dir.join("systemd.sock");
    let _manager = UnixDatagram::bind(&path)?;
    let filler = UnixDatagram::unbound()?;
    filler.connect(&path)?;
    filler.set_nonblocking(true)?;
    while filler.send(b"STATUS=full").is_ok() {}
    c.shell("trap 'exit 9' TERM; /bin/probe --notify READY=1 > /said; touch /ready; while true; do usleep 5000; done");
    let mut command = c.command();
    command
        .args(c.bundle_args("run", &[], &c.id)?)
        .env("NOTIFY_SOCKET", &path);
    let live = runner::start(&mut command, &c.dir)?;
    let ready = c.rootfs("/ready");
    c.wait_until("the program is ready", || Ok(ready.exists()))?;
    std::thread::sleep(Duration::from_millis(100));
    children::signal(live.pid, Signal::SIGTERM);
    live.finish_within(AT_ONCE)?.wants(9)?;
    c.nothing_left()
}

/// The container has ended, and what it has written fills the caller's pipe.
fn run_while_nobody_reads_the_terminal(c: &mut Case) -> Check {
    c.process().terminal(true);
    c.shell("head -c 3000 /dev/zero | tr '\\0' x; touch /ended; exit 4");
    let words = c.bundle_args("run", &[], &c.id)?;
    let (reader, mut writer) = std::io::pipe()?;
    // One page, which is full.
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096))?;
    writer.write_all(&[b'.'; 4096])?;
    let mut command = c.command();
    let child = children::spawn(command.args(&words).stdout(writer).stderr(Stdio::null()))?;
    drop(command);
    let pid = child.id() as i32;
    // A terminal takes 4 KiB itself, so the program may wait, too: then the signal is for it, and it has no
    // handler.
    std::thread::sleep(Duration::from_millis(500));
    let has_ended = c.rootfs("/ended").exists();
    children::signal(
        pid,
        if has_ended {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        },
    );
    let exit = children::wait_or_kill(pid, AT_ONCE, "run")?;
    drop(reader);
    same("the end", children::Exit::Code(4), exit)?;
    c.nothing_left()
}

/// A createRuntime hook that freezes this cgroup, and does `then`.
fn freeze(c: &mut Case, cgroup: &Path, then: &str) {
    let script = format!("echo 1 > {}/cgroup.freeze; {then}", cgroup.display());
    c.hooks().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", script]))
        .env(["PATH=/usr/bin:/bin"])]);
    c.args(&["/bin/true"]);
}

const MEANWHILE: &str = "container's cgroup was frozen while it was set up";

/// Nobody thaws it: the runtime says so by itself, some time later.
fn frozen_meanwhile(c: &mut Case) -> Check {
    let cgroup = c.cgroup();
    freeze(c, &cgroup, "true");
    for command in ["create", "run"] {
        let run = c.rt(&c.bundle_args(command, &[], &c.id)?)?.wants(1)?;
        contains("standard error", &run.stderr, MEANWHILE)?;
        c.nothing_left()?;
    }
    Ok(())
}

fn frozen_for_a_moment_while_it_is_created(c: &mut Case) -> Check {
    let cgroup = c.cgroup();
    let thaw = format!(
        "(sleep 1; echo 0 > {}/cgroup.freeze) > /dev/null 2>&1 &",
        cgroup.display()
    );
    freeze(c, &cgroup, &thaw);
    c.run()?.ok()?;
    c.nothing_left()
}

fn refused_as_frozen(c: &mut Case, frozen: &Path) -> Check {
    fs::create_dir_all(frozen)?;
    fs::write(frozen.join("cgroup.freeze"), "1")?;
    c.args(&["/bin/true"]);
    let run = crate::tests::systemd::with_systemd(c, &c.bundle_args("run", &[], &c.id)?);
    fs::write(frozen.join("cgroup.freeze"), "0")?;
    ensure!(frozen.exists(), "the cgroup that was there before is gone");
    fs::remove_dir(frozen)?;
    run?.refused_with("container's cgroup unexpectedly frozen")?;
    c.nothing_left()
}

fn frozen_cgroup_is_refused(c: &mut Case) -> Check {
    crate::tests::systemd::use_scope(c);
    let place = crate::tests::systemd::cgroup(c);
    refused_as_frozen(c, &place)
}

/// One that somebody has made without systemd: it is the place that counts.
fn frozen_slice_is_refused(c: &mut Case) -> Check {
    let slice = format!("st{}.slice", c.id.replace('-', "x"));
    c.config["linux"]["cgroupsPath"] = json!(format!("{slice}:st:{}", c.id));
    let place = c.host.cgroup2.join(&slice);
    refused_as_frozen(c, &place)
}

fn frozen_unit_meanwhile(c: &mut Case) -> Check {
    crate::tests::systemd::use_scope(c);
    let place = crate::tests::systemd::cgroup(c);
    freeze(c, &place, "true");
    let run = crate::tests::systemd::with_systemd(c, &c.bundle_args("run", &[], &c.id)?)?.wants(1)?;
    contains("standard error", &run.stderr, MEANWHILE)?;
    ensure!(!place.exists(), "{} is left", place.display());
    c.nothing_left()
}

//! SIGTERM and its like while a container, or a process of `exec`, is set up: whatever the set-up waits for,
//! the runtime ends at once and leaves nothing.

use crate::{
    case::Case,
    config::{Hook, Mount},
    outcome::{Check, Stop, ensure, fail, same},
    runner::Live,
    tests::{fuse::HungFileSystem, namespaces::user_namespace},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use serde_json::json;
use std::{fs, path::PathBuf, time::Duration};

tests! {
    interrupt/run_while_a_hook_hangs,
    interrupt/run_detached_while_a_hook_hangs,
    interrupt/create_while_a_hook_hangs,
    interrupt/create_while_a_hook_inside_hangs,
    interrupt/run_while_a_start_hook_hangs,
    interrupt/run_while_a_poststart_hook_hangs,
    interrupt/each_signal_has_its_exit_code,
    interrupt/poststop_hooks_that_hang_are_ended,
    interrupt/run_while_init_is_stopped,
    interrupt/create_in_a_user_namespace_while_init_is_stopped,
    interrupt/run_while_nobody_writes_config_json,
    interrupt/exec_into_a_frozen_container,
    interrupt/exec_detached_into_a_frozen_container,
    interrupt/signals_that_are_ignored_do_not_end_it,
    interrupt/signals_after_the_set_up_are_passed_on,
}

// What hangs on a file server that does not answer.
tests! {
    interrupt/create_while_init_waits_for_a_file_server_below_a_read_only_bind: &[Path("/dev/fuse")],
    interrupt/create_while_init_waits_for_a_file_server: &[Path("/dev/fuse")],
    interrupt/exec_while_it_waits_for_a_file_server: &[Path("/dev/fuse")],
}

/// Far less than the suite's patience: "at once", on a machine that is emulated.
const AT_ONCE: Duration = Duration::from_secs(10);

fn mark(c: &Case) -> PathBuf {
    c.dir.join("hook-pid")
}

/// A hook on the host that says its pid and ends never. The command lines of both its processes name this
/// test.
fn hanging(c: &Case) -> serde_json::Value {
    let mark = mark(c);
    let mark = mark.display();
    json!([{
        "path": "/bin/sh",
        "args": ["sh", "-c", format!("touch {mark}.empty; tail -f {mark}.empty & echo $! $$ > {mark}.new; mv {mark}.new {mark}; wait")],
        "env": ["PATH=/usr/bin:/bin"],
    }])
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Sends the signal once the hook runs: the runtime ends with this code, the hook is gone, nothing is left.
fn ends(c: &Case, live: Live, signal: Signal, code: i32) -> Check {
    let mark = mark(c);
    c.wait_until("the hook runs", || Ok(mark.exists()))?;
    let pids = fs::read_to_string(&mark)?;
    kill(Pid::from_raw(live.pid), signal)?;
    interrupted(live, code)?;
    for pid in pids.split_whitespace() {
        c.wait_until("the hook and what it started are gone", || Ok(!is_alive(pid)))?;
    }
    c.nothing_left()
}

/// It ends soon, with this code, and says in one line why.
fn interrupted(live: Live, code: i32) -> Check {
    let run = live.finish_within(AT_ONCE)?.wants(code)?;
    same("lines on standard error", 1, run.stderr.lines().count())?;
    ensure!(run.stderr.contains("interrupted"), "{}", run.report());
    Ok(())
}

fn with_hook(c: &mut Case, list: &str, command: &str, options: &[&str]) -> Check<Live> {
    c.config["hooks"][list] = hanging(c);
    c.args(&["/bin/sleep", "1000"]);
    c.spawn(&c.bundle_args(command, options, &c.id)?)
}

fn run_while_a_hook_hangs(c: &mut Case) -> Check {
    let live = with_hook(c, "createRuntime", "run", &[])?;
    ends(c, live, Signal::SIGTERM, 143)
}

/// They are run, since createRuntime hooks were, and have a few seconds: whoever has sent the signal waits.
fn poststop_hooks_that_hang_are_ended(c: &mut Case) -> Check {
    let ran = c.dir.join("poststop");
    let script = format!("touch {}; sleep 1000", ran.display());
    c.hooks().poststop([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", script]))
        .env(["PATH=/usr/bin:/bin"])]);
    let live = with_hook(c, "createRuntime", "create", &[])?;
    let mark = mark(c);
    c.wait_until("the hook runs", || Ok(mark.exists()))?;
    kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
    // Two lines on standard error: the hook that was ended is a warning.
    live.finish_within(AT_ONCE)?.wants(143)?;
    ensure!(ran.exists(), "the poststop hook was not run");
    c.nothing_left()
}

fn run_detached_while_a_hook_hangs(c: &mut Case) -> Check {
    let live = with_hook(c, "prestart", "run", &["--detach"])?;
    ends(c, live, Signal::SIGTERM, 143)
}

fn create_while_a_hook_hangs(c: &mut Case) -> Check {
    let live = with_hook(c, "createRuntime", "create", &[])?;
    ends(c, live, Signal::SIGTERM, 143)
}

fn create_while_a_hook_inside_hangs(c: &mut Case) -> Check {
    let live = with_hook(c, "createContainer", "create", &[])?;
    let mark = mark(c);
    c.wait_until("the hook runs", || Ok(mark.exists()))?;
    kill(Pid::from_raw(live.pid), Signal::SIGINT)?;
    interrupted(live, 130)?;
    // The hook was in the container's cgroup, and so is what it has started.
    c.nothing_left()
}

fn run_while_a_start_hook_hangs(c: &mut Case) -> Check {
    c.hooks().start_container([Hook::new()
        .path("/bin/sh")
        .args(["sh", "-c", "touch /in-hook; sleep 1000"])
        .env(["PATH=/bin"])]);
    c.args(&["/bin/sleep", "1000"]);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    let mark = c.rootfs("/in-hook");
    c.wait_until("the hook runs", || Ok(mark.exists()))?;
    kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
    interrupted(live, 143)?;
    c.nothing_left()
}

fn run_while_a_poststart_hook_hangs(c: &mut Case) -> Check {
    let live = with_hook(c, "poststart", "run", &[])?;
    ends(c, live, Signal::SIGTERM, 143)
}

fn each_signal_has_its_exit_code(c: &mut Case) -> Check {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        let live = with_hook(c, "createRuntime", "run", &[])?;
        ends(c, live, signal, 128 + signal as i32)?;
        fs::remove_file(mark(c))?;
    }
    Ok(())
}

/// The hook stops init, whose pid is in the state; then nobody goes on.
fn stop_init(c: &mut Case) {
    let mark = mark(c);
    let script = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); kill -STOP $pid; echo $pid > {0}.new; mv {0}.new {0}",
        mark.display()
    );
    c.hooks().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", script]))
        .env(["PATH=/usr/bin:/bin"])]);
}

fn run_while_init_is_stopped(c: &mut Case) -> Check {
    stop_init(c);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    ends(c, live, Signal::SIGTERM, 143)
}

fn create_in_a_user_namespace_while_init_is_stopped(c: &mut Case) -> Check {
    stop_init(c);
    user_namespace(c, &[json!({"containerID": 0, "hostID": 100_000, "size": 65536})]);
    let live = c.spawn(&c.bundle_args("create", &[], &c.id)?)?;
    ends(c, live, Signal::SIGTERM, 143)
}

fn run_while_nobody_writes_config_json(c: &mut Case) -> Check {
    let path = c.bundle.join("config.json");
    mkfifo(&path, Mode::S_IRWXU)?;
    for command in ["run", "create"] {
        let words = [
            command.as_ref(),
            "--bundle".as_ref(),
            c.bundle.as_os_str(),
            c.id.as_ref(),
        ];
        let live = c.spawn(&words)?;
        let status = format!("/proc/{}/status", live.pid);
        // Whether it handles or blocks the signal, or dies of it, is the same to the caller.
        c.wait_until("it waits for the document", || {
            let text = fs::read_to_string(&status)?;
            Ok(text.contains("State:\tS"))
        })?;
        std::thread::sleep(Duration::from_millis(50));
        kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
        let run = live.finish_within(AT_ONCE)?;
        same("exit code, or 128 and the signal", 143, run.code())?;
        c.nothing_left()?;
    }
    // Somebody who writes late is waited for.
    c.shell("exit 5");
    let words = [
        "run".as_ref(),
        "--bundle".as_ref(),
        c.bundle.as_os_str(),
        c.id.as_ref(),
    ];
    let live = c.spawn(&words)?;
    std::thread::sleep(Duration::from_millis(100));
    fs::write(&path, c.config.to_string())?;
    live.finish()?.wants(5)?;
    c.nothing_left()
}

fn exec_in_frozen(c: &mut Case, options: &[&str]) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    let mut words = vec!["exec", "--ignore-paused"];
    words.extend(options);
    words.extend([&*c.id, "/bin/true"]);
    let live = c.spawn(&words)?;
    let procs = c.cgroup().join("cgroup.procs");
    c.wait_until("it is in the container's cgroup", || {
        Ok(fs::read_to_string(&procs)?.lines().count() > 1)
    })?;
    std::thread::sleep(Duration::from_millis(100));
    kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
    interrupted(live, 143)?;
    c.wait_until("the process is gone", || {
        Ok(fs::read_to_string(&procs)?.lines().count() == 1)
    })?;
    c.rt(&["resume", &c.id])?.ok()?;
    same("status", "running", &*c.status()?)
}

fn exec_into_a_frozen_container(c: &mut Case) -> Check {
    exec_in_frozen(c, &[])
}

fn exec_detached_into_a_frozen_container(c: &mut Case) -> Check {
    exec_in_frozen(c, &["--detach"])
}

/// nohup(1), and shells that run a command in the background.
fn signals_that_are_ignored_do_not_end_it(c: &mut Case) -> Check {
    let mark = mark(c);
    let script = format!(
        "echo > {0}; while [ ! -e {0}.go ]; do sleep 0.01; done",
        mark.display()
    );
    c.hooks().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", script]))
        .env(["PATH=/usr/bin:/bin"])]);
    c.shell("exit 3");
    let runtime = c.command();
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]);
    command.arg(runtime.get_program()).args(runtime.get_args());
    for (name, value) in runtime.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .args(c.bundle_args("run", &[], &c.id)?)
        .current_dir(&c.dir)
        .stdin(std::process::Stdio::null());
    let live = crate::runner::start(&mut command, &c.dir)?;
    c.wait_until("the hook runs", || Ok(mark.exists()))?;
    kill(Pid::from_raw(live.pid), Signal::SIGHUP)?;
    kill(Pid::from_raw(live.pid), Signal::SIGINT)?;
    std::thread::sleep(Duration::from_millis(100));
    fs::write(mark.with_extension("go"), "")?;
    // Passed on instead, to a process 1 that has no handler for them: the kernel drops them.
    live.finish()?.wants(3)?;
    c.nothing_left()
}

fn signals_after_the_set_up_are_passed_on(c: &mut Case) -> Check {
    c.shell("trap 'exit 9' TERM; touch /ready; while :; do usleep 5000; done");
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    let ready = c.rootfs("/ready");
    c.wait_until("the program runs", || Ok(ready.exists()))?;
    kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
    live.finish_within(AT_ONCE)?.wants(9)?;
    c.nothing_left()
}

/// The program's directory lies in a file system whose server does not answer.
fn create_while_init_waits_for_a_file_server(c: &mut Case) -> Check {
    let hung = HungFileSystem::mount(&c.dir.join("hung"))?;
    c.mount(Mount::bind("/hung", hung.path()).options(["bind"]));
    c.process().cwd("/hung/x");
    create_interrupted(c, hung)
}

/// So does the place of another mount, in a read-only bind mount.
fn create_while_init_waits_for_a_file_server_below_a_read_only_bind(c: &mut Case) -> Check {
    let hung = HungFileSystem::mount(&c.dir.join("hung"))?;
    c.mount(Mount::bind("/hung", hung.path()).options(["bind", "ro"]));
    c.mount(Mount::new().destination("/hung/x").kind("tmpfs").source("tmpfs"));
    create_interrupted(c, hung)
}

fn create_interrupted(c: &mut Case, hung: HungFileSystem) -> Check {
    let live = c.spawn(&c.bundle_args("create", &[], &c.id)?)?;
    let own = live.pid;
    c.wait_until("init is there", || Ok(!children_of(own)?.is_empty()))?;
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
    interrupted(live, 143)?;
    drop(hung);
    c.nothing_left()
}

fn exec_while_it_waits_for_a_file_server(c: &mut Case) -> Check {
    let hung = HungFileSystem::mount(&c.dir.join("hung"))?;
    c.mount(Mount::bind("/hung", hung.path()).options(["bind"]));
    c.start_sleeper()?;
    let live = c.spawn(&["exec", "--cwd", "/hung/x", &c.id, "/bin/true"])?;
    let own = live.pid;
    c.wait_until("the process is there", || Ok(!children_of(own)?.is_empty()))?;
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(live.pid), Signal::SIGTERM)?;
    interrupted(live, 143)?;
    same("status", "running", &*c.status()?)?;
    c.delete()?;
    drop(hung);
    c.nothing_left()
}

fn children_of(pid: i32) -> Check<String> {
    match fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fail("the runtime has ended"),
        Err(error) => Err(Stop::from(error)),
    }
}

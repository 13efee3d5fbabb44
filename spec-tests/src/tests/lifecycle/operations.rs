//! runtime.md: operations, states, and what engines read of them.

use crate::{
    case::Case,
    children::{self, Exit},
    outcome::{Check, contains, ensure, fail, same},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, process::Stdio, time::Duration};

tests! {
    lifecycle/created_running_stopped_gone,
    lifecycle/create_does_not_run_the_program,
    lifecycle/pid_file_is_decimal_without_newline,
    lifecycle/pid_file_is_there_when_run_detach_returns,
    lifecycle/pid_file_that_is_no_file_stays,
    security/pid_file_behind_a_link_of_another_user,
    security/pid_file_that_is_a_block_device,
    lifecycle/state_fields,
    lifecycle/state_has_annotations,
    lifecycle/state_of_stopped_has_pid_zero_and_remains,
    lifecycle/state_does_not_change_when_config_does,
    lifecycle/config_is_read_at_create_only,
    lifecycle/run_exit_code,
    lifecycle/run_exit_code_of_signal_is_128_plus_n,
    lifecycle/run_forwards_signals,
    lifecycle/run_deletes_afterwards,
    lifecycle/run_keep_leaves_a_stopped_container,
    lifecycle/run_detach_returns_at_once,
    lifecycle/run_very_short_processes,
    lifecycle/run_detach_very_short_processes,
    lifecycle/run_reads_stdin,
    lifecycle/run_keeps_stdout_and_stderr_apart,
    lifecycle/container_writes_to_the_stdout_of_create,
    lifecycle/init_is_a_child_of_the_subreaper,
    lifecycle/init_exit_status_reaches_the_subreaper,
    lifecycle/relative_bundle,
    lifecycle/bundle_defaults_to_the_working_directory,
    lifecycle/root_option_with_equals_sign,
    lifecycle/single_dash_long_option,
    lifecycle/flags_after_the_id,
    lifecycle/kill_by_name_number_and_any_case,
    lifecycle/kill_default_is_term,
    lifecycle/kill_of_created_container,
    lifecycle/delete_of_created_container,
    lifecycle/delete_force_of_running_container,
    lifecycle/delete_force_of_nothing_succeeds,
    lifecycle/id_can_be_used_again,
    lifecycle/id_alphabet,
    lifecycle/list_json,
    lifecycle/list_of_nothing,
    lifecycle/list_quiet,
    lifecycle/list_table_header,
    lifecycle/ps_json,
    lifecycle/version_names_the_spec,
    lifecycle/features_fields,
    lifecycle/spec_makes_a_config_that_runs,
    lifecycle/spec_does_not_overwrite,
    lifecycle/success_prints_nothing,
    lifecycle/three_containers_in_parallel,
}

fn created_running_stopped_gone(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    same("status after create", "created", c.status()?.as_str())?;
    c.rt(&["start", &c.id])?.ok()?;
    same("status after start", "running", c.status()?.as_str())?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.rt(&["state", &c.id])?.refused_with("does not exist")?;
    c.nothing_left()
}

fn create_does_not_run_the_program(c: &mut Case) -> Check {
    let marker = c.rootfs("/ran");
    c.shell("touch /ran; exec sleep 1000");
    c.create()?.ok()?;
    std::thread::sleep(Duration::from_millis(100));
    ensure!(!marker.exists(), "the program ran before `start`");
    c.rt(&["start", &c.id])?.ok()?;
    c.wait_until("the program runs after start", || Ok(marker.exists()))
}

fn pid_file_is_decimal_without_newline(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let file = c.dir.join("pid");
    c.create_with(&["--pid-file", &file.to_string_lossy()])?.ok()?;
    same("pid file", c.pid()?.to_string(), fs::read_to_string(&file)?)?;
    let others = fs::read_dir(&c.dir)?
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().contains("pid"));
    same(
        "files with `pid` in the name (a temporary one left?)",
        1,
        others.count(),
    )
}

/// `--pid-file /dev/null`: what is there is written to, also behind a link. A device of the test's own: a
/// runtime that replaces it does so here. Who may write to the directory of the pid file does not choose a
/// device to which root writes: the link is replaced.
fn pid_file_behind_a_link_of_another_user(c: &mut Case) -> Check {
    use std::os::unix::fs::{OpenOptionsExt, lchown, symlink};
    let (fifo, link) = (c.dir.join("fifo"), c.dir.join("link"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    symlink("fifo", &link)?;
    lchown(&link, Some(65534), Some(65534))?;
    let mut options = fs::OpenOptions::new();
    let mut reader = options.read(true).custom_flags(libc::O_NONBLOCK).open(&fifo)?;
    c.args(&["/bin/sleep", "1000"]);
    c.create_with(&["--pid-file", &link.to_string_lossy()])?.ok()?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text)?;
    same("what was written behind the link", "", text.as_str())?;
    same("the file", c.pid()?.to_string(), fs::read_to_string(&link)?)?;
    c.delete()
}

fn pid_file_that_is_a_block_device(c: &mut Case) -> Check {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    // Nobody has this one: it is not to be opened.
    let disk = c.dir.join("disk");
    mknod(
        &disk,
        SFlag::S_IFBLK,
        Mode::from_bits_truncate(0o600),
        makedev(240, 1_000_000),
    )?;
    c.args(&["/bin/sleep", "1000"]);
    let run = c.create_with(&["--pid-file", &disk.to_string_lossy()])?;
    contains("why it failed", &run.stderr, "a block device")?;
    let metadata = fs::symlink_metadata(&disk)?;
    ensure!(
        std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type()),
        "it was replaced"
    );
    c.nothing_left()
}

fn pid_file_that_is_no_file_stays(c: &mut Case) -> Check {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    use std::{
        io::Read,
        os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink},
    };
    let (null, fifo, link) = (c.dir.join("null"), c.dir.join("fifo"), c.dir.join("link"));
    mknod(
        &null,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, 3),
    )?;
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600))?;
    symlink("fifo", &link)?;
    let mut options = fs::OpenOptions::new();
    let mut reader = options.read(true).custom_flags(libc::O_NONBLOCK).open(&fifo)?;
    let mut read = || -> Check<String> {
        let mut text = [0; 64];
        let length = reader.read(&mut text)?;
        Ok(String::from_utf8_lossy(&text[..length]).into_owned())
    };
    c.args(&["/bin/sleep", "1000"]);
    for path in [&null, &fifo, &link] {
        let path = path.to_string_lossy();
        c.create_with(&["--pid-file", &path])?.ok()?;
        let pid = c.pid()?;
        c.rt(&["start", &c.id])?.ok()?;
        let wish = match path.ends_with("null") {
            true => String::new(),
            false => pid.to_string(),
        };
        same(&format!("what create wrote to {path}"), wish, read()?)?;
        c.rt(&["exec", "--pid-file", &path, &c.id, "/bin/true"])?.ok()?;
        same(
            &format!("whether exec wrote to {path}"),
            !path.ends_with("null"),
            !read()?.is_empty(),
        )?;
        c.delete()?;
    }
    let kind = |path: &std::path::Path| Ok::<_, std::io::Error>(path.symlink_metadata()?.file_type());
    ensure!(kind(&null)?.is_char_device(), "the device was replaced");
    ensure!(kind(&fifo)?.is_fifo(), "the fifo was replaced");
    ensure!(kind(&link)?.is_symlink(), "the link was replaced");
    let others = fs::read_dir(&c.dir)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    same("temporary files left", 0, others.count())
}

fn pid_file_is_there_when_run_detach_returns(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let file = c.dir.join("pid");
    c.run_with(&["--detach", "--pid-file", &file.to_string_lossy()])?
        .ok()?;
    same("pid file", c.pid()?.to_string(), fs::read_to_string(&file)?)
}

fn state_fields(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let state = c.state()?;
    same("id", c.id.as_str(), state["id"].as_str().unwrap_or_default())?;
    same("status", "created", state["status"].as_str().unwrap_or_default())?;
    same("bundle", c.bundle.to_str(), state["bundle"].as_str())?;
    same(
        "rootfs",
        c.rootfs("/").to_str().map(|p| p.trim_end_matches('/')),
        state["rootfs"].as_str(),
    )?;
    let pid = state["pid"].as_i64().unwrap_or(0);
    ensure!(
        fs::exists(format!("/proc/{pid}"))?,
        "pid: no process {pid} on the host"
    );
    let version = state["ociVersion"].as_str().unwrap_or_default();
    ensure!(
        version.starts_with("1."),
        "ociVersion: wish 1.x, reality {version:?}"
    );
    let created = state["created"].as_str().unwrap_or_default();
    ensure!(
        is_rfc3339_utc(created),
        "created: wish RFC 3339 in UTC, reality {created:?}"
    );
    ensure!(
        state["owner"].is_null() || state["owner"].is_string(),
        "owner: wish a string, reality {}",
        state["owner"]
    );
    Ok(())
}

fn is_rfc3339_utc(text: &str) -> bool {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    text.len() >= 20 && marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark)) && text.ends_with('Z')
}

fn state_has_annotations(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.document()
        .annotations(json!({"com.example.key": "a value", "empty": ""}));
    c.create()?.ok()?;
    same(
        "annotations",
        c.config["annotations"].clone(),
        c.state()?["annotations"].clone(),
    )
}

fn state_of_stopped_has_pid_zero_and_remains(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    c.wait_status("stopped")?;
    let state = c.state()?;
    let pid = &state["pid"];
    ensure!(
        pid.is_null() || *pid == json!(0),
        "pid of a stopped container: wish 0 or absent, reality {pid}"
    );
    same("bundle", c.bundle.to_str(), state["bundle"].as_str())?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn state_does_not_change_when_config_does(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let before = c.state()?;
    fs::write(c.bundle.join("config.json"), "{}")?;
    same("state", before, c.state()?)
}

fn config_is_read_at_create_only(c: &mut Case) -> Check {
    c.shell("echo old > /seen; exec sleep 1000");
    c.create()?.ok()?;
    c.shell("echo new > /seen; exec sleep 1000");
    c.write_config()?;
    c.rt(&["start", &c.id])?.ok()?;
    let seen = c.rootfs("/seen");
    c.wait_until("the program has run", || {
        Ok(fs::read_to_string(&seen).is_ok_and(|t| !t.is_empty()))
    })?;
    same(
        "the program of the config at create",
        "old\n",
        fs::read_to_string(seen)?.as_str(),
    )
}

fn run_exit_code(c: &mut Case) -> Check {
    for code in [0, 1, 7, 127, 255] {
        c.shell(&format!("exit {code}"));
        c.run()?.wants(code)?;
    }
    Ok(())
}

fn run_exit_code_of_signal_is_128_plus_n(c: &mut Case) -> Check {
    // Process 1 of a pid namespace cannot kill itself: the kernel drops its own signals. The host can.
    for (name, number) in [("KILL", 9), ("TERM", 15)] {
        // The default action of TERM does not reach process 1 unless it has a handler: use a host pid
        // namespace.
        c.drop_namespace("pid");
        c.shell(&format!("kill -{name} $$"));
        c.run()?.wants(128 + number)?;
    }
    Ok(())
}

fn run_forwards_signals(c: &mut Case) -> Check {
    c.shell("trap 'echo got; exit 5' TERM; echo ready; while true; do usleep 10000; done");
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    c.wait_until("ready", || Ok(live.output().contains("ready")))?;
    children::signal(live.pid, Signal::SIGTERM);
    let run = live.finish()?.wants(5)?;
    contains("output of the trap", &run.stdout, "got")
}

fn run_deletes_afterwards(c: &mut Case) -> Check {
    c.args(&["/bin/false"]);
    c.run()?.wants(1)?;
    c.nothing_left()
}

fn run_keep_leaves_a_stopped_container(c: &mut Case) -> Check {
    c.shell("exit 3");
    c.run_with(&["--keep"])?.wants(3)?;
    same("status", "stopped", c.status()?.as_str())?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn run_detach_returns_at_once(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.run_with(&["--detach"])?.ok()?;
    same("status", "running", c.status()?.as_str())
}

fn run_very_short_processes(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    for _ in 0..10 {
        c.run()?.ok()?;
    }
    c.nothing_left()
}

fn run_detach_very_short_processes(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    for _ in 0..5 {
        c.run_with(&["--detach"])?.ok()?;
        c.wait_status("stopped")?;
        c.rt(&["delete", &c.id])?.ok()?;
    }
    c.nothing_left()
}

fn run_reads_stdin(c: &mut Case) -> Check {
    use std::io::Write;
    c.args(&["/bin/cat"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut live = crate::runner::start(c.command().args(words).stdin(Stdio::piped()), &c.dir)?;
    match live.stdin.take() {
        Some(mut stdin) => stdin.write_all(b"through the pipe")?,
        None => return fail("no stdin pipe"),
    }
    same("stdout", "through the pipe", live.finish()?.ok()?.stdout.as_str())
}

fn run_keeps_stdout_and_stderr_apart(c: &mut Case) -> Check {
    c.shell("echo one; echo two >&2");
    let run = c.run()?.ok()?;
    same("stdout", "one\n", run.stdout.as_str())?;
    same("stderr", "two\n", run.stderr.as_str())
}

fn container_writes_to_the_stdout_of_create(c: &mut Case) -> Check {
    c.shell("echo from the container");
    let create = c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    c.wait_status("stopped")?;
    same(
        "stdout of create",
        "from the container\n",
        fs::read_to_string(create.stdout_file)?.as_str(),
    )
}

fn init_is_a_child_of_the_subreaper(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", c.pid()?))?;
    let parent = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(1))
        .unwrap_or_default();
    same(
        "parent of init after create has exited",
        std::process::id().to_string().as_str(),
        parent,
    )
}

fn init_exit_status_reaches_the_subreaper(c: &mut Case) -> Check {
    c.shell("exit 42");
    c.create()?.ok()?;
    let pid = c.pid()?;
    c.rt(&["start", &c.id])?.ok()?;
    same(
        "exit status of init",
        Some(Exit::Code(42)),
        children::wait_for(pid, Duration::from_secs(10)),
    )
}

fn relative_bundle(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.write_config()?;
    c.rt(&["create", "--bundle", "bundle", &c.id])?.ok()?;
    same(
        "bundle in state is absolute",
        c.bundle.to_str(),
        c.state()?["bundle"].as_str(),
    )
}

fn bundle_defaults_to_the_working_directory(c: &mut Case) -> Check {
    c.shell("echo here");
    c.write_config()?;
    let run = crate::runner::start(c.command().args(["run", &c.id]).current_dir(&c.bundle), &c.dir)?;
    same("stdout", "here\n", run.finish()?.ok()?.stdout.as_str())
}

fn root_option_with_equals_sign(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let mut command = c.host.runtime_command();
    command
        .arg(format!("--root={}", c.state_root.display()))
        .args(["state", &c.id])
        .stdin(Stdio::null());
    crate::runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    Ok(())
}

fn single_dash_long_option(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    c.write_config()?;
    // go-runc really writes `-no-subreaper`.
    c.rt(&["run", "-no-subreaper", "-bundle", "bundle", &c.id])?
        .ok()?;
    Ok(())
}

fn flags_after_the_id(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["delete", &c.id, "--force"])?.ok()?;
    c.nothing_left()
}

fn kill_by_name_number_and_any_case(c: &mut Case) -> Check {
    c.shell("trap 'echo x >> /log' USR1; echo ready > /log; while true; do usleep 5000; done");
    c.run_with(&["--detach"])?.ok()?;
    let log = c.rootfs("/log");
    let lines = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    c.wait_until("ready", || Ok(lines() == 1))?;
    for (sent, spelling) in ["USR1", "SIGUSR1", "usr1", "sigusr1", "10"].iter().enumerate() {
        c.rt(&["kill", &c.id, spelling])?.ok()?;
        c.wait_until(
            &format!("signal {spelling:?} arrives"),
            || Ok(lines() == sent + 2),
        )?;
    }
    Ok(())
}

fn kill_default_is_term(c: &mut Case) -> Check {
    c.shell("trap 'exit 3' TERM; echo ready > /log; while true; do usleep 5000; done");
    c.run_with(&["--detach"])?.ok()?;
    let (pid, log) = (c.pid()?, c.rootfs("/log"));
    c.wait_until("ready", || Ok(log.exists()))?;
    std::thread::sleep(Duration::from_millis(30));
    c.rt(&["kill", &c.id])?.ok()?;
    same(
        "exit status",
        Some(Exit::Code(3)),
        children::wait_for(pid, Duration::from_secs(10)),
    )
}

fn kill_of_created_container(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn delete_of_created_container(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let pid = c.pid()?;
    // The spec says error, every runtime kills and deletes, and engines rely on it.
    c.rt(&["delete", &c.id])?.ok()?;
    ensure!(
        children::wait_for(pid, Duration::from_secs(5)).is_some(),
        "init {pid} still lives"
    );
    c.nothing_left()
}

fn delete_force_of_running_container(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let pid = c.pid()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    same(
        "end of init",
        Some(Exit::Signal(9)),
        children::wait_for(pid, Duration::from_secs(5)),
    )?;
    c.nothing_left()
}

fn delete_force_of_nothing_succeeds(c: &mut Case) -> Check {
    c.rt(&["delete", "--force", "nobody"])?.ok()?;
    Ok(())
}

fn id_can_be_used_again(c: &mut Case) -> Check {
    for _ in 0..3 {
        c.start_sleeper()?;
        c.delete()?;
    }
    c.nothing_left()
}

fn id_alphabet(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let id = format!("A-z_0.9+{}", c.id);
    c.rt(&c.bundle_args("create", &[], &id)?)?.ok()?;
    same(
        "id",
        id.as_str(),
        c.state_of(&id)?["id"].as_str().unwrap_or_default(),
    )?;
    c.rt(&["delete", "--force", &id])?.ok()?;
    c.nothing_left()
}

fn list_json(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let list = c.rt(&["list", "--format", "json"])?.ok()?.json()?;
    same("number of containers", Some(1), list.as_array().map(Vec::len))?;
    let (item, state) = (&list[0], c.state()?);
    for key in ["id", "pid", "status", "bundle", "created"] {
        same(key, state[key].clone(), item[key].clone())?;
    }
    same("owner", "root", item["owner"].as_str().unwrap_or_default())
}

fn list_of_nothing(c: &mut Case) -> Check {
    // What Go makes of a list that nothing was added to.
    same("list", "null\n", &*c.rt(&["list", "-f", "json"])?.ok()?.stdout)?;
    same("ids", "", &*c.rt(&["list", "--quiet"])?.ok()?.stdout)
}

fn list_quiet(c: &mut Case) -> Check {
    c.start_sleeper()?;
    same(
        "output",
        format!("{}\n", c.id),
        c.rt(&["list", "-q"])?.ok()?.stdout,
    )
}

fn list_table_header(c: &mut Case) -> Check {
    let run = c.rt(&["list"])?.ok()?;
    let header: Vec<&str> = run
        .stdout
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    same(
        "header",
        vec!["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
        header,
    )
}

fn ps_json(c: &mut Case) -> Check {
    c.shell("sleep 1000 & exec sleep 1000");
    c.run_with(&["--detach"])?.ok()?;
    let mut pids = Value::Null;
    c.wait_until("two processes", || {
        pids = c.rt(&["ps", "--format", "json", &c.id])?.ok()?.json()?;
        Ok(pids.as_array().is_some_and(|p| p.len() == 2))
    })?;
    let pid = c.pid()?;
    ensure!(
        pids.as_array().is_some_and(|p| p.contains(&json!(pid))),
        "init {pid} is not in {pids}"
    );
    Ok(())
}

fn version_names_the_spec(c: &mut Case) -> Check {
    let run = c.rt(&["--version"])?.ok()?;
    let first = run.stdout.lines().next().unwrap_or_default();
    ensure!(
        first.split(' ').nth(1) == Some("version"),
        "line 1: wish `NAME version X`, reality {first:?}"
    );
    ensure!(
        run.stdout.lines().any(|l| l.starts_with("spec: 1.")),
        "no line `spec: 1.x` in {:?}",
        run.stdout
    );
    Ok(())
}

fn features_fields(c: &mut Case) -> Check {
    let run = c.rt(&["features"])?.ok()?;
    same("stderr (CRI-O reads both)", "", run.stderr.as_str())?;
    let f = run.json()?;
    for key in ["ociVersionMin", "ociVersionMax"] {
        ensure!(
            f[key].as_str().is_some_and(|v| v.starts_with("1.")),
            "{key}: wish 1.x, reality {}",
            f[key]
        );
    }
    let lists = |value: &Value, item: &str| value.as_array().is_some_and(|l| l.contains(&json!(item)));
    for hook in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        ensure!(lists(&f["hooks"], hook), "hooks: {hook} is not in {}", f["hooks"]);
    }
    for option in ["ro", "rro", "tmpcopyup", "nosymfollow", "rbind", "rslave"] {
        ensure!(
            lists(&f["mountOptions"], option),
            "mountOptions: {option} is missing"
        );
    }
    for namespace in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"] {
        ensure!(
            lists(&f["linux"]["namespaces"], namespace),
            "linux.namespaces: {namespace} is missing"
        );
    }
    same(
        "linux.mountExtensions.idmap.enabled",
        json!(true),
        f["linux"]["mountExtensions"]["idmap"]["enabled"].clone(),
    )?;
    same(
        "linux.seccomp.enabled",
        json!(true),
        f["linux"]["seccomp"]["enabled"].clone(),
    )
}

fn spec_makes_a_config_that_runs(c: &mut Case) -> Check {
    let file = c.bundle.join("config.json");
    c.rt(&["spec", "--bundle", "bundle"])?.ok()?;
    let cgroups_path = c.config["linux"]["cgroupsPath"].clone();
    c.config = serde_json::from_slice(&fs::read(file)?)?;
    ensure!(
        c.config["process"]["terminal"] == json!(true),
        "process.terminal of `spec`: wish true"
    );
    c.process().terminal(false);
    c.linux().cgroups_path(cgroups_path);
    same("output of the container", "hello", c.sh("echo hello")?.as_str())
}

fn spec_does_not_overwrite(c: &mut Case) -> Check {
    fs::write(c.bundle.join("config.json"), "precious")?;
    c.rt(&["spec", "--bundle", "bundle"])?.refused()?;
    same(
        "config.json",
        "precious",
        fs::read_to_string(c.bundle.join("config.json"))?.as_str(),
    )
}

fn success_prints_nothing(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let quiet = |what: &str, run: crate::runner::Run| -> Check {
        let run = run.ok()?;
        same(what, ("", ""), (run.stdout.as_str(), run.stderr.as_str()))
    };
    quiet("create", c.create()?)?;
    quiet("start", c.rt(&["start", &c.id])?)?;
    quiet("pause", c.rt(&["pause", &c.id])?)?;
    quiet("resume", c.rt(&["resume", &c.id])?)?;
    quiet("kill", c.rt(&["kill", &c.id, "KILL"])?)?;
    c.wait_status("stopped")?;
    quiet("delete", c.rt(&["delete", &c.id])?)
}

fn three_containers_in_parallel(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let mut live = Vec::new();
    for n in 0..3 {
        c.set_cgroup_leaf(&format!("leaf{n}"));
        let id = format!("{}-{n}", c.id);
        // Each reads its own copy of the config: create it before the next is written.
        let bundle = c.dir.join(format!("bundle{n}"));
        fs::create_dir_all(&bundle)?;
        c.config["root"]["path"] = json!(c.rootfs("/").to_string_lossy().trim_end_matches('/'));
        fs::write(bundle.join("config.json"), c.config.to_string())?;
        live.push(c.spawn(&["run", "-d", "--bundle", &bundle.to_string_lossy(), &id])?);
    }
    for run in live {
        run.finish()?.ok()?;
    }
    let list = c.rt(&["list", "-f", "json"])?.ok()?.json()?;
    same("containers in the list", Some(3), list.as_array().map(Vec::len))
}

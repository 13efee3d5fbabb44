//! `exec`: its flags and the fields of its process that need more than a look at the process: cgroups,
//! namespaces, descriptors, sockets, scheduling.

use crate::{
    case::Case,
    outcome::{Check, Stop, contains, ensure, same},
    pty::FdSocket,
    runner,
    seen::Report,
    tests::{
        namespaces::{mapping, user_namespace},
        process::with_profile,
    },
};
use serde_json::{Value, json};
use std::{ffi::OsString, fs, os::fd::AsRawFd, path::PathBuf, process::Command};

tests! {
    exec/scheduler_batch,
    exec/scheduler_reset_on_fork,
    exec/scheduler_deadline,
    exec/io_priority,
    exec/rlimits,
    exec/three_files,
    exec/cpu_affinity_of_the_config,
    exec/into_a_sub_cgroup,
    exec/into_a_sub_cgroup_outside_is_refused,
    exec/into_a_sub_cgroup_in_runcs_words,
    exec/into_a_user_namespace,
    exec/ignore_paused_waits_for_resume,
    exec/preserve_fds,
    exec/preserve_fds_with_gaps,
    exec/tty_and_detach_without_console_socket,
    exec/console_socket_in_the_foreground,
    exec/cap_makes_ambient_what_is_inheritable,
    exec/home_of_the_user,
    exec/no_new_privs_can_be_switched_off,
    pidfd_socket/create,
    pidfd_socket/run,
    pidfd_socket/exec,
    pidfd_socket/missing,
}

tests! {
    exec/after_init_has_changed_its_cgroup: &[Controller("pids")],
    exec/apparmor: &[AppArmor, Program("apparmor_parser")],
    exec/apparmor_of_a_process_file: &[AppArmor, Program("apparmor_parser")],
    exec/process_label_without_selinux_is_refused: &[NoPath("/sys/fs/selinux/enforce")],
}

fn no_new_privs_can_be_switched_off(c: &mut Case) -> Check {
    c.process().no_new_privileges(true);
    c.start_sleeper()?;
    for (flags, wish) in [
        (&[][..], 1),
        (&["--no-new-privs=false"], 0),
        (&["--no-new-privs=true"], 1),
    ] {
        let report = c.exec_probe(flags, &[])?;
        same(&format!("with {flags:?}"), wish, report.no_new_privs)?;
    }
    Ok(())
}

/// The flag counts, whatever the container's own profile is.
fn apparmor(c: &mut Case) -> Check {
    let label = |c: &Case, flags: &[&str]| Ok::<_, Stop>(c.exec_probe(flags, &[])?.label);
    with_profile(c, |c, name| {
        c.start_sleeper()?;
        same("without the flag", "unconfined", &*label(c, &[])?)?;
        let confined = format!("{name} (enforce)");
        same(
            "with the flag",
            confined.clone(),
            label(c, &["--apparmor", name])?,
        )?;
        c.delete()?;
        c.process().apparmor_profile(name);
        c.start_sleeper()?;
        same("of a confined container", confined, label(c, &[])?)?;
        same(
            "taken off",
            "unconfined",
            &*label(c, &["--apparmor", "unconfined"])?,
        )?;
        c.rt(&["exec", "--apparmor", "no-such-profile", &c.id, "/bin/true"])?
            .wants(255)?
            .refused_with("apparmor")?;
        Ok(())
    })
}

/// A process file without a profile does not take the container's off: the process would be unconfined.
fn apparmor_of_a_process_file(c: &mut Case) -> Check {
    with_profile(c, |c, name| {
        c.process().apparmor_profile(name);
        let label = report_of(c, json!({}))?.label.clone();
        same("without one", json!(format!("{name} (enforce)")), label)?;
        let file = process_file(c, json!({"apparmorProfile": "unconfined"}))?;
        let label = c
            .rt(&["exec", "--process", &file, &c.id])?
            .ok()?
            .seen()?
            .label
            .clone();
        same("with its own", json!("unconfined"), label)
    })
}

/// To run it without the label would be to run it unconfined.
fn process_label_without_selinux_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let label = "system_u:system_r:container_t:s0";
    c.rt(&["exec", "--process-label", label, &c.id, "/bin/true"])?
        .wants(255)?
        .refused_with("selinux")?;
    Ok(())
}

fn process_file(c: &Case, more: Value) -> Check<String> {
    let mut process = json!({
        "args": ["/bin/probe"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "capabilities": c.config["process"]["capabilities"],
    });
    if let (Some(process), Value::Object(more)) = (process.as_object_mut(), more) {
        process.extend(more);
    }
    let file = c.dir.join("process.json");
    fs::write(&file, process.to_string())?;
    Ok(file.to_string_lossy().into_owned())
}

fn report_of(c: &mut Case, more: Value) -> Check<Report> {
    c.start_sleeper()?;
    let file = process_file(c, more)?;
    c.rt(&["exec", "--process", &file, &c.id])?.ok()?.seen()
}

fn scheduler_batch(c: &mut Case) -> Check {
    let report = report_of(c, json!({"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}))?;
    let s = &report.scheduler;
    same("policy, nice", (3, 5), (s.policy, s.nice))
}

fn scheduler_reset_on_fork(c: &mut Case) -> Check {
    // The policy is the program's, not that of a process which the runtime makes it from.
    let report = report_of(
        c,
        json!({"scheduler": {"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}}),
    )?;
    let s = &report.scheduler;
    same(
        "policy, priority, flags",
        (1, 7, 1),
        (s.policy, s.priority, s.flags),
    )
}

fn scheduler_deadline(c: &mut Case) -> Check {
    let times = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 20_000_000});
    let report = report_of(c, json!({ "scheduler": times }))?;
    let s = &report.scheduler;
    same(
        "policy, runtime, period",
        (6, 1_000_000, 20_000_000),
        (s.policy, s.runtime, s.period),
    )
}

fn io_priority(c: &mut Case) -> Check {
    let report = report_of(
        c,
        json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}),
    )?;
    same("ioprio", (2 << 13) | 6, report.ioprio)
}

fn rlimits(c: &mut Case) -> Check {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 1}]);
    let report = report_of(c, json!({ "rlimits": limits }))?;
    same(
        "RLIMIT_NOFILE, RLIMIT_CORE",
        ([77, 88], [0, 1]),
        (report.rlimits[7], report.rlimits[4]),
    )
}

fn three_files(c: &mut Case) -> Check {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}]);
    c.process().rlimits(limits);
    // create and start, then exec with the container's own limits, then run.
    c.start_sleeper()?;
    let line = "ulimit -n; ulimit -H -n";
    let run = c.rt(&["exec", &c.id, "/bin/sh", "-c", line])?.ok()?;
    same("limits of exec", "3\n3\n", &*run.stdout)?;
    c.delete()?;
    same("limits of run", "3\n3", &*c.sh(line)?)
}

fn cpu_affinity_of_the_config(c: &mut Case) -> Check {
    c.process()
        .exec_cpu_affinity(json!({"initial": "0", "final": "0"}));
    c.start_sleeper()?;
    let run = c.rt(&[
        "exec",
        &c.id,
        "/bin/grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ])?;
    same("CPUs", Some("0"), run.ok()?.stdout.split_whitespace().last())?;
    let init = fs::read_to_string(format!("/proc/{}/status", c.pid()?))?;
    let own = fs::read_to_string("/proc/self/status")?;
    let cpus = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("Cpus_allowed_list"));
        line.unwrap_or_default().to_owned()
    };
    same("CPUs of init", cpus(&own), cpus(&init))
}

fn cgroup_line(text: &str) -> &str {
    text.lines()
        .find_map(|l| l.strip_prefix("0::"))
        .unwrap_or_default()
}

fn into_a_sub_cgroup(c: &mut Case) -> Check {
    c.drop_namespace("cgroup");
    c.start_sleeper()?;
    fs::create_dir(c.cgroup().join("below"))?;
    let wish = format!(
        "{}/below",
        c.config["linux"]["cgroupsPath"].as_str().unwrap_or_default()
    );
    for option in ["below", "/below"] {
        let run = c.rt(&["exec", "--cgroup", option, &c.id, "/bin/cat", "/proc/self/cgroup"])?;
        same(option, &*wish, cgroup_line(&run.ok()?.stdout))?;
    }
    for missing in ["missing", "/missing", "./below/../missing"] {
        let run = c
            .rt(&["exec", "--cgroup", missing, &c.id, "/bin/true"])?
            .wants(255)?
            .refused_with("error adding pid ")?;
        let end = format!(
            "openat2 {}/missing/cgroup.procs: no such file or directory",
            c.cgroup().display()
        );
        contains(missing, &run.stderr, &end)?;
    }
    Ok(())
}

/// runc's words, which its own tests look for: those up to 1.3 and those since.
fn into_a_sub_cgroup_in_runcs_words(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let sibling = format!(
        "../{}-sibling",
        c.cgroup().file_name().unwrap_or_default().to_string_lossy()
    );
    for outside in ["..", "../x", "/../x", "a/../../b", &sibling] {
        let run = c
            .rt(&["exec", "--cgroup", outside, &c.id, "/bin/true"])?
            .wants(255)?;
        let run = run.refused_with(&format!(" {outside} is not a sub cgroup path"))?;
        contains(outside, &run.stderr, "bad sub cgroup path")?;
    }
    for controllers in ["whaaat:/", "cpu:/", "cpu,memory:x"] {
        c.rt(&["exec", "--cgroup", controllers, &c.id, "/bin/true"])?
            .wants(255)?
            .refused_with("unknown controller ")?;
    }
    for own in ["/", ".", ""] {
        c.rt(&["exec", "--cgroup", own, &c.id, "/bin/true"])?.ok()?;
    }
    Ok(())
}

fn into_a_sub_cgroup_outside_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for option in ["..", "../..", "/../../x"] {
        c.rt(&["exec", "--cgroup", option, &c.id, "/bin/true"])?
            .wants(255)?
            .refused()?;
    }
    Ok(())
}

fn after_init_has_changed_its_cgroup(c: &mut Case) -> Check {
    c.drop_namespace("cgroup");
    c.start_sleeper()?;
    let (cgroup, pid) = (c.cgroup(), c.pid()?);
    let inner = cgroup.join("init");
    fs::create_dir(&inner)?;
    fs::write(inner.join("cgroup.procs"), pid.to_string())?;
    // As systemd or dockerd inside would: with controllers for those below, its own cgroup takes no process.
    fs::write(cgroup.join("cgroup.subtree_control"), "+pids")?;
    let run = c.rt(&["exec", &c.id, "/bin/cat", "/proc/self/cgroup"])?.ok()?;
    contains("cgroup", cgroup_line(&run.stdout), "/init")
}

fn into_a_user_namespace(c: &mut Case) -> Check {
    user_namespace(c, &[mapping(0, 100_000, 65536)]);
    c.start_sleeper()?;
    let report = c.exec_probe(&["--user", "7:8"], &[])?;
    same("uids", [7, 7, 7], report.uids)?;
    same("gids", [8, 8, 8], report.gids)?;
    let init = fs::read_link(format!("/proc/{}/ns/user", c.pid()?))?;
    same("user namespace", init.to_str(), Some(report.ns["user"].as_str()))?;
    let run = c.rt(&["exec", "-d", "--pid-file", "pid", &c.id, "/bin/sleep", "1000"])?;
    run.ok()?;
    let pid = fs::read_to_string(c.dir.join("pid"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .unwrap_or_default();
    same("uid on the host", Some("100000"), uid.split_whitespace().next())
}

fn ignore_paused_waits_for_resume(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    let words = ["exec", "--ignore-paused", &c.id, "/bin/sh", "-c", "exit 9"];
    let live = c.spawn(&words)?;
    // Born into the frozen cgroup, it cannot run yet; it must not be refused either.
    std::thread::sleep(std::time::Duration::from_millis(100));
    same("status", "paused", &*c.status()?)?;
    c.rt(&["resume", &c.id])?.ok()?;
    live.finish()?.wants(9)?;
    Ok(())
}

/// Runs `exec` with `/dev/null` open as these descriptors.
fn exec_with_fds(c: &Case, fds: &str, options: &[&str]) -> Check<runner::Run> {
    let mut words: Vec<OsString> = vec!["-c".into(), format!("{fds} exec \"$@\"").into(), "sh".into()];
    words.extend(c.host.runtime_words());
    words.extend(["--root".into(), c.state_root.clone().into(), "exec".into()]);
    words.extend(options.iter().map(OsString::from));
    words.extend([OsString::from(&c.id), "/bin/probe".into()]);
    runner::start(Command::new("/bin/sh").args(words).current_dir(&c.dir), &c.dir)?.finish()
}

fn fd_numbers(report: &Report) -> Vec<i32> {
    report.fds.iter().map(|fd| fd.0).collect()
}

fn preserve_fds(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let fds = "exec 3</dev/null 4</dev/null 5</dev/null;";
    let report = exec_with_fds(c, fds, &["--preserve-fds", "2"])?.ok()?.seen()?;
    same("fds", vec![0, 1, 2, 3, 4], fd_numbers(&report))
}

/// `podman exec --preserve-fd 4` says 2 and passes one.
fn preserve_fds_with_gaps(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let fds = "exec 4</dev/null 8</dev/null 9</dev/null;";
    for (count, wish) in [("6", vec![0, 1, 2, 4, 8]), ("1", vec![0, 1, 2])] {
        let report = exec_with_fds(c, fds, &["--preserve-fds", count])?.ok()?.seen()?;
        same("fds", wish, fd_numbers(&report))?;
    }
    Ok(())
}

fn tty_and_detach_without_console_socket(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["exec", "--tty", "--detach", &c.id, "/bin/true"])?
        .wants(255)?
        .refused_with("will detach without setting console socket")?;
    Ok(())
}

fn console_socket_in_the_foreground(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["exec", "--tty", "--console-socket", "x.sock", &c.id, "/bin/true"])?
        .wants(255)?
        .refused_with("cannot use console socket if")?;
    Ok(())
}

fn cap_makes_ambient_what_is_inheritable(c: &mut Case) -> Check {
    for set in ["bounding", "effective", "permitted", "inheritable"] {
        c.config["process"]["capabilities"][set] = json!(["CAP_NET_RAW"]);
    }
    c.start_sleeper()?;
    let report = c.exec_probe(
        &["--user", "7:8", "--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"],
        &[],
    )?;
    // CAP_NET_RAW is 13. CAP_CHOWN is in no inheritable set, and so neither becomes nor makes anything
    // ambient.
    for (set, wish) in [("CapAmb", 1_u64 << 13), ("CapInh", 1 << 13), ("CapEff", 1 << 13)] {
        let bits = report.status[set].as_str();
        same(set, Ok(wish), u64::from_str_radix(bits.trim(), 16))?;
    }
    Ok(())
}

fn home_of_the_user(c: &mut Case) -> Check {
    c.process().env(["PATH=/bin"]);
    fs::create_dir_all(c.rootfs("/etc"))?;
    fs::write(
        c.rootfs("/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nu:x:7:8::/home/u:/bin/sh\n",
    )?;
    c.start_sleeper()?;
    let run = c
        .rt(&["exec", "--user", "7", &c.id, "/bin/sh", "-c", "echo $HOME"])?
        .ok()?;
    same("HOME", "/home/u\n", &*run.stdout)
}

fn pidfd_socket(c: &Case) -> Check<FdSocket> {
    FdSocket::new(c.dir.join("pidfd.sock"))
}

/// The one descriptor is a pidfd of this process; and the message says which kind of process it is.
fn receive_pidfd(socket: &FdSocket, pid: i32, kind: &str) -> Check {
    let received = socket.receive()?;
    same("number of descriptors", 1, received.fds.len())?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", received.fds[0].as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    same(
        "pid behind the pidfd",
        Some(&*pid.to_string()),
        line.map(str::trim),
    )?;
    same("payload", kind, &*String::from_utf8_lossy(&received.payload))
}

fn create(c: &mut Case) -> Check {
    let socket = pidfd_socket(c)?;
    c.args(&["/bin/sleep", "1000"]);
    c.create_with(&["--pidfd-socket", &socket.path_text()])?.ok()?;
    receive_pidfd(&socket, c.pid()?, "standard")
}

fn run(c: &mut Case) -> Check {
    let socket = pidfd_socket(c)?;
    c.args(&["/bin/sleep", "1000"]);
    c.run_with(&["--detach", "--pidfd-socket", &socket.path_text()])?
        .ok()?;
    receive_pidfd(&socket, c.pid()?, "standard")
}

fn exec(c: &mut Case) -> Check {
    let socket = pidfd_socket(c)?;
    c.start_sleeper()?;
    let file: PathBuf = c.dir.join("pid");
    let words = [
        "exec",
        "-d",
        "--pid-file",
        "pid",
        "--pidfd-socket",
        &socket.path_text(),
        &c.id,
        "/bin/sleep",
        "1000",
    ];
    c.rt(&words)?.ok()?;
    receive_pidfd(&socket, fs::read_to_string(file)?.parse()?, "setns")
}

fn missing(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create_with(&["--pidfd-socket", "missing.sock"])?
        .wants(1)?
        .refused_with("missing.sock")?;
    ensure!(c.rt(&["state", &c.id])?.code() == 1, "the container is there");
    c.nothing_left()
}

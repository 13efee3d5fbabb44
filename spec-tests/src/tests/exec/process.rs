//! `exec`: another process in a running container.

use crate::{
    case::Case,
    children::{self, Exit},
    outcome::{Check, contains, ensure, same},
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Stdio, time::Duration};

tests! {
    exec/same_namespaces_as_init,
    exec/same_cgroup_as_init,
    exec/args_and_config_env,
    exec/env_is_added_after_the_config,
    exec/cwd,
    exec/user,
    exec/user_parsed_strictly,
    exec/additional_gids,
    exec/exit_code,
    exec/exit_code_of_signal_is_128_plus_n,
    exec/stdin_and_stdout,
    exec/detach_and_pid_file,
    exec/process_file,
    exec/process_file_cpu_affinity,
    exec/process_file_detached,
    exec/without_a_program_is_refused,
    exec/process_file_broken,
    exec/capabilities_of_the_config,
    exec/cap_adds_without_inheritable,
    exec/cap_unknown_is_a_warning,
    exec/user_that_is_empty_is_the_containers,
    exec/no_new_privs,
    exec/stdio_only,
    exec/flags_of_the_command_are_left_alone,
    exec/into_created_container,
    exec/into_stopped_container,
    exec/into_paused_container,
    exec/into_nothing,
    exec/missing_binary,
    exec/not_executable,
    exec/no_args,
    exec/does_not_end_the_container,
    exec/very_short_processes,
    exec/five_at_once,
}

fn same_namespaces_as_init(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let (pid, report) = (c.pid()?, c.exec_probe(&[], &[])?);
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"] {
        let init = fs::read_link(format!("/proc/{pid}/ns/{name}"))?;
        same(name, init.to_str(), Some(report.ns[name].as_str()))?;
    }
    same(
        "root",
        "bin dev etc home mnt proc root sys tmp var",
        c.rt(&["exec", &c.id, "/bin/sh", "-c", "echo $(ls /)"])?
            .ok()?
            .stdout
            .trim(),
    )
}

fn same_cgroup_as_init(c: &mut Case) -> Check {
    c.drop_namespace("cgroup");
    c.start_sleeper()?;
    let report = c.exec_probe(&[], &[])?;
    let text = report.cgroup.as_str();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("0::"))
        .unwrap_or_default();
    same("cgroup", c.config["linux"]["cgroupsPath"].as_str(), Some(line))
}

fn args_and_config_env(c: &mut Case) -> Check {
    c.process().env(["PATH=/bin", "HOME=/x", "B=1", "A=2"]);
    c.start_sleeper()?;
    let report = c
        .rt(&["exec", &c.id, "/bin/probe", "", "a b", "$X"])?
        .ok()?
        .seen()?;
    same("args", vec!["/bin/probe", "", "a b", "$X"], report.args.clone())?;
    same(
        "env",
        vec!["PATH=/bin", "HOME=/x", "B=1", "A=2"],
        report.env.clone(),
    )
}

fn env_is_added_after_the_config(c: &mut Case) -> Check {
    c.process().env(["PATH=/bin", "HOME=/x"]);
    c.start_sleeper()?;
    let report = c.exec_probe(&["--env", "NEW=1", "--env", "OTHER=a,b=c"], &[])?;
    same(
        "env",
        vec!["PATH=/bin", "HOME=/x", "NEW=1", "OTHER=a,b=c"],
        report.env.clone(),
    )
}

fn cwd(c: &mut Case) -> Check {
    c.process().cwd("/var");
    c.start_sleeper()?;
    same(
        "cwd of the config",
        json!("/var"),
        c.exec_probe(&[], &[])?.cwd.clone(),
    )?;
    same(
        "--cwd",
        json!("/tmp"),
        c.exec_probe(&["--cwd", "/tmp"], &[])?.cwd.clone(),
    )
}

fn user(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let ids = |options: &[&str]| -> Check<([u32; 3], [u32; 3])> {
        let report = c.exec_probe(options, &[])?;
        Ok((report.uids, report.gids))
    };
    same(
        "--user 1000:1001",
        ([1000; 3], [1001; 3]),
        ids(&["--user", "1000:1001"])?,
    )?;
    same("-u 1000", [1000; 3], ids(&["-u", "1000"])?.0)
}

fn user_parsed_strictly(c: &mut Case) -> Check {
    c.start_sleeper()?;
    // CVE-2026-30892: a value that cannot be parsed must never become root.
    for bad in ["1x", "alice", "1:2x", "-1", "1:2:3", "4294967296"] {
        let run = c.rt(&["exec", "-u", bad, &c.id, "/bin/id"])?;
        ensure!(
            run.code() != 0,
            "-u {bad:?}: wish an error, reality {}",
            run.report()
        );
    }
    Ok(())
}

fn additional_gids(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let report = c.exec_probe(&["-u", "1000:1000", "-g", "7", "-g", "8"], &[])?;
    let groups = report.groups.clone();
    ensure!(
        groups.contains(&7) && groups.contains(&8),
        "wish 7 and 8 in {groups:?}"
    );
    Ok(())
}

fn exit_code(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for code in [0, 1, 42, 255] {
        c.rt(&["exec", &c.id, "/bin/sh", "-c", &format!("exit {code}")])?
            .wants(code)?;
    }
    Ok(())
}

fn exit_code_of_signal_is_128_plus_n(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for (name, number) in [("KILL", 9), ("TERM", 15)] {
        c.rt(&["exec", &c.id, "/bin/sh", "-c", &format!("kill -{name} $$")])?
            .wants(128 + number)?;
    }
    Ok(())
}

fn stdin_and_stdout(c: &mut Case) -> Check {
    use std::io::Write;
    c.start_sleeper()?;
    let mut live = crate::runner::start(
        c.command()
            .args(["exec", &c.id, "/bin/cat"])
            .stdin(Stdio::piped()),
        &c.dir,
    )?;
    if let Some(mut stdin) = live.stdin.take() {
        stdin.write_all(b"to exec")?;
    }
    same("stdout", "to exec", live.finish()?.ok()?.stdout.as_str())
}

fn detach_and_pid_file(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let file = c.dir.join("exec.pid");
    c.rt(&[
        "exec",
        "--detach",
        "--pid-file",
        &file.to_string_lossy(),
        &c.id,
        "/bin/sh",
        "-c",
        "sleep 0.1; exit 9",
    ])?
    .ok()?;
    let text = fs::read_to_string(&file)?;
    let pid: i32 = text.parse()?;
    same(
        "exit status of the process, seen by the subreaper",
        Some(Exit::Code(9)),
        children::wait_for(pid, Duration::from_secs(10)),
    )
}

fn write_process(c: &Case, process: &Value) -> Check<PathBuf> {
    let file = c.dir.join("process.json");
    fs::write(&file, process.to_string())?;
    Ok(file)
}

fn process_file_cpu_affinity(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let file = write_process(
        c,
        &json!({
            "args": ["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status"], "env": ["PATH=/bin"], "cwd": "/",
            "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": "0"}
        }),
    )?;
    let run = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?;
    same(
        "Cpus_allowed_list",
        Some("0"),
        run.stdout.split_whitespace().last(),
    )
}

fn process_file(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let caps = json!(["CAP_KILL"]);
    let file = write_process(
        c,
        &json!({
            "args": ["/bin/probe"], "env": ["PATH=/bin", "ONLY=this", "HOME=/h"], "cwd": "/var",
            "user": {"uid": 1000, "gid": 1001, "additionalGids": [2000], "umask": 0o77},
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "inheritable": caps, "ambient": caps},
            "noNewPrivileges": true,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
            "oomScoreAdj": 500
        }),
    )?;
    let report = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?
        .seen()?;
    same(
        "env",
        vec!["PATH=/bin", "ONLY=this", "HOME=/h"],
        report.env.clone(),
    )?;
    same("cwd", "/var", report.cwd.as_str())?;
    same("uids", [1000, 1000, 1000], report.uids)?;
    same("gids", [1001, 1001, 1001], report.gids)?;
    same("umask", 0o77, report.umask)?;
    same("CapEff", "0000000000000020", report.status["CapEff"].as_str())?;
    same("no_new_privs", 1, report.no_new_privs)?;
    same("RLIMIT_NOFILE", [100, 200], report.rlimits[7])?;
    same("oom_score_adj", "500", report.oom_score_adj.as_str())
}

fn process_file_detached(c: &mut Case) -> Check {
    // containerd's way: --process, --detach and --pid-file together.
    c.start_sleeper()?;
    let file = write_process(
        c,
        &json!({"args": ["/bin/sh", "-c", "exit 6"], "cwd": "/", "env": ["PATH=/bin"]}),
    )?;
    let pid_file = c.dir.join("exec.pid");
    c.rt(&[
        "exec",
        "--process",
        &file.to_string_lossy(),
        "--detach",
        "--pid-file",
        &pid_file.to_string_lossy(),
        &c.id,
    ])?
    .ok()?;
    let pid: i32 = fs::read_to_string(&pid_file)?.parse()?;
    same(
        "exit status",
        Some(Exit::Code(6)),
        children::wait_for(pid, Duration::from_secs(10)),
    )
}

fn without_a_program_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["exec", &c.id])?
        .wants(255)?
        .refused_with("exec args cannot be empty")?;
    Ok(())
}

fn process_file_broken(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let file = c.dir.join("broken.json");
    fs::write(&file, "{")?;
    let run = c.rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?;
    same("exit code", 255, run.code())?;
    run.refused()?;
    c.rt(&["exec", "--process", "/no/such/file", &c.id])?
        .refused_with("/no/such/file")?;
    Ok(())
}

fn capabilities_of_the_config(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let report = c.exec_probe(&[], &[])?;
    let wish = format!("{:016x}", (1_u64 << 29) | (1 << 5) | (1 << 10));
    for field in ["CapBnd", "CapEff", "CapPrm"] {
        same(field, wish.as_str(), report.status[field].as_str())?;
    }
    same("CapInh", "0000000000000000", report.status["CapInh"].as_str())
}

fn cap_adds_without_inheritable(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let report = c.exec_probe(&["--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"], &[])?;
    let bits = |field: &str| u64::from_str_radix(report.status[field].as_str(), 16).unwrap_or(0);
    let wish = (1_u64 << 13) | 1;
    for field in ["CapBnd", "CapEff", "CapPrm"] {
        same(&format!("{field} has both"), wish, bits(field) & wish)?;
    }
    // CVE-2022-29162.
    same("CapInh", 0, bits("CapInh"))
}

/// As in config.json.
fn cap_unknown_is_a_warning(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for name in ["CAP_NO_SUCH_THING", "chown", "cap_chown"] {
        let words = ["exec", "--cap", name, "--cap", "CAP_NET_RAW", &c.id, "/bin/probe"];
        let run = c.rt(&words)?.ok()?;
        contains("warning", &run.stderr, name)?;
        same("lines on stderr", 1, run.stderr.lines().count())?;
        let report = run.seen()?;
        let bits = u64::from_str_radix(report.status["CapEff"].as_str(), 16)?;
        same("the other one is there", 1 << 13, bits & (1 << 13))?;
    }
    Ok(())
}

fn user_that_is_empty_is_the_containers(c: &mut Case) -> Check {
    c.process().user().clear().uid(7).gid(8).additional_gids([9]);
    c.start_sleeper()?;
    let report = c.exec_probe(&["--user", ""], &[])?;
    let same_as_init = c.exec_probe(&[], &[])?;
    for field in ["Uid", "Gid", "Groups"] {
        same(
            field,
            same_as_init.status[field].clone(),
            report.status[field].clone(),
        )?;
    }
    ensure!(report.status["Uid"].starts_with('7'), "{:?}", report.status);
    Ok(())
}

fn no_new_privs(c: &mut Case) -> Check {
    c.process().no_new_privileges(false);
    c.start_sleeper()?;
    same("without", 0, c.exec_probe(&[], &[])?.no_new_privs)?;
    same(
        "--no-new-privs",
        1,
        c.exec_probe(&["--no-new-privs"], &[])?.no_new_privs,
    )
}

fn stdio_only(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let report = c.exec_probe(&[], &[])?;
    let fds: Vec<i32> = report.fds.iter().map(|f| f.0).collect();
    same("fds", vec![0, 1, 2], fds)
}

fn flags_of_the_command_are_left_alone(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = c
        .rt(&["exec", &c.id, "/bin/echo", "-d", "--env", "--help"])?
        .ok()?;
    same("stdout", "-d --env --help\n", run.stdout.as_str())
}

fn into_created_container(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    same(
        "stdout",
        "fine\n",
        c.rt(&["exec", &c.id, "/bin/echo", "fine"])?.ok()?.stdout.as_str(),
    )
}

fn into_stopped_container(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["exec", &c.id, "/bin/true"])?
        .wants(255)?
        .refused_with("cannot exec in a stopped container")?;
    Ok(())
}

fn into_paused_container(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    let run = c.rt(&["exec", &c.id, "/bin/true"])?;
    c.rt(&["resume", &c.id])?.ok()?;
    run.wants(255)?
        .refused_with("cannot exec in a paused container (use --ignore-paused to override)")?;
    Ok(())
}

fn into_nothing(c: &mut Case) -> Check {
    c.rt(&["exec", "nobody", "/bin/true"])?
        .wants(255)?
        .refused_with("container does not exist")?;
    Ok(())
}

fn missing_binary(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = c
        .rt(&["exec", &c.id, "no-such-program"])?
        .wants(255)?
        .refused_with("no-such-program")?;
    contains("stderr", &run.stderr, "executable file not found in")?;
    let run = c
        .rt(&["exec", &c.id, "/no/such/program"])?
        .wants(255)?
        .refused_with("/no/such/program")?;
    contains("stderr", &run.stderr, "no such file or directory")
}

fn not_executable(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["exec", &c.id, "/etc/passwd"])?
        .wants(255)?
        .refused_with("permission denied")?;
    Ok(())
}

fn no_args(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = c.rt(&["exec", &c.id])?;
    ensure!(run.code() != 0, "wish an error, reality {}", run.report());
    Ok(())
}

fn does_not_end_the_container(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["exec", &c.id, "/bin/false"])?.wants(1)?;
    same("status", "running", c.status()?.as_str())
}

fn very_short_processes(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for _ in 0..10 {
        c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    }
    Ok(())
}

fn five_at_once(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let mut live = Vec::new();
    for code in 10..15 {
        live.push((
            code,
            c.spawn(&["exec", &c.id, "/bin/sh", "-c", &format!("exit {code}")])?,
        ));
    }
    for (code, run) in live {
        run.finish()?.wants(code)?;
    }
    Ok(())
}

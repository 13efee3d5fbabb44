//! config.md process: what the program finds.

use super::{fd_numbers, run_with_fds, with_profile};
use crate::{
    case::Case,
    config::{IoPriority, Rlimit, Scheduler},
    outcome::{Check, contains, ensure, same},
    runner,
    seen::Report,
};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
};

tests! {
    process/args_are_exact,
    process/program_is_found_in_path_of_env,
    process/env_order_is_kept,
    process/env_home_default_of_passwd,
    process/env_nothing_of_the_runtime,
    process/cwd,
    process/cwd_is_created,
    process/user_and_groups,
    process/user_umask,
    process/stdio_only,
    process/preserve_fds,
    process/preserve_fds_with_gaps,
    process/preserve_fds_that_are_not_open,
    process/gaps_of_preserve_fds_are_empty_before_start,
    process/listen_fds_that_are_not_open,
    process/listen_pid_without_pid_namespace,
    process/listen_pid_in_a_joined_pid_namespace,
    process/standard_streams_get_user_and_group,
    process/listen_fds,
    process/listen_fdnames,
    process/rlimits,
    process/rlimits_absent_are_inherited,
    process/capabilities_five_sets,
    process/capabilities_none,
    process/capabilities_missing,
    process/capabilities_all,
    process/capabilities_ambient_for_a_user,
    process/capabilities_without_ambient_for_a_user,
    process/env_empty_home_is_the_users,
    process/nothing_is_found_with_an_empty_path,
    process/capabilities_ambient_that_cannot_be_is_a_warning,
    process/capabilities_unknown_name_is_ignored,
    process/no_new_privileges,
    process/no_new_privileges_absent,
    process/oom_score_adj,
    process/oom_score_adj_absent_is_inherited,
    process/sysctl,
    process/sysctl_with_slashes,
    process/sysctl_outside_of_namespaces_is_refused,
    process/sysctl_net_with_host_network_is_refused,
    process/sysctl_hostname_is_refused,
    process/sysctl_domainname_beside_the_field,
    process/keyring_is_new,
    process/keyring_is_kept_with_no_new_keyring,
    process/scheduler_other_nice,
    process/scheduler_batch,
    process/scheduler_fifo,
    process/scheduler_unknown_policy_is_refused,
    process/io_priority,
    process/personality_linux32,
}

tests! {
    process/rlimits_raised: &[CapSysResource],
    process/oom_score_adj_lowered: &[CapSysResource],
    process/label_apparmor: &[AppArmor],
    process/label_apparmor_profile: &[AppArmor, Program("apparmor_parser")],
    // The policy of a host with SELinux names no type for a test.
    process/label_selinux: &[NoPath("/sys/fs/selinux/enforce")],
}

fn args_are_exact(c: &mut Case) -> Check {
    let wish = [
        "/bin/probe",
        "",
        "a b",
        "\"quote\"",
        "$HOME",
        "tab\tnew\nline",
        "ünï",
        "--",
        "-x",
        "back\\slash",
    ];
    c.args(&wish);
    let report = c.run()?.ok()?.seen()?;
    same("args", wish.as_slice(), report.args)
}

fn program_is_found_in_path_of_env(c: &mut Case) -> Check {
    fs::create_dir(c.rootfs("/opt"))?;
    fs::rename(c.rootfs("/bin/probe"), c.rootfs("/opt/only-here"))?;
    c.process().env(["PATH=/no/such:/bin:/opt"]);
    c.args(&["only-here"]);
    let report = c.run()?.ok()?.seen()?;
    same("argv[0]", vec!["only-here"], report.args.clone())
}

fn env_order_is_kept(c: &mut Case) -> Check {
    let wish = [
        "Z=1",
        "PATH=/bin",
        "A=2",
        "HOME=/custom",
        "M=3=4",
        "EMPTY=",
        "LAST=x",
    ];
    c.process().env(wish);
    same("env", wish.as_slice(), c.probe(&[])?.env)
}

fn env_home_default_of_passwd(c: &mut Case) -> Check {
    for (uid, home) in [(0, "HOME=/root"), (1000, "HOME=/home/alice"), (4321, "HOME=/")] {
        c.process().user().clear().uid(uid).gid(0);
        let env = c.probe(&[])?.env.clone();
        ensure!(
            env.iter().any(|entry| entry == home),
            "uid {uid}: wish {home}, reality {env:?}"
        );
    }
    Ok(())
}

/// As with runc, an empty one is none.
fn env_empty_home_is_the_users(c: &mut Case) -> Check {
    for (uid, home) in [(0, "HOME=/root"), (1000, "HOME=/home/alice"), (4321, "HOME=/")] {
        c.process().user().clear().uid(uid).gid(0);
        c.process().env(["HOME=", "PATH=/bin"]);
        let env = c.probe(&[])?.env.clone();
        let homes: Vec<_> = env.iter().filter(|entry| entry.starts_with("HOME=")).collect();
        same(&format!("HOME of uid {uid}"), vec![home], homes)?;
    }
    c.start_sleeper()?;
    let report = c.exec_probe(&["--env", "HOME=", "--user", "1000"], &[])?;
    ensure!(
        report.env.iter().any(|entry| entry == "HOME=/home/alice"),
        "exec: {:?}",
        report.env
    );
    Ok(())
}

/// It does not mean the working directory, as an empty element among others does.
fn nothing_is_found_with_an_empty_path(c: &mut Case) -> Check {
    let text = "executable file not found in $PATH";
    c.args(&["probe"]);
    c.process().cwd("/bin");
    c.process().env(["PATH="]);
    c.run()?.refused_with(text)?;
    c.nothing_left()?;
    c.start_sleeper()?;
    c.rt(&["exec", &c.id, "probe"])?.wants(255)?.refused_with(text)?;
    c.rt(&["exec", "--env", "PATH=/bin", &c.id, "probe"])?.ok()?;
    Ok(())
}

fn env_nothing_of_the_runtime(c: &mut Case) -> Check {
    c.process().env(["PATH=/bin", "HOME=/"]);
    c.args(&["/bin/probe"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = c.command();
    command.env("LEAK_OF_THE_RUNTIME", "1").args(words);
    let report = runner::start(&mut command, &c.dir)?.finish()?.ok()?.seen()?;
    same("env", vec!["PATH=/bin", "HOME=/"], report.env.clone())
}

fn cwd(c: &mut Case) -> Check {
    c.process().cwd("/var");
    same("cwd", "/var", c.probe(&[])?.cwd.as_str())
}

fn cwd_is_created(c: &mut Case) -> Check {
    c.process().cwd("/made/by/runtime");
    same("cwd", "/made/by/runtime", c.probe(&[])?.cwd.as_str())
}

fn user_and_groups(c: &mut Case) -> Check {
    c.process()
        .user()
        .clear()
        .uid(1000)
        .gid(1001)
        .additional_gids([5, 2000, 7]);
    let report = c.probe(&[])?;
    same("uids", [1000, 1000, 1000], report.uids)?;
    same("gids", [1001, 1001, 1001], report.gids)?;
    let mut groups = report.groups;
    groups.sort_unstable();
    groups.retain(|g| *g != 1001); // the main group may be among them
    same("groups", vec![5, 7, 2000], groups)?;
    c.process().user().clear().uid(1000).gid(1001);
    let groups = c.probe(&[])?.groups.clone();
    ensure!(
        groups.is_empty() || groups == [1001],
        "no additionalGids: wish none, reality {groups:?}"
    );
    Ok(())
}

fn user_umask(c: &mut Case) -> Check {
    same("default umask", 0o22, c.probe(&[])?.umask)?;
    c.process().user().umask(0o27);
    same("umask", 0o27, c.probe(&[])?.umask)
}

fn stdio_only(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[3, 5, 9], &[], &[])?.ok()?.seen()?;
    same("fds", vec![0, 1, 2], fd_numbers(&report))
}

fn preserve_fds(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[3, 4, 5, 9], &[], &["--preserve-fds", "2"])?
        .ok()?
        .seen()?;
    same("fds", vec![0, 1, 2, 3, 4], fd_numbers(&report))
}

/// `podman run --preserve-fd 5` says 3 and passes one.
fn preserve_fds_with_gaps(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[4, 8, 9], &[], &["--preserve-fds", "6"])?
        .ok()?
        .seen()?;
    same("fds", vec![0, 1, 2, 4, 8], fd_numbers(&report))
}

fn preserve_fds_that_are_not_open(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    // The shell that opens them has some of its own far up.
    for count in ["3", "2000000000"] {
        let report = run_with_fds(c, &[3], &[], &["--preserve-fds", count])?
            .ok()?
            .seen()?;
        let mut found = fd_numbers(&report);
        found.retain(|number| *number < 10);
        same("fds", vec![0, 1, 2, 3], found)?;
    }
    Ok(())
}

/// What the runtime itself opens gets the lowest numbers: it must not take the place of what is not there. A created container can
/// be looked into by `exec`.
fn gaps_of_preserve_fds_are_empty_before_start(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let log = c.dir.join("log").to_string_lossy().into_owned();
    let script = "exec 9</dev/null; exec \"$@\"";
    let mut words: Vec<OsString> = vec!["-c".into(), script.into(), "sh".into()];
    words.extend(c.host.runtime_words());
    words.extend([
        "--log".into(),
        log.into(),
        "--root".into(),
        c.state_root.clone().into(),
    ]);
    words.extend(c.bundle_args("create", &["--preserve-fds", "7"], &c.id)?);
    let mut command = Command::new("/bin/sh");
    command.args(words).current_dir(&c.dir).stdin(Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", c.pid()?))? {
        let path = entry?.path();
        let number: i32 = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .parse()?;
        let file = fs::read_link(&path)?;
        if number > 2 && !file.to_string_lossy().starts_with("socket:") {
            open.push((number, file));
        }
    }
    same(
        "descriptors that are no sockets",
        vec![(9, "/dev/null".into())],
        open,
    )?;
    c.delete()
}

fn listen_fds_that_are_not_open(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    run_with_fds(c, &[3], &["LISTEN_FDS=2"], &[])?
        .wants(1)?
        .refused()?;
    c.nothing_left()
}

/// sd_listen_fds(3) compares it with getpid(2).
fn check_listen_pid(c: &mut Case) -> Check {
    c.shell("echo $LISTEN_PID $$");
    let run = run_with_fds(c, &[3], &["LISTEN_FDS=1"], &[])?.ok()?;
    let (said, own) = run.stdout.trim().split_once(' ').unwrap_or_default();
    ensure!(own != "1", "it is process 1: the test shows nothing");
    same("LISTEN_PID", own, said)
}

fn listen_pid_without_pid_namespace(c: &mut Case) -> Check {
    c.drop_namespace("pid");
    check_listen_pid(c)
}

fn listen_pid_in_a_joined_pid_namespace(c: &mut Case) -> Check {
    let mut other = Case::new(c.host)?;
    other.start_sleeper()?;
    c.join_namespace("pid", Some(&format!("/proc/{}/ns/pid", other.pid()?)));
    check_listen_pid(c)?;
    other.delete()
}

/// Whoever has only the group in common may open /dev/stdout anew. The group of a pipe or terminal is its own matter.
fn standard_streams_get_user_and_group(c: &mut Case) -> Check {
    for (uid, gid, wish) in [(5, 6, (5, 6)), (0, 6, (0, 6)), (0, 0, (77, 88))] {
        c.args(&["/bin/true"]);
        c.process().user().clear().uid(uid).gid(gid);
        let path = c.dir.join("stdout");
        let file = fs::File::create(&path)?;
        nix::unistd::chown(&path, Some(77.into()), Some(88.into()))?;
        let mut command = c.command();
        command.args(c.bundle_args("create", &[], &c.id)?).stdout(file);
        runner::start_with_own_stdio(&mut command, path.clone(), c.dir.join("none"))?
            .finish()?
            .ok()?;
        let found = fs::metadata(&path)?;
        same("owner", wish, (found.uid(), found.gid()))?;
        c.delete()?;
    }
    Ok(())
}

/// sd_listen_fds(3): names go with the sockets, one each. What the service manager says wins over config.json.
fn listen_fdnames(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    c.process().env(["LISTEN_FDNAMES=of config.json"]);
    for (count, names, wish) in [
        (
            "LISTEN_FDS=2",
            "LISTEN_FDNAMES=http:admin",
            "LISTEN_FDNAMES=http:admin",
        ),
        // Not one each: the whole list would be refused inside.
        (
            "LISTEN_FDS=1",
            "LISTEN_FDNAMES=http:admin",
            "LISTEN_FDNAMES=of config.json",
        ),
    ] {
        let report = run_with_fds(c, &[3, 4], &[count, names], &[])?.ok()?.seen()?;
        let found: Vec<_> = (report.env.iter())
            .filter(|entry| entry.starts_with("LISTEN_FDNAMES="))
            .collect();
        same("names", vec![wish], found)?;
    }
    Ok(())
}

fn listen_fds(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[3, 4], &["LISTEN_FDS=1"], &["--preserve-fds", "1"])?
        .ok()?
        .seen()?;
    same(
        "fds (LISTEN_FDS count first, then preserved ones)",
        vec![0, 1, 2, 3, 4],
        fd_numbers(&report),
    )?;
    for wish in ["LISTEN_FDS=1", "LISTEN_PID=1"] {
        let env = &report.env;
        ensure!(
            env.iter().any(|entry| entry == wish),
            "wish {wish}, reality {env:?}"
        );
    }
    Ok(())
}

const RLIMITS: [(&str, usize); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// The suite's own hard limits, in the kernel's order, from /proc/self/limits.
fn own_hard_limits() -> Check<Vec<u64>> {
    let text = fs::read_to_string("/proc/self/limits")?;
    let order = [
        "cpu time",
        "file size",
        "data size",
        "stack size",
        "core file size",
        "resident set",
        "processes",
        "open files",
        "locked memory",
        "address space",
        "file locks",
        "pending signals",
        "msgqueue size",
        "nice priority",
        "realtime priority",
        "realtime timeout",
    ];
    let hard = |name: &str| {
        let line = text.lines().find(|l| l.contains(name)).unwrap_or_default();
        let numbers: Vec<&str> = line.get(26..).unwrap_or_default().split_whitespace().collect();
        numbers.get(1).and_then(|w| w.parse().ok()).unwrap_or(u64::MAX)
    };
    Ok(order.into_iter().map(hard).collect())
}

fn rlimits(c: &mut Case) -> Check {
    let own = own_hard_limits()?;
    let mut wish = Vec::new();
    for (name, index) in RLIMITS {
        // Lowering is always allowed; generous enough for the program to live.
        let hard = own[index].min(1 << 40);
        wish.push((name, index, [hard / 2, hard]));
    }
    let limit =
        |(name, _, [soft, hard]): &(_, _, [u64; 2])| json!({"type": name, "soft": soft, "hard": hard});
    c.config["process"]["rlimits"] = wish.iter().map(limit).collect();
    let report = c.probe(&[])?;
    for (name, index, limit) in wish {
        same(name, limit, report.rlimits[index])?;
    }
    Ok(())
}

/// Above the hard limit of the caller: the runtime has to do it before it gives up its capabilities.
fn rlimits_raised(c: &mut Case) -> Check {
    let pending = own_hard_limits()?[11];
    ensure!(
        pending < u64::MAX / 2,
        "the suite's own limit of pending signals is {pending}: nothing to raise"
    );
    let limit = json!({"type": "RLIMIT_SIGPENDING", "soft": pending + 5, "hard": pending + 10});
    c.process().rlimits(json!([limit]));
    c.process().user().clear().uid(1000).gid(1000);
    same(
        "RLIMIT_SIGPENDING",
        [pending + 5, pending + 10],
        c.probe(&[])?.rlimits[11],
    )
}

fn rlimits_absent_are_inherited(c: &mut Case) -> Check {
    c.process()
        .rlimits([Rlimit::new().kind("RLIMIT_CORE").soft(0).hard(0)]);
    let report = c.probe(&[])?;
    same("RLIMIT_CORE", [0, 0], report.rlimits[4])?;
    same("RLIMIT_NOFILE, hard", own_hard_limits()?[7], report.rlimits[7][1])
}

fn cap_bits(names: &[&str]) -> String {
    let number = |name: &str| match name {
        "CAP_CHOWN" => 0,
        "CAP_KILL" => 5,
        "CAP_SETUID" => 7,
        "CAP_NET_BIND_SERVICE" => 10,
        "CAP_NET_RAW" => 13,
        _ => 63,
    };
    format!(
        "{:016x}",
        names.iter().fold(0_u64, |bits, name| bits | (1 << number(name)))
    )
}

fn same_caps(report: &Report, field: &str, names: &[&str]) -> Check {
    same(field, cap_bits(names).as_str(), report.status[field].as_str())
}

fn capabilities_five_sets(c: &mut Case) -> Check {
    c.process()
        .capabilities()
        .clear()
        .bounding(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"])
        .permitted(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])
        .effective(["CAP_CHOWN", "CAP_KILL"])
        .inheritable(["CAP_CHOWN", "CAP_KILL"])
        .ambient(["CAP_CHOWN"]);
    let report = c.probe(&[])?;
    same_caps(
        &report,
        "CapBnd",
        &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
    )?;
    same_caps(&report, "CapInh", &["CAP_CHOWN", "CAP_KILL"])?;
    same_caps(&report, "CapAmb", &["CAP_CHOWN"])?;
    // execve by root would make these two the bounding set; noNewPrivileges keeps them within the permitted set.
    for field in ["CapPrm", "CapEff"] {
        same_caps(&report, field, &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])?;
    }
    Ok(())
}

fn capabilities_none(c: &mut Case) -> Check {
    c.process()
        .capabilities()
        .clear()
        .bounding(json!([]))
        .effective(json!([]))
        .permitted(json!([]))
        .inheritable(json!([]))
        .ambient(json!([]));
    let report = c.probe(&[])?;
    for field in ["CapBnd", "CapInh", "CapPrm", "CapEff", "CapAmb"] {
        same_caps(&report, field, &[])?;
    }
    Ok(())
}

/// What is not mentioned is not given: to init, to exec, to a process of a file, and beside what exec adds.
fn capabilities_missing(c: &mut Case) -> Check {
    const SETS: [&str; 5] = ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"];
    let none = |what: &str, report: &Report| {
        SETS.iter().try_for_each(|set| {
            let bits = report.status[set].as_str();
            same(&format!("{set} of {what}"), "0000000000000000", bits)
        })
    };
    for user in [0, 1000] {
        c.process().user().clear().uid(user).gid(user);
        for missing in [None, Some(Value::Null), Some(json!({}))] {
            if let Some(process) = c.config["process"].as_object_mut() {
                process.remove("capabilities");
            }
            if let Some(value) = &missing {
                c.config["process"]["capabilities"] = value.clone();
            }
            let what = |of: &str| format!("{of}, user {user}, capabilities {missing:?}");
            none(&what("init"), &c.probe(&[])?)?;
            c.delete()?;
            c.start_sleeper()?;
            none(&what("exec"), &c.exec_probe(&[], &[])?)?;
            let file = c.dir.join("process.json");
            let process = json!({"args": ["/bin/probe"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": user, "gid": user}});
            fs::write(&file, process.to_string())?;
            let words = ["exec", "--process", &file.to_string_lossy(), &c.id];
            none(&what("a process of a file"), &c.rt(&words)?.ok()?.seen()?)?;
            c.delete()?;
        }
    }
    c.process().user().clear().uid(0).gid(0);
    c.start_sleeper()?;
    let report = c.exec_probe(&["--cap", "CAP_NET_RAW"], &[])?;
    for (set, bits) in [
        ("CapBnd", "2000"),
        ("CapEff", "2000"),
        ("CapPrm", "2000"),
        ("CapInh", "0"),
        ("CapAmb", "0"),
    ] {
        same(
            &format!("{set} of exec --cap"),
            format!("{bits:0>16}").as_str(),
            report.status[set].as_str(),
        )?;
    }
    Ok(())
}

fn capabilities_all(c: &mut Case) -> Check {
    let names = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ];
    for set in ["bounding", "effective", "permitted"] {
        c.config["process"]["capabilities"][set] = json!(names.as_slice());
    }
    // What the caller lacks cannot be given: the spec wants a warning, not an error.
    let own = fs::read_to_string("/proc/self/status")?;
    let own = own
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .unwrap_or_default()
        .trim();
    same("CapBnd", own, c.probe(&[])?.status["CapBnd"].as_str())
}

fn capabilities_ambient_for_a_user(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    let caps = json!(["CAP_NET_BIND_SERVICE", "CAP_KILL"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(&caps)
        .inheritable(caps)
        .ambient(["CAP_NET_BIND_SERVICE"]);
    let report = c.probe(&[])?;
    for field in ["CapAmb", "CapPrm", "CapEff"] {
        same_caps(&report, field, &["CAP_NET_BIND_SERVICE"])?;
    }
    same_caps(&report, "CapBnd", &["CAP_NET_BIND_SERVICE", "CAP_KILL"])
}

fn capabilities_without_ambient_for_a_user(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    let caps = json!(["CAP_KILL"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(caps);
    let report = c.probe(&[])?;
    for field in ["CapAmb", "CapPrm", "CapEff", "CapInh"] {
        same_caps(&report, field, &[])?;
    }
    same_caps(&report, "CapBnd", &["CAP_KILL"])
}

/// Each by its name, since it is easily forgotten that they have to be inheritable and permitted, too.
fn capabilities_ambient_that_cannot_be_is_a_warning(c: &mut Case) -> Check {
    let own = json!(["CAP_CHOWN", "CAP_KILL"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"])
        .effective(&own)
        .permitted(own)
        .inheritable(["CAP_KILL", "CAP_SETUID"])
        .ambient(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"]);
    c.args(&["/bin/probe"]);
    let run = c.run()?.ok()?;
    same_caps(&run.seen()?, "CapAmb", &["CAP_KILL"])?;
    let warnings: Vec<_> = run.stderr.lines().collect();
    same("warnings", 2, warnings.len())?;
    for (line, name) in warnings.iter().zip(["CAP_CHOWN", "CAP_SETUID"]) {
        contains("warning", line, "level=warning")?;
        contains(
            "warning",
            line,
            &format!("can't raise ambient capability {name}: "),
        )?;
    }
    c.nothing_left()?;
    c.args(&["/bin/sleep", "1000"]);
    c.run_with(&["--detach"])?.ok()?;
    let exec = c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    contains("exec", &exec.stderr, "can't raise ambient capability CAP_CHOWN: ")
}

fn capabilities_unknown_name_is_ignored(c: &mut Case) -> Check {
    // config.md: a value the runtime cannot map should not be an error.
    let caps = json!(["CAP_KILL", "CAP_FROM_THE_FUTURE"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(caps);
    same_caps(&c.probe(&[])?, "CapBnd", &["CAP_KILL"])?;
    // And a warning, which somebody has to see: by default, on standard error.
    c.args(&["/bin/true"]);
    let run = c.run()?.ok()?;
    contains("stderr", &run.stderr, "level=warning")?;
    contains("stderr", &run.stderr, "CAP_FROM_THE_FUTURE")
}

fn no_new_privileges(c: &mut Case) -> Check {
    for wish in [true, false] {
        c.process().no_new_privileges(wish);
        same("no_new_privs", i32::from(wish), c.probe(&[])?.no_new_privs)?;
    }
    Ok(())
}

fn no_new_privileges_absent(c: &mut Case) -> Check {
    if let Some(process) = c.config["process"].as_object_mut() {
        process.remove("noNewPrivileges");
    }
    same("no_new_privs", 0, c.probe(&[])?.no_new_privs)
}

fn oom_score_adj(c: &mut Case) -> Check {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
    let wish = (own + 123).min(1000);
    c.process().oom_score_adj(wish);
    same(
        "oom_score_adj",
        wish.to_string().as_str(),
        c.probe(&[])?.oom_score_adj.as_str(),
    )
}

fn oom_score_adj_lowered(c: &mut Case) -> Check {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
    let wish = (own - 500).to_string();
    c.process().oom_score_adj(own - 500);
    let report = c.probe(&[])?;
    same("oom_score_adj", wish.as_str(), report.oom_score_adj.as_str())?;
    // A user without the capability gets it too: it is set before the privileges go.
    c.process().user().clear().uid(1000).gid(1000);
    let report = c.probe(&[])?;
    same(
        "oom_score_adj of another user",
        wish.as_str(),
        report.oom_score_adj.as_str(),
    )
}

fn oom_score_adj_absent_is_inherited(c: &mut Case) -> Check {
    let own = fs::read_to_string("/proc/self/oom_score_adj")?;
    same("oom_score_adj", own.trim(), c.probe(&[])?.oom_score_adj.as_str())
}

fn sysctl(c: &mut Case) -> Check {
    let wish = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.ip_local_port_range", "1100\t1200"),
        ("kernel.msgmax", "7777"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "22"),
        ("kernel.sem", "250\t32000\t33\t128"),
    ];
    c.config["linux"]["sysctl"] = wish
        .iter()
        .map(|(k, v)| ((*k).to_owned(), json!(v.replace('\t', " "))))
        .collect();
    let paths: Vec<String> = wish
        .iter()
        .map(|(k, _)| format!("/proc/sys/{}", k.replace('.', "/")))
        .collect();
    let options: Vec<&str> = paths.iter().flat_map(|p| ["--cat", p.as_str()]).collect();
    let host = fs::read_to_string("/proc/sys/kernel/msgmax")?;
    let report = c.probe(&options)?;
    for ((key, value), path) in wish.iter().zip(&paths) {
        same(key, *value, report.cat[path].text())?;
    }
    same(
        "the host's kernel.msgmax",
        host,
        fs::read_to_string("/proc/sys/kernel/msgmax")?,
    )
}

fn sysctl_with_slashes(c: &mut Case) -> Check {
    c.linux().sysctl(json!({"net/ipv4/conf/lo/forwarding": "1"}));
    let path = "/proc/sys/net/ipv4/conf/lo/forwarding";
    same("value", "1", c.probe(&["--cat", path])?.cat[path].text())
}

fn sysctl_is_refused(c: &mut Case, key: &str) -> Check {
    c.linux().sysctl(json!({key: "1"}));
    c.create()?.wants(1)?.refused_with(key)?;
    c.nothing_left()
}

fn sysctl_outside_of_namespaces_is_refused(c: &mut Case) -> Check {
    for key in ["kernel.panic_on_warn", "vm.swappiness", "fs.file-max"] {
        sysctl_is_refused(c, key)?;
    }
    c.linux().sysctl(json!({"net.../../kernel/panic_on_warn": "1"}));
    c.create()?.wants(1)?.refused_with("panic_on_warn")?;
    c.drop_namespace("ipc");
    sysctl_is_refused(c, "kernel.msgmax")
}

fn sysctl_net_with_host_network_is_refused(c: &mut Case) -> Check {
    let before = fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies")?;
    c.drop_namespace("network");
    let result = sysctl_is_refused(c, "net.ipv4.tcp_syncookies");
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", &before)?;
    result?;
    // By path the host's namespace is the host's too.
    c.join_namespace("network", Some("/proc/self/ns/net"));
    let result = sysctl_is_refused(c, "net.ipv4.tcp_syncookies");
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", &before)?;
    result
}

fn sysctl_hostname_is_refused(c: &mut Case) -> Check {
    sysctl_is_refused(c, "kernel.hostname")
}

/// Each would win at another time: what differs is refused, what says the same is not.
fn sysctl_domainname_beside_the_field(c: &mut Case) -> Check {
    c.shell("cat /proc/sys/kernel/domainname");
    for (field, key, value, wish) in [
        (Value::Null, "kernel.domainname", "of.sysctl", Some("of.sysctl\n")),
        (json!(""), "kernel.domainname", "of.sysctl", Some("of.sysctl\n")),
        (json!("same"), "kernel/domainname", "same", Some("same\n")),
        (json!("of.field"), "kernel.domainname", "of.sysctl", None),
        (json!("of.field"), "kernel/domainname", "of.sysctl", None),
    ] {
        c.document().domainname(field);
        c.linux().sysctl(json!({key: value}));
        let run = c.run()?;
        match wish {
            Some(wish) => same("domain name", wish, run.ok()?.stdout.as_str())?,
            None => {
                run.wants(1)?.refused_with("conflicts with")?;
                c.nothing_left()?;
            }
        }
    }
    Ok(())
}

fn session_keyring() -> i64 {
    // SAFETY: KEYCTL_GET_KEYRING_ID takes no pointer.
    unsafe { libc::syscall(libc::SYS_keyctl, 0, -3_i64, 0) }
}

fn keyring_is_new(c: &mut Case) -> Check {
    let report = c.probe(&[])?;
    let name = report.keyring.as_str();
    ensure!(
        report.keyring_id != json!(session_keyring()),
        "wish a new session keyring, reality the caller's"
    );
    ensure!(
        name.contains(&c.id),
        "wish a keyring named after the container {}, reality {name:?}",
        c.id
    );
    Ok(())
}

fn keyring_is_kept_with_no_new_keyring(c: &mut Case) -> Check {
    let report = c.probe_with(&["--no-new-keyring"], &[])?;
    same("keyring", session_keyring(), report.keyring_id)
}

fn scheduler_other_nice(c: &mut Case) -> Check {
    c.process()
        .scheduler(Scheduler::new().policy("SCHED_OTHER").nice(7));
    let s = c.probe(&[])?.scheduler;
    same("policy and nice", (0, 7), (s.policy, s.nice))
}

fn scheduler_batch(c: &mut Case) -> Check {
    c.process().scheduler(
        Scheduler::new()
            .policy("SCHED_BATCH")
            .nice(3)
            .flags(["SCHED_FLAG_RESET_ON_FORK"]),
    );
    let s = c.probe(&[])?.scheduler;
    same("policy, nice, flags", (3, 3, 1), (s.policy, s.nice, s.flags))
}

fn scheduler_fifo(c: &mut Case) -> Check {
    c.process()
        .scheduler(Scheduler::new().policy("SCHED_FIFO").priority(10));
    let s = c.probe(&[])?.scheduler;
    same("policy and priority", (1, 10), (s.policy, s.priority))
}

fn scheduler_unknown_policy_is_refused(c: &mut Case) -> Check {
    c.process().scheduler(Scheduler::new().policy("SCHED_BOGUS"));
    c.create()?.wants(1)?.refused_with("SCHED_BOGUS")?;
    c.nothing_left()
}

fn io_priority(c: &mut Case) -> Check {
    c.process()
        .io_priority(IoPriority::new().class("IOPRIO_CLASS_BE").priority(6));
    same("ioprio (class 2 << 13 | 6)", (2 << 13) | 6, c.probe(&[])?.ioprio)
}

fn personality_linux32(c: &mut Case) -> Check {
    c.linux().personality(json!({"domain": "LINUX32"}));
    same("personality", 8, c.probe(&[])?.personality)
}

fn label_apparmor(c: &mut Case) -> Check {
    c.process().apparmor_profile("unconfined");
    let label = c.probe(&[])?.label.clone();
    same("label", "unconfined", label.as_str())
}

/// A loaded profile confines init and, by default, every process of exec.
fn label_apparmor_profile(c: &mut Case) -> Check {
    with_profile(c, confined)
}

fn confined(c: &mut Case, name: &str) -> Check {
    fs::write(c.rootfs("/forbidden"), "secret")?;
    fs::write(c.rootfs("/allowed"), "open")?;
    c.process().apparmor_profile(name);
    c.start_sleeper()?;
    let label = format!("{name} (enforce)");
    let init = fs::read_to_string(format!("/proc/{}/attr/current", c.pid()?))?;
    same("label of init", label.as_str(), init.trim())?;
    let report = c.exec_probe(&[], &[])?;
    same("label of exec", label.as_str(), report.label.as_str())?;
    let run = c
        .rt(&["exec", &c.id, "/bin/cat", "/allowed", "/forbidden"])?
        .wants(1)?;
    same("what it may read", "open", run.stdout.as_str())?;
    contains("stderr", &run.stderr, "Permission denied")
}

fn label_selinux(c: &mut Case) -> Check {
    // Without SELinux a label cannot be applied; ignoring it would weaken the container.
    c.process().selinux_label("system_u:system_r:container_t:s0");
    c.create()?.wants(1)?.refused_with("selinux")?;
    c.nothing_left()
}

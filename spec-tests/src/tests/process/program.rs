//! config.md process: what the program finds.

use super::with_profile;
use crate::{
    case::Case,
    config::{IoPriority, Rlimit, Scheduler},
    outcome::{Check, contains, ensure, same},
    runner,
};
use serde_json::{Value, json};
use std::fs;

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
    process/rlimits,
    process/rlimits_absent_are_inherited,
    process/env_empty_home_is_the_users,
    process/nothing_is_found_with_an_empty_path,
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

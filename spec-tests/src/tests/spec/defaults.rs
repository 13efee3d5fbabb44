//! Runs in: SUITE. Sentences of the runtime-spec about what a program meets that nobody has configured, or
//! that depend on who calls the runtime.

use crate::{
    case::Case,
    children::{self, Exit},
    config::{Device, Hook, IoPriority, Mount, Scheduler, Syscall, SyscallArg},
    need::Need,
    outcome::{Check, contains, ensure, same},
    runner::{self, Run},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, process::Command, time::Duration};

tests! {
    spec/smallest_document_runs,
    spec/stop_signal_of_the_annotation,
    spec/stop_signal_that_is_none_is_term,
    spec/umask_of_the_caller_does_not_count,
    spec/oom_score_adj_of_the_caller_stays,
    spec/io_priority_of_every_process,
    spec/mount_namespace_by_path,
    spec/device_that_is_there_already,
    spec/type_of_a_bind_mount_means_nothing,
    spec/mount_types_of_the_kernel,
    spec/idmap_is_no_data_of_the_file_system,
    spec/streams_without_a_terminal_are_the_callers,
    spec/devices_have_the_container_s_ids,
    spec/time_offsets_of_each_clock,
    spec/no_namespace_path_from_the_working_directory,
    spec/unknown_properties_everywhere_are_ignored,
    spec/features_have_no_undefined_properties,
    spec/features_memory_policy_words_are_recognized,
    spec/features_unsafe_annotations_are_names,
    spec/streams_closed_by_the_caller_are_open,
    spec/features_cgroup_version_is_true,
}

tests! {
    spec/scheduler_deadline_within_a_cpuset_says_why: &[Controller("cpuset"), CapSysResource, SecondCpu],
    spec/affinity_without_final_is_left_alone: &[SecondCpu],
    spec/nice_value_of_the_caller_does_not_count: &[Program("nice")],
}

/// `run`, by way of a program that changes something of itself first.
fn run_through(c: &Case, words: &[&str]) -> Check<Run> {
    let direct = c.command();
    let mut command = Command::new(words.first().copied().unwrap_or_default());
    command
        .args(words.iter().skip(1))
        .arg(direct.get_program())
        .args(direct.get_args())
        .args(c.bundle_args("run", &[], &c.id)?)
        .current_dir(&c.dir);
    // What the suite gives to a peer, a shim say.
    for (name, value) in direct.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    runner::start(&mut command, &c.dir)?.finish()
}

/// All that is OPTIONAL is absent, but for the namespaces without which it would be the host's.
fn smallest_document_runs(c: &mut Case) -> Check {
    let cgroups_path = c.config["linux"]["cgroupsPath"].clone();
    c.config = json!({
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["/bin/echo", "fine"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], "cgroupsPath": cgroups_path}
    });
    same("stdout", "fine\n", c.run()?.ok()?.stdout.as_str())
}

/// Starts a program that ends with 3 for TERM and with 4 for USR1.
fn start_trap(c: &mut Case) -> Check<i32> {
    c.shell("trap 'exit 3' TERM; trap 'exit 4' USR1; echo ready > /log; while true; do usleep 5000; done");
    c.run_with(&["--detach"])?.ok()?;
    let log = c.rootfs("/log");
    c.wait_until("ready", || {
        Ok(fs::read_to_string(&log).is_ok_and(|text| !text.is_empty()))
    })?;
    fs::remove_file(log)?;
    c.pid()
}

fn ends_with(c: &Case, pid: i32, code: i32) -> Check {
    let end = children::wait_for(pid, Duration::from_secs(10));
    same("end of the program", Some(Exit::Code(code)), end)?;
    c.delete()
}

/// config.md, Annotations: the image's signal is the one to end the container with, where none is said.
fn stop_signal_of_the_annotation(c: &mut Case) -> Check {
    for name in ["SIGUSR1", "USR1", "10"] {
        c.document()
            .annotations(json!({"org.opencontainers.image.stopSignal": name}));
        let pid = start_trap(c)?;
        c.rt(&["kill", &c.id])?.ok()?;
        ends_with(c, pid, 4)?;
    }
    let pid = start_trap(c)?;
    c.rt(&["kill", &c.id, "TERM"])?.ok()?;
    ends_with(c, pid, 3)
}

fn stop_signal_that_is_none_is_term(c: &mut Case) -> Check {
    for name in ["", "SIGNOSUCH", "0", "99999"] {
        c.document()
            .annotations(json!({"org.opencontainers.image.stopSignal": name}));
        let pid = start_trap(c)?;
        c.rt(&["kill", &c.id])?.ok()?;
        ends_with(c, pid, 3)?;
    }
    Ok(())
}

/// The specification would leave it as the caller has it; runc and crun, and so every engine, have 022.
fn umask_of_the_caller_does_not_count(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let run = run_through(c, &["/bin/sh", "-c", "umask 077; exec \"$@\"", "sh"])?;
    same("umask", json!(0o22), run.ok()?.seen()?.umask)
}

/// config.md, scheduler: what is not set is 0, not what the caller has.
fn nice_value_of_the_caller_does_not_count(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    c.process().scheduler(Scheduler::new().policy("SCHED_OTHER"));
    let report = run_through(c, &["nice", "-n", "7"])?.ok()?.seen()?;
    same("nice value", 0, report.scheduler.nice)?;
    if let Some(process) = c.config["process"].as_object_mut() {
        process.remove("scheduler");
    }
    // The test itself: without the property it is inherited.
    let report = run_through(c, &["nice", "-n", "7"])?.ok()?.seen()?;
    same("inherited nice value", 7, report.scheduler.nice)
}

fn oom_score_adj_of_the_caller_stays(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let line = "echo 321 > /proc/self/oom_score_adj && exec \"$@\"";
    let report = run_through(c, &["/bin/sh", "-c", line, "sh"])?.ok()?.seen()?;
    same("oom_score_adj", Some("321"), Some(report.oom_score_adj.as_str()))
}

fn io_priority_of_every_process(c: &mut Case) -> Check {
    c.process()
        .io_priority(IoPriority::new().class("IOPRIO_CLASS_BE").priority(6));
    // A child of the program, in a session of its own.
    c.shell("setsid /bin/probe > /tmp/report; cat /tmp/report");
    let report = c.run()?.ok()?.seen()?;
    same("I/O priority", 2 << 13 | 6, report.ioprio)
}

/// The mounts of the container are made in it.
fn mount_namespace_by_path(c: &mut Case) -> Check {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-m", "--propagation", "private", "sleep", "1000"]);
    let holder = runner::start(&mut command, &c.dir)?;
    let path = format!("/proc/{}/ns/mnt", holder.pid);
    let own = fs::read_link("/proc/self/ns/mnt")?;
    c.wait_until("a mount namespace", || Ok(fs::read_link(&path)? != own))?;
    let theirs = fs::read_link(&path)?;
    c.join_namespace("mount", Some(&path));
    let seen = c.sh("readlink /proc/self/ns/mnt; test -e /bin/probe && echo rootfs");
    children::signal(holder.pid, nix::sys::signal::Signal::SIGKILL);
    same(
        "mount namespace",
        format!("{}\nrootfs", theirs.to_string_lossy()),
        seen?.trim().to_owned(),
    )
}

/// config-linux.md, Devices: an error unless it is the one that is asked for.
fn device_that_is_there_already(c: &mut Case) -> Check {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    mknod(
        &c.rootfs("/tmp/node"),
        SFlag::S_IFCHR,
        Mode::S_IRUSR,
        makedev(1, 3),
    )?;
    let device = |minor: u64| json!([{"path": "/tmp/node", "type": "c", "major": 1, "minor": minor}]);
    c.linux().devices(device(3));
    c.args(&["/bin/true"]);
    c.run()?.ok()?;
    c.linux().devices(device(5));
    c.create()?.refused()?;
    c.nothing_left()
}

fn type_of_a_bind_mount_means_nothing(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "x")?;
    for (index, typ) in ["none", "bind", "nosuchfs", "proc", "tmpfs"].iter().enumerate() {
        for option in ["bind", "rbind"] {
            c.mount(
                Mount::new()
                    .destination(format!("/mnt/{index}{option}"))
                    .kind(typ)
                    .source(source.to_string_lossy())
                    .options(json!([option])),
            );
        }
    }
    same(
        "files",
        "10\n",
        format!("{}\n", c.sh("ls /mnt/*/file | wc -l")?.trim()).as_str(),
    )
}

fn mount_types_of_the_kernel(c: &mut Case) -> Check {
    // Those of the default config are there already.
    let types = ["tmpfs", "ramfs", "mqueue", "devpts", "cgroup2"];
    for typ in types {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{typ}"))
                .kind(typ)
                .source("none"),
        );
    }
    let report = c.probe(&[])?;
    let text = report.mountinfo.as_str();
    for typ in types {
        let point = format!(" /mnt/{typ} ");
        let line = text
            .lines()
            .find(|line| line.contains(&point))
            .unwrap_or_default();
        contains("mount", line, &format!(" - {typ} "))?;
    }
    Ok(())
}

/// A tmpfs refuses data that it does not know.
fn idmap_is_no_data_of_the_file_system(c: &mut Case) -> Check {
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("tmpfs")
            .source("none")
            .options(["idmap", "mode=755"])
            .uid_mappings(&mapping)
            .gid_mappings(mapping),
    );
    let run = c.run()?;
    // Before Linux 6.3 a tmpfs cannot be id-mapped; a runtime may also do it for bind mounts only.
    if run.code() == 0 {
        let report = c.probe(&["--stat", "/mnt"])?;
        return same("owner", Some(1000), report.stat["/mnt"].uid);
    }
    let run = run.refused()?;
    let text = run.stderr.to_lowercase();
    let is_of_the_data = text.contains("invalid argument") && !text.contains("mount_setattr");
    ensure!(!is_of_the_data, "the tmpfs got the word as data: {}", run.stderr);
    c.nothing_left()
}

fn streams_without_a_terminal_are_the_callers(c: &mut Case) -> Check {
    if let Some(process) = c.config["process"].as_object_mut() {
        process.remove("terminal");
    }
    let line = "test ! -t 0 -a ! -t 1 -a ! -t 2 && test ! -e /dev/console && echo none";
    same("terminals", "none", c.sh(line)?.as_str())
}

/// config-linux.md, Devices: uid and gid are those inside.
fn devices_have_the_container_s_ids(c: &mut Case) -> Check {
    c.linux().devices([
        Device::new()
            .path("/dev/one")
            .kind("c")
            .major(1)
            .minor(3)
            .file_mode(0o640)
            .uid(1)
            .gid(2),
        Device::new().path("/dev/two").kind("c").major(1).minor(3),
    ]);
    let report = c.probe(&["--stat", "/dev/one", "--stat", "/dev/two"])?;
    let of = |path: &str| {
        [
            report.stat[path].mode,
            report.stat[path].uid,
            report.stat[path].gid,
        ]
    };
    same("/dev/one", [Some(0o640), Some(1), Some(2)], of("/dev/one"))?;
    let [mode, uid, gid] = of("/dev/two");
    same("owner of /dev/two", [Some(0); 2], [uid, gid])?;
    ensure!(mode.is_some(), "/dev/two is missing");
    Ok(())
}

/// time_namespaces(7): the third clock of /proc/PID/timens_offsets is derived from boottime.
fn time_offsets_of_each_clock(c: &mut Case) -> Check {
    c.join_namespace("time", None);
    c.linux()
        .time_offsets(json!({"monotonic": {"secs": 1000, "nanosecs": 5}, "boottime": {"secs": 2000}}));
    let text = c.sh("cat /proc/self/timens_offsets")?;
    for (clock, wish) in [("monotonic", ["1000", "5"]), ("boottime", ["2000", "0"])] {
        let line = text
            .lines()
            .find(|line| line.starts_with(clock))
            .unwrap_or_default();
        let reality: Vec<&str> = line.split_whitespace().skip(1).collect();
        same(clock, wish.to_vec(), reality)?;
    }
    Ok(())
}

/// Called from `/`, a relative path would lead to a namespace.
fn no_namespace_path_from_the_working_directory(c: &mut Case) -> Check {
    c.join_namespace("network", Some("proc/self/ns/net"));
    let args = c.bundle_args("create", &[], &c.id)?;
    let mut command = c.command();
    command.args(args).current_dir("/");
    runner::start(&mut command, &c.dir)?.finish()?.refused()?;
    Ok(())
}

fn unknown_properties_everywhere_are_ignored(c: &mut Case) -> Check {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .syscalls([Syscall::new()
            .names(["add_key"])
            .action("SCMP_ACT_ERRNO")
            .args([SyscallArg::new().index(0).value(1).op("SCMP_CMP_EQ")])]);
    c.linux()
        .devices([Device::new().path("/dev/one").kind("c").major(1).minor(3)]);
    c.hooks().create_runtime([Hook::new().path("/bin/true")]);
    c.args(&["/bin/echo", "fine"]);
    let mut paths = Vec::new();
    objects(&c.config, String::new(), &mut paths);
    // Maps whose keys are names, and not properties.
    paths.retain(|path| path != "/annotations");
    for path in &paths {
        if let Some(object) = c.config.pointer_mut(path).and_then(Value::as_object_mut) {
            object.insert("propertyOfTheFuture".to_owned(), json!({"a": [1, null, "b"]}));
        }
    }
    ensure!(paths.len() > 25, "only {paths:?} were tried");
    same("stdout", "fine\n", c.run()?.ok()?.stdout.as_str())
}

/// The pointers of all objects in a document.
fn objects(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                objects(value, format!("{at}/{key}"), found);
            }
            found.push(at);
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                objects(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn features(c: &Case) -> Check<Value> {
    c.rt(&["features"])?.ok()?.json()
}

/// features.md and features-linux.md, version 1.3.0.
fn features_have_no_undefined_properties(c: &mut Case) -> Check {
    let features = features(c)?;
    for module in ["apparmor", "selinux"] {
        let enabled = features["linux"][module]["enabled"].as_bool();
        same(&format!("linux.{module}.enabled"), Some(true), enabled)?;
    }
    let table: [(&str, &[&str]); 9] = [
        (
            "",
            &[
                "ociVersionMin",
                "ociVersionMax",
                "hooks",
                "mountOptions",
                "linux",
                "annotations",
                "potentiallyUnsafeConfigAnnotations",
            ],
        ),
        (
            "/linux",
            &[
                "namespaces",
                "capabilities",
                "cgroup",
                "seccomp",
                "apparmor",
                "selinux",
                "memoryPolicy",
                "intelRdt",
                "mountExtensions",
                "netDevices",
            ],
        ),
        ("/linux/cgroup", &["v1", "v2", "systemd", "systemdUser", "rdma"]),
        (
            "/linux/seccomp",
            &[
                "enabled",
                "actions",
                "operators",
                "archs",
                "knownFlags",
                "supportedFlags",
            ],
        ),
        ("/linux/apparmor", &["enabled"]),
        ("/linux/selinux", &["enabled"]),
        ("/linux/memoryPolicy", &["modes", "flags"]),
        ("/linux/intelRdt", &["enabled", "schemata", "monitoring"]),
        ("/linux/mountExtensions", &["idmap"]),
    ];
    let mut seen = BTreeSet::new();
    for (pointer, defined) in table {
        for key in features
            .pointer(pointer)
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|map| map.keys())
        {
            ensure!(
                defined.contains(&key.as_str()),
                "{pointer}/{key} is not in the specification"
            );
            seen.insert(key.clone());
        }
    }
    ensure!(
        seen.contains("hooks") && seen.contains("seccomp"),
        "too little in {features}"
    );
    // features.md, Mount Options: what is data of a file system is not for this list.
    let options = features["mountOptions"].as_array().cloned().unwrap_or_default();
    for data in [
        "mode",
        "size",
        "uid",
        "gid",
        "nr_inodes",
        "newinstance",
        "ptmxmode",
        "lowerdir",
        "upperdir",
        "workdir",
    ] {
        let has = |option: &Value| {
            option
                .as_str()
                .is_some_and(|text| text.split('=').next() == Some(data))
        };
        ensure!(!options.iter().any(has), "mountOptions has {data}");
    }
    Ok(())
}

fn features_memory_policy_words_are_recognized(c: &mut Case) -> Check {
    let features = features(c)?;
    let words = |pointer: &str| {
        features
            .pointer(pointer)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let (modes, flags) = (
        words("/linux/memoryPolicy/modes"),
        words("/linux/memoryPolicy/flags"),
    );
    c.args(&["/bin/true"]);
    let without_nodes = [json!("MPOL_DEFAULT"), json!("MPOL_LOCAL")];
    let of_modes = modes.iter().map(|mode| match without_nodes.contains(mode) {
        true => json!({"mode": mode}),
        false => json!({"mode": mode, "nodes": "0"}),
    });
    let of_flags = flags
        .iter()
        .map(|flag| json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}));
    for policy in of_modes.chain(of_flags) {
        c.linux().memory_policy(policy.clone());
        let run = c.run()?;
        // What the kernel does not have is its error (since Linux 6.9), and no unknown word.
        if run.code() != 0 && policy["mode"] == json!("MPOL_WEIGHTED_INTERLEAVE") {
            run.refused_with("set_mempolicy")?;
            continue;
        }
        ensure!(run.code() == 0, "{policy}: {}", run.report());
    }
    Ok(())
}

/// A name, or the beginning of names, which then ends with a dot.
fn features_unsafe_annotations_are_names(c: &mut Case) -> Check {
    let features = features(c)?;
    let list = features["potentiallyUnsafeConfigAnnotations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for name in &list {
        let name = name.as_str().unwrap_or_default();
        let is_plain =
            !name.is_empty() && !name.contains(|letter: char| letter == '*' || letter.is_whitespace());
        ensure!(is_plain, "{name:?} is neither a name nor a prefix");
    }
    let annotations = features["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in &annotations {
        ensure!(
            !key.is_empty() && value.is_string(),
            "annotations: {key:?}: {value}"
        );
    }
    Ok(())
}

/// runtime-linux.md, File descriptors: three are open, whatever the caller has; what is behind them is the
/// runtime's choice.
fn streams_closed_by_the_caller_are_open(c: &mut Case) -> Check {
    c.shell("ls /proc/self/fd");
    let run = run_through(c, &["/bin/sh", "-c", "exec \"$@\" <&-", "sh"])?.ok()?;
    // The last one is what `ls` reads the directory by.
    let reality: Vec<&str> = run.stdout.lines().collect();
    same("descriptors", vec!["0", "1", "2", "3"], reality)
}

fn features_cgroup_version_is_true(c: &mut Case) -> Check {
    let cgroup = features(c)?["linux"]["cgroup"].clone();
    for (key, value) in cgroup.as_object().into_iter().flatten() {
        ensure!(value.is_boolean(), "linux.cgroup.{key}: {value}");
    }
    // The suite's tree is version 2.
    c.start_sleeper()?;
    let members = fs::read_to_string(c.cgroup().join("cgroup.procs"))?;
    let pid = c.pid()?.to_string();
    let is_in_it = members.lines().any(|member| member == pid);
    ensure!(is_in_it, "the container is not in {}", c.cgroup().display());
    same("linux.cgroup.v2", json!(true), cgroup["v2"].clone())
}

/// config.md, execCPUAffinity: after the process is in the cgroup only the kernel changes it: with a cpuset,
/// before Linux 6.2, to that of the cgroup.
fn affinity_without_final_is_left_alone(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let file = c.dir.join("process.json");
    let process = json!({
        "args": ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"], "cwd": "/",
        "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "1"}
    });
    fs::write(&file, process.to_string())?;
    let run = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?;
    let cpus = run.stdout.split_whitespace().last().unwrap_or_default();
    let of_the_cgroup = fs::read_to_string(c.cgroup().join("cpuset.cpus.effective")).unwrap_or_default();
    // Before Linux 6.2 the cpuset that a process comes into undoes what was asked of sched_setaffinity(2).
    if !Need::Kernel(6, 2).is_met(c.host) && cpus == of_the_cgroup.trim() {
        return Ok(());
    }
    same("Cpus_allowed_list", "1", cpus)
}

/// sched(7): SCHED_DEADLINE is for who may run on every processor. runc's suite looks for these words.
fn scheduler_deadline_within_a_cpuset_says_why(c: &mut Case) -> Check {
    c.config["linux"]["resources"] = json!({"cpu": {"cpus": "0"}});
    c.config["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000,
        "deadline": 10_000_000, "period": 20_000_000});
    c.create()?
        .wants(1)?
        .refused_with("process scheduler can't be used together with AllowedCPUs")?;
    c.nothing_left()
}

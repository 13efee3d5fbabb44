//! Runs in: SUITE. A creation can fail at any of its steps; whichever it is, nothing may be left behind. Each
//! line of the table breaks one step by a value of config.json that only the kernel, or the rootfs, can find
//! wrong. The scenarios break everything else: every system call of the container's process, one after the
//! other.

use crate::{
    case::Case,
    config::{Device, Mount},
    outcome::{Check, ensure, fail},
    tests::{faults, namespaces::ip},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

tests! {
    steps/each_failure_leaves_nothing,
    steps/each_failed_call_leaves_nothing,
}

type Break = fn(&mut Case) -> Check;

/// The step, in the order in which they are taken, and what breaks it.
const TABLE: &[(&str, Break)] = &[
    ("join a namespace", |c| {
        c.join_namespace("network", Some("/proc/self/status"));
        Ok(())
    }),
    ("become root", |c| {
        mapped(c, 1);
        Ok(())
    }),
    ("time offsets", |c| {
        c.join_namespace("time", None);
        c.linux()
            .time_offsets(json!({"monotonic": {"secs": -9_000_000_000_i64}}));
        Ok(())
    }),
    ("source of a mount in the rootfs", |c| {
        c.mount(Mount::bind("/mnt", "rootfs/nosuch").options(["bind"]));
        Ok(())
    }),
    ("place of a mount", |c| {
        fs::write(c.rootfs("/file"), "")?;
        c.mount(Mount::new().destination("/file/below").kind("tmpfs").source("t"));
        Ok(())
    }),
    ("file system", |c| {
        c.mount(
            Mount::new()
                .destination("/mnt")
                .kind("tmpfs")
                .source("t")
                .options(["size=wrong"]),
        );
        Ok(())
    }),
    ("copy up", |c| {
        fs::write(c.rootfs("/var/large"), vec![1; 100_000])?;
        c.mount(
            Mount::new()
                .destination("/var")
                .kind("tmpfs")
                .source("t")
                .options(["tmpcopyup", "size=4k"]),
        );
        Ok(())
    }),
    ("attach a mount", |c| {
        fs::write(c.rootfs("/file"), "")?;
        let source = c.dir.join("folder").to_string_lossy().into_owned();
        fs::create_dir_all(&source)?;
        c.mount(Mount::bind("/file", source).options(["bind"]));
        Ok(())
    }),
    ("device", |c| {
        fs::write(c.rootfs("/file"), "")?;
        c.linux()
            .devices([Device::new().path("/file").kind("c").major(1).minor(3)]);
        Ok(())
    }),
    ("prestart hook", |c| hook(c, "prestart")),
    ("createRuntime hook", |c| hook(c, "createRuntime")),
    ("createContainer hook", |c| hook(c, "createContainer")),
    ("working directory", |c| {
        fs::write(c.rootfs("/file"), "")?;
        c.process().cwd("/file/below");
        Ok(())
    }),
    ("sysctl", |c| {
        c.linux().sysctl(json!({"net.core.somaxconn": "many"}));
        Ok(())
    }),
    ("groups", |c| {
        mapped(c, 0);
        c.process().user().additional_gids([70_000]);
        Ok(())
    }),
    ("user", |c| {
        mapped(c, 0);
        c.process().user().clear().uid(70_000).gid(0);
        Ok(())
    }),
    ("label", |c| {
        c.process().selinux_label("system_u:system_r:of_no_policy_t:s0");
        Ok(())
    }),
    ("program", |c| {
        c.args(&["/bin/nosuch"]);
        Ok(())
    }),
];

fn mapped(c: &mut Case, first: u32) {
    c.join_namespace("user", None);
    let mapping = json!([{"containerID": first, "hostID": 100_000, "size": 1000}]);
    c.linux().uid_mappings(mapping.clone());
    c.linux().gid_mappings(mapping);
}

fn hook(c: &mut Case, kind: &str) -> Check {
    c.config["hooks"] = json!({kind: [{"path": "/bin/false"}]});
    Ok(())
}

fn each_failure_leaves_nothing(c: &mut Case) -> Check {
    let wrong = broken_configs(c, &mut Said::default())?;
    ensure!(wrong.is_empty(), "left behind:\n    {}", wrong.join("\n    "));
    Ok(())
}

fn broken_configs(c: &mut Case, said: &mut Said) -> Check<Vec<String>> {
    let config: Value = c.config.clone();
    let mut wrong = Vec::new();
    for (step, break_it) in TABLE {
        c.config = config.clone();
        break_it(c)?;
        let run = c.create()?;
        if run.code() == 0 {
            wrong.push(format!("{step}: create succeeds"));
            c.delete()?;
        }
        said.create.push(run.stderr);
        wrong.extend(c.leftovers().iter().map(|left| format!("{step}: {left}")));
        // So that the next line is not about this one.
        let _not_there = fs::remove_dir(c.cgroup());
    }
    c.config = config;
    Ok(wrong)
}

pub(crate) fn everything(c: &mut Case) -> Check {
    let hook = json!([{"path": "/bin/busybox", "args": ["true"]}]);
    c.hooks()
        .clear()
        .create_runtime(&hook)
        .create_container(&hook)
        .start_container(hook);
    c.document().domainname("example");
    c.document().root().readonly(true);
    let process = &mut c.config["process"];
    process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5]});
    process["noNewPrivileges"] = json!(true);
    process["cwd"] = json!("/home/new");
    process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 1});
    process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 5});
    let linux = &mut c.config["linux"];
    linux["rootfsPropagation"] = json!("shared");
    linux["sysctl"] = json!({"net.ipv4.tcp_keepalive_time": "1000"});
    linux["devices"] = json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3}]);
    linux["maskedPaths"] = json!(["/root", "/etc/group"]);
    linux["readonlyPaths"] = json!(["/etc"]);
    linux["personality"] = json!({"domain": "LINUX32"});
    linux["memoryPolicy"] = json!({"mode": "MPOL_PREFERRED", "nodes": "0"});
    linux["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]
    });
    Ok(())
}

pub(crate) fn user_namespace(c: &mut Case) -> Check {
    mapped(c, 0);
    let source = c.dir.join("source");
    fs::create_dir_all(&source)?;
    c.mount(Mount::bind("/mnt", source.to_string_lossy()).options(["rbind", "ro"]));
    c.mount(
        Mount::new()
            .destination("/var")
            .kind("tmpfs")
            .source("t")
            .options(["tmpcopyup"]),
    );
    c.mount(Mount::bind("/tmp", "rootfs/var").options(["rbind"]));
    Ok(())
}

pub(crate) fn offsets(c: &mut Case) -> Check {
    c.join_namespace("time", None);
    c.linux().time_offsets(json!({"monotonic": {"secs": 100}}));
    c.join_namespace("uts", Some("/proc/self/ns/uts"));
    if let Some(config) = c.config.as_object_mut() {
        config.remove("hostname");
    }
    Ok(())
}

pub(crate) fn terminal(c: &mut Case) -> Check {
    c.process().terminal(true);
    c.process().no_new_privileges(false);
    c.linux().seccomp().clear().default_action("SCMP_ACT_ALLOW");
    Ok(())
}

pub(crate) fn device(c: &mut Case) -> Check {
    c.linux().net_devices(json!({"filled in by the scenario": {}}));
    Ok(())
}

/// Another each time: the kernel takes a while to destroy one with the namespace that it was in.
pub(crate) fn new_device(c: &mut Case, number: usize) -> Check {
    let device = format!("device{number}");
    ip(c, &format!("link add {device} type veth"))?;
    c.linux().net_devices(json!({device: {"name": "eth0"}}));
    Ok(())
}

/// What the runtime says of failures, by the command that failed.
#[derive(Debug, Default)]
struct Said {
    create: Vec<String>,
    start: Vec<String>,
}

fn each_failed_call_leaves_nothing(c: &mut Case) -> Check {
    let mut said = Said::default();
    // What is left of those is the other test's matter.
    let _theirs = broken_configs(c, &mut said)?;
    let said = Mutex::new(said);
    // Every call; a sample in an emulated machine, where each asks for a hundred times as long.
    let stride = if c.host.is_emulated() { 10 } else { 1 };
    let wrong = faults::each_call_of_children(c, stride, |attempt| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.create.extend(attempt.create);
        said.start.extend(attempt.start);
    })?;
    ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    all_steps_have_failed(c, &said)
}

/// What this test does not break, and who does.
const ELSEWHERE: &[(&str, &str)] = &[(
    "Apparmor",
    "needs AppArmor: bad_input/apparmor_profile_that_is_not_loaded, in a machine",
)];

/// onggi's own list of steps beside its own words for them, read where its source is: a new step without a
/// fault fails.
fn all_steps_have_failed(c: &Case, said: &Said) -> Check {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| fs::read_to_string(root.join(file));
    let (Ok(steps), Ok(texts)) = (
        read("runtime-init/src/step.rs"),
        read("runtime-core/src/parent/explain.rs"),
    ) else {
        return Ok(());
    };
    if c.host.runtime_name != "onggi" || c.host.is_emulated() {
        return Ok(());
    }
    let mut missing = Vec::new();
    for step in names(&steps) {
        let has_failed = match step {
            "CreateContainerHook" => says(&said.create, "createContainer hook"),
            "StartContainerHook" => says(&said.start, "startContainer hook"),
            "FindProgram" => says(&said.create, "unable to start container process"),
            "Exec" => says(&said.start, "unable to start container process"),
            step => {
                let text = text_of(&texts, step)?;
                says(&said.create, text) || says(&said.start, text)
            }
        };
        let is_elsewhere = ELSEWHERE.iter().any(|(name, _)| *name == step);
        if has_failed == is_elsewhere {
            missing.push(step);
        }
    }
    ensure!(
        missing.is_empty(),
        "steps that no fault has broken (or that need not be in ELSEWHERE): {}",
        missing.join(", ")
    );
    Ok(())
}

fn says(texts: &[String], part: &str) -> bool {
    texts.iter().any(|text| text.contains(part))
}

/// The variants of the enum: lines of one word and a comma between `steps! {` and `}`.
fn names(source: &str) -> impl Iterator<Item = &str> {
    let list = source.split("steps! {").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| name.chars().all(char::is_alphanumeric))
}

/// `Step::NAME => "text",`
fn text_of<'a>(source: &'a str, step: &str) -> Check<&'a str> {
    let start = format!("Step::{step} => \"");
    let line = source.lines().find_map(|line| line.trim().strip_prefix(&start));
    match line.and_then(|rest| rest.strip_suffix("\",")) {
        Some(text) => Ok(text),
        None => fail(format!("explain.rs has no text for {step}")),
    }
}

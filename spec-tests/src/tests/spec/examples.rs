//! Runs in: SUITE. The examples of config.json that the schemas of the specification come with, run by the
//! runtime. They are documents and not bundles, so they get what a container needs: a program, a cgroup of
//! the test, no terminal.

use crate::{
    bundle::default_config,
    case::Case,
    outcome::{Check, Stop, ensure, fail},
    runner::{self, Run},
};
use serde_json::{Value, json};
use std::{fs, process::Command};

tests! {
    spec/schema_examples_that_are_good,
    spec/schema_examples_that_are_bad,
    spec/schema_example_with_every_field,
}

macro_rules! example {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../runtime-core/tests/fixtures/config/", $name)),
        )
    };
}

const MINIMAL: [(&str, &str); 2] = [
    example!("good/minimal.json"),
    example!("good/minimal-for-start.json"),
];
const OF_HARDWARE: [(&str, &str); 2] = [
    example!("good/linux-rdma.json"),
    example!("good/linux-netdevice.json"),
];
const EVERY_FIELD: (&str, &str) = example!("good/spec-example.json");
const BAD: [(&str, &str); 4] = [
    example!("bad/invalid-json.json"),
    example!("bad/linux-hugepage.json"),
    example!("bad/linux-netdevice.json"),
    example!("bad/linux-rdma.json"),
];

/// The example, with what it lacks to be a container of this test.
fn filled(c: &Case, text: &str) -> Check<Value> {
    let mut config: Value = serde_json::from_str(text)?;
    let plain = default_config(c.cgroups_path());
    if config["process"].is_null() {
        config["process"] = plain["process"].clone();
    }
    config["process"]["terminal"] = json!(false);
    config["linux"]["cgroupsPath"] = plain["linux"]["cgroupsPath"].clone();
    if config["linux"]["namespaces"].is_null() {
        config["linux"]["namespaces"] = plain["linux"]["namespaces"].clone();
    }
    Ok(config)
}

/// In a network namespace of the suite's: an example may name a device that the host has.
fn run_apart(c: &Case) -> Check<Run> {
    let mut command = Command::new("/usr/bin/unshare");
    command
        .arg("-n")
        .args(c.host.runtime_words())
        .arg("--root")
        .arg(&c.state_root)
        .args(c.bundle_args("run", &[], &c.id)?)
        .current_dir(&c.dir)
        .stdin(std::process::Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()
}

fn about(name: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Fail(text) => Stop::Fail(format!("{name}: {text}")),
        other => other,
    }
}

/// What no host needs more for runs. What is about hardware may be refused, by its name.
fn schema_examples_that_are_good(c: &mut Case) -> Check {
    for (name, text) in MINIMAL {
        c.config = filled(c, text)?;
        run_apart(c)?.ok().map_err(|stop| about(name, stop))?;
        c.nothing_left()?;
    }
    for ((name, text), words) in OF_HARDWARE
        .into_iter()
        .zip([["rdma", "mlx"], ["netDevices", "e"]])
    {
        c.config = filled(c, text)?;
        let run = run_apart(c)?;
        if run.code() != 0 {
            let run = run.refused().map_err(|stop| about(name, stop))?;
            let is_named = words.iter().all(|word| run.stderr.contains(word));
            ensure!(is_named, "{name}: wish {words:?} in the error: {}", run.report());
        }
        c.nothing_left()?;
    }
    Ok(())
}

fn schema_examples_that_are_bad(c: &mut Case) -> Check {
    c.config = filled(c, MINIMAL[0].1)?;
    let words = c.bundle_args("create", &[], &c.id)?;
    for (name, text) in BAD {
        let text = match filled(c, text) {
            Ok(config) => config.to_string(),
            // No JSON at all.
            Err(_) => text.to_owned(),
        };
        fs::write(c.bundle.join("config.json"), text)?;
        let run = c.rt(&words)?;
        if run.code() == 0 {
            c.delete()?;
            return fail(format!("{name} is accepted"));
        }
        run.refused().map_err(|stop| about(name, stop))?;
        c.nothing_left()?;
    }
    Ok(())
}

/// What in the large example no host has, or this one may lack: the text of a refusal, and what it names.
/// Each is taken out only after the runtime has refused it, so that whatever else is there is applied in the
/// end.
const LACKING: [(&str, &str); 19] = [
    ("ociVersion", "/ociVersion"),
    ("network.classID", "/linux/resources/network"),
    ("cpu.realtimeRuntime", "/linux/resources/cpu/realtimeRuntime"),
    // Another controller is not there, or has not so many processors or nodes.
    ("linux.resources.cpu", "/linux/resources/cpu"),
    ("linux.resources.memory", "/linux/resources/memory"),
    ("linux.resources.pids", "/linux/resources/pids"),
    ("linux.resources.blockIO", "/linux/resources/blockIO"),
    (
        "linux.resources.hugepageLimits",
        "/linux/resources/hugepageLimits",
    ),
    ("apparmor", "/process/apparmorProfile"),
    ("selinux", "/process/selinuxLabel"),
    ("mountLabel", "/linux/mountLabel"),
    ("prestart hook", "/hooks/prestart"),
    ("createRuntime hook", "/hooks/createRuntime"),
    ("createContainer hook", "/hooks/createContainer"),
    ("startContainer hook", "/hooks/startContainer"),
    ("poststart hook", "/hooks/poststart"),
    // Of a user namespace's network, only newer kernels show it.
    ("sysctl[net.core.somaxconn]", "/linux/sysctl/net.core.somaxconn"),
    ("/dev/sda", "/linux/devices/1"),
    ("/dev/fuse", "/linux/devices/0"),
];

fn take_out(config: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
    match config.pointer_mut(parent) {
        Some(Value::Object(map)) if name == "ociVersion" => {
            map.insert(name.to_owned(), json!("1.0.0"));
        }
        Some(Value::Object(map)) => {
            map.remove(name);
        }
        Some(Value::Array(list)) => {
            if let Some(index) = name.parse().ok().filter(|index| *index < list.len()) {
                list.remove(index);
            }
        }
        _ => {}
    }
}

fn schema_example_with_every_field(c: &mut Case) -> Check {
    let (name, text) = EVERY_FIELD;
    c.config = filled(c, text)?;
    // Root inside is 1000 outside, and makes the places of mounts.
    for directory in ["", "dev", "proc", "sys"] {
        nix::unistd::chown(&c.rootfs(directory), Some(1000.into()), Some(1000.into()))?;
    }
    // It is not there, which is a warning beside each error.
    take_out(&mut c.config, "/hooks/poststop");
    let mut taken_out = Vec::new();
    loop {
        let run = run_apart(c)?;
        if run.code() == 0 {
            break;
        }
        let run = run.refused().map_err(|stop| about(name, stop))?;
        c.nothing_left()?;
        let named = LACKING
            .iter()
            .filter(|(_, pointer)| !taken_out.contains(pointer))
            .find(|(word, _)| run.stderr.to_lowercase().contains(&word.to_lowercase()));
        let Some((_, pointer)) = named else {
            return fail(format!(
                "{name}: wish an error that names what this host lacks, after {taken_out:?}\n    reality: {}",
                run.report()
            ));
        };
        take_out(&mut c.config, pointer);
        taken_out.push(pointer);
    }
    // Of cgroup version 1 only.
    for pointer in ["/linux/resources/network", "/linux/resources/cpu/realtimeRuntime"] {
        let is_refused = taken_out.iter().any(|taken| pointer.starts_with(*taken));
        ensure!(is_refused, "{pointer} is accepted");
    }
    Ok(())
}

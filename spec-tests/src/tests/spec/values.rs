//! Runs in: SUITE. config.md, Valid values: what is missing or wrong in config.json is an error. Each table
//! has a right value beside the wrong ones, so that a refusal is for the value and not for something else.

use crate::{
    case::Case,
    config::{Device, Hook, IoPriority, Scheduler},
    outcome::{Check, ensure},
    tests::cgroups::{disk, every_field, scratch},
};
use serde_json::{Map, Value, json};

tests! {
    spec/process_values_that_are_wrong,
    spec/linux_values_that_are_wrong,
    spec/seccomp_values_that_are_wrong,
    spec/mapping_and_clock_values_that_are_wrong,
    spec/required_properties,
    spec/required_properties_of_linux,
    spec/required_properties_of_seccomp,
    spec/config_is_utf_8_without_doubles,
}

tests! {
    spec/required_properties_of_limits: &[ Controller("memory"), Controller("cpu"), Controller("pids"), Controller("io"), Controller("cpuset"), Controller("hugetlb"), ScratchDisk, ],
    spec/mount_label_without_selinux: &[NoPath("/sys/fs/selinux/enforce")],
}

/// Puts `value` at `pointer`, making the objects on the way. Entries of lists must be there.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for word in pointer.split('/').skip(1) {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Array(list) => match word.parse().ok().and_then(|index: usize| list.get_mut(index)) {
                Some(entry) => entry,
                None => return,
            },
            other => &mut other[word],
        };
    }
    *place = value;
}

/// Neither `create` nor `start` takes it. A runtime may look at the process only when it starts it.
fn is_refused(c: &Case) -> Check<bool> {
    let is_refused = c.create()?.code() != 0 || c.rt(&["start", &c.id])?.code() != 0;
    // What stays all the same is told at the end of the test.
    let _or_there_is_none = c.rt(&["delete", "--force", &c.id])?;
    Ok(is_refused)
}

/// The right value of each row runs, and none of the wrong ones. All that were taken are reported together.
fn each_wrong_value(c: &mut Case, table: &[(&str, Value, Vec<Value>)]) -> Check {
    c.args(&["/bin/true"]);
    let plain = c.config.clone();
    let mut taken = Vec::new();
    for (pointer, right, wrong) in table {
        // Null: a right value takes a controller that not every host has.
        if !right.is_null() {
            put(&mut c.config, pointer, right.clone());
            let run = c.run()?;
            ensure!(run.code() == 0, "{pointer}: {right} is right:\n{}", run.report());
        }
        for value in wrong {
            c.config = plain.clone();
            put(&mut c.config, pointer, value.clone());
            if !is_refused(c)? {
                taken.push(format!("{pointer}: {value}"));
            }
        }
        c.config = plain.clone();
    }
    ensure!(
        taken.is_empty(),
        "wrong values were taken:\n    {}",
        taken.join("\n    ")
    );
    Ok(())
}

fn process_values_that_are_wrong(c: &mut Case) -> Check {
    let nofile = |soft: Value| json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": 64}]);
    each_wrong_value(
        c,
        &[
            ("/root/readonly", json!(true), vec![json!("yes")]),
            ("/process/terminal", json!(false), vec![json!("no")]),
            ("/process/env", json!(["A=b"]), vec![json!([1]), json!("A=b")]),
            ("/process/cwd", json!("/tmp"), vec![json!("tmp"), json!("")]),
            ("/process/args", json!(["/bin/true"]), vec![json!([]), json!([5])]),
            (
                "/process/user/uid",
                json!(1),
                vec![json!(-1), json!(4_294_967_296_u64), json!("0")],
            ),
            ("/process/user/umask", json!(18), vec![json!(-1), json!("022")]),
            (
                "/process/user/additionalGids",
                json!([5]),
                vec![json!(["five"]), json!([-1])],
            ),
            (
                "/process/rlimits",
                nofile(json!(64)),
                vec![nofile(json!(-1)), nofile(json!("64"))],
            ),
            (
                "/process/capabilities",
                json!({"bounding": ["CAP_KILL"]}),
                vec![json!(["CAP_KILL"]), json!({"bounding": [5]})],
            ),
            ("/process/noNewPrivileges", json!(true), vec![json!("yes")]),
            (
                "/process/oomScoreAdj",
                json!(500),
                vec![json!(1001), json!("500")],
            ),
            (
                "/process/scheduler",
                json!({"policy": "SCHED_OTHER", "nice": 1}),
                vec![
                    json!({"policy": "OTHER"}),
                    // In the list of the specification, and in no kernel.
                    json!({"policy": "SCHED_ISO"}),
                    json!({"policy": "SCHED_FIFO", "priority": 100}),
                    json!({"policy": "SCHED_OTHER", "flags": ["RESET_ON_FORK"]}),
                ],
            ),
            (
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_BE", "priority": 4}),
                vec![
                    json!({"class": "BE", "priority": 4}),
                    json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
                    json!({"class": "IOPRIO_CLASS_BE", "priority": -1}),
                ],
            ),
            (
                "/process/execCPUAffinity",
                json!({"initial": "0", "final": "0"}),
                vec![
                    json!({"initial": "0-"}),
                    json!({"final": "zero"}),
                    json!({"final": 0}),
                ],
            ),
            ("/hostname", json!("name"), vec![json!(5)]),
            (
                "/hooks/createRuntime",
                json!([{"path": "/bin/true", "timeout": 5}]),
                vec![
                    json!({"path": "/bin/true"}),
                    json!([{"path": "/bin/true", "timeout": "5"}]),
                    json!([{"path": "/bin/true", "args": "true"}]),
                ],
            ),
            (
                "/annotations",
                json!({"a": "b"}),
                vec![json!(["a"]), json!({"a": {}})],
            ),
        ],
    )
}

fn linux_values_that_are_wrong(c: &mut Case) -> Check {
    let device = |path: &str, typ: &str| json!([{"path": path, "type": typ, "major": 1, "minor": 3}]);
    let rule = |rule: Value| json!([{"allow": false, "access": "rwm"}, rule]);
    each_wrong_value(
        c,
        &[
            (
                "/linux/devices",
                device("/dev/one", "c"),
                vec![
                    device("/dev/one", "x"),
                    device("/dev/one", "char"),
                    device("dev/one", "c"),
                    device("", "c"),
                ],
            ),
            (
                "/linux/resources/devices",
                rule(json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"})),
                vec![
                    rule(json!({"allow": true, "type": "p", "access": "rw"})),
                    rule(json!({"allow": "yes", "access": "rw"})),
                ],
            ),
            (
                "/linux/rootfsPropagation",
                json!("private"),
                vec![json!("secret"), json!(5)],
            ),
            (
                "/linux/personality",
                json!({"domain": "LINUX"}),
                vec![
                    json!({"domain": "LINUX64"}),
                    // There are no flags yet.
                    json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
                ],
            ),
            (
                "/linux/maskedPaths",
                json!(["/proc/kcore"]),
                vec![json!(["proc/kcore"]), json!("/proc/kcore")],
            ),
            (
                "/linux/readonlyPaths",
                json!(["/proc/sys"]),
                vec![json!(["proc/sys"]), json!("/proc/sys")],
            ),
            (
                "/linux/sysctl",
                json!({"net.ipv4.ip_forward": "1"}),
                vec![json!({"net.ipv4.ip_forward": 1})],
            ),
            (
                "/linux/resources/hugepageLimits",
                Value::Null,
                vec![
                    json!([{"pageSize": "2MiB", "limit": 0}]),
                    json!([{"pageSize": "2MB", "limit": -1}]),
                ],
            ),
            (
                "/linux/resources/blockIO",
                Value::Null,
                vec![json!({"weightDevice": [{"major": 8, "minor": 0}]})],
            ),
            (
                "/linux/resources/memory",
                Value::Null,
                vec![json!({"limit": -2}), json!({"limit": "1G"})],
            ),
            (
                "/linux/resources/cpu",
                Value::Null,
                vec![json!({"shares": -1}), json!({"cpus": 0})],
            ),
            (
                "/linux/netDevices",
                Value::Null,
                vec![json!({"eth0": {"name": "a/b"}}), json!({"eth0": "eth1"})],
            ),
        ],
    )
}

fn rule(key: &str, value: Value) -> Value {
    let mut rule = json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]});
    put(&mut rule, key, value);
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

fn seccomp_values_that_are_wrong(c: &mut Case) -> Check {
    let with = |key: &str, value: Value| {
        let mut seccomp = rule("/action", json!("SCMP_ACT_ERRNO"));
        put(&mut seccomp, key, value);
        seccomp
    };
    each_wrong_value(
        c,
        &[(
            "/linux/seccomp",
            rule("/action", json!("SCMP_ACT_ERRNO")),
            vec![
                with("/defaultAction", json!("ALLOW")),
                with("/defaultErrnoRet", json!("EPERM")),
                // SCMP_ACT_ALLOW returns none.
                with("/defaultErrnoRet", json!(5)),
                with("/architectures", json!(["x86_64"])),
                with("/flags", json!(["SECCOMP_FILTER_FLAG_NOSUCH"])),
                with("/syscalls", json!({})),
                rule("/names", json!([])),
                rule("/names", json!("getpriority")),
                rule("/action", json!("SCMP_ACT_DENY")),
                rule("/errnoRet", json!(-1)),
                // A call has six arguments.
                rule("/args/0/index", json!(6)),
                rule("/args/0/op", json!("SCMP_CMP_XOR")),
                rule("/args/0/value", json!("one")),
                with("/listenerMetadata", json!("x")),
            ],
        )],
    )
}

fn mapping_and_clock_values_that_are_wrong(c: &mut Case) -> Check {
    let whole = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    c.join_namespace("user", None);
    c.join_namespace("time", None);
    put(&mut c.config, "/linux/uidMappings", whole.clone());
    put(&mut c.config, "/linux/gidMappings", whole.clone());
    let range =
        |first: i64, host: i64, size: i64| json!([{"containerID": first, "hostID": host, "size": size}]);
    let overlapping = json!([
        {"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 9, "hostID": 100, "size": 10}
    ]);
    each_wrong_value(
        c,
        &[
            (
                "/linux/uidMappings",
                whole.clone(),
                vec![
                    range(0, 0, 0),
                    range(-1, 0, 10),
                    range(0, -1, 10),
                    range(0, 1 << 32, 10),
                    overlapping,
                ],
            ),
            (
                "/linux/timeOffsets",
                json!({"monotonic": {"secs": 100, "nanosecs": 5}, "boottime": {"secs": -1}}),
                vec![
                    json!({"realtime": {"secs": 1}}),
                    json!({"monotonic": {"secs": "1"}}),
                    json!({"monotonic": {"secs": 1, "nanosecs": 1_000_000_000}}),
                ],
            ),
        ],
    )
}

/// `owners` are objects in the configuration, each with the properties that it must have.
fn each_missing_property(c: &mut Case, owners: &[(&str, &[&str])]) -> Check {
    c.args(&["/bin/true"]);
    let run = c.run()?;
    ensure!(run.code() == 0, "with all properties:\n{}", run.report());
    let whole = c.config.clone();
    let mut taken = Vec::new();
    for (pointer, properties) in owners {
        for property in *properties {
            c.config = whole.clone();
            let owner = c.config.pointer_mut(pointer).and_then(Value::as_object_mut);
            let removed = owner.and_then(|owner| owner.remove(*property));
            ensure!(removed.is_some(), "the test has no {pointer}/{property}");
            if !is_refused(c)? {
                taken.push(format!("{pointer}/{property}"));
            }
        }
    }
    ensure!(
        taken.is_empty(),
        "taken without a property that is needed:\n    {}",
        taken.join("\n    ")
    );
    Ok(())
}

fn required_properties(c: &mut Case) -> Check {
    c.process().scheduler(Scheduler::new().policy("SCHED_OTHER"));
    c.process()
        .io_priority(IoPriority::new().class("IOPRIO_CLASS_BE").priority(4));
    c.hooks().poststop([Hook::new().path("/bin/true")]);
    each_missing_property(
        c,
        &[
            ("", &["ociVersion", "root", "process"]),
            ("/root", &["path"]),
            ("/mounts/0", &["destination"]),
            ("/process", &["args", "cwd"]),
            ("/process/rlimits/0", &["type", "soft", "hard"]),
            ("/process/scheduler", &["policy"]),
            ("/process/ioPriority", &["class"]),
            ("/hooks/poststop/0", &["path"]),
        ],
    )
}

fn required_properties_of_linux(c: &mut Case) -> Check {
    c.linux()
        .devices([Device::new().path("/dev/one").kind("c").major(1).minor(3)]);
    c.linux().personality(json!({"domain": "LINUX"}));
    each_missing_property(
        c,
        &[
            ("/linux/namespaces/0", &["type"]),
            ("/linux/devices/0", &["path", "type", "major", "minor"]),
            ("/linux/resources/devices/0", &["allow"]),
            ("/linux/personality", &["domain"]),
        ],
    )?;
    if let Some(linux) = c.config["linux"].as_object_mut() {
        // A user namespace may make no nodes.
        linux.remove("devices");
    }
    c.linux().personality(json!({"domain": "LINUX"}));
    c.resources().clear();
    c.linux()
        .namespaces(crate::bundle::default_config("")["linux"]["namespaces"].clone());
    c.join_namespace("user", None);
    for key in ["uidMappings", "gidMappings"] {
        c.config["linux"][key] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    }
    each_missing_property(c, &[("/linux/uidMappings/0", &["containerID", "hostID", "size"])])
}

fn required_properties_of_limits(c: &mut Case) -> Check {
    c.config["linux"]["resources"] = every_field(scratch(&disk()?)?)?.0;
    let block = |name: &str| format!("/linux/resources/blockIO/{name}/0");
    let throttles = ["ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"].map(|what| {
        (
            block(&format!("throttle{what}Device")),
            ["major", "minor", "rate"],
        )
    });
    let mut owners: Vec<(&str, &[&str])> = throttles
        .iter()
        .map(|(pointer, keys)| (pointer.as_str(), keys.as_slice()))
        .collect();
    let weights = block("weightDevice");
    owners.push((&weights, &["major", "minor", "weight"]));
    owners.push(("/linux/resources/hugepageLimits/0", &["pageSize", "limit"]));
    each_missing_property(c, &owners)
}

/// Without SELinux a label means nothing.
fn mount_label_without_selinux(c: &mut Case) -> Check {
    c.linux()
        .mount_label("system_u:object_r:container_file_t:s0:c1,c2");
    c.args(&["/bin/cat", "/proc/self/mountinfo"]);
    let mounts = c.run()?.ok()?.stdout;
    ensure!(!mounts.contains("context="), "a mount has a context:\n{mounts}");
    Ok(())
}

fn required_properties_of_seccomp(c: &mut Case) -> Check {
    c.config["linux"]["seccomp"] = rule("/action", json!("SCMP_ACT_ERRNO"));
    each_missing_property(
        c,
        &[
            ("/linux/seccomp", &["defaultAction"]),
            ("/linux/seccomp/syscalls/0", &["names", "action"]),
            ("/linux/seccomp/syscalls/0/args/0", &["index", "value", "op"]),
        ],
    )
}

/// glossary.md, JSON.
fn config_is_utf_8_without_doubles(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    c.write_config()?;
    let file = c.bundle.join("config.json");
    let text = std::fs::read_to_string(&file)?;
    let twice = text.replacen('{', "{\"hostname\": 5, ", 1);
    let latin = text.replacen("spec-test", "spec-\u{fc}", 1);
    // One byte, as in ISO 8859-1.
    let mut latin = latin.into_bytes();
    let Some(at) = latin.windows(2).position(|pair| pair == [0xc3, 0xbc]) else {
        return crate::outcome::fail("no host name in the config");
    };
    latin.remove(at);
    std::fs::write(&file, latin)?;
    let run = c.rt(&["create", "--bundle", "bundle", &c.id])?;
    ensure!(run.code() != 0, "config.json was taken although it is no UTF-8");
    run.refused()?;
    c.nothing_left()?;
    // A rule for the author. RFC 8259 tells what most parsers do: the last one counts. The first is no name.
    std::fs::write(&file, twice)?;
    let run = c.rt(&["create", "--bundle", "bundle", &c.id])?;
    if run.code() == 0 {
        return c.delete();
    }
    run.refused()?;
    c.nothing_left()
}

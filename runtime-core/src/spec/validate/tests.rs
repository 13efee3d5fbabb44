//! Runs in: RUNTIME. A table of documents, each one wrong thing away from a valid one, and what is said of
//! it.

use serde_json::{Value, json};

use crate::spec::{example, parse, parse_process, parse_resources, validate, validate_process};

/// The example with `value` at the JSON pointer `pointer`; what is on the way is made.
fn with(pointer: &str, value: Value) -> Value {
    let mut document: Value = serde_json::from_str(&example(None)).unwrap();
    set(&mut document, pointer, value);
    document
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    let mut at = document;
    for part in pointer.split('/').skip(1) {
        if at.is_array() {
            let list = at.as_array_mut().unwrap();
            if part == "-" {
                list.push(Value::Null);
            }
            let index = part.parse().unwrap_or(list.len() - 1);
            at = &mut list[index];
        } else {
            at = &mut at[part];
        }
    }
    *at = value;
}

fn verdict(document: &Value) -> Result<(), String> {
    let config = parse(document.to_string().into_bytes()).map_err(|error| error.to_string())?;
    validate(&config).map_err(|error| error.to_string())
}

fn without_namespace(typ: &str, pointer: &str, value: Value) -> Value {
    let mut document = with(pointer, value);
    let list = document["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != typ);
    document
}

#[track_caller]
fn refused(document: &Value, text: &str) {
    assert_eq!(verdict(document), Err(text.to_owned()));
}

#[test]
fn wrong_documents_and_what_is_said() {
    let table: &[(&str, Value, &str)] = &[
        ("/ociVersion", Value::Null, "ociVersion: missing"),
        (
            "/ociVersion",
            json!("2.0.0"),
            "ociVersion: \"2.0.0\": not a version 1.x.y",
        ),
        (
            "/ociVersion",
            json!("1.0"),
            "ociVersion: \"1.0\": not a version 1.x.y",
        ),
        (
            "/ociVersion",
            json!("1.0.0-rc..1"),
            "ociVersion: \"1.0.0-rc..1\": not a version 1.x.y",
        ),
        (
            "/annotations",
            json!({"": "x"}),
            "annotations[\"\"]: a key must not be empty",
        ),
        (
            "/linux/maskedPaths",
            json!(["/a", "b"]),
            "linux.maskedPaths[1]: \"b\": must be an absolute path",
        ),
        (
            "/linux/readonlyPaths",
            json!([""]),
            "linux.readonlyPaths[0]: \"\": must be an absolute path",
        ),
        ("/root", Value::Null, "root: root must be specified"),
        ("/root/path", json!(""), "root.path: must not be empty"),
        (
            "/process",
            Value::Null,
            "process: process property must not be empty",
        ),
        ("/process/args", json!([]), "process.args: args must not be empty"),
        (
            "/process/cwd",
            Value::Null,
            "process.cwd: Cwd property must not be empty",
        ),
        (
            "/process/cwd",
            json!("tmp"),
            "process.cwd: Cwd must be an absolute path",
        ),
        (
            "/process/env/1",
            json!("FOO"),
            "process.env[1]: invalid environment variable: \"FOO\"",
        ),
        (
            "/process/env/1",
            json!("=x"),
            "process.env[1]: invalid environment variable: \"=x\"",
        ),
        (
            "/process/env/1",
            json!("a=\0"),
            "process.env[1]: \"a=\\0\": holds a NUL byte",
        ),
        (
            "/process/user/uid",
            json!(4294967295u32),
            "process.user.uid: 4294967295: is not an id",
        ),
        (
            "/process/user/additionalGids",
            json!([1, 4294967295u32]),
            "process.user.additionalGids[1]: 4294967295: is not an id",
        ),
        (
            "/process/consoleSize",
            json!({"height": 65536, "width": 1}),
            "process.consoleSize.height: 65536: must be at most 65535",
        ),
        (
            "/process/rlimits/-",
            json!({"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}),
            "process.rlimits[1].type: \"RLIMIT_NOFILE\": given twice",
        ),
        (
            "/process/rlimits/0/soft",
            json!(1025),
            "process.rlimits[0]: RLIMIT_NOFILE: soft limit 1025 is above hard limit 1024",
        ),
        (
            "/process/capabilities/permitted",
            json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]),
            "process.capabilities.effective: CAP_AUDIT_WRITE: is not in the permitted set",
        ),
        (
            "/process/capabilities/inheritable",
            json!(["CAP_SYS_ADMIN"]),
            "process.capabilities.inheritable: CAP_SYS_ADMIN: is not in the bounding set",
        ),
        (
            "/process/oomScoreAdj",
            json!(1001),
            "process.oomScoreAdj: 1001: must be from -1000 to 1000",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "process.scheduler.nice: 20: must be from -20 to 19",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "priority": 1}),
            "process.scheduler.priority: scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR"}),
            "process.scheduler.priority: 0: must be from 1 to 99",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "priority": 1, "runtime": 1}),
            "process.scheduler: scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 3, "deadline": 2}),
            "process.scheduler: not 0 < runtime (3) <= deadline (2) <= period (2)",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "process.ioPriority.priority: invalid ioPriority.Priority: 8",
        ),
        (
            "/process/execCPUAffinity",
            json!({"final": "3-1"}),
            "process.execCPUAffinity.final: \"3-1\": not a list of processors",
        ),
        (
            "/hostname",
            json!("a".repeat(65)),
            "hostname: 65 bytes: must be at most 64",
        ),
        (
            "/hooks",
            json!({"poststop": [{"path": "/x"}, {"path": "true"}]}),
            "hooks.poststop[1].path: \"true\": must be an absolute path",
        ),
        (
            "/hooks",
            json!({"prestart": [{"path": "/x", "timeout": 0}]}),
            "hooks.prestart[0].timeout: 0: must be greater than zero",
        ),
    ];
    for (pointer, value, text) in table {
        refused(&with(pointer, value.clone()), text);
    }
}

#[test]
fn wrong_mounts() {
    let table: &[(Value, &str)] = &[
        (
            json!({"type": "tmpfs"}),
            "mounts[7].destination: must not be empty",
        ),
        (
            json!({"destination": "/a/..", "type": "tmpfs"}),
            "mounts[7].destination: mountpoint \"/a/..\" is on the top of rootfs",
        ),
        (
            json!({"destination": "x/../proc/./sys", "type": "tmpfs"}),
            "mounts[7].destination: \"x/../proc/./sys\" cannot be mounted because it is inside /proc",
        ),
        (
            json!({"destination": "/proc/", "type": "tmpfs"}),
            "mounts[7].destination: \"/proc/\" cannot be mounted because it is not of type proc",
        ),
        (
            json!({"destination": "/x", "source": "/y", "options": ["rbind", "ro", "size=1"]}),
            "mounts[7].options[2]: \"size=1\": bind mounts cannot have any filesystem-specific options applied",
        ),
        (
            json!({"destination": "/x", "type": "bind", "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
            "mounts[7].gidMappings: missing: an id-mapped mount must have both uidMappings and gidMappings",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
            "mounts[7].uidMappings: id-mapped mounts are only supported for bind-mounts",
        ),
        (
            json!({"destination": "/x", "type": "bind", "options": ["idmap"]}),
            "mounts[7].options: idmap needs uidMappings and gidMappings, or a user namespace of the container",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["ro", "dest-nofollow"]}),
            "mounts[7].options[1]: dest-nofollow is for bind mounts only",
        ),
        (
            json!({"destination": "/x", "type": "bind", "options": ["src-nofollow", "copy-symlink"]}),
            "mounts[7].options[0]: src-nofollow and copy-symlink exclude each other",
        ),
        (
            json!({"destination": "/x", "type": "bind", "options": ["copy-symlink", "remount"]}),
            "mounts[7].options[0]: copy-symlink is about the source, and a remount has none",
        ),
    ];
    for (mount, text) in table {
        refused(&with("/mounts/-", mount.clone()), text);
    }
}

#[test]
fn wrong_namespaces() {
    let table: &[(&str, Value, &str)] = &[
        (
            "/linux/namespaces/-",
            json!({"type": "pid"}),
            "linux.namespaces[6]: malformed spec file: duplicated ns {\"pid\" \"\"}",
        ),
        (
            "/linux/namespaces/0/path",
            json!("proc/1/ns/pid"),
            "linux.namespaces[0].path: \"proc/1/ns/pid\": must be an absolute path",
        ),
        (
            "/linux/namespaces/-",
            json!({"type": "user"}),
            "linux.uidMappings: User namespaces enabled, but no uid mappings found.",
        ),
        (
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "linux.gidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
        ),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1}}),
            "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config",
        ),
    ];
    for (pointer, value, text) in table {
        refused(&with(pointer, value.clone()), text);
    }
    refused(
        &without_namespace("uts", "/domainname", json!("")),
        "hostname: unable to set hostname without a private UTS namespace",
    );
    refused(
        &without_namespace("mount", "/mounts", json!([])),
        "linux.maskedPaths: unable to restrict sys entries without a private MNT namespace",
    );
}

#[test]
fn wrong_mappings() {
    let map = |host: u32, first: u32, size: u32| json!({"hostID": host, "containerID": first, "size": size});
    let table = [
        (vec![map(0, 0, 0)], "linux.uidMappings[0]: size must not be 0"),
        (
            vec![map(u32::MAX, 0, 2)],
            "linux.uidMappings[0]: goes beyond the highest id",
        ),
        (
            vec![map(0, 0, 10), map(100, 9, 1)],
            "linux.uidMappings[1]: overlaps with linux.uidMappings[0]",
        ),
        (
            vec![map(0, 0, 10), map(9, 10, 1)],
            "linux.uidMappings[1]: overlaps with linux.uidMappings[0]",
        ),
        (
            vec![map(0, 1, 10)],
            "process.user.uid: 0: is not in linux.uidMappings (cannot set uid to unmapped user in user namespace)",
        ),
    ];
    for (mappings, text) in table {
        let mut document = with("/linux/namespaces/-", json!({"type": "user"}));
        document["linux"]["gidMappings"] = json!([map(0, 0, 1)]);
        document["linux"]["uidMappings"] = Value::Array(mappings);
        refused(&document, text);
    }
}

#[test]
fn wrong_linux() {
    let table: &[(&str, Value, &str)] = &[
        (
            "/linux/devices",
            json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]),
            "linux.devices[0].path: \"dev/x\": must be an absolute path",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "b", "major": 4096, "minor": 3}]),
            "linux.devices[0].major: 4096: must be from 0 to 4095",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
            "linux.personality.flags: \"ADDR_NO_RANDOMIZE\": is not supported",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "op": "SCMP_CMP_EQ"}]}]}),
            "linux.seccomp.syscalls[0].args[0].value: missing",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "hard": 5}]),
            "process.rlimits[0].soft: missing",
        ),
        (
            "/linux/sysctl",
            json!({"vm/swappiness": "1"}),
            "linux.sysctl[\"vm/swappiness\"]: sysctl \"vm.swappiness\" is not in a separate kernel namespace",
        ),
        (
            "/linux/sysctl",
            json!({"kernel.hostname": "x"}),
            "linux.sysctl[\"kernel.hostname\"]: sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \
             \"hostname\" field",
        ),
        (
            "/linux/sysctl",
            json!({"net.//.vm.swappiness": "1"}),
            "linux.sysctl[\"net.//.vm.swappiness\"]: sysctl \"net.//.vm.swappiness\" has an empty part, or one that is \
             \".\" or \"..\"",
        ),
        (
            "/linux/sysctl",
            json!({"user.max_user_namespaces": "1"}),
            "linux.sysctl[\"user.max_user_namespaces\"]: sysctl \"user.max_user_namespaces\" is not in a separate \
             kernel namespace",
        ),
        (
            "/linux/rootfsPropagation",
            json!("foo"),
            "linux.rootfsPropagation: rootfsPropagation=\"foo\" is not supported",
        ),
        (
            "/linux/intelRdt",
            json!({"closID": "../x"}),
            "linux.intelRdt.closID: invalid intelRdt.ClosID \"../x\"",
        ),
        (
            "/linux/intelRdt",
            json!({"schemata": ["MB:0=1", "a\nb"]}),
            "linux.intelRdt.schemata[1]: \"a\\nb\": must be one line",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND"}),
            "linux.memoryPolicy.nodes: MPOL_BIND needs nodes",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "a b"}}),
            "linux.netDevices[\"eth0\"].name: invalid network device name \"a b\"",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "a%d%d"}}),
            "linux.netDevices[\"eth0\"].name: invalid network device name \"a%d%d\"",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "eth1"}, "eth1": {}}),
            "linux.netDevices[\"eth1\"].name: two devices cannot both be called \"eth1\"",
        ),
        (
            "/linux/netDevices",
            json!({"sixteen-letters-": {}}),
            "linux.netDevices[\"sixteen-letters-\"]: invalid network device name \"sixteen-letters-\"",
        ),
    ];
    for (pointer, value, text) in table {
        refused(&with(pointer, value.clone()), text);
    }
    refused(
        &without_namespace("network", "/linux/sysctl", json!({"net.core.somaxconn": "1"})),
        "linux.sysctl[\"net.core.somaxconn\"]: sysctl \"net.core.somaxconn\" not allowed in host network namespace",
    );
    refused(
        &without_namespace("ipc", "/linux/sysctl", json!({"kernel.sem": "1"})),
        "linux.sysctl[\"kernel.sem\"]: sysctl \"kernel.sem\" is not allowed in the hosts ipc namespace",
    );
    refused(
        &without_namespace("network", "/linux/netDevices", json!({"eth0": {}})),
        "linux.netDevices: unable to move network devices without a private NET namespace",
    );
}

#[test]
fn wrong_resources() {
    let table = [
        (
            json!({"devices": [{"allow": true}]}),
            "devices[0].access: device access field cannot be empty",
        ),
        (
            json!({"devices": [{"allow": true, "type": "p", "access": "r"}]}),
            "devices[0].type: invalid cgroup device type \"p\"",
        ),
        (
            json!({"memory": {"swap": 10}}),
            "memory.swap: unable to set swap limit without memory limit",
        ),
        (
            json!({"memory": {"limit": 11, "swap": 10}}),
            "memory.swap: memory+swap limit should be >= memory limit",
        ),
        (
            json!({"memory": {"limit": -2}}),
            "memory.limit: -2: must be a number of bytes, or -1 for no limit",
        ),
        (json!({"cpu": {"idle": 2}}), "cpu.idle: 2: must be 0 or 1"),
        (
            json!({"blockIO": {"weight": 9}}),
            "blockIO.weight: 9: must be from 10 to 1000",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "64kB", "limit": 1}]}),
            "hugepageLimits[0].pageSize: \"64kB\": is no page size, as in 64KB, 2MB or 1GB",
        ),
        (
            json!({"rdma": {"mlx5_1": {}}}),
            "rdma[\"mlx5_1\"]: needs hcaHandles or hcaObjects",
        ),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}),
            "blockIO.weightDevice[0]: needs weight or leafWeight",
        ),
        (
            json!({"rdma": {"a b": {}}}),
            "rdma[\"a b\"]: is not the name of a device",
        ),
        (
            json!({"unified": {"../memory.max": "1"}}),
            "unified[\"../memory.max\"]: unified resource \"../memory.max\" must be a file name (no slashes)",
        ),
        (
            json!({"unified": {"..": "1"}}),
            "unified[\"..\"]: unable to set unified resource \"..\": no controller in it",
        ),
    ];
    for (resources, text) in table {
        refused(
            &with("/linux/resources", resources.clone()),
            &format!("linux.resources.{text}"),
        );
        let (typed, _) = parse_resources(resources.to_string().as_bytes()).unwrap();
        let error = super::validate_resources(&typed).unwrap_err();
        assert_eq!(error.to_string(), format!("linux.resources.{text}"));
    }
}

#[test]
fn documents_that_engines_write() {
    let table: &[(&str, Value)] = &[
        (
            "/mounts/-",
            json!({"destination": "data", "type": "tmpfs", "options": ["size=1m", "tmpcopyup"]}),
        ),
        (
            "/mounts/-",
            json!({"destination": "/proc/cpuinfo", "source": "/x", "options": ["bind", "z"]}),
        ),
        ("/mounts/-", json!({"destination": "/processes", "type": "tmpfs"})),
        ("/linux/namespaces/0/path", json!("/proc/1/ns/pid")),
        ("/linux/namespaces/0/path", json!("")),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "kernel/shmmax": "1", "kernel.domainname": "x"}),
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 8624}]),
        ),
        ("/linux/devices", json!([{"path": "/fifo", "type": "p"}])),
        (
            "/linux/resources/memory",
            json!({"limit": 10, "swap": -1, "swappiness": 60}),
        ),
        (
            "/linux/resources/unified",
            json!({"memory.high": "1", "cgroup.type": "threaded"}),
        ),
        ("/linux/rootfsPropagation", json!("rshared")),
        (
            "/linux/netDevices",
            json!({"eth0": {}, "eth1": {"name": "net%d"}, "eth2": {"name": "net%d"}, "eth3": {"name": ""}}),
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}),
        ),
        ("/process/consoleSize", json!({"height": 0, "width": 0})),
        (
            "/process/execCPUAffinity",
            json!({"initial": "", "final": "0-1, 3"}),
        ),
        (
            "/process/capabilities/ambient",
            json!(["CAP_SYS_ADMIN", "CAP_NOT_YET_THERE"]),
        ),
        ("/linux/seccomp", json!({"defaultAction": ""})),
        (
            "/hooks",
            json!({"createRuntime": [{"path": "/bin/true", "timeout": 5}]}),
        ),
        ("/windows", json!({"layerFolders": 3})),
    ];
    for (pointer, value) in table {
        assert_eq!(
            verdict(&with(pointer, value.clone())),
            Ok(()),
            "{pointer} {value}"
        );
    }
    let mut joined = with(
        "/linux/namespaces/-",
        json!({"type": "user", "path": "/proc/1/ns/user"}),
    );
    assert_eq!(verdict(&joined), Ok(()));
    set(&mut joined, "/process/user/uid", json!(1000));
    assert_eq!(
        verdict(&joined),
        Ok(()),
        "only the kernel knows the mappings of a namespace that is joined"
    );
}

#[test]
fn a_process_file_is_judged_like_the_process() {
    let (process, extra) = parse_process(br#"{"args":["sh"],"cwd":"/","env":["A"]}"#).unwrap();
    let error = validate_process(&process, &extra).unwrap_err();
    assert_eq!(
        error.to_string(),
        "process.env[0]: invalid environment variable: \"A\""
    );
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
}

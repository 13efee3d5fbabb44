//! What the fuzz targets share: a host that does not exist, and the way from bytes to a plan.
//!
//! Nothing here does I/O: `Plan::new` is pure, and `HostFacts` are made up. A target fails by a panic, an
//! overflow (debug assertions are on), or an assertion about what the plan promises to the child.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Seek, Write};

use runtime_core::unstable::plan::ProcessPlan;
use runtime_core::unstable::plan::{CallerOptions, ConsoleRequest, HostFacts, Plan};
use runtime_core::unstable::spec;
use serde_json::{Value, json};

/// Longest path that the kernel takes, with its null.
const PATH_MAX: usize = 4096;

/// CallerOptions under which configurations with and without a terminal are legal.
pub fn caller() -> CallerOptions<'static> {
    CallerOptions {
        console: ConsoleRequest::Optional,
        ..CallerOptions::default()
    }
}

/// The way of `create` from the bytes of config.json to the plan, as far as the document is legal.
pub fn plan_of(json: Vec<u8>) -> Option<Plan> {
    let config = spec::parse(json).ok()?;
    spec::validate(&config).ok()?;
    let plan = Plan::new(&config, "fuzz", &HostFacts::of_root(), caller()).ok()?;
    check(&plan);
    Some(plan)
}

/// What the child relies on without looking.
pub fn check(plan: &Plan) {
    for mount in &plan.mounts {
        is_clean(&mount.target);
    }
    for node in &plan.devices.nodes {
        is_clean(&node.directory);
        let name = node.name.to_bytes();
        assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
    }
    for path in plan.rootfs.readonly_paths.iter().chain(&plan.rootfs.masked_paths) {
        is_clean(path);
    }
    check_process(&plan.process);
    for sysctl in &plan.sysctl {
        is_clean(&sysctl.path);
        assert!(sysctl.path.to_bytes().starts_with(b"sys/"));
    }
    if let Some(seccomp) = &plan.seccomp {
        assert!(!seccomp.program.is_empty() && seccomp.program.len() <= 4096);
    }
}

/// What EXEC relies on, and INIT.
pub fn check_process(plan: &ProcessPlan) {
    is_clean(&plan.cwd);
    // With an empty PATH there is nowhere to look for the program.
    assert!(!plan.argv.is_empty());
    for candidate in &plan.candidates {
        let is_path = candidate.to_bytes().contains(&b'/');
        assert!(is_path || candidate.is_empty(), "{candidate:?}");
    }
    let names: Vec<&[u8]> = plan.envp.iter().map(|entry| name_of(entry.to_bytes())).collect();
    for (place, name) in names.iter().enumerate() {
        assert!(
            !name.is_empty() && !names[..place].contains(name),
            "{:?}",
            plan.envp
        );
    }
    assert!(plan.rlimits.iter().all(|limit| limit.soft <= limit.hard));
    assert!(plan.late_rlimits.iter().all(|limit| limit.soft <= limit.hard));
    assert!(plan.uid != u32::MAX && plan.gid != u32::MAX);
}

fn name_of(entry: &[u8]) -> &[u8] {
    entry.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// A path in the container as `runtime_init::args` promises it: no leading slash, no empty component, no `.`,
/// no `..`. One that is longer than the kernel takes is refused by the child itself.
pub fn is_clean(path: &CStr) {
    let bytes = path.to_bytes();
    if bytes.is_empty() || bytes.len() >= PATH_MAX {
        return;
    }
    for component in bytes.split(|byte| *byte == b'/') {
        assert!(!matches!(component, b"" | b"." | b".."), "{path:?}");
    }
}

/// A small legal config.json, to put the fuzzed part into.
pub fn document() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
    })
}

/// The config.json of a container whose process is confined by all that `exec` takes over.
pub fn confined() -> spec::Config {
    let mut document = document();
    let process = &mut document["process"];
    process["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
    });
    process["apparmorProfile"] = json!("confined");
    process["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2");
    process["oomScoreAdj"] = json!(500);
    process["noNewPrivileges"] = json!(true);
    process["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7});
    process["scheduler"] = json!({"policy": "SCHED_IDLE"});
    spec::parse(document.to_string().into_bytes()).expect("a legal document")
}

/// A file in memory with these bytes, read from its beginning.
pub fn file_of(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create(c"fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let mut file = File::from(file);
    file.write_all(bytes)
        .and_then(|()| file.rewind())
        .expect("memory");
    file
}

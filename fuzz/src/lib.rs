//! What the fuzz targets share: a host that does not exist, and the way from bytes to a plan.
//!
//! Nothing here does I/O: `Plan::new` is pure, and `HostFacts` are made up. A target fails by a panic, an overflow
//! (debug assertions are on), or an assertion about what the plan promises to the child.

use std::ffi::CStr;
use std::path::PathBuf;

use runtime_core::plan::{ConsoleWish, HostFacts, Plan, Wishes};
use runtime_core::spec;
use serde_json::{Value, json};

/// Longest path that the kernel takes, with its null.
const PATH_MAX: usize = 4096;

/// A host of which nothing is real.
pub fn host() -> HostFacts {
    HostFacts {
        bundle: PathBuf::from("/bundle"),
        last_capability: 40,
        permitted_capabilities: u64::MAX >> 23,
    }
}

/// Wishes under which configurations with and without a terminal are legal.
pub fn wishes() -> Wishes {
    Wishes {
        console: ConsoleWish::Welcome,
        ..Wishes::default()
    }
}

/// The way of `create` from the bytes of config.json to the plan, as far as the document is legal.
pub fn plan_of(json: Vec<u8>) -> Option<Plan> {
    let config = spec::parse(json).ok()?;
    spec::validate(&config).ok()?;
    let plan = Plan::new(&config, "fuzz", &host(), wishes()).ok()?;
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
    is_clean(&plan.process.cwd);
    for sysctl in &plan.sysctl {
        is_clean(&sysctl.path);
        assert!(sysctl.path.to_bytes().starts_with(b"sys/"));
    }
    if let Some(seccomp) = &plan.seccomp {
        assert!(!seccomp.program.is_empty() && seccomp.program.len() <= 4096);
    }
}

/// A path in the container as `runtime_init::args` promises it: no leading slash, no empty component, no `.`, no `..`.
/// One that is longer than the kernel takes is refused by the child itself.
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

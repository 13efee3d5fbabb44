//! Runs in: SUITE. Sentences of the runtime-spec that no other topic has a reason to test: values
//! that must be refused, fields that are rare.

use crate::{
    case::Case,
    config::{Device, Hook, IoPriority, Mount, Scheduler, Syscall},
    outcome::{Check, Stop, contains, ensure, fail, same},
    seen,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt};

tests! {
    spec/cgroup_is_not_given_away_without_a_writable_mount,
    spec/version_not_semver_is_refused,
    spec/annotation_with_empty_key_is_refused,
    spec/annotation_value_must_be_a_string,
    spec/annotations_unknown_and_empty_are_kept,
    spec/sections_of_other_platforms_are_ignored,
    spec/namespace_path_must_be_absolute,
    spec/mapping_changes_no_owner,
    spec/device_that_is_listed_twice,
    spec/cgroups_path_relative_is_stable,
    spec/unified_writes_files_it_does_not_know,
    spec/unified_of_a_missing_controller_is_refused,
    spec/rdma_entry_without_a_limit,
    spec/masked_path_must_be_absolute,
    spec/readonly_path_must_be_absolute,
    spec/dev_links_need_their_source,
    spec/hook_timeout_of_zero_is_refused,
    spec/hook_paths_must_be_absolute,
    spec/seccomp_names_must_not_be_empty,
    spec/seccomp_metadata_needs_a_listener,
    spec/scheduler_policies,
    spec/scheduler_deadline,
    spec/scheduler_reset_on_fork,
    spec/scheduler_every_flag,
    spec/io_priority_classes,
    spec/personality_linux,
    spec/memory_policy,
    spec/memory_policy_of_every_mode,
    spec/memory_policy_without_nodes_is_refused,
    spec/intel_rdt_schema_with_two_lines_is_refused,
    spec/container_follows_config_not_the_caller,
}

pub(super) fn refused(c: &Case, text: &str) -> Check {
    c.create()?.refused_with(text)?;
    c.nothing_left()
}

fn cgroup_is_not_given_away_without_a_writable_mount(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(["ro"]),
    );
    c.start_sleeper()?;
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        same(file, 0, fs::metadata(c.cgroup().join(file))?.uid())?;
    }
    Ok(())
}

fn version_not_semver_is_refused(c: &mut Case) -> Check {
    for version in [
        "", "one", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.x", "1.0.0-", "2.0.0",
    ] {
        c.document().oci_version(version);
        let run = c.create()?;
        ensure!(run.code() != 0, "ociVersion {version:?} was accepted");
    }
    for version in ["1.0.0", "1.0.2-dev", "1.2.0+build.5", "1.3.0-rc.1+x-y"] {
        c.document().oci_version(version);
        c.run()?.ok()?;
    }
    c.nothing_left()
}

fn annotation_with_empty_key_is_refused(c: &mut Case) -> Check {
    c.document().annotations(json!({"": "value"}));
    refused(c, "")
}

fn annotation_value_must_be_a_string(c: &mut Case) -> Check {
    c.document().annotations(json!({"com.example.key": 5}));
    refused(c, "")
}

fn annotations_unknown_and_empty_are_kept(c: &mut Case) -> Check {
    let annotations =
        json!({"com.example.unknown": "x", "com.example.empty": "", "org.opencontainers.image.os": "linux"});
    c.document().annotations(annotations.clone());
    c.start_sleeper()?;
    same("annotations", annotations, c.state()?["annotations"].clone())
}

fn sections_of_other_platforms_are_ignored(c: &mut Case) -> Check {
    c.document()
        .windows(json!({"layerFolders": ["C:\\layer"], "ignoreFlushesDuringBoot": true}));
    c.document().vm(json!({"hypervisor": {"path": "/hypervisor"}, "kernel": {"path": "/kernel"}, "hwConfig": {"vcpus": 2, "memory": 4096, "dtdevs": ["path"], "irqs": [5], "iomems": [{"firstMFN": 1, "nrMFNs": 1}]}}));
    c.document().zos(json!({"namespaces": [{"type": "mount"}]}));
    c.document()
        .solaris(json!({"milestone": "svc:/milestone/container:default"}));
    c.document().freebsd(json!({"jail": {"parent": "p"}}));
    same("output", "fine", c.sh("echo fine")?.as_str())
}

fn namespace_path_must_be_absolute(c: &mut Case) -> Check {
    c.join_namespace("network", Some("proc/self/ns/net"));
    refused(c, "")
}

fn mapping_changes_no_owner(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    let owners = |c: &Case| -> Check<Vec<(u32, u32)>> {
        let files = ["/etc/passwd", "/bin", "/bin/busybox", "/tmp"];
        files
            .iter()
            .map(|file| Ok(fs::symlink_metadata(c.rootfs(file)).map(|stat| (stat.uid(), stat.gid()))?))
            .collect()
    };
    let before = owners(c)?;
    c.run()?.ok()?;
    same("owners in the rootfs", before, owners(c)?)
}

fn device_that_is_listed_twice(c: &mut Case) -> Check {
    // "SHOULD NOT" is for whoever writes the document; two names for one device are no reason to fail.
    c.linux().devices([
        Device::new().path("/dev/one").kind("c").major(1).minor(3),
        Device::new().path("/dev/two").kind("c").major(1).minor(3),
    ]);
    let report = c.probe(&["--stat", "/dev/one", "--stat", "/dev/two"])?;
    for path in ["/dev/one", "/dev/two"] {
        same(path, json!("char"), report.stat[path].kind.clone())?;
    }
    Ok(())
}

fn cgroups_path_relative_is_stable(c: &mut Case) -> Check {
    let path = format!("{}-relative/ctr", c.id);
    c.linux().cgroups_path(&path);
    c.drop_namespace("cgroup");
    let mut places = Vec::new();
    for _ in 0..2 {
        let report = c.probe(&[])?;
        let lines = report.cgroup.as_str().to_owned();
        let line = lines
            .lines()
            .find(|line| line.starts_with("0::"))
            .unwrap_or_default()
            .to_owned();
        ensure!(
            line.ends_with(&path),
            "wish a cgroup that ends with {path}, reality {line:?}"
        );
        places.push(line);
    }
    let [first, second] = places.as_slice() else {
        return fail("two runs");
    };
    let parent = c.host.cgroup2.join(first.trim_start_matches("0::/"));
    if let Some(parent) = parent
        .parent()
        .filter(|parent| parent.ends_with(format!("{}-relative", c.id)))
    {
        // The runtime may leave parents, which it may not have made.
        let _may_be_gone = fs::remove_dir(parent);
    }
    same("the second place", first, second)
}

fn unified_writes_files_it_does_not_know(c: &mut Case) -> Check {
    c.resources()
        .unified(json!({"cgroup.max.descendants": "7", "cgroup.max.depth": "3"}));
    c.start_sleeper()?;
    for (file, wish) in [("cgroup.max.descendants", "7"), ("cgroup.max.depth", "3")] {
        same(file, wish, fs::read_to_string(c.cgroup().join(file))?.trim())?;
    }
    Ok(())
}

fn unified_of_a_missing_controller_is_refused(c: &mut Case) -> Check {
    c.resources().unified(json!({"nosuch.max": "1"}));
    refused(c, "nosuch")
}

fn rdma_entry_without_a_limit(c: &mut Case) -> Check {
    c.resources().rdma(json!({"mlx5_1": {}}));
    refused(c, "")
}

fn masked_path_must_be_absolute(c: &mut Case) -> Check {
    c.linux().masked_paths(["etc/passwd"]);
    refused(c, "")
}

fn readonly_path_must_be_absolute(c: &mut Case) -> Check {
    c.linux().readonly_paths(["etc"]);
    refused(c, "")
}

fn dev_links_need_their_source(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let dev = format!("/proc/{}/root/dev", c.pid()?);
    for (name, wish) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let target = fs::read_link(format!("{dev}/{name}"))?;
        same(
            name,
            format!("/proc/self/fd{wish}"),
            target.to_string_lossy().into_owned(),
        )?;
    }
    c.delete()?;
    let report = c.probe(&["--stat", "/dev/fd", "--stat", "/dev/stdin"])?;
    same(
        "/dev/fd",
        Some("/proc/self/fd"),
        report.stat["/dev/fd"].target.as_deref(),
    )?;
    same(
        "/dev/stdin",
        Some("/proc/self/fd/0"),
        report.stat["/dev/stdin"].target.as_deref(),
    )
}

fn hook_timeout_of_zero_is_refused(c: &mut Case) -> Check {
    for timeout in [0, -1] {
        c.hooks()
            .create_runtime([Hook::new().path("/bin/true").timeout(timeout)]);
        refused(c, "")?;
    }
    Ok(())
}

fn hook_paths_must_be_absolute(c: &mut Case) -> Check {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        c.config["hooks"] = json!({kind: [{"path": "bin/true"}]});
        refused(c, "")?;
    }
    Ok(())
}

fn seccomp_names_must_not_be_empty(c: &mut Case) -> Check {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .syscalls([Syscall::new().names(json!([])).action("SCMP_ACT_ERRNO")]);
    refused(c, "")
}

fn seccomp_metadata_needs_a_listener(c: &mut Case) -> Check {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .listener_metadata("x");
    refused(c, "")
}

fn scheduler(c: &mut Case, scheduler: Value) -> Check<seen::Scheduler> {
    c.process().scheduler(scheduler);
    Ok(c.probe(&[])?.scheduler)
}

fn scheduler_policies(c: &mut Case) -> Check {
    let table = [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), 0, 5, 0),
        (json!({"policy": "SCHED_OTHER"}), 0, 0, 0),
        (json!({"policy": "SCHED_FIFO", "priority": 7}), 1, 0, 7),
        (json!({"policy": "SCHED_RR", "priority": 9}), 2, 0, 9),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), 3, 3, 0),
        (json!({"policy": "SCHED_IDLE"}), 5, 0, 0),
    ];
    for (wish, policy, nice, priority) in table {
        let reality = scheduler(c, wish.clone())?;
        same(
            &wish.to_string(),
            (policy, nice, priority),
            (reality.policy, reality.nice, reality.priority),
        )?;
    }
    Ok(())
}

fn scheduler_deadline(c: &mut Case) -> Check {
    let wish = json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 10_000_000, "period": 20_000_000});
    let reality = scheduler(c, wish)?;
    same(
        "scheduler",
        (6, 2_000_000, 10_000_000, 20_000_000),
        (reality.policy, reality.runtime, reality.deadline, reality.period),
    )
}

fn scheduler_reset_on_fork(c: &mut Case) -> Check {
    let wish = json!({"policy": "SCHED_FIFO", "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let reality = scheduler(c, wish)?;
    same("flags", 1, reality.flags & 1)
}

/// sched(7), sched_setattr(2): what each flag does, where it can be seen.
fn scheduler_every_flag(c: &mut Case) -> Check {
    let deadline = |flag: &str| json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 10_000_000, "period": 20_000_000, "flags": [flag]});
    for (flag, bit) in [("SCHED_FLAG_RECLAIM", 2), ("SCHED_FLAG_DL_OVERRUN", 4)] {
        let reality = scheduler(c, deadline(flag))?;
        same(flag, bit, reality.flags & bit)?;
    }
    for (flag, policy, nice) in [("SCHED_FLAG_KEEP_POLICY", 0, 5), ("SCHED_FLAG_KEEP_PARAMS", 0, 0)] {
        let reality = scheduler(c, json!({"policy": "SCHED_OTHER", "nice": 5, "flags": [flag]}))?;
        same(flag, (policy, nice), (reality.policy, reality.nice))?;
    }
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        c.process()
            .scheduler(Scheduler::new().policy("SCHED_OTHER").flags(json!([flag])));
        c.args(&["/bin/true"]);
        let run = c.run()?;
        // A kernel without utilization clamping (CONFIG_UCLAMP_TASK) refuses it.
        if run.code() != 0 {
            run.refused_with("scheduler")?;
            c.nothing_left()?;
        }
    }
    Ok(())
}

fn io_priority_classes(c: &mut Case) -> Check {
    let table = [
        ("IOPRIO_CLASS_RT", 1, 6),
        ("IOPRIO_CLASS_BE", 2, 0),
        ("IOPRIO_CLASS_IDLE", 3, 0),
    ];
    for (class, number, priority) in table {
        c.process()
            .io_priority(IoPriority::new().class(class).priority(priority));
        same(class, (number << 13) | priority, c.probe(&[])?.ioprio)?;
    }
    c.process()
        .io_priority(IoPriority::new().class("IOPRIO_CLASS_BE").priority(8));
    refused(c, "")
}

fn personality_linux(c: &mut Case) -> Check {
    const PER_LINUX32: libc::c_ulong = 8;
    c.args(&["/bin/probe"]);
    // First without a wish, when it is the caller's: so that the other says something.
    for wish in [8, 0] {
        if wish == 0 {
            c.linux().personality(json!({"domain": "LINUX"}));
        }
        let words = c.bundle_args("run", &[], &c.id)?;
        let mut command = c.command();
        let be_32 = || {
            // SAFETY: no memory is involved, and 8 is a persona.
            unsafe { libc::personality(PER_LINUX32) };
            Ok(())
        };
        // SAFETY: between fork and exec there is one system call.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, be_32) };
        let run = crate::runner::start(command.args(&words), &c.dir)?.finish()?;
        same("personality", json!(wish), run.ok()?.seen()?.personality)?;
    }
    Ok(())
}

fn memory_policy(c: &mut Case) -> Check {
    if !fs::exists("/proc/self/numa_maps")? {
        return Err(Stop::Unsupported("the kernel has no NUMA".into()));
    }
    for (mode, flags, wish) in [
        ("MPOL_BIND", json!([]), "bind:0"),
        ("MPOL_INTERLEAVE", json!([]), "interleave:0"),
        ("MPOL_PREFERRED", json!([]), "prefer:0"),
        ("MPOL_BIND", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
    ] {
        c.linux()
            .memory_policy(json!({"mode": mode, "nodes": "0", "flags": flags}));
        contains(mode, &c.sh("cat /proc/self/numa_maps")?, wish)?;
    }
    Ok(())
}

/// Every mode and flag of the list, as the kernel shows it inside; a mode that the kernel has not is an error
/// that says so.
fn memory_policy_of_every_mode(c: &mut Case) -> Check {
    if !fs::exists("/proc/self/numa_maps")? {
        return Err(Stop::Unsupported("the kernel has no NUMA".into()));
    }
    for (mode, nodes, flags, wish) in [
        ("MPOL_DEFAULT", "", json!([]), " default "),
        ("MPOL_LOCAL", "", json!([]), " local "),
        ("MPOL_PREFERRED_MANY", "0", json!([]), " prefer (many):0 "),
        (
            "MPOL_WEIGHTED_INTERLEAVE",
            "0",
            json!([]),
            " weighted interleave:0 ",
        ),
        (
            "MPOL_INTERLEAVE",
            "0",
            json!(["MPOL_F_RELATIVE_NODES"]),
            " interleave=relative:0 ",
        ),
        ("MPOL_BIND", "0", json!(["MPOL_F_NUMA_BALANCING"]), " bind"),
    ] {
        c.linux().memory_policy(json!({"mode": mode, "flags": flags}));
        if !nodes.is_empty() {
            c.config["linux"]["memoryPolicy"]["nodes"] = json!(nodes);
        }
        c.shell("cat /proc/self/numa_maps");
        let run = c.run()?;
        // Since Linux 6.9.
        if mode == "MPOL_WEIGHTED_INTERLEAVE" && run.code() != 0 {
            run.refused_with("memoryPolicy")?;
            c.nothing_left()?;
            continue;
        }
        contains(mode, &run.ok()?.stdout, wish)?;
    }
    Ok(())
}

fn memory_policy_without_nodes_is_refused(c: &mut Case) -> Check {
    c.linux().memory_policy(json!({"mode": "MPOL_BIND"}));
    refused(c, "")?;
    c.linux()
        .memory_policy(json!({"mode": "MPOL_NOSUCH", "nodes": "0"}));
    refused(c, "")?;
    // set_mempolicy(2): these two take no nodes.
    for mode in ["MPOL_DEFAULT", "MPOL_LOCAL"] {
        c.linux().memory_policy(json!({"mode": mode, "nodes": "0"}));
        refused(c, "")?;
    }
    Ok(())
}

fn intel_rdt_schema_with_two_lines_is_refused(c: &mut Case) -> Check {
    c.linux()
        .intel_rdt(json!({"closID": "c", "memBwSchema": "MB:0=20\nL3:0=f"}));
    refused(c, "")?;
    c.linux()
        .intel_rdt(json!({"closID": "c", "memBwSchema": "L3:0=20"}));
    refused(c, "")
}

/// What is not in config.json is not taken from the program that calls the runtime.
fn container_follows_config_not_the_caller(c: &mut Case) -> Check {
    c.process().env(["PATH=/bin"]);
    c.args(&["/bin/probe"]);
    c.write_config()?;
    let mut command = c.command();
    command
        .env("FROM_THE_CALLER", "1")
        .args(["run", "--bundle"])
        .arg(&c.bundle)
        .arg(&c.id);
    let report = crate::runner::start(&mut command, &c.dir)?
        .finish()?
        .ok()?
        .seen()?;
    let env = report.env.join(" ");
    ensure!(!env.contains("FROM_THE_CALLER"), "environment: {env}");
    same("working directory", "/", report.cwd.as_str())
}

//! `update`, with runc's flags and rules; what it leaves is read from the kernel's files.

use crate::{
    case::Case,
    config::Device,
    need::Need,
    outcome::{Check, contains, same},
    tests::cgroups::{file, file_is, limit},
};
use serde_json::{Value, json};
use std::fs;

tests! {
    update/of_stopped_is_refused,
    update/of_nothing_is_refused,
    update/without_any_limit,
    update/realtime_is_refused,
    update/rdt_without_rdt_is_refused,
    update/wrong_values_are_refused,
    update/wrong_file_is_refused,
    update/device_rules_stay,
    update/core_file_by_unified,
}

const MEMORY: &[Need] = &[Need::Controller("memory")];
const PIDS: &[Need] = &[Need::Controller("pids")];
const CPU: &[Need] = &[Need::Controller("cpu")];

tests! {
    update/memory_with_units: MEMORY,
    update/memory_without_limit: MEMORY,
    update/swap_is_counted_from_the_limit: MEMORY,
    update/memory_and_swap_of_every_kind: MEMORY,
    update/later_one_counts_from_earlier_one: MEMORY,
    update/check_before_update: MEMORY,
    update/obsolete_kernel_memory: MEMORY,
    update/pids: PIDS,
    update/from_standard_input: PIDS,
    update/of_paused: PIDS,
    update/cpu_quota_keeps_period: CPU,
    update/cpu_burst_above_the_old_quota: CPU,
    update/cpu_idle_and_shares: &[Controller("cpu"), Kernel(5, 15)],
    update/cpuset: &[Controller("cpuset"), SecondCpu],
    update/block_io_weight: &[Controller("io")],
    update/all_or_nothing: &[Controller("memory"), Controller("cpuset")],
}

fn update(c: &Case, flags: &[&str]) -> Check<crate::runner::Run> {
    let mut words = vec!["update"];
    words.extend(flags);
    words.push(&c.id);
    c.rt(&words)
}

fn update_from(c: &Case, resources: &Value) -> Check<crate::runner::Run> {
    let path = c.dir.join("resources.json");
    fs::write(&path, resources.to_string())?;
    update(c, &["--resources", &path.to_string_lossy()])
}

fn memory_with_units(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20});
    c.start_sleeper()?;
    for (text, wish) in [
        ("50331648", "50331648"),
        ("65536k", "67108864"),
        ("80m", "83886080"),
        ("1g", "1073741824"),
    ] {
        update(c, &["--memory", text])?.ok()?;
        same(
            &format!("memory.max of {text}"),
            wish,
            file(c, "memory.max")?.as_str(),
        )?;
    }
    update(c, &["--memory-reservation", "33554432"])?.ok()?;
    file_is(c, "memory.low", "33554432")?;
    file_is(c, "memory.max", "1073741824")
}

fn memory_without_limit(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 96 << 20});
    c.start_sleeper()?;
    update(c, &["--memory", "-1"])?.ok()?;
    file_is(c, "memory.max", "max")?;
    file_is(c, "memory.swap.max", "max")
}

fn swap_is_counted_from_the_limit(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20});
    c.start_sleeper()?;
    update(c, &["--memory-swap", "100663296"])?.ok()?;
    file_is(c, "memory.max", "67108864")?;
    file_is(c, "memory.swap.max", "33554432")
}

/// Each from 64 MB and 32 MB of swap. A 0 leaves a limit as it is.
fn memory_and_swap_of_every_kind(c: &mut Case) -> Check {
    const BELOW: &str = "memory+swap limit should be >= memory limit";
    const ALL: &str = "67108864";
    for (memory, wish) in [
        (json!({"swap": 0}), Ok((ALL, "33554432"))),
        (json!({"swap": -1}), Ok((ALL, "max"))),
        (json!({"swap": 134_217_728}), Ok((ALL, ALL))),
        (json!({"swap": 67_108_864}), Ok((ALL, "0"))),
        (json!({"limit": 33_554_432}), Ok(("33554432", ALL))),
        (json!({"limit": 134_217_728}), Err(BELOW)),
        (json!({"limit": -1}), Ok(("max", "max"))),
        (json!({"limit": -1, "swap": 0}), Ok(("max", "max"))),
        (json!({"limit": -1, "swap": -1}), Ok(("max", "max"))),
        (
            json!({"limit": -1, "swap": 134_217_728}),
            Ok(("max", "134217728")),
        ),
        (
            json!({"limit": 33_554_432, "swap": 33_554_432}),
            Ok(("33554432", "0")),
        ),
        (json!({"limit": 33_554_432, "swap": -1}), Ok(("33554432", "max"))),
        (json!({"limit": 33_554_432, "swap": 0}), Ok(("33554432", ALL))),
        (json!({"limit": 0, "swap": 134_217_728}), Ok((ALL, ALL))),
    ] {
        *limit(c, "memory") = json!({"limit": 67_108_864, "swap": 100_663_296});
        c.create()?.ok()?;
        let run = update_from(c, &json!({"memory": memory.clone()}))?;
        let (max, swap) = match wish {
            Err(text) => {
                run.wants(1)?.refused_with(text)?;
                (ALL, "33554432")
            }
            Ok(files) => {
                run.ok()?;
                files
            }
        };
        let reality = (file(c, "memory.max")?, file(c, "memory.swap.max")?);
        same(&memory.to_string(), (max.to_owned(), swap.to_owned()), reality)?;
        c.delete()?;
    }
    // And back from no limit of memory: the one of swap is now counted from the new one.
    *limit(c, "memory") = json!({"limit": -1, "swap": 100_663_296});
    c.create()?.ok()?;
    update(c, &["--memory", "67108864"])?.ok()?;
    file_is(c, "memory.swap.max", "33554432")
}

fn later_one_counts_from_earlier_one(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 128 << 20});
    c.start_sleeper()?;
    update(c, &["--memory", "100663296"])?.ok()?;
    file_is(c, "memory.swap.max", "33554432")?;
    // Not from config.json any more.
    update(c, &["--memory-swap", "104857600"])?.ok()?;
    file_is(c, "memory.max", "100663296")?;
    file_is(c, "memory.swap.max", "4194304")
}

/// Kubernetes' in-place resize: a limit below what is used would kill.
fn check_before_update(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 64 << 20});
    c.shell("dd if=/dev/zero of=/dev/shm/used bs=1M count=8; echo done > /done; exec sleep 1000");
    c.run_with(&["--detach"])?.ok()?;
    let done = c.rootfs("/done");
    c.wait_until("the memory to be in use", || Ok(done.exists()))?;
    let tight = json!({"memory": {"limit": 2 << 20, "swap": 2 << 20, "checkBeforeUpdate": true}});
    update_from(c, &tight)?.wants(1)?.refused_with("<= usage")?;
    file_is(c, "memory.max", "67108864")?;
    same("status", "running", c.status()?.as_str())
}

fn obsolete_kernel_memory(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update(c, &["--kernel-memory", "1000000", "--memory", "64m"])?.ok()?;
    file_is(c, "memory.max", "67108864")?;
    update(c, &["--kernel-memory-tcp", "1000000", "--memory", "32m"])?.ok()?;
    file_is(c, "memory.max", "33554432")
}

fn pids(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update(c, &["--pids-limit", "10"])?.ok()?;
    file_is(c, "pids.max", "10")?;
    update(c, &["--pids-limit=-1"])?.ok()?;
    file_is(c, "pids.max", "max")
}

/// As containerd and CRI-O call it; fields with Go's zero values ask for nothing.
fn from_standard_input(c: &mut Case) -> Check {
    *limit(c, "pids") = json!({"limit": 10});
    c.start_sleeper()?;
    let path = c.dir.join("resources.json");
    let given =
        json!({"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0, "cpus": ""}, "pids": {"limit": 20}});
    fs::write(&path, given.to_string())?;
    let mut command = c.command();
    command
        .args(["update", "--resources", "-", &c.id])
        .stdin(fs::File::open(&path)?);
    crate::runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    file_is(c, "pids.max", "20")
}

fn of_paused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    update(c, &["--pids-limit", "10"])?.ok()?;
    file_is(c, "pids.max", "10")?;
    same("status", "paused", c.status()?.as_str())
}

fn cpu_quota_keeps_period(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"quota": 50000, "period": 200_000});
    c.start_sleeper()?;
    update(c, &["--cpu-quota", "60000"])?.ok()?;
    file_is(c, "cpu.max", "60000 200000")?;
    update(c, &["--cpu-period", "100000"])?.ok()?;
    file_is(c, "cpu.max", "60000 100000")?;
    update(c, &["--cpu-quota", "-1"])?.ok()?;
    file_is(c, "cpu.max", "max 100000")?;
    update(c, &["--cpu-share", "512"])?.ok()?;
    file_is(c, "cpu.weight", "59")
}

/// The kernel takes neither before the other.
fn cpu_burst_above_the_old_quota(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"quota": 20000, "period": 100_000, "burst": 20000});
    c.start_sleeper()?;
    update(c, &["--cpu-quota", "80000", "--cpu-burst", "70000"])?.ok()?;
    file_is(c, "cpu.max", "80000 100000")?;
    file_is(c, "cpu.max.burst", "70000")?;
    update(c, &["--cpu-quota", "30000", "--cpu-burst", "10000"])?.ok()?;
    file_is(c, "cpu.max", "30000 100000")?;
    file_is(c, "cpu.max.burst", "10000")
}

fn cpu_idle_and_shares(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"shares": 512});
    c.start_sleeper()?;
    update(c, &["--cpu-idle", "1"])?.ok()?;
    file_is(c, "cpu.idle", "1")?;
    update(c, &["--cpu-idle", "0", "--cpu-share", "2048"])?.ok()?;
    file_is(c, "cpu.idle", "0")?;
    file_is(c, "cpu.weight", "174")
}

fn cpuset(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"cpus": "0"});
    c.start_sleeper()?;
    update(c, &["--cpuset-cpus", "1", "--cpuset-mems", "0"])?.ok()?;
    file_is(c, "cpuset.cpus", "1")?;
    file_is(c, "cpuset.mems", "0")?;
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid()?))?;
    contains("status of init", &status, "Cpus_allowed_list:\t1\n")
}

fn block_io_weight(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update(c, &["--blkio-weight", "1000"])?.ok()?;
    let (name, wish) = match c.cgroup().join("io.bfq.weight").exists() {
        true => ("io.bfq.weight", "default 1000"),
        false => ("io.weight", "default 10000"),
    };
    same(name, Some(wish), file(c, name)?.lines().next())
}

/// What has been written before the one that fails is taken back.
fn all_or_nothing(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 64 << 20});
    c.start_sleeper()?;
    let wrong = json!({"memory": {"limit": 80 << 20, "swap": 90 << 20}, "cpu": {"cpus": "4000"}});
    update_from(c, &wrong)?.wants(1)?.refused_with("cpuset.cpus")?;
    file_is(c, "memory.max", "67108864")?;
    file_is(c, "memory.swap.max", "0")?;
    file_is(c, "cpuset.cpus", "")?;
    // Nor is it remembered: the swap limit is still counted from 64 MB.
    update(c, &["--memory-swap", "100663296"])?.ok()?;
    file_is(c, "memory.swap.max", "33554432")
}

fn of_stopped_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    update(c, &["--pids-limit", "10"])?
        .wants(1)?
        .refused_with("not running")?;
    Ok(())
}

fn of_nothing_is_refused(c: &mut Case) -> Check {
    update(c, &["--pids-limit", "10"])?
        .wants(1)?
        .refused_with("does not exist")?;
    Ok(())
}

fn without_any_limit(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update_from(c, &json!({}))?.ok()?;
    update_from(c, &json!({"memory": null, "unknown": 5}))?.ok()?;
    same("status", "running", c.status()?.as_str())
}

/// cgroup v2 has no such limit: an update that is not made must not seem to be.
fn realtime_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for flags in [
        &["--cpu-rt-runtime=950000"][..],
        &["--cpu-rt-period=1000000", "--cpu-rt-runtime=950000"],
    ] {
        update(c, flags)?.wants(1)?.refused_with("realtime")?;
    }
    // It limits nothing by itself.
    update(c, &["--cpu-rt-period=1000000"])?.ok()?;
    same("status", "running", c.status()?.as_str())
}

fn rdt_without_rdt_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=50"] {
        update(c, &[flag])?
            .wants(1)?
            .refused_with("updating a non-existent Intel RDT configuration is not supported")?;
    }
    Ok(())
}

fn wrong_values_are_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for (flag, value) in [
        ("--memory", "5x"),
        ("--cpu-quota", "much"),
        ("--cpu-period", "-1"),
        ("--cpu-share", "1.5"),
    ] {
        update(c, &[flag, value])?.wants(1)?.refused()?;
    }
    Ok(())
}

fn wrong_file_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update(c, &["-r", "/no/such/file"])?
        .wants(1)?
        .refused_with("/no/such/file")?;
    update_from(c, &json!({"memory": {"limit": "much"}}))?
        .wants(1)?
        .refused_with("memory")?;
    update_from(c, &json!([]))?.wants(1)?.refused()?;
    Ok(())
}

/// Engines send all resources, without the rules that they have made meanwhile (for a GPU, say).
fn device_rules_stay(c: &mut Case) -> Check {
    c.linux()
        .devices([Device::new().path("/dev/kmsg").kind("c").major(1).minor(11)]);
    c.start_sleeper()?;
    let before = c.exec_probe(&[], &["--access", "/dev/kmsg"])?;
    let everything = json!([{"allow": true, "access": "rwm"}]);
    update_from(c, &json!({"devices": everything}))?.ok()?;
    let after = c.exec_probe(&[], &["--access", "/dev/kmsg"])?;
    same("access to /dev/kmsg", &before.access, &after.access)?;
    c.rt(&["exec", &c.id, "head", "-c", "1", "/dev/kmsg"])?.wants(1)?;
    Ok(())
}

fn core_file_by_unified(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update_from(c, &json!({"unified": {"cgroup.max.descendants": "5"}}))?.ok()?;
    file_is(c, "cgroup.max.descendants", "5")
}

//! config-linux.md `linux.resources`: every limit read back from the kernel's files, and the important ones
//! by what they do.

use super::{disk, every_field, file, file_is, limit, remove_parents, scratch};
use crate::{
    case::Case,
    config::Device,
    need::Need,
    outcome::{Check, contains, ensure, same},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

tests! {
    resources/swap_limit_without_memory_limit_is_refused,
    resources/swap_limit_below_memory_limit_is_refused,
    resources/realtime_is_refused,
    resources/network_class_is_refused,
    resources/fields_of_version_1,
    resources/unified_of_unknown_controller_is_refused,
    resources/unified_cannot_freeze_what_has_not_begun,
    resources/unified_without_controller,
    resources/huge_page_limits_of_any_size,
    resources/every_controller_of_the_host,
}

const MEMORY: &[Need] = &[Need::Controller("memory")];
const PIDS: &[Need] = &[Need::Controller("pids")];
const CPU: &[Need] = &[Need::Controller("cpu")];
const IO: &[Need] = &[Need::Controller("io"), Need::ScratchDisk];

tests! {
    resources/unified_enables_the_controller: &[Controller("hugetlb")],
    resources/memory_files: MEMORY,
    resources/memory_without_swap: MEMORY,
    resources/memory_and_swap_of_every_kind: MEMORY,
    resources/pids_limit_of_0_without_the_controller: &[NoController("pids")],
    resources/memory_unlimited: MEMORY,
    resources/memory_limit_kills: MEMORY,
    resources/killed_for_memory_is_said: MEMORY,
    resources/create_killed_for_memory_is_said: MEMORY,
    resources/memory_limit_of_1_mb_runs_a_program: MEMORY,
    resources/pids_limit_of_1_runs_a_program: PIDS,
    resources/pids_limit_stops_a_fork_bomb: PIDS,
    resources/pids_limit_absent_zero_and_unlimited: PIDS,
    resources/cpu_shares_become_weight: CPU,
    resources/cpu_quota_period_burst: CPU,
    resources/cpu_idle: &[Controller("cpu"), Kernel(5, 15)],
    resources/cpu_quota_of_a_fifth: CPU,
    resources/cpuset_cpus_and_mems: &[Controller("cpuset"), SecondCpu],
    resources/block_io_weight: &[Controller("io")],
    resources/block_io_throttle_files: IO,
    resources/block_io_throttle_halves_the_rate: IO,
    resources/rdma_of_no_device_is_refused: &[Controller("rdma")],
    resources/unified_comes_last: MEMORY,
    resources/all_fields_together: &[ Controller("memory"), Controller("cpu"), Controller("pids"), Controller("io"), Controller("cpuset"), Controller("hugetlb"), ScratchDisk, ],
    resources/missing_controller_is_named_with_its_field: &[NoController("cpu")],
}

/// The number after a key of a flat keyed file.
fn keyed(c: &Case, name: &str, key: &str) -> Check<u64> {
    let text = file(c, name)?;
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.trim().parse().ok());
    value.map_or_else(
        || crate::outcome::fail(format!("{name} has no {key}: {text}")),
        Ok,
    )
}

fn memory_files(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20});
    c.start_sleeper()?;
    file_is(c, "memory.max", "67108864")?;
    file_is(c, "memory.swap.max", "33554432")?;
    file_is(c, "memory.low", "33554432")
}

fn memory_without_swap(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 64 << 20});
    c.start_sleeper()?;
    file_is(c, "memory.swap.max", "0")
}

/// The table of docs/memory-and-swap.md, of which this is the column of the files.
fn memory_and_swap_of_every_kind(c: &mut Case) -> Check {
    const BELOW: &str = "memory+swap limit should be >= memory limit";
    const ALONE: &str = "unable to set swap limit without memory limit";
    for (memory, wish) in [
        (json!({}), Ok(("max", "max"))),
        (json!({"swap": 0}), Ok(("max", "max"))),
        (json!({"swap": -1}), Ok(("max", "max"))),
        (json!({"swap": 100_663_296}), Err(ALONE)),
        (json!({"limit": 0, "swap": 100_663_296}), Err(ALONE)),
        (json!({"limit": 67_108_864}), Ok(("67108864", "max"))),
        (json!({"limit": 67_108_864, "swap": 0}), Ok(("67108864", "max"))),
        (json!({"limit": 67_108_864, "swap": -1}), Ok(("67108864", "max"))),
        (
            json!({"limit": 67_108_864, "swap": 67_108_864}),
            Ok(("67108864", "0")),
        ),
        (
            json!({"limit": 67_108_864, "swap": 100_663_296}),
            Ok(("67108864", "33554432")),
        ),
        (json!({"limit": 67_108_864, "swap": 33_554_432}), Err(BELOW)),
        (json!({"limit": -1}), Ok(("max", "max"))),
        (json!({"limit": -1, "swap": 0}), Ok(("max", "max"))),
        (json!({"limit": -1, "swap": -1}), Ok(("max", "max"))),
        // Nothing to count from: as it is.
        (
            json!({"limit": -1, "swap": 100_663_296}),
            Ok(("max", "100663296")),
        ),
    ] {
        *limit(c, "memory") = memory.clone();
        let run = c.create()?;
        match wish {
            Err(text) => drop(run.wants(1)?.refused_with(text)?),
            Ok((max, swap)) => {
                run.ok()?;
                let reality = (file(c, "memory.max")?, file(c, "memory.swap.max")?);
                same(&memory.to_string(), (max.to_owned(), swap.to_owned()), reality)?;
                c.delete()?;
            }
        }
    }
    Ok(())
}

/// `podman run --pids-limit 0`, for users who want no limit.
fn pids_limit_of_0_without_the_controller(c: &mut Case) -> Check {
    *limit(c, "pids") = json!({"limit": 0});
    same("echo", "ran", c.sh("echo ran | cat")?.as_str())?;
    *limit(c, "pids") = json!({"limit": 7});
    c.create()?.wants(1)?.refused_with("pids")?;
    c.nothing_left()
}

fn memory_unlimited(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": -1});
    c.start_sleeper()?;
    file_is(c, "memory.max", "max")?;
    file_is(c, "memory.swap.max", "max")
}

/// dd fills a buffer of 200 MB, of which the kernel gives it 64.
fn over_the_limit(c: &mut Case) -> &mut Case {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 64 << 20});
    c.args(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"])
}

fn memory_limit_kills(c: &mut Case) -> Check {
    over_the_limit(c).create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    c.wait_status("stopped")?;
    file_is(c, "memory.max", "67108864")?;
    let kills = keyed(c, "memory.events", "oom_kill ")?;
    ensure!(kills > 0, "wish: the kernel counts a kill, reality {kills}");
    c.delete()?;
    c.run()?.wants(137)?;
    // The same allocation with room for it.
    *limit(c, "memory") = json!({"limit": 400 << 20});
    c.run()?.ok()?;
    Ok(())
}

/// Nobody should have to guess what 137 means.
fn killed_for_memory_is_said(c: &mut Case) -> Check {
    let run = over_the_limit(c).run()?.wants(137)?.refused()?;
    contains("stderr", &run.stderr, "memory")?;
    // The same code for another reason.
    c.shell("kill -9 $$");
    c.drop_namespace("pid");
    let run = c.run()?.wants(137)?;
    same("stderr of a container that kills itself", "", run.stderr.as_str())
}

fn create_killed_for_memory_is_said(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 4096, "swap": 4096});
    c.create()?
        .wants(1)?
        .refused_with("OOM-killed (memory limit too low?)")?;
    c.nothing_left()
}

/// Of which the runtime's own pages may take none worth mentioning: busybox needs 300 kB.
fn memory_limit_of_1_mb_runs_a_program(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 1 << 20, "swap": 1 << 20});
    same("echo", "ran", c.sh("echo ran")?.as_str())
}

fn pids_limit_of_1_runs_a_program(c: &mut Case) -> Check {
    *limit(c, "pids") = json!({"limit": 1});
    same("echo", "ran", c.sh("echo ran")?.as_str())
}

fn pids_limit_stops_a_fork_bomb(c: &mut Case) -> Check {
    *limit(c, "pids") = json!({"limit": 20});
    // A shell that cannot fork gives up, so each link of the chain is one of its own; the init looks on.
    c.shell("f() { f & f & sleep 1000; }; f & exec sleep 1000");
    c.run_with(&["--detach"])?.ok()?;
    file_is(c, "pids.max", "20")?;
    c.wait_until("pids.events to count a refusal", || {
        Ok(keyed(c, "pids.events", "max ")? > 0)
    })?;
    let alive: usize = file(c, "pids.current")?.parse()?;
    ensure!(alive <= 20, "wish: at most 20 processes, reality {alive}");
    Ok(())
}

fn pids_limit_absent_zero_and_unlimited(c: &mut Case) -> Check {
    // runtime-spec 1.3: 0 is a limit, of which the container's own process makes 1; absent is none.
    for (value, wish) in [
        (json!({}), "max"),
        (json!({"limit": -1}), "max"),
        (json!({"limit": 0}), "1"),
        (json!({"limit": 7}), "7"),
    ] {
        *limit(c, "pids") = value.clone();
        c.start_sleeper()?;
        same(
            &format!("pids.max of {value}"),
            wish,
            file(c, "pids.max")?.as_str(),
        )?;
        c.delete()?;
    }
    Ok(())
}

fn cpu_shares_become_weight(c: &mut Case) -> Check {
    for (shares, weight) in [(2, "1"), (512, "59"), (1024, "100"), (262_144, "10000")] {
        *limit(c, "cpu") = json!({"shares": shares});
        c.start_sleeper()?;
        same(
            &format!("cpu.weight of {shares} shares"),
            weight,
            file(c, "cpu.weight")?.as_str(),
        )?;
        c.delete()?;
    }
    Ok(())
}

fn cpu_quota_period_burst(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"quota": 50000, "period": 200_000, "burst": 10000});
    c.start_sleeper()?;
    file_is(c, "cpu.max", "50000 200000")?;
    file_is(c, "cpu.max.burst", "10000")?;
    c.delete()?;
    *limit(c, "cpu") = json!({"quota": -1, "period": 50000});
    c.start_sleeper()?;
    file_is(c, "cpu.max", "max 50000")
}

fn cpu_idle(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"idle": 1});
    c.start_sleeper()?;
    file_is(c, "cpu.idle", "1")
}

/// The kernel's own accounting over the wall clock; the average of three seconds, and up to four tries, since
/// it is not the only thing that the machine does.
fn cpu_quota_of_a_fifth(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"quota": 20000, "period": 100_000});
    c.shell("while :; do :; done");
    c.run_with(&["--detach"])?.ok()?;
    file_is(c, "cpu.max", "20000 100000")?;
    let mut shares = Vec::new();
    for _ in 0..4 {
        let (usage, begin) = (keyed(c, "cpu.stat", "usage_usec ")?, Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        let (usage, elapsed) = (keyed(c, "cpu.stat", "usage_usec ")? - usage, begin.elapsed());
        let percent = usage as f64 / elapsed.as_micros() as f64 * 100.0;
        if (17.0..=23.0).contains(&percent) {
            return Ok(());
        }
        shares.push(percent);
    }
    crate::outcome::fail(format!("wish: 20 ± 3 % of a processor, reality {shares:.1?} %"))
}

fn cpuset_cpus_and_mems(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"cpus": "1", "mems": "0"});
    c.shell("grep Cpus_allowed_list /proc/self/status; exec sleep 1000");
    let run = c.run_with(&["--detach"])?.ok()?;
    file_is(c, "cpuset.cpus", "1")?;
    file_is(c, "cpuset.mems", "0")?;
    let seen = || Ok(fs::read_to_string(&run.stdout_file)?.split_whitespace().nth(1) == Some("1"));
    c.wait_until("the program to see processor 1 alone", seen)
}

fn block_io_weight(c: &mut Case) -> Check {
    *limit(c, "blockIO") = json!({"weight": 500});
    c.start_sleeper()?;
    let (file_name, wish) = match c.cgroup().join("io.bfq.weight").exists() {
        true => ("io.bfq.weight", "500"),
        false => ("io.weight", "4950"),
    };
    let text = file(c, file_name)?;
    same(
        file_name,
        Some(format!("default {wish}").as_str()),
        text.lines().next(),
    )
}

fn block_io_throttle_files(c: &mut Case) -> Check {
    let (major, minor) = scratch(&disk()?)?;
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    *limit(c, "blockIO") = json!({"throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
        "throttleReadIOPSDevice": rate(30), "throttleWriteIOPSDevice": rate(40)});
    c.start_sleeper()?;
    file_is(
        c,
        "io.max",
        &format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=30 wiops=40"),
    )
}

fn block_io_throttle_halves_the_rate(c: &mut Case) -> Check {
    let (major, minor) = scratch(&disk()?)?;
    let allowed = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rw"});
    if let Some(rules) = limit(c, "devices").as_array_mut() {
        rules.push(allowed);
    }
    c.linux().devices([Device::new()
        .path("/dev/scratch")
        .kind("b")
        .major(major)
        .minor(minor)]);
    let throttle =
        |rate: u64| json!({"throttleWriteBpsDevice": [{"major": major, "minor": minor, "rate": rate}]});
    // The clock inside: the start of a process takes long in an emulated machine.
    let line = "read begin x < /proc/uptime; dd if=/dev/zero of=/dev/scratch bs=512k count=16 oflag=direct && \
                read end x < /proc/uptime && echo $begin $end";
    let written = |c: &Case| -> Check<f64> {
        let run = c.rt(&["exec", &c.id, "/bin/sh", "-c", line])?.ok()?;
        let clock: Vec<f64> = run
            .stdout
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        same("number of times", 2, clock.len())?;
        Ok(clock[1] - clock[0])
    };
    c.start_sleeper()?;
    let update = |rate: u64| -> Check<f64> {
        let file = c.dir.join("update.json");
        fs::write(&file, json!({"blockIO": throttle(rate)}).to_string())?;
        c.rt(&["update", "--resources", &file.to_string_lossy(), &c.id])?
            .ok()?;
        let text = fs::read_to_string(c.cgroup().join("io.max"))?;
        contains("io.max", &text, &format!("wbps={rate} "))?;
        written(c)
    };
    // Throttling is a promise in one direction; that it takes no longer depends on what else the machine
    // does.
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (half, quarter) = (update(4 << 20)?, update(2 << 20)?);
        ensure!(
            half > 1.6 && quarter > 3.2,
            "wish: 8 MiB take at least 2 s at 4 MiB/s and 4 s at 2 MiB/s, reality {half} s and {quarter} s"
        );
        if (1.6..2.5).contains(&(quarter / half)) {
            return Ok(());
        }
        seen.push((half, quarter));
    }
    crate::outcome::fail(format!(
        "wish: half the rate takes twice as long, reality (s): {seen:?}"
    ))
}

fn rdma_of_no_device_is_refused(c: &mut Case) -> Check {
    *limit(c, "rdma") = json!({"no_such_device0": {"hcaHandles": 3}});
    c.create()?.wants(1)?.refused_with("rdma")?;
    c.nothing_left()
}

fn unified_comes_last(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20});
    *limit(c, "unified") = json!({"memory.max": "33554432", "memory.high": "16777216", "memory.min": "4096"});
    c.start_sleeper()?;
    file_is(c, "memory.max", "33554432")?;
    file_is(c, "memory.high", "16777216")?;
    file_is(c, "memory.min", "4096")
}

/// Several times, under the same name: one cycle must leave nothing that changes the next.
fn all_fields_together(c: &mut Case) -> Check {
    let (resources, values) = every_field(scratch(&disk()?)?)?;
    c.config["linux"]["resources"] = resources;
    for _ in 0..3 {
        c.args(&["/bin/sleep", "1000"]);
        c.create()?.ok()?;
        for (name, wish) in &values {
            file_is(c, name, wish)?;
        }
        c.rt(&["start", &c.id])?.ok()?;
        c.delete()?;
        c.nothing_left()?;
    }
    Ok(())
}

/// A limit that cannot be set must not look as if it were.
fn missing_controller_is_named_with_its_field(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"quota": 20000, "period": 100_000});
    let run = c.create()?.wants(1)?.refused_with("cpu")?;
    contains("stderr", &run.stderr, "linux.resources.cpu.quota")?;
    c.nothing_left()
}

fn swap_limit_without_memory_limit_is_refused(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"swap": 64 << 20});
    c.create()?.wants(1)?.refused_with("swap")?;
    c.nothing_left()
}

fn swap_limit_below_memory_limit_is_refused(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 32 << 20});
    c.create()?.wants(1)?.refused_with("swap")?;
    c.nothing_left()
}

/// config-linux.md wants an error for what cannot be applied; version 2 has no realtime limits.
fn realtime_is_refused(c: &mut Case) -> Check {
    *limit(c, "cpu") = json!({"realtimeRuntime": 10000, "realtimePeriod": 100_000});
    c.create()?.wants(1)?.refused_with("realtime")?;
    c.nothing_left()
}

fn network_class_is_refused(c: &mut Case) -> Check {
    *limit(c, "network") = json!({"classID": 1_048_577});
    c.create()?.wants(1)?.refused_with("network")?;
    c.nothing_left()
}

fn unified_of_unknown_controller_is_refused(c: &mut Case) -> Check {
    *limit(c, "unified") = json!({"nosuch.max": "1"});
    let run = c.create()?.wants(1)?.refused_with("nosuch")?;
    contains("stderr", &run.stderr, "not available")?;
    c.nothing_left()
}

/// Frozen before its first instruction, a container would keep `create` waiting for ever.
fn unified_cannot_freeze_what_has_not_begun(c: &mut Case) -> Check {
    *limit(c, "unified") = json!({"cgroup.freeze": "1"});
    let run = c.create()?;
    if run.code() == 0 {
        return same("status", "paused", c.status()?.as_str());
    }
    run.refused_with("cgroup.freeze")?;
    c.nothing_left()
}

fn unified_without_controller(c: &mut Case) -> Check {
    *limit(c, "unified") = json!({"cgroup.max.depth": "3"});
    c.start_sleeper()?;
    file_is(c, "cgroup.max.depth", "3")
}

/// The limit is unsigned in the specification.
fn huge_page_limits_of_any_size(c: &mut Case) -> Check {
    if !c.host.has_controller("hugetlb") {
        return Err(crate::outcome::Stop::Unsupported("no hugetlb controller".into()));
    }
    *limit(c, "hugepageLimits") = json!([{"pageSize": "2MB", "limit": u64::MAX}]);
    c.start_sleeper()?;
    let text = file(c, "hugetlb.2MB.max")?;
    let is_unlimited = text == "max" || text.parse::<u64>().is_ok_and(|limit| limit > 1 << 62);
    ensure!(is_unlimited, "wish: hugetlb.2MB.max without end, reality {text}");
    Ok(())
}

/// In cgroups that are new, so that nobody else has enabled it on the way.
fn unified_enables_the_controller(c: &mut Case) -> Check {
    c.set_cgroup_leaf("a/b/box");
    *limit(c, "unified") = json!({"hugetlb.2MB.max": "2097152"});
    c.start_sleeper()?;
    file_is(c, "hugetlb.2MB.max", "2097152")?;
    let parents: Vec<PathBuf> = c
        .cgroup()
        .ancestors()
        .skip(1)
        .take(3)
        .map(Path::to_owned)
        .collect();
    for parent in &parents {
        let enabled = fs::read_to_string(parent.join("cgroup.subtree_control"))?;
        contains(&parent.display().to_string(), &enabled, "hugetlb")?;
    }
    c.delete()?;
    // Those between may be left, since a runtime cannot know whose they are.
    for parent in &parents[..2] {
        let _may_be_gone = fs::remove_dir(parent);
    }
    Ok(())
}

/// config-linux.md, Unified: what cannot be converted is an error. These are set by engines for all their
/// users, and a container has no more without them than with them, so that runc passes over them, and crun
/// over most: each alone either gives a container, or an error that names it. What an engine writes for "not
/// set" always gives one.
fn fields_of_version_1(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    let unset = [
        (
            "memory",
            json!({"kernel": -1, "kernelTCP": 0, "disableOOMKiller": false, "useHierarchy": false}),
        ),
        ("cpu", json!({"realtimeRuntime": 0, "realtimePeriod": 0})),
        ("blockIO", json!({"leafWeight": 0, "weightDevice": []})),
        ("network", json!({"classID": 0, "priorities": []})),
    ];
    for (name, value) in unset {
        c.config["linux"]["resources"] = json!({name: value});
        c.run()?.ok()?;
    }
    for (name, key, value) in [
        ("memory", "swappiness", json!(0)),
        ("memory", "swappiness", json!(60)),
        ("memory", "disableOOMKiller", json!(true)),
        ("memory", "kernel", json!(32 << 20)),
        ("memory", "kernelTCP", json!(32 << 20)),
        ("memory", "useHierarchy", json!(true)),
        ("blockIO", "leafWeight", json!(300)),
        ("cpu", "realtimePeriod", json!(1_000_000)),
    ] {
        c.config["linux"]["resources"] = json!({name: {key: value}});
        let run = c.run()?;
        if run.code() != 0 {
            run.refused_with(key)?;
        }
        c.nothing_left()?;
    }
    Ok(())
}

/// Engines read the statistics of containers that have no limits.
fn every_controller_of_the_host(c: &mut Case) -> Check {
    c.set_cgroup_leaf("parent/box");
    c.start_sleeper()?;
    let words = |path: &Path| -> Check<Vec<String>> {
        let mut words: Vec<String> = fs::read_to_string(path)?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        words.sort();
        Ok(words)
    };
    let root = words(&c.host.cgroup2.join("cgroup.controllers"))?;
    same(
        "cgroup.controllers",
        root,
        words(&c.cgroup().join("cgroup.controllers"))?,
    )?;
    c.delete()?;
    remove_parents(c)
}

//! `events`: the JSON that runc prints, and the out-of-memory event.

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, fail, same},
    tests::cgroups::limit,
};
use serde_json::{Value, json};
use std::path::Path;

tests! {
    events/stats_has_runcs_shape,
    events/of_stopped_is_refused,
    events/interval_of_zero_is_refused,
    events/again_and_again_until_the_end,
}

tests! {
    events/stats_of_every_controller: &[ Controller("memory"), Controller("pids"), Controller("cpu"), ],
    events/out_of_memory: &[Controller("memory")],
}

fn stats(c: &Case) -> Check<Value> {
    let event = c.rt(&["events", "--stats", &c.id])?.ok()?.json()?;
    same("type", "stats", event["type"].as_str().unwrap_or_default())?;
    same("id", c.id.as_str(), event["id"].as_str().unwrap_or_default())?;
    Ok(event["data"].clone())
}

fn stats_has_runcs_shape(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let data = stats(c)?;
    for path in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpu/throttling",
        "/cpuset/cpu_exclusive",
        "/memory/usage/limit",
        "/memory/swap/failcnt",
        "/memory/kernelTCP/limit",
        "/pids",
        "/blkio",
        "/hugetlb",
        "/intel_rdt",
        "/network_interfaces",
    ] {
        ensure!(data.pointer(path).is_some(), "no {path} in {data}");
    }
    same("pids.current", json!(1), data["pids"]["current"].clone())?;
    if c.host.has_controller("hugetlb") {
        same("hugetlb", json!({"failcnt": 0}), data["hugetlb"]["2MB"].clone())?;
    }
    if Path::new("/proc/pressure/cpu").exists() {
        let total = &data["cpu"]["psi"]["some"]["total"];
        ensure!(total.is_u64(), "no pressure of the processor in {data}");
    }
    Ok(())
}

fn stats_of_every_controller(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 96 << 20});
    *limit(c, "pids") = json!({"limit": 50});
    *limit(c, "cpu") = json!({"quota": 50000, "period": 100_000});
    c.shell("dd if=/dev/zero of=/dev/shm/used bs=1M count=3; echo done > /done; while :; do :; done");
    c.run_with(&["--detach"])?.ok()?;
    let done = c.rootfs("/done");
    c.wait_until("the memory to be in use", || Ok(done.exists()))?;
    c.wait_until("a period to be throttled", || {
        Ok(stats(c)?["cpu"]["throttling"]["throttledTime"]
            .as_u64()
            .unwrap_or(0)
            > 0)
    })?;
    let data = stats(c)?;
    same(
        "memory.usage.limit",
        json!(64 << 20),
        data["memory"]["usage"]["limit"].clone(),
    )?;
    same(
        "memory.swap.limit",
        json!(96 << 20),
        data["memory"]["swap"]["limit"].clone(),
    )?;
    same("pids", json!({"current": 1, "limit": 50}), data["pids"].clone())?;
    let usage = data["memory"]["usage"]["usage"].as_u64().unwrap_or(0);
    ensure!(
        (3_000_000..64 << 20).contains(&usage),
        "memory.usage.usage is {usage}"
    );
    ensure!(
        data["memory"]["raw"]["shmem"].as_u64() > Some(3_000_000),
        "no memory.stat in {data}"
    );
    let cpu = &data["cpu"]["usage"];
    let (total, parts) = (
        cpu["total"].as_u64(),
        [cpu["kernel"].as_u64(), cpu["user"].as_u64()],
    );
    let sum: u64 = parts.into_iter().flatten().sum();
    // In nanoseconds; the kernel splits the total by samples, and rounds to microseconds.
    ensure!(
        total.is_some_and(|total| total > 10_000_000 && total.abs_diff(sum) < 10_000),
        "cpu.usage is {cpu}"
    );
    Ok(())
}

fn again_and_again_until_the_end(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let events = c.spawn(&["events", "--interval", "50ms", &c.id])?;
    c.wait_until("three lines", || Ok(events.output().lines().count() >= 3))?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    let run = events.finish()?.ok()?;
    for line in run.stdout.lines() {
        let event: Value = serde_json::from_str(line)?;
        same("type", "stats", event["type"].as_str().unwrap_or_default())?;
    }
    same("stderr", "", run.stderr.as_str())
}

fn out_of_memory(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 32 << 20, "swap": 32 << 20});
    // Again and again, because nobody can see when the watch has begun.
    c.shell("while :; do dd if=/dev/zero of=/dev/null bs=100M count=1; usleep 300000; done");
    c.run_with(&["--detach"])?.ok()?;
    let events = c.spawn(&["events", "--interval", "1h", &c.id])?;
    c.wait_until("an event", || Ok(!events.output().is_empty()))?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    let run = events.finish()?.ok()?;
    match run.stdout.lines().next().map(serde_json::from_str::<Value>) {
        Some(Ok(event)) => same("event", json!({"type": "oom", "id": c.id}), event),
        other => fail(format!("wish: an oom event, reality {other:?}")),
    }
}

fn of_stopped_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    let run = c.rt(&["events", "--stats", &c.id])?.wants(1)?.refused()?;
    contains(
        "stderr",
        &run.stderr,
        &format!("container with id {} is not running", c.id),
    )
}

fn interval_of_zero_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["events", "--interval", "0s", &c.id])?
        .wants(1)?
        .refused_with("duration interval must be greater than 0")?;
    c.rt(&["events", "--interval", "often", &c.id])?.wants(1)?;
    Ok(())
}

//! Runs in: SUITE. Names of units, what systemd does meanwhile, and limits under the systemd driver: what the
//! unit says and what the kernel's files say is the same after `create`, after `update`, after
//! `daemon-reload`, and after systemd has written all that it knows again.

use crate::{
    case::Case,
    config::Hook,
    need::Need,
    outcome::{Check, ensure, same},
    runner::{self, Run},
    tests::{
        cgroups::{disk, scratch, weights},
        systemd::{
            SYSTEMD, cgroup, create, file, names_disk, no_unit_left, show, start_sleeper, systemctl, unit,
            use_scope,
        },
    },
};
use serde_json::{Value, json};
use std::fs;

tests! {
    systemd/unit_and_files_agree: &[ Systemd, Controller("cpuset"), SecondCpu, ScratchDisk, ],
    systemd/quotas_are_what_systemd_makes_of_them: SYSTEMD,
    systemd/idle_and_back: SYSTEMD,
    systemd/idle_has_no_shares: SYSTEMD,
    systemd/weight_by_nice: SYSTEMD,
    systemd/oom_group_is_chosen_once: SYSTEMD,
    systemd/weights_of_the_bfq_scheduler: BFQ,
    systemd/stopped_while_it_is_created: SYSTEMD,
    systemd/stopped_while_it_runs: SYSTEMD,
    systemd/reloads_under_load: SYSTEMD,
    systemd/called_from_a_pinned_service: &[Systemd, SecondCpu, Controller("cpuset")],
    systemd/names_with_every_special_character: SYSTEMD,
}

const BFQ: &[Need] = &[Need::Systemd, Need::Controller("io"), Need::ScratchDisk];

/// File of the cgroup and what it holds, property of the unit and how systemctl shows it.
type Pair = (&'static str, &'static str, &'static str, &'static str);

fn update(c: &Case, resources: &Value) -> Check<Run> {
    let path = c.dir.join("resources.json");
    fs::write(&path, resources.to_string())?;
    c.rt(&["update", "--resources", &path.to_string_lossy(), &c.id])
}

fn compare(c: &Case, when: &str, pairs: &[Pair]) -> Check {
    let shown = show(c, &unit(c))?;
    for (name, text, property, value) in pairs {
        same(&format!("{name} {when}"), *text, file(c, name)?.as_str())?;
        let found = shown.get(*property).map(String::as_str);
        same(&format!("{property} {when}"), Some(*value), found)?;
    }
    Ok(())
}

/// Now, after systemd has read its units anew, and after it has written everything again, as for any change
/// of a property.
fn compare_always(c: &Case, when: &str, pairs: &[Pair]) -> Check {
    compare(c, when, pairs)?;
    systemctl(c, &["daemon-reload"])?;
    compare(c, &format!("after {when} and daemon-reload"), pairs)?;
    rewrite(c)?;
    compare(c, &format!("after {when}, written again"), pairs)
}

fn rewrite(c: &Case) -> Check {
    for switch in ["no", "yes"] {
        systemctl(
            c,
            &[
                "set-property",
                "--runtime",
                &unit(c),
                &format!("TasksAccounting={switch}"),
            ],
        )?;
    }
    Ok(())
}

fn unit_and_files_agree(c: &mut Case) -> Check {
    let (major, minor) = scratch(&disk()?)?;
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    c.config["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296},
        "cpu": {"shares": 512, "quota": 12_345, "period": 50_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 77},
        "blockIO": {"throttleReadBpsDevice": rate(1 << 20), "throttleWriteIOPSDevice": rate(40)},
        "unified": {"memory.high": "50331648", "memory.min": "1048576"},
    });
    start_sleeper(c)?;
    let limits = |read: &str, write: &str| {
        same(
            "io.max",
            format!("{major}:{minor} rbps={read} wbps=max riops=max wiops={write}"),
            file(c, "io.max")?,
        )
    };
    let created: &[Pair] = &[
        ("memory.max", "67108864", "MemoryMax", "67108864"),
        ("memory.low", "33554432", "MemoryLow", "33554432"),
        ("memory.swap.max", "33554432", "MemorySwapMax", "33554432"),
        ("memory.high", "50331648", "MemoryHigh", "50331648"),
        ("memory.min", "1048576", "MemoryMin", "1048576"),
        ("cpu.weight", "59", "CPUWeight", "59"),
        ("cpu.max", "12500 50000", "CPUQuotaPerSecUSec", "250ms"),
        ("cpu.max", "12500 50000", "CPUQuotaPeriodUSec", "50ms"),
        ("cpuset.cpus", "0", "AllowedCPUs", "0"),
        ("cpuset.mems", "0", "AllowedMemoryNodes", "0"),
        ("pids.max", "77", "TasksMax", "77"),
    ];
    compare_always(c, "create", created)?;
    limits("1048576", "40")?;
    update(
        c,
        &json!({
            "memory": {"limit": 134_217_728, "swap": 134_217_728, "reservation": 16_777_216},
            "cpu": {"shares": 2048, "quota": 500_000, "period": 900_000, "cpus": "0-1"},
            "pids": {"limit": -1},
            "blockIO": {"throttleReadBpsDevice": rate(2 << 20)},
            "unified": {"memory.high": "max", "memory.min": "0"},
        }),
    )?
    .ok()?;
    let updated: &[Pair] = &[
        ("memory.max", "134217728", "MemoryMax", "134217728"),
        ("memory.low", "16777216", "MemoryLow", "16777216"),
        ("memory.swap.max", "0", "MemorySwapMax", "0"),
        ("memory.high", "max", "MemoryHigh", "infinity"),
        ("memory.min", "0", "MemoryMin", "0"),
        ("cpu.weight", "174", "CPUWeight", "174"),
        ("cpu.max", "504000 900000", "CPUQuotaPerSecUSec", "560ms"),
        ("cpu.max", "504000 900000", "CPUQuotaPeriodUSec", "900ms"),
        ("cpuset.cpus", "0-1", "AllowedCPUs", "0-1"),
        ("cpuset.mems", "0", "AllowedMemoryNodes", "0"),
        ("pids.max", "max", "TasksMax", "infinity"),
    ];
    compare_always(c, "update", updated)?;
    limits("2097152", "40")?;
    c.delete()?;
    no_unit_left(c)
}

/// systemd keeps whole percents of a processor.
fn quotas_are_what_systemd_makes_of_them(c: &mut Case) -> Check {
    start_sleeper(c)?;
    for (quota, period, pairs) in [
        (
            500_000,
            900_000,
            [("cpu.max", "504000 900000", "CPUQuotaPerSecUSec", "560ms")],
        ),
        (
            20_000,
            100_000,
            [("cpu.max", "20000 100000", "CPUQuotaPerSecUSec", "200ms")],
        ),
        (
            1000,
            1_000_000,
            [("cpu.max", "10000 1000000", "CPUQuotaPerSecUSec", "10ms")],
        ),
        // Without a quota systemd goes back to the usual period.
        (
            -1,
            50_000,
            [("cpu.max", "max 100000", "CPUQuotaPerSecUSec", "infinity")],
        ),
    ] {
        update(c, &json!({"cpu": {"quota": quota, "period": period}}))?.ok()?;
        let when = format!("update to {quota} {period}");
        compare(c, &when, &pairs)?;
        rewrite(c)?;
        compare(c, &format!("after {when}, written again"), &pairs)?;
    }
    // The period is still the one that was asked for.
    update(c, &json!({"cpu": {"quota": 25_000}}))?.ok()?;
    compare(
        c,
        "update of the quota",
        &[("cpu.max", "25000 50000", "CPUQuotaPerSecUSec", "500ms")],
    )?;
    update(c, &json!({"cpu": {"quota": 500}}))?
        .wants(1)?
        .refused_with("linux.resources.cpu.quota")?;
    compare(
        c,
        "update that was refused",
        &[("cpu.max", "25000 50000", "CPUQuotaPerSecUSec", "500ms")],
    )
}

fn idle_and_back(c: &mut Case) -> Check {
    c.resources().cpu().clear().idle(1);
    start_sleeper(c)?;
    compare_always(c, "create", &[("cpu.idle", "1", "CPUWeight", "idle")])?;
    update(c, &json!({"cpu": {"idle": 0}}))?.ok()?;
    let usual: &[Pair] = &[
        ("cpu.idle", "0", "CPUWeight", "100"),
        ("cpu.weight", "100", "CPUWeight", "100"),
    ];
    compare_always(c, "update to 0", usual)?;
    update(c, &json!({"unified": {"cpu.idle": "1"}}))?.ok()?;
    compare_always(c, "update to 1", &[("cpu.idle", "1", "CPUWeight", "idle")])?;
    update(c, &json!({"cpu": {"idle": 0, "shares": 2048}}))?.ok()?;
    let shares: &[Pair] = &[
        ("cpu.idle", "0", "CPUWeight", "174"),
        ("cpu.weight", "174", "CPUWeight", "174"),
    ];
    compare_always(c, "update to 0 with shares", shares)
}

fn idle_has_no_shares(c: &mut Case) -> Check {
    const TEXT: &str = "unable to apply both cpu.weight and cpu.idle";
    c.resources().cpu().clear().idle(1).shares(512);
    use_scope(c);
    create(c)?.wants(1)?.refused_with(TEXT)?;
    no_unit_left(c)?;
    c.resources().cpu().clear().idle(1);
    start_sleeper(c)?;
    let idle: &[Pair] = &[("cpu.idle", "1", "CPUWeight", "idle")];
    for resources in [
        json!({"cpu": {"shares": 512}}),
        json!({"unified": {"cpu.weight": "8"}}),
        json!({"cpu": {"idle": 1, "shares": 512}}),
    ] {
        let run = update(c, &resources)?.wants(1)?.refused_with(TEXT)?;
        ensure!(
            !run.stderr.contains("cleaning up"),
            "wish: one error, reality: {}",
            run.report()
        );
        compare(c, &format!("update {resources}"), idle)?;
    }
    Ok(())
}

fn weight_by_nice(c: &mut Case) -> Check {
    c.resources().unified(json!({"cpu.weight.nice": "5"}));
    start_sleeper(c)?;
    compare_always(c, "create", &[("cpu.weight", "33", "CPUWeight", "33")])?;
    update(c, &json!({"unified": {"cpu.weight.nice": "-5"}}))?.ok()?;
    compare_always(c, "update", &[("cpu.weight", "305", "CPUWeight", "305")])
}

/// The property is OOMPolicy, which systemd takes only when it makes a unit.
fn oom_group_is_chosen_once(c: &mut Case) -> Check {
    c.resources().unified(json!({"memory.oom.group": "1"}));
    start_sleeper(c)?;
    let kill: &[Pair] = &[("memory.oom.group", "1", "OOMPolicy", "kill")];
    compare_always(c, "create", kill)?;
    // As Kubernetes says it again when it resizes a container.
    update(
        c,
        &json!({"unified": {"memory.oom.group": "1"}, "pids": {"limit": 7}}),
    )?
    .ok()?;
    compare_always(c, "update to the same", kill)?;
    update(c, &json!({"unified": {"memory.oom.group": "0"}}))?
        .wants(1)?
        .refused_with("OOMPolicy")?;
    compare_always(c, "update to another", kill)
}

/// Where the kernel has it: systemd writes io.weight and io.bfq.weight from one property.
fn weights_of_the_bfq_scheduler(c: &mut Case) -> Check {
    let (major, minor) = scratch(&disk()?)?;
    c.resources().block_io(json!({"weight": 500}));
    start_sleeper(c)?;
    if !cgroup(c).join("io.bfq.weight").exists() {
        let weight: &[Pair] = &[("io.weight", "default 4950", "IOWeight", "4950")];
        return compare_always(c, "create", weight);
    }
    compare_always(
        c,
        "create",
        &[("io.bfq.weight", "default 500", "IOWeight", "4500")],
    )?;
    update(c, &json!({"blockIO": {"weight": 10}}))?.ok()?;
    compare_always(c, "update", &[("io.bfq.weight", "default 10", "IOWeight", "10")])?;
    let (file_name, text) = weights((major, minor), 10, 300)?;
    let device = json!([{"major": major, "minor": minor, "weight": 300}]);
    update(c, &json!({"blockIO": {"weightDevice": device}}))?.ok()?;
    for when in ["update", "update, written again"] {
        same(
            &format!("{file_name} after {when}"),
            text.as_str(),
            file(c, file_name)?.as_str(),
        )?;
        names_disk(&show(c, &unit(c))?, "IODeviceWeight", (major, minor), "2300")?;
        rewrite(c)?;
    }
    Ok(())
}

/// A directory whose name could be taken for a file of the kernel's gets a `_` in front (cg_escape in
/// systemd).
fn names_with_every_special_character(c: &mut Case) -> Check {
    let id = c.id.clone();
    let slice = format!("_st{}.slice", id.replace('-', "x"));
    let below = |directory: &str| format!("system.slice/{directory}-{id}.scope");
    for (path, place) in [
        (":_st", below("__st")),
        (":.st", below("_.st")),
        (":cgroup.st", below("_cgroup.st")),
        (":memory.st", below("_memory.st")),
        (":memory", below("memory")),
        (":s.t_", below("s.t_")),
        (":s\\x2dt", below("s\\x2dt")),
        (":-", below("-")),
        ("pids.slice:st", format!("_pids.slice/st-{id}.scope")),
        (&format!("{slice}:st"), format!("_{slice}/st-{id}.scope")),
    ] {
        c.linux().cgroups_path(format!("{path}:{id}"));
        c.args(&["/bin/sleep", "1000"]);
        create(c)?.ok()?;
        let pid = c.pid()?;
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        same(&format!("place of {path}"), format!("0::/{place}\n"), own)?;
        c.rt(&["start", &c.id])?.ok()?;
        c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
        update(c, &json!({"pids": {"limit": 7}}))?.ok()?;
        let directory = c.host.cgroup2.join(&place);
        let limit = fs::read_to_string(directory.join("pids.max"))?;
        same(&format!("pids.max of {path}"), "7", limit.trim())?;
        c.rt(&["pause", &c.id])?.ok()?;
        same(&format!("status of {path}"), "paused", c.status()?.as_str())?;
        c.delete()?;
        ensure!(!directory.exists(), "{} is left", directory.display());
        c.nothing_left()?;
    }
    for slice in ["pids.slice", &slice] {
        systemctl(c, &["stop", slice])?;
    }
    Ok(())
}

/// Somebody stops the scope while `create` waits for a hook.
fn stopped_while_it_is_created(c: &mut Case) -> Check {
    use_scope(c);
    // Not by SIGTERM, which process 1 of a pid namespace may ignore, and systemd then waits.
    let script = format!("systemctl kill --signal=KILL {0}; systemctl stop {0}", unit(c));
    c.hooks().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", script]))
        .env(["PATH=/usr/bin:/bin"])]);
    c.args(&["/bin/true"]);
    create(c)?.wants(1)?.refused()?;
    no_unit_left(c)?;
    c.hooks().clear();
    start_sleeper(c)?;
    c.delete()?;
    no_unit_left(c)
}

fn stopped_while_it_runs(c: &mut Case) -> Check {
    use_scope(c);
    let ready = c.rootfs("ready");
    for _ in 0..2 {
        c.shell("trap 'exit 0' TERM; echo > /ready; while :; do usleep 50000; done");
        create(c)?.ok()?;
        c.rt(&["start", &c.id])?.ok()?;
        c.wait_until("the trap", || Ok(ready.exists()))?;
        fs::remove_file(&ready)?;
        systemctl(c, &["stop", &unit(c)])?;
        c.wait_status("stopped")?;
        c.rt(&["exec", &c.id, "/bin/true"])?.refused()?;
        update(c, &json!({"pids": {"limit": 7}}))?
            .wants(1)?
            .refused_with("container not running")?;
        c.rt(&["delete", &c.id])?.ok()?;
        no_unit_left(c)?;
    }
    Ok(())
}

/// Containers come, are limited and go while systemd reads all units again and again.
fn reloads_under_load(c: &mut Case) -> Check {
    c.resources().cpu().clear().quota(12_345).period(50_000);
    c.resources().memory().clear().limit(67_108_864);
    let stop = c.dir.join("stop");
    let script = format!(
        "until [ -e {} ]; do systemctl daemon-reload; done",
        stop.display()
    );
    let mut load = std::process::Command::new("/bin/sh");
    load.args(["-c", &script]).stdin(std::process::Stdio::null());
    let load = runner::start(&mut load, &c.dir)?;
    let result = (0..4).try_for_each(|_| cycle(c));
    fs::write(&stop, "")?;
    load.finish_within(std::time::Duration::from_secs(90))?.ok()?;
    result?;
    no_unit_left(c)
}

fn cycle(c: &mut Case) -> Check {
    start_sleeper(c)?;
    let created: &[Pair] = &[
        ("cpu.max", "12500 50000", "CPUQuotaPerSecUSec", "250ms"),
        ("memory.max", "67108864", "MemoryMax", "67108864"),
    ];
    compare(c, "create", created)?;
    update(c, &json!({"cpu": {"quota": 500_000, "period": 900_000}}))?.ok()?;
    let updated: &[Pair] = &[
        ("cpu.max", "504000 900000", "CPUQuotaPerSecUSec", "560ms"),
        ("memory.max", "67108864", "MemoryMax", "67108864"),
    ];
    compare(c, "update", updated)?;
    c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    c.delete()
}

/// CPUAffinity= of a daemon is not its containers': without `execCPUAffinity` they get what their cpuset has.
fn called_from_a_pinned_service(c: &mut Case) -> Check {
    use_scope(c);
    c.shell("grep Cpus_allowed_list /proc/self/status");
    c.write_config()?;
    let (root, bundle) = (c.state_root.display().to_string(), c.bundle.display().to_string());
    for driver in [&["--systemd-cgroup"][..], &[]] {
        if driver.is_empty() {
            c.config["linux"]["cgroupsPath"] = json!(format!("/{}", c.id));
            c.write_config()?;
        }
        let mut line = std::process::Command::new("systemd-run");
        line.args(["--quiet", "--wait", "--pipe", "--property=CPUAffinity=0", "--"]);
        line.arg(c.host.runtime_command().get_program());
        line.args(["--root", &root]).args(driver);
        line.args(["run", "--bundle", &bundle, &c.id]);
        line.stdin(std::process::Stdio::null());
        let run = runner::start(&mut line, &c.dir)?.finish()?.ok()?;
        let seen: Vec<&str> = run.stdout.split_whitespace().collect();
        same(
            &format!("processors, {driver:?}"),
            vec!["Cpus_allowed_list:", "0-1"],
            seen,
        )?;
    }
    no_unit_left(c)
}

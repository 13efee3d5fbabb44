//! The systemd driver and limits: every field, block devices, an update that fails. What the kernel's files
//! hold and what systemd knows must be the same, also after systemd has read all units again.

use super::names_disk;
use crate::{
    case::Case,
    need::Need,
    outcome::{Check, contains, same},
    tests::{
        cgroups::{disk, every_field, scratch, weights},
        systemd::{
            SYSTEMD, cgroup, file, has, no_unit_left, show, start_sleeper, systemctl, unit, use_scope,
            with_systemd,
        },
    },
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::fs;

tests! {
    systemd/all_fields_together: WITH_DISK,
    systemd/block_io_reaches_systemd: WITH_DISK,
    systemd/smallest_limits_run_a_program: SYSTEMD,
    systemd/failed_update_leaves_all_as_it_was: WITH_DISK,
}

const WITH_DISK: &[Need] = &[Need::Systemd, Need::ScratchDisk, Need::SecondCpu];

fn all_fields_together(c: &mut Case) -> Check {
    let (resources, values) = every_field(scratch(&disk()?)?)?;
    c.config["linux"]["resources"] = resources;
    for _ in 0..2 {
        start_sleeper(c)?;
        for (name, wish) in &values {
            same(name, wish.as_str(), file(c, name)?.as_str())?;
        }
        has(
            &show(c, &unit(c))?,
            &[
                ("MemoryMax", "67108864"),
                ("MemoryLow", "33554432"),
                ("MemoryHigh", "50331648"),
                ("MemorySwapMax", "33554432"),
                ("CPUWeight", "59"),
                ("CPUQuotaPerSecUSec", "500ms"),
                ("AllowedCPUs", "0"),
                ("AllowedMemoryNodes", "0"),
                ("TasksMax", "50"),
                ("IOWeight", by_scheduler(c, "2300", "2930")),
            ],
        )?;
        c.delete()?;
        no_unit_left(c)?;
    }
    Ok(())
}

/// systemd's weight is such that it makes the right one of it, for the scheduler bfq or for all.
fn by_scheduler(c: &Case, bfq: &'static str, all: &'static str) -> &'static str {
    match cgroup(c).join("io.bfq.weight").exists() {
        true => bfq,
        false => all,
    }
}

fn block_io_reaches_systemd(c: &mut Case) -> Check {
    let disk = scratch(&disk()?)?;
    let rate = |rate: u64| json!([{"major": disk.0, "minor": disk.1, "rate": rate}]);
    c.resources().block_io(json!({"weight": 300, "weightDevice": [{"major": disk.0, "minor": disk.1, "weight": 500}], "throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20), "throttleReadIOPSDevice": rate(30), "throttleWriteIOPSDevice": rate(40)}));
    let number = format!("{}:{}", disk.0, disk.1);
    let (weights_file, weights) = weights(disk, 300, 500)?;
    start_sleeper(c)?;
    let rates = format!("{number} rbps=1048576 wbps=2097152 riops=30 wiops=40");
    same("weights", weights.as_str(), file(c, weights_file)?.as_str())?;
    for moment in ["at first", "after daemon-reload"] {
        same(moment, rates.as_str(), file(c, "io.max")?.as_str())?;
        systemctl(c, &["daemon-reload"])?;
    }
    let shown = show(c, &unit(c))?;
    has(&shown, &[("IOWeight", by_scheduler(c, "2300", "2930"))])?;
    for (key, value) in [
        ("IODeviceWeight", by_scheduler(c, "4500", "4950")),
        ("IOReadBandwidthMax", "1048576"),
        ("IOWriteBandwidthMax", "2097152"),
        ("IOReadIOPSMax", "30"),
        ("IOWriteIOPSMax", "40"),
    ] {
        names_disk(&shown, key, disk, value)?;
    }
    update(c, &json!({"blockIO": {"throttleReadBpsDevice": rate(3 << 20)}}))?;
    contains("io.max", &file(c, "io.max")?, "rbps=3145728")?;
    names_disk(&show(c, &unit(c))?, "IOReadBandwidthMax", disk, "3145728")
}

fn update(c: &Case, resources: &Value) -> Check {
    let path = c.dir.join("update.json");
    fs::write(&path, resources.to_string())?;
    c.rt(&["update", "--resources", &path.to_string_lossy(), &c.id])?
        .ok()?;
    Ok(())
}

/// What systemd and the runtime add to the scope must not count.
fn smallest_limits_run_a_program(c: &mut Case) -> Check {
    use_scope(c);
    for (section, value) in [
        ("pids", json!({"limit": 1})),
        ("memory", json!({"limit": 1 << 20, "swap": 1 << 20})),
    ] {
        c.config["linux"]["resources"] = json!({section: value});
        c.shell("echo ran");
        let run = with_systemd(c, &c.bundle_args("run", &[], &c.id)?)?.ok()?;
        same(section, "ran", run.stdout.trim())?;
        no_unit_left(c)?;
    }
    Ok(())
}

/// The limits are there, in the kernel and in systemd, when it turns out that they cannot be remembered: the
/// state root is full. Then both must have the old ones again, also after the next reload.
fn failed_update_leaves_all_as_it_was(c: &mut Case) -> Check {
    let tmpfs = Some("tmpfs");
    mount(
        tmpfs,
        &c.state_root,
        tmpfs,
        MsFlags::empty(),
        Some("size=256k,mode=0700"),
    )?;
    let result = with_full_state_root(c);
    // Room for what `delete` writes.
    let filler = c.state_root.join(".filler");
    fs::remove_file(filler).ok();
    let deleted = c.delete();
    umount2(&c.state_root, MntFlags::MNT_DETACH)?;
    result.and(deleted)?;
    no_unit_left(c)
}

fn with_full_state_root(c: &mut Case) -> Check {
    let disk = scratch(&disk()?)?;
    c.resources().memory().clear().limit(67_108_864);
    c.resources().pids().clear().limit(77);
    start_sleeper(c)?;
    let files = [
        "memory.max",
        "pids.max",
        "cpu.max",
        "cpu.weight",
        // Not cpuset.cpus itself: the kernel does not let it become empty again.
        "cpuset.cpus.effective",
        "io.max",
    ];
    let read = |c: &Case| -> Check<Vec<String>> { files.iter().map(|name| file(c, name)).collect() };
    let before = read(c)?;
    let _full = fs::write(c.state_root.join(".filler"), vec![0; 1 << 20]).is_err();
    let wishes = json!({"memory": {"limit": 134_217_728}, "pids": {"limit": 55},
        "cpu": {"quota": 20000, "period": 100_000, "shares": 512, "cpus": "0"},
        "blockIO": {"throttleReadBpsDevice": [{"major": disk.0, "minor": disk.1, "rate": 1 << 20}]}});
    let path = c.dir.join("update.json");
    fs::write(&path, wishes.to_string())?;
    c.rt(&["update", "--resources", &path.to_string_lossy(), &c.id])?
        .wants(1)?
        .refused()?;
    same("files", before.clone(), read(c)?)?;
    has(
        &show(c, &unit(c))?,
        &[
            ("MemoryMax", "67108864"),
            ("TasksMax", "77"),
            ("CPUQuotaPerSecUSec", "infinity"),
            ("CPUWeight", "100"),
        ],
    )?;
    let cpus = show(c, &unit(c))?.remove("AllowedCPUs").unwrap_or_default();
    same("AllowedCPUs", "", cpus.as_str())?;
    systemctl(c, &["daemon-reload"])?;
    same("files after daemon-reload", before, read(c)?)
}

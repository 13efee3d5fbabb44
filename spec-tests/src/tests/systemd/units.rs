//! Runs in: SUITE. The systemd driver, `--systemd-cgroup`: units as `systemctl` shows them, limits in systemd
//! and in the kernel's files, and what is left afterwards. The order of fields in `cgroupsPath` is runc's,
//! `slice:prefix:name`.

use super::{
    SYSTEMD, cgroup, command, create, file, has, no_unit_left, show, start_sleeper, systemctl, unit,
    use_scope, with_systemd,
};
use crate::{
    case::Case,
    config::{DeviceRule, Hook},
    host::{self, Host},
    need::Need,
    outcome::{Check, contains, ensure, fail, same},
    runner::{self, Run},
    tests::cgroups::{commands_leave_it_alone, kill_when_there, second_root, within},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

tests! {
    systemd/refused_without_systemd: &[NoPath("/run/systemd/system")],
    systemd/scope_and_its_properties: SYSTEMD,
    systemd/slice_with_dashes: SYSTEMD,
    systemd/path_absent: SYSTEMD,
    systemd/slice_absent: SYSTEMD,
    systemd/path_of_another_form_is_refused: SYSTEMD,
    systemd/container_in_a_slice_of_its_own: SYSTEMD,
    systemd/limits_in_systemd_and_in_the_files: &[Systemd, Controller("cpuset"), SecondCpu],
    systemd/unified_reaches_systemd: SYSTEMD,
    systemd/device_rules_survive_reloads: SYSTEMD,
    systemd/annotations_become_properties: SYSTEMD,
    systemd/bad_annotations_are_refused: SYSTEMD,
    systemd/annotations_beyond_the_container_are_refused: SYSTEMD,
    systemd/annotations_do_not_widen_limits: SYSTEMD,
    systemd/calls_per_container: &[Systemd, Alone],
    systemd/unit_that_is_refused_is_not_stopped: &[Systemd, Alone],
    systemd/global_flag_of_crun: SYSTEMD,
    systemd/driver_is_remembered: SYSTEMD,
    systemd/exec_is_in_the_scope: SYSTEMD,
    systemd/exec_where_init_has_moved: SYSTEMD,
    systemd/update_reaches_systemd: SYSTEMD,
    systemd/unit_in_use_is_refused: SYSTEMD,
    systemd/failed_unit_is_cleared_away: SYSTEMD,
    systemd/nothing_left_after_its_own_end: SYSTEMD,
    systemd/nothing_left_after_an_oom_kill: SYSTEMD,
    systemd/nothing_left_after_a_failure: SYSTEMD,
    systemd/nothing_left_of_a_killed_create: SYSTEMD,
    systemd/nothing_left_of_a_killed_create_with_a_description: SYSTEMD,
    systemd/unit_of_another_root_is_left_alone: SYSTEMD,
    systemd/unit_of_another_root_and_a_killed_create: SYSTEMD,
    systemd/stopped_by_systemd: SYSTEMD,
    systemd/subgroup: SYSTEMD,
    systemd/over_a_broker: SYSTEMD,
    systemd/user_manager: USER,
    systemd/user_without_manager_is_refused: USER,
    systemd/unit_of_the_system_is_for_root: USER,
}

const USER: &[Need] = &[Need::Systemd, Need::User, Need::Program("setpriv")];

fn annotate(c: &mut Case, pairs: &[(&str, &str)]) {
    for (key, value) in pairs {
        c.config["annotations"][*key] = json!(value);
    }
}

fn refused_without_systemd(c: &mut Case) -> Check {
    use_scope(c);
    create(c)?.wants(1)?.refused_with("systemd")?;
    c.nothing_left()
}

fn scope_and_its_properties(c: &mut Case) -> Check {
    start_sleeper(c)?;
    let shown = show(c, &unit(c))?;
    let place = format!("/system.slice/{}", unit(c));
    has(
        &shown,
        &[
            ("ActiveState", "active"),
            ("Transient", "yes"),
            ("Slice", "system.slice"),
            ("ControlGroup", &place),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("MemoryAccounting", "yes"),
            ("TasksAccounting", "yes"),
        ],
    )?;
    contains(
        "Description",
        shown.get("Description").map_or("", String::as_str),
        &c.id,
    )?;
    same("cgroup.procs", c.pid()?.to_string(), file(c, "cgroup.procs")?)?;
    let controllers = file(c, "cgroup.controllers")?;
    for controller in ["cpu", "memory", "pids", "io"] {
        contains("controllers", &controllers, controller)?;
    }
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    no_unit_left(c)
}

fn slice_with_dashes(c: &mut Case) -> Check {
    // The id holds a dash itself, as those of Kubernetes' pods do.
    let slice = format!("{}-pod.slice", c.id);
    c.config["linux"]["cgroupsPath"] = json!(format!("{slice}:st:{}", c.id));
    c.args(&["/bin/sleep", "1000"]);
    create(c)?.ok()?;
    let (first, _) = c.id.split_once('-').unwrap_or_default();
    let place = format!("/{first}.slice/{}.slice/{slice}/{}", c.id, unit(c));
    let shown = show(c, &unit(c))?;
    c.delete()?;
    systemctl(c, &["stop", &format!("{first}.slice")])?;
    has(&shown, &[("Slice", &slice), ("ControlGroup", &place)])?;
    no_unit_left(c)
}

fn path_absent(c: &mut Case) -> Check {
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
    c.args(&["/bin/sleep", "1000"]);
    create(c)?.ok()?;
    let pid = c.pid()?;
    let place = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    contains("place", &place, "0::/system.slice/")?;
    contains("place", &place, &format!("-{}.scope", c.id))?;
    c.delete()?;
    no_unit_left(c)
}

/// runc's documentation: an empty slice is the usual one.
fn slice_absent(c: &mut Case) -> Check {
    c.config["linux"]["cgroupsPath"] = json!(format!(":st:{}", c.id));
    c.args(&["/bin/sleep", "1000"]);
    create(c)?.ok()?;
    has(&show(c, &unit(c))?, &[("Slice", "system.slice")])?;
    c.delete()?;
    no_unit_left(c)
}

fn path_of_another_form_is_refused(c: &mut Case) -> Check {
    for path in [
        "/a/b",
        "a:b",
        "a.slice:b:c:d",
        "no-slice:p:n",
        "a--b.slice:p:n",
        ":p:../n",
        ":p:a b",
        // The name of an instance, which neither can be.
        ":p@t:n",
        "s@t.slice:p:n",
    ] {
        c.linux().cgroups_path(path);
        let run = create(c)?;
        ensure!(
            run.code() != 0,
            "wish: {path:?} is refused\n    reality: {}",
            run.report()
        );
        run.refused()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn container_in_a_slice_of_its_own(c: &mut Case) -> Check {
    let unit = format!("{}.slice", c.id.replace('-', "_"));
    c.linux().cgroups_path(format!(":st:{unit}"));
    c.resources().pids().clear().limit(50);
    c.args(&["/bin/sleep", "1000"]);
    create(c)?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let shown = show(c, &unit)?;
    let place = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
    c.delete()?;
    has(&shown, &[("ActiveState", "active"), ("TasksMax", "50")])?;
    same("place", format!("0::/{unit}\n"), place)?;
    let left = systemctl(c, &["list-units", "--all", "--no-legend", "--plain", &unit])?;
    same("units left", "", left.stdout.trim())
}

fn limits_in_systemd_and_in_the_files(c: &mut Case) -> Check {
    c.resources()
        .memory()
        .clear()
        .limit(67_108_864)
        .reservation(33_554_432)
        .swap(100_663_296);
    c.resources()
        .cpu()
        .clear()
        .shares(2048)
        .quota(12_345)
        .period(50_000)
        .cpus("0-1")
        .mems("0");
    c.resources().pids().clear().limit(77);
    start_sleeper(c)?;
    let shown = show(c, &unit(c))?;
    has(
        &shown,
        &[
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("MemorySwapMax", "33554432"),
            ("TasksMax", "77"),
            // 24.69 %, rounded up to a whole percent: systemd would round down.
            ("CPUQuotaPerSecUSec", "250ms"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("AllowedCPUs", "0-1"),
            ("AllowedMemoryNodes", "0"),
        ],
    )?;
    let exact = [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "33554432"),
        ("pids.max", "77"),
        // As systemd will write it.
        ("cpu.max", "12500 50000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
    ];
    for (name, wish) in exact {
        same(name, wish, file(c, name)?.as_str())?;
    }
    same("CPUWeight", Some(&file(c, "cpu.weight")?), shown.get("CPUWeight"))?;
    systemctl(c, &["daemon-reload"])?;
    for (name, wish) in exact {
        same(
            &format!("{name} after daemon-reload"),
            wish,
            file(c, name)?.as_str(),
        )?;
    }
    c.delete()?;
    no_unit_left(c)
}

fn unified_reaches_systemd(c: &mut Case) -> Check {
    c.resources().unified(
        json!({"memory.high": "64M", "memory.min": "1048576", "pids.max": "66", "cpu.weight": "321"}),
    );
    start_sleeper(c)?;
    has(
        &show(c, &unit(c))?,
        &[
            ("MemoryHigh", "67108864"),
            ("MemoryMin", "1048576"),
            ("TasksMax", "66"),
            ("CPUWeight", "321"),
        ],
    )?;
    systemctl(c, &["daemon-reload"])?;
    for (name, wish) in [
        ("memory.high", "67108864"),
        ("memory.min", "1048576"),
        ("pids.max", "66"),
        ("cpu.weight", "321"),
    ] {
        same(name, wish, file(c, name)?.as_str())?;
    }
    Ok(())
}

/// `errno` of opening each node for reading; 1 is EPERM, the filter's word, and 6 (ENXIO) that of a device
/// which is not there, once the filter has let the call pass.
fn opened(c: &Case) -> Check<Value> {
    let report = c.exec_probe(
        &[],
        &[
            "--access",
            "/dev/kmsg",
            "--access",
            "/dev/memory",
            "--access",
            "/dev/absent",
            "--access",
            "/dev/null",
        ],
    )?;
    let errno = |path: &str| report.access[path].read;
    Ok(json!([
        errno("/dev/kmsg"),
        errno("/dev/memory"),
        errno("/dev/absent"),
        errno("/dev/null")
    ]))
}

/// systemd knows devices only by the nodes that it finds, and has no word for a rule that takes away. So it
/// must neither widen nor narrow the runtime's filter when it puts its own idea in force again (runc issues
/// 3551 and 3708).
fn device_rules_survive_reloads(c: &mut Case) -> Check {
    c.resources().devices([
        DeviceRule::new().allow(false).access("rwm"),
        DeviceRule::new().allow(true).kind("c").major(1).access("rwm"),
        DeviceRule::new()
            .allow(false)
            .kind("c")
            .major(1)
            .minor(1)
            .access("rwm"),
        DeviceRule::new()
            .allow(true)
            .kind("c")
            .major(250)
            .minor(77)
            .access("rw"),
    ]);
    use_scope(c);
    c.shell("mknod /dev/kmsg c 1 11; mknod /dev/memory c 1 1; mknod /dev/absent c 250 77; exec sleep 1000");
    let caps = json!(["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG", "CAP_SYS_RAWIO"]);
    for set in ["bounding", "effective", "permitted"] {
        c.config["process"]["capabilities"][set] = caps.clone();
    }
    create(c)?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    c.wait_until("the nodes", || Ok(opened(c)?[2] != 2))?;
    let wish = json!([0, 1, 6, 0]);
    same("at first", wish.clone(), opened(c)?)?;
    for change in [
        &["daemon-reload"][..],
        &["set-property", "--runtime", &unit(c), "CPUWeight=50"],
    ] {
        systemctl(c, change)?;
        same(&format!("after {change:?}"), wish.clone(), opened(c)?)?;
    }
    Ok(())
}

fn annotations_become_properties(c: &mut Case) -> Check {
    annotate(
        c,
        &[
            ("org.systemd.property.TimeoutStopSec", "uint64 7"),
            ("org.systemd.property.RuntimeMaxUSec", "uint64 600000000"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            (
                "org.systemd.property.After",
                "['multi-user.target', 'basic.target']",
            ),
            ("org.systemd.property.SendSIGHUP", "true"),
            ("org.systemd.property.KillSignal", "10"),
        ],
    );
    start_sleeper(c)?;
    let shown = show(c, &unit(c))?;
    has(
        &shown,
        &[
            ("TimeoutStopUSec", "7s"),
            ("RuntimeMaxUSec", "10min"),
            ("CollectMode", "inactive-or-failed"),
            ("SendSIGHUP", "yes"),
            ("KillSignal", "10"),
        ],
    )?;
    contains(
        "After",
        shown.get("After").map_or("", String::as_str),
        "multi-user.target",
    )
}

fn bad_annotations_are_refused(c: &mut Case) -> Check {
    use_scope(c);
    for (key, value) in [
        ("org.systemd.property.x", "true"),
        ("org.systemd.property.Time out", "true"),
        ("org.systemd.property.TimeoutStopUSec", "5 seconds"),
        ("org.systemd.property.TimeoutStopUSec", "'never'"),
        ("org.systemd.property.NoSuchProperty", "true"),
        ("org.systemd.property.After", "["),
    ] {
        c.document().annotations(json!({key: value}));
        let run = create(c)?.wants(1)?;
        let name = key.rsplit('.').next().unwrap_or_default();
        run.refused_with(name)?;
        no_unit_left(c)?;
    }
    Ok(())
}

/// An engine may copy annotations of an image, whose author must not reach the host's other units.
fn annotations_beyond_the_container_are_refused(c: &mut Case) -> Check {
    use_scope(c);
    for (name, value) in [
        ("FailureAction", "'reboot'"),
        ("SuccessAction", "'poweroff'"),
        ("JobTimeoutAction", "'reboot'"),
        ("JobTimeoutSec", "1"),
        ("Conflicts", "['dbus.service']"),
        ("OnFailure", "['reboot.target']"),
        ("OnSuccess", "['reboot.target']"),
        ("Wants", "['no-such.service']"),
        ("Requires", "['no-such.service']"),
        ("RefuseManualStop", "true"),
        ("Controller", "'org.example'"),
        ("User", "'daemon'"),
        // systemd writes it into the unit's file, and reads that at the next reload.
        ("Description", r"'x\nFailureAction=reboot'"),
        ("Description", "'x\nFailureAction=reboot'"),
    ] {
        c.document()
            .annotations(json!({format!("org.systemd.property.{name}"): value}));
        let run = create(c)?;
        if run.code() == 0 {
            c.delete()?;
        }
        run.wants(1)?
            .refused_with(&format!("org.systemd.property.{name}"))?;
        no_unit_left(c)?;
    }
    Ok(())
}

/// systemd would put its own value in force with the next reload.
fn annotations_do_not_widen_limits(c: &mut Case) -> Check {
    use_scope(c);
    c.resources().memory().clear().limit(67_108_864);
    c.resources().pids().clear().limit(50);
    for name in ["MemoryMax", "TasksMax", "StartupMemoryMax"] {
        c.document()
            .annotations(json!({format!("org.systemd.property.{name}"): "uint64 18446744073709551615"}));
        let run = create(c)?;
        if run.code() == 0 {
            c.delete()?;
        }
        run.wants(1)?.refused_with(name)?;
        no_unit_left(c)?;
    }
    // What config.json says nothing about may be limited.
    c.document()
        .annotations(json!({"org.systemd.property.MemoryHigh": "uint64 33554432"}));
    start_sleeper(c)?;
    same("memory.high", "33554432", file(c, "memory.high")?.as_str())
}

fn driver_is_remembered(c: &mut Case) -> Check {
    start_sleeper(c)?;
    c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    c.rt(&["pause", &c.id])?.ok()?;
    same("status", "paused", c.status()?.as_str())?;
    same("cgroup.freeze", "1", file(c, "cgroup.freeze")?.as_str())?;
    c.rt(&["resume", &c.id])?.ok()?;
    same("status", "running", c.status()?.as_str())?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    no_unit_left(c)
}

fn exec_is_in_the_scope(c: &mut Case) -> Check {
    start_sleeper(c)?;
    let pid_file = c.dir.join("exec.pid");
    let path = pid_file.display().to_string();
    c.rt(&[
        "exec",
        "--detach",
        "--pid-file",
        &path,
        &c.id,
        "/bin/sleep",
        "1000",
    ])?
    .ok()?;
    let pid = fs::read_to_string(&pid_file)?;
    let place = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?;
    contains("place", &place, &unit(c))
}

/// As systemd in a container does it; then the scope's own cgroup takes no processes.
fn exec_where_init_has_moved(c: &mut Case) -> Check {
    start_sleeper(c)?;
    let inner = cgroup(c).join("inner");
    fs::create_dir(&inner)?;
    fs::write(inner.join("cgroup.procs"), c.pid()?.to_string())?;
    fs::write(cgroup(c).join("cgroup.subtree_control"), "+pids +memory")?;
    c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    no_unit_left(c)
}

fn update_reaches_systemd(c: &mut Case) -> Check {
    c.resources().memory().clear().limit(67_108_864);
    start_sleeper(c)?;
    c.rt(&[
        "update",
        "--memory",
        "134217728",
        "--pids-limit",
        "55",
        "--cpu-quota",
        "20000",
        &c.id,
    ])?
    .ok()?;
    let wishes = [
        ("memory.max", "134217728"),
        ("pids.max", "55"),
        ("cpu.max", "20000 100000"),
    ];
    for (name, wish) in wishes {
        same(name, wish, file(c, name)?.as_str())?;
    }
    has(
        &show(c, &unit(c))?,
        &[
            ("MemoryMax", "134217728"),
            ("TasksMax", "55"),
            ("CPUQuotaPerSecUSec", "200ms"),
        ],
    )?;
    systemctl(c, &["daemon-reload"])?;
    for (name, wish) in wishes {
        same(
            &format!("{name} after daemon-reload"),
            wish,
            file(c, name)?.as_str(),
        )?;
    }
    Ok(())
}

/// Starts a scope of that name that is not a container's.
fn foreign_scope(c: &Case, property: &str, seconds: &str) -> Check {
    let line = format!(
        "systemd-run --quiet --scope --unit={} --property={property} sleep {seconds} </dev/null >/dev/null 2>&1 &",
        unit(c)
    );
    command(c, &["/bin/sh", "-c", &line])?.ok()?;
    c.wait_until("the other scope", || Ok(cgroup(c).join("cgroup.procs").exists()))
}

fn unit_in_use_is_refused(c: &mut Case) -> Check {
    use_scope(c);
    foreign_scope(c, "TasksMax=9", "1000")?;
    let run = create(c)?;
    let shown = show(c, &unit(c))?;
    systemctl(c, &["stop", &unit(c)])?;
    run.wants(1)?.refused_with(&unit(c))?;
    has(&shown, &[("ActiveState", "active"), ("TasksMax", "9")])?;
    no_unit_left(c)
}

fn failed_unit_is_cleared_away(c: &mut Case) -> Check {
    foreign_scope(c, "RuntimeMaxSec=1s", "1000")?;
    c.wait_until("its failure", || {
        Ok(show(c, &unit(c))?
            .get("ActiveState")
            .is_some_and(|state| state == "failed"))
    })?;
    start_sleeper(c)?;
    has(&show(c, &unit(c))?, &[("ActiveState", "active")])?;
    c.delete()?;
    no_unit_left(c)
}

fn nothing_left_after_its_own_end(c: &mut Case) -> Check {
    use_scope(c);
    c.args(&["/bin/true"]);
    with_systemd(c, &c.bundle_args("run", &[], &c.id)?)?.ok()?;
    no_unit_left(c)?;
    // And again, under the same name.
    with_systemd(c, &c.bundle_args("run", &[], &c.id)?)?.ok()?;
    no_unit_left(c)
}

fn nothing_left_after_an_oom_kill(c: &mut Case) -> Check {
    use_scope(c);
    c.resources().memory().clear().limit(16 << 20).swap(16 << 20);
    c.args(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    // Under the same name again, which a failed unit would keep.
    for _ in 0..3 {
        let run = with_systemd(c, &c.bundle_args("run", &[], &c.id)?)?;
        same("exit code", 137, run.code())?;
        no_unit_left(c)?;
    }
    c.shell("echo ran");
    let run = with_systemd(c, &c.bundle_args("run", &[], &c.id)?)?.ok()?;
    same("the next one", "ran", run.stdout.trim())?;
    no_unit_left(c)
}

fn nothing_left_after_a_failure(c: &mut Case) -> Check {
    use_scope(c);
    c.args(&["/no/such/program"]);
    create(c)?.wants(1)?.refused()?;
    no_unit_left(c)?;
    c.args(&["/bin/true"]);
    c.resources().unified(json!({"memory.max": "nonsense"}));
    create(c)?.wants(1)?.refused_with("memory.max")?;
    no_unit_left(c)
}

fn nothing_left_of_a_killed_create(c: &mut Case) -> Check {
    use_scope(c);
    // The hook runs while the runtime waits for it, with the unit there and the state not yet written.
    c.hooks()
        .clear()
        .create_runtime([Hook::new().path("/bin/sh").args(["sh", "-c", "kill -9 $PPID"])]);
    let run = create(c)?;
    ensure!(run.code() != 0, "the runtime was to be killed: {}", run.report());
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    no_unit_left(c)
}

/// The unit of a killed `create` is known by its description, of which an annotation may have a say.
fn nothing_left_of_a_killed_create_with_a_description(c: &mut Case) -> Check {
    annotate(c, &[("org.systemd.property.Description", "'web server'")]);
    nothing_left_of_a_killed_create(c)?;
    c.hooks().clear();
    start_sleeper(c)?;
    let shown = show(c, &unit(c))?;
    let description = shown.get("Description").map_or("", String::as_str);
    contains("Description", description, "web server")?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    no_unit_left(c)
}

/// Two containers with one unit: the first has ended, and with it the unit.
fn unit_of_another_root_is_left_alone(c: &mut Case) -> Check {
    let second = second_root(c)?;
    start_sleeper(c)?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.wait_until("systemd has noticed", || Ok(!cgroup(c).exists()))?;
    within(c, &second, start_sleeper)?;
    let checked = commands_leave_it_alone(c, &second);
    within(c, &second, |c| c.delete())?;
    checked?;
    no_unit_left(c)
}

/// What is killed before it could ask systemd has a state that names the unit.
fn unit_of_another_root_and_a_killed_create(c: &mut Case) -> Check {
    let second = second_root(c)?;
    within(c, &second, start_sleeper)?;
    let mut checked = Ok(());
    for _ in 0..6 {
        let state = c.state_root.join(&c.id);
        let live = runner::start(
            c.command()
                .arg("--systemd-cgroup")
                .args(c.bundle_args("create", &[], &c.id)?),
            &c.dir,
        )?;
        kill_when_there(live, &state)?;
        c.delete()?;
        checked = within(c, &second, |c| same("status", "running", c.status()?.as_str()));
        if checked.is_err() {
            break;
        }
    }
    within(c, &second, |c| c.delete())?;
    checked?;
    no_unit_left(c)
}

fn stopped_by_systemd(c: &mut Case) -> Check {
    start_sleeper(c)?;
    systemctl(c, &["kill", "--signal=KILL", &unit(c)])?;
    c.wait_status("stopped")?;
    c.wait_until("systemd has noticed", || Ok(!cgroup(c).exists()))?;
    c.rt(&["delete", &c.id])?.ok()?;
    no_unit_left(c)
}

/// crun's annotations: a cgroup below the unit's for the container, and one more for its init, once its
/// cgroup namespace has been made.
fn subgroup(c: &mut Case) -> Check {
    annotate(
        c,
        &[
            ("run.oci.systemd.subgroup", "payload"),
            ("run.oci.delegate-cgroup", "inner"),
        ],
    );
    c.resources().pids().clear().limit(50);
    start_sleeper(c)?;
    let place = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
    contains("place", &place, &format!("{}/payload/inner", unit(c)))?;
    let inside = c.rt(&["exec", &c.id, "/bin/cat", "/proc/1/cgroup"])?.ok()?;
    same(
        "place as the container sees it",
        "0::/inner",
        inside.stdout.trim(),
    )?;
    same(
        "TasksMax",
        Some("50"),
        show(c, &unit(c))?.get("TasksMax").map(String::as_str),
    )?;
    c.rt(&["pause", &c.id])?.ok()?;
    same("status", "paused", c.status()?.as_str())?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    if Path::new(&cgroup(c)).exists() {
        return fail("the unit's cgroup is left");
    }
    no_unit_left(c)
}

/// Where systemd's own socket cannot be reached, as in a container that got only the bus.
fn over_a_broker(c: &mut Case) -> Check {
    use_scope(c);
    c.args(&["/bin/true"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = c.command();
    command
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket")
        .arg("--systemd-cgroup")
        .args(words);
    runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    no_unit_left(c)
}

fn global_flag_of_crun(c: &mut Case) -> Check {
    use_scope(c);
    c.args(&["/bin/sleep", "1000"]);
    let mut line = c.command();
    line.arg("--cgroup-manager=systemd");
    line.args(c.bundle_args("create", &[], &c.id)?);
    runner::start(&mut line, &c.dir)?.finish()?.ok()?;
    has(
        &show(c, &unit(c))?,
        &[("ActiveState", "active"), ("Delegate", "yes")],
    )?;
    c.delete()?;
    no_unit_left(c)
}

/// Each is a round trip through process 1, on the way of every container.
fn calls_per_container(c: &mut Case) -> Check {
    use_scope(c);
    c.args(&["/bin/sleep", "1000"]);
    with_debug_log(c, counted)
}

/// Of what was not begun nothing is to be undone; who may not start a unit may not stop it either.
fn unit_that_is_refused_is_not_stopped(c: &mut Case) -> Check {
    use_scope(c);
    annotate(c, &[("org.systemd.property.TimeoutStopUSec", "'never'")]);
    with_debug_log(c, |c| {
        let calls = calls_of(c, || {
            create(c)?.wants(1)?.refused_with("TimeoutStopUSec").map(drop)
        })?;
        same("calls", vec!["StartTransientUnit".to_owned()], calls)
    })?;
    no_unit_left(c)
}

fn with_debug_log(c: &Case, work: impl FnOnce(&Case) -> Check) -> Check {
    let before = systemctl(c, &["log-level"])?.stdout.trim().to_owned();
    systemctl(c, &["log-level", "debug"])?;
    let result = work(c);
    systemctl(c, &["log-level", &before])?;
    result
}

fn counted(c: &Case) -> Check {
    let started = calls_of(c, || {
        create(c)?.ok()?;
        c.rt(&["start", &c.id])?.ok()?;
        Ok(())
    })?;
    same(
        "calls of create and start",
        vec!["StartTransientUnit".to_owned()],
        started,
    )?;
    let deleted = calls_of(c, || c.delete())?;
    // None where systemd has noticed first that nobody is left.
    ensure!(
        deleted.is_empty() || deleted == ["StopUnit"],
        "calls of delete:\n    wish:    StopUnit at most\n    reality: {deleted:?}"
    );
    no_unit_left(c)
}

/// The methods of systemd that are called meanwhile, as its debug log has them.
fn calls_of(c: &Case, work: impl FnOnce() -> Check) -> Check<Vec<String>> {
    command(c, &["journalctl", "--sync"])?.ok()?;
    let shown = command(c, &["journalctl", "--lines=1", "--show-cursor", "--quiet"])?.ok()?;
    let cursor = shown
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("-- cursor: "));
    let after = format!("--after-cursor={}", cursor.unwrap_or_default());
    work()?;
    command(c, &["journalctl", "--sync"])?.ok()?;
    let log = command(c, &["journalctl", "--quiet", "--output=cat", &after, "_PID=1"])?.ok()?;
    let calls = log.stdout.lines().filter(|line| {
        line.contains("Got message type=method_call") && line.contains(" path=/org/freedesktop/systemd1")
    });
    let member = |line: &str| {
        line.split(" member=")
            .nth(1)?
            .split(' ')
            .next()
            .map(str::to_owned)
    };
    Ok(calls.filter_map(member).collect())
}

/// The runtime, started by the account that has a service manager of its own. `environment` is NAME=VALUE
/// words.
fn by_user<S: AsRef<std::ffi::OsStr>>(c: &Case, environment: &[&str], args: &[S]) -> Check<Run> {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            Host::USER,
            "--regid",
            Host::USER,
            "--init-groups",
            "env",
            "-i",
        ])
        .arg(format!("PATH={}", host::PATH))
        .args(environment)
        .arg(&c.host.for_users)
        .arg("--root")
        .arg(&c.state_root)
        .args(args)
        .stdin(Stdio::null())
        .current_dir(&c.dir);
    runner::start(&mut command, &c.dir)?.finish()
}

/// The bundle belongs to the account, and config.json asks for nothing that needs root.
fn give_to_user(c: &mut Case) -> Check<String> {
    let id = command(c, &["id", "-u", Host::USER])?
        .ok()?
        .stdout
        .trim()
        .to_owned();
    let number: u32 = id.parse().unwrap_or(0);
    c.config["linux"]["cgroupsPath"] = json!(format!("user.slice:st:{}", c.id));
    c.join_namespace("user", None);
    for maps in ["uidMappings", "gidMappings"] {
        c.config["linux"][maps] = json!([{"containerID": 0, "hostID": number, "size": 1}]);
    }
    for entry in c.config["mounts"].as_array_mut().into_iter().flatten() {
        if let Some(options) = entry["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
    c.write_config()?;
    let dir = c.dir.display().to_string();
    // Not the files that all tests share by hard links.
    let filter = [
        "(",
        "-type",
        "d",
        "-o",
        "-links",
        "1",
        ")",
        "-exec",
        "chown",
        "-h",
        Host::USER,
        "{}",
        "+",
    ];
    command(c, &[&["find", dir.as_str()], &filter[..]].concat())?.ok()?;
    Ok(id)
}

fn user_manager(c: &mut Case) -> Check {
    c.resources().memory().clear().limit(67_108_864);
    c.resources().pids().clear().limit(66);
    c.args(&["/bin/sleep", "1000"]);
    let uid = give_to_user(c)?;
    let runtime_dir = format!("XDG_RUNTIME_DIR=/run/user/{uid}");
    let environment = [runtime_dir.as_str()];
    let run = |words: &[&str]| by_user(c, &environment, words);
    let bundle = c.bundle.display().to_string();
    run(&["--systemd-cgroup", "create", "--bundle", &bundle, &c.id])?.ok()?;
    run(&["start", &c.id])?.ok()?;
    let state = run(&["state", &c.id])?.ok()?.json()?;
    let place = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"]))?;
    let place = place.trim().trim_start_matches("0::/");
    let wish = format!(
        "user.slice/user-{uid}.slice/user@{uid}.service/user.slice/{}",
        unit(c)
    );
    same("place", wish.as_str(), place)?;
    let cgroup = c.host.cgroup2.join(place);
    for (name, wish) in [("memory.max", "67108864"), ("pids.max", "66")] {
        same(name, wish, fs::read_to_string(cgroup.join(name))?.trim())?;
    }
    let pid_file = c.dir.join("exec.pid").display().to_string();
    run(&[
        "exec",
        "--detach",
        "--pid-file",
        &pid_file,
        &c.id,
        "/bin/sleep",
        "1000",
    ])?
    .ok()?;
    let pid = fs::read_to_string(&pid_file)?;
    contains(
        "place of exec",
        &fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?,
        &unit(c),
    )?;
    run(&["pause", &c.id])?.ok()?;
    same(
        "cgroup.freeze",
        "1",
        fs::read_to_string(cgroup.join("cgroup.freeze"))?.trim(),
    )?;
    run(&["resume", &c.id])?.ok()?;
    run(&["delete", "--force", &c.id])?.ok()?;
    ensure!(!cgroup.exists(), "{} is left", cgroup.display());
    c.nothing_left()
}

fn user_without_manager_is_refused(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    give_to_user(c)?;
    let bundle = c.bundle.display().to_string();
    let dir = format!("XDG_RUNTIME_DIR={}", c.dir.display());
    for environment in [&[dir.as_str()][..], &[]] {
        by_user(
            c,
            environment,
            &["--systemd-cgroup", "create", "--bundle", &bundle, &c.id],
        )?
        .refused()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn unit_of_the_system_is_for_root(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    let uid = give_to_user(c)?;
    let bundle = c.bundle.display().to_string();
    let dir = format!("XDG_RUNTIME_DIR=/run/user/{uid}");
    let words = [
        "--rootless=false",
        "--systemd-cgroup",
        "create",
        "--bundle",
        &bundle,
        &c.id,
    ];
    by_user(c, &[&dir], &words)?.refused()?;
    no_unit_left(c)
}

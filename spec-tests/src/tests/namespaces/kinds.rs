//! config-linux.md, namespaces: new, shared with the host, joined by path.

use super::{mapping, user_namespace};
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, contains, ensure, fail, same},
    seen::Report,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt};

tests! {
    namespaces/new_ones_are_new,
    namespaces/absent_ones_are_the_hosts,
    namespaces/join_network_ipc_uts,
    namespaces/join_pid,
    namespaces/kill_all_in_a_joined_pid,
    namespaces/kill_in_a_joined_pid_reaches_all,
    namespaces/join_cgroup,
    namespaces/join_by_bind_mounted_path,
    namespaces/host_pid,
    namespaces/pid_is_1_in_a_new_pid_namespace,
    namespaces/loopback_is_up_in_a_new_network_namespace,
    namespaces/cgroup_root_is_own_cgroup,
    namespaces/without_cgroup_namespace_the_path_is_seen,
    namespaces/user_with_one_range,
    namespaces/user_with_many_ranges,
    namespaces/user_with_300_ranges,
    namespaces/user_maps_files_of_the_host,
    namespaces/user_has_all_capabilities_asked_for,
    namespaces/join_user_with_new_pid,
    namespaces/join_user_network_ipc_uts_as_in_a_pod,
    namespaces/user_without_mappings_is_refused,
    namespaces/time_offsets,
    namespaces/time_offsets_in_a_user_namespace,
    namespaces/time_without_offsets,
    namespaces/join_time,
    namespaces/hostname_and_domainname,
}

/// The spec's name of a namespace and the name in /proc/PID/ns.
const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn link(pid: &str, name: &str) -> Check<String> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/{name}"))?
        .to_string_lossy()
        .into_owned())
}

fn seen(report: &Report, name: &str) -> String {
    report.ns[name].as_str().to_owned()
}

fn new_ones_are_new(c: &mut Case) -> Check {
    let report = c.probe(&[])?;
    for (kind, name) in KINDS {
        let (inside, outside) = (seen(&report, name), link("self", name)?);
        ensure!(
            inside != outside && !inside.is_empty(),
            "{kind}: wish a new one, reality {inside} is the host's"
        );
    }
    same(
        "user (not asked for)",
        link("self", "user")?,
        seen(&report, "user"),
    )
}

fn absent_ones_are_the_hosts(c: &mut Case) -> Check {
    for (kind, name) in [("ipc", "ipc"), ("pid", "pid"), ("cgroup", "cgroup")] {
        c.drop_namespace(kind);
        same(kind, link("self", name)?, seen(&c.probe(&[])?, name))?;
        c.join_namespace(kind, None);
    }
    // sysfs belongs to a network namespace, and hostname to a UTS namespace: both without their mount or
    // field.
    c.drop_namespace("network").drop_namespace("uts");
    if let Some(config) = c.config.as_object_mut() {
        config.remove("hostname");
    }
    let report = c.probe(&[])?;
    same("network", link("self", "net")?, seen(&report, "net"))?;
    same("uts", link("self", "uts")?, seen(&report, "uts"))
}

/// A running container of its own, whose namespaces others join.
struct Holder {
    id: String,
    pid: i32,
}

impl Holder {
    fn start(c: &mut Case) -> Check<Self> {
        let id = format!("{}-holder", c.id);
        let (args, path) = (
            c.config["process"]["args"].clone(),
            c.config["linux"]["cgroupsPath"].clone(),
        );
        c.set_cgroup_leaf("holder");
        c.args(&["/bin/sleep", "1000"]);
        c.rt(&c.bundle_args("run", &["--detach"], &id)?)?.ok()?;
        c.process().args(args);
        c.linux().cgroups_path(path);
        match c.state_of(&id)?["pid"].as_i64() {
            Some(pid) => Ok(Self { id, pid: pid as i32 }),
            None => fail("the holder has no pid"),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.pid)
    }

    fn link(&self, name: &str) -> Check<String> {
        link(&self.pid.to_string(), name)
    }
}

fn join(c: &mut Case, kinds: &[(&str, &str)]) -> Check<(Holder, Report)> {
    let holder = Holder::start(c)?;
    for (kind, name) in kinds {
        c.join_namespace(kind, Some(&holder.path(name)));
    }
    let report = c.probe(&[])?;
    for (kind, name) in kinds {
        same(kind, holder.link(name)?, seen(&report, name))?;
    }
    same(
        "the holder's status afterwards",
        "running",
        c.state_of(&holder.id)?["status"].as_str().unwrap_or_default(),
    )?;
    Ok((holder, report))
}

fn join_network_ipc_uts(c: &mut Case) -> Check {
    let (_, report) = join(c, &[("network", "net"), ("ipc", "ipc"), ("uts", "uts")])?;
    ensure!(seen(&report, "pid") != link("self", "pid")?, "pid is not new");
    Ok(())
}

fn join_pid(c: &mut Case) -> Check {
    let (_, report) = join(c, &[("pid", "pid")])?;
    ensure!(report.pid > 1, "pid: wish > 1, reality {}", report.pid);
    Ok(())
}

/// A pod's containers that share their pids: the kernel does not end the others with init, so the runtime
/// must. Ends the container, three processes, and sees that all are gone and the pod is not.
fn end_in_joined_pid(c: &mut Case, end: impl Fn(&Case) -> Check) -> Check {
    let holder = Holder::start(c)?;
    c.join_namespace("pid", Some(&holder.path("pid")));
    c.shell("(setsid sleep 1000 &) ; sleep 1000 & exec sleep 1000");
    let procs = c.cgroup().join("cgroup.procs");
    let count = || fs::read_to_string(&procs).map_or(0, |text| text.lines().count());
    c.run_with(&["--detach"])?.ok()?;
    c.wait_until("three processes", || Ok(count() == 3))?;
    end(c)?;
    c.wait_until("the end of all", || Ok(count() == 0))?;
    c.rt(&["delete", &c.id])?.ok()?;
    same(
        "status of the holder",
        json!("running"),
        c.state_of(&holder.id)?["status"].clone(),
    )
}

/// What containerd's shim does when init has ended in a pid namespace that it shares.
fn kill_all_in_a_joined_pid(c: &mut Case) -> Check {
    end_in_joined_pid(c, |c| {
        let init = nix::unistd::Pid::from_raw(c.pid()?);
        nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL)?;
        c.wait_status("stopped")?;
        c.rt(&["kill", "--all", &c.id, "9"])?.ok().map(drop)
    })
}

fn kill_in_a_joined_pid_reaches_all(c: &mut Case) -> Check {
    end_in_joined_pid(c, |c| c.rt(&["kill", &c.id, "9"])?.ok().map(drop))
}

fn join_cgroup(c: &mut Case) -> Check {
    join(c, &[("cgroup", "cgroup")])?;
    Ok(())
}

fn join_by_bind_mounted_path(c: &mut Case) -> Check {
    let holder = Holder::start(c)?;
    let file = c.dir.join("netns");
    fs::write(&file, "")?;
    use nix::mount::{MsFlags, mount};
    mount(
        Some(holder.path("net").as_str()),
        &file,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    c.join_namespace("network", Some(&file.to_string_lossy()));
    let report = c.probe(&[])?;
    nix::mount::umount(&file)?;
    same("network", holder.link("net")?, seen(&report, "net"))
}

fn host_pid(c: &mut Case) -> Check {
    c.drop_namespace("pid");
    c.args(&["/bin/sleep", "1000"]);
    c.run_with(&["--detach"])?.ok()?;
    let pid = c.pid()?;
    same(
        "pid namespace of init",
        link("self", "pid")?,
        link(&pid.to_string(), "pid")?,
    )?;
    let report = c.exec_probe(&[], &[])?;
    same(
        "pid namespace seen by exec",
        link("self", "pid")?,
        seen(&report, "pid"),
    )?;
    c.delete()?;
    c.nothing_left()
}

fn pid_is_1_in_a_new_pid_namespace(c: &mut Case) -> Check {
    let report = c.probe(&[])?;
    same("pid", 1, report.pid)?;
    same("ppid", 0, report.ppid)?;
    same("session id", 1, report.sid)
}

fn loopback_is_up_in_a_new_network_namespace(c: &mut Case) -> Check {
    same("lo is up", true, c.probe(&[])?.lo_up)
}

fn cgroup2_line(report: &Report) -> String {
    let text = report.cgroup.as_str();
    text.lines()
        .find_map(|l| l.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned()
}

fn cgroup_root_is_own_cgroup(c: &mut Case) -> Check {
    same(
        "/proc/self/cgroup, line of cgroup2",
        "/",
        cgroup2_line(&c.probe(&[])?).as_str(),
    )
}

fn without_cgroup_namespace_the_path_is_seen(c: &mut Case) -> Check {
    c.drop_namespace("cgroup");
    let wish = c.config["linux"]["cgroupsPath"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    same(
        "/proc/self/cgroup, line of cgroup2",
        wish,
        cgroup2_line(&c.probe(&[])?),
    )
}

fn map_lines(map: &str) -> Vec<Vec<u32>> {
    map.lines()
        .map(|l| l.split_whitespace().filter_map(|w| w.parse().ok()).collect())
        .collect()
}

fn user_with_one_range(c: &mut Case) -> Check {
    user_namespace(c, &[mapping(0, 100_000, 65536)]);
    let report = c.probe(&[])?;
    ensure!(
        seen(&report, "user") != link("self", "user")?,
        "user: wish a new one"
    );
    for (name, map) in [("uid_map", &report.uid_map), ("gid_map", &report.gid_map)] {
        same(name, vec![vec![0, 100_000, 65536]], map_lines(map))?;
    }
    same("uids", [0, 0, 0], report.uids)
}

fn user_ranges(c: &mut Case, count: u32) -> Check {
    let ranges: Vec<Value> = (0..count)
        .map(|n| mapping(n * 10, 200_000 + n * 100, 10))
        .collect();
    user_namespace(c, &ranges);
    let report = c.probe(&[])?;
    let mut lines = map_lines(&report.uid_map);
    lines.sort();
    let wish: Vec<Vec<u32>> = (0..count).map(|n| vec![n * 10, 200_000 + n * 100, 10]).collect();
    same("uid_map", wish, lines)
}

fn user_with_many_ranges(c: &mut Case) -> Check {
    user_ranges(c, 6)
}

fn user_with_300_ranges(c: &mut Case) -> Check {
    // The kernel takes 340 ranges, in one write of less than a page.
    c.process().user().clear().uid(0).gid(0);
    let ranges: Vec<Value> = (0..300).map(|n| mapping(n, 200_000 + n * 2, 1)).collect();
    user_namespace(c, &ranges);
    let lines = map_lines(&c.probe(&[])?.uid_map);
    same("number of ranges", 300, lines.len())
}

fn user_maps_files_of_the_host(c: &mut Case) -> Check {
    use std::os::unix::fs::PermissionsExt;
    user_namespace(c, &[mapping(0, 100_000, 65536)]);
    let folder = c.dir.join("shared");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source(folder.to_string_lossy())
            .options(["bind"]),
    );
    c.process().user().uid(1000);
    c.sh("touch /mnt/made")?;
    same(
        "owner on the host",
        101_000,
        fs::metadata(folder.join("made"))?.uid(),
    )
}

fn user_has_all_capabilities_asked_for(c: &mut Case) -> Check {
    user_namespace(c, &[mapping(0, 100_000, 65536)]);
    let caps = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(caps);
    let report = c.probe(&[])?;
    let effective = report.status["CapEff"].as_str();
    let wish = format!("{:016x}", (1_u64 << 21) | (1 << 12));
    same("CapEff", wish.as_str(), effective)
}

fn join_user_with_new_pid(c: &mut Case) -> Check {
    user_namespace(c, &[mapping(0, 100_000, 65536)]);
    let holder = Holder::start(c)?;
    c.join_namespace("user", Some(&holder.path("user")));
    // Only the user namespace is joined; mappings belong to the one who made it.
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    let report = c.probe(&[])?;
    same("user", holder.link("user")?, seen(&report, "user"))?;
    same("pid", 1, report.pid)?;
    for (kind, name) in KINDS {
        ensure!(
            seen(&report, name) != holder.link(name)?,
            "{kind}: wish a new one, reality the holder's"
        );
    }
    Ok(())
}

fn join_user_network_ipc_uts_as_in_a_pod(c: &mut Case) -> Check {
    user_namespace(c, &[mapping(0, 100_000, 65536)]);
    let holder = Holder::start(c)?;
    let kinds = [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ];
    for (kind, name) in kinds {
        c.join_namespace(kind, Some(&holder.path(name)));
    }
    // containerd and CRI-O give the mappings as well.
    if let Some(config) = c.config.as_object_mut() {
        config.remove("hostname");
    }
    let report = c.probe(&[])?;
    for (kind, name) in kinds {
        same(kind, holder.link(name)?, seen(&report, name))?;
    }
    same(
        "uid_map",
        vec![vec![0, 100_000, 65536]],
        map_lines(&report.uid_map),
    )?;
    same("pid", 1, report.pid)
}

fn user_without_mappings_is_refused(c: &mut Case) -> Check {
    c.join_namespace("user", None);
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

fn host_clocks() -> Check<(i64, i64)> {
    let text = fs::read_to_string("/proc/uptime")?;
    let up = text
        .split(['.', ' '])
        .next()
        .and_then(|w| w.parse().ok())
        .unwrap_or(0);
    Ok((up, up))
}

fn time_offsets(c: &mut Case) -> Check {
    c.join_namespace("time", None);
    c.linux().time_offsets(json!({"monotonic": {"secs": 1_000_000, "nanosecs": 0}, "boottime": {"secs": 2_000_000, "nanosecs": 5}}));
    let (_, boottime) = host_clocks()?;
    let report = c.probe(&[])?;
    ensure!(
        seen(&report, "time") != link("self", "time")?,
        "time: wish a new namespace"
    );
    let difference = report.boottime - report.monotonic;
    ensure!(
        (999_000..1_100_000).contains(&difference),
        "boottime - monotonic: wish ~1000000, reality {difference}"
    );
    let shift = report.boottime - boottime;
    ensure!(
        (1_999_990..2_000_060).contains(&shift),
        "boottime: wish 2000000 s ahead, reality {shift}"
    );
    Ok(())
}

fn time_without_offsets(c: &mut Case) -> Check {
    // Docker 29.5 asks for this by default.
    c.join_namespace("time", None);
    let report = c.probe(&[])?;
    ensure!(
        seen(&report, "time") != link("self", "time")?,
        "time: wish a new namespace"
    );
    Ok(())
}

fn join_time(c: &mut Case) -> Check {
    c.join_namespace("time", None);
    let holder = Holder::start(c)?;
    c.join_namespace("time", Some(&holder.path("time")));
    same("time", holder.link("time")?, seen(&c.probe(&[])?, "time"))
}

fn hostname_and_domainname(c: &mut Case) -> Check {
    let before = nix::unistd::gethostname()?;
    c.document().hostname("a-name.example");
    c.document().domainname("example.org");
    let report = c.probe(&[])?;
    same("hostname", "a-name.example", report.hostname.as_str())?;
    same("domainname", "example.org", report.domainname.as_str())?;
    same("the host's name", before, nix::unistd::gethostname()?)?;
    contains("sh hostname", &c.sh("hostname")?, "a-name.example")
}

/// Found by random/configs: the file with the offsets belongs to the host's root, as the process is not
/// dumpable.
fn time_offsets_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.join_namespace("time", None);
    c.linux().time_offsets(json!({"monotonic": {"secs": 100_000}}));
    let before = c.sh("cat /proc/uptime")?;
    let seen = c.probe(&[])?.monotonic;
    let host: i64 = before
        .split('.')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    // /proc/uptime is CLOCK_BOOTTIME, which has no offset here.
    ensure!(
        (99_000..110_000).contains(&(seen - host)),
        "wish a clock 100000 s ahead of {host}, reality {seen}"
    );
    Ok(())
}

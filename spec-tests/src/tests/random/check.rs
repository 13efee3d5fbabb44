//! Runs in: SUITE. Compares what the probe saw inside with what was wished. Every difference has the name of its field.

use super::{
    config::{CALLS, Mount, Wish, mask},
    more::Place,
};
use serde_json::{Value, json};
use std::fmt::Debug;

/// The differences of one container: field, and wish beside reality.
#[derive(Debug, Default)]
pub(super) struct Differences(pub(super) Vec<(String, String)>);

impl Differences {
    pub(super) fn same<W: PartialEq<R> + Debug, R: Debug>(&mut self, field: &str, wish: W, reality: R) {
        if wish != reality {
            self.0
                .push((field.to_owned(), format!("wish {wish:?}, reality {reality:?}")));
        }
    }
}

/// What the probe is to look at beside the usual.
pub(super) fn probe_options(wish: &Wish, place: &Place) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |option: &str, value: &str| options.extend([option.to_owned(), value.to_owned()]);
    for path in wish.files.masked.iter().chain(&wish.files.readonly) {
        add("--access", path);
    }
    add("--access", "/");
    for file in ["/proc/sys/net/ipv4/tcp_keepalive_time", "/proc/sys/kernel/msgmax"] {
        add("--cat", file);
    }
    for (call, _) in &wish.kernel.seccomp {
        add("--syscall", &CALLS[*call].1.to_string());
    }
    options.extend(wish.more.probe_options(wish, place));
    options
}

/// `host` is what the probe sees outside of any container.
pub(super) fn compare(wish: &Wish, inside: &Value, host: &Value) -> Differences {
    let mut found = Differences::default();
    namespaces(wish, inside, host, &mut found);
    process(wish, inside, host, &mut found);
    privileges(wish, inside, &mut found);
    files(wish, inside, &mut found);
    kernel(wish, inside, host, &mut found);
    found
}

fn namespaces(wish: &Wish, inside: &Value, host: &Value, found: &mut Differences) {
    let wishes = &wish.namespaces;
    for (name, is_new) in [
        ("user", wishes.user),
        ("pid", wishes.pid),
        ("net", wishes.network),
        ("ipc", wishes.ipc),
        ("uts", wishes.uts),
        ("cgroup", wishes.cgroup),
        ("time", wishes.time),
        ("mnt", true),
    ] {
        let differs = inside["ns"][name] != host["ns"][name];
        found.same(&format!("linux.namespaces.{name} is new"), is_new, differs);
    }
    if wishes.pid {
        found.same("pid", json!(1), inside["pid"].clone());
    }
    // Of a namespace that is joined it is somebody else's matter.
    if wishes.network && !wish.more.joined[2] {
        found.same("lo is up", json!(true), inside["lo_up"].clone());
    }
}

fn process(wish: &Wish, inside: &Value, host: &Value, found: &mut Differences) {
    let id = |id: u32| json!([id, id, id]);
    found.same("process.user.uid", id(wish.identity.uid), inside["uids"].clone());
    found.same("process.user.gid", id(wish.identity.gid), inside["gids"].clone());
    let sorted = |list: &mut Vec<u64>| {
        list.sort_unstable();
        list.dedup();
    };
    let mut groups: Vec<u64> = wish
        .identity
        .groups
        .iter()
        .map(|group| u64::from(*group))
        .collect();
    let mut reality: Vec<u64> = inside["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    sorted(&mut groups);
    sorted(&mut reality);
    // Whether the primary group is among the supplementary ones, the specification leaves open.
    reality.retain(|group| *group != u64::from(wish.identity.gid) || groups.contains(group));
    found.same("process.user.additionalGids", groups, reality);
    if let Some(umask) = wish.identity.umask {
        found.same("process.user.umask", json!(umask), inside["umask"].clone());
    }
    found.same("process.cwd", json!(wish.process.cwd), inside["cwd"].clone());
    let env: Vec<&str> = inside["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for entry in &wish.process.env {
        found.same("process.env has an entry", true, env.contains(&entry.as_str()));
    }
    let score = match wish.process.oom_score_adj {
        Some(score) => score.to_string(),
        None => host["oom_score_adj"].as_str().unwrap_or_default().to_owned(),
    };
    found.same(
        "process.oomScoreAdj",
        json!(score),
        inside["oom_score_adj"].clone(),
    );
    if let Some((_, policy, nice)) = wish.process.scheduler {
        found.same(
            "process.scheduler.policy",
            json!(policy),
            inside["scheduler"]["policy"].clone(),
        );
        // An idle process has no nice value of its own.
        if policy != 5 {
            found.same(
                "process.scheduler.nice",
                json!(nice),
                inside["scheduler"]["nice"].clone(),
            );
        }
    }
    if let Some((_, class, level)) = wish.process.io_priority {
        found.same(
            "process.ioPriority",
            json!((class << 13) | level),
            inside["ioprio"].clone(),
        );
    }
    let personality = if wish.process.linux32 { 8 } else { 0 };
    found.same(
        "linux.personality",
        json!(personality),
        inside["personality"].clone(),
    );
    for limit in &wish.limits {
        let reality = inside["rlimits"][limit.number].clone();
        found.same("process.rlimits", json!([limit.soft, limit.hard]), reality);
    }
}

fn privileges(wish: &Wish, inside: &Value, found: &mut Differences) {
    found.same(
        "process.noNewPrivileges",
        json!(u32::from(wish.process.no_new_privileges)),
        inside["no_new_privs"].clone(),
    );
    // capabilities(7): execve gives root what the bounding set allows, and others what is ambient.
    // With noNewPrivileges root gets no more than it was given.
    let effective = match (wish.identity.uid, wish.process.no_new_privileges) {
        (0, false) => wish.bounding,
        (0, true) => wish.more.permitted,
        _ => wish.ambient,
    };
    for (name, set) in [
        ("CapBnd", wish.bounding),
        ("CapInh", wish.inheritable),
        ("CapAmb", wish.ambient),
        ("CapEff", effective),
        ("CapPrm", effective),
    ] {
        found.same(
            &format!("process.capabilities: {name}"),
            json!(mask(set)),
            inside["status"][name].clone(),
        );
    }
}

/// Options, propagation and type of the topmost mount at a path.
pub(super) fn mount_at<'a>(inside: &'a Value, path: &str) -> Option<(Vec<&'a str>, &'a str, &'a str)> {
    let text = inside["mountinfo"].as_str()?;
    let line = text.lines().rfind(|line| line.split(' ').nth(4) == Some(path))?;
    let (left, right) = line.split_once(" - ")?;
    let mut words = left.splitn(7, ' ').skip(5);
    let mut options: Vec<&str> = words.next()?.split(',').collect();
    let mut right = right.split(' ');
    let kind = right.next()?;
    options.extend(right.nth(1)?.split(','));
    Some((options, words.next().unwrap_or(""), kind))
}

fn files(wish: &Wish, inside: &Value, found: &mut Differences) {
    let root = mount_at(inside, "/").unwrap_or_default();
    found.same("root.readonly", wish.files.readonly_root, root.0.contains(&"ro"));
    let propagation = match wish.files.propagation.map(|word| word.trim_start_matches('r')) {
        Some("shared") => root.1.contains("shared:"),
        Some("unbindable") => root.1.contains("unbindable"),
        Some("slave") => !root.1.contains("shared:"),
        _ => root.1.is_empty(),
    };
    found.same("linux.rootfsPropagation holds", true, propagation);
    for (index, mount) in wish.files.mounts.iter().enumerate() {
        let mut mount = mount.clone();
        if mount.is_bind {
            mount.flags.extend(wish.more.flags(index));
        }
        check_mount(&mount, mount_at(inside, &format!("/mnt/{index}")), found);
    }
    if wish.files.cgroup_mount {
        let kind = mount_at(inside, "/sys/fs/cgroup").map(|(_, _, kind)| kind);
        found.same("a mount of type cgroup", Some("cgroup2"), kind);
    }
    for path in &wish.files.masked {
        let access = &inside["access"][path];
        let is_hidden = match *path {
            "/etc/group" | "/proc/timer_list" => {
                mount_at(inside, path).is_some_and(|(_, _, kind)| kind != "proc")
            }
            "/root" => access["entries"] == json!(0) || access["read"] != json!(0),
            _ => true,
        };
        found.same(&format!("linux.maskedPaths: {path}"), true, is_hidden);
    }
    for path in wish.files.readonly.iter().filter(|path| **path != "/missing") {
        let reality = mount_at(inside, path).is_some_and(|(options, ..)| options.contains(&"ro"));
        found.same(&format!("linux.readonlyPaths: {path}"), true, reality);
    }
    for (index, device) in wish.files.devices.iter().enumerate() {
        let reality = &inside["dev"][format!("extra{index}")];
        let kind = if device.kind == "c" { "char" } else { "fifo" };
        let values = ["type", "mode", "uid", "gid"].map(|key| reality[key].clone());
        found.same(
            "linux.devices",
            [
                json!(kind),
                json!(device.mode),
                json!(device.uid),
                json!(device.gid),
            ],
            values,
        );
        if device.kind == "c" {
            found.same(
                "linux.devices: minor",
                json!(device.minor),
                reality["minor"].clone(),
            );
        }
    }
}

fn check_mount(wish: &Mount, reality: Option<(Vec<&str>, &str, &str)>, found: &mut Differences) {
    let Some((options, _, kind)) = reality else {
        return found.same("mounts", "a mount", "none");
    };
    let what = if wish.is_bind { "bind" } else { "tmpfs" };
    for flag in ["nosuid", "nodev", "noexec", "noatime", "nosymfollow"] {
        // A bind mount keeps what its source has.
        if !wish.is_bind || wish.flags.contains(&flag) {
            found.same(
                &format!("mounts: {flag} of a {what}"),
                wish.flags.contains(&flag),
                options.contains(&flag),
            );
        }
    }
    found.same(
        &format!("mounts: ro of a {what}"),
        wish.flags.contains(&"ro"),
        options.contains(&"ro"),
    );
    if !wish.is_bind {
        found.same("mounts: type", "tmpfs", kind);
        let size = format!("size={}k", wish.size * 4);
        found.same("mounts: size of a tmpfs", true, options.contains(&size.as_str()));
    }
}

fn kernel(wish: &Wish, inside: &Value, host: &Value, found: &mut Differences) {
    let names = match &wish.kernel.names {
        Some((name, domain)) => [json!(name), json!(domain)],
        None => [host["hostname"].clone(), host["domainname"].clone()],
    };
    found.same("hostname", &names[0], &inside["hostname"]);
    found.same("domainname", &names[1], &inside["domainname"]);
    for (file, value) in [
        ("/proc/sys/net/ipv4/tcp_keepalive_time", wish.kernel.keepalive),
        ("/proc/sys/kernel/msgmax", wish.kernel.msgmax),
    ] {
        if let Some(value) = value {
            found.same(
                &format!("linux.sysctl: {file}"),
                json!(value.to_string()),
                inside["cat"][file].clone(),
            );
        }
    }
    let (monotonic, boottime) = wish.kernel.offsets.unwrap_or((0, 0));
    for (clock, offset) in [("monotonic", monotonic), ("boottime", boottime)] {
        let [inside, host] = [inside, host].map(|report| report[clock].as_i64().unwrap_or(0));
        // The host was asked before, by some seconds at most.
        let is_right = (offset - 1..offset + 600).contains(&(inside - host));
        found.same(&format!("linux.timeOffsets.{clock} is near"), true, is_right);
    }
    for (call, errno) in &wish.kernel.seccomp {
        let (name, number) = CALLS[*call];
        let reality = inside["syscall"][number.to_string()].clone();
        // seccomp(2): without a tracer there is no such call.
        let errno = if wish.more.traced[*call] { 38 } else { *errno };
        found.same(
            &format!("linux.seccomp: {name}"),
            json!(-i64::from(errno)),
            reality,
        );
    }
}

//! Runs in: SUITE. Compares what the probe saw inside with what was wished. Every difference has the name of
//! its field.

use super::{
    config::{CALLS, Mount, Wish, mask},
    more::Place,
};
use crate::seen::Report;
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
pub(super) fn compare(wish: &Wish, inside: &Report, host: &Report) -> Differences {
    let mut found = Differences::default();
    namespaces(wish, inside, host, &mut found);
    process(wish, inside, host, &mut found);
    privileges(wish, inside, &mut found);
    files(wish, inside, &mut found);
    kernel(wish, inside, host, &mut found);
    found
}

fn namespaces(wish: &Wish, inside: &Report, host: &Report, found: &mut Differences) {
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
        let differs = inside.ns[name] != host.ns[name];
        found.same(&format!("linux.namespaces.{name} is new"), is_new, differs);
    }
    if wishes.pid {
        found.same("pid", 1, inside.pid);
    }
    // Of a namespace that is joined it is somebody else's matter.
    if wishes.network && !wish.more.joined[2] {
        found.same("lo is up", true, inside.lo_up);
    }
}

fn process(wish: &Wish, inside: &Report, host: &Report, found: &mut Differences) {
    let id = |id: u32| [id, id, id];
    found.same("process.user.uid", id(wish.identity.uid), inside.uids);
    found.same("process.user.gid", id(wish.identity.gid), inside.gids);
    let sorted = |list: &mut Vec<u32>| {
        list.sort_unstable();
        list.dedup();
    };
    let mut groups = wish.identity.groups.clone();
    let mut reality = inside.groups.clone();
    sorted(&mut groups);
    sorted(&mut reality);
    // Whether the primary group is among the supplementary ones, the specification leaves open.
    reality.retain(|group| *group != wish.identity.gid || groups.contains(group));
    found.same("process.user.additionalGids", groups, reality);
    if let Some(umask) = wish.identity.umask {
        found.same("process.user.umask", umask, inside.umask);
    }
    found.same("process.cwd", wish.process.cwd, inside.cwd.as_str());
    for entry in &wish.process.env {
        found.same("process.env has an entry", true, inside.env.contains(entry));
    }
    let score = match wish.process.oom_score_adj {
        Some(score) => score.to_string(),
        None => host.oom_score_adj.as_str().to_owned(),
    };
    found.same(
        "process.oomScoreAdj",
        score.as_str(),
        inside.oom_score_adj.as_str(),
    );
    if let Some((_, policy, nice)) = wish.process.scheduler {
        found.same(
            "process.scheduler.policy",
            u64::from(policy),
            inside.scheduler.policy,
        );
        // An idle process has no nice value of its own.
        if policy != 5 {
            found.same("process.scheduler.nice", nice, inside.scheduler.nice);
        }
    }
    if let Some((_, class, level)) = wish.process.io_priority {
        found.same(
            "process.ioPriority",
            i64::from((class << 13) | level),
            inside.ioprio,
        );
    }
    let personality = if wish.process.linux32 { 8 } else { 0 };
    found.same("linux.personality", personality, inside.personality);
    for limit in &wish.limits {
        let reality = inside.rlimits[limit.number];
        found.same("process.rlimits", [limit.soft, limit.hard], reality);
    }
}

fn privileges(wish: &Wish, inside: &Report, found: &mut Differences) {
    found.same(
        "process.noNewPrivileges",
        i32::from(wish.process.no_new_privileges),
        inside.no_new_privs,
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
            mask(set).as_str(),
            inside.status[name].as_str(),
        );
    }
}

/// Options, propagation and type of the topmost mount at a path.
pub(super) fn mount_at<'a>(inside: &'a Report, path: &str) -> Option<(Vec<&'a str>, &'a str, &'a str)> {
    let line = inside
        .mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(path))?;
    let (left, right) = line.split_once(" - ")?;
    let mut words = left.splitn(7, ' ').skip(5);
    let mut options: Vec<&str> = words.next()?.split(',').collect();
    let mut right = right.split(' ');
    let kind = right.next()?;
    options.extend(right.nth(1)?.split(','));
    Some((options, words.next().unwrap_or(""), kind))
}

fn files(wish: &Wish, inside: &Report, found: &mut Differences) {
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
        let access = inside.access[path];
        let is_hidden = match *path {
            "/etc/group" | "/proc/timer_list" => {
                mount_at(inside, path).is_some_and(|(_, _, kind)| kind != "proc")
            }
            "/root" => access.entries == Some(0) || access.read != Some(0),
            _ => true,
        };
        found.same(&format!("linux.maskedPaths: {path}"), true, is_hidden);
    }
    for path in wish.files.readonly.iter().filter(|path| **path != "/missing") {
        let reality = mount_at(inside, path).is_some_and(|(options, ..)| options.contains(&"ro"));
        found.same(&format!("linux.readonlyPaths: {path}"), true, reality);
    }
    for (index, device) in wish.files.devices.iter().enumerate() {
        let reality = &inside.dev[format!("extra{index}")];
        let kind = if device.kind == "c" { "char" } else { "fifo" };
        found.same(
            "linux.devices",
            (kind, Some(device.mode), Some(device.uid), Some(device.gid)),
            (reality.kind.as_str(), reality.mode, reality.uid, reality.gid),
        );
        if device.kind == "c" {
            found.same(
                "linux.devices: minor",
                Some(u64::from(device.minor)),
                reality.minor,
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

fn kernel(wish: &Wish, inside: &Report, host: &Report, found: &mut Differences) {
    let names = match &wish.kernel.names {
        Some((name, domain)) => [name, domain],
        None => [&host.hostname, &host.domainname],
    };
    found.same("hostname", names[0], &inside.hostname);
    found.same("domainname", names[1], &inside.domainname);
    for (file, value) in [
        ("/proc/sys/net/ipv4/tcp_keepalive_time", wish.kernel.keepalive),
        ("/proc/sys/kernel/msgmax", wish.kernel.msgmax),
    ] {
        if let Some(value) = value {
            found.same(
                &format!("linux.sysctl: {file}"),
                value.to_string().as_str(),
                inside.cat[file].text(),
            );
        }
    }
    let (monotonic, boottime) = wish.kernel.offsets.unwrap_or((0, 0));
    for (clock, offset, inside, host) in [
        ("monotonic", monotonic, inside.monotonic, host.monotonic),
        ("boottime", boottime, inside.boottime, host.boottime),
    ] {
        // The host was asked before, by some seconds at most.
        let is_right = (offset - 1..offset + 600).contains(&(inside - host));
        found.same(&format!("linux.timeOffsets.{clock} is near"), true, is_right);
    }
    for (call, errno) in &wish.kernel.seccomp {
        let (name, number) = CALLS[*call];
        let reality = inside.syscall[number.to_string()];
        // seccomp(2): without a tracer there is no such call.
        let errno = if wish.more.traced[*call] { 38 } else { *errno };
        found.same(
            &format!("linux.seccomp: {name}"),
            Some(-i64::from(errno)),
            reality,
        );
    }
}

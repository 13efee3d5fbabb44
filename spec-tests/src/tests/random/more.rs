//! Runs in: SUITE. The rarer half of a random configuration: what it is to be, the config.json that says so,
//! and what must be seen inside. Drawn after everything else, so that a seed of before means the same for the
//! rest.

use super::{BASE, check::Differences, config::Wish};
use crate::seen::Report;
use proptest::{collection, option, prelude::*, sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// As many as there are mounts at most.
const MOUNTS: usize = 4;

/// Hooks beside createContainer.
pub(super) const HOOKS: [&str; 5] = [
    "prestart",
    "createRuntime",
    "startContainer",
    "poststart",
    "poststop",
];

/// What a hook of startContainer leaves.
const STARTED: &str = "/dev/shm/hook";

/// The cgroup files of the limits are looked at where the container has them.
const CGROUP: &str = "/sys/fs/cgroup";

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct More {
    pub(super) mounts: Vec<MountMore>,
    /// Mode and nodes.
    policy: Option<(&'static str, &'static str, &'static str)>,
    /// Subsets of the bounding and of the permitted set.
    pub(super) permitted: u8,
    pub(super) effective: u8,
    pub(super) hooks: Vec<&'static str>,
    /// Joins those of a process of the suite: ipc, uts, network.
    pub(super) joined: [bool; 3],
    /// For each rule of seccomp: whether it is SCMP_ACT_TRACE.
    pub(super) traced: Vec<bool>,
    limits: Limits,
    /// Rows and columns.
    pub(super) terminal: Option<(u16, u16)>,
}

/// What a mount has beside flags and size.
#[derive(Debug, Clone)]
pub(super) struct MountMore {
    propagation: Option<&'static str>,
    /// Of a bind mount.
    recursive: Vec<&'static str>,
    id_mapped: Option<&'static str>,
}

/// Each of a controller that not every place has.
#[derive(Debug, Clone)]
struct Limits {
    memory: Option<u64>,
    pids: Option<u32>,
    /// Quota and period, in microseconds.
    cpu: Option<(u32, u32)>,
    hugetlb: Option<u64>,
}

/// What of the place a configuration depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The controllers of the cgroup2 tree.
    pub(super) controllers: Vec<String>,
    pub(super) has_numa: bool,
    /// The process whose namespaces are joined.
    pub(super) joined: i32,
    /// Where hooks of the host write to, one file each.
    pub(super) open: String,
}

impl Place {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

pub(super) fn more() -> impl Strategy<Value = More> {
    let mount = (
        option::weighted(
            0.3,
            sample::select(vec![
                "private",
                "rprivate",
                "slave",
                "rslave",
                "shared",
                "rshared",
                "unbindable",
                "runbindable",
            ]),
        ),
        sample::subsequence(vec!["rro", "rnosuid", "rnodev", "rnoexec", "rnosymfollow"], 0..=2),
        option::weighted(0.2, sample::select(vec!["idmap", "ridmap"])),
    )
        .prop_map(|(propagation, recursive, id_mapped)| MountMore {
            propagation,
            recursive,
            id_mapped,
        });
    let policy = sample::select(vec![
        ("MPOL_DEFAULT", "", " default "),
        ("MPOL_LOCAL", "", " local "),
        ("MPOL_BIND", "0", " bind:0 "),
        ("MPOL_INTERLEAVE", "0", " interleave:0 "),
        ("MPOL_PREFERRED", "0", " prefer:0 "),
    ]);
    let limits = (
        option::of((16_u64..256).prop_map(|megabytes| megabytes << 20)),
        option::of(10_u32..1000),
        option::of((20_000_u32..200_000, 50_000_u32..500_000)),
        option::of((0_u64..64).prop_map(|pages| pages << 21)),
    )
        .prop_map(|(memory, pids, cpu, hugetlb)| Limits {
            memory,
            pids,
            cpu,
            hugetlb,
        });
    (
        collection::vec(mount, MOUNTS),
        option::weighted(0.2, policy),
        any::<[u8; 2]>(),
        sample::subsequence(HOOKS.to_vec(), 0..=HOOKS.len()),
        any::<[bool; 3]>(),
        collection::vec(prop::bool::weighted(0.2), super::config::CALLS.len()),
        limits,
        option::weighted(0.1, (1_u16..200, 1_u16..200)),
    )
        .prop_map(
            |(mounts, policy, [permitted, effective], hooks, joined, traced, limits, terminal)| More {
                mounts,
                policy,
                permitted,
                effective,
                hooks,
                joined,
                traced,
                limits,
                terminal,
            },
        )
}

impl More {
    /// The last words of a mount: what its entry in config.json has beside the rest.
    pub(super) fn write_mount(
        &self,
        index: usize,
        is_bind: bool,
        in_user_namespace: bool,
        mount: &mut Value,
    ) {
        let more = &self.mounts[index];
        let mut words: Vec<&str> = more.propagation.into_iter().collect();
        if is_bind {
            words.extend(&more.recursive);
            if let Some(option) = more.id_mapped {
                words.push(option);
                let host = if in_user_namespace { BASE + 7 } else { 7 };
                let mapping = json!([{"containerID": 0, "hostID": host, "size": 100}]);
                (mount["uidMappings"], mount["gidMappings"]) = (mapping.clone(), mapping);
            }
        }
        if let Some(options) = mount["options"].as_array_mut() {
            options.extend(words.iter().map(|word| json!(word)));
        }
    }

    /// The plain flags that the recursive ones of a bind mount amount to.
    pub(super) fn flags(&self, index: usize) -> impl Iterator<Item = &'static str> {
        self.mounts[index].recursive.iter().map(|word| &word[1..])
    }

    pub(super) fn write(&self, config: &mut Value, place: &Place) {
        if let Some((mode, nodes, _)) = self.policy.filter(|_| place.has_numa) {
            config["linux"]["memoryPolicy"] = json!({"mode": mode});
            if !nodes.is_empty() {
                config["linux"]["memoryPolicy"]["nodes"] = json!(nodes);
            }
        }
        for kind in &self.hooks {
            // It runs as the program's user, who may write there.
            let line = match *kind {
                "startContainer" => "cat > /dev/shm/hook".to_owned(),
                kind => format!("cat > {}/{kind}", place.open),
            };
            config["hooks"][kind] =
                json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/bin:/usr/bin"]}]);
        }
        for (kind, joined) in ["ipc", "uts", "network"].iter().zip(self.joined) {
            let short = if *kind == "network" { "net" } else { kind };
            for entry in config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
                if joined && entry["type"] == **kind {
                    entry["path"] = json!(format!("/proc/{}/ns/{short}", place.joined));
                }
            }
        }
        if let Some((rows, columns)) = self.terminal {
            config["process"]["terminal"] = json!(true);
            config["process"]["consoleSize"] = json!({"height": rows, "width": columns});
        }
        let limits = &self.limits;
        let resources = &mut config["linux"]["resources"];
        if let Some(limit) = limits.memory.filter(|_| place.has("memory")) {
            resources["memory"] = json!({"limit": limit});
        }
        if let Some(limit) = limits.pids.filter(|_| place.has("pids")) {
            resources["pids"] = json!({"limit": limit});
        }
        if let Some((quota, period)) = limits.cpu.filter(|_| place.has("cpu")) {
            resources["cpu"] = json!({"quota": quota, "period": period});
        }
        if let Some(limit) = limits.hugetlb.filter(|_| place.has("hugetlb")) {
            resources["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": limit}]);
        }
    }

    /// Files of the cgroup, and what they must hold.
    fn cgroup_files(&self, wish: &Wish, place: &Place) -> Vec<(String, String)> {
        if !wish.files.cgroup_mount || !wish.namespaces.cgroup {
            return Vec::new();
        }
        let limits = &self.limits;
        let with = |controller: &str, file: &str, value: Option<String>| {
            let value = value.filter(|_| controller == "cgroup" || place.has(controller));
            value.map(|value| (format!("{CGROUP}/{file}"), value))
        };
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        [
            with(
                "cgroup",
                "cgroup.max.depth",
                text(wish.kernel.depth.map(u64::from)),
            ),
            with("memory", "memory.max", text(limits.memory)),
            with("pids", "pids.max", text(limits.pids.map(u64::from))),
            with(
                "cpu",
                "cpu.max",
                limits.cpu.map(|(quota, period)| format!("{quota} {period}")),
            ),
            with("hugetlb", "hugetlb.2MB.max", text(limits.hugetlb)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    pub(super) fn probe_options(&self, wish: &Wish, place: &Place) -> Vec<String> {
        let mut options = Vec::new();
        let mut add = |option: &str, value: String| options.extend([option.to_owned(), value]);
        for (file, _) in self.cgroup_files(wish, place) {
            add("--cat", file);
        }
        if place.has_numa && self.policy.is_some() {
            add("--cat", "/proc/self/numa_maps".to_owned());
        }
        add("--stat", STARTED.to_owned());
        for (index, _) in self.id_mapped(wish) {
            add("--stat", format!("/mnt/{index}/file"));
        }
        options
    }

    /// The bind mounts that are id-mapped.
    fn id_mapped<'a>(&'a self, wish: &'a Wish) -> impl Iterator<Item = (usize, &'a MountMore)> {
        let mounts = wish.files.mounts.iter().zip(&self.mounts).enumerate();
        mounts
            .filter(|(_, (mount, more))| mount.is_bind && more.id_mapped.is_some())
            .map(|(index, (_, more))| (index, more))
    }

    /// `joined` are the namespaces of the process that `place` names; `state` what the hooks were told.
    pub(super) fn compare(
        &self,
        wish: &Wish,
        place: &Place,
        inside: &Report,
        joined: &BTreeMap<String, String>,
        found: &mut Differences,
    ) {
        for (file, value) in self.cgroup_files(wish, place) {
            let field = format!("linux.resources: {file}");
            found.same(&field, value.to_string().as_str(), inside.cat[&file].text());
        }
        if let Some((mode, _, shown)) = self.policy.filter(|_| place.has_numa) {
            let maps = inside.cat["/proc/self/numa_maps"].text();
            found.same(&format!("linux.memoryPolicy: {mode}"), true, maps.contains(shown));
        }
        let is_terminal = self.terminal.is_some();
        found.same(
            "process.terminal",
            [is_terminal, is_terminal, is_terminal],
            inside.tty,
        );
        if let Some((rows, columns)) = self.terminal {
            found.same("process.consoleSize", [rows, columns], inside.winsize);
        }
        for (index, _) in self.id_mapped(wish) {
            let stat = &inside.stat[format!("/mnt/{index}/file")];
            let owner = [stat.uid, stat.gid];
            found.same("mounts: owner behind a mapping", [Some(7), Some(7)], owner);
        }
        for (index, more) in self.mounts.iter().enumerate().take(wish.files.mounts.len()) {
            let Some(word) = more.propagation.map(|word| word.trim_start_matches('r')) else {
                continue;
            };
            // Recursive words about the root are about all that is below; this one comes last.
            if wish.files.propagation == Some("rshared") {
                continue;
            }
            let Some((_, fields, _)) = super::check::mount_at(inside, &format!("/mnt/{index}")) else {
                continue;
            };
            let holds = match word {
                "shared" => fields.contains("shared:"),
                "unbindable" => fields.contains("unbindable"),
                _ => !fields.contains("shared:") && !fields.contains("unbindable"),
            };
            found.same(&format!("mounts: {word}"), true, holds);
        }
        for (kind, is_joined) in ["ipc", "uts", "net"].iter().zip(self.joined) {
            if is_joined {
                let link = joined.get(*kind);
                let reality = Some(&inside.ns[*kind]);
                found.same(&format!("linux.namespaces.{kind} is joined"), link, reality);
            }
        }
        let is_there = inside.stat[STARTED].kind == "file";
        found.same(
            "hooks.startContainer",
            self.hooks.contains(&"startContainer"),
            is_there,
        );
    }
}

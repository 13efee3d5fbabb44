//! Runs in: SUITE. Legal configurations as proptest strategies: what is wished for, and the config.json that
//! says so. Knows the rules by which fields depend on each other; runs nothing.

use super::more::{More, Place, more};
use proptest::{collection, option, prelude::*, sample};
use serde_json::{Value, json};

/// Capabilities that this process has: others would be left out, with a warning.
const CAPABILITIES: [(&str, u32); 8] = [
    ("CAP_CHOWN", 0),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_MKNOD", 27),
];

/// Limits whose hard value may be lowered without harm to the probe: name, number, most.
const LIMITS: [(&str, usize, u64); 5] = [
    ("RLIMIT_FSIZE", 1, 1 << 30),
    ("RLIMIT_CORE", 4, 1 << 20),
    ("RLIMIT_NOFILE", 7, 1024),
    ("RLIMIT_MSGQUEUE", 12, 8192),
    ("RLIMIT_STACK", 3, 8 << 20),
];

/// System calls without side effects that nothing in the probe needs: name, number.
pub(super) const CALLS: [(&str, u32); 4] = [
    ("getitimer", 36),
    ("sched_get_priority_max", 146),
    ("sched_get_priority_min", 147),
    ("getpriority", 140),
];

/// A capability set: bit n for `CAPABILITIES[n]`.
type Set = u8;

/// What one container is to be.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) namespaces: Namespaces,
    pub(super) identity: Identity,
    pub(super) bounding: Set,
    pub(super) inheritable: Set,
    pub(super) ambient: Set,
    pub(super) limits: Vec<Limit>,
    pub(super) process: Process,
    pub(super) files: Files,
    pub(super) kernel: Kernel,
    pub(super) more: More,
}

#[derive(Debug, Clone)]
pub(super) struct Namespaces {
    pub(super) user: bool,
    pub(super) pid: bool,
    pub(super) network: bool,
    pub(super) ipc: bool,
    pub(super) uts: bool,
    pub(super) cgroup: bool,
    pub(super) time: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) umask: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Limit {
    name: &'static str,
    pub(super) number: usize,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) cwd: &'static str,
    pub(super) env: Vec<String>,
    pub(super) no_new_privileges: bool,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) scheduler: Option<(&'static str, u32, i32)>,
    pub(super) io_priority: Option<(&'static str, u32, u32)>,
    pub(super) linux32: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) readonly_root: bool,
    pub(super) propagation: Option<&'static str>,
    pub(super) mounts: Vec<Mount>,
    pub(super) masked: Vec<&'static str>,
    pub(super) readonly: Vec<&'static str>,
    pub(super) devices: Vec<Device>,
    pub(super) cgroup_mount: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Mount {
    pub(super) is_bind: bool,
    pub(super) flags: Vec<&'static str>,
    pub(super) size: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) kind: &'static str,
    pub(super) minor: u32,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub(super) names: Option<(String, String)>,
    pub(super) keepalive: Option<u32>,
    pub(super) msgmax: Option<u32>,
    pub(super) offsets: Option<(i64, i64)>,
    pub(super) seccomp: Vec<(usize, u32)>,
    pub(super) depth: Option<u32>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) hook: bool,
}

pub(super) fn wish() -> impl Strategy<Value = Wish> {
    (
        namespaces(),
        identity(),
        any::<[Set; 3]>(),
        limits(),
        process(),
        files(),
        kernel(),
        more(),
    )
        .prop_map(
            |(
                namespaces,
                identity,
                [bounding, inheritable, ambient],
                limits,
                process,
                files,
                kernel,
                more,
            )| {
                // Inheritable and ambient sets grow out of the others (capabilities(7)).
                let inheritable = inheritable & bounding;
                Wish {
                    namespaces,
                    identity,
                    bounding,
                    inheritable,
                    ambient: ambient & inheritable & more.permitted,
                    limits,
                    process,
                    files,
                    kernel,
                    more,
                }
                .made_legal()
            },
        )
}

fn namespaces() -> impl Strategy<Value = Namespaces> {
    let often = || prop::bool::weighted(0.8);
    (
        prop::bool::weighted(0.3),
        often(),
        often(),
        often(),
        often(),
        often(),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(user, pid, network, ipc, uts, cgroup, time)| Namespaces {
            user,
            pid,
            network,
            ipc,
            uts,
            cgroup,
            time,
        })
}

fn identity() -> impl Strategy<Value = Identity> {
    let id = || prop_oneof![2 => Just(0_u32), 1 => Just(1000_u32), 1 => 1_u32..60_000];
    (
        id(),
        id(),
        collection::vec(1_u32..60_000, 0..4),
        option::of(0_u32..0o1000),
    )
        .prop_map(|(uid, gid, groups, umask)| Identity {
            uid,
            gid,
            groups,
            umask,
        })
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let values = collection::vec((0_u64..=100, 1_u64..=100), LIMITS.len());
    (
        sample::subsequence((0..LIMITS.len()).collect::<Vec<_>>(), 0..=LIMITS.len()),
        values,
    )
        .prop_map(|(chosen, values)| {
            let limit = |index: usize| {
                let (name, number, most) = LIMITS[index];
                let (soft, hard) = values[index];
                // At least a third, so that the probe can work.
                let hard = most / 3 + most * hard / 150;
                Limit {
                    name,
                    number,
                    soft: hard - hard * soft / 300,
                    hard,
                }
            };
            chosen.into_iter().map(limit).collect()
        })
}

fn process() -> impl Strategy<Value = Process> {
    let scheduler = prop_oneof![
        (0_i32..=10).prop_map(|nice| ("SCHED_OTHER", 0_u32, nice)),
        (0_i32..=10).prop_map(|nice| ("SCHED_BATCH", 3, nice)),
        Just(("SCHED_IDLE", 5, 0)),
    ];
    let io_priority = prop_oneof![
        (0_u32..8).prop_map(|level| ("IOPRIO_CLASS_BE", 2_u32, level)),
        (0_u32..8).prop_map(|level| ("IOPRIO_CLASS_IDLE", 3, level)),
    ];
    (
        sample::select(vec!["/", "/tmp", "/etc", "/home/new/dir", "/root"]),
        collection::vec("[A-Z_]{1,9}=[ -~]{0,20}", 0..5),
        any::<bool>(),
        option::of(0_i32..=1000),
        option::weighted(0.3, scheduler),
        option::weighted(0.3, io_priority),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(cwd, env, no_new_privileges, oom_score_adj, scheduler, io_priority, linux32)| Process {
                cwd,
                env,
                no_new_privileges,
                oom_score_adj,
                scheduler,
                io_priority,
                linux32,
            },
        )
}

fn files() -> impl Strategy<Value = Files> {
    let flags = sample::subsequence(
        vec!["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"],
        0..=4,
    );
    let mount =
        (any::<bool>(), flags, 1_u32..64).prop_map(|(is_bind, flags, size)| Mount { is_bind, flags, size });
    let device = (
        sample::select(vec!["c", "p"]),
        sample::select(vec![3_u32, 5, 7, 8]),
        0_u32..0o1000,
        0_u32..2000,
        0_u32..2000,
    )
        .prop_map(|(kind, minor, mode, uid, gid)| Device {
            kind,
            minor,
            mode,
            uid,
            gid,
        });
    (
        prop::bool::weighted(0.3),
        option::of(sample::select(vec![
            "private",
            "rprivate",
            "slave",
            "rslave",
            "shared",
            "rshared",
            "unbindable",
        ])),
        collection::vec(mount, 0..4),
        sample::subsequence(vec!["/etc/group", "/proc/timer_list", "/root", "/missing"], 0..=3),
        sample::subsequence(vec!["/etc/hostname", "/proc/sys", "/home", "/missing"], 0..=3),
        collection::vec(device, 0..3),
        any::<bool>(),
    )
        .prop_map(
            |(readonly_root, propagation, mounts, masked, readonly, devices, cgroup_mount)| Files {
                readonly_root,
                propagation,
                mounts,
                masked,
                readonly,
                devices,
                cgroup_mount,
            },
        )
}

fn kernel() -> impl Strategy<Value = Kernel> {
    let name = || "[a-z][a-z0-9-]{0,20}";
    (
        option::of((name(), name())),
        option::of(1_u32..60_000),
        option::of(1024_u32..60_000),
        option::of((-50_i64..100_000, -50_i64..100_000)),
        sample::subsequence((0..CALLS.len()).collect::<Vec<_>>(), 0..=CALLS.len()),
        collection::vec(1_u32..133, CALLS.len()),
        option::of(1_u32..20),
        collection::vec(("[a-z.]{1,20}", "[ -~]{0,20}"), 0..3),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(names, keepalive, msgmax, offsets, calls, errnos, depth, annotations, hook)| Kernel {
                names,
                keepalive,
                msgmax,
                offsets,
                seccomp: calls.into_iter().zip(errnos).collect(),
                depth,
                annotations,
                hook,
            },
        )
}

impl Wish {
    /// What one field demands of another: config.md, config-linux.md, and the kernel's rules for user
    /// namespaces.
    fn made_legal(mut self) -> Self {
        let namespaces = &mut self.namespaces;
        if namespaces.user {
            // Its root may mount proc, sysfs and mqueue of namespaces that belong to it only.
            namespaces.pid = true;
            namespaces.network = true;
            namespaces.ipc = true;
            namespaces.cgroup = true;
            // Nodes there are those of the host, under the host's paths.
            self.files.devices.clear();
            // The kernel locks the access-time options of what comes from the host (mount_namespaces(7)).
            for mount in self.files.mounts.iter_mut().filter(|mount| mount.is_bind) {
                mount.flags.retain(|flag| *flag != "noatime");
            }
        }
        let joined = &mut self.more.joined;
        // They belong to another user namespace, of which root inside is nobody. One that is joined keeps the
        // names that it has, if there are no others.
        joined[0] &= namespaces.ipc && !namespaces.user;
        joined[1] &= namespaces.uts && !namespaces.user && self.kernel.names.is_some();
        joined[2] &= namespaces.network && !namespaces.user;
        self.more.permitted &= self.bounding;
        self.more.effective &= self.more.permitted;
        if !namespaces.uts {
            self.kernel.names = None;
        }
        if !namespaces.network {
            self.kernel.keepalive = None;
        }
        if !namespaces.ipc {
            self.kernel.msgmax = None;
        }
        if !namespaces.time {
            self.kernel.offsets = None;
        }
        if self.files.readonly_root && self.process.cwd == "/home/new/dir" {
            self.process.cwd = "/";
        }
        // A user other than root cannot enter /root.
        if self.process.cwd == "/root" {
            self.process.cwd = "/home";
        }
        // The environment is a list; the last of a name counts, so names are made different.
        for (index, entry) in self.process.env.iter_mut().enumerate() {
            *entry = format!("V{index}_{entry}");
        }
        self.kernel.annotations.sort();
        self.kernel.annotations.dedup_by(|a, b| a.0 == b.0);
        self
    }

    /// config.json on top of the default one.
    pub(super) fn write(&self, config: &mut Value, source: &str, hook_file: &str, place: &Place) {
        self.write_process(&mut config["process"]);
        config["root"]["readonly"] = json!(self.files.readonly_root);
        config["annotations"] = self
            .kernel
            .annotations
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        match &self.kernel.names {
            Some((host, domain)) => {
                config["hostname"] = json!(host);
                config["domainname"] = json!(domain);
            }
            None => config["hostname"] = Value::Null,
        }
        if config["hostname"].is_null()
            && let Some(config) = config.as_object_mut()
        {
            config.remove("hostname");
        }
        if self.kernel.hook {
            let line = format!("cat > {hook_file}");
            config["hooks"]["createContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", line]}]);
        }
        self.write_mounts(&mut config["mounts"], source);
        self.write_linux(&mut config["linux"]);
        self.more.write(config, place);
    }

    fn write_process(&self, process: &mut Value) {
        let wish = &self.process;
        process["user"] = json!({"uid": self.identity.uid, "gid": self.identity.gid, "additionalGids": self.identity.groups});
        if let Some(umask) = self.identity.umask {
            process["user"]["umask"] = json!(umask);
        }
        process["cwd"] = json!(wish.cwd);
        process["env"] = json!(wish.env);
        process["noNewPrivileges"] = json!(wish.no_new_privileges);
        for (key, set) in [
            ("bounding", self.bounding),
            ("permitted", self.more.permitted),
            ("effective", self.more.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ] {
            process["capabilities"][key] = json!(names(set));
        }
        let limit = |limit: &Limit| json!({"type": limit.name, "soft": limit.soft, "hard": limit.hard});
        process["rlimits"] = self.limits.iter().map(limit).collect();
        if let Some(score) = wish.oom_score_adj {
            process["oomScoreAdj"] = json!(score);
        }
        if let Some((policy, _, nice)) = wish.scheduler {
            process["scheduler"] = json!({"policy": policy, "nice": nice});
        }
        if let Some((class, _, level)) = wish.io_priority {
            process["ioPriority"] = json!({"class": class, "priority": level});
        }
    }

    fn write_mounts(&self, mounts: &mut Value, source: &str) {
        let Some(mounts) = mounts.as_array_mut() else {
            return;
        };
        if self.files.cgroup_mount {
            mounts.push(json!({
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]
            }));
        }
        for (index, mount) in self.files.mounts.iter().enumerate() {
            let mut options: Vec<String> = mount.flags.iter().map(|flag| (*flag).to_owned()).collect();
            let destination = format!("/mnt/{index}");
            let mut entry = if mount.is_bind {
                options.push("bind".to_owned());
                json!({"destination": destination, "type": "bind", "source": source, "options": options})
            } else {
                options.push(format!("size={}k", mount.size * 4));
                json!({"destination": destination, "type": "tmpfs", "source": "t", "options": options})
            };
            let in_user_namespace = self.namespaces.user;
            self.more
                .write_mount(index, mount.is_bind, in_user_namespace, &mut entry);
            mounts.push(entry);
        }
    }

    fn write_linux(&self, linux: &mut Value) {
        let kinds = [
            ("user", self.namespaces.user),
            ("pid", self.namespaces.pid),
            ("network", self.namespaces.network),
            ("ipc", self.namespaces.ipc),
            ("uts", self.namespaces.uts),
            ("cgroup", self.namespaces.cgroup),
            ("time", self.namespaces.time),
            ("mount", true),
        ];
        linux["namespaces"] = kinds
            .iter()
            .filter(|(_, new)| *new)
            .map(|(kind, _)| json!({"type": kind}))
            .collect();
        if self.namespaces.user {
            for key in ["uidMappings", "gidMappings"] {
                linux[key] = json!([{"containerID": 0, "hostID": super::BASE, "size": 65536}]);
            }
        }
        if let Some(propagation) = self.files.propagation {
            linux["rootfsPropagation"] = json!(propagation);
        }
        linux["maskedPaths"] = json!(self.files.masked);
        linux["readonlyPaths"] = json!(self.files.readonly);
        linux["devices"] = self
            .files
            .devices
            .iter()
            .enumerate()
            .map(|(index, device)| {
                let mut entry = json!({
                    "path": format!("/dev/extra{index}"), "type": device.kind, "fileMode": device.mode, "uid": device.uid, "gid": device.gid
                });
                if device.kind == "c" {
                    entry["major"] = json!(1);
                    entry["minor"] = json!(device.minor);
                }
                entry
            })
            .collect();
        let kernel = &self.kernel;
        let mut sysctl = json!({});
        if let Some(value) = kernel.keepalive {
            sysctl["net.ipv4.tcp_keepalive_time"] = json!(value.to_string());
        }
        if let Some(value) = kernel.msgmax {
            sysctl["kernel.msgmax"] = json!(value.to_string());
        }
        linux["sysctl"] = sysctl;
        if let Some((monotonic, boottime)) = kernel.offsets {
            linux["timeOffsets"] = json!({"monotonic": {"secs": monotonic}, "boottime": {"secs": boottime}});
        }
        if !kernel.seccomp.is_empty() {
            let rule = |(call, errno): &(usize, u32)| match self.more.traced[*call] {
                true => json!({"names": [CALLS[*call].0], "action": "SCMP_ACT_TRACE"}),
                false => json!({"names": [CALLS[*call].0], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}),
            };
            let rules: Vec<Value> = kernel.seccomp.iter().map(rule).collect();
            linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
        }
        if let Some(depth) = kernel.depth {
            linux["resources"]["unified"] = json!({"cgroup.max.depth": depth.to_string()});
        }
        if self.process.linux32 {
            linux["personality"] = json!({"domain": "LINUX32"});
        }
    }
}

fn names(set: Set) -> Vec<&'static str> {
    let chosen = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(index, _)| set & (1 << index) != 0);
    chosen.map(|(_, (name, _))| *name).collect()
}

/// The set as /proc/self/status shows it.
pub(super) fn mask(set: Set) -> String {
    let chosen = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(index, _)| set & (1 << index) != 0);
    let bits = chosen.fold(0_u64, |bits, (_, (_, number))| bits | 1 << number);
    format!("{bits:016x}")
}

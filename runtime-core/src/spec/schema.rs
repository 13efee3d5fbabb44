//! Runs in: RUNTIME. The shape of config.json as a table: which fields runtime-spec 1.3 has for Linux, and of
//! what type. Only data; `lenient.rs` walks it. A field that is not in the table is unknown, and dropped.

/// The type of one JSON value.
#[derive(Clone, Copy)]
pub(super) enum Schema {
    Bool,
    /// A whole number; both bounds are included.
    Int(i64, u64),
    /// Text that becomes a C string, or a word in a file of the kernel: no NUL byte.
    Str,
    /// Text that never reaches the kernel.
    Text,
    /// One of a closed list of words; the first part says what they name.
    OneOf(&'static str, &'static [&'static str]),
    /// One of the words that a type of oci-spec knows.
    Seccomp(SeccompWord),
    List(&'static Schema),
    /// An object whose keys are data.
    Map(&'static Schema),
    Object(&'static [Field]),
    /// A value that oci-spec cannot take as it is.
    Mended(Mend, &'static Schema),
}

/// What a word below `linux.seccomp` names.
#[derive(Clone, Copy)]
pub(super) enum SeccompWord {
    Action,
    Architecture,
    Flag,
    Operator,
}

/// The places where oci-spec has to be helped; each is explained where it is done.
#[derive(Clone, Copy)]
pub(super) enum Mend {
    Capabilities,
    DeviceNumbers,
    ExecCpuAffinity,
    HugepageLimit,
    Pids,
    SchedulerFlag,
    Seccomp,
}

/// One field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) schema: Schema,
    pub(super) absent: Absent,
}

/// What it means that a field is absent or null.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// Nothing.
    Fine,
    /// Nothing, and the empty string means the same. So it is in Go, where both are the zero value; an engine
    /// that writes `"path": ""` for a namespace asks for a new one.
    FineAndSoIsEmpty,
    /// The document is refused.
    Refused,
    /// The zero value of Go stands in for it, where the oci-spec type insists on a value.
    Zero(Zero),
}

#[derive(Clone, Copy)]
pub(super) enum Zero {
    Text,
    List,
    Object,
}

const fn optional(name: &'static str, schema: Schema) -> Field {
    Field {
        name,
        schema,
        absent: Absent::Fine,
    }
}

const fn text(name: &'static str) -> Field {
    Field {
        name,
        schema: Str,
        absent: Absent::FineAndSoIsEmpty,
    }
}

const fn required(name: &'static str, schema: Schema) -> Field {
    Field {
        name,
        schema,
        absent: Absent::Refused,
    }
}

const fn zero(name: &'static str, schema: Schema, zero: Zero) -> Field {
    Field {
        name,
        schema,
        absent: Absent::Zero(zero),
    }
}

use Schema::{Bool, Int, List, Map, Mended, Object, OneOf, Seccomp, Str, Text};

const U16: Schema = Int(0, u16::MAX as u64);
const U32: Schema = Int(0, u32::MAX as u64);
const U64: Schema = Int(0, u64::MAX);
const I32: Schema = Int(i32::MIN as i64, i32::MAX as u64);
const I64: Schema = Int(i64::MIN, i64::MAX as u64);
const STRINGS: Schema = List(&Str);

/// The document of `mounts add` and `mounts remove`.
pub(super) static MOUNTS: Schema = List(&MOUNT);

/// The whole of config.json. The sections of other platforms (`vm`, `windows`, `solaris`, `zos`, `freebsd`)
/// are not in the table, so they are dropped before they are typed.
pub(super) static CONFIG: Schema = Object(&[
    text("ociVersion"),
    optional("root", Object(&[text("path"), optional("readonly", Bool)])),
    optional("process", PROCESS),
    text("hostname"),
    text("domainname"),
    optional("mounts", List(&MOUNT)),
    optional("hooks", HOOKS),
    optional("annotations", Map(&Text)),
    optional("linux", LINUX),
]);

/// `process`, and what `exec --process` reads.
pub(super) const PROCESS: Schema = Object(&[
    optional("terminal", Bool),
    optional(
        "consoleSize",
        Object(&[required("height", U64), required("width", U64)]),
    ),
    zero("user", USER, Zero::Object),
    optional("args", STRINGS),
    text("commandLine"),
    optional("env", STRINGS),
    zero("cwd", Str, Zero::Text),
    optional(
        "capabilities",
        Object(&[
            optional("bounding", CAPABILITIES),
            optional("effective", CAPABILITIES),
            optional("inheritable", CAPABILITIES),
            optional("permitted", CAPABILITIES),
            optional("ambient", CAPABILITIES),
        ]),
    ),
    optional("rlimits", List(&RLIMIT)),
    optional("noNewPrivileges", Bool),
    text("apparmorProfile"),
    optional("oomScoreAdj", I32),
    text("selinuxLabel"),
    optional("ioPriority", IO_PRIORITY),
    optional("scheduler", SCHEDULER),
    optional(
        "execCPUAffinity",
        Mended(Mend::ExecCpuAffinity, &Object(&[text("initial"), text("final")])),
    ),
]);

const CAPABILITIES: Schema = Mended(Mend::Capabilities, &STRINGS);

const USER: Schema = Object(&[
    optional("uid", U32),
    optional("gid", U32),
    optional("umask", U32),
    optional("additionalGids", List(&U32)),
    text("username"),
]);

const RLIMIT: Schema = Object(&[
    required(
        "type",
        OneOf(
            "rlimit",
            &[
                "RLIMIT_AS",
                "RLIMIT_CORE",
                "RLIMIT_CPU",
                "RLIMIT_DATA",
                "RLIMIT_FSIZE",
                "RLIMIT_LOCKS",
                "RLIMIT_MEMLOCK",
                "RLIMIT_MSGQUEUE",
                "RLIMIT_NICE",
                "RLIMIT_NOFILE",
                "RLIMIT_NPROC",
                "RLIMIT_RSS",
                "RLIMIT_RTPRIO",
                "RLIMIT_RTTIME",
                "RLIMIT_SIGPENDING",
                "RLIMIT_STACK",
            ],
        ),
    ),
    required("hard", U64),
    required("soft", U64),
]);

const IO_PRIORITY: Schema = Object(&[
    required(
        "class",
        OneOf(
            "I/O priority class",
            &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"],
        ),
    ),
    optional("priority", I64),
]);

const SCHEDULER: Schema = Object(&[
    required(
        "policy",
        OneOf(
            "scheduler policy",
            &[
                "SCHED_OTHER",
                "SCHED_FIFO",
                "SCHED_RR",
                "SCHED_BATCH",
                "SCHED_ISO",
                "SCHED_IDLE",
                "SCHED_DEADLINE",
            ],
        ),
    ),
    optional("nice", I32),
    optional("priority", I32),
    optional("flags", List(&Mended(Mend::SchedulerFlag, &SCHEDULER_FLAG))),
    optional("runtime", U64),
    optional("deadline", U64),
    optional("period", U64),
]);

const SCHEDULER_FLAG: Schema = OneOf(
    "scheduler flag",
    &[
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
        // What oci-spec writes for the first and the third: a Spec that a Rust program wrote reads back.
        "SCHED_RESET_ON_FORK",
        "SCHED_FLAG_D_L_OVERRUN",
    ],
);

const MOUNT: Schema = Object(&[
    zero("destination", Str, Zero::Text),
    text("type"),
    text("source"),
    optional("options", STRINGS),
    optional("uidMappings", MAPPINGS),
    optional("gidMappings", MAPPINGS),
]);

const MAPPINGS: Schema = List(&Object(&[
    required("containerID", U32),
    required("hostID", U32),
    required("size", U32),
]));

const HOOKS: Schema = Object(&[
    optional("prestart", HOOK_LIST),
    optional("createRuntime", HOOK_LIST),
    optional("createContainer", HOOK_LIST),
    optional("startContainer", HOOK_LIST),
    optional("poststart", HOOK_LIST),
    optional("poststop", HOOK_LIST),
]);

const HOOK_LIST: Schema = List(&Object(&[
    zero("path", Str, Zero::Text),
    optional("args", STRINGS),
    optional("env", STRINGS),
    optional("timeout", I64),
]));

const LINUX: Schema = Object(&[
    optional("netDevices", Map(&Object(&[text("name")]))),
    optional("uidMappings", MAPPINGS),
    optional("gidMappings", MAPPINGS),
    optional("sysctl", Map(&Str)),
    optional("resources", RESOURCES),
    text("cgroupsPath"),
    optional(
        "namespaces",
        List(&Object(&[required("type", NAMESPACE), text("path")])),
    ),
    optional("devices", List(&Mended(Mend::DeviceNumbers, &DEVICE))),
    optional("seccomp", Mended(Mend::Seccomp, &SECCOMP)),
    text("rootfsPropagation"),
    optional("maskedPaths", STRINGS),
    optional("readonlyPaths", STRINGS),
    text("mountLabel"),
    optional("intelRdt", INTEL_RDT),
    optional("memoryPolicy", MEMORY_POLICY),
    optional(
        "personality",
        Object(&[
            required("domain", OneOf("personality domain", &["LINUX", "LINUX32"])),
            optional("flags", STRINGS),
        ]),
    ),
    optional(
        "timeOffsets",
        Map(&Object(&[optional("secs", I64), optional("nanosecs", U32)])),
    ),
]);

const NAMESPACE: Schema = OneOf("namespace", &super::namespace_kind::NAMES);

const DEVICE: Schema = Object(&[
    text("path"),
    required("type", OneOf("device type", &["c", "b", "u", "p"])),
    optional("major", I64),
    optional("minor", I64),
    optional("fileMode", U32),
    optional("uid", U32),
    optional("gid", U32),
]);

const INTEL_RDT: Schema = Object(&[
    text("closID"),
    optional("schemata", STRINGS),
    text("l3CacheSchema"),
    text("memBwSchema"),
    optional("enableMonitoring", Bool),
]);

/// `linux.memoryPolicy.mode`.
pub(crate) const MEMORY_POLICY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];
/// `linux.memoryPolicy.flags`.
pub(crate) const MEMORY_POLICY_FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

const MEMORY_POLICY: Schema = Object(&[
    required("mode", OneOf("memory policy", &MEMORY_POLICY_MODES)),
    text("nodes"),
    optional("flags", List(&OneOf("memory policy flag", &MEMORY_POLICY_FLAGS))),
]);

/// `linux.resources`, and what `update --resources` reads.
pub(super) const RESOURCES: Schema = Object(&[
    optional("devices", List(&DEVICE_RULE)),
    optional("memory", MEMORY),
    optional("cpu", CPU),
    optional("pids", Mended(Mend::Pids, &Object(&[optional("limit", I64)]))),
    optional("blockIO", BLOCK_IO),
    optional(
        "hugepageLimits",
        List(&Object(&[
            text("pageSize"),
            required("limit", Mended(Mend::HugepageLimit, &U64)),
        ])),
    ),
    optional(
        "network",
        Object(&[
            optional("classID", U32),
            optional(
                "priorities",
                List(&Object(&[optional("name", Str), optional("priority", U32)])),
            ),
        ]),
    ),
    optional(
        "rdma",
        Map(&Object(&[
            optional("hcaHandles", U32),
            optional("hcaObjects", U32),
        ])),
    ),
    optional("unified", Map(&Str)),
]);

const DEVICE_RULE: Schema = Object(&[
    required("allow", Bool),
    Field {
        name: "type",
        // `p` and `u` are kinds of node, not of rule; validation refuses them with runc's text.
        schema: OneOf("device type", &["a", "c", "b", "u", "p"]),
        absent: Absent::FineAndSoIsEmpty,
    },
    optional("major", I64),
    optional("minor", I64),
    text("access"),
]);

const MEMORY: Schema = Object(&[
    optional("limit", I64),
    optional("reservation", I64),
    optional("swap", I64),
    optional("kernel", I64),
    optional("kernelTCP", I64),
    optional("swappiness", U64),
    optional("disableOOMKiller", Bool),
    optional("useHierarchy", Bool),
    optional("checkBeforeUpdate", Bool),
]);

const CPU: Schema = Object(&[
    optional("shares", U64),
    optional("quota", I64),
    optional("idle", I64),
    optional("burst", U64),
    optional("period", U64),
    optional("realtimeRuntime", I64),
    optional("realtimePeriod", U64),
    text("cpus"),
    text("mems"),
]);

const BLOCK_IO: Schema = Object(&[
    optional("weight", U16),
    optional("leafWeight", U16),
    optional(
        "weightDevice",
        List(&Object(&[
            required("major", I64),
            required("minor", I64),
            optional("weight", U16),
            optional("leafWeight", U16),
        ])),
    ),
    optional("throttleReadBpsDevice", THROTTLES),
    optional("throttleWriteBpsDevice", THROTTLES),
    optional("throttleReadIOPSDevice", THROTTLES),
    optional("throttleWriteIOPSDevice", THROTTLES),
]);

const THROTTLES: Schema = List(&Object(&[
    // Without them it would be a limit of device 0:0, or of no bytes at all.
    required("major", I64),
    required("minor", I64),
    required("rate", U64),
]));

const SECCOMP: Schema = Object(&[
    required("defaultAction", Seccomp(SeccompWord::Action)),
    optional("defaultErrnoRet", U32),
    optional("architectures", List(&Seccomp(SeccompWord::Architecture))),
    optional("flags", List(&Seccomp(SeccompWord::Flag))),
    text("listenerPath"),
    optional("listenerMetadata", Text),
    optional("syscalls", List(&SECCOMP_RULE)),
]);

const SECCOMP_RULE: Schema = Object(&[
    zero("names", STRINGS, Zero::List),
    required("action", Seccomp(SeccompWord::Action)),
    optional("errnoRet", U32),
    optional("args", List(&SECCOMP_ARGUMENT)),
]);

const SECCOMP_ARGUMENT: Schema = Object(&[
    // Taken for 0, what is missing would make a filter that nobody meant.
    required("index", U32),
    required("value", U64),
    optional("valueTwo", U64),
    required("op", Seccomp(SeccompWord::Operator)),
]);

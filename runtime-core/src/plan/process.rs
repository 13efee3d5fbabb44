//! Runs in: RUNTIME. Turns `process` into what the child's calls take. Pure.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::RawFd;

use oci_spec::runtime::{
    Capabilities, IOPriorityClass, Linux, LinuxCapabilities, LinuxIOPriority, LinuxMemoryPolicy,
    LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, PosixRlimitType, Process, Scheduler,
};
use runtime_init::args::CapabilityArgs;
use runtime_sys::process::{Resource, SchedAttr};

use super::{CallerOptions, ConsoleRequest, HostFacts, c_string, clean_in_container};
use crate::{Error, Result};

/// runc's, where the specification gives none.
const DEFAULT_UMASK: u32 = 0o022;
/// Where programs are looked for if the environment has no PATH: config.md has the semantics of execvp(3),
/// which takes a default then, and the specification's own minimal example needs one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program and its properties.
#[derive(Debug)]
pub struct ProcessPlan {
    /// `process.terminal`.
    pub terminal: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// Whether the terminal leaves newlines as they are.
    pub plain_newlines: bool,
    /// What was asked for, for messages.
    pub program: String,
    /// Candidates, in the order of PATH.
    pub candidates: Vec<CString>,
    /// Arguments.
    pub argv: Vec<CString>,
    /// Environment, in order, the last of each name.
    pub envp: Vec<CString>,
    /// Whether HOME must be found out.
    pub needs_home: bool,
    /// Whether LISTEN_PID must be added.
    pub needs_listen_pid: bool,
    /// Working directory, clean.
    pub cwd: CString,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups; `None`: not touched.
    pub groups: Option<Vec<u32>>,
    /// umask.
    pub umask: u32,
    /// Capability sets.
    pub capabilities: CapabilityArgs,
    /// Names of ambient capabilities that are asked for and cannot be had: not inheritable too, or not
    /// permitted.
    pub not_ambient: Vec<String>,
    /// `noNewPrivileges`.
    pub no_new_privileges: bool,
    /// rlimits, in order.
    pub rlimits: Vec<Rlimit>,
    /// Those of them that would be too low for what the child itself does: their true values, which it takes
    /// last.
    pub late_rlimits: Vec<Rlimit>,
    /// Soft and hard limit of open files for hooks, if not RUNTIME's own.
    pub hook_files: Option<(u64, u64)>,
    /// Whether RUNTIME sets them: the child could not raise them in its user namespace. Otherwise the child
    /// does, while it is root: without CAP_SYS_RESOURCE, limits of another user's process may not even be
    /// lowered.
    pub limits_from_outside: bool,
    /// Whether RUNTIME may lack the right to lower `oomScoreAdj`, and then leaves it as it is.
    pub is_rootless: bool,
    /// Whether RUNTIME may not look into processes that are not dumpable.
    pub unprivileged: bool,
    /// `oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// What is written to attr/apparmor/exec.
    pub apparmor: Option<Vec<u8>>,
    /// What is written to attr/exec.
    pub selinux: Option<Vec<u8>>,
    /// Scheduling.
    pub scheduler: Option<SchedAttr>,
    /// I/O priority.
    pub io_priority: Option<i32>,
    /// Execution domain.
    pub personality: Option<u64>,
    /// NUMA memory policy: mode with flags, and nodes.
    pub memory_policy: Option<(i32, Vec<u64>)>,
    /// Descriptors for the program besides standard input to error, sorted.
    pub inherited: Vec<RawFd>,
    /// Descriptors that the caller has given, and the numbers that they get: 0 to 2, or one of `inherited`.
    pub placed: Vec<(RawFd, RawFd)>,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// Place in `process.rlimits`; one past the last for what config.json does not name.
    pub index: usize,
    /// `RLIMIT_*`.
    pub resource: Resource,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl ProcessPlan {
    /// The descriptors of the caller that the child keeps.
    pub(crate) fn kept(&self) -> impl Iterator<Item = RawFd> + '_ {
        let given = self.placed.iter().map(|(number, _)| *number);
        self.inherited.iter().copied().chain(given)
    }

    /// Tells of what cannot be given, as config.md asks.
    pub fn warn(&self) {
        for name in &self.not_ambient {
            log::warn!("can't raise ambient capability {name}: not inheritable, or not permitted");
        }
    }

    /// Decides.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn new(
        process: &Process,
        linux: Option<&Linux>,
        facts: &HostFacts,
        in_user_namespace: bool,
        caller: CallerOptions<'_>,
    ) -> Result<Self> {
        let argv = strings(process.args().as_deref().unwrap_or_default(), "process.args")?;
        let program = process.args().iter().flatten().next();
        let program = program.cloned().unwrap_or_default();
        let env = environment(process, caller.listen_fds);
        let needs_home = !env.iter().any(|entry| entry.starts_with("HOME="));
        let user = process.user();
        let configured_size = process.console_size().as_ref().and_then(console_size);
        let apparmor = process.apparmor_profile().as_ref();
        let selinux = process.selinux_label().as_ref();
        let terminal = process.terminal().unwrap_or(false);
        check_console(terminal, caller)?;
        let capabilities = capabilities(process.capabilities().as_ref(), facts, in_user_namespace);
        let (rlimits, late_rlimits) = rlimits(process, caller);
        Ok(Self {
            terminal,
            console_size: configured_size.or(caller.terminal_size),
            plain_newlines: caller.plain_newlines,
            candidates: candidates(&program, &env)?,
            program,
            argv,
            needs_home,
            needs_listen_pid: caller.listen_fds > 0,
            envp: strings(&env, "process.env")?,
            cwd: clean_in_container(process.cwd(), "process.cwd")?,
            uid: user.uid(),
            gid: user.gid(),
            groups: (!caller.keep_groups).then(|| user.additional_gids().clone().unwrap_or_default()),
            umask: user.umask().unwrap_or(DEFAULT_UMASK),
            not_ambient: not_ambient(process.capabilities().as_ref(), capabilities),
            capabilities,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            rlimits,
            late_rlimits,
            hook_files: caller.open_files,
            limits_from_outside: in_user_namespace,
            is_rootless: facts.is_rootless,
            unprivileged: !facts.may_mount,
            oom_score_adj: process.oom_score_adj(),
            apparmor: apparmor.map(|profile| format!("exec {profile}").into_bytes()),
            selinux: selinux.map(|label| label.clone().into_bytes()),
            scheduler: process.scheduler().as_ref().map(scheduler),
            io_priority: process.io_priority().as_ref().map(io_priority),
            personality: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(personality),
            memory_policy: linux
                .and_then(|linux| linux.memory_policy().as_ref())
                .map(memory_policy)
                .transpose()?,
            inherited: caller.inherited.to_vec(),
            placed: caller.placed.to_vec(),
        })
    }
}

/// `process.env`, with what the service manager's sockets need.
fn environment(process: &Process, listen_fds: u32) -> Vec<String> {
    let mut env = last_of_each_name(process.env().as_deref().unwrap_or_default());
    if listen_fds > 0 {
        env.retain(|entry| !entry.starts_with("LISTEN_FDS=") && !entry.starts_with("LISTEN_PID="));
        env.push(format!("LISTEN_FDS={listen_fds}"));
    }
    // An empty one is none, as with runc: a shell's `cd` would go nowhere.
    env.retain(|entry| entry != "HOME=");
    env
}

/// As ioprio_set(2) takes it: the class in the upper bits.
fn io_priority(io: &LinuxIOPriority) -> i32 {
    let class = match io.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    (class << 13) | io.priority() as i32
}

fn personality(personality: &LinuxPersonality) -> u64 {
    match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }
}

/// Mode with flags, and the mask of nodes (set_mempolicy(2)).
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<(i32, Vec<u64>)> {
    use MemoryPolicyModeType as M;
    let mode = match policy.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
    });
    let wrong = || Error::invalid("linux.memoryPolicy.nodes", "not a list of nodes, as in 0-3,7");
    let ranges =
        crate::spec::parse_ranges(policy.nodes().as_deref().unwrap_or_default()).ok_or_else(wrong)?;
    let mut nodes = Vec::new();
    for node in ranges.into_iter().flatten() {
        // MAX_NUMNODES of every architecture is at most 1024.
        let node = usize::try_from(node)
            .ok()
            .filter(|node| *node < 1024)
            .ok_or_else(wrong)?;
        if nodes.len() <= node / 64 {
            nodes.resize(node / 64 + 1, 0);
        }
        nodes[node / 64] |= 1 << (node % 64);
    }
    Ok((mode | flags, nodes))
}

fn check_console(terminal: bool, caller: CallerOptions<'_>) -> Result<()> {
    match (terminal, caller.console) {
        (true, ConsoleRequest::None) => Err(Error::invalid(
            "process.terminal",
            "cannot allocate tty if onggi will detach without setting console socket",
        )),
        (false, ConsoleRequest::Required) => Err(Error::invalid(
            "process.terminal",
            "cannot use console socket if onggi will not detach or allocate tty",
        )),
        _ => Ok(()),
    }
}

fn strings(list: &[String], field: &'static str) -> Result<Vec<CString>> {
    list.iter()
        .enumerate()
        .map(|(index, text)| c_string(text.as_str(), format!("{field}[{index}]")))
        .collect()
}

/// Order is kept; of entries with the same name the last is, as in runc.
fn last_of_each_name(env: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut seen = HashSet::with_capacity(env.len());
    let mut kept: Vec<String> = env
        .iter()
        .rev()
        .filter(|entry| seen.insert(name(entry)))
        .cloned()
        .collect();
    kept.reverse();
    kept
}

/// A name with a slash is a path; any other is looked for in PATH, where an empty element is the working
/// directory. With an empty PATH nothing is found, as with runc and crun.
fn candidates(program: &str, env: &[String]) -> Result<Vec<CString>> {
    if program.is_empty() {
        return Ok(Vec::new());
    }
    if program.contains('/') {
        return Ok(vec![c_string(program, "process.args[0]")?]);
    }
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let directories = (!path.is_empty()).then(|| path.split(':'));
    directories
        .into_iter()
        .flatten()
        .map(|directory| match directory {
            "" => c_string(format!("./{program}"), "process.env"),
            _ => c_string(format!("{directory}/{program}"), "process.env"),
        })
        .collect()
}

fn console_size(size: &oci_spec::runtime::Box) -> Option<(u16, u16)> {
    let (rows, columns) = (
        u16::try_from(size.height()).ok()?,
        u16::try_from(size.width()).ok()?,
    );
    (rows != 0 && columns != 0).then_some((rows, columns))
}

/// The sets as bits. What the kernel does not know, or RUNTIME does not have to give, is left out: config.md
/// says that a runtime SHOULD NOT fail for it. Without `process.capabilities` there are none: what is not
/// mentioned is not given, and the engines mention all that they want.
fn capabilities(
    sets: Option<&LinuxCapabilities>,
    facts: &HostFacts,
    in_user_namespace: bool,
) -> CapabilityArgs {
    let known = if facts.last_capability >= 63 {
        u64::MAX
    } else {
        (1 << (facts.last_capability + 1)) - 1
    };
    let ours = if in_user_namespace {
        known
    } else {
        known & facts.permitted_capabilities
    };
    let bits = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
        sets.and_then(|sets| set(sets).as_ref())
            .into_iter()
            .flatten()
            .fold(0, |bits, cap| bits | capability_bit(*cap))
            & ours
    };
    CapabilityArgs {
        bounding: bits(LinuxCapabilities::bounding),
        effective: bits(LinuxCapabilities::effective),
        permitted: bits(LinuxCapabilities::permitted),
        inheritable: bits(LinuxCapabilities::inheritable),
        // The kernel gives an ambient capability only to who has it in both (capabilities(7)); runc spec asks
        // for more.
        ambient: bits(LinuxCapabilities::ambient)
            & bits(LinuxCapabilities::inheritable)
            & bits(LinuxCapabilities::permitted),
        last: facts.last_capability,
    }
}

fn not_ambient(sets: Option<&LinuxCapabilities>, had: CapabilityArgs) -> Vec<String> {
    let wanted = sets.and_then(|sets| sets.ambient().as_ref());
    let missing = wanted
        .into_iter()
        .flatten()
        .filter(|capability| had.ambient & capability_bit(**capability) == 0);
    let mut names: Vec<_> = missing.map(|capability| capability_name(*capability)).collect();
    names.sort();
    names
}

/// As capabilities(7) has it.
fn capability_name(capability: oci_spec::runtime::Capability) -> String {
    // oci-spec's display has no prefix.
    let name = capability.to_string();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    format!("CAP_{name}")
}

fn capability_bit(capability: oci_spec::runtime::Capability) -> u64 {
    match capability_name(capability).parse::<caps::Capability>() {
        Ok(capability) => 1 << capability.index(),
        Err(_) => 0,
    }
}

/// Descriptors that the child may open at a time, on top of those that it passes on, before it becomes the
/// program.
const OWN_FILES: u64 = 16;

/// The limits, and again those that come last. A limit may always be lowered, so the true value needs no
/// privilege then.
fn rlimits(process: &Process, caller: CallerOptions<'_>) -> (Vec<Rlimit>, Vec<Rlimit>) {
    // A limit bounds the numbers, not how many there are.
    let above = caller.inherited.last().map_or(0, |highest| highest - 2);
    let least = OWN_FILES + above as u64;
    let mut late = Vec::new();
    let limits = process.rlimits().iter().flatten().enumerate();
    let limits = limits.map(|(index, limit)| Rlimit {
        index,
        resource: resource(limit.typ()),
        soft: limit.soft(),
        hard: limit.hard(),
    });
    let mut limits: Vec<Rlimit> = limits.collect();
    let names_files = limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE);
    if let (Some((soft, hard)), false) = (caller.open_files, names_files) {
        limits.push(Rlimit {
            index: limits.len(),
            resource: libc::RLIMIT_NOFILE,
            soft,
            hard,
        });
    }
    let limits = limits.into_iter().map(|limit| {
        if limit.resource != libc::RLIMIT_NOFILE || limit.soft >= least {
            return limit;
        }
        late.push(limit);
        Rlimit {
            soft: least,
            hard: limit.hard.max(least),
            ..limit
        }
    });
    (limits.collect(), late)
}

fn resource(kind: PosixRlimitType) -> Resource {
    use PosixRlimitType as T;
    match kind {
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitData => libc::RLIMIT_DATA,
        T::RlimitStack => libc::RLIMIT_STACK,
        T::RlimitCore => libc::RLIMIT_CORE,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitAs => libc::RLIMIT_AS,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

fn scheduler(scheduler: &Scheduler) -> SchedAttr {
    use LinuxSchedulerPolicy as P;
    let policy = match scheduler.policy() {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    let flags = scheduler
        .flags()
        .iter()
        .flatten()
        .fold(0, |flags, flag| flags | scheduler_flag(flag));
    SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0) as u32,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        util_min: 0,
        util_max: 0,
    }
}

fn scheduler_flag(flag: &LinuxSchedulerFlag) -> u64 {
    use LinuxSchedulerFlag as F;
    match flag {
        F::SchedResetOnFork => 0x01,
        F::SchedFlagReclaim => 0x02,
        F::SchedFlagDLOverrun => 0x04,
        F::SchedFlagKeepPolicy => 0x08,
        F::SchedFlagKeepParams => 0x10,
        F::SchedFlagUtilClampMin => 0x20,
        F::SchedFlagUtilClampMax => 0x40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_names_the_last_is_kept_in_its_place() {
        let env: Vec<String> = ["A=1", "B=2", "A=3", "C"]
            .iter()
            .map(|s| (*s).to_owned())
            .collect();
        assert_eq!(last_of_each_name(&env), ["B=2", "A=3", "C"]);
    }

    #[test]
    fn programs_are_looked_for_in_path_or_taken_as_they_are() {
        let env = ["PATH=/a::b".to_owned()];
        let found = candidates("sh", &env).unwrap();
        assert_eq!(
            found,
            [c"/a/sh".to_owned(), c"./sh".to_owned(), c"b/sh".to_owned()]
        );
        assert_eq!(candidates("./sh", &env).unwrap(), [c"./sh".to_owned()]);
        assert_eq!(candidates("sh", &[]).unwrap().len(), 6);
        assert_eq!(candidates("sh", &["PATH=".to_owned()]).unwrap().len(), 0);
    }

    #[test]
    fn a_limit_of_files_that_is_too_low_for_the_child_comes_last() {
        let process = |soft: u64, hard: u64| {
            let json = serde_json::json!({
                "cwd": "/", "user": {"uid": 0, "gid": 0},
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                            {"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}],
            });
            serde_json::from_value::<Process>(json).unwrap()
        };
        let rlimits = |process: &Process, preserve_fds: RawFd| {
            let caller = CallerOptions {
                inherited: &(3..3 + preserve_fds).collect::<Vec<_>>(),
                open_files: Some((256, 512)),
                ..CallerOptions::default()
            };
            rlimits(process, caller)
        };
        let (now, late) = rlimits(&process(1024, 4096), 2);
        assert_eq!((now[1].soft, now[1].hard, late.len()), (1024, 4096, 0));
        let (now, late) = rlimits(&process(3, 3), 2);
        assert_eq!((now[1].soft, now[1].hard), (18, 18));
        assert_eq!((late[0].index, late[0].soft, late[0].hard), (1, 3, 3));
        let (now, _) = rlimits(&process(3, 4096), 0);
        assert_eq!((now[1].soft, now[1].hard), (16, 4096));
        let mut unnamed = process(0, 0);
        unnamed.set_rlimits(None);
        let (now, late) = rlimits(&unnamed, 0);
        assert_eq!(
            (now.len(), now[0].soft, now[0].hard, late.len()),
            (1, 256, 512, 0)
        );
        assert_eq!(rlimits(&unnamed, 250).1[0].soft, 256);
    }

    #[test]
    fn every_capability_of_the_spec_has_a_bit_of_its_own() {
        use oci_spec::runtime::Capability;
        assert_eq!(capability_bit(Capability::Chown), 1);
        assert_eq!(capability_bit(Capability::SysAdmin), 1 << 21);
        assert_eq!(capability_bit(Capability::CheckpointRestore), 1 << 40);
        let all = caps::all()
            .into_iter()
            .fold(0u64, |bits, cap| bits | 1 << cap.index());
        assert_eq!(all, (1 << 41) - 1);
    }
}

//! Runs in: RUNTIME. Compiles `linux.seccomp` to one classic BPF program for all its architectures. Pure;
//! loading it is up to the container's first process, sending the listener is up to the runtime.
//!
//! The program gives the verdict that libseccomp's would, which is what runc and crun load, and what the
//! engines' profiles were written against; `tests/seccomp_matches_libseccomp.rs` proves it. It differs in
//! these points:
//!
//! - Calls that are newer than the profile answer ENOSYS, as in runc; see
//!   [`Options::enosys_for_newer_calls`].
//! - A rule for a call that an architecture lacks is left out there. libseccomp writes a comparison with a
//!   negative number, which no kernel reports.
//! - Architectures that a kernel of the native byte order cannot run are left out: such calls never arise.
//!
//! The parts, from the arguments up: `conditions`, `linker`, with `arch` and `table` for the numbers and
//! `assembler` for the layout.

mod arch;
mod assembler;
mod conditions;
mod linker;
mod table;

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use self::arch::{Architecture, Syscall};
pub(crate) use self::arch::{NATIVE, architecture_of_elf, short_name};
use self::conditions::Condition;
use self::linker::{Calls, Linker};
use crate::{Error, ErrorKind, Result};

/// Actions that this library knows, for the `features` command.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Operators that this library knows, for the `features` command.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Architectures of which this library knows the syscall numbers, for the `features` command.
pub fn architecture_names() -> Vec<String> {
    arch::names()
}

/// Flags that this library knows, for the `features` command. Each is also supported by every kernel that it
/// runs on, but for the last, which needs Linux 5.19.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// `SECCOMP_FILTER_FLAG_LOG` of `linux/seccomp.h`.
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` of `linux/seccomp.h`.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of `linux/seccomp.h`.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` of `linux/seccomp.h`.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// `BPF_MAXINSNS` of `linux/bpf_common.h`: the kernel takes no longer program.
const LONGEST_PROGRAM: usize = 4096;
/// `MAX_ERRNO` of the kernel: it would cut a greater one down to this.
const GREATEST_ERRNO: u32 = 4095;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

pub use runtime_sys::process::SockFilter;

/// Where the notify descriptor of a filter goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompListener {
    /// `listenerPath`: the agent's Unix socket, in the runtime's mount namespace.
    pub path: PathBuf,
    /// `listenerMetadata`, opaque.
    pub metadata: String,
}

/// A filter, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompPlan {
    /// At most 4096 instructions.
    pub program: Vec<SockFilter>,
    /// The `flags` of `seccomp(2)`, `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Set if a rule has the action `SCMP_ACT_NOTIFY`; then `flags` has [`FLAG_NEW_LISTENER`].
    pub listener: Option<SeccompListener>,
}

/// What [`compile_with`] can be told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The architecture of the kernel that will run the filter; it is always in the filter.
    pub native: Arch,
    /// Whether calls that are newer than the newest one which the profile names answer ENOSYS, for each
    /// architecture that the profile lists. It has no effect if the default is to allow (`ALLOW`, `LOG`,
    /// `TRACE`) or is ENOSYS.
    pub enosys_for_newer_calls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            native: NATIVE,
            enosys_for_newer_calls: true,
        }
    }
}

/// Compiles the profile for the architecture that this program was built for. `None`: the profile is empty,
/// no filter.
///
/// An empty profile is `LinuxSeccomp::default()`, what a profile without `defaultAction` and syscalls is read
/// as. It fails ([`ErrorKind::Invalid`], with the field) where the runtime-spec says that the runtime must
/// fail, and for rules that contradict each other.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Option<SeccompPlan>> {
    compile_with(seccomp, &Options::default())
}

/// The same as [`compile`], for another architecture, or without the answer for newer calls.
pub fn compile_with(seccomp: &LinuxSeccomp, options: &Options) -> Result<Option<SeccompPlan>> {
    if *seccomp == LinuxSeccomp::default() {
        return Ok(None);
    }
    let rules = seccomp.syscalls().as_deref().unwrap_or_default();
    let default_action = default_action(seccomp)?;
    refuse_what_leads_nowhere(seccomp, rules)?;
    let mut linker = architectures(seccomp, options, default_action)?;
    for (index, rule) in rules.iter().enumerate() {
        add_rule(&mut linker, rule, index)?;
    }
    let notifies = rules.iter().any(|rule| rule.action() == Action::ScmpActNotify);
    let listener = if notifies { Some(listener(seccomp)?) } else { None };
    let program = linker.link();
    if program.len() > LONGEST_PROGRAM {
        let text = format!(
            "the filter needs {} instructions, the kernel takes {LONGEST_PROGRAM}",
            program.len()
        );
        return Err(Error::invalid("linux.seccomp.syscalls", text));
    }
    Ok(Some(SeccompPlan {
        program,
        flags: flags(seccomp, notifies),
        listener,
    }))
}

/// Whether a system call of this name is known, on any architecture.
pub(crate) fn knows(name: &str) -> bool {
    Syscall::named(name).is_some()
}

/// The runtime-spec's two rules about what must not stand alone.
fn refuse_what_leads_nowhere(seccomp: &LinuxSeccomp, rules: &[LinuxSyscall]) -> Result<()> {
    let is_set = |text: &str| !text.is_empty();
    let has_path = seccomp
        .listener_path()
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty());
    if seccomp.listener_metadata().as_deref().is_some_and(is_set) && !has_path {
        return Err(Error::invalid(
            "linux.seccomp.listenerMetadata",
            "needs a listenerPath",
        ));
    }
    match rules.iter().position(|rule| rule.names().is_empty()) {
        None => Ok(()),
        Some(index) => Err(Error::invalid(
            format!("linux.seccomp.syscalls[{index}].names"),
            "must not be empty",
        )),
    }
}

fn default_action(seccomp: &LinuxSeccomp) -> Result<u32> {
    let field = "linux.seccomp.defaultAction";
    if seccomp.default_action() == Action::ScmpActNotify {
        // The container could not even hand the listener over.
        return Err(Error::invalid(
            field,
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    return_value(seccomp.default_action(), seccomp.default_errno_ret())
        .map_err(|text| Error::invalid("linux.seccomp.defaultErrnoRet", text))
}

/// The value that a filter returns for an action: `SECCOMP_RET_*` with its data.
fn return_value(action: Action, errno: Option<u32>) -> std::result::Result<u32, String> {
    let limit = match action {
        Action::ScmpActErrno => GREATEST_ERRNO,
        Action::ScmpActTrace => u32::from(u16::MAX),
        // The runtime-spec: the runtime must fail if the action does not take an errno.
        _ if errno.is_some() => return Err(format!("{action} does not take an errno")),
        _ => 0,
    };
    match errno {
        Some(errno) if errno > limit => Err(format!("{errno} is greater than {limit}")),
        _ => Ok(action.as_u32(Some(errno.unwrap_or(EPERM)))),
    }
}

/// The architectures of the filter, native first, each without rules.
fn architectures(seccomp: &LinuxSeccomp, options: &Options, default_action: u32) -> Result<Linker> {
    let native = arch::of(options.native).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "seccomp is not supported on this architecture",
        )
    })?;
    let listed = seccomp.architectures().as_deref().unwrap_or_default();
    let is_listed = |name: Arch| {
        listed.is_empty()
            || listed.contains(&name)
            || (name == native.name && listed.contains(&Arch::ScmpArchNative))
    };
    let allows = matches!(
        seccomp.default_action(),
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
    );
    let enosys = options.enosys_for_newer_calls && !allows && seccomp.default_errno_ret() != Some(ENOSYS);

    let mut calls = vec![Calls::new(native, enosys && is_listed(native.name))];
    for architecture in listed.iter().filter_map(|name| arch::of(*name)) {
        let known = calls
            .iter()
            .any(|calls: &Calls| calls.architecture() == architecture);
        if !known && can_run(native, architecture) {
            calls.push(Calls::new(architecture, enosys));
        }
    }
    Ok(Linker {
        calls,
        default_action,
        big_endian: native.big_endian,
    })
}

/// Words of arguments lie in the byte order of the kernel, and a kernel runs programs of its own byte order
/// only.
fn can_run(native: &Architecture, architecture: &Architecture) -> bool {
    native.big_endian == architecture.big_endian
}

fn add_rule(linker: &mut Linker, rule: &LinuxSyscall, index: usize) -> Result<()> {
    let field = |name: &str| format!("linux.seccomp.syscalls[{index}].{name}");
    let action = return_value(rule.action(), rule.errno_ret())
        .map_err(|text| Error::invalid(field("errnoRet"), text))?;
    let args = rule.args().as_deref().unwrap_or_default();
    if let Some(at) = args.iter().position(|arg| arg.index() > 5) {
        return Err(Error::invalid(
            field(&format!("args[{at}].index")),
            format!(
                "a syscall has 6 arguments, there is no number {}",
                args[at].index()
            ),
        ));
    }
    let alternatives = alternatives(args);
    for name in rule.names() {
        check_name(name, rule.action()).map_err(|text| Error::invalid(field("names"), text))?;
        // The kernel may be older or newer than the profile: a name that nobody knows is no error.
        let Some(call) = Syscall::named(name) else {
            continue;
        };
        for calls in &mut linker.calls {
            calls.note(call);
            if action == linker.default_action {
                continue;
            }
            for conditions in &alternatives {
                calls.add(call, conditions, action).map_err(|_| {
                    Error::invalid(
                        format!("linux.seccomp.syscalls[{index}]"),
                        format!("another rule for {name} has the same conditions, or more of them, and another action"),
                    )
                })?;
            }
        }
    }
    Ok(())
}

fn check_name(name: &str, action: Action) -> std::result::Result<(), &'static str> {
    match name {
        "" => Err("empty string is not a valid syscall"),
        // INIT writes the number of the listener to the runtime when the filter is on already; nobody would
        // answer.
        "write" if action == Action::ScmpActNotify => {
            Err("SCMP_ACT_NOTIFY cannot be used for the write syscall")
        }
        _ => Ok(()),
    }
}

/// The conditions of a rule: all must hold. But if two of them are on one argument, each is a rule of its
/// own, any of which may hold; runc kept that for old profiles, and the others follow it.
fn alternatives(args: &[LinuxSeccompArg]) -> Vec<Vec<Condition>> {
    let mut conditions: Vec<Condition> = args.iter().map(condition).collect();
    let mut seen = [0_u8; 6];
    for condition in &conditions {
        seen[usize::from(condition.argument)] += 1;
    }
    if seen.iter().any(|count| *count > 1) {
        return conditions.into_iter().map(|condition| vec![condition]).collect();
    }
    conditions.sort_by_key(|condition| condition.argument);
    vec![conditions]
}

fn condition(arg: &LinuxSeccompArg) -> Condition {
    let (mask, value) = match arg.op() {
        Operator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0) & arg.value()),
        _ => (u64::MAX, arg.value()),
    };
    Condition {
        argument: arg.index() as u8,
        operator: arg.op(),
        mask,
        value,
    }
}

fn listener(seccomp: &LinuxSeccomp) -> Result<SeccompListener> {
    match seccomp.listener_path() {
        Some(path) if !path.as_os_str().is_empty() => Ok(SeccompListener {
            path: path.clone(),
            metadata: seccomp.listener_metadata().clone().unwrap_or_default(),
        }),
        _ => Err(Error::invalid(
            "linux.seccomp.listenerPath",
            "a rule with SCMP_ACT_NOTIFY needs the path of the agent's socket",
        )),
    }
}

fn flags(seccomp: &LinuxSeccomp, notifies: bool) -> u32 {
    let listed = match seccomp.flags() {
        None => FLAG_SPEC_ALLOW,
        Some(flags) => flags.iter().fold(0, |all, flag| all | flag_bit(*flag, notifies)),
    };
    if notifies {
        listed | FLAG_NEW_LISTENER
    } else {
        listed
    }
}

fn flag_bit(flag: Flag, notifies: bool) -> u32 {
    match flag {
        // INIT has one thread.
        Flag::SeccompFilterFlagTsync => 0,
        Flag::SeccompFilterFlagLog => FLAG_LOG,
        Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
        // The kernel answers EINVAL to it if there is no listener.
        Flag::SeccompFilterFlagWaitKillableRecv if notifies => FLAG_WAIT_KILLABLE_RECV,
        Flag::SeccompFilterFlagWaitKillableRecv => 0,
    }
}

#[cfg(test)]
mod tests;

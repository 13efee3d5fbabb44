//! What the text of a profile says about a call, with no regard to the order of rules.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator};

use crate::bpf::Call;
use crate::libseccomp;

/// The actions of all rules that match the call, which comes from `arch`; rules with the default action are
/// not asked.
pub(crate) fn matching(seccomp: &LinuxSeccomp, arch: Arch, call: &Call) -> Vec<u32> {
    let default = libseccomp::action(seccomp.default_action(), seccomp.default_errno_ret());
    let mut actions = Vec::new();
    for rule in seccomp.syscalls().iter().flatten() {
        let action = libseccomp::action(rule.action(), rule.errno_ret());
        let args = rule.args().as_deref().unwrap_or_default();
        if action != default && rule.names().iter().any(|name| matches(name, args, arch, call)) {
            actions.push(action);
        }
    }
    actions
}

fn matches(name: &str, args: &[LinuxSeccompArg], arch: Arch, call: &Call) -> bool {
    let number = libseccomp::number(name, arch);
    if !(-224..=-101).contains(&number) || arch != Arch::ScmpArchX86 {
        return number >= 0 && number as u32 == call.number && hold(args, arch, call, |_| true);
    }
    // Made through a multiplexer; `linux/net.h`, `linux/ipc.h` and `asm/unistd_32.h` of i386.
    let direct = [("socket", 359), ("connect", 362)].contains(&(name, call.number));
    let (multiplexer, selector) = if number > -200 {
        (102, -100 - number)
    } else {
        (117, -200 - number)
    };
    let through = call.number == multiplexer && call.args[0] as u32 == selector as u32;
    (direct && hold(args, arch, call, |_| true))
        || (through && hold(args, arch, call, |arg| arg.index() != 0))
}

/// Whether the conditions hold that `asked` wants asked: all, or, if two of the rule are on one argument,
/// any.
fn hold(args: &[LinuxSeccompArg], arch: Arch, call: &Call, asked: impl Fn(&LinuxSeccompArg) -> bool) -> bool {
    let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    let mut results = args.iter().map(|arg| !asked(arg) || holds(arg, arch, call));
    if twice {
        results.any(|holds| holds)
    } else {
        results.all(|holds| holds)
    }
}

fn holds(arg: &LinuxSeccompArg, arch: Arch, call: &Call) -> bool {
    let mask = if matches!(arch, Arch::ScmpArchX86 | Arch::ScmpArchX32) {
        u64::from(u32::MAX)
    } else {
        u64::MAX
    };
    let (actual, value) = (call.args[arg.index()] & mask, arg.value() & mask);
    match arg.op() {
        Operator::ScmpCmpNe => actual != value,
        Operator::ScmpCmpLt => actual < value,
        Operator::ScmpCmpLe => actual <= value,
        Operator::ScmpCmpEq => actual == value,
        Operator::ScmpCmpGe => actual >= value,
        Operator::ScmpCmpGt => actual > value,
        Operator::ScmpCmpMaskedEq => actual & value == arg.value_two().unwrap_or(0) & value,
    }
}

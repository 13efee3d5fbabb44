//! Runs in: SUITE. Seccomp.

pub(crate) mod actions;
pub(crate) mod filters;
pub(crate) mod notifications;

use crate::{case::Case, outcome::Check};
use serde_json::{Value, json};

pub(crate) const GETPGID: i64 = libc::SYS_getpgid;

pub(crate) const GETPRIORITY: i64 = libc::SYS_getpriority;

pub(crate) fn filter(c: &mut Case, rules: Value) {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .architectures(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
        .syscalls(rules);
    if cfg!(not(target_arch = "x86_64")) {
        c.linux().seccomp().architectures(json!([]));
    }
}

/// Results of these calls in the container.
pub(crate) fn calls(c: &mut Case, calls: &[String]) -> Check<Vec<i64>> {
    let options: Vec<&str> = calls
        .iter()
        .flat_map(|call| ["--syscall", call.as_str()])
        .collect();
    let report = c.probe(&options)?;
    Ok(calls
        .iter()
        .map(|call| report.syscall[call].unwrap_or(i64::MIN))
        .collect())
}

pub(crate) fn getpgid(pid: i64) -> String {
    format!("{GETPGID}:{pid}")
}

pub(crate) fn refused(c: &mut Case, text: &str) -> Check {
    c.create()?.wants(1)?.refused_with(text)?;
    c.nothing_left()
}

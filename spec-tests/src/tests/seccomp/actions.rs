//! config-linux.md seccomp: what each action does to a process of two threads, and what each flag does.

use crate::{
    case::Case,
    outcome::{Check, ensure, same},
    tests::seccomp::{GETPGID, calls, filter, getpgid},
};
use serde_json::{Value, json};

tests! {
    seccomp/action_kill,
    seccomp/action_kill_process,
    seccomp/action_kill_thread,
    seccomp/action_trap,
    seccomp/action_log,
    seccomp/flags,
}

// A kernel with AppArmor has the audit that writes these lines.
tests! {
    seccomp/log_of_the_kernel: &[AppArmor],
}

const SIGSYS: i32 = 31;

/// What becomes of the call in the second thread of a process that handles SIGSYS.
fn in_a_thread(c: &mut Case, action: &str) -> Check<crate::runner::Run> {
    filter(c, json!([{"names": ["getpgid"], "action": action}]));
    c.args(&["/bin/probe", "--in-a-thread", &getpgid(1)]);
    c.run()
}

/// A process of one thread ends by SIGSYS.
fn ends_alone(c: &mut Case, action: &str) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": action}]));
    c.args(&["/bin/probe", "--syscall", &getpgid(0)]);
    c.run()?.wants(128 + SIGSYS)?;
    Ok(())
}

/// The thread ends, without a signal that could be handled, and the process goes on.
fn ends_the_thread(c: &mut Case, action: &str) -> Check {
    ends_alone(c, action)?;
    let report = in_a_thread(c, action)?.ok()?.json()?;
    same("result of the call", Value::Null, report["result"].clone())?;
    same("call that SIGSYS named", json!(-1), report["call"].clone())
}

/// seccomp(2): the older name of the next but one.
fn action_kill(c: &mut Case) -> Check {
    ends_the_thread(c, "SCMP_ACT_KILL")
}

fn action_kill_process(c: &mut Case) -> Check {
    ends_alone(c, "SCMP_ACT_KILL_PROCESS")?;
    let run = in_a_thread(c, "SCMP_ACT_KILL_PROCESS")?.wants(128 + SIGSYS)?;
    same("what the other thread has said", "", run.stdout.as_str())
}

fn action_kill_thread(c: &mut Case) -> Check {
    ends_the_thread(c, "SCMP_ACT_KILL_THREAD")
}

fn action_trap(c: &mut Case) -> Check {
    ends_alone(c, "SCMP_ACT_TRAP")?;
    let report = in_a_thread(c, "SCMP_ACT_TRAP")?.ok()?.json()?;
    same("call that SIGSYS named", json!(GETPGID), report["call"].clone())?;
    ensure!(!report["result"].is_null(), "the thread has ended");
    Ok(())
}

/// Here, that the call is made; that there is a line of it in the log is for kernels with audit, below.
fn action_log(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_LOG"}]));
    same("getpgid(1) is executed", vec![1], calls(c, &[getpgid(1)])?)
}

/// proc(5): with `spec_store_bypass_disable=seccomp` a filter turns the mitigation on for good, unless it has
/// SPEC_ALLOW. Elsewhere the flags must be taken. TSYNC has no effect in a process of one thread, which is
/// what a runtime's child is.
fn flags(c: &mut Case) -> Check {
    let mut bypass = Vec::new();
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]),
    ] {
        filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]));
        c.linux().seccomp().flags(flags.clone());
        let call = getpgid(0);
        let report = c.probe(&["--syscall", &call])?;
        same(
            &format!("getpgid(0) with {flags}"),
            Some(-1),
            report.syscall[&call],
        )?;
        bypass.push(report.status["Speculation_Store_Bypass"].clone());
    }
    if bypass[1] == "thread force mitigated" {
        ensure!(
            bypass[2] != bypass[1],
            "SPEC_ALLOW: Speculation_Store_Bypass is {:?} all the same",
            bypass[2]
        );
    }
    Ok(())
}

/// A call that no program makes, so that its number marks the lines of this test.
const USTAT: i64 = libc::SYS_ustat;

/// Whether the log of the kernel has a line of audit(8) about that call by seccomp.
fn is_logged() -> Check<bool> {
    const SYSLOG_ACTION_READ_ALL: i32 = 3;
    let mut text = vec![0_u8; 1 << 20];
    // SAFETY: the buffer is as large as is said.
    let length = unsafe { libc::klogctl(SYSLOG_ACTION_READ_ALL, text.as_mut_ptr().cast(), 1 << 20) };
    let Ok(length) = usize::try_from(length) else {
        return Err(std::io::Error::last_os_error().into());
    };
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
    let call = format!(" syscall={USTAT} ");
    Ok(text
        .lines()
        .any(|line| line.contains("type=1326") && line.contains(&call)))
}

/// seccomp(2): ERRNO is logged with SECCOMP_FILTER_FLAG_LOG only; LOG always is.
fn log_of_the_kernel(c: &mut Case) -> Check {
    let call = format!("{USTAT}:0:0");
    let mut logged = |action: &str, flags: Value| -> Check<bool> {
        // SYSLOG_ACTION_CLEAR.
        // SAFETY: no memory is involved.
        unsafe { libc::klogctl(5, std::ptr::null_mut(), 0) };
        filter(c, json!([{"names": ["ustat"], "action": action}]));
        c.linux().seccomp().flags(flags);
        calls(c, std::slice::from_ref(&call))?;
        is_logged()
    };
    for (action, flags) in [
        ("SCMP_ACT_LOG", json!([])),
        ("SCMP_ACT_ERRNO", json!(["SECCOMP_FILTER_FLAG_LOG"])),
    ] {
        let name = format!("a line for {action} with {flags}");
        // The kernel writes ten lines in five seconds, and drops more.
        crate::case::wait_until(&name, || logged(action, flags.clone()))?;
    }
    same(
        "a line for ERRNO without the flag",
        false,
        logged("SCMP_ACT_ERRNO", json!([]))?,
    )
}

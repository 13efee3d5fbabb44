//! Runs in: SUITE. `exec --process FILE`: what confines the container's own process holds where the file says
//! nothing of it. That is how engines call `exec`, and what is not mentioned must not be what is not
//! confined.

use crate::{
    case::Case,
    config::{IoPriority, Scheduler},
    outcome::{Check, contains, ensure, same},
    seen::Report,
};
use serde_json::json;
use std::fs;

tests! {
    exec/process_file_without_capabilities,
    exec/process_file_with_unknown_capabilities,
    exec/process_file_without_oom_score_adj,
    exec/process_file_without_priorities,
    exec/process_file_without_affinity,
    exec/process_file_without_no_new_privileges,
}

/// Runs a file that has only what is REQUIRED, with the probe as program.
fn report(c: &mut Case) -> Check<Report> {
    c.start_sleeper()?;
    let file = c.dir.join("process.json");
    let process = json!({"args": ["/bin/probe"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(&file, process.to_string())?;
    c.rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?
        .seen()
}

/// A line of the container's own process.
fn of_init(c: &Case, name: &str) -> Check<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.unwrap_or_default().trim().to_owned())
}

fn process_file_without_capabilities(c: &mut Case) -> Check {
    c.grant(&["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let report = report(c)?;
    for name in ["CapBnd", "CapEff", "CapPrm"] {
        let own = of_init(c, &format!("{name}:"))?;
        ensure!(own.ends_with("0420"), "{name} of init: {own}");
        same(name, own.as_str(), report.status[name].as_str())?;
    }
    Ok(())
}

/// Left out with a warning, as in config.json (config.md, `capabilities`).
fn process_file_with_unknown_capabilities(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let file = c.dir.join("process.json");
    let sets = json!(["CAP_KILL", "CAP_TYPO"]);
    let process = json!({"args": ["/bin/probe"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": sets, "effective": sets, "permitted": sets}});
    fs::write(&file, process.to_string())?;
    let run = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?;
    same(
        "CapEff",
        "0000000000000020",
        run.seen()?.status["CapEff"].as_str(),
    )?;
    contains("the warning", &run.stderr, "CAP_TYPO")?;
    let plain = c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    same("what exec says otherwise", "", plain.stderr.as_str())
}

fn process_file_without_oom_score_adj(c: &mut Case) -> Check {
    c.process().oom_score_adj(321);
    let report = report(c)?;
    same("oom_score_adj", "321", report.oom_score_adj.as_str())
}

fn process_file_without_priorities(c: &mut Case) -> Check {
    c.process()
        .scheduler(Scheduler::new().policy("SCHED_BATCH").nice(3));
    c.process()
        .io_priority(IoPriority::new().class("IOPRIO_CLASS_BE").priority(6));
    let report = report(c)?;
    let scheduler = &report.scheduler;
    same("policy, nice", (3, 3), (scheduler.policy, scheduler.nice))?;
    same("ioprio", (2 << 13) | 6, report.ioprio)
}

fn process_file_without_affinity(c: &mut Case) -> Check {
    c.process()
        .exec_cpu_affinity(json!({"initial": "0", "final": "0"}));
    c.start_sleeper()?;
    let file = c.dir.join("process.json");
    let args = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];
    let process = json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(&file, process.to_string())?;
    let run = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?;
    same("CPUs", Some("0"), run.stdout.split_whitespace().last())
}

/// The one that has a default of its own: false.
fn process_file_without_no_new_privileges(c: &mut Case) -> Check {
    c.process().no_new_privileges(true);
    let report = report(c)?;
    same("of init", "1", of_init(c, "NoNewPrivs:")?.as_str())?;
    same("of the file's process", 0, report.no_new_privs)
}

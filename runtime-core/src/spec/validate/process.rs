//! Runs in: RUNTIME. Judges `process`, of a config.json or for `exec`.

use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxIOPriority, LinuxSchedulerPolicy, PosixRlimit, Process,
    Scheduler, User,
};

use super::super::lenient::quoted;
use super::super::{ExecCpuAffinity, ProcessExtra, parse_ranges};
use super::each;
use crate::{Error, Result};

/// Judges a process, as far as it can be judged without the container it will run in. Fails with the name of
/// the first field that is wrong, starting with `process`.
pub fn validate_process(process: &Process, extra: &ProcessExtra) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(Error::invalid("process.cwd", "Cwd property must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid("process.cwd", "Cwd must be an absolute path"));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("process.args", "args must not be empty"));
    }
    environment(process)?;
    user(process.user())?;
    console_size(process)?;
    rlimits(process.rlimits())?;
    if let Some(sets) = process.capabilities() {
        capabilities(sets)?;
    }
    if let Some(adjustment) = process.oom_score_adj() {
        in_range("process.oomScoreAdj", i64::from(adjustment), -1000, 1000)?;
    }
    if let Some(scheduler) = process.scheduler() {
        self::scheduler(scheduler)?;
    }
    if let Some(priority) = process.io_priority() {
        io_priority(priority)?;
    }
    match &extra.exec_cpu_affinity {
        Some(affinity) => exec_cpu_affinity(affinity),
        None => Ok(()),
    }
}

fn in_range(field: &'static str, value: i64, least: i64, most: i64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("{value}: must be from {least} to {most}"),
    ))
}

fn environment(process: &Process) -> Result<()> {
    for (index, entry) in each(process.env()) {
        if entry.find('=').is_none_or(|position| position == 0) {
            let message = format!("invalid environment variable: {}", quoted(entry));
            return Err(Error::invalid(format!("process.env[{index}]"), message));
        }
    }
    Ok(())
}

/// The kernel takes the highest number for "leave it as it is" (setresuid(2)), which would leave root.
fn user(user: &User) -> Result<()> {
    const NO_ID: u32 = u32::MAX;
    let not_an_id = |field: String| Err(Error::invalid(field, format!("{NO_ID}: is not an id")));
    if user.uid() == NO_ID {
        return not_an_id("process.user.uid".to_owned());
    }
    if user.gid() == NO_ID {
        return not_an_id("process.user.gid".to_owned());
    }
    match each(user.additional_gids()).find(|(_, gid)| **gid == NO_ID) {
        Some((index, _)) => not_an_id(format!("process.user.additionalGids[{index}]")),
        None => Ok(()),
    }
}

/// `struct winsize` has 16 bits for each side. Without a terminal the size MUST be ignored.
fn console_size(process: &Process) -> Result<()> {
    let Some(size) = process
        .console_size()
        .filter(|_| process.terminal() == Some(true))
    else {
        return Ok(());
    };
    for (field, value) in [
        ("process.consoleSize.height", size.height()),
        ("process.consoleSize.width", size.width()),
    ] {
        if value > u64::from(u16::MAX) {
            return Err(Error::invalid(
                field,
                format!("{value}: must be at most {}", u16::MAX),
            ));
        }
    }
    Ok(())
}

fn rlimits(rlimits: &Option<Vec<PosixRlimit>>) -> Result<()> {
    let Some(all) = rlimits else { return Ok(()) };
    for (index, rlimit) in all.iter().enumerate() {
        let typ = rlimit.typ();
        // There are sixteen types, so the search is short before it finds a double one.
        if all[..index].iter().any(|earlier| earlier.typ() == typ) {
            let field = format!("process.rlimits[{index}].type");
            return Err(Error::invalid(field, format!("\"{typ}\": given twice")));
        }
        if rlimit.soft() > rlimit.hard() {
            let message = format!(
                "{typ}: soft limit {} is above hard limit {}",
                rlimit.soft(),
                rlimit.hard()
            );
            return Err(Error::invalid(format!("process.rlimits[{index}]"), message));
        }
    }
    Ok(())
}

/// The two rules of capset(2) that no caller can be exempt from here: the bounding set is reduced before.
/// An ambient capability that is not inheritable is no error: every runtime leaves it out.
fn capabilities(sets: &LinuxCapabilities) -> Result<()> {
    let missing = |set: &Option<Capabilities>, within: &Option<Capabilities>| -> Option<Capability> {
        let has = |name: &Capability| within.as_ref().is_some_and(|within| within.contains(name));
        set.iter()
            .flatten()
            .copied()
            .filter(|name| !has(name))
            .min_by_key(|name| *name as u8)
    };
    if let Some(name) = missing(sets.effective(), sets.permitted()) {
        let message = format!("CAP_{name}: is not in the permitted set");
        return Err(Error::invalid("process.capabilities.effective", message));
    }
    if let Some(name) = missing(sets.inheritable(), sets.bounding()) {
        let message = format!("CAP_{name}: is not in the bounding set");
        return Err(Error::invalid("process.capabilities.inheritable", message));
    }
    Ok(())
}

fn scheduler(scheduler: &Scheduler) -> Result<()> {
    use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedRr};

    let policy = scheduler.policy();
    if let Some(nice) = scheduler.nice() {
        in_range("process.scheduler.nice", i64::from(*nice), -20, 19)?;
    }
    let priority = scheduler.priority().unwrap_or(0);
    let real_time = matches!(policy, SchedFifo | SchedRr);
    if real_time {
        // sched_setscheduler(2): 0 is not a priority of these policies.
        in_range("process.scheduler.priority", i64::from(priority), 1, 99)?;
    } else if priority != 0 {
        let message = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy";
        return Err(Error::invalid("process.scheduler.priority", message));
    }
    let runtime = scheduler.runtime().unwrap_or(0);
    let deadline = scheduler.deadline().unwrap_or(0);
    let period = scheduler.period().unwrap_or(0);
    if *policy != SchedDeadline {
        if (runtime, deadline, period) != (0, 0, 0) {
            let message = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
            return Err(Error::invalid("process.scheduler", message));
        }
        return Ok(());
    }
    // sched_setattr(2): runtime <= deadline <= period, a period of 0 means the deadline, and no runtime of
    // zero.
    let longest = if period == 0 { deadline } else { period };
    if runtime == 0 || runtime > deadline || deadline > longest {
        let message = format!("not 0 < runtime ({runtime}) <= deadline ({deadline}) <= period ({longest})");
        return Err(Error::invalid("process.scheduler", message));
    }
    Ok(())
}

fn io_priority(priority: &LinuxIOPriority) -> Result<()> {
    let level = priority.priority();
    if (0..=7).contains(&level) {
        return Ok(());
    }
    Err(Error::invalid(
        "process.ioPriority.priority",
        format!("invalid ioPriority.Priority: {level}"),
    ))
}

fn exec_cpu_affinity(affinity: &ExecCpuAffinity) -> Result<()> {
    for (name, list) in [("initial", &affinity.initial), ("final", &affinity.last)] {
        let Some(list) = list else { continue };
        if parse_ranges(list).is_none() {
            let field = format!("process.execCPUAffinity.{name}");
            return Err(Error::invalid(
                field,
                format!("{}: not a list of processors", quoted(list)),
            ));
        }
    }
    Ok(())
}

//! Runs in: SUITE. Starts processes and is the one place that reaps. The suite is a subreaper, as
//! containerd's shim is, so the init of a container becomes its child: one thread waits for every child and
//! files the status by pid.

use crate::outcome::{Check, fail};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{self, Id, WaitPidFlag, WaitStatus},
    },
    unistd::Pid,
};
use std::{
    collections::HashMap,
    process::{Child, Command},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// `exit(code)`.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// By pid, and when it was filed: pids come again.
static STATUSES: Mutex<Option<HashMap<i32, (Exit, Instant)>>> = Mutex::new(None);
static ARRIVED: Condvar = Condvar::new();

fn statuses() -> MutexGuard<'static, Option<HashMap<i32, (Exit, Instant)>>> {
    STATUSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process the subreaper and starts the reaping thread. After this nothing else may call `wait`.
pub(crate) fn start_reaper() -> std::io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    thread::Builder::new().name("reaper".into()).spawn(|| {
        loop {
            match wait::waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(_one_has_ended) => reap_one(),
                Err(Errno::ECHILD) => thread::sleep(Duration::from_millis(2)),
                Err(_interrupted) => {}
            }
        }
    })?;
    Ok(())
}

/// Under the lock: a pid is free for another process only when the status is filed.
fn reap_one() {
    let mut statuses = statuses();
    let (pid, exit) = match wait::waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
        Ok(WaitStatus::Signaled(pid, signal, _core)) => (pid, Exit::Signal(signal as i32)),
        _ => return,
    };
    statuses
        .get_or_insert_default()
        .insert(pid.as_raw(), (exit, Instant::now()));
    ARRIVED.notify_all();
}

/// Starts `command`. The lock is held over the fork, so a stale status of a recycled pid cannot be mistaken
/// for it.
pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let mut statuses = statuses();
    let child = command.spawn()?;
    statuses.get_or_insert_default().remove(&(child.id() as i32));
    Ok(child)
}

/// Waits until child or orphan `pid` has ended and takes its status; `None` after `timeout`.
pub(crate) fn wait_for(pid: i32, timeout: Duration) -> Option<Exit> {
    wait(pid, timeout, |_| true)
}

/// As [`wait_for`], for an orphan: nobody may have asked for that of an earlier process of this number.
pub(crate) fn wait_for_orphan(pid: i32, since: Instant, timeout: Duration) -> Option<Exit> {
    wait(pid, timeout, |filed| filed >= since)
}

fn wait(pid: i32, timeout: Duration, is_of_it: impl Fn(Instant) -> bool) -> Option<Exit> {
    let end = Instant::now() + timeout;
    let mut statuses = statuses();
    if std::path::Path::new(&format!("/proc/{pid}")).exists() {
        // Of an earlier process of this number: this one is not reaped yet.
        statuses.get_or_insert_default().remove(&pid);
    }
    loop {
        match statuses.get_or_insert_default().remove(&pid) {
            Some((exit, filed)) if is_of_it(filed) => return Some(exit),
            _ => {}
        }
        let left = end.checked_duration_since(Instant::now())?;
        statuses = ARRIVED
            .wait_timeout(statuses, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// As [`wait_for`]; on time-out the process is killed and the test fails.
pub(crate) fn wait_or_kill(pid: i32, timeout: Duration, what: &str) -> Check<Exit> {
    if let Some(exit) = wait_for(pid, timeout) {
        return Ok(exit);
    }
    signal(pid, Signal::SIGKILL);
    let _gone = wait_for(pid, Duration::from_secs(5));
    fail(format!("{what}: still running after {timeout:?}, killed"))
}

/// Sends a signal; a process that has ended already is what most callers want anyway.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _already_ended = kill(Pid::from_raw(pid), signal);
}

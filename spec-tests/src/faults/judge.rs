//! Runs in: SUITE. Knows the processes of one command under the filter, by birth, and what each has called so
//! far; says which call fails.
//!
//! A process is named by its ancestors: `RUNTIME` is the command itself, `RUNTIME.2` the second process that
//! it makes, `RUNTIME.1.1` the first that its first one makes, also if that is a sibling by `CLONE_PARENT`.

use super::{
    Fault, Renaming, What,
    calls::{self, BIRTHS, EXECS},
};
use std::{collections::HashMap, fs, os::unix::fs::MetadataExt};

/// The command itself.
pub(crate) const RUNTIME: &str = "RUNTIME";

/// One system call of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) number: i32,
    pub(crate) first_argument: u64,
}

/// What is to become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Continue,
    Errno(i32),
    /// It is not made, and returns this.
    Value(u64),
    /// Of this process.
    Kill(u32),
}

/// A process that the filter knows.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    parent: u32,
    pub(super) calls: Vec<Call>,
    births: usize,
    in_birth: bool,
    in_exec: bool,
    /// It has become somebody else's program: a hook, or the container's.
    is_foreign: bool,
}

/// Decides about every call of one command.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Device and inode of the runtime's file.
    runtime: (u64, u64),
    fault: Option<Fault>,
    /// What [`What::Rename`] does.
    renamings: Vec<Renaming>,
    pub(super) hit: Option<Call>,
    pub(super) processes: HashMap<u32, Process>,
    threads: HashMap<u32, u32>,
    strays: usize,
}

/// A call as the kernel tells of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) thread: u32,
    pub(super) call: Call,
}

impl Judge {
    pub(super) fn new(runtime: (u64, u64), fault: Option<Fault>) -> Self {
        Self {
            runtime,
            fault,
            ..Self::default()
        }
    }

    pub(super) fn with_renamings(self, renamings: &[Renaming]) -> Self {
        Self {
            renamings: renamings.to_vec(),
            ..self
        }
    }

    pub(super) fn decide(&mut self, question: Question) -> Verdict {
        let pid = self.process_of(question.thread);
        self.look_for_the_born(pid);
        let runtime = self.runtime;
        let Some(process) = self.processes.get_mut(&pid) else {
            return Verdict::Continue;
        };
        if process.in_exec {
            process.in_exec = false;
            // RUNTIME executes itself anew, from a copy.
            process.is_foreign = process.name != RUNTIME && !runs(pid, runtime);
        }
        if process.is_foreign {
            return Verdict::Continue;
        }
        let call = question.call;
        process.in_birth = is_one_of(call, BIRTHS) && !makes_a_thread(call);
        process.in_exec = is_one_of(call, EXECS);
        if is_one_of_many(call, &process.calls) {
            return Verdict::Continue;
        }
        process.calls.push(call);
        match &self.fault {
            Some(fault) if fault.process == process.name && fault.place.is_last_of(&process.calls) => {
                let is_done = self
                    .renamings
                    .iter()
                    .all(|(from, to)| fs::rename(from, to).is_ok());
                self.hit = is_done.then_some(call);
                match fault.what {
                    What::Rename => Verdict::Continue,
                    What::Errno(_) if is_one_of(call, &[libc::SYS_brk]) => Verdict::Value(end_of_heap(pid)),
                    What::Errno(errno) => Verdict::Errno(errno as i32),
                    What::Kill => Verdict::Kill(pid),
                }
            }
            _ => Verdict::Continue,
        }
    }

    /// The process of a thread, which becomes known if it is new.
    fn process_of(&mut self, thread: u32) -> u32 {
        if self.processes.contains_key(&thread) {
            return thread;
        }
        if let Some(pid) = self.threads.get(&thread) {
            return *pid;
        }
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let field = |name: &str| -> Option<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let (pid, parent) = (field("Tgid:").unwrap_or(thread), field("PPid:").unwrap_or(0));
        if !self.processes.contains_key(&pid) {
            let (name, is_foreign) = self.name_of_a_child(parent);
            self.add(pid, parent, name, is_foreign);
        }
        if pid != thread {
            self.threads.insert(thread, pid);
        }
        pid
    }

    fn add(&mut self, pid: u32, parent: u32, name: String, is_foreign: bool) {
        let process = Process {
            name,
            parent,
            calls: Vec::new(),
            births: 0,
            in_birth: false,
            in_exec: false,
            is_foreign,
        };
        self.processes.insert(pid, process);
    }

    /// Of a process that is seen for the first time; and whether somebody else's program has made it.
    fn name_of_a_child(&mut self, parent: u32) -> (String, bool) {
        if self.processes.is_empty() {
            return (RUNTIME.to_owned(), false);
        }
        let makes = |(pid, process): (&u32, &Process)| {
            let is_its = *pid == parent || process.parent == parent;
            (process.in_birth && is_its).then_some(*pid)
        };
        let maker = self.processes.iter().find_map(makes).unwrap_or(parent);
        match self.processes.get_mut(&maker) {
            Some(maker) => {
                maker.in_birth = false;
                maker.births += 1;
                (child(maker), maker.is_foreign)
            }
            None => {
                self.strays += 1;
                (format!("STRAY.{}", self.strays), false)
            }
        }
    }

    /// The process has come back from making another one, which may not have called anything yet.
    fn look_for_the_born(&mut self, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if !process.in_birth {
            return;
        }
        process.in_birth = false;
        let parent = process.parent;
        // A sibling has this parent.
        for mother in [pid, parent] {
            // That is the suite, which has made RUNTIME and takes in orphans.
            if mother != pid && !self.processes.contains_key(&mother) {
                continue;
            }
            for born in children(mother) {
                if self.processes.contains_key(&born) {
                    continue;
                }
                let Some(process) = self.processes.get_mut(&pid) else {
                    return;
                };
                process.births += 1;
                let name = child(process);
                self.add(born, mother, name, false);
                return;
            }
        }
    }
}

fn child(maker: &Process) -> String {
    format!("{}.{}", maker.name, maker.births)
}

fn is_one_of(call: Call, list: &[libc::c_long]) -> bool {
    list.contains(&libc::c_long::from(call.number))
}

/// The capabilities of a set are dropped one by one, and the actions of all signals are reset so: the first
/// stand for all.
fn is_one_of_many(call: Call, before: &[Call]) -> bool {
    const FIRST: usize = 3;
    match libc::c_long::from(call.number) {
        libc::SYS_prctl => before.last() == Some(&call),
        libc::SYS_rt_sigaction => {
            let row = before.iter().rev().take_while(|one| one.number == call.number);
            row.count() >= FIRST
        }
        _ => false,
    }
}

/// clone3(2) has its flags in memory; a runtime of the Go language, which has threads, uses clone(2).
fn makes_a_thread(call: Call) -> bool {
    libc::c_long::from(call.number) == libc::SYS_clone && call.first_argument & libc::CLONE_THREAD as u64 != 0
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Where brk(2) is now.
fn end_of_heap(pid: u32) -> u64 {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let heap = maps.lines().find(|line| line.ends_with("[heap]"));
    let end = heap.and_then(|line| number(line.split(' ').next()?.split('-').nth(1)?));
    // Without a heap it is where that would start: the 47th field.
    let start = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(47 - 3)?.parse().ok()
    };
    end.or_else(start).unwrap_or(0)
}

/// Whether the process runs the runtime's file, or a copy of it in memory.
fn runs(pid: u32, runtime: (u64, u64)) -> bool {
    let path = format!("/proc/{pid}/exe");
    let is_copy = fs::read_link(&path).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:"));
    is_copy || fs::metadata(&path).is_ok_and(|file| (file.dev(), file.ino()) == runtime)
}

/// What a process that lives waits in, or `None` if it has ended.
pub(super) fn waits_in(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit(") ").next()?.chars().next()?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = text.split(' ').next().and_then(|word| word.parse().ok());
    Some(match number {
        Some(number) => format!("in {}", calls::name(number)),
        None => format!("in state {state}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_row_the_first_stand_for_all() {
        let call = |number: libc::c_long, first_argument| Call {
            number: number as i32,
            first_argument,
        };
        let action = |signal| call(libc::SYS_rt_sigaction, signal);
        let row = [action(1), action(2), action(3)];
        assert!(!is_one_of_many(action(3), &row[..2]));
        assert!(is_one_of_many(action(4), &row));
        assert!(!is_one_of_many(call(libc::SYS_openat, 4), &row));
        let drop = call(libc::SYS_prctl, libc::PR_CAPBSET_DROP as u64);
        assert!(is_one_of_many(drop, &[drop]));
        assert!(!is_one_of_many(
            call(libc::SYS_prctl, libc::PR_SET_DUMPABLE as u64),
            &[drop]
        ));
    }
}

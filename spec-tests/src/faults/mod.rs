//! Runs in: SUITE. Makes one system call of one process of a runtime fail, or kills the process there. A
//! thread of the suite has a seccomp filter that asks about every call, and starts the runtime, which
//! inherits it, as do its children; the answers come from a second thread, by seccomp_unotify(2). What the
//! runtime executes (hooks, the container's program) goes on under the filter, and nothing is done to it.

mod calls;
mod extent;
mod filter;
mod judge;
mod supervisor;

use crate::{
    outcome::{Check, Stop, fail},
    runner::{self, Live},
};
pub(crate) use calls::{can_fail, name as name_of_call};
pub(crate) use extent::Extent;
pub(crate) use filter::{on_a_kernel_before_6_17, on_a_kernel_without, where_forbidden};
pub(crate) use judge::{Call, RUNTIME};
use judge::{Judge, waits_in};
use nix::errno::Errno;
use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It is not made, and fails.
    Errno(Errno),
    /// The process gets SIGKILL before it.
    Kill,
    /// It is made, after files were renamed: [`Injector::start_in_a_race`].
    Rename,
}

impl What {
    /// Those that every call must bear.
    pub(crate) const ALL: [Self; 6] = [
        Self::Errno(Errno::EIO),
        Self::Errno(Errno::ENOMEM),
        Self::Errno(Errno::EINTR),
        Self::Errno(Errno::EAGAIN),
        Self::Errno(Errno::ENOSYS),
        Self::Kill,
    ];
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "{errno:?}"),
            Self::Kill => f.write_str("KILL"),
            Self::Rename => f.write_str("RENAME"),
        }
    }
}

/// Where in the calls of a process one is: the `nth` call of this number, from 1. Two runs differ by a call
/// here and there (a wait, a read(2) of a pipe, a munmap(2) that depends on where the memory lies), which
/// moves all those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    number: i32,
    nth: usize,
}

/// A file, and its name from then on.
pub(crate) type Renaming = (PathBuf, PathBuf);

impl Place {
    /// That of the last of the calls.
    pub(crate) fn of_last(calls: &[Call]) -> Option<Self> {
        let number = calls.last()?.number;
        let nth = calls.iter().filter(|call| call.number == number).count();
        Some(Self { number, nth })
    }

    fn is_last_of(self, calls: &[Call]) -> bool {
        Self::of_last(calls) == Some(self)
    }
}

/// One fault: it happens to a call of the process of this name, which was its call `nth`, from 1, without a
/// fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) process: String,
    pub(crate) nth: usize,
    place: Place,
    pub(crate) what: What,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.process, self.nth, self.what)
    }
}

/// A command to start, and where to.
struct Job {
    command: Command,
    dir: PathBuf,
    answer: mpsc::Sender<Check<Live>>,
}

/// Starts commands, each with a fault.
#[derive(Debug)]
pub(crate) struct Injector {
    /// Device and inode of the runtime's file.
    runtime: (u64, u64),
    judge: Arc<Mutex<Judge>>,
    jobs: Option<mpsc::Sender<Job>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn locked(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Injector {
    /// What it starts is born in the namespaces of this thread.
    pub(crate) fn new(runtime: &Path) -> Check<Self> {
        let file = fs::metadata(runtime)?;
        let judge = Arc::new(Mutex::new(Judge::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (jobs, received) = mpsc::channel::<Job>();
        let (listeners, listener) = mpsc::channel();
        let starter = thread::spawn(move || {
            if listeners.send(filter::ask_about_all_but(calls::RETURNS)).is_err() {
                return;
            }
            for mut job in received {
                let _nobody_waits_any_more = job.answer.send(runner::start(&mut job.command, &job.dir));
            }
        });
        let listener = listener
            .recv()
            .map_err(|_| Stop::Fail("the thread that starts commands ended".into()))??;
        let (shared, ended) = (Arc::clone(&judge), Arc::clone(&is_over));
        let supervisor = thread::spawn(move || supervisor::run(&listener, &shared, &ended));
        Ok(Self {
            runtime: (file.dev(), file.ino()),
            judge,
            jobs: Some(jobs),
            is_over,
            threads: vec![starter, supervisor],
        })
    }

    /// Starts the command under the filter. Those before it must have ended.
    pub(crate) fn start(&self, command: Command, dir: &Path, fault: Option<&Fault>) -> Check<Live> {
        self.start_judged(command, dir, Judge::new(self.runtime, fault.cloned()))
    }

    /// As [`Injector::start`]: somebody who may write there renames files, in this order, right before call
    /// `nth` of a process, from 1, which was its call there in `calls` without that.
    pub(crate) fn start_in_a_race(
        &self,
        command: Command,
        dir: &Path,
        (process, calls): (&str, &[Call]),
        renamings: &[Renaming],
    ) -> Check<Live> {
        let Some(place) = Place::of_last(calls) else {
            return fail("no call to race with");
        };
        let fault = Fault {
            process: process.to_owned(),
            nth: calls.len(),
            place,
            what: What::Rename,
        };
        let judge = Judge::new(self.runtime, Some(fault)).with_renamings(renamings);
        self.start_judged(command, dir, judge)
    }

    fn start_judged(&self, command: Command, dir: &Path, judge: Judge) -> Check<Live> {
        *locked(&self.judge) = judge;
        let (answer, started) = mpsc::channel();
        let job = Job {
            command,
            dir: dir.to_owned(),
            answer,
        };
        match &self.jobs {
            Some(jobs) if jobs.send(job).is_ok() => {}
            _ => return fail("the thread that starts commands ended"),
        }
        started
            .recv()
            .map_err(|_| Stop::Fail("the thread that starts commands ended".into()))?
    }

    /// What the processes of the command have called so far, up to what they execute.
    pub(crate) fn calls(&self) -> BTreeMap<String, Vec<Call>> {
        let judge = locked(&self.judge);
        let processes = judge.processes.values();
        processes.map(|p| (p.name.clone(), p.calls.clone())).collect()
    }

    /// The call that the fault has hit.
    pub(crate) fn hit(&self) -> Option<Call> {
        locked(&self.judge).hit
    }

    /// The processes of the command that still live: pid, and name with what it waits in.
    pub(crate) fn living(&self) -> Vec<(u32, String)> {
        let judge = locked(&self.judge);
        let processes = judge.processes.iter();
        processes
            .filter_map(|(pid, p)| Some((*pid, format!("{} {}", p.name, waits_in(*pid)?))))
            .collect()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.jobs = None;
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _has_nothing_to_say = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_more_moves_no_other() {
        let calls = |numbers: &[libc::c_long]| -> Vec<Call> {
            let call = |number: &libc::c_long| Call {
                number: *number as i32,
                first_argument: 0,
            };
            numbers.iter().map(call).collect()
        };
        let (open, unmap) = (libc::SYS_openat, libc::SYS_munmap);
        let place = Place::of_last(&calls(&[open, unmap, open]));
        assert!(place.is_some_and(|place| place.nth == 2));
        assert_eq!(place, Place::of_last(&calls(&[open, unmap, unmap, open])));
        assert_ne!(place, Place::of_last(&calls(&[open, unmap])));
        assert_ne!(place, Place::of_last(&calls(&[open, unmap, open, open])));
        assert_eq!(Place::of_last(&[]), None);
    }
}

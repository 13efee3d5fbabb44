//! Runs in: SUITE. Makes one system call of one process of a runtime fail, or kills the process there. A thread of the
//! suite has a seccomp filter that asks about every call, and starts the runtime, which inherits it, as do its children;
//! the answers come from a second thread, by seccomp_unotify(2). What the runtime executes (hooks, the container's
//! program) goes on under the filter, and nothing is done to it.

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
pub(crate) use filter::on_a_kernel_without;
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
}

impl What {
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
        }
    }
}

/// One fault: it happens to the call number `nth`, from 1, of the process of this name. Two runs may differ by a call, as
/// that of a wait; so if that call cannot fail in this way, it happens to the first after it that can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) process: String,
    pub(crate) nth: usize,
    pub(crate) what: What,
}

impl Fault {
    /// Whether it may happen to the call number `nth` of a process.
    fn is_for(&self, process: &str, nth: usize, call: Call) -> bool {
        let is_possible = match self.what {
            What::Errno(errno) => can_fail(call, errno),
            What::Kill => true,
        };
        self.process == process && self.nth <= nth && is_possible
    }
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
        *locked(&self.judge) = Judge::new(self.runtime, fault.cloned());
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
    fn a_call_that_cannot_fail_never_does() {
        let call = |number: libc::c_long| Call {
            number: number as i32,
            first_argument: 0,
        };
        let fault = |what| Fault {
            process: RUNTIME.to_owned(),
            nth: 2,
            what,
        };
        let (open, umask) = (call(libc::SYS_openat), call(libc::SYS_umask));
        let fails = fault(What::Errno(Errno::EIO));
        assert!(!fails.is_for(RUNTIME, 1, open));
        assert!(fails.is_for(RUNTIME, 2, open));
        assert!(!fails.is_for("RUNTIME.1", 2, open));
        assert!(!fails.is_for(RUNTIME, 2, umask));
        assert!(fails.is_for(RUNTIME, 3, open));
        assert!(fault(What::Kill).is_for(RUNTIME, 2, umask));
    }
}

//! Runs in: SHIM. A container of the pod: its init, the processes of `Exec`, and in which order they are told
//! to have ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::failure::{Failure, Result};
use crate::process::Process;
use crate::runtime::{self, Creation, Streams};
use crate::stdio::{Opened, Terms};

/// A process of `Exec`, with its description in JSON.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) process: Process,
    pub(crate) spec: Vec<u8>,
}

/// What `Start` makes a container of that was saved.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) images: PathBuf,
    pub(crate) streams: Streams,
    pub(crate) opened: Opened,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) library: runtime::Container,
    pub(crate) creation: Creation,
    pub(crate) terms: Terms,
    pub(crate) init: Process,
    pub(crate) saved: Mutex<Option<Saved>>,
    /// The end of init is not the end of all: it shares its pid namespace.
    pub(crate) shares_pids: bool,
    pub(crate) is_paused: AtomicBool,
    /// While init is there, and has a cgroup.
    pub(crate) events: Mutex<Option<runtime::Events>>,
    execs: Mutex<BTreeMap<String, Arc<Exec>>>,
    running: Running,
}

/// The processes of `Exec` that run or are being started.
#[derive(Debug)]
struct Running {
    count: watch::Sender<usize>,
    /// Init has ended: there will be no more of them.
    is_over: AtomicBool,
}

/// A process of `Exec` that runs or is being started, until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningExec(Arc<Container>);

impl Drop for RunningExec {
    fn drop(&mut self) {
        self.0.running.count.send_modify(|count| *count -= 1);
    }
}

/// What a container is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) library: runtime::Container,
    pub(crate) creation: Creation,
    pub(crate) terms: Terms,
    pub(crate) init: Process,
    pub(crate) saved: Option<Saved>,
    pub(crate) shares_pids: bool,
}

impl Container {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            library: parts.library,
            creation: parts.creation,
            terms: parts.terms,
            init: parts.init,
            saved: Mutex::new(parts.saved),
            shares_pids: parts.shares_pids,
            is_paused: AtomicBool::new(false),
            events: Mutex::default(),
            execs: Mutex::default(),
            running: Running {
                count: watch::Sender::new(0),
                is_over: AtomicBool::new(false),
            },
        }
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kernel has killed a process of it for want of memory, since this was asked last. None
    /// after the end of init.
    pub(crate) fn is_out_of_memory(&self) -> Option<bool> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.as_mut().map(runtime::Events::is_out_of_memory)
    }

    /// # Errors
    /// `ALREADY_EXISTS`.
    pub(crate) fn add_exec(&self, exec: Exec) -> Result<()> {
        let id = exec.process.exec_id.clone();
        let mut execs = self.execs();
        if execs.contains_key(&id) {
            let code = containerd_shim_protos::ttrpc::Code::ALREADY_EXISTS;
            return Err(Failure::new(code, format!("id {id} already exists")));
        }
        execs.insert(id, Arc::new(exec));
        Ok(())
    }

    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn exec(&self, id: &str) -> Result<Arc<Exec>> {
        let missing = || Failure::not_found(format!("process does not exist {id}"));
        self.execs().get(id).cloned().ok_or_else(missing)
    }

    pub(crate) fn remove_exec(&self, id: &str) {
        self.execs().remove(id);
    }

    /// The id of the exec that this process is, if it is one.
    pub(crate) fn exec_id_of(&self, pid: u32) -> Option<String> {
        let execs = self.execs();
        let found = execs.iter().find(|(_, exec)| exec.process.pid() == pid);
        found.map(|(id, _)| id.clone())
    }

    /// # Errors
    /// `FAILED_PRECONDITION`: init has ended.
    pub(crate) fn begin_exec(self: &Arc<Self>) -> Result<RunningExec> {
        // One thread runs all of this: nothing comes between the question and the count.
        if self.running.is_over.load(Ordering::Relaxed) {
            let text = format!("container {} init process is not running", self.id);
            return Err(Failure::precondition(text));
        }
        self.running.count.send_modify(|count| *count += 1);
        Ok(RunningExec(Arc::clone(self)))
    }

    /// Init has ended: lets no more of them begin.
    pub(crate) fn end_execs(&self) {
        self.running.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits until the end of all of them has been told.
    pub(crate) async fn execs_ended(&self) {
        let mut count = self.running.count.subscribe();
        // The sender is ours.
        let _closed = count.wait_for(|count| *count == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::stdio::Names;

    fn container() -> Arc<Container> {
        let parts = Parts {
            id: "a".into(),
            library: runtime::Container::new("a", "n", &Options::default()).unwrap(),
            creation: Creation {
                bundle: PathBuf::new(),
                no_pivot: false,
                no_new_keyring: false,
                criu_work: None,
            },
            terms: Terms {
                id: "a".into(),
                namespace: "n".into(),
                owner: (0, 0),
            },
            init: Process::new(String::new(), Names::default()),
            saved: None,
            shares_pids: false,
        };
        Arc::new(Container::new(parts))
    }

    #[test]
    fn an_exec_is_there_once() {
        let container = container();
        let exec = || Exec {
            process: Process::new("e".into(), Names::default()),
            spec: vec![],
        };
        assert!(container.exec("e").is_err());
        container.add_exec(exec()).unwrap();
        assert!(container.add_exec(exec()).is_err());
        container.remove_exec("e");
        container.add_exec(exec()).unwrap();
    }

    #[test]
    fn none_begins_after_init_and_all_are_waited_for() {
        let container = container();
        let running = container.begin_exec().unwrap();
        container.end_execs();
        assert!(container.begin_exec().is_err());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let waiting = tokio::spawn({
                let container = Arc::clone(&container);
                async move { container.execs_ended().await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            drop(running);
            waiting.await.unwrap();
        });
    }
}

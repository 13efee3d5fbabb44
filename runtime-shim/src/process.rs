//! Runs in: SHIM. One process of a container, init or one of `Exec`: what is known of it, and its end.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::io::Interest;
use tokio::sync::watch;

use crate::failure::{Failure, Result};
use crate::polled::polled;
use crate::runtime;
use crate::stdio::{Names, Running};

/// What is told of a process whose status is lost.
const LOST: u32 = 255;

/// How a process has ended, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

impl Exit {
    pub(crate) fn now(status: u32) -> Self {
        Self {
            status,
            at: SystemTime::now(),
        }
    }
}

/// What has been done for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is there for `Start`; of `Exec`, and of a checkpoint, only its description.
    Created,
    /// Its program runs, or has run.
    Started,
}

#[derive(Debug)]
pub(crate) struct Process {
    /// Empty for init.
    pub(crate) exec_id: String,
    pub(crate) names: Names,
    state: Mutex<State>,
    /// Held while it is started: its end is told after that. Held by `Delete`, too.
    pub(crate) lifecycle: tokio::sync::Mutex<()>,
    /// It is a zombie, or less.
    gone: watch::Sender<bool>,
    /// Its end has been told.
    exit: watch::Sender<Option<Exit>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    process: Option<Arc<runtime::Process>>,
    streams: Option<Running>,
}

impl Process {
    pub(crate) fn new(exec_id: String, names: Names) -> Self {
        Self {
            exec_id,
            names,
            state: Mutex::new(State {
                phase: Phase::Created,
                process: None,
                streams: None,
            }),
            lifecycle: tokio::sync::Mutex::default(),
            gone: watch::Sender::new(false),
            exit: watch::Sender::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    pub(crate) fn set_started(&self) {
        self.state().phase = Phase::Started;
    }

    /// The process is there.
    pub(crate) fn set(&self, process: runtime::Process) -> Arc<runtime::Process> {
        let process = Arc::new(process);
        self.state().process = Some(Arc::clone(&process));
        process
    }

    pub(crate) fn set_streams(&self, streams: Running) {
        self.state().streams = Some(streams);
    }

    pub(crate) fn take_streams(&self) -> Option<Running> {
        self.state().streams.take()
    }

    /// # Errors
    /// The fifo cannot be opened.
    pub(crate) fn begin_input(&self) -> Result<()> {
        match &mut self.state().streams {
            Some(streams) => streams.begin_input(),
            None => Ok(()),
        }
    }

    pub(crate) fn close_input(&self) {
        if let Some(streams) = &mut self.state().streams {
            streams.close_input();
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        match &self.state().streams {
            Some(streams) => streams.resize(rows, columns),
            None => Ok(()),
        }
    }

    /// 0 if it is not there yet.
    pub(crate) fn pid(&self) -> u32 {
        self.state().process.as_ref().map_or(0, |process| process.pid())
    }

    /// # Errors
    /// `FAILED_PRECONDITION` before it is there, `NOT_FOUND` after its end.
    pub(crate) fn kill(&self, signal: i32) -> Result<()> {
        let process = self.state().process.clone();
        match process {
            _ if self.exit().is_some() => Err(Failure::not_found("process already finished")),
            None => Err(Failure::precondition("process not created")),
            Some(process) => process.kill(signal),
        }
    }

    pub(crate) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    pub(crate) fn set_exit(&self, exit: Exit) {
        self.exit.send_replace(Some(exit));
    }

    /// Waits until its end has been told.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::now(LOST)),
            // The sender is ours.
            Err(_closed) => Exit::now(LOST),
        }
    }

    /// Waits for its end, and reaps it.
    pub(crate) async fn ended(&self) -> Exit {
        let process = self.state().process.clone();
        let exit = match process {
            Some(process) => reap(&process).await,
            None => Err(Failure::precondition("process not created")),
        };
        self.gone.send_replace(true);
        if let Some(streams) = &mut self.state().streams {
            streams.stop_input();
        }
        exit.unwrap_or_else(|error| {
            log::error!("the status of a process is lost: {error}");
            Exit::now(LOST)
        })
    }
}

async fn reap(process: &Arc<runtime::Process>) -> Result<Exit> {
    let failed = |error: std::io::Error| Failure::io("wait for a process", "pidfd", error);
    let pidfd = process.as_fd().try_clone_to_owned().map_err(failed)?;
    let pidfd = polled(pidfd, Interest::READABLE).map_err(failed)?;
    // The guard is not needed: a pidfd stays readable.
    drop(pidfd.readable().await.map_err(failed)?);
    Ok(Exit::now(process.status()?))
}

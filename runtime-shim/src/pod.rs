//! Runs in: SHIM. The pod: its containers, what is done to them, and the events about it in their order:
//! create, start, exit, delete; exec-added, exec-started, exit. Runs on one thread; what may wait for the
//! kernel or for others is done on a few more.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskIO, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::ttrpc::Code;
use tokio::sync::Notify;

use crate::container::{Container, Exec};
use crate::creation;
use crate::events::Publisher;
use crate::failure::{Failure, Result};
use crate::process::{Exit, Phase, Process};
use crate::rootfs;
use crate::runtime::Checkpoint;
use crate::stdio::{self, Names};
use crate::values::timestamp;

/// All containers that this process serves.
#[derive(Debug)]
pub(crate) struct Pod {
    namespace: String,
    pub(crate) publisher: Publisher,
    /// None: it is being created.
    containers: Mutex<HashMap<String, Option<Arc<Container>>>>,
    /// There is nothing more to do.
    pub(crate) over: Notify,
}

/// Runs on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(Code::INTERNAL, format!("a thread ended: {error}"))),
    }
}

impl Pod {
    pub(crate) fn new(namespace: String, publisher: Publisher) -> Arc<Self> {
        Arc::new(Self {
            namespace,
            publisher,
            containers: Mutex::default(),
            over: Notify::new(),
        })
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Container>>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        let missing = || Failure::not_found("container not created");
        self.containers().get(id).cloned().flatten().ok_or_else(missing)
    }

    /// The pid of init.
    pub(crate) async fn create(self: &Arc<Self>, request: CreateTaskRequest) -> Result<u32> {
        let id = request.id.clone();
        if self.containers().contains_key(&id) {
            return Err(Failure::new(
                Code::ALREADY_EXISTS,
                format!("container {id} already exists"),
            ));
        }
        self.containers().insert(id.clone(), None);
        let created = self.make(request).await;
        match &created {
            Ok(container) => self.containers().insert(id, Some(Arc::clone(container))),
            Err(_) => self.containers().remove(&id),
        };
        Ok(created?.init.pid())
    }

    async fn make(self: &Arc<Self>, request: CreateTaskRequest) -> Result<Arc<Container>> {
        let namespace = self.namespace.clone();
        let (container, opened, request) = blocking(move || {
            let (container, opened) = creation::create(&request, &namespace)?;
            Ok((Arc::new(container), opened, request))
        })
        .await?;
        if let Some(opened) = opened {
            match opened.run(&container.init.gone()) {
                Ok(streams) => container.init.set_streams(streams),
                Err(error) => return Err(self.unmake(container, error).await),
            }
        }
        self.publisher.publish(
            "/tasks/create",
            "containerd.events.TaskCreate",
            &TaskCreate {
                container_id: request.id,
                bundle: request.bundle,
                rootfs: request.rootfs,
                io: MessageField::some(TaskIO {
                    stdin: request.stdin,
                    stdout: request.stdout,
                    stderr: request.stderr,
                    terminal: request.terminal,
                    ..TaskIO::default()
                }),
                checkpoint: request.checkpoint,
                pid: container.init.pid(),
                ..TaskCreate::default()
            },
        );
        if container.init.pid() != 0 {
            self.watch_init(&container);
        }
        Ok(container)
    }

    /// Takes back a container that was created; the reason, to be told.
    async fn unmake(&self, container: Arc<Container>, error: Failure) -> Failure {
        let kept = Arc::clone(&container);
        let undone = blocking(move || {
            kept.library.delete(true)?;
            rootfs::unmount_all(&kept.creation.bundle.join("rootfs"))
        });
        match undone.await {
            Ok(()) => drop(container.init.ended().await),
            Err(second) => log::error!("{second}"),
        }
        error
    }

    /// The pid of the process.
    pub(crate) async fn start(self: &Arc<Self>, id: &str, exec_id: &str) -> Result<u32> {
        let container = self.container(id)?;
        match exec_id.is_empty() {
            true => self.start_init(container).await,
            false => self.start_exec(container, exec_id).await,
        }
    }

    async fn start_init(self: &Arc<Self>, container: Arc<Container>) -> Result<u32> {
        let _told_after_this = container.init.lifecycle.lock().await;
        if container.init.phase() != Phase::Created || container.init.exit().is_some() {
            return Err(Failure::precondition(
                "cannot start a process that is not created",
            ));
        }
        let saved = container
            .saved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match saved {
            Some(saved) => {
                let library = Arc::clone(&container);
                let (process, opened) = blocking(move || {
                    let process = library
                        .library
                        .restore(&library.creation, &saved.images, saved.streams)?;
                    Ok((process, saved.opened))
                })
                .await?;
                container.init.set(process);
                container.init.set_streams(opened.run(&container.init.gone())?);
                container.init.begin_input()?;
                self.watch_init(&container);
            }
            None => {
                container.init.begin_input()?;
                let library = Arc::clone(&container);
                blocking(move || library.library.start()).await?;
            }
        }
        container.init.set_started();
        let pid = container.init.pid();
        self.publisher.publish(
            "/tasks/start",
            "containerd.events.TaskStart",
            &TaskStart {
                container_id: container.id.clone(),
                pid,
                ..TaskStart::default()
            },
        );
        Ok(pid)
    }

    async fn start_exec(self: &Arc<Self>, container: Arc<Container>, exec_id: &str) -> Result<u32> {
        let exec = container.exec(exec_id)?;
        let _told_after_this = exec.process.lifecycle.lock().await;
        if exec.process.phase() != Phase::Created || exec.process.exit().is_some() {
            return Err(Failure::precondition(
                "cannot start a process that is not created",
            ));
        }
        let running = container.begin_exec()?;
        if let Err(error) = launch_exec(&container, &exec).await {
            // Nobody waits for it in vain.
            exec.process.set_exit(Exit::now(255));
            return Err(error);
        }
        exec.process.set_started();
        let pid = exec.process.pid();
        self.publisher.publish(
            "/tasks/exec-started",
            "containerd.events.TaskExecStarted",
            &TaskExecStarted {
                container_id: container.id.clone(),
                exec_id: exec_id.to_owned(),
                pid,
                ..TaskExecStarted::default()
            },
        );
        self.watch_exec(&exec, running, container.id.clone());
        Ok(pid)
    }

    pub(crate) fn exec(&self, id: &str, exec_id: &str, names: Names, spec: Vec<u8>) -> Result<()> {
        if exec_id.is_empty() {
            return Err(Failure::invalid("the id of a process cannot be empty"));
        }
        let container = self.container(id)?;
        container.add_exec(Exec {
            process: Process::new(exec_id.to_owned(), names),
            spec,
        })?;
        self.publisher.publish(
            "/tasks/exec-added",
            "containerd.events.TaskExecAdded",
            &TaskExecAdded {
                container_id: id.to_owned(),
                exec_id: exec_id.to_owned(),
                ..TaskExecAdded::default()
            },
        );
        Ok(())
    }

    /// The pid, and how the process has ended.
    pub(crate) async fn delete(&self, id: &str, exec_id: &str) -> Result<(u32, Exit)> {
        let container = self.container(id)?;
        if !exec_id.is_empty() {
            return delete_exec(&container, exec_id).await;
        }
        let alone = container.init.lifecycle.lock().await;
        // A second one that has waited for the first.
        self.container(id)?;
        let is_there = container.init.pid() != 0 && container.init.exit().is_none();
        if is_there && container.init.phase() == Phase::Started {
            return Err(Failure::precondition("cannot delete a running process"));
        }
        if let Some(streams) = container.init.take_streams() {
            if is_there {
                // Only created: it has written nothing, and its end of the streams is open until it is gone.
                drop(streams);
            } else {
                streams.drain().await;
            }
        }
        let kept = Arc::clone(&container);
        blocking(move || {
            kept.library.delete(false)?;
            rootfs::unmount_all(&kept.creation.bundle.join("rootfs"))
        })
        .await?;
        // Who tells of the end takes it.
        drop(alone);
        let exit = match container.init.pid() {
            // Of a checkpoint, and never started.
            0 => Exit::now(0),
            _ => container.init.wait().await,
        };
        if self.containers().remove(id).is_none() {
            return Err(Failure::not_found("container not created"));
        }
        let pid = container.init.pid();
        self.publisher.publish(
            "/tasks/delete",
            "containerd.events.TaskDelete",
            &TaskDelete {
                container_id: id.to_owned(),
                pid,
                exit_status: exit.status,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..TaskDelete::default()
            },
        );
        Ok((pid, exit))
    }

    /// Does not wait for a thread: what hangs there may be what is to be killed.
    pub(crate) fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        let container = self.container(id)?;
        let signal = i32::try_from(signal).map_err(|_| Failure::invalid("no such signal"))?;
        if !exec_id.is_empty() {
            return container.exec(exec_id)?.process.kill(signal);
        }
        match container.init.exit() {
            Some(_) if !all => Err(Failure::not_found("process already finished")),
            _ => container.library.kill(signal, all),
        }
    }

    pub(crate) async fn pause(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let kept = Arc::clone(&container);
        blocking(move || kept.library.pause()).await?;
        container.is_paused.store(true, Ordering::Relaxed);
        let event = TaskPaused {
            container_id: id.to_owned(),
            ..TaskPaused::default()
        };
        self.publisher
            .publish("/tasks/paused", "containerd.events.TaskPaused", &event);
        Ok(())
    }

    pub(crate) async fn resume(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let kept = Arc::clone(&container);
        blocking(move || kept.library.resume()).await?;
        container.is_paused.store(false, Ordering::Relaxed);
        let event = TaskResumed {
            container_id: id.to_owned(),
            ..TaskResumed::default()
        };
        self.publisher
            .publish("/tasks/resumed", "containerd.events.TaskResumed", &event);
        Ok(())
    }

    /// On a thread that may wait: any call of the library about a container.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        id: &str,
        call: impl FnOnce(&Container) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let container = self.container(id)?;
        blocking(move || call(&container)).await
    }

    pub(crate) async fn checkpoint(&self, id: &str, mut checkpoint: Checkpoint) -> Result<()> {
        self.ask(id, move |container| {
            let is_own = checkpoint.work.as_os_str().is_empty();
            if is_own {
                checkpoint.work = container.creation.bundle.join("criu-work");
            }
            std::fs::create_dir_all(&checkpoint.work)
                .map_err(|error| Failure::io("make the directory of criu", &checkpoint.work, error))?;
            let result = container.library.checkpoint(&checkpoint);
            if is_own {
                keep_log(&checkpoint.work, &container.creation.bundle, result.is_err());
            }
            result
        })
        .await
    }

    /// Ends this process once it serves no container.
    pub(crate) fn shut_down(&self) {
        if self.containers().is_empty() {
            self.over.notify_one();
        }
    }

    pub(crate) async fn events_taken(&self) {
        self.publisher.drain().await;
    }
}

/// criu's log of a dump that failed is kept; its directory is not.
fn keep_log(work: &Path, bundle: &Path, has_failed: bool) {
    if has_failed {
        let _there_may_be_none = std::fs::copy(work.join("dump.log"), bundle.join("criu-dump.log"));
    }
    if let Err(error) = std::fs::remove_dir_all(work) {
        log::warn!("remove {}: {error}", work.display());
    }
}

async fn launch_exec(container: &Arc<Container>, exec: &Arc<Exec>) -> Result<()> {
    let (kept, asked) = (Arc::clone(container), Arc::clone(exec));
    let (process, opened) = blocking(move || {
        let (streams, opened) = stdio::open(&asked.process.names, &kept.terms)?;
        let terminal = asked.process.names.terminal;
        Ok((kept.library.exec(&asked.spec, terminal, streams)?, opened))
    })
    .await?;
    let process = exec.process.set(process);
    let begun = opened.run(&exec.process.gone()).and_then(|streams| {
        exec.process.set_streams(streams);
        exec.process.begin_input()
    });
    if begun.is_err() {
        process.kill(libc::SIGKILL)?;
        exec.process.ended().await;
    }
    begun
}

async fn delete_exec(container: &Arc<Container>, exec_id: &str) -> Result<(u32, Exit)> {
    let exec = container.exec(exec_id)?;
    let _alone = exec.process.lifecycle.lock().await;
    let exit = match exec.process.exit() {
        Some(exit) => exit,
        None if exec.process.phase() == Phase::Created => Exit::now(0),
        None => return Err(Failure::precondition("cannot delete a running process")),
    };
    if let Some(streams) = exec.process.take_streams() {
        streams.drain().await;
    }
    container.remove_exec(exec_id);
    Ok((exec.process.pid(), exit))
}

//! Runs in: SHIM. Waits for what happens in a container by itself, its ends and want of memory, and tells
//! containerd, in the order that it relies on: want of memory before the end that it has caused, the end of
//! init after those of all its execs, each end after its start.

use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::protobuf::MessageField;
use tokio::io::Interest;

use crate::container::{Container, Exec, RunningExec};
use crate::pod::{Pod, blocking};
use crate::polled::polled;
use crate::process::{Exit, Process};
use crate::values::timestamp;

impl Pod {
    /// Tells of init's end, when it comes: last of all.
    pub(crate) fn watch_init(self: &Arc<Self>, container: &Arc<Container>) {
        let (pod, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let watch = tokio::spawn(Arc::clone(&pod).watch_memory(Arc::clone(&container)));
            let exit = container.init.ended().await;
            watch.abort();
            container.end_execs();
            // It may be that `Start` is not done yet.
            drop(container.init.lifecycle.lock().await);
            if container.shares_pids {
                end_rest(Arc::clone(&container)).await;
            }
            container.execs_ended().await;
            // What has not been told yet is told before the end.
            let is_out_of_memory = match container.is_out_of_memory() {
                Some(is_out_of_memory) => is_out_of_memory,
                None => has_killed(Arc::clone(&container)).await,
            };
            if is_out_of_memory {
                pod.tell_oom(&container.id);
            }
            *container.events.lock().unwrap_or_else(PoisonError::into_inner) = None;
            pod.tell_exit(&container.id, &container.init, exit);
        });
    }

    /// Tells when the kernel kills for want of memory.
    async fn watch_memory(self: Arc<Self>, container: Arc<Container>) {
        let kept = Arc::clone(&container);
        let Ok(Some(events)) = blocking(move || Ok(kept.library.events())).await else {
            return;
        };
        let ready = events.as_fd().try_clone_to_owned();
        *container.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
        let ready = match ready.and_then(|ready| polled(ready, Interest::READABLE)) {
            Ok(ready) => ready,
            Err(error) => return log::error!("watch the memory of a container: {error}"),
        };
        while let Ok(mut guard) = ready.readable().await {
            guard.clear_ready();
            match container.is_out_of_memory() {
                Some(true) => self.tell_oom(&container.id),
                Some(false) => {}
                None => return,
            }
        }
    }

    pub(crate) fn watch_exec(self: &Arc<Self>, exec: &Arc<Exec>, running: RunningExec, container: String) {
        let (pod, exec) = (Arc::clone(self), Arc::clone(exec));
        tokio::spawn(async move {
            let exit = exec.process.ended().await;
            pod.tell_exit(&container, &exec.process, exit);
            drop(running);
        });
    }

    fn tell_oom(&self, container: &str) {
        self.publisher.publish(
            "/tasks/oom",
            "containerd.events.TaskOOM",
            &TaskOOM {
                container_id: container.to_owned(),
                ..TaskOOM::default()
            },
        );
    }

    fn tell_exit(&self, container: &str, process: &Process, exit: Exit) {
        let id = match process.exec_id.is_empty() {
            true => container,
            false => &process.exec_id,
        };
        self.publisher.publish(
            "/tasks/exit",
            "containerd.events.TaskExit",
            &TaskExit {
                container_id: container.to_owned(),
                id: id.to_owned(),
                pid: process.pid(),
                exit_status: exit.status,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..TaskExit::default()
            },
        );
        process.set_exit(exit);
    }
}

/// Kills what init has left, where its end is not the end of all.
async fn end_rest(container: Arc<Container>) {
    let killed = blocking(move || container.library.kill(libc::SIGKILL, true)).await;
    match killed {
        Err(error) if !error.is_not_found() => log::error!("end what init has left: {error}"),
        _ => {}
    }
}

/// Whether the kernel has ever killed a process of it for want of memory.
async fn has_killed(container: Arc<Container>) -> bool {
    let kills = blocking(move || Ok(container.library.oom_kills())).await;
    kills.unwrap_or_default() > 0
}

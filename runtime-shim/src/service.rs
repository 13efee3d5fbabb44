//! Runs in: SHIM. The task service of containerd, versions 2 and 3, which have the same messages: requests
//! into calls of the pod, results into responses.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::{CheckpointOptions, ProcessDetails};
use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc::r#async::{Service as Methods, TtrpcContext};
use containerd_shim_protos::ttrpc::{Code, Result as Response};

use crate::container::Container;
use crate::failure::{Failure, Result};
use crate::metrics;
use crate::pod::Pod;
use crate::process::{Phase, Process};
use crate::runtime::Checkpoint;
use crate::stdio::Names;
use crate::values::{any, timestamp};

/// The service.
struct Service(Arc<Pod>);

/// The methods of both versions.
pub(crate) fn methods(pod: &Arc<Pod>) -> HashMap<String, Methods> {
    let mut all = HashMap::new();
    for version in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        let service = Arc::new(Service(Arc::clone(pod)));
        for methods in create_task(service).into_values() {
            all.insert(version.to_owned(), methods);
        }
    }
    all
}

#[async_trait]
impl Task for Service {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Response<CreateTaskResponse> {
        Ok(CreateTaskResponse {
            pid: self.0.create(request).await?,
            ..CreateTaskResponse::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Response<StartResponse> {
        Ok(StartResponse {
            pid: self.0.start(&request.id, &request.exec_id).await?,
            ..StartResponse::default()
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Response<DeleteResponse> {
        let (pid, exit) = self.0.delete(&request.id, &request.exec_id).await?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..DeleteResponse::default()
        })
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Response<Empty> {
        let names = Names {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let spec = request.spec.into_option().unwrap_or_default().value;
        self.0.exec(&request.id, &request.exec_id, names, spec)?;
        Ok(Empty::default())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Response<Empty> {
        let container = self.0.container(&request.id)?;
        let side = |pixels: u32| u16::try_from(pixels).map_err(|_| Failure::invalid("a terminal that large"));
        let (rows, columns) = (side(request.height)?, side(request.width)?);
        with_process(&container, &request.exec_id, |process| {
            process.resize(rows, columns)
        })??;
        Ok(Empty::default())
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Response<StateResponse> {
        let container = self.0.container(&request.id)?;
        Ok(with_process(&container, &request.exec_id, |process| {
            state(&container, process)
        })?)
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Response<PidsResponse> {
        let container = self.0.container(&request.id)?;
        let pids = self
            .0
            .ask(&request.id, |container| container.library.pids())
            .await?;
        let processes = pids.into_iter().map(|pid| process_info(&container, pid));
        Ok(PidsResponse {
            processes: processes.collect::<Result<_>>()?,
            ..PidsResponse::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Response<Empty> {
        self.0.pause(&request.id).await?;
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Response<Empty> {
        self.0.resume(&request.id).await?;
        Ok(Empty::default())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Response<Empty> {
        self.0
            .kill(&request.id, &request.exec_id, request.signal, request.all)?;
        Ok(Empty::default())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Response<Empty> {
        let container = self.0.container(&request.id)?;
        if request.stdin {
            with_process(&container, &request.exec_id, Process::close_input)?;
        }
        Ok(Empty::default())
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> Response<Empty> {
        let checkpoint = checkpoint_of(&request)?;
        self.0.checkpoint(&request.id, checkpoint).await?;
        Ok(Empty::default())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Response<Empty> {
        let resources = request.resources.into_option().unwrap_or_default().value;
        self.0
            .ask(&request.id, move |container| container.library.update(&resources))
            .await?;
        Ok(Empty::default())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Response<WaitResponse> {
        let container = self.0.container(&request.id)?;
        let exit = match request.exec_id.is_empty() {
            true => container.init.wait().await,
            false => container.exec(&request.exec_id)?.process.wait().await,
        };
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..WaitResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Response<StatsResponse> {
        let (stats, oom_kills) = self
            .0
            .ask(&request.id, |container| container.library.stats())
            .await?;
        let metrics = any(metrics::NAME, &metrics::of(&stats, oom_kills))?;
        Ok(StatsResponse {
            stats: MessageField::some(metrics),
            ..StatsResponse::default()
        })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Response<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self
                .0
                .container(&request.id)
                .map_or(0, |container| container.init.pid()),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Response<Empty> {
        self.0.shut_down();
        Ok(Empty::default())
    }
}

/// Init, or a process of `Exec`.
fn with_process<T>(container: &Container, exec_id: &str, ask: impl FnOnce(&Process) -> T) -> Result<T> {
    match exec_id.is_empty() {
        true => Ok(ask(&container.init)),
        false => Ok(ask(&container.exec(exec_id)?.process)),
    }
}

fn state(container: &Container, process: &Process) -> StateResponse {
    let exit = process.exit();
    let status = match (exit, process.phase()) {
        (Some(_), _) => Status::STOPPED,
        (None, _) if container.is_paused.load(Ordering::Relaxed) => Status::PAUSED,
        (None, Phase::Created) => Status::CREATED,
        (None, Phase::Started) => Status::RUNNING,
    };
    let id = match process.exec_id.is_empty() {
        true => &container.id,
        false => &process.exec_id,
    };
    StateResponse {
        id: id.clone(),
        bundle: container.creation.bundle.to_string_lossy().into_owned(),
        pid: process.pid(),
        status: status.into(),
        stdin: process.names.stdin.clone(),
        stdout: process.names.stdout.clone(),
        stderr: process.names.stderr.clone(),
        terminal: process.names.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        exec_id: process.exec_id.clone(),
        ..StateResponse::default()
    }
}

fn process_info(container: &Container, pid: u32) -> Result<ProcessInfo> {
    let details = container.exec_id_of(pid).map(|exec_id| {
        let details = ProcessDetails {
            exec_id,
            ..ProcessDetails::default()
        };
        any("containerd.runc.v1.ProcessDetails", &details)
    });
    Ok(ProcessInfo {
        pid,
        info: details.transpose()?.into(),
        ..ProcessInfo::default()
    })
}

fn checkpoint_of(request: &CheckpointTaskRequest) -> Result<Checkpoint> {
    let options = match request.options.as_ref() {
        Some(options) => CheckpointOptions::parse_from_bytes(&options.value)?,
        None => CheckpointOptions::default(),
    };
    if !options.empty_namespaces.is_empty() {
        let text = "empty_namespaces: the runtime does not know them";
        return Err(Failure::new(Code::UNIMPLEMENTED, text));
    }
    Ok(Checkpoint {
        images: request.path.clone().into(),
        work: options.work_path.into(),
        leave_running: !options.exit,
        open_tcp: options.open_tcp,
        external_unix_sockets: options.external_unix_sockets,
        terminal: options.terminal,
        file_locks: options.file_locks,
        cgroups_mode: options.cgroups_mode,
    })
}

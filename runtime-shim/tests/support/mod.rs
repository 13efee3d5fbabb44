//! A containerd of the tests' own: starts the shim as containerd does, talks to it by ttrpc, and takes its
//! events.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest, DeleteResponse, Empty,
    ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest, StateRequest, Status, WaitRequest,
};
use containerd_shim_protos::events::task::{TaskExecStarted, TaskExit};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::shim_async::{Client, Events, TaskClient, create_events};
use containerd_shim_protos::ttrpc::r#async::{Server, TtrpcContext};
use containerd_shim_protos::ttrpc::context::{Context, with_duration};
use containerd_shim_protos::ttrpc::{self, Code};
use serde_json::json;

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-onggi-v1");
pub(crate) const NAMESPACE: &str = "shim-tests";

/// Longer than anything takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An async test on one thread.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE * 2, test)
            .await
            .expect("the test hangs")
    });
}

/// What the fake containerd has been told: topics, and for the end of a process its id and status.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, last: &str) -> Vec<String> {
        until(
            || self.all().last().is_some_and(|event| event == last),
            || format!("{last} in {:?}", self.all()),
        )
        .await;
        self.all()
    }
}

pub(crate) async fn until(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "still not: {}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[async_trait]
impl Events for Told {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = &request.envelope;
        assert_eq!(envelope.namespace, NAMESPACE);
        let event = &envelope.event;
        let text = match envelope.topic.trim_start_matches("/tasks/") {
            "exit" => {
                let exit = TaskExit::parse_from_bytes(&event.value).unwrap();
                format!("exit {} {}", exit.id, exit.exit_status)
            }
            "exec-started" => format!(
                "exec-started {}",
                TaskExecStarted::parse_from_bytes(&event.value).unwrap().exec_id
            ),
            other => other.to_owned(),
        };
        self.0.lock().unwrap().push(text);
        Ok(Empty::default())
    }
}

pub(crate) struct Containerd {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) told: Told,
    server: Option<Server>,
}

impl Containerd {
    pub(crate) async fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let mut containerd = Self {
            directory: tempfile::tempdir().unwrap(),
            told: Told::default(),
            server: None,
        };
        containerd.come().await;
        containerd
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ttrpc(&self) -> PathBuf {
        self.path("containerd.ttrpc")
    }

    /// Takes events from now on.
    pub(crate) async fn come(&mut self) {
        let mut server = Server::new()
            .bind(&format!("unix://{}", self.ttrpc().display()))
            .unwrap()
            .register_service(create_events(Arc::new(self.told.clone())));
        server.start().await.unwrap();
        self.server = Some(server);
    }

    /// Is away, as one that was killed.
    pub(crate) async fn go(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.shutdown().await.unwrap();
        }
        fs::remove_file(self.ttrpc()).unwrap();
    }

    /// A bundle with busybox in its rootfs.
    pub(crate) fn bundle(&self, id: &str, line: &str) -> PathBuf {
        let bundle = self.path(id);
        let bin = bundle.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in [
            "sh", "sleep", "cat", "ls", "grep", "dd", "stty", "echo", "true", "kill", "head", "tail",
            "readlink",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        // By which its processes are known.
        fs::write(
            bundle.join("rootfs/marker"),
            self.directory.path().as_os_str().as_encoded_bytes(),
        )
        .unwrap();
        let namespaces =
            ["pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.3.0",
            "root": { "path": "rootfs" },
            "process": { "cwd": "/", "args": ["sh", "-c", line], "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
            ],
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{}", self.cgroup(id)) },
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    fn cgroup(&self, id: &str) -> String {
        let name = self.directory.path().file_name().unwrap().to_string_lossy();
        format!("onggi-shim{name}-{id}").replace('.', "-")
    }

    pub(crate) fn edit_config(&self, id: &str, edit: impl FnOnce(&mut serde_json::Value)) {
        let path = self.path(id).join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// Calls the shim's binary as containerd 2.1 does.
    pub(crate) fn call(&self, id: &str, action: &[&str], version: &str) -> Output {
        let mut child = Command::new(SHIM)
            .args(["-namespace", NAMESPACE, "-address"])
            .arg(self.path("containerd.sock"))
            .args(["-publish-binary", "/bin/false", "-id", id])
            .args(action)
            .current_dir(self.path(id))
            .env("TTRPC_ADDRESS", self.ttrpc())
            .env("MAX_SHIM_VERSION", version)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // `delete` does not read it.
        let _unread = stdin.write_all(&self.options().write_to_bytes().unwrap());
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn options(&self) -> Any {
        let options = Options {
            root: self.path("states").to_string_lossy().into_owned(),
            ..Options::default()
        };
        Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: options.write_to_bytes().unwrap(),
            ..Any::default()
        }
    }

    pub(crate) async fn start_shim(&self, id: &str) -> Shim<'_> {
        let output = self.call(id, &["start"], "2");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&answer["version"], &answer["protocol"]),
            (&json!(2), &json!("ttrpc"))
        );
        let address = answer["address"].as_str().unwrap().to_owned();
        let client = Client::connect(&address).await.unwrap();
        Shim {
            containerd: self,
            task: TaskClient::new(client),
            socket: PathBuf::from(address.strip_prefix("unix://").unwrap()),
        }
    }

    /// Nothing of these containers is left on the host.
    pub(crate) fn nothing_is_left(&self, shim_pid: u32, socket: &Path) {
        assert!(
            !Path::new(&format!("/proc/{shim_pid}/cwd")).exists(),
            "the shim is there"
        );
        assert!(!socket.exists(), "the socket is there");
        self.no_container_is_left();
    }

    pub(crate) fn no_container_is_left(&self) {
        let name = self.directory.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&name), "a mount is there");
        let states = fs::read_dir(self.path("states").join(NAMESPACE));
        assert_eq!(states.map_or(0, Iterator::count), 0, "a state is there");
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            for entry in fs::read_dir(root).into_iter().flatten() {
                let entry = entry.unwrap().file_name().to_string_lossy().into_owned();
                assert!(!entry.starts_with(&self.cgroup("")), "a cgroup is there: {entry}");
            }
        }
        for process in fs::read_dir("/proc").unwrap() {
            let marker = fs::read(process.unwrap().path().join("root/marker")).unwrap_or_default();
            assert!(marker != name.as_bytes(), "a process is there");
        }
    }
}

/// Names of streams for a process.
#[derive(Default, Clone)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

pub(crate) struct Shim<'a> {
    pub(crate) containerd: &'a Containerd,
    pub(crate) task: TaskClient,
    pub(crate) socket: PathBuf,
}

pub(crate) fn patient() -> Context {
    with_duration(PATIENCE)
}

impl Shim<'_> {
    pub(crate) async fn pid(&self) -> u32 {
        let request = ConnectRequest::default();
        self.task.connect(patient(), &request).await.unwrap().shim_pid
    }

    pub(crate) fn request(&self, id: &str, streams: Streams) -> CreateTaskRequest {
        CreateTaskRequest {
            id: id.to_owned(),
            bundle: self.containerd.path(id).to_string_lossy().into_owned(),
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            terminal: streams.terminal,
            options: MessageField::some(self.containerd.options()),
            ..CreateTaskRequest::default()
        }
    }

    pub(crate) async fn create(&self, id: &str, streams: Streams) -> u32 {
        let request = self.request(id, streams);
        self.task.create(patient(), &request).await.unwrap().pid
    }

    pub(crate) async fn start(&self, id: &str, exec_id: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..StartRequest::default()
        };
        self.task
            .start(patient(), &request)
            .await
            .map(|response| response.pid)
    }

    pub(crate) async fn exec(
        &self,
        id: &str,
        exec_id: &str,
        line: &str,
        streams: Streams,
    ) -> ttrpc::Result<()> {
        let process = json!({
            "cwd": "/", "args": ["sh", "-c", line], "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 },
            "terminal": streams.terminal,
        });
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            terminal: streams.terminal,
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process.to_string().into_bytes(),
                ..Any::default()
            }),
            ..ExecProcessRequest::default()
        };
        self.task.exec(patient(), &request).await.map(drop)
    }

    pub(crate) async fn wait(&self, id: &str, exec_id: &str) -> u32 {
        let request = WaitRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..WaitRequest::default()
        };
        self.task.wait(patient(), &request).await.unwrap().exit_status
    }

    pub(crate) async fn kill(&self, id: &str, exec_id: &str, signal: i32) -> ttrpc::Result<()> {
        let request = KillRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal: signal.unsigned_abs(),
            ..KillRequest::default()
        };
        self.task.kill(patient(), &request).await.map(drop)
    }

    pub(crate) async fn close_input(&self, id: &str, exec_id: &str) {
        let request = CloseIORequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: true,
            ..CloseIORequest::default()
        };
        self.task.close_io(patient(), &request).await.unwrap();
    }

    pub(crate) async fn state(&self, id: &str, exec_id: &str) -> Status {
        let request = StateRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..StateRequest::default()
        };
        self.task
            .state(patient(), &request)
            .await
            .unwrap()
            .status
            .enum_value()
            .unwrap()
    }

    pub(crate) async fn delete(&self, id: &str, exec_id: &str) -> ttrpc::Result<DeleteResponse> {
        let request = DeleteRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..DeleteRequest::default()
        };
        self.task.delete(patient(), &request).await
    }

    /// Ends the shim, which must have no container any more.
    pub(crate) async fn shut_down(&self) {
        let pid = self.pid().await;
        let request = ShutdownRequest::default();
        // It may be gone before its answer is read.
        let _answer = self.task.shutdown(patient(), &request).await;
        until(
            || !Path::new(&format!("/proc/{pid}/cwd")).exists(),
            || "the end of the shim".to_owned(),
        )
        .await;
        self.containerd.nothing_is_left(pid, &self.socket);
    }
}

/// A new fifo.
pub(crate) fn fifo(containerd: &Containerd, name: &str) -> String {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let path = containerd.path(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path.to_string_lossy().into_owned()
}

/// Everything that comes out of a fifo, to its end.
pub(crate) fn reader(path: &str) -> tokio::task::JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || fs::read(path).unwrap())
}

pub(crate) fn code(error: &ttrpc::Error) -> Code {
    match error {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("no status: {other}"),
    }
}

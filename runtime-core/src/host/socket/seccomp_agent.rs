//! Runs in: RUNTIME. Hands the seccomp notify descriptor of a container to the agent that listens at
//! `linux.seccomp.listenerPath`. Getting the descriptor from INIT is not done here.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use serde::Serialize;

use crate::host::socket::unix_socket;
use crate::{Cancel, Error, ErrorKind, Result};

const FIELD: &str = "linux.seccomp.listenerPath";

/// The state of the container as runtime-spec's `runtime.md`, "State", has it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    /// `ociVersion` of config.json.
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// `creating` from `create`, `running` from `exec`.
    pub status: &'a str,
    /// INIT's pid in the runtime's pid namespace.
    pub pid: i32,
    /// The path of the bundle, for display.
    pub bundle: &'a str,
    /// The annotations of config.json.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

/// What the agent receives: "Container Process State" of runtime-spec's `config-linux.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a State<'a>,
}

/// Connects to the agent and sends it the descriptor together with the state, as one message. `pid` is the
/// process that loaded the filter (INIT, or the one that `exec` started), in the runtime's pid namespace;
/// `metadata` is `linux.seccomp.listenerMetadata`, empty if absent.
///
/// # Errors
/// The failed call, with `linux.seccomp.listenerPath` and the path; `Interrupted`.
pub(crate) fn pass_on(
    path: &Path,
    notify: BorrowedFd<'_>,
    pid: i32,
    metadata: &str,
    state: &State<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let doing = "pass the seccomp notify descriptor on";
    let message = ContainerProcessState {
        oci_version: state.oci_version,
        fds: ["seccompFd"],
        pid,
        metadata,
        state,
    };
    let json = serde_json::to_vec(&message).map_err(|error| {
        Error::new(ErrorKind::Internal, error.to_string())
            .with_field(FIELD)
            .doing(doing)
    })?;
    unix_socket::connect_stream(path, cancel)
        .and_then(|socket| unix_socket::send_fd(socket.as_fd(), &json, notify, cancel))
        .map_err(|error| error.with_field(FIELD).with_path(path).doing(doing))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use rustix::io::Errno;

    use super::*;

    fn pass_on(
        path: &Path,
        notify: BorrowedFd<'_>,
        pid: i32,
        metadata: &str,
        state: &State<'_>,
    ) -> Result<()> {
        super::pass_on(path, notify, pid, metadata, state, &Cancel::default())
    }

    fn state(annotations: &BTreeMap<String, String>) -> State<'_> {
        State {
            oci_version: "1.3.0",
            id: "c1",
            status: "creating",
            pid: 7,
            bundle: "/b",
            annotations,
        }
    }

    #[test]
    fn the_agent_gets_descriptor_and_state_in_one_message() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        pass_on(&path, file.as_fd(), 8, "meta \"data\"", &state(&BTreeMap::new())).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let (length, fds) = unix_socket::receive_fds(accepted.as_fd(), &mut bytes).unwrap();
        assert_eq!(fds.len(), 1);
        assert_eq!(
            std::str::from_utf8(&bytes[..length]).unwrap(),
            r#"{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":8,"metadata":"meta \"data\"","state":{"ociVersion":"1.3.0","id":"c1","status":"creating","pid":7,"bundle":"/b"}}"#
        );
        let parsed: oci_spec::runtime::ContainerProcessState =
            serde_json::from_slice(&bytes[..length]).unwrap();
        assert_eq!(*parsed.pid(), 8);
    }

    #[test]
    fn a_state_larger_than_the_socket_buffer_arrives_whole_with_one_descriptor() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let annotations = BTreeMap::from([("k".to_owned(), "v".repeat(2 << 20))]);
        let sender = std::thread::spawn({
            let path = path.clone();
            move || {
                let file = std::fs::File::open("/dev/null").unwrap();
                pass_on(&path, file.as_fd(), 8, "", &state(&annotations))
            }
        });
        let (mut accepted, _) = listener.accept().unwrap();
        let mut first = [0; 100];
        let (length, fds) = unix_socket::receive_fds(accepted.as_fd(), &mut first).unwrap();
        assert_eq!(fds.len(), 1);
        let mut json = first[..length].to_vec();
        accepted.read_to_end(&mut json).unwrap();
        sender.join().unwrap().unwrap();
        let parsed: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            parsed["state"]["annotations"]["k"].as_str().unwrap().len(),
            2 << 20
        );
        assert!(parsed.get("metadata").is_none());
    }

    #[test]
    fn an_agent_that_takes_no_connection_or_reads_nothing_holds_nobody_who_gives_up() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let large = BTreeMap::from([("k".to_owned(), "v".repeat(2 << 20))]);
        let give_up = || {
            let (wish, caller) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
            let cancel = Cancel::when_readable(wish);
            let error = std::thread::scope(|scope| {
                let passing =
                    scope.spawn(|| super::pass_on(&path, file.as_fd(), 8, "", &state(&large), &cancel));
                drop(caller);
                passing.join().unwrap().unwrap_err()
            });
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        };
        give_up();
        // One fits into the backlog even of 0.
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        give_up();
    }

    #[test]
    fn an_agent_that_is_not_there_or_hangs_up_is_an_error_that_names_the_field() {
        let base = tempfile::tempdir().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let path = base.path().join("agent");
        let none = BTreeMap::new();
        let error = pass_on(&path, file.as_fd(), 8, "", &state(&none)).unwrap_err();
        assert_eq!((error.errno(), error.field()), (Some(Errno::NOENT), Some(FIELD)));
        let listener = UnixListener::bind(&path).unwrap();
        drop(listener);
        let error = pass_on(&path, file.as_fd(), 8, "", &state(&none)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::CONNREFUSED));
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}

//! Runs in: SHIM, as `start`: the short process that containerd waits for. Finds the pod's shim, or starts
//! one, and prints its address.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::arguments::Arguments;
use crate::bootstrap::{Bootstrap, Environment, read_input};
use crate::failure::{Failure, Result};
use crate::options::Options;
use crate::socket::{self, Claim};

/// Annotations that name the pod of a container, the stronger first.
const POD: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// What is read of config.json.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    annotations: Option<BTreeMap<String, String>>,
}

/// # Errors
/// What keeps the shim from being started.
pub(crate) fn start(arguments: &Arguments) -> Result<()> {
    let told = Bootstrap::new(&read_input()?, arguments, Environment::of_process())?;
    let pod = pod_of(Path::new("config.json"), &arguments.id)?;
    let directory = told.socket_directory.as_deref();
    let path = socket::path(directory, &told.address, &arguments.namespace, &pod);
    let address = format!("unix://{}", path.display());
    if let Claim::Ours(listener) = socket::claim(&path)? {
        launch(arguments, &told, listener).inspect_err(|_| {
            // The first failure is the one to tell.
            let _second = socket::remove(&path);
        })?;
    }
    // Read by containerd 1.6 and by tools; relative to the bundle, where containerd starts us.
    fs::write("address", &address).map_err(|error| Failure::io("keep the address", "address", error))?;
    let answer = told.answer(&address)?;
    std::io::stdout()
        .write_all(&answer)
        .map_err(|error| Failure::io("answer containerd", "/dev/stdout", error))
}

/// The pod that the container of this config.json belongs to; itself if it says nothing.
fn pod_of(config: &Path, id: &str) -> Result<String> {
    let failed = |error: std::io::Error| Failure::io("read the bundle", config, error);
    let json = fs::read(config).map_err(failed)?;
    let config: Config = serde_json::from_slice(&json).map_err(|error| failed(error.into()))?;
    let annotations = config.annotations.unwrap_or_default();
    let pod = POD.iter().find_map(|name| annotations.get(*name));
    Ok(pod.map_or(id, String::as_str).to_owned())
}

/// Starts the shim, with the socket as its standard input.
fn launch(arguments: &Arguments, told: &Bootstrap, listener: UnixListener) -> Result<()> {
    let options = Options::of(told.options.as_ref())?;
    let program =
        std::env::current_exe().map_err(|error| Failure::io("find myself", "/proc/self/exe", error))?;
    let mut command = Command::new(&program);
    command
        .args([
            "-namespace",
            &arguments.namespace,
            "-id",
            &arguments.id,
            "-address",
            &told.address,
        ])
        .env("TTRPC_ADDRESS", &told.ttrpc_address)
        // What is started for this process alone is not for the shim.
        .env_remove("NOTIFY_SOCKET")
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if told.debug {
        command.arg("-debug");
    }
    let shim = command
        .spawn()
        .map_err(|error| Failure::io("start the shim", &program, error))?;
    place(shim.id(), &options)
}

/// Puts the shim into its cgroup, and makes it a little more worth killing than containerd is.
fn place(pid: u32, options: &Options) -> Result<()> {
    if !options.shim_cgroup.is_empty() {
        let path = format!(
            "/sys/fs/cgroup/{}/cgroup.procs",
            options.shim_cgroup.trim_start_matches('/')
        );
        fs::write(&path, pid.to_string())
            .map_err(|error| Failure::io("place the shim in its cgroup", &path, error))?;
    }
    let parent = rustix::process::getppid().map_or(1, rustix::process::Pid::as_raw_pid);
    let from = format!("/proc/{parent}/oom_score_adj");
    let score =
        fs::read_to_string(&from).map_err(|error| Failure::io("read containerd's score", &from, error))?;
    let score = score
        .trim()
        .parse::<i32>()
        .unwrap_or_default()
        .saturating_add(1)
        .min(1000);
    let to = format!("/proc/{pid}/oom_score_adj");
    match fs::write(&to, score.to_string()) {
        // Lowering it needs a capability: the shim has containerd's own then.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(|error| Failure::io("set the shim's score", &to, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_what_annotations_say() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        for (json, pod) in [
            ("{}", "self"),
            (r#"{"annotations":null}"#, "self"),
            (r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"k"}}"#, "k"),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"k","io.containerd.runc.v2.group":"g"}}"#,
                "g",
            ),
        ] {
            fs::write(&config, json).unwrap();
            assert_eq!(pod_of(&config, "self").unwrap(), pod);
        }
        fs::write(&config, "{").unwrap();
        assert!(pod_of(&config, "self").is_err());
    }
}

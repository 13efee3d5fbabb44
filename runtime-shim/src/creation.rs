//! Runs in: SHIM, on a thread that may wait. `Create`: from containerd's request to a container that waits
//! for `Start`.

use std::fs;
use std::path::Path;

use containerd_shim_protos::api::CreateTaskRequest;
use serde::Deserialize;

use crate::container::{Container, Parts, Saved};
use crate::failure::{Failure, Result};
use crate::options::Options;
use crate::process::Process;
use crate::rootfs;
use crate::runtime::{self, Creation};
use crate::stdio::{self, Names, Opened, Terms};

/// Makes the container. Our side of its streams is given back to be run, unless it waits for `Start`, as that
/// of a checkpoint does.
///
/// # Errors
/// The step that fails; what was done before is undone.
pub(crate) fn create(request: &CreateTaskRequest, namespace: &str) -> Result<(Container, Option<Opened>)> {
    if !request.parent_checkpoint.is_empty() {
        return Err(Failure::new(
            containerd_shim_protos::ttrpc::Code::UNIMPLEMENTED,
            "parent_checkpoint: not known to this shim",
        ));
    }
    let options = Options::of(request.options.as_ref())?;
    if !options.binary_name.is_empty() {
        log::warn!(
            "BinaryName ({}) is not used: this shim executes no runtime",
            options.binary_name
        );
    }
    let bundle = Path::new(&request.bundle);
    options.save(bundle)?;
    let root = bundle.join("rootfs");
    rootfs::mount_all(&request.rootfs, &root)?;
    make(request, namespace, &options).inspect_err(|_first| {
        if !request.rootfs.is_empty() {
            rootfs::unmount_all(&root).unwrap_or_else(|second| log::error!("{second}"));
        }
    })
}

fn make(
    request: &CreateTaskRequest,
    namespace: &str,
    options: &Options,
) -> Result<(Container, Option<Opened>)> {
    let bundle = Path::new(&request.bundle);
    let names = Names {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let terms = Terms {
        id: request.id.clone(),
        namespace: namespace.to_owned(),
        owner: (options.io_uid, options.io_gid),
    };
    let creation = Creation {
        bundle: bundle.to_owned(),
        no_pivot: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        criu_work: Some(options.criu_work_path.clone())
            .filter(|path| !path.is_empty())
            .map(Into::into),
    };
    let library = runtime::Container::new(&request.id, namespace, options)?;
    let shares_pids = shares_pids(&bundle.join("config.json"))?;
    let (streams, opened) = stdio::open(&names, &terms)?;
    let init = Process::new(String::new(), names);
    let mut parts = Parts {
        id: request.id.clone(),
        library,
        creation,
        terms,
        init,
        saved: None,
        shares_pids,
    };
    if !request.checkpoint.is_empty() {
        parts.saved = Some(Saved {
            images: request.checkpoint.clone().into(),
            streams,
            opened,
        });
        return Ok((Container::new(parts), None));
    }
    let process = parts.library.create(&parts.creation, streams)?;
    parts.init.set(process);
    Ok((Container::new(parts), Some(opened)))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    linux: Option<Linux>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Linux {
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Namespace {
    r#type: String,
    path: Option<String>,
}

/// Whether the container has no pid namespace of its own, so that its processes outlive init.
fn shares_pids(config: &Path) -> Result<bool> {
    let failed = |error: std::io::Error| Failure::io("read the bundle", config, error);
    let json = fs::read(config).map_err(failed)?;
    let config: Config = serde_json::from_slice(&json).map_err(|error| failed(error.into()))?;
    let namespaces = config.linux.unwrap_or_default().namespaces.unwrap_or_default();
    let is_own = |one: &Namespace| one.r#type == "pid" && one.path.as_deref().unwrap_or_default().is_empty();
    Ok(!namespaces.iter().any(is_own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_namespace_of_its_own_is_one_without_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        for (namespaces, shares) in [
            ("[]", true),
            (r#"[{"type":"mount"}]"#, true),
            (r#"[{"type":"pid"}]"#, false),
            (r#"[{"type":"pid","path":""}]"#, false),
            (r#"[{"type":"pid","path":"/proc/1/ns/pid"}]"#, true),
        ] {
            fs::write(&config, format!(r#"{{"linux":{{"namespaces":{namespaces}}}}}"#)).unwrap();
            assert_eq!(shares_pids(&config).unwrap(), shares, "{namespaces}");
        }
    }
}

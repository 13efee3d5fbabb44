//! Runs in: SHIM, as `delete`: containerd calls it when a shim is gone, killed or not. Takes away whatever
//! the container has left, and may be called again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::options::Options;
use crate::rootfs;
use crate::runtime::{Container, pid_file};
use crate::socket;
use crate::values::timestamp;

/// # Errors
/// What could not be removed; the rest is.
pub(crate) fn delete(arguments: &Arguments) -> Result<()> {
    let bundle = bundle(arguments)?;
    let pid = pid_of(&bundle);
    let container = Options::saved(&bundle)
        .and_then(|options| Container::new(&arguments.id, &arguments.namespace, &options));
    let deleted = container.and_then(|container| container.delete(true));
    let unmounted = rootfs::unmount_all(&bundle.join("rootfs"));
    let layers = rootfs::unmount_all(&rootfs::layers_of(&bundle.join("rootfs")));
    let removed = remove_socket(&bundle);
    deleted.and(unmounted).and(layers).and(removed)?;
    let response = DeleteResponse {
        pid,
        exit_status: 128 + libc::SIGKILL.unsigned_abs(),
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    std::io::stdout()
        .write_all(&response.write_to_bytes()?)
        .map_err(|error| Failure::io("answer containerd", "/dev/stdout", error))
}

/// That of the container, which need not be where containerd starts us: beside it, by its id.
fn bundle(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(bundle) = &arguments.bundle {
        return Ok(bundle.clone());
    }
    let here = std::env::current_dir().map_err(|error| Failure::io("find the bundle", ".", error))?;
    match here.parent() {
        Some(parent) => Ok(parent.join(&arguments.id)),
        None => Ok(here),
    }
}

/// 0 if init was never there.
fn pid_of(bundle: &Path) -> u32 {
    let text = fs::read_to_string(pid_file(bundle)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// The socket of a shim that is gone; one that another container of the pod is served at stays.
fn remove_socket(bundle: &Path) -> Result<()> {
    let Ok(address) = fs::read_to_string(bundle.join("address")) else {
        return Ok(());
    };
    let Some(path) = address.trim().strip_prefix("unix://").map(Path::new) else {
        return Ok(());
    };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(()),
        Err(_) => socket::remove(path),
    }
}

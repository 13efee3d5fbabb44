//! Runs in: SHIM. The socket that containerd talks to: named as runc's shim names it, so that every `start`
//! of a pod finds the same.

use std::fmt::Write;
use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::{Failure, Result};

/// Where the sockets of all shims are.
const DIRECTORY: &str = "/run/containerd/s";

/// Whether the shim of a pod is there.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is.
    Served,
    /// It is to be started, with this socket.
    Ours(UnixListener),
}

/// The path of a pod's socket: the hash of containerd's address, the namespace, and the pod.
pub(crate) fn path(directory: Option<&str>, address: &str, namespace: &str, pod: &str) -> PathBuf {
    let mut name = String::new();
    let parts = [address, namespace, pod]
        .into_iter()
        .filter(|part| !part.is_empty());
    let key = parts.collect::<Vec<_>>().join("/");
    for byte in Sha256::digest(key.as_bytes()) {
        write!(name, "{byte:02x}").expect("a String takes everything");
    }
    Path::new(directory.unwrap_or(DIRECTORY)).join(name)
}

/// Binds the socket, unless somebody serves it. One that nobody serves is replaced.
///
/// # Errors
/// The failed call, with the path.
pub(crate) fn claim(path: &Path) -> Result<Claim> {
    let failed = |doing: &'static str| move |error| Failure::io(doing, path, error);
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make the directory of the socket"))?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(Claim::Served);
            }
            remove(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
    .map_err(failed("bind the socket"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("keep the socket to root"))?;
    Ok(Claim::Ours(listener))
}

/// Removes the socket's name; it may have none any more.
///
/// # Errors
/// The failed call, with the path.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Failure::io("remove the socket", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_runcs_shim() {
        // printf %s /run/containerd/containerd.sock/k8s.io/pod | sha256sum
        let path = path(None, "/run/containerd/containerd.sock", "k8s.io", "pod");
        assert_eq!(
            path,
            Path::new("/run/containerd/s/b9cab8e84f817f3c3bb561c7ea8dcbfba051d5d8f56ec2c3f204bc387d13f7d0")
        );
    }

    #[test]
    fn a_socket_that_nobody_serves_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s/socket");
        let Claim::Ours(first) = claim(&path).unwrap() else {
            panic!("nobody serves it yet");
        };
        assert!(matches!(claim(&path).unwrap(), Claim::Served));
        drop(first);
        assert!(matches!(claim(&path).unwrap(), Claim::Ours(_)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}

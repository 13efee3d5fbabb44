//! Runs in: RUNTIME. Sends the pidfd of a container's process to whoever listens at `--pidfd-socket`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::error::ErrorResult;
use crate::host::socket::unix_socket;
use crate::{Cancel, Result};

/// `kind` is runc's word for init, or for a process of `exec`.
///
/// # Errors
/// The failed call, with the path; `Interrupted`.
pub(crate) fn send(path: &Path, kind: &[u8], pidfd: BorrowedFd<'_>, cancel: &Cancel) -> Result<()> {
    unix_socket::connect_stream(path, cancel)
        .and_then(|socket| unix_socket::send_fd(socket.as_fd(), kind, pidfd, cancel))
        .path(path)
        .doing("send the pidfd")
}

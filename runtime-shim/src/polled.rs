//! Runs in: SHIM. Descriptors of ours that the executor waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the executor wait for a descriptor.
///
/// # Errors
/// As `epoll_ctl(2)`.
pub(crate) fn polled(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // What took its place is unsafe, since a type may close its descriptor early. This one cannot.
    #[expect(
        deprecated,
        reason = "sound for an OwnedFd, and this program has no unsafe code"
    )]
    AsyncFd::with_interest(fd, interest)
}

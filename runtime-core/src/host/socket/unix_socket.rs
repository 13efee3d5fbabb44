//! Runs in: RUNTIME. What the files for single sockets have in common: reaching a socket by a path of any
//! length, and passing descriptors. Knows nothing of who listens.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::error::CallResult;
use crate::{Cancel, Error};

/// A failed system call: its name, and why.
pub(super) type Failure = (&'static str, Errno);

/// More than any peer has a reason to send. What does not fit is closed by the kernel.
const MOST_FDS: usize = 8;

/// Makes a close-on-exec socket.
pub(crate) fn socket(kind: SocketType) -> Result<OwnedFd, Failure> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(|errno| ("socket", errno))
}

/// The address of `name` in an open directory, however long the directory's path is (`sun_path` holds 108
/// bytes).
pub(crate) fn address_below(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Failure> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).map_err(|errno| ("bind", errno))
}

/// Connects a stream socket to the socket at this path. Whoever listens there may let others wait: that lasts
/// until `cancel` comes.
///
/// # Errors
/// The failed call; `Interrupted`.
pub(crate) fn connect_stream(path: &Path, cancel: &Cancel) -> Result<OwnedFd, Error> {
    let socket = socket(SocketType::STREAM).map_err(|(call, errno)| Error::os(call, errno))?;
    let failed = |errno| Error::os("connect", errno);
    match SocketAddrUnix::new(path) {
        Ok(address) => connect(&socket, &address, cancel)?,
        // The socket file itself, held open, is reached through a short link.
        Err(Errno::NAMETOOLONG) => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).call("open")?;
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            connect(&socket, &SocketAddrUnix::new(link).map_err(failed)?, cancel)?;
        }
        Err(errno) => return Err(failed(errno)),
    }
    Ok(socket)
}

/// connect(2) of a stream waits while the listener's backlog is full, and poll(2) cannot tell when that has
/// changed. So it waits for moments, between which `cancel` is looked at.
pub(crate) fn connect(socket: &OwnedFd, address: &SocketAddrUnix, cancel: &Cancel) -> Result<(), Error> {
    const MOMENT: Duration = Duration::from_millis(50);
    let limit = |time| {
        // That of connect(2) is that of sending (socket(7)).
        set_socket_timeout(socket, Timeout::Send, time).call("setsockopt")
    };
    if cancel.may_come() {
        limit(Some(MOMENT))?;
    }
    loop {
        cancel.check()?;
        match rustix::net::connect(socket, address) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            connected => {
                connected.call("connect")?;
                break;
            }
        }
    }
    match cancel.may_come() {
        true => limit(None),
        false => Ok(()),
    }
}

/// Sends bytes, with a descriptor on the first of them: in one message unless the socket takes less at a
/// time. What the other side does not take is waited for until `cancel` comes.
///
/// # Errors
/// The failed call; `Interrupted`.
pub(crate) fn send_fd(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: BorrowedFd<'_>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rest = bytes;
    let failed = |errno| Error::os("sendmsg", errno);
    loop {
        cancel.wait_writable(socket)?;
        let mut control = SendAncillaryBuffer::new(&mut space);
        if rest.len() == bytes.len() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(failed(Errno::NOBUFS));
        }
        let parts = [IoSlice::new(rest)];
        // Without NOSIGNAL a peer that has gone would kill the program with SIGPIPE.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(socket, &parts, &mut control, flags) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(errno) => return Err(failed(errno)),
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Receives one message: how many bytes went into `bytes`, and the descriptors, close-on-exec from the start.
pub(crate) fn receive_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Failure> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(bytes)];
        match rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            received => break received.map_err(|errno| ("recvmsg", errno))?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    Ok((received.bytes, fds))
}

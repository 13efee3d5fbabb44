//! Runs in: RUNTIME. What the files for single sockets have in common: reaching a socket by a path of any length, and
//! passing descriptors. Knows nothing of who listens.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// A failed system call: its name, and why.
pub(super) type Failure = (&'static str, Errno);

/// More than any peer has a reason to send. What does not fit is closed by the kernel.
const MOST_FDS: usize = 8;

/// Makes a close-on-exec socket.
pub(super) fn socket(kind: SocketType) -> Result<OwnedFd, Failure> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(|errno| ("socket", errno))
}

/// The address of `name` in an open directory, however long the directory's path is (`sun_path` holds 108 bytes).
pub(super) fn address_below(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Failure> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).map_err(|errno| ("bind", errno))
}

/// Connects a stream socket to the socket at this path.
pub(super) fn connect_stream(path: &Path) -> Result<OwnedFd, Failure> {
    let socket = socket(SocketType::STREAM)?;
    let connect = |address: &SocketAddrUnix| {
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, address))
            .map_err(|errno| ("connect", errno))
    };
    match SocketAddrUnix::new(path) {
        Ok(address) => connect(&address)?,
        // The socket file itself, held open, is reached through a short link.
        Err(Errno::NAMETOOLONG) => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let file =
                rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| ("open", errno))?;
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            connect(&SocketAddrUnix::new(link).map_err(|errno| ("connect", errno))?)?;
        }
        Err(errno) => return Err(("connect", errno)),
    }
    Ok(socket)
}

/// Sends bytes, with a descriptor on the first of them: in one message unless the socket takes less at a time.
pub(super) fn send_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rest = bytes;
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if rest.len() == bytes.len() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(("sendmsg", Errno::NOBUFS));
        }
        let parts = [IoSlice::new(rest)];
        // Without NOSIGNAL a peer that has gone would kill the program with SIGPIPE.
        match rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(("sendmsg", errno)),
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Receives one message: how many bytes went into `bytes`, and the descriptors, close-on-exec from the start.
pub(super) fn receive_fds(
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

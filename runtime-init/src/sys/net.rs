//! Sockets and terminals: the link to RUNTIME, passing descriptors, the loopback device, pty ioctls.

use core::mem::{MaybeUninit, size_of};

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::{Call, Named, Result, checked};

/// Sends one record, with at most one descriptor. SIGPIPE is not raised.
pub fn send(socket: BorrowedFd<'_>, record: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let record = [IoSlice::new(record)];
    loop {
        match rustix::net::sendmsg(socket, &record, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).named(Call::Send),
        }
    }
}

/// Receives one record into `buffer` and at most one descriptor, close-on-exec. Length 0: the other end is closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut record = [IoSliceMut::new(buffer)];
    let received = loop {
        match rustix::net::recvmsg(socket, &mut record, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other.named(Call::Recv)?,
        }
    };
    let mut fd = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    Ok((received.bytes, fd))
}

/// A pair of connected sockets that keep records apart, close-on-exec.
pub fn record_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .named(Call::Socket)
}

/// Accepts one connection, close-on-exec.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Err(Errno::INTR) => {}
            other => return other.named(Call::Accept),
        }
    }
}

/// A socket for rtnetlink(7) in the current network namespace.
pub fn route_socket() -> Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0.
    let route = None;
    rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        route,
    )
    .named(Call::Socket)
}

/// The network namespace that a socket was made in (`SIOCGSKNS`), close-on-exec.
pub fn namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: the ioctl takes no argument, and makes a new descriptor.
    let raw = unsafe { libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), SIOCGSKNS) };
    let fd = checked(Call::Ioctl, raw)? as i32;
    // SAFETY: the kernel has just made it for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's `struct ifreq`: a name and flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Brings the loopback device of the current network namespace up.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .named(Call::Socket)?;
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: libc::IFF_UP as i16,
        rest: [0; 22],
    };
    for (to, from) in request.name.iter_mut().zip(b"lo") {
        *to = *from;
    }
    // SAFETY: request is a live ifreq of the kernel's size (40 bytes), which SIOCSIFFLAGS only reads.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::c_ulong,
            &raw const request,
        )
    };
    checked(Call::Ioctl, raw).map(drop)
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

/// Unlocks the slave side of a pty.
pub fn unlock_pty(master: BorrowedFd<'_>) -> Result<()> {
    rustix::pty::unlockpt(master).named(Call::Ioctl)
}

/// Opens the slave of `master` by descriptor (TIOCGPTPEER): no path in a hostile /dev/pts is looked up.
pub fn open_pty_slave(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags).named(Call::Ioctl)
}

/// Sets the window size of a terminal.
pub fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).named(Call::Ioctl)
}

/// Makes `terminal` the controlling terminal of the session that this process leads.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).named(Call::Ioctl)
}

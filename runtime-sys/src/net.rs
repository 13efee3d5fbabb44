//! Sockets and terminals: the link to RUNTIME, passing descriptors, the loopback device, pty ioctls.

use core::mem::{MaybeUninit, size_of};

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Winsize};

use super::{Call, Named, Result, SysError, checked};

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

/// What came with one record.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes of the record; 0: the other end is closed.
    pub length: usize,
    /// A descriptor, close-on-exec. Of several the last; the others are closed.
    pub fd: Option<OwnedFd>,
    /// Pid of the sender, as the kernel tells it and as the receiver sees it: only with [`tell_sender`]. 0 if
    /// the receiver's pid namespace does not have it.
    pub sender: Option<i32>,
}

/// Has every record that is received here say who has sent it (`SO_PASSCRED`, unix(7)). A sender may put
/// another pid in its place only with CAP_SYS_ADMIN over its own pid namespace, and only one that it sees
/// itself.
pub fn tell_sender(socket: BorrowedFd<'_>) -> Result<()> {
    rustix::net::sockopt::set_socket_passcred(socket, true).named(Call::Setsockopt)
}

/// Receives one record into `buffer`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received> {
    receive_with(socket, buffer, 0)
}

/// The same, but EAGAIN where it would have to wait.
pub fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received> {
    receive_with(socket, buffer, libc::MSG_DONTWAIT)
}

/// Room for one descriptor and the credentials of the sender, each with its header.
#[repr(C, align(8))]
struct Control([u8; 56]);

fn receive_with(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> Result<Received> {
    let mut control = Control([0; 56]);
    let mut record = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is a struct of integers and pointers, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut record;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let flags = flags | libc::MSG_CMSG_CLOEXEC;
    let raw = loop {
        // SAFETY: the header points to the live record and control buffers, with their lengths.
        let raw = unsafe { libc::syscall(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut message, flags) };
        match checked(Call::Recv, raw) {
            Err(SysError {
                errno: Errno::INTR, ..
            }) => {}
            other => break other?,
        }
    };
    let filled = (message.msg_controllen as usize).min(control.0.len());
    let mut received = Received {
        length: raw as usize,
        ..Received::default()
    };
    read_control(control.0.get(..filled).unwrap_or_default(), &mut received);
    Ok(received)
}

/// Reads what the kernel has written into a control buffer (cmsg(3)): headers of length, level and type, each
/// followed by its data, padded to words.
fn read_control(mut control: &[u8], received: &mut Received) {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const LEVEL: usize = size_of::<usize>();
    while let Some((length, level, kind)) = header(control) {
        let data = control.get(HEADER..length).unwrap_or_default();
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            for number in data.chunks_exact(size_of::<RawFd>()) {
                let number = number.try_into().map_or(-1, RawFd::from_ne_bytes);
                if number >= 0 {
                    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its
                    // number.
                    received.fd = Some(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            // struct ucred begins with the pid.
            received.sender = data.first_chunk().map(|pid| i32::from_ne_bytes(*pid));
        }
        control = control.get(length.next_multiple_of(LEVEL)..).unwrap_or_default();
    }
}

/// Length, level and type of the message that begins here; `None` at the end.
fn header(control: &[u8]) -> Option<(usize, i32, i32)> {
    const WORD: usize = size_of::<usize>();
    let length = usize::from_ne_bytes(*control.first_chunk::<WORD>()?);
    let level = i32::from_ne_bytes(*control.get(WORD..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*control.get(WORD + 4..)?.first_chunk()?);
    (length >= size_of::<libc::cmsghdr>() && length <= control.len()).then_some((length, level, kind))
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

/// Has a terminal put no carriage return in front of newlines (ONLCR).
pub fn leave_newlines(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut settings = rustix::termios::tcgetattr(terminal).named(Call::Ioctl)?;
    settings.output_modes.remove(OutputModes::ONLCR);
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings).named(Call::Ioctl)
}

/// Makes `terminal` the controlling terminal of the session that this process leads.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).named(Call::Ioctl)
}

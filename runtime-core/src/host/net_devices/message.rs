//! Runs in: RUNTIME. rtnetlink(7) on the wire: requests of one message, and their answers. Knows no device.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags};

use crate::error::told_errno;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// What messages and attributes are padded to.
const ALIGNMENT: usize = 4;
/// The kernel cuts a dump into messages of at most 32 KiB.
const ROOM: usize = 64 * 1024;

/// A request under construction: header, the fixed part of its type, attributes.
#[derive(Debug)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// `kind` is `RTM_*`, `flags` are `NLM_F_*` beside REQUEST, `fixed` is the `struct ifinfomsg` or
    /// `ifaddrmsg`.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.splice(4..6, kind.to_ne_bytes());
        bytes.splice(6..8, (flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ALIGNMENT + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    /// With its length in front.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0.splice(..4, length.to_ne_bytes());
        self.0
    }

    /// Sends it, and hands over each message of the answer: its type, and what follows its header. Ends with
    /// the kernel's acknowledgement, or the end of its dump.
    pub(super) fn ask(
        self,
        socket: BorrowedFd<'_>,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), (&'static str, Errno)> {
        let bytes = self.into_bytes();
        rustix::io::retry_on_intr(|| rustix::net::send(socket, &bytes, SendFlags::empty()))
            .map_err(|errno| ("send", errno))?;
        let mut room = vec![0; ROOM];
        loop {
            let answer = receive(socket, &mut room)?;
            if read(answer, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// The next datagram of the kernel. Another socket of the namespace may send here too (it needs
/// CAP_NET_ADMIN, which a namespace that the container joins may give to others): what is not from port 0 is
/// not the kernel's.
fn receive<'a>(socket: BorrowedFd<'_>, room: &'a mut [u8]) -> Result<&'a [u8], (&'static str, Errno)> {
    loop {
        let (_, length, sender) =
            rustix::io::retry_on_intr(|| rustix::net::recvfrom(socket, &mut *room, RecvFlags::TRUNC))
                .map_err(|errno| ("recvfrom", errno))?;
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        if sender.is_none_or(|sender| sender.pid() != 0) {
            continue;
        }
        return room.get(..length).ok_or(("recvfrom", Errno::MSGSIZE));
    }
}

/// True with the last message of an answer.
pub(crate) fn read(
    mut answer: &[u8],
    each: &mut impl FnMut(u16, &[u8]),
) -> Result<bool, (&'static str, Errno)> {
    const DONE: u16 = libc::NLMSG_DONE as u16;
    const ERROR: u16 = libc::NLMSG_ERROR as u16;
    let broken = ("recvfrom", Errno::PROTO);
    while !answer.is_empty() {
        let length = u32_at(answer, 0).ok_or(broken)? as usize;
        let kind = u16_at(answer, 4).ok_or(broken)?;
        let body = answer.get(HEADER..length).ok_or(broken)?;
        match kind {
            // Both begin with an errno, negative; 0 is success.
            ERROR | DONE => {
                let errno = u32_at(body, 0).ok_or(broken)? as i32;
                return match errno.checked_neg().and_then(told_errno) {
                    Some(errno) => Err(("rtnetlink", errno)),
                    None if errno < 0 => Err(broken),
                    None => Ok(true),
                };
            }
            kind => each(kind, body),
        }
        answer = answer
            .get(length.next_multiple_of(ALIGNMENT)..)
            .unwrap_or_default();
    }
    Ok(false)
}

/// The attributes after the fixed part of a message: type and value. Stops where they make no sense.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Bits of the type that are flags: `NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`.
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & !FLAGS;
        let value = rest.get(ALIGNMENT..length)?;
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A socket in the network namespace of the calling thread.
pub(super) fn socket() -> Result<rustix::fd::OwnedFd, (&'static str, Errno)> {
    runtime_sys::net::route_socket().map_err(|error| (error.call.name(), error.errno))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_request_has_header_fixed_part_and_padded_attributes() {
        let request = Request::new(0x1234, 4, &[9; 4])
            .attribute(3, b"eth0\0")
            .attribute(5, &7_u32.to_ne_bytes());
        let bytes = &request.0;
        assert_eq!((u16_at(bytes, 4), u16_at(bytes, 6)), (Some(0x1234), Some(5)));
        assert_eq!(bytes.len(), HEADER + 4 + 12 + 8);
        let found: Vec<_> = attributes(&bytes[HEADER + 4..]).collect();
        assert_eq!(found, [(3, &b"eth0\0"[..]), (5, &7_u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn what_makes_no_sense_ends_the_reading() {
        for rest in [&[][..], &[1], &[0, 0, 0, 0], &[3, 0, 0, 0], &[200, 0, 1, 0, 1]] {
            assert_eq!(attributes(rest).count(), 0, "{rest:?}");
        }
        for answer in [
            &[1_u8][..],
            &[0; 16],
            &[255; 16],
            &[15, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(
                read(answer, &mut |_, _| {}),
                Err(("recvfrom", Errno::PROTO)),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_refusal_with_a_number_that_is_no_errno_is_broken() {
        for number in [-4096, -524_288, i32::MIN] {
            let mut answer = vec![0; HEADER + 4];
            answer.splice(..4, 20_u32.to_ne_bytes());
            answer.splice(4..6, (libc::NLMSG_ERROR as u16).to_ne_bytes());
            answer.splice(HEADER.., i32::to_ne_bytes(number));
            assert_eq!(read(&answer, &mut |_, _| {}), Err(("recvfrom", Errno::PROTO)));
        }
    }

    #[test]
    fn the_kernel_answers_and_refuses() {
        let socket = socket().unwrap();
        let by_index = |index: u32| {
            let mut fixed = [0; 16];
            fixed[4..8].copy_from_slice(&index.to_ne_bytes());
            let mut links = 0;
            let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_ACK as u16, &fixed);
            let result = request.ask(socket.as_fd(), |kind, _| {
                links += usize::from(kind == libc::RTM_NEWLINK)
            });
            (result, links)
        };
        assert_eq!(by_index(1), (Ok(()), 1));
        assert_eq!(by_index(0x7fff_fff0), (Err(("rtnetlink", Errno::NODEV)), 0));
    }
}

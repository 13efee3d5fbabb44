//! Runs in: RUNTIME. Network devices that exist (config-linux.md, Network Devices): finds them, and moves
//! them into the namespace of a container. Makes none, and never moves one back: when the last process of a
//! namespace has gone, the kernel returns physical devices to the initial namespace, and virtual ones vanish.

pub(crate) mod message;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::ErrorResult;
use crate::plan::net_devices::NetDevicePlan;
use crate::{Error, ErrorKind, Result};
use message::{Request, attributes, u32_at};

/// Adds an answer of success or failure to a request.
const ACK: u16 = libc::NLM_F_ACK as u16;
const UP: u32 = libc::IFF_UP as u32;
/// Lengths of `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// Not in libc: `IFLA_NEW_IFINDEX` and `IFA_FLAGS`, of linux/if_link.h and linux/if_addr.h.
const IFLA_NEW_IFINDEX: u16 = 49;
const IFA_FLAGS: u16 = 8;
/// `IFA_F_*`: was given by somebody, not learnt from the network, and so has no lifetime.
const PERMANENT: u32 = 0x80;
/// `IFA_F_NODAD` and `IFA_F_NOPREFIXROUTE`: wishes about the address that go with it.
const WISHES: u32 = 0x02 | 0x200;

/// Says which device it was about, and what the usual reason is.
fn at(device: &NetDevicePlan, doing: &'static str, failure: (&'static str, Errno)) -> Error {
    let (call, errno) = failure;
    let error = Error::os(call, errno).doing(doing).with_field(device.field());
    match errno {
        Errno::NODEV => error
            .with_kind(ErrorKind::Invalid)
            .with_hint("there is no such device"),
        Errno::PERM => error
            .with_kind(ErrorKind::Denied)
            .with_hint("moving a device needs CAP_NET_ADMIN in both namespaces"),
        Errno::EXIST => error.with_hint("the container's namespace has a device of that name"),
        Errno::INVAL => error.with_hint("lo, and some virtual devices, stay in their namespace"),
        _ => error,
    }
}

/// Devices that have been found, by their numbers in the namespace of RUNTIME.
#[derive(Debug)]
pub(crate) struct NetDevices {
    socket: OwnedFd,
    /// Parallel to the plan; `None` for one that is in the container's namespace already.
    indices: Vec<Option<u32>>,
}

impl NetDevices {
    /// Finds the devices in the namespace of the calling thread.
    ///
    /// # Errors
    /// `Invalid`, with the field, for one that is not there.
    pub(crate) fn find(devices: &[NetDevicePlan]) -> Result<Self> {
        Self::find_unless(devices, |_| Ok(false))
    }

    /// The same, but one that is not here may be in the namespace of `there`, a route socket, under its new
    /// name, and stays there. Where the kernel made up the name, nobody can tell.
    ///
    /// # Errors
    /// As [`NetDevices::find`].
    pub(crate) fn find_unless_there(devices: &[NetDevicePlan], there: BorrowedFd<'_>) -> Result<Self> {
        Self::find_unless(devices, |device| {
            if device.new_name.contains('%') {
                return Ok(false);
            }
            match index_of(there, &device.new_name) {
                Ok(_) => Ok(true),
                Err((_, Errno::NODEV)) => Ok(false),
                Err(failure) => Err(at(device, "look for a network device in the container", failure)),
            }
        })
    }

    fn find_unless(
        devices: &[NetDevicePlan],
        is_there: impl Fn(&NetDevicePlan) -> Result<bool>,
    ) -> Result<Self> {
        let socket = message::socket()
            .map_err(|(call, errno)| Error::os(call, errno).with_field("linux.netDevices"))?;
        let index = |device: &NetDevicePlan| match index_of(socket.as_fd(), &device.name) {
            Ok(index) => Ok(Some(index)),
            Err((_, Errno::NODEV)) if is_there(device)? => Ok(None),
            Err(failure) => Err(at(device, "find a network device", failure)),
        };
        let indices = devices.iter().map(index).collect::<Result<_>>()?;
        Ok(Self { socket, indices })
    }

    /// Moves them all into the namespace of `there`, a route socket in it. All names are checked before the
    /// first moves.
    ///
    /// # Errors
    /// With the field of the device. Those before it have been moved, and share the fate of the namespace.
    pub(crate) fn move_to(&self, devices: &[NetDevicePlan], there: BorrowedFd<'_>) -> Result<()> {
        let namespace = runtime_sys::net::namespace_of(there).field("linux.netDevices")?;
        let to_move = devices
            .iter()
            .zip(&self.indices)
            .filter_map(|(device, index)| Some((device, (*index)?)));
        for (device, _) in to_move.clone() {
            check_free(device, there)?;
        }
        for (device, index) in to_move {
            self.move_one(device, index, namespace.as_fd(), there)
                .map_err(|failure| at(device, "move a network device", failure))?;
        }
        Ok(())
    }

    /// A device loses its addresses with its namespace, and some of them when it goes down.
    fn move_one(
        &self,
        device: &NetDevicePlan,
        index: u32,
        namespace: BorrowedFd<'_>,
        there: BorrowedFd<'_>,
    ) -> std::result::Result<(), (&'static str, Errno)> {
        let here = self.socket.as_fd();
        let addresses = addresses_of(here, index)?;
        set_up(here, index, false)?;
        let new_index = change_namespace(here, there, index, namespace, &device.new_name)?;
        for address in addresses {
            address.add(there, new_index)?;
        }
        set_up(there, new_index, true)
    }
}

type Answer<T> = std::result::Result<T, (&'static str, Errno)>;

/// The kernel moves a device and only then finds that its new name is taken.
fn check_free(device: &NetDevicePlan, there: BorrowedFd<'_>) -> Result<()> {
    if device.new_name.contains('%') {
        return Ok(());
    }
    match index_of(there, &device.new_name) {
        Ok(_) => {
            let message = format!("the container's namespace has a device {:?}", device.new_name);
            Err(Error::invalid(device.field(), message).doing("move a network device"))
        }
        Err((_, Errno::NODEV)) => Ok(()),
        Err(failure) => Err(at(device, "look for the name of a network device", failure)),
    }
}

fn link(index: u32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn index_of(socket: BorrowedFd<'_>, name: &str) -> Answer<u32> {
    let mut index = None;
    Request::new(libc::RTM_GETLINK, ACK, &link(0))
        .attribute(libc::IFLA_IFNAME, &c_name(name))
        .ask(socket, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                index = u32_at(body, 4);
            }
        })?;
    index.ok_or(("rtnetlink", Errno::NODEV))
}

fn set_up(socket: BorrowedFd<'_>, index: u32, up: bool) -> Answer<()> {
    let mut fixed = link(index);
    let flags = if up { UP } else { 0 };
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&UP.to_ne_bytes());
    Request::new(libc::RTM_NEWLINK, ACK, &fixed).ask(socket, |_, _| {})
}

/// One request moves and renames. It also asks for the number in the new namespace, without which a device
/// whose name the kernel has made from a `%d` could not be told from others there: its old number, or one
/// that is free.
fn change_namespace(
    here: BorrowedFd<'_>,
    there: BorrowedFd<'_>,
    index: u32,
    namespace: BorrowedFd<'_>,
    name: &str,
) -> Answer<u32> {
    /// Others may take a free number in a namespace that they share.
    const ATTEMPTS: usize = 16;
    let mut wanted = index;
    for _ in 0..ATTEMPTS {
        let moved = Request::new(libc::RTM_NEWLINK, ACK, &link(index))
            .attribute(libc::IFLA_IFNAME, &c_name(name))
            .attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
            .attribute(IFLA_NEW_IFINDEX, &wanted.to_ne_bytes())
            .ask(here, |_, _| {});
        match moved {
            Ok(()) => return Ok(wanted),
            Err((_, Errno::BUSY)) => wanted = highest_index(there)? + 1,
            Err(failure) => return Err(failure),
        }
    }
    Err(("rtnetlink", Errno::BUSY))
}

fn highest_index(socket: BorrowedFd<'_>) -> Answer<u32> {
    let mut highest = 1;
    Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP as u16, &link(0)).ask(socket, |kind, body| {
        if kind == libc::RTM_NEWLINK {
            highest = highest.max(u32_at(body, 4).unwrap_or(0));
        }
    })?;
    Ok(highest.min(i32::MAX as u32 - 1))
}

/// An address that goes along: permanent and of global scope (config-linux.md, Network Devices).
#[derive(Debug)]
pub(crate) struct Address {
    /// `AF_*` and the length of the prefix.
    family: u8,
    prefix: u8,
    flags: u32,
    /// `IFA_LOCAL`, `IFA_ADDRESS`, `IFA_BROADCAST`.
    attributes: Vec<(u16, Vec<u8>)>,
}

fn addresses_of(socket: BorrowedFd<'_>, index: u32) -> Answer<Vec<Address>> {
    let mut addresses = Vec::new();
    Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; ADDRESS]).ask(socket, |kind, body| {
        if kind == libc::RTM_NEWADDR && u32_at(body, 4) == Some(index) {
            addresses.extend(Address::read(body));
        }
    })?;
    Ok(addresses)
}

impl Address {
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let &[family, prefix, flags, scope, ..] = body else {
            return None;
        };
        let mut address = Self {
            family,
            prefix,
            flags: u32::from(flags),
            attributes: Vec::new(),
        };
        for (kind, value) in attributes(body.get(ADDRESS..)?) {
            match kind {
                // It has all the bits; the field above has room for eight.
                IFA_FLAGS => address.flags = u32_at(value, 0)?,
                libc::IFA_LOCAL | libc::IFA_ADDRESS | libc::IFA_BROADCAST => {
                    address.attributes.push((kind, value.to_vec()));
                }
                _ => {}
            }
        }
        let goes_along = scope == libc::RT_SCOPE_UNIVERSE && address.flags & PERMANENT != 0;
        goes_along.then_some(address)
    }

    fn add(&self, socket: BorrowedFd<'_>, index: u32) -> Answer<()> {
        self.request(index).ask(socket, |_, _| {})
    }

    /// That adds it to a device.
    pub(crate) fn request(&self, index: u32) -> Request {
        let mut fixed = [0; ADDRESS];
        fixed[..2].copy_from_slice(&[self.family, self.prefix]);
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let flags = ACK | (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let request = Request::new(libc::RTM_NEWADDR, flags, &fixed)
            .attribute(IFA_FLAGS, &(self.flags & WISHES).to_ne_bytes());
        self.attributes
            .iter()
            .fold(request, |request, (kind, value)| request.attribute(*kind, value))
    }
}

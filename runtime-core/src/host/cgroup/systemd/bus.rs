//! Runs in: RUNTIME. A connection to a service manager: over its own socket where that can be reached, else
//! over a D-Bus broker. One thread, blocking, with time-outs; no thread or task is left between two calls, so
//! that none is there at `clone3`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use zbus::wire::Type;

use super::message::{self, Body, FIXED_PART, Incoming, Target};
use crate::error::ErrorResult;
use crate::host::socket::unix_socket;
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// How long systemd may take for one answer. A host under load takes seconds; one that hangs must not hang
/// us.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

const BROKER: Target<'static> = Target {
    name: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// Which service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    /// Process 1 of the host.
    System,
    /// That of the calling user: `systemd --user`.
    User,
}

/// An answer that says no.
#[derive(Debug, thiserror::Error)]
#[error("{}", if .text.is_empty() { .name } else { .text })]
pub(super) struct Refusal {
    pub(super) name: String,
    pub(super) text: String,
}

impl Refusal {
    /// A broker says for systemd that it has gone away, as it does for a moment when it executes itself anew.
    fn is_of_broker(&self) -> bool {
        matches!(
            self.name.strip_prefix("org.freedesktop.DBus.Error."),
            Some("NoReply" | "Disconnected" | "NameHasNoOwner" | "ServiceUnknown")
        )
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    /// What ends every wait.
    cancel: Cancel,
    /// Where it leads, for messages.
    path: PathBuf,
    serial: u32,
    unread: Vec<u8>,
    /// Jobs that have ended, with their results. systemd may say so before it answers the call that began
    /// them.
    ended_jobs: Vec<(String, String)>,
}

impl Bus {
    /// Connects, without a word to systemd yet.
    ///
    /// # Errors
    /// There is no such service manager, or it cannot be reached; the error says which, and what to do.
    pub(super) fn connect(manager: Manager, cancel: &Cancel) -> Result<Self> {
        let mut refused = None;
        for place in places(manager)? {
            match Self::at(&place, cancel) {
                Ok(bus) => return Ok(bus),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(explain_absence(manager, refused))
    }

    fn at(place: &Place, cancel: &Cancel) -> Result<Self> {
        let failed = |call: &'static str| move |errno| Error::os(call, errno).with_path(&place.path);
        let kind = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, kind, None)
            .map_err(failed("socket"))?;
        let address = match place.path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(&place.path),
        };
        let address = address.map_err(failed("connect"))?;
        unix_socket::connect(&socket, &address, cancel).path(&place.path)?;
        let mut bus = Self {
            socket,
            cancel: cancel.clone(),
            path: place.path.clone(),
            serial: 0,
            unread: Vec::new(),
            ended_jobs: Vec::new(),
        };
        bus.authenticate()?;
        if place.is_broker {
            bus.introduce()?;
        }
        Ok(bus)
    }

    /// As the user that the kernel says we are (D-Bus specification, authentication EXTERNAL). Without naming
    /// the user: in a user namespace the number would not be that of the other side.
    fn authenticate(&mut self) -> Result<()> {
        const ANSWER_LINES: usize = 2;
        const LONGEST_ANSWER: usize = 4096;
        let deadline = Instant::now() + PATIENCE;
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let ends: Vec<usize> = (1..self.unread.len())
                .filter(|at| &self.unread[at - 1..=*at] == b"\r\n")
                .collect();
            let refused = self.unread.starts_with(b"REJECTED") || self.unread.starts_with(b"ERROR");
            if refused || self.unread.len() > LONGEST_ANSWER {
                return Err(self
                    .failed("the authentication EXTERNAL was refused")
                    .with_kind(ErrorKind::Denied));
            }
            if let Some(end) = ends.get(ANSWER_LINES - 1) {
                let is_ok = self.unread[ends[0] + 1..].starts_with(b"OK ");
                self.unread.drain(..=*end);
                return match is_ok {
                    true => Ok(()),
                    false => Err(self
                        .failed("the authentication EXTERNAL was refused")
                        .with_kind(ErrorKind::Denied)),
                };
            }
            self.receive(deadline)?;
        }
    }

    /// A broker gives us a name, and passes on only the signals that are asked for.
    fn introduce(&mut self) -> Result<()> {
        const ENDED_JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',\
            path='/org/freedesktop/systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        for result in [
            self.call(BROKER, "Hello", &())?,
            self.call(BROKER, "AddMatch", &(ENDED_JOBS,))?,
        ] {
            result.map_err(|refusal| self.failed(format!("{}: {}", refusal.name, refusal.text)))?;
        }
        Ok(())
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// The connection broke, or there was no answer in time. That the answer is a refusal is the inner
    /// result.
    pub(super) fn call<Arguments: Serialize + Type>(
        &mut self,
        target: Target<'_>,
        member: &'static str,
        arguments: &Arguments,
    ) -> Result<std::result::Result<Body, Refusal>> {
        let deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let bytes = message::call(target, member, self.serial, arguments).map_err(|reason| {
            Error::new(ErrorKind::Invalid, reason).doing(format!("call {member} of systemd"))
        })?;
        self.send(&bytes)?;
        loop {
            match self
                .next(deadline)
                .map_err(|error| error.doing(format!("call {member} of systemd")))?
            {
                Incoming::Return(serial, body) if serial == self.serial => return Ok(Ok(body)),
                Incoming::Error(serial, name, text) if serial == self.serial => {
                    let refusal = Refusal { name, text };
                    return match refusal.is_of_broker() {
                        true => Err(self.lost().with_hint(refusal.text)),
                        false => Ok(Err(refusal)),
                    };
                }
                other => self.note(other),
            }
        }
    }

    /// Waits until a job has ended, and returns its result (`done`, `failed`, `timeout`, …).
    ///
    /// # Errors
    /// The connection broke, or the time is up.
    pub(super) fn wait_for_job(&mut self, job: &str, deadline: Instant) -> Result<String> {
        loop {
            if let Some(place) = self.ended_jobs.iter().position(|(ended, _)| ended == job) {
                return Ok(self.ended_jobs.swap_remove(place).1);
            }
            let message = self.next(deadline)?;
            self.note(message);
        }
    }

    fn note(&mut self, message: Incoming) {
        if let Incoming::JobRemoved(job, result) = message {
            self.ended_jobs.push((job, result));
        }
    }

    /// The next whole message.
    fn next(&mut self, deadline: Instant) -> Result<Incoming> {
        loop {
            if let Some(start) = self.unread.first_chunk::<FIXED_PART>() {
                let length = message::length(start).map_err(|reason| self.failed(reason))?;
                if self.unread.len() >= length {
                    let message =
                        message::read(&self.unread[..length]).map_err(|reason| self.failed(reason))?;
                    self.unread.drain(..length);
                    return Ok(message);
                }
            }
            self.receive(deadline)?;
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // systemd may hang, with this socket's buffer full.
            if !self
                .cancel
                .wait(self.socket.as_fd(), PollFlags::OUT, Some(PATIENCE))?
            {
                return Err(self.silent());
            }
            // Without NOSIGNAL a systemd that has gone would kill the program with SIGPIPE.
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(Error::os("send", errno).with_path(&self.path)),
            }
        }
        Ok(())
    }

    /// Waits for bytes and appends them to those unread.
    fn receive(&mut self, deadline: Instant) -> Result<()> {
        let mut block = [0u8; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.cancel.wait_readable_for(self.socket.as_fd(), Some(left))? {
                return Err(self.silent());
            }
            match rustix::net::recv(self.socket.as_fd(), &mut block, RecvFlags::empty()) {
                Ok((0, _)) => return Err(self.lost()),
                Ok((length, _)) => {
                    self.unread.extend_from_slice(&block[..length]);
                    return Ok(());
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(Error::os("recv", errno).with_path(&self.path)),
            }
        }
    }

    fn silent(&self) -> Error {
        self.failed(format!("no answer within {} seconds", PATIENCE.as_secs()))
    }

    fn lost(&self) -> Error {
        Error::os("recv", Errno::CONNRESET).with_path(&self.path)
    }

    pub(super) fn failed(&self, message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Os, message).with_path(&self.path)
    }
}

/// A socket that may lead to a service manager.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    is_broker: bool,
}

impl Place {
    fn direct(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            is_broker: false,
        }
    }

    fn broker(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            is_broker: true,
        }
    }
}

/// Where to look for it, best first. systemd's own socket takes a hop, and two calls, less, and is there
/// without a broker; systemd-run(1) takes the same way. An address in the environment is somebody's wish, and
/// goes first.
fn places(manager: Manager) -> Result<Vec<Place>> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match manager {
        Manager::System => Ok(match variable("DBUS_SYSTEM_BUS_ADDRESS") {
            Some(address) => brokers(&address),
            None => vec![
                Place::direct("/run/systemd/private"),
                Place::broker("/run/dbus/system_bus_socket"),
            ],
        }),
        Manager::User => {
            let mut places = Vec::new();
            let directory = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
            places.extend(
                directory
                    .iter()
                    .map(|directory| Place::direct(directory.join("systemd/private"))),
            );
            match variable("DBUS_SESSION_BUS_ADDRESS") {
                Some(address) => places.extend(brokers(&address)),
                None => places.extend(
                    directory
                        .iter()
                        .map(|directory| Place::broker(directory.join("bus"))),
                ),
            }
            match places.is_empty() {
                false => Ok(places),
                true => Err(Error::new(
                    ErrorKind::Unsupported,
                    "XDG_RUNTIME_DIR is not set, so the service manager of this user cannot be found",
                )
                .doing("connect to systemd")
                .with_hint(
                    "set XDG_RUNTIME_DIR, usually to /run/user/UID, or use --cgroup-manager cgroupfs; \
                     a login session, or `loginctl enable-linger`, starts the manager",
                )),
            }
        }
    }
}

/// The sockets of a list of D-Bus addresses, `unix:path=/run/x,guid=…;…` (D-Bus specification, server
/// addresses).
fn brokers(addresses: &OsString) -> Vec<Place> {
    let addresses = addresses.clone().into_vec();
    let socket = |address: &[u8]| {
        let rest = address.strip_prefix(b"unix:")?;
        rest.split(|byte| *byte == b',').find_map(|pair| {
            if let Some(name) = pair.strip_prefix(b"abstract=") {
                return Some(Place::broker(OsString::from_vec(
                    [b"@".to_vec(), unescaped(name)].concat(),
                )));
            }
            let path = pair.strip_prefix(b"path=")?;
            Some(Place::broker(OsString::from_vec(unescaped(path))))
        })
    };
    addresses.split(|byte| *byte == b';').filter_map(socket).collect()
}

/// Undoes the `%41` of addresses.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    plain
}

/// Why nobody answers.
fn explain_absence(manager: Manager, refused: Option<Error>) -> Error {
    let other_way = "or use --cgroup-manager cgroupfs";
    // sd_booted(3): the directory is there exactly where systemd is the init system.
    let is_booted = rustix::fs::stat(Path::new("/run/systemd/system")).is_ok();
    let error = refused.unwrap_or_else(|| {
        Error::new(ErrorKind::Unsupported, "no usable address").with_hint(
            "DBUS_SYSTEM_BUS_ADDRESS and DBUS_SESSION_BUS_ADDRESS take unix:path= and unix:abstract=",
        )
    });
    let error = error.doing("connect to systemd");
    let kind = match error.errno() {
        Some(Errno::ACCESS | Errno::PERM) => ErrorKind::Denied,
        _ => ErrorKind::Unsupported,
    };
    let error = error.with_kind(kind);
    match (manager, is_booted) {
        (_, false) => error.with_hint(format!(
            "systemd is not running on this host: boot with it as process 1, {other_way}"
        )),
        (Manager::System, true) => error.with_hint(format!(
            "systemd runs, but cannot be reached: mount /run/systemd and /run/dbus, {other_way}"
        )),
        (Manager::User, true) => error.with_hint(format!(
            "the service manager of this user does not run: log in, or `loginctl enable-linger`, {other_way}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Bus, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let bus = Bus {
            socket: ours.into(),
            cancel: Cancel::default(),
            path: "/x".into(),
            serial: 0,
            unread: Vec::new(),
            ended_jobs: Vec::new(),
        };
        (bus, theirs)
    }

    #[test]
    fn authentication_takes_ok_in_any_pieces_and_nothing_else() {
        let (mut bus, mut server) = pair();
        server.write_all(b"DATA\r\nOK 0123456789abcdef\r\nl").unwrap();
        bus.authenticate().unwrap();
        assert_eq!(bus.unread, b"l");
        let mut sent = [0; 64];
        let length = server.read(&mut sent).unwrap();
        assert_eq!(&sent[..length], b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        for refusal in [
            &b"REJECTED EXTERNAL\r\n"[..],
            b"DATA\r\nREJECTED\r\n",
            b"ERROR\r\n",
            &[b'x'; 5000],
        ] {
            let (mut bus, mut server) = pair();
            server.write_all(refusal).unwrap();
            assert_eq!(bus.authenticate().unwrap_err().kind(), ErrorKind::Denied);
        }
        let (mut bus, server) = pair();
        drop(server);
        assert!(bus.authenticate().is_err());
    }

    #[test]
    fn a_dead_peer_and_nonsense_are_errors() {
        let (mut bus, mut server) = pair();
        server.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        assert!(bus.call(BROKER, "Hello", &()).is_err());
        let (mut bus, server) = pair();
        drop(server);
        assert!(bus.call(BROKER, "Hello", &()).is_err());
        let error = pair().0.wait_for_job("/job/1", Instant::now());
        assert!(error.is_err());
    }

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| brokers(&OsString::from(text));
        assert_eq!(
            read("unix:path=/run/user/0/bus"),
            [Place::broker("/run/user/0/bus")]
        );
        assert_eq!(
            read("tcp:host=x;unix:guid=12,path=/a%20b;unix:abstract=/tmp/x,guid=1"),
            [Place::broker("/a b"), Place::broker("@/tmp/x")]
        );
        assert_eq!(read("unix:tmpdir=/tmp"), []);
    }
}

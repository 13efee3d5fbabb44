//! Runs in: RUNTIME. The conversation with criu over a socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message;

use super::rpc::{Features, Kind, Notification, Request, Response, Version};
use crate::error::ErrorResult;
use crate::host::socket::unix_socket;
use crate::{Errno, Error, ErrorKind, Result};

/// The oldest criu that has all that is asked of it here: single pre-dumps, and LSM profiles that may change.
const OLDEST: (i32, i32) = (3, 16);

/// Larger than any message of criu. One that fills it has been cut off.
const LARGEST: usize = 64 << 10;

/// The conversation with one criu process.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
}

/// What criu says.
#[derive(Debug)]
pub(crate) enum Event {
    /// It waits for [`Connection::acknowledge`]. The descriptor is there with `orphan-pts-master` only.
    Notification(Notification, Option<OwnedFd>),
    /// It has done what was asked, or has not.
    Done(Response),
}

impl Connection {
    /// Over a socket whose other end a criu process has.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Asks for its version, and checks that it is new enough.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it is not.
    pub(crate) fn check_version(&self) -> Result<Version> {
        let request = Request {
            keep_open: Some(true),
            ..request(Kind::Version)
        };
        let version = self.ask(&request)?.version.unwrap_or_default();
        if (version.major, version.minor) < OLDEST {
            let message = format!("criu {}.{} is too old", version.major, version.minor);
            return Err(
                Error::new(ErrorKind::Unsupported, message).with_hint("version 3.16 or newer is needed")
            );
        }
        Ok(version)
    }

    /// Asks which of the features are there; those that were not asked for are not.
    pub(crate) fn check_features(&self, wanted: Features) -> Result<Features> {
        let request = Request {
            keep_open: Some(true),
            features: Some(wanted),
            ..request(Kind::FeatureCheck)
        };
        Ok(self.ask(&request)?.features.unwrap_or_default())
    }

    /// A request that is answered at once.
    fn ask(&self, request: &Request) -> Result<Response> {
        self.send(request)?;
        match self.receive()? {
            Event::Done(response) if response.success => Ok(response),
            _ => Err(broken("it does not answer as it should")),
        }
    }

    /// Sends a request.
    pub(crate) fn send(&self, request: &Request) -> Result<()> {
        let bytes = request.encode_to_vec();
        runtime_sys::net::send(self.socket.as_fd(), &bytes, None).doing("talk to criu")
    }

    /// Answers a notification: criu goes on, or gives up and undoes what it has done.
    pub(crate) fn acknowledge(&self, success: bool) -> Result<()> {
        self.send(&Request {
            notify_success: Some(success),
            ..request(Kind::Notify)
        })
    }

    /// Waits for what criu says next.
    ///
    /// # Errors
    /// It has ended without a word, or says what is no message.
    pub(crate) fn receive(&self) -> Result<Event> {
        let mut buffer = vec![0; LARGEST];
        let received = unix_socket::receive_fds(self.socket.as_fd(), &mut buffer);
        let (length, fds) = match received {
            // It has ended with something of ours unread.
            Err((_, Errno::CONNRESET)) => (0, Vec::new()),
            received => received.map_err(|(call, errno)| Error::os(call, errno).doing("talk to criu"))?,
        };
        if length == 0 {
            return Err(broken("it ended without an answer"));
        }
        if length == LARGEST {
            return Err(broken("a message is too long"));
        }
        let response = Response::decode(&buffer[..length])
            .map_err(|error| broken(format!("not a message of criu: {error}")))?;
        match (response.kind(), &response.notification) {
            (Kind::Notify, Some(notification)) => {
                Ok(Event::Notification(notification.clone(), fds.into_iter().next()))
            }
            (Kind::Notify, None) => Err(broken("a notification without a name")),
            _ => Ok(Event::Done(response)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A request of this kind, without anything else.
pub(crate) fn request(kind: Kind) -> Request {
    Request {
        kind: kind.into(),
        ..Request::default()
    }
}

fn broken(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Os, message).doing("talk to criu")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, OwnedFd) {
        let (socket, other) = runtime_sys::net::record_pair().unwrap();
        (Connection::new(socket), other)
    }

    #[test]
    fn a_conversation_ends_with_an_error_and_not_in_waiting() {
        let (connection, other) = pair();
        connection.send(&request(Kind::Version)).unwrap();
        drop(other);
        let error = connection.receive().unwrap_err();
        assert_eq!(error.to_string(), "talk to criu: it ended without an answer");

        let (connection, other) = pair();
        runtime_sys::net::send(other.as_fd(), b"\xff\xff\xff", None).unwrap();
        assert!(
            connection
                .receive()
                .unwrap_err()
                .to_string()
                .contains("not a message of criu")
        );
    }
}

//! The records on the link, one socket pair (`SOCK_SEQPACKET`) between RUNTIME and its child. Eight bytes
//! each.
//!
//! ```text
//!   RUNTIME                                          INIT, or EXEC, or the helper that makes it (INTERMEDIATE, JOINER)
//!           ---- Go ------------------------------>   id mappings written, cgroup joined, mounts idmapped
//!           <--- Born (pidfd attached) ------------   from a helper, once: it has made the process, and ends
//!           ---- Go ------------------------------>   to the process: from now on it is the one that is heard
//!           <--- NeedMaps -------------------------   only with a new user namespace and others given by path
//!           ---- Mapped -------------------------->
//!           <--- NeedTrees ------------------------   only with a user namespace and trees of the host; RUNTIME
//!                                                     makes TREES, which answers it with the same Tree records
//!           ---- Tree (fd attached), n times ------>   in the order of the plan
//!           <--- NeedNetDevices (fd attached) -----   only with linux.netDevices; a route socket in the namespace
//!           ---- NetDevicesDone ------------------>   they have been moved there
//!           <--- NeedMountMap (fd attached) -------   once for each id-mapped bind mount whose source is in the rootfs
//!           ---- MountMapped --------------------->   the tree that was attached has its mapping
//!           <--- RunHooks -------------------------   only if there are prestart or createRuntime hooks
//!           ---- HooksDone ----------------------->
//!           <--- Ready ----------------------------   rlimits are set and the state is published now
//!           ---- Start --------------------------->   only from `run` and `exec`; `start` comes by its own socket
//!           <--- Taken ----------------------------   only to `start`: an end of file before it means that init has ended
//!           <--- SeccompFd (fd attached) ----------   only with a notify filter
//!           <--- CriuSocket (fd attached) ---------   only from CRIU
//!           <--- Procfs (fd attached) -------------   only from PROCFS
//!           <=== end of file ======================   execve has closed the child's end: the program runs
//!           <--- Failure --------------------------   instead of any of these; the child waits for our end of file
//! ```
//!
//! RUNTIME believes nothing of this that matters: the kernel says who has sent a record (`SO_PASSCRED`) and
//! whose pidfd it is, each record is taken once and in this order, and what a record asks for must be in the
//! plan. The table is in docs/design.md, "What a record can do".

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

use crate::step::Step;
use runtime_sys::{self as sys, Call, SysError, net};

/// Length of a record in bytes.
pub const RECORD: usize = 8;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// RUNTIME: what had to be done from outside is done.
    Go,
    /// INTERMEDIATE or JOINER: the process is made; its pidfd is attached.
    Born,
    /// INIT: the user namespace is there; write its maps.
    NeedMaps,
    /// RUNTIME: they are written.
    Mapped,
    /// PROCFS: what fsopen(2) gave in the pid namespace is attached.
    Procfs,
    /// INIT: the mount namespace is there; send the trees.
    NeedTrees,
    /// A tree is attached.
    Tree,
    /// INIT: move the network devices to the namespace of the socket that is attached.
    NeedNetDevices,
    /// RUNTIME: they are there.
    NetDevicesDone,
    /// INIT: give the tree that is attached the id mapping of the next such mount of the plan.
    NeedMountMap,
    /// RUNTIME: it has it.
    MountMapped,
    /// INIT: run the prestart and createRuntime hooks now.
    RunHooks,
    /// RUNTIME: the hooks have succeeded.
    HooksDone,
    /// The child is set up, and waits.
    Ready,
    /// RUNTIME or `start`: execute the program.
    Start,
    /// INIT: `start` has come.
    Taken,
    /// The seccomp listener is attached.
    SeccompFd,
    /// CRIU: the connection to the criu that it is about to become is attached.
    CriuSocket,
    /// The child gave up.
    Failure(Failure),
}

/// Where the child gave up: the eight bytes that RUNTIME explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// The system call; [`Call::None`] for a check of our own.
    pub call: Call,
    /// Index into the list that the step names.
    pub index: u16,
    /// A second index: the option of a mount; the exit status of a hook.
    pub sub: u16,
    /// The errno.
    pub errno: Errno,
}

const FAILURE: u8 = 0xff;

impl Message {
    /// The record's bytes.
    pub fn encode(self) -> [u8; RECORD] {
        let tag = match self {
            Message::Go => 1,
            Message::Born => 2,
            Message::RunHooks => 3,
            Message::HooksDone => 4,
            Message::Ready => 5,
            Message::Start => 6,
            Message::SeccompFd => 7,
            Message::NeedTrees => 8,
            Message::Tree => 9,
            Message::NeedNetDevices => 10,
            Message::NetDevicesDone => 11,
            Message::CriuSocket => 12,
            Message::NeedMaps => 13,
            Message::Mapped => 14,
            Message::Procfs => 15,
            Message::Taken => 16,
            Message::NeedMountMap => 17,
            Message::MountMapped => 18,
            Message::Failure(failure) => return failure.encode(),
        };
        [tag, 0, 0, 0, 0, 0, 0, 0]
    }

    /// The record with these bytes; `None` if they are no record of ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[tag, _, _, _, _, _, _, _] = bytes else {
            return None;
        };
        if tag != FAILURE && bytes.iter().skip(1).any(|byte| *byte != 0) {
            return None;
        }
        Some(match tag {
            1 => Message::Go,
            2 => Message::Born,
            3 => Message::RunHooks,
            4 => Message::HooksDone,
            5 => Message::Ready,
            6 => Message::Start,
            7 => Message::SeccompFd,
            8 => Message::NeedTrees,
            9 => Message::Tree,
            10 => Message::NeedNetDevices,
            11 => Message::NetDevicesDone,
            12 => Message::CriuSocket,
            13 => Message::NeedMaps,
            14 => Message::Mapped,
            15 => Message::Procfs,
            16 => Message::Taken,
            17 => Message::NeedMountMap,
            18 => Message::MountMapped,
            FAILURE => Message::Failure(Failure::decode(bytes)?),
            _ => return None,
        })
    }
}

impl Failure {
    fn encode(self) -> [u8; RECORD] {
        let errno = self.errno.raw_os_error() as u16;
        let [index_a, index_b] = self.index.to_ne_bytes();
        // Twelve bits each: the errno of Linux is below 4096, and a larger sub-index is cut down to 4095.
        let sub = self.sub.min(0xfff);
        let packed = (u32::from(errno & 0xfff) << 12) | u32::from(sub);
        let [a, b, c, _] = packed.to_le_bytes();
        [
            FAILURE,
            self.step as u8,
            self.call as u8,
            index_a,
            index_b,
            a,
            b,
            c,
        ]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let &[_, step, call, index_a, index_b, a, b, c] = bytes else {
            return None;
        };
        let packed = u32::from_le_bytes([a, b, c, 0]);
        let errno = (packed >> 12) as i32;
        // 0 is no errno: the type cannot hold it, and would panic.
        if errno == 0 {
            return None;
        }
        Some(Self {
            step: Step::from_number(step)?,
            call: Call::ALL.get(usize::from(call)).copied()?,
            index: u16::from_ne_bytes([index_a, index_b]),
            sub: (packed & 0xfff) as u16,
            errno: Errno::from_raw_os_error(errno),
        })
    }
}

/// One end of the link. Used by both sides.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a>(pub BorrowedFd<'a>);

impl Link<'_> {
    /// Sends a record.
    pub fn send(self, message: Message) -> sys::Result<()> {
        net::send(self.0, &message.encode(), None)
    }

    /// Sends a record with a descriptor.
    pub fn send_fd(self, message: Message, fd: BorrowedFd<'_>) -> sys::Result<()> {
        net::send(self.0, &message.encode(), Some(fd))
    }

    /// Waits for a record. `None`: the other end is closed.
    pub fn receive(self) -> sys::Result<Option<(Message, Option<OwnedFd>)>> {
        // One byte more than a record: a longer one is none.
        let mut buffer = [0; RECORD + 1];
        let received = match net::receive(self.0, &mut buffer) {
            // A peer that ended with unread records leaves this instead of an end of file.
            Err(SysError {
                errno: Errno::CONNRESET,
                ..
            }) => return Ok(None),
            other => other?,
        };
        if received.length == 0 {
            return Ok(None);
        }
        let message = buffer.get(..received.length).and_then(Message::decode);
        match message {
            Some(message) => Ok(Some((message, received.fd))),
            None => Err(SysError {
                call: Call::Recv,
                errno: Errno::PROTO,
            }),
        }
    }

    /// Waits for exactly `wanted`. ESRCH if the other end is gone: RUNTIME was killed.
    pub fn expect(self, wanted: Message) -> sys::Result<()> {
        match self.receive()? {
            Some((message, _)) if message == wanted => Ok(()),
            Some(_) => Err(SysError {
                call: Call::Recv,
                errno: Errno::PROTO,
            }),
            None => Err(SysError {
                call: Call::Recv,
                errno: Errno::SRCH,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_wire() {
        let messages = [
            Message::Go,
            Message::Born,
            Message::RunHooks,
            Message::HooksDone,
            Message::Ready,
            Message::Start,
            Message::SeccompFd,
            Message::NeedTrees,
            Message::Tree,
            Message::NeedNetDevices,
            Message::NetDevicesDone,
            Message::CriuSocket,
            Message::NeedMaps,
            Message::Mapped,
            Message::Procfs,
            Message::Taken,
            Message::NeedMountMap,
            Message::MountMapped,
        ];
        for message in messages {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for step in Step::ALL {
            for call in Call::ALL {
                let failure = Failure {
                    step: *step,
                    call: *call,
                    index: 65535,
                    sub: 4095,
                    errno: Errno::from_raw_os_error(4095),
                };
                assert_eq!(
                    Message::decode(&Message::Failure(failure).encode()),
                    Some(Message::Failure(failure))
                );
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert_eq!(Message::decode(&[]), None);
        assert_eq!(Message::decode(&[1; 7]), None);
        assert_eq!(Message::decode(&[1; 9]), None);
        assert_eq!(Message::decode(&[0; 8]), None);
        assert_eq!(Message::decode(&[1, 0, 0, 0, 0, 0, 0, 1]), None);
        assert_eq!(Message::decode(&[0xff; 8]), None);
        // A failure without an errno.
        assert_eq!(Message::decode(&[0xff, 0, 0, 0, 0, 1, 0, 0]), None);
    }
}

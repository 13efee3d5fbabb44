//! Runs in: SUITE. Answers the questions of the filter.

use super::{
    judge::{Call, Judge, Question, Verdict},
    locked,
};
use crate::children;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

const RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
const SET_FLAGS: libc::Ioctl = 0x4008_2104_u32 as libc::Ioctl;
/// Who asks and who answers take turns, on one processor (Linux 6.6).
const SYNC_WAKE_UP: libc::c_ulong = 1;
/// Let the kernel go on with the call.
const CONTINUE: u64 = 1 << 32;

/// Until `is_over` is set.
pub(super) fn run(listener: &OwnedFd, judge: &Mutex<Judge>, is_over: &AtomicBool) {
    // SAFETY: takes an integer only.
    let _only_slower_without = unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
    while !is_over.load(Ordering::Relaxed) {
        if asks(listener) {
            answer_one(listener, judge);
        }
    }
}

/// Once nobody has the filter any more it hangs up, and Linux 6.1 waits for ever if one reads then.
fn asks(listener: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(20_u8)).is_ok_and(|ready| ready > 0);
    ready
        && fds[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN))
}

fn answer_one(listener: &OwnedFd, judge: &Mutex<Judge>) {
    // struct seccomp_notif: id; pid and flags; call and architecture; instruction; six arguments.
    let mut notification = [0_u64; 10];
    // SAFETY: struct seccomp_notif is 80 bytes, zeroed as the kernel demands.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECV, notification.as_mut_ptr()) } != 0 {
        // Who asked has been killed meanwhile.
        return;
    }
    let question = Question {
        thread: notification[1] as u32,
        call: Call {
            number: notification[2] as i32,
            first_argument: notification[4],
        },
    };
    let (value, verdict) = match locked(judge).decide(question) {
        Verdict::Continue => (0, CONTINUE),
        Verdict::Errno(errno) => (0, u64::from((-errno) as u32)),
        Verdict::Value(value) => (value, 0),
        Verdict::Kill(pid) => {
            children::signal(pid as i32, Signal::SIGKILL);
            // The signal is there before the answer, so the call is not made.
            (0, u64::from((-libc::EINTR) as u32))
        }
    };
    let mut response = [notification[0], value, verdict];
    loop {
        // SAFETY: struct seccomp_notif_resp is 24 bytes: id, value, error and flags.
        let sent = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, response.as_mut_ptr()) };
        // Any other failure says that who asked has been killed meanwhile; unanswered it would wait for ever.
        if sent == 0 || Errno::last() != Errno::EINTR {
            return;
        }
    }
}

//! Runs in: RUNTIME. Is a process that was seen earlier still there, and is it the same one? Signals to
//! exactly that one. Does not start or wait for processes.

pub(crate) mod hooks;
pub(crate) mod proc_handle;
pub(crate) mod signals;
pub(crate) mod stdio;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::error::{CallResult, ErrorResult};
use crate::{Error, ErrorKind, Result};

/// What there is to say of a process whose end is seen, and of whose status the kernel has told nobody.
pub(crate) const STATUS_UNKNOWN: &str = "ended with an unknown status (SIGCHLD is ignored by this program, or somebody else has \
                                  waited for it)";

/// Waits for a child to end, and reaps it. Where somebody else has done that, or the program ignores SIGCHLD,
/// the kernel is asked how it has ended; `None` if it cannot tell.
///
/// # Errors
/// That of waitid(2).
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<ExitStatus>> {
    match runtime_sys::process::wait(pidfd) {
        Ok(status) => Ok(Some(ExitStatus::from_raw(match status.terminating_signal() {
            Some(signal) => signal,
            None => (status.exit_status().unwrap_or(0) & 0xff) << 8,
        }))),
        // Not before it has ended: it is a child of ours.
        Err(error) if error.errno == Errno::CHILD => {
            Ok(runtime_sys::process::status_of_reaped(pidfd).map(ExitStatus::from_raw))
        }
        Err(error) => Err(error.into()),
    }
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The state letter (field 3), such as `R`, `S` or `Z`.
    pub state: u8,
    /// The kernel's flags of the process, `PF_*` (field 9).
    pub flags: u32,
    /// The start time in clock ticks after boot (field 22).
    pub start_time: u64,
}

impl Stat {
    /// Whether the process has ended: a zombie (`Z`) waits for its parent, a dead one (`X`, and `x` of old
    /// kernels) is on its way out.
    pub fn has_ended(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether the process is about to end and has not yet: `PF_EXITING` (include/linux/sched.h). The init of
    /// a pid namespace stays so until all others there have been reaped.
    pub fn is_ending(self) -> bool {
        const EXITING: u32 = 0x4;
        self.flags & EXITING != 0 && !self.has_ended()
    }

    /// Whether the process has become another program since it was made: execve(2) clears `PF_FORKNOEXEC`
    /// (include/linux/sched.h) before it closes descriptors. Known until its parent has reaped it.
    pub fn has_executed(self) -> bool {
        const FORK_NO_EXEC: u32 = 0x40;
        self.flags & FORK_NO_EXEC == 0
    }

    /// Parses the contents of `/proc/<pid>/stat`. The name of the program (field 2) stands in brackets and
    /// may hold anything, brackets and spaces too; no later field holds a bracket. None if it does not have
    /// the shape of proc(5).
    pub fn parse(text: &[u8]) -> Option<Self> {
        let end_of_name = text.iter().rposition(|&byte| byte == b')')?;
        let mut fields = text[end_of_name + 1..]
            .split(u8::is_ascii_whitespace)
            .filter(|field| !field.is_empty());
        let state = match fields.next()? {
            [letter] => *letter,
            _ => return None,
        };
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
        // Five fields lie between the state (3) and the flags (9), twelve between these and the start time
        // (22).
        let flags = u32::try_from(number(fields.nth(5)?)?).ok()?;
        let start_time = number(fields.nth(12)?)?;
        Some(Self {
            state,
            flags,
            start_time,
        })
    }

    /// Reads the state of a process; None if there is none with this pid.
    pub fn read(pid: Pid) -> Result<Option<Self>> {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let os = |call, errno| {
            Error::os(call, errno)
                .with_path(&path)
                .doing("look for the process")
        };
        let file = match rustix::fs::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            file => file.map_err(|errno| os("open", errno))?,
        };
        // One page is more than twice the longest line, and the kernel gives the line in one read.
        let mut buffer = [0; 4096];
        let length = match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer)) {
            // The process ended between the two calls.
            Err(Errno::SRCH) => return Ok(None),
            length => length.map_err(|errno| os("read", errno))?,
        };
        match Self::parse(&buffer[..length]) {
            Some(stat) => Ok(Some(stat)),
            None => Err(Error::new(ErrorKind::Internal, "not in the format of proc(5)").with_path(&path)),
        }
    }
}

/// The start time of a living process, for the record of its container.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such process.
pub(crate) fn start_time(pid: Pid) -> Result<u64> {
    match Stat::read(pid)? {
        Some(stat) => Ok(stat.start_time),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("no such process: {}", pid.as_raw_nonzero()),
        )),
    }
}

/// Whether the process with this pid and start time is still running. A zombie is not; neither is pid 0,
/// which stands for "there is none yet".
pub(crate) fn is_running(pid: i32, start_time: u64) -> Result<bool> {
    let Some(pid) = positive(pid) else {
        return Ok(false);
    };
    Ok(Stat::read(pid)?.is_some_and(|stat| stat.start_time == start_time && !stat.has_ended()))
}

/// A pid as the kernel takes it. `Pid::from_raw` alone asserts that the number is not negative.
fn positive(pid: i32) -> Option<Pid> {
    if pid > 0 { Pid::from_raw(pid) } else { None }
}

/// The pid of the process behind a pidfd, in this process's pid namespace, as the kernel tells it (`Pid:` of
/// its fdinfo, proc(5)).
///
/// # Errors
/// [`ErrorKind::NotFound`] if the process has been reaped, or is not in this pid namespace.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(&path).call("read").path(&path)?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    match pid.and_then(|pid| pid.trim().parse().ok()) {
        Some(pid @ 1..) => Ok(pid),
        _ => Err(
            Error::new(ErrorKind::NotFound, "a pidfd of no process of this pid namespace").with_path(&path),
        ),
    }
}

/// A handle on one running process. It cannot come to mean another one, even when the pid is used again.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
}

impl Process {
    /// Takes hold of the process with this pid and start time; None if it has ended.
    pub(crate) fn open(pid: i32, start_time: u64) -> Result<Option<Self>> {
        let Some(target) = positive(pid) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(target, PidfdFlags::empty()) {
            // EINVAL, newer ENOENT: the number is a thread's by now, or that of a group whose leader is gone.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            pidfd => pidfd.call("pidfd_open").doing("open the process")?,
        };
        // Looked at after the descriptor was opened: if the pid belongs to the right process now, it did so
        // then.
        Ok(is_running(pid, start_time)?.then_some(Self { pidfd }))
    }

    /// Whether it has ended by now. As long as it has not, whatever was read below its `/proc/PID` before was
    /// its own.
    ///
    /// # Errors
    /// `poll` failed.
    pub(crate) fn has_ended(&self) -> Result<bool> {
        runtime_sys::process::wait_readable(self.pidfd.as_fd(), Some(0)).doing("look for the process")
    }

    /// Sends a signal by its number: 0, which only asks whether it may be sent, real-time signals, all. False
    /// if the process has ended.
    pub(crate) fn kill(&self, signal: i32) -> Result<bool> {
        match runtime_sys::process::send_signal_number(self.pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == Errno::SRCH => Ok(false),
            Err(error) => Err(Error::os("pidfd_send_signal", error.errno).doing("send a signal")),
        }
    }
}

impl AsMut<OwnedFd> for Process {
    /// For moving it to another number.
    fn as_mut(&mut self) -> &mut OwnedFd {
        &mut self.pidfd
    }
}

impl From<Process> for OwnedFd {
    fn from(process: Process) -> Self {
        process.pidfd
    }
}

impl AsFd for Process {
    /// The pidfd; it polls readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const REST: &str = "1 2 3 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 1 0 12345 99 18446744073709551615";

    #[test]
    fn the_name_of_a_program_may_hold_anything() {
        for name in [
            "cat",
            "a b",
            "a) S 9 (b",
            ")",
            "((",
            "",
            ") R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21",
        ] {
            let stat = Stat::parse(format!("42 ({name}) S {REST}\n").as_bytes());
            assert_eq!(
                stat,
                Some(Stat {
                    flags: 4_194_560,
                    state: b'S',
                    start_time: 12345
                }),
                "{name}"
            );
        }
        let invalid = [
            &b""[..],
            b"42",
            b"42 (cat",
            b"42 (cat)",
            b"42 (cat) S 1 2",
            b"42 (cat) SS 1",
            b"42 (\xff) S 1 x",
        ];
        for text in invalid {
            assert_eq!(Stat::parse(text), None);
        }
        let not_a_number = format!("42 (cat) S {}", REST.replace("12345", "-5"));
        assert_eq!(Stat::parse(not_a_number.as_bytes()), None);
    }

    #[test]
    fn a_process_is_found_killed_and_a_zombie_is_not_running() {
        let mut child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = start_time(Pid::from_child(&child)).unwrap();
        assert!(start > 0 && is_running(pid, start).unwrap());
        assert!(!is_running(pid, start + 1).unwrap());
        assert!(Process::open(pid, start + 1).unwrap().is_none());

        let process = Process::open(pid, start).unwrap().unwrap();
        assert!(process.kill(0).unwrap() && !process.has_ended().unwrap());
        assert_eq!(process.kill(65).unwrap_err().errno(), Some(Errno::INVAL));
        assert!(process.kill(9).unwrap());
        let mut polled = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut polled, None).unwrap(), 1);
        assert_eq!(Stat::read(Pid::from_child(&child)).unwrap().unwrap().state, b'Z');
        assert!(!is_running(pid, start).unwrap() && process.has_ended().unwrap());
        child.wait().unwrap();
        assert!(!is_running(pid, start).unwrap());
        assert!(!process.kill(9).unwrap());
        assert!(Process::open(pid, start).unwrap().is_none());
        assert_eq!(
            start_time(Pid::from_raw(pid).unwrap()).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn no_pid_is_no_process() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert!(!is_running(pid, 0).unwrap());
            assert!(Process::open(pid, 0).unwrap().is_none());
        }
    }
}

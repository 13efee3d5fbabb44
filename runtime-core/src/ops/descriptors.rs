//! Runs in: RUNTIME. Which of the caller's open files a program gets. Asked before anything is opened here: a
//! descriptor of our own must not be taken for one of the caller's, nor have a number that one is to get.

use std::io::ErrorKind as IoErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};

use super::options::Stdio;
use crate::error::{CallResult, ErrorResult};
use crate::{Errno, Error, ErrorKind, Result};

/// The caller's open files that a program gets.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// Numbers from 3 on that the program has, sorted.
    pub(super) inherited: Vec<RawFd>,
    /// What was given, and the numbers that they are to have. Each lies above all of these numbers, so that a
    /// child can put one after the other in its place.
    given: Vec<(OwnedFd, RawFd)>,
    /// Under those of these numbers at which the caller has nothing, so that nothing of ours gets there.
    _held: Vec<OwnedFd>,
}

impl Descriptors {
    /// What the caller has under its numbers: sockets of the service manager, and what else is to be passed
    /// on.
    pub(super) fn inherited(listen_fds: u32, preserve_fds: u32) -> Result<Self> {
        Ok(Self {
            inherited: inherited(listen_fds, preserve_fds)?,
            ..Self::default()
        })
    }

    /// And what it has given: its standard input, output and error, and further ones with their numbers.
    pub(super) fn given(mut self, standard: [Stdio; 3], others: Vec<(OwnedFd, RawFd)>) -> Result<Self> {
        let mut given = Vec::new();
        for (number, stdio) in (0..).zip(standard) {
            match stdio {
                Stdio::Inherit => {}
                Stdio::Null => given.push((open_null()?, number)),
                Stdio::Fd(fd) => given.push((fd, number)),
            }
        }
        for (fd, number) in others {
            if number < 3 || given.iter().any(|(_, other)| *other == number) {
                let message = format!("descriptors: {number} is below 3, or given twice");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            self.inherited.push(number);
            given.push((fd, number));
        }
        self.inherited.sort_unstable();
        self.inherited.dedup();
        let above = given
            .iter()
            .map(|(_, number)| number + 1)
            .max()
            .unwrap_or(0)
            .max(3);
        for (fd, number) in given {
            self.given.push((copy_above(fd.as_fd(), above, number)?, number));
        }
        for (fd, number) in &self.given {
            self._held.extend(hold(fd.as_fd(), *number)?);
        }
        Ok(self)
    }

    /// What a child is told: where each of the given ones is, and the number that it is to have.
    pub(super) fn placed(&self) -> Vec<(RawFd, RawFd)> {
        let numbers = self.given.iter();
        numbers.map(|(fd, number)| (fd.as_raw_fd(), *number)).collect()
    }

    /// Standard input, output and error of the program: what was given, or the caller's own.
    pub(super) fn standard(&self) -> [BorrowedFd<'_>; 3] {
        let mut standard = runtime_sys::process::standard_descriptors();
        for (place, number) in standard.iter_mut().zip(0..) {
            if let Some((fd, _)) = self.given.iter().find(|(_, other)| *other == number) {
                *place = fd.as_fd();
            }
        }
        standard
    }
}

fn open_null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .call("open")
        .path("/dev/null")
}

fn copy_above(fd: BorrowedFd<'_>, least: RawFd, number: RawFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, least).map_err(|errno| {
        let error =
            Error::os("fcntl(F_DUPFD_CLOEXEC)", errno).doing(format!("pass on a file as number {number}"));
        match errno {
            Errno::INVAL | Errno::MFILE => error.with_hint("RLIMIT_NOFILE of the runtime"),
            _ => error,
        }
    })
}

/// A descriptor under that very number, if the caller has none there.
fn hold(fd: BorrowedFd<'_>, number: RawFd) -> Result<Option<OwnedFd>> {
    let held = copy_above(fd, number, number)?;
    Ok((held.as_raw_fd() == number).then_some(held))
}

/// Those from 3 on: the sockets of the service manager, which must be there, and after them what else is
/// there of `--preserve-fds`. A number that is not open is left out, as crun does:
/// `podman run --preserve-fd 5` counts up to the highest. So is what is close-on-exec: what a program opens
/// for itself is. Sorted.
fn inherited(listen_fds: u32, preserve_fds: u32) -> Result<Vec<RawFd>> {
    let end = 3_u32.saturating_add(listen_fds).saturating_add(preserve_fds);
    if end == 3 {
        return Ok(Vec::new());
    }
    let end = RawFd::try_from(end).unwrap_or(RawFd::MAX);
    let mut numbers: Vec<RawFd> = numbers()?
        .into_iter()
        .filter(|number| (3..end).contains(number))
        .collect();
    numbers.sort_unstable();
    let mut inherited = Vec::with_capacity(numbers.len());
    for number in numbers {
        if is_for_others(number)? {
            inherited.push(number);
        }
    }
    for (number, place) in (3..).zip(0..listen_fds as usize) {
        if inherited.get(place) != Some(&number) {
            let message = format!("LISTEN_FDS: file descriptor {number} is not open, or close-on-exec");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(inherited)
}

/// All that are open, with the one that reads them.
fn numbers() -> Result<Vec<RawFd>> {
    let path = "/proc/self/fd";
    let failed = |error: std::io::Error| Error::os("read", error).with_path(path);
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    Ok(numbers)
}

fn is_for_others(number: RawFd) -> Result<bool> {
    let path = format!("/proc/self/fdinfo/{number}");
    let info = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(false),
        other => other.call("read").path(path)?,
    };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    Ok(flags.is_some_and(|flags| flags & libc::O_CLOEXEC as u32 == 0))
}

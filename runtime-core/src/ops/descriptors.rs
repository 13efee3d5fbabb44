//! Runs in: RUNTIME. Which of the caller's open files a program inherits. Asked before anything is opened here: a descriptor of
//! our own must not be taken for one of the caller's.

use std::io::ErrorKind as IoErrorKind;
use std::os::fd::RawFd;

use crate::error::{CallResult, ErrorResult};
use crate::{Error, ErrorKind, Result};

/// Those from 3 on: the sockets of the service manager, which must be there, and behind them what else is there of
/// `--preserve-fds`. A number that is not open is left out, as crun does: `podman run --preserve-fd 5` counts up to the highest.
/// So is what is close-on-exec: what a program opens for itself is. Sorted.
pub(super) fn inherited(listen_fds: u32, preserve_fds: u32) -> Result<Vec<RawFd>> {
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

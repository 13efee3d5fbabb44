//! Runs in: RUNTIME. The commands of `bpf(2)` that a device filter needs: load, attach, replace. What the
//! program says is decided in `plan/cgroup/devices.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_sys::SysError;
use runtime_sys::bpf::{MOST_PROGRAMS, attach, detach, load, program_by_id, query};

use crate::plan::cgroup::BpfInsn;
use crate::{Errno, Error, ErrorKind, Result};

const VERIFIER_LOG_SIZE: usize = 64 * 1024;

/// A device filter in the kernel. It goes away with its last file descriptor and attachment.
#[derive(Debug)]
pub(super) struct DeviceProgram(OwnedFd);

impl DeviceProgram {
    /// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. Needs CAP_BPF or CAP_SYS_ADMIN in the first
    /// user namespace. If the verifier refuses, the error carries the end of its log.
    pub(super) fn load(instructions: &[BpfInsn]) -> Result<Self> {
        // The log slows the verifier down, so it is asked for only when there is something to explain.
        let errno = match load(instructions, &mut []) {
            Ok(program) => return Ok(Self(program)),
            Err(SysError { errno, .. }) => errno,
        };
        let error = Error::os("bpf(BPF_PROG_LOAD)", errno)
            .with_field("linux.resources.devices")
            .doing("load the device filter");
        if errno == Errno::PERM {
            return Err(error
                .with_kind(ErrorKind::Denied)
                .with_hint("device rules need CAP_BPF or CAP_SYS_ADMIN in the first user namespace"));
        }
        if errno == Errno::TOOBIG {
            return Err(error.with_hint("too many device rules for one eBPF program"));
        }
        let mut log = vec![0; VERIFIER_LOG_SIZE];
        match load(instructions, &mut log) {
            Ok(program) => Ok(Self(program)), // the first refusal has passed, as EAGAIN under a pending signal does
            Err(_) => Err(error.with_hint(last_lines(&log))),
        }
    }

    /// Attaches to a cgroup that has no filter of its own yet.
    pub(super) fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<()> {
        attach(cgroup, self.0.as_fd(), None).map_err(attach_error)
    }

    /// Puts this filter in the place of whatever filters the cgroup has. At every moment one of them is in
    /// force.
    pub(super) fn replace(&self, cgroup: BorrowedFd<'_>) -> Result<()> {
        let attached = attached(cgroup)?;
        attach(cgroup, self.0.as_fd(), attached.first().map(AsFd::as_fd)).map_err(attach_error)?;
        for surplus in attached.iter().skip(1) {
            match detach(cgroup, surplus.as_fd()) {
                // Gone in between, which is what was wanted.
                Ok(())
                | Err(SysError {
                    errno: Errno::NOENT, ..
                }) => {}
                Err(SysError { errno, .. }) => {
                    return Err(Error::os("bpf(BPF_PROG_DETACH)", errno).doing("remove an old device filter"));
                }
            }
        }
        Ok(())
    }
}

fn attach_error(SysError { errno, .. }: SysError) -> Error {
    let error = Error::os("bpf(BPF_PROG_ATTACH)", errno)
        .with_field("linux.resources.devices")
        .doing("attach the device filter to the cgroup");
    match errno {
        Errno::PERM => error.with_kind(ErrorKind::Denied).with_hint(
            "the privilege is missing, or a parent cgroup has a device filter attached as the only one",
        ),
        Errno::TOOBIG => error.with_hint("the cgroup has the kernel's greatest number of filters"),
        _ => error,
    }
}

/// The end of a verifier log, where the reason is.
fn last_lines(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    format!("verifier: {}", lines[lines.len().saturating_sub(4)..].join("; "))
}

/// The device filters attached to exactly this cgroup, in the kernel's order.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MOST_PROGRAMS];
    let count = query(cgroup, &mut ids).map_err(|error| {
        Error::os("bpf(BPF_PROG_QUERY)", error.errno).doing("list the cgroup's device filters")
    })?;
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count.min(MOST_PROGRAMS)] {
        match program_by_id(*id) {
            Ok(program) => programs.push(program),
            // Detached by somebody else since the query.
            Err(SysError {
                errno: Errno::NOENT, ..
            }) => {}
            Err(SysError { errno, .. }) => {
                return Err(
                    Error::os("bpf(BPF_PROG_GET_FD_BY_ID)", errno).doing("open the cgroup's device filter")
                );
            }
        }
    }
    Ok(programs)
}

/// How many device filters are attached to exactly this cgroup.
#[cfg(test)]
pub(super) fn count_attached(cgroup: BorrowedFd<'_>) -> usize {
    query(cgroup, &mut [0; MOST_PROGRAMS]).unwrap()
}

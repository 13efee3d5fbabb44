//! Runs in: RUNTIME. The commands of `bpf(2)` that a device filter needs: load, attach, replace. What the program
//! says is decided in `devices.rs`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::devices::BpfInsn;
use crate::{Errno, Error, ErrorKind, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of parent and child cgroups all run, and each must allow: a nested container cannot widen its filter.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// The kernel's own limit on programs attached to one cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST_PROGRAMS: usize = 64;
const VERIFIER_LOG_SIZE: usize = 64 * 1024;

/// The `BPF_PROG_LOAD` member of `union bpf_attr`, up to the name; the kernel reads the rest as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The member for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttributes {
    target: RawFd,
    program: RawFd,
    attach_type: u32,
    flags: u32,
    replaced_program: RawFd,
}

#[repr(C)]
struct QueryAttributes {
    target: RawFd,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    program_count: u32,
    padding: u32,
}

#[repr(C)]
struct ProgramIdAttributes {
    program_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A device filter in the kernel. It goes away with its last file descriptor and attachment.
#[derive(Debug)]
pub(super) struct DeviceProgram(OwnedFd);

impl DeviceProgram {
    /// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. Needs CAP_BPF or CAP_SYS_ADMIN in the first user
    /// namespace. If the verifier refuses, the error carries the end of its log.
    pub(super) fn load(instructions: &[BpfInsn]) -> Result<Self> {
        // The log slows the verifier down, so it is asked for only when there is something to explain.
        let errno = match load(instructions, &mut []) {
            Ok(program) => return Ok(Self(program)),
            Err(errno) => errno,
        };
        let error = Error::os("bpf(BPF_PROG_LOAD)", errno)
            .field("linux.resources.devices")
            .doing("load the device filter");
        if errno == Errno::PERM {
            return Err(error
                .with_kind(ErrorKind::Denied)
                .hint("device rules need CAP_BPF or CAP_SYS_ADMIN in the first user namespace"));
        }
        if errno == Errno::TOOBIG {
            return Err(error.hint("too many device rules for one eBPF program"));
        }
        let mut log = vec![0; VERIFIER_LOG_SIZE];
        match load(instructions, &mut log) {
            Ok(program) => Ok(Self(program)), // the first refusal has passed, as EAGAIN under a pending signal does
            Err(_) => Err(error.hint(last_lines(&log))),
        }
    }

    /// Attaches to a cgroup that has no filter of its own yet.
    pub(super) fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<()> {
        attach(cgroup, &self.0, None).map_err(attach_error)
    }

    /// Puts this filter in the place of whatever filters the cgroup has. At every moment one of them is in force.
    pub(super) fn replace(&self, cgroup: BorrowedFd<'_>) -> Result<()> {
        let attached = attached(cgroup)?;
        attach(cgroup, &self.0, attached.first()).map_err(attach_error)?;
        for surplus in attached.iter().skip(1) {
            match detach(cgroup, surplus) {
                // Gone in between, which is what was wanted.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Error::os("bpf(BPF_PROG_DETACH)", errno).doing("remove an old device filter"));
                }
            }
        }
        Ok(())
    }
}

fn attach_error(errno: Errno) -> Error {
    let error = Error::os("bpf(BPF_PROG_ATTACH)", errno)
        .field("linux.resources.devices")
        .doing("attach the device filter to the cgroup");
    match errno {
        Errno::PERM => error.with_kind(ErrorKind::Denied).hint(
            "the privilege is missing, or a parent cgroup has a device filter attached as the only one",
        ),
        Errno::TOOBIG => error.hint("the cgroup has the kernel's greatest number of filters"),
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
    let count = query(cgroup, &mut ids)
        .map_err(|errno| Error::os("bpf(BPF_PROG_QUERY)", errno).doing("list the cgroup's device filters"))?;
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count.min(MOST_PROGRAMS)] {
        match program_by_id(*id) {
            Ok(program) => programs.push(program),
            // Detached by somebody else since the query.
            Err(Errno::NOENT) => {}
            Err(errno) => {
                return Err(
                    Error::os("bpf(BPF_PROG_GET_FD_BY_ID)", errno).doing("open the cgroup's device filter")
                );
            }
        }
    }
    Ok(programs)
}

fn load(instructions: &[BpfInsn], log: &mut [u8]) -> rustix::io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..13].copy_from_slice(b"onggi_devices");
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buffer: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        kernel_version: 0,
        flags: 0,
        name,
    };
    // SAFETY: the addresses are of live slices with exactly the stated lengths, and of a C string; the kernel reads
    // the instructions and the licence and writes only into the log.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: BPF_PROG_LOAD returned it: a new file descriptor (close-on-exec, as all of bpf(2)) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(cgroup: BorrowedFd<'_>, program: &OwnedFd, replaced: Option<&OwnedFd>) -> rustix::io::Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced_program: replaced.map_or(0, AsRawFd::as_raw_fd),
    };
    // SAFETY: these attributes hold numbers only, no addresses.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

fn detach(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> rustix::io::Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
        replaced_program: 0,
    };
    // SAFETY: these attributes hold numbers only, no addresses.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes) }.map(drop)
}

/// Fills in the ids of the programs attached to the cgroup itself and returns how many there are.
fn query(cgroup: BorrowedFd<'_>, ids: &mut [u32; MOST_PROGRAMS]) -> rustix::io::Result<usize> {
    let mut attributes = QueryAttributes {
        target: cgroup.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        program_ids: ids.as_mut_ptr() as u64,
        program_count: MOST_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: `program_ids` is the address of a live array of `program_count` words; the kernel writes no more.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    Ok(attributes.program_count as usize)
}

fn program_by_id(id: u32) -> rustix::io::Result<OwnedFd> {
    let mut attributes = ProgramIdAttributes {
        program_id: id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: these attributes hold numbers only, no addresses.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned it: a new file descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The bare system call; returns its result, a file descriptor for some commands.
///
/// # Safety
/// `attributes` must be the member of `union bpf_attr` that belongs to `command`, and every address in it must stay
/// valid during the call for what the command reads or writes there.
unsafe fn bpf<Attributes>(command: libc::c_long, attributes: &mut Attributes) -> rustix::io::Result<RawFd> {
    // SAFETY: the address and the size are those of one live, exclusively borrowed value; its contents are the
    // caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    if result >= 0 {
        return Ok(result as RawFd);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// How many device filters are attached to exactly this cgroup.
#[cfg(test)]
pub(super) fn count_attached(cgroup: BorrowedFd<'_>) -> usize {
    query(cgroup, &mut [0; MOST_PROGRAMS]).unwrap()
}

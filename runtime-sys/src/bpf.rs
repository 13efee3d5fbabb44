//! bpf(2), for device filters: load, attach, replace. Runs in RUNTIME; here because this folder is where
//! unsafe code is.

use core::mem::size_of;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use super::{Call, Result, SysError, checked};

/// One eBPF instruction, in the kernel's own layout (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the fields are the kernel's; registers are destination and source, four bits each"
)]
pub struct BpfInsn {
    pub code: u8,
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of parent and child cgroups all run, and each must allow: a nested container cannot widen its
/// filter.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// The kernel's own limit on programs attached to one cgroup (`BPF_CGROUP_MAX_PROGS`).
pub const MOST_PROGRAMS: usize = 64;

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

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. With room in `log` the verifier writes its reasons
/// there.
pub fn load(instructions: &[BpfInsn], log: &mut [u8]) -> Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| SysError {
            call: Call::Bpf,
            errno: Errno::TOOBIG,
        })?,
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
        name: *b"onggi_devices\0\0\0",
    };
    // SAFETY: the addresses are of live slices with exactly the stated lengths, and of a C string; the kernel
    // reads the instructions and the licence and writes only into the log.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: BPF_PROG_LOAD returned it: a new file descriptor (close-on-exec, as all of bpf(2)) that nobody
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup, in the place of another where one is given.
pub fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced_program: replaced.map_or(0, |fd| fd.as_raw_fd()),
    };
    // SAFETY: these attributes hold numbers only, no addresses.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Detaches a program from a cgroup.
pub fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
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
pub fn query(cgroup: BorrowedFd<'_>, ids: &mut [u32; MOST_PROGRAMS]) -> Result<usize> {
    let mut attributes = QueryAttributes {
        target: cgroup.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        program_ids: ids.as_mut_ptr() as u64,
        program_count: MOST_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: `program_ids` is the address of a live array of `program_count` words; the kernel writes no
    // more.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    Ok(attributes.program_count as usize)
}

/// Opens a program by its id.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
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
/// `attributes` must be the member of `union bpf_attr` that belongs to `command`, and every address in it
/// must stay valid during the call for what the command reads or writes there.
unsafe fn bpf<Attributes>(command: libc::c_long, attributes: &mut Attributes) -> Result<RawFd> {
    // SAFETY: the address and the size are those of one live, exclusively borrowed value; its contents are
    // the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            core::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    checked(Call::Bpf, result).map(|value| value as RawFd)
}

//! Builds a filter with the real libseccomp, in the steps in which runc does.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};
use runtime_core::unstable::plan::seccomp::SockFilter;

#[repr(C)]
#[derive(Clone, Copy)]
struct Comparison {
    arg: c_uint,
    op: c_int,
    a: u64,
    b: u64,
}

#[link(name = "seccomp")]
unsafe extern "C" {
    fn seccomp_init(default_action: u32) -> *mut c_void;
    fn seccomp_release(filter: *mut c_void);
    fn seccomp_arch_add(filter: *mut c_void, arch: u32) -> c_int;
    fn seccomp_arch_remove(filter: *mut c_void, arch: u32) -> c_int;
    fn seccomp_attr_set(filter: *mut c_void, attr: c_int, value: u32) -> c_int;
    fn seccomp_syscall_resolve_name(name: *const c_char) -> c_int;
    fn seccomp_syscall_resolve_name_arch(arch: u32, name: *const c_char) -> c_int;
    fn seccomp_rule_add_array(
        filter: *mut c_void,
        action: u32,
        call: c_int,
        count: c_uint,
        args: *const Comparison,
    ) -> c_int;
    fn seccomp_export_pfc(filter: *mut c_void, fd: c_int) -> c_int;
    fn seccomp_export_bpf(filter: *mut c_void, fd: c_int) -> c_int;
}

const OPTIMIZE: c_int = 8;
const UNKNOWN_NAME: c_int = -1;

/// What libseccomp makes of a profile.
pub(crate) struct Built {
    pub(crate) program: Vec<SockFilter>,
    /// Its own account of it.
    pub(crate) account: String,
}

/// A filter context, released with the value.
struct Filter(*mut c_void);

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: the pointer came from seccomp_init and is released once, here.
        unsafe { seccomp_release(self.0) }
    }
}

/// Whether libseccomp knows the name, on any architecture.
pub(crate) fn knows(name: &str) -> bool {
    resolve(name) != UNKNOWN_NAME
}

fn resolve(name: &str) -> c_int {
    let name = CString::new(name).expect("names have no NUL");
    // SAFETY: the string ends with NUL and lives through the call.
    unsafe { seccomp_syscall_resolve_name(name.as_ptr()) }
}

/// The number of a call; negative if the architecture lacks it, -101 to -120 and -201 to -224 if it is also,
/// or only, made through `socketcall` or `ipc`.
pub(crate) fn number(name: &str, arch: Arch) -> c_int {
    let name = CString::new(name).expect("names have no NUL");
    // SAFETY: the string ends with NUL and lives through the call.
    unsafe { seccomp_syscall_resolve_name_arch(arch as u32, name.as_ptr()) }
}

/// The value that a filter returns for the action.
pub(crate) fn action(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(1),
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    }
}

fn operator(operator: Operator) -> c_int {
    match operator {
        Operator::ScmpCmpNe => 1,
        Operator::ScmpCmpLt => 2,
        Operator::ScmpCmpLe => 3,
        Operator::ScmpCmpEq => 4,
        Operator::ScmpCmpGe => 5,
        Operator::ScmpCmpGt => 6,
        Operator::ScmpCmpMaskedEq => 7,
    }
}

/// The program for the profile; `Err` is libseccomp's errno for a rule that it refuses. `only` takes the
/// place of the native and all listed architectures.
pub(crate) fn build(seccomp: &LinuxSeccomp, only: Option<Arch>, binary_tree: bool) -> Result<Built, i32> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret());
    // SAFETY: takes and returns plain values.
    let filter = Filter(unsafe { seccomp_init(default) });
    assert!(!filter.0.is_null(), "seccomp_init");
    let add_arch = |arch: Arch| {
        // SAFETY: a live context and a plain value.
        let result = unsafe { seccomp_arch_add(filter.0, arch as u32) };
        assert!(
            result == 0 || result == -libc::EEXIST,
            "seccomp_arch_add {arch}: {result}"
        );
    };
    match only {
        Some(arch) if arch != Arch::ScmpArchX86_64 => {
            // SAFETY: a live context and a plain value.
            let removed = unsafe { seccomp_arch_remove(filter.0, 0) };
            assert_eq!(removed, 0);
            add_arch(arch);
        }
        Some(_) => {}
        None => seccomp
            .architectures()
            .iter()
            .flatten()
            .for_each(|arch| add_arch(*arch)),
    }
    if binary_tree {
        // SAFETY: a live context and plain values.
        let set = unsafe { seccomp_attr_set(filter.0, OPTIMIZE, 2) };
        assert_eq!(set, 0);
    }
    for rule in seccomp.syscalls().iter().flatten() {
        let value = action(rule.action(), rule.errno_ret());
        if value == default {
            continue;
        }
        let args: Vec<Comparison> = rule
            .args()
            .iter()
            .flatten()
            .map(|arg| Comparison {
                arg: arg.index() as c_uint,
                op: operator(arg.op()),
                a: arg.value(),
                b: arg.value_two().unwrap_or(0),
            })
            .collect();
        let twice = (0..6).any(|index| args.iter().filter(|arg| arg.arg == index).count() > 1);
        for name in rule.names() {
            let number = resolve(name);
            if number == UNKNOWN_NAME {
                continue;
            }
            for conditions in args.chunks(if twice { 1 } else { args.len().max(1) }) {
                add_rule(&filter, value, number, conditions)?;
            }
            if args.is_empty() {
                add_rule(&filter, value, number, &[])?;
            }
        }
    }
    let program = export(&filter, only.is_some_and(is_big_endian));
    Ok(Built {
        program,
        account: String::from_utf8(export_to(&filter, seccomp_export_pfc)).expect("text"),
    })
}

fn add_rule(filter: &Filter, action: u32, number: c_int, conditions: &[Comparison]) -> Result<(), i32> {
    // SAFETY: a live context; the array has the length that is given, and is only read.
    let result = unsafe {
        seccomp_rule_add_array(
            filter.0,
            action,
            number,
            conditions.len() as c_uint,
            conditions.as_ptr(),
        )
    };
    if result == 0 { Ok(()) } else { Err(-result) }
}

/// MIPS in its three ABIs, POWER and s390 are listed by their big-endian names here.
pub(crate) fn is_big_endian(arch: Arch) -> bool {
    (arch as u32) & 0x4000_0000 == 0
}

fn export(filter: &Filter, big_endian: bool) -> Vec<SockFilter> {
    export_to(filter, seccomp_export_bpf)
        .chunks_exact(8)
        .map(|raw| {
            let (code, k) = ([raw[0], raw[1]], [raw[4], raw[5], raw[6], raw[7]]);
            let code = if big_endian {
                u16::from_be_bytes(code)
            } else {
                u16::from_le_bytes(code)
            };
            let k = if big_endian {
                u32::from_be_bytes(k)
            } else {
                u32::from_le_bytes(k)
            };
            // Where libseccomp copies a return, it converts the value to big-endian a second time. Actions
            // have their bits in the high half.
            let twice = big_endian && code == 0x06 && k != 0 && k >> 16 == 0;
            SockFilter {
                code,
                jt: raw[2],
                jf: raw[3],
                k: if twice { k.swap_bytes() } else { k },
            }
        })
        .collect()
}

fn export_to(filter: &Filter, function: unsafe extern "C" fn(*mut c_void, c_int) -> c_int) -> Vec<u8> {
    // SAFETY: the name ends with NUL.
    let fd = unsafe { libc::memfd_create(c"bpf".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create");
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    // SAFETY: a live context and an open descriptor.
    let result = unsafe { function(filter.0, file.as_raw_fd()) };
    assert_eq!(result, 0, "seccomp_export");
    let mut bytes = Vec::new();
    file.rewind().expect("rewind");
    file.read_to_end(&mut bytes).expect("read");
    bytes
}

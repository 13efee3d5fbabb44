//! The system calls of onggi, one wrapper each, and nothing else: a wrapper does what its name says, and its
//! error says which call failed.
//!
//! Most run in a child after `clone3`, where there is no heap and no lock may be taken; so none of them
//! allocates, takes a lock or keeps state. RUNTIME calls them too; what only RUNTIME needs says so. rustix
//! makes the call where it has a wrapper; where it has none, `libc::syscall` does. This is the only library
//! crate of onggi with `unsafe` code: one call a block.
#![no_std]
#![deny(missing_docs)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod arguments;
pub mod bpf;
pub mod credentials;
pub mod fs;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod process;

use rustix::io::Errno;

/// A failed system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {errno}", .call.name())]
pub struct SysError {
    /// Which call.
    pub call: Call,
    /// Its errno.
    pub errno: Errno,
}

/// The result of a wrapper.
pub type Result<T> = core::result::Result<T, SysError>;

macro_rules! calls {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// The system calls that init can fail in, as one byte of a failure record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is the call that its name says")]
        pub enum Call { $($name),* }

        impl Call {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Call] = &[$(Call::$name),*];

            /// The name as people write it.
            pub const fn name(self) -> &'static str {
                match self { $(Call::$name => $text),* }
            }
        }
    };
}

calls! {
    None = "check",
    Accept = "accept4",
    Bpf = "bpf",
    Capget = "capget",
    Capset = "capset",
    Chdir = "fchdir",
    Chmod = "fchmodat",
    Chown = "fchownat",
    Chroot = "chroot",
    Clone = "clone3",
    Close = "close",
    CloseRange = "close_range",
    CopyFile = "read/write",
    Dup = "dup3",
    Exec = "execve",
    Faccess = "faccessat2",
    Fsconfig = "fsconfig",
    Fsmount = "fsmount",
    Fsopen = "fsopen",
    Fspick = "fspick",
    Fstat = "fstat",
    Fstatfs = "fstatfs",
    Fcntl = "fcntl",
    Getcwd = "getcwd",
    Getdents = "getdents64",
    Getxattr = "getxattr",
    Ioctl = "ioctl",
    Ioprio = "ioprio_set",
    Keyctl = "keyctl",
    Listen = "listen",
    MemfdCreate = "memfd_create",
    Mkdir = "mkdirat",
    Mknod = "mknodat",
    Mmap = "mmap",
    Mount = "mount",
    MountSetattr = "mount_setattr",
    MoveMount = "move_mount",
    Munmap = "munmap",
    Open = "openat2",
    OpenTree = "open_tree",
    Personality = "personality",
    Pidfd = "pidfd_send_signal",
    PidfdOpen = "pidfd_open",
    PivotRoot = "pivot_root",
    Poll = "poll",
    Prctl = "prctl",
    Prlimit = "prlimit",
    Read = "read",
    Readlink = "readlinkat",
    Recv = "recvmsg",
    SchedSetaffinity = "sched_setaffinity",
    SchedSetattr = "sched_setattr",
    Seccomp = "seccomp",
    Send = "sendmsg",
    SetMempolicy = "set_mempolicy",
    Setdomainname = "setdomainname",
    Setgroups = "setgroups",
    Sethostname = "sethostname",
    Setns = "setns",
    Setpgid = "setpgid",
    Setresgid = "setresgid",
    Setresuid = "setresuid",
    Setsid = "setsid",
    Setsockopt = "setsockopt",
    Setxattr = "fsetxattr",
    Sigaction = "rt_sigaction",
    Sigmask = "rt_sigprocmask",
    Signalfd = "signalfd",
    Socket = "socket",
    Statx = "statx",
    Symlink = "symlinkat",
    Unlink = "unlinkat",
    Umount = "umount2",
    Unshare = "unshare",
    Wait = "waitid",
    Write = "write",
}

/// Gives an errno the name of the call it came from.
pub(crate) trait Named<T> {
    fn named(self, call: Call) -> Result<T>;
}

impl<T> Named<T> for rustix::io::Result<T> {
    fn named(self, call: Call) -> Result<T> {
        self.map_err(|errno| SysError { call, errno })
    }
}

/// The result of a raw `libc::syscall`: -1 and errno, or the value.
pub(crate) fn checked(call: Call, value: libc::c_long) -> Result<libc::c_long> {
    if value >= 0 {
        return Ok(value);
    }
    // SAFETY: takes nothing; the pointer is to this thread's errno, also after clone3.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid as long as the thread lives.
    let errno = unsafe { *errno };
    Err(SysError {
        call,
        errno: Errno::from_raw_os_error(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::Call;

    #[test]
    fn the_number_of_a_call_is_its_place_in_the_list() {
        for (number, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, number, "{}", call.name());
        }
    }
}

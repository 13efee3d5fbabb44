//! Runs in: RUNTIME up to `clone3`, and from there in the child, which never comes back here.

use runtime_sys::Result;
use runtime_sys::memory::{self, Image, Role};
use runtime_sys::namespace::Kinds;
use runtime_sys::process::{self, CloneFlags, Cloned, clone3};
use rustix::fd::{BorrowedFd, OwnedFd};

/// A process that RUNTIME has made.
#[derive(Debug)]
pub struct Child {
    /// Pid in RUNTIME's pid namespace.
    pub pid: i32,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// How the child is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Birth<'a> {
    /// The user and pid namespace, and what else must be there from the first instruction on.
    pub namespaces: Kinds,
    /// The cgroup that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

impl Birth<'static> {
    /// In a new user namespace.
    pub const NEW_USER: Self = Self {
        namespaces: Kinds::USER,
        cgroup: None,
    };
}

/// Makes a child, which goes on in [`Role::run`] with `args` and nothing else of this program's memory. Each
/// kind of child is the type of its arguments: see the table in `lib.rs`.
///
/// # Errors
/// The errno of `clone3`; ENOEXEC for a program or library that binds functions late (`-z lazy`).
pub fn start<R: Role>(birth: Birth<'_>, args: &R) -> Result<Child> {
    let image = Image::of_this_program()?;
    if let Some(child) = make_child(birth)? {
        return Ok(child);
    }
    let Err(_no_memory) = memory::leave_host(&image, args);
    // Without memory nothing can be told: RUNTIME sees that the child has ended.
    process::exit_now(1)
}

/// `None` in the child. All signals are blocked across the clone: the child must not run a handler of the
/// host program, and unblocks them once it has reset their actions.
fn make_child(birth: Birth<'_>) -> Result<Option<Child>> {
    let mask = process::set_signal_mask(u64::MAX)?;
    let flags = CloneFlags {
        namespaces: birth.namespaces,
        flags: 0,
        cgroup: birth.cgroup,
        exit_signal: libc::SIGCHLD as u64,
    };
    let cloned = clone3(flags);
    if let Ok(Cloned::Child) = cloned {
        return Ok(None);
    }
    process::set_signal_mask(mask)?;
    match cloned? {
        Cloned::Parent(pid, pidfd) => Ok(Some(Child { pid, pidfd })),
        Cloned::Child => Ok(None),
    }
}

//! Runs in: RUNTIME up to `clone3`, and from there in the child, which never comes back here.

use rustix::fd::{BorrowedFd, OwnedFd};

use crate::args::{CriuArgs, HolderArgs, HostHookArgs, InitArgs, JoinProcessArgs, MounterArgs, TreesArgs};
use crate::sys::process::{CloneFlags, Cloned, clone3};
use crate::sys::{Result, process};
use crate::{criu, host_hook, init, intermediate, join, mounter, sweeper, trees};

/// A process that RUNTIME has made.
#[derive(Debug)]
pub struct Child {
    /// Pid in RUNTIME's pid namespace.
    pub pid: i32,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// How the child is made.
#[derive(Debug, Clone, Copy)]
pub struct Birth<'a> {
    /// `CLONE_NEWUSER`, `CLONE_NEWPID` and what else must be there from the first instruction on.
    pub flags: u64,
    /// The cgroup that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Makes INIT, or INTERMEDIATE where the arguments have one.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_init(birth: Birth<'_>, args: InitArgs<'_>) -> Result<Child> {
    let has_its_cgroup = birth.cgroup.is_some();
    match make_child(birth)? {
        Some(child) => Ok(child),
        None if args.intermediate.is_some() => intermediate::run(args),
        None => init::run(args, has_its_cgroup),
    }
}

/// Makes EXEC.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_join(birth: Birth<'_>, args: JoinProcessArgs<'_>) -> Result<Child> {
    match make_child(birth)? {
        Some(child) => Ok(child),
        None => join::run(args),
    }
}

/// `None` in the child. All signals are blocked across the clone: the child must not run a handler of the host
/// program, and unblocks them once it has reset their actions.
fn make_child(birth: Birth<'_>) -> Result<Option<Child>> {
    let mask = process::set_signal_mask(u64::MAX)?;
    let flags = CloneFlags {
        flags: birth.flags,
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

/// Makes TREES, which sends [`crate::wire::Message::Tree`] records over its link, and ends.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_trees(args: TreesArgs<'_>) -> Result<Child> {
    match make_child(Birth {
        flags: 0,
        cgroup: None,
    })? {
        Some(child) => Ok(child),
        None => trees::run(args),
    }
}

/// Makes MOUNTER, which sends Ready over its link when it is done, and ends.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_mounter(args: MounterArgs<'_>) -> Result<Child> {
    match make_child(Birth {
        flags: 0,
        cgroup: None,
    })? {
        Some(child) => Ok(child),
        None => mounter::run(args),
    }
}

/// Makes a process with a new mount namespace that a container's user namespace owns, until its link is closed or it
/// is killed. It sends Ready when the namespace is there.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_mounts_holder(args: HolderArgs<'_>) -> Result<Child> {
    match make_child(Birth {
        flags: 0,
        cgroup: None,
    })? {
        Some(child) => Ok(child),
        None => mounter::hold(args),
    }
}

/// Makes the process that becomes criu, in the cgroup that restored processes are to be in.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_criu(cgroup: Option<BorrowedFd<'_>>, args: CriuArgs<'_>) -> Result<Child> {
    match make_child(Birth { flags: 0, cgroup })? {
        Some(child) => Ok(child),
        None => criu::run(args),
    }
}

/// Makes a process that becomes the program of a hook in the runtime's namespaces.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_host_hook(args: HostHookArgs<'_>) -> Result<Child> {
    match make_child(Birth {
        flags: 0,
        cgroup: None,
    })? {
        Some(child) => Ok(child),
        None => host_hook::run(args),
    }
}

/// Makes a process that does nothing but be in a new user namespace, until `link` is closed or it is killed.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_namespace_holder(link: BorrowedFd<'_>) -> Result<Child> {
    let birth = Birth {
        flags: libc::CLONE_NEWUSER as u64,
        cgroup: None,
    };
    match make_child(birth)? {
        Some(child) => Ok(child),
        None => hold(link),
    }
}

/// Makes a process in a new user namespace that removes the cgroups below `cgroup`, once its ids are mapped and something
/// has come over `link`. It ends with 0, or the errno of what it could not remove.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_sweeper(link: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> Result<Child> {
    let birth = Birth {
        flags: libc::CLONE_NEWUSER as u64,
        cgroup: None,
    };
    match make_child(birth)? {
        Some(child) => Ok(child),
        None => sweeper::run(link, cgroup),
    }
}

/// Runs in: the holder.
fn hold(link: BorrowedFd<'_>) -> ! {
    // Without the signal it would outlive a RUNTIME that was killed: then better not be there at all.
    if process::parent_death_signal(Some(rustix::process::Signal::KILL)).is_ok() {
        let _ended = process::wait_readable(link, None);
    }
    process::exit_now(0)
}

//! Runs in: RUNTIME up to `clone3`, and from there in the child, which never comes back here.

use rustix::fd::{BorrowedFd, OwnedFd};

use crate::args::{
    CriuArgs, HolderArgs, HostHookArgs, InitArgs, JoinProcessArgs, MounterArgs, NamespaceHolderArgs,
    ProcfsArgs, SweeperArgs, TreesArgs,
};
use crate::report::Stop;
use crate::step::Step;
use crate::wire::Link;
use crate::{criu, host_hook, init, intermediate, join, mounter, procfs, sweeper, trees};
use runtime_sys::memory::{self, Carry, Image};
use runtime_sys::process::{CloneFlags, Cloned, clone3};
use runtime_sys::{Result, SysError, process};

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
    /// `CLONE_NEWUSER`, `CLONE_NEWPID` and what else must be there from the first instruction on.
    pub flags: u64,
    /// The cgroup that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

const NEW_USER: Birth<'static> = Birth {
    flags: libc::CLONE_NEWUSER as u64,
    cgroup: None,
};

/// Makes INIT, or INTERMEDIATE where the arguments have one.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_init(birth: Birth<'_>, args: InitArgs<'_>) -> Result<Child> {
    let run = match (&args.intermediate, birth.cgroup) {
        (Some(_), _) => intermediate::run,
        (None, Some(_)) => init::run_in_its_cgroup,
        (None, None) => init::run,
    };
    start(birth, &args, run, |args, error| give_up(args.link, error))
}

/// Makes EXEC.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_join(birth: Birth<'_>, args: JoinProcessArgs<'_>) -> Result<Child> {
    start(birth, &args, join::run, |args, error| give_up(args.link, error))
}

/// Makes TREES, which sends [`crate::wire::Message::Tree`] records over its link, and ends.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_trees(args: TreesArgs<'_>) -> Result<Child> {
    start(Birth::default(), &args, trees::run, |args, error| {
        give_up(args.link, error)
    })
}

/// Makes PROCFS, which sends [`crate::wire::Message::Procfs`] over its link, and ends.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_procfs(args: ProcfsArgs<'_>) -> Result<Child> {
    start(Birth::default(), &args, procfs::run, |args, error| {
        give_up(args.link, error)
    })
}

/// Makes MOUNTER, which sends Ready over its link when it is done, and ends.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_mounter(args: MounterArgs<'_>) -> Result<Child> {
    start(Birth::default(), &args, mounter::run, |args, error| {
        give_up(args.link, error)
    })
}

/// Makes a process with a new mount namespace that a container's user namespace owns, until its link is closed or it
/// is killed. It sends Ready when the namespace is there.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_mounts_holder(args: HolderArgs<'_>) -> Result<Child> {
    start(Birth::default(), &args, mounter::hold, |args, error| {
        give_up(args.link, error)
    })
}

/// Makes the process that becomes criu, in the cgroup that restored processes are to be in.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_criu(cgroup: Option<BorrowedFd<'_>>, args: CriuArgs<'_>) -> Result<Child> {
    start(Birth { flags: 0, cgroup }, &args, criu::run, |args, error| {
        give_up(args.link, error)
    })
}

/// Makes a process that becomes the program of a hook in the runtime's namespaces.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_host_hook(args: HostHookArgs<'_>) -> Result<Child> {
    start(Birth::default(), &args, host_hook::run, |args, error| {
        host_hook::give_up(args.failure, error)
    })
}

/// Makes a process that does nothing but be in a new user namespace, until `link` is closed or it is killed.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_namespace_holder(args: NamespaceHolderArgs<'_>) -> Result<Child> {
    // Whether it holds nothing but its own memory is nothing that RUNTIME waits for.
    start(NEW_USER, &args, hold, |_, _| process::exit_now(1))
}

/// Makes a process in a new user namespace that removes the cgroups below one, once its ids are mapped and something
/// has come over its link. It ends with 0, or the errno of what it could not remove.
///
/// # Errors
/// The errno of `clone3`.
pub fn start_sweeper(args: SweeperArgs<'_>) -> Result<Child> {
    start(NEW_USER, &args, sweeper::run, |_, error| {
        process::exit_now(error.errno.raw_os_error())
    })
}

/// Makes a child that goes on in `run`, with its arguments and nothing else of this program's memory.
fn start<A: Carry>(
    birth: Birth<'_>,
    args: &A,
    run: fn(A::Carried) -> !,
    give_up: fn(&A::Carried, SysError) -> !,
) -> Result<Child> {
    let image = Image::of_this_program()?;
    match make_child(birth)? {
        Some(child) => Ok(child),
        // For want of memory: there is no way to say so without.
        None => match memory::leave_host(&image, args, run, give_up) {
            Ok(never) => match never {},
            Err(_) => process::exit_now(1),
        },
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

fn give_up(link: BorrowedFd<'_>, error: SysError) -> ! {
    Stop::new(Step::Detach, 0, error).report(Link(link))
}

/// Runs in: the holder.
fn hold(args: NamespaceHolderArgs<'_>) -> ! {
    // Without the signal it would outlive a RUNTIME that was killed: then better not be there at all.
    if process::parent_death_signal(Some(rustix::process::Signal::KILL)).is_ok() {
        let _ended = process::wait_readable(args.link, None);
    }
    process::exit_now(0)
}

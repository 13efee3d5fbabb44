//! Runs in: PROCFS, and for one system call in a child of it. Has a procfs opened in a pid namespace, for a
//! kernel that does not let anybody outside do that (before Linux 6.17). What the processes there see of it
//! has nothing: no files, no rights but those over an empty mount namespace, no memory but its own.
//!
//! fsopen(2) takes the pid namespace of its caller, and wants only rights over the caller's mount namespace.
//! The rights over the pid namespace are wanted later, of whoever makes the file system of it (`mounts.rs`).

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::args::ProcfsArgs;
use crate::report::{self, At, Result};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{namespaces, program};
use runtime_sys::memory::Role;
use runtime_sys::mount::{self, MountAttr};
use runtime_sys::namespace::Kinds;
use runtime_sys::process::{CloneFlags, Cloned};
use runtime_sys::{self as sys, Call, SysError, credentials, fs, namespace, process};

/// "nobody": the owner of nothing.
const NOBODY: u32 = 65534;
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// Exit statuses of the child: below, the number of a descriptor; from here on, an errno.
const ERRNO: i32 = 128;

impl Role for ProcfsArgs<'_> {
    /// Sends the context to RUNTIME and ends.
    fn run(args: ProcfsArgs<'static>) -> ! {
        let link = Link(args.link);
        report::end(work(&args, link), link)
    }

    fn give_up(args: &ProcfsArgs<'static>, error: SysError) -> ! {
        report::give_up(args.link, error)
    }
}

fn work(args: &ProcfsArgs<'_>, link: Link<'_>) -> Result<()> {
    program::detach(args.keep, false).at(Step::Detach)?;
    namespaces::join(args.user.as_slice())?;
    namespaces::join(core::slice::from_ref(&args.pids))?;
    become_nobody(args.user.is_some()).at(Step::User)?;
    namespace::unshare(Kinds::USER.with(Kinds::MOUNT)).at(Step::Unshare)?;
    leave_all_files().at(Step::Pivot)?;
    program::close_all_but(&[link.0], &[]).at(Step::Detach)?;
    let context = have_it_opened().at(Step::MountFilesystem)?;
    link.send_fd(Message::Procfs, context.as_fd())
        .at(Step::MountFilesystem)
}

/// With the rights to make a user namespace, where an ordinary user may not. In a user namespace of somebody
/// else's there may be no such id; its root is nobody on the host as well.
fn become_nobody(is_elsewhere: bool) -> sys::Result<()> {
    if is_elsewhere {
        return process::set_undumpable();
    }
    credentials::setgroups(&[])?;
    credentials::set_keep_capabilities(true)?;
    credentials::setresgid(NOBODY)?;
    credentials::setresuid(NOBODY)?;
    credentials::capset(CAP_SYS_ADMIN, CAP_SYS_ADMIN, 0)?;
    // The change of ids has taken both away.
    process::parent_death_signal(Some(Signal::KILL))?;
    process::set_undumpable()
}

/// An empty file system becomes the root, and nothing else is left in the mount namespace.
fn leave_all_files() -> sys::Result<()> {
    mount::mount_setattr_path(c"/", &MountAttr::propagation(libc::MS_PRIVATE), true)?;
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_create(context.as_fd())?;
    let empty = mount::fsmount(context.as_fd(), mount::ATTR_RDONLY)?;
    let root = fs::open_host(c"/", OFlags::PATH | OFlags::DIRECTORY)?;
    mount::attach(empty.as_fd(), root.as_fd())?;
    fs::chdir(empty.as_fd())?;
    mount::pivot_root_here()?;
    mount::detach(c".")?;
    fs::chdir_root()
}

/// The child is in the pid namespace, and has our table of descriptors: the context is in it when the child
/// has ended.
fn have_it_opened() -> sys::Result<OwnedFd> {
    let flags = CloneFlags {
        flags: libc::CLONE_FILES as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneFlags::default()
    };
    let pidfd = match process::clone3(flags)? {
        Cloned::Child => open_and_end(),
        Cloned::Parent(_, pidfd) => pidfd,
    };
    let errno = match process::wait(pidfd.as_fd())?.exit_status() {
        Some(number @ 3..ERRNO) => return Ok(fs::left_by_another(number)),
        Some(code @ ERRNO..) => Errno::from_raw_os_error(code - ERRNO),
        _ => Errno::SRCH,
    };
    Err(SysError {
        call: Call::Fsopen,
        errno,
    })
}

/// Runs in: the child of PROCFS, where others see it.
fn open_and_end() -> ! {
    match mount::fsopen(c"proc") {
        Ok(context) => process::exit_now(context.as_raw_fd()),
        Err(error) => process::exit_now(ERRNO + error.errno.raw_os_error()),
    }
}

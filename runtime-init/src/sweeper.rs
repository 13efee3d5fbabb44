//! Runs in: SWEEPER. Removes the cgroups below one, as root of a user namespace with the ids of a container:
//! some of them belong to ids that RUNTIME, an ordinary user, has no rights over. Kills nothing.

use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::args::SweeperArgs;
use crate::namespaces::become_root;
use runtime_sys::fs::{self, LONGEST_NAME};
use runtime_sys::memory::Role;
use runtime_sys::{self as sys, SysError, process};

impl Role for SweeperArgs<'_> {
    /// Waits until something comes over the link: then the ids are mapped. Its exit status is 0, or the errno
    /// that it met.
    fn run(args: SweeperArgs<'static>) -> ! {
        if let Err(error) = sweep(args.link, args.cgroup) {
            Self::give_up(&args, error)
        }
        process::exit_now(0)
    }

    fn give_up(_args: &SweeperArgs<'static>, error: SysError) -> ! {
        process::exit_now(error.errno.raw_os_error())
    }
}

fn sweep(link: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> sys::Result<()> {
    process::parent_death_signal(Some(Signal::KILL))?;
    process::wait_readable(link, None)?;
    // Id 0 need not be mapped; the capabilities of the namespace are there without it.
    let _unmapped = become_root(true);
    process::parent_death_signal(Some(Signal::KILL))?;
    empty(cgroup)
}

/// Depth costs neither descriptors nor stack: one directory is open at a time, and `..` leads back up.
fn empty(top: BorrowedFd<'_>) -> sys::Result<()> {
    let top_inode = fs::fstat(top)?.st_ino;
    let mut dir = open(top, c".")?;
    let mut name = [0; LONGEST_NAME];
    loop {
        let Some(child) = first_child(&dir, &mut name)? else {
            if fs::fstat(dir.as_fd())?.st_ino == top_inode {
                return Ok(());
            }
            dir = open(dir.as_fd(), c"..")?;
            continue;
        };
        match fs::rmdir(dir.as_fd(), child) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::NOENT => {}
            Err(error) if error.errno == Errno::BUSY => {
                dir = open(dir.as_fd(), child)?;
                // No cgroups in it, so it has processes.
                if first_child(&dir, &mut name)?.is_none() {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn open(dir: BorrowedFd<'_>, name: &core::ffi::CStr) -> sys::Result<OwnedFd> {
    fs::open_child(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn first_child<'n>(
    dir: &OwnedFd,
    name: &'n mut [u8; LONGEST_NAME],
) -> sys::Result<Option<&'n core::ffi::CStr>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    fs::rewind(dir.as_fd())?;
    fs::first_directory(dir.as_fd(), &mut buffer, name)
}

//! Runs in: INIT and EXEC, with the container's root. Makes a pty from the container's own devpts, sends the
//! master away, and makes the slave the controlling terminal and standard input, output and error.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{ConsoleArgs, Links, TargetArgs};
use crate::paths;
use crate::report::refused;
use runtime_sys::{self as sys, fs, mount, net, process};

/// Makes the terminal, if there is to be one, sends its master away, and puts the slave on standard input,
/// output and error. `dev`: what was mounted on /dev.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    console: Option<&ConsoleArgs<'_>>,
    dev: Option<u64>,
) -> sys::Result<()> {
    let Some(console) = console else { return Ok(()) };
    let master = open_multiplexer(root)?;
    net::unlock_pty(master.as_fd())?;
    let slave = net::open_pty_slave(master.as_fd())?;
    if let Some((rows, columns)) = console.size {
        net::set_window_size(slave.as_fd(), rows, columns)?;
    }
    if console.plain_newlines {
        net::leave_newlines(slave.as_fd())?;
    }
    if console.dev_console {
        become_dev_console(root, slave.as_fd(), dev)?;
    }
    net::send(console.socket, b"/dev/ptmx", Some(master.as_fd()))?;
    for target in 0..=2 {
        process::dup_onto(slave.as_fd(), target)?;
    }
    Ok(())
}

/// Makes the terminal on standard input that of the session, which this process leads.
pub(crate) fn take_control(console: Option<&ConsoleArgs<'_>>) -> sys::Result<()> {
    let [input, ..] = process::standard_descriptors();
    match console {
        Some(_) => net::set_controlling_terminal(input),
        None => Ok(()),
    }
}

/// Opens /dev/ptmx of the container. An image may have anything there, so it is looked at before it is
/// opened: a device node other than 5:2 could do harm by being opened.
fn open_multiplexer(root: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    let found = fs::open_in_root(root, c"dev/ptmx", OFlags::PATH)?;
    check_is_multiplexer(found.as_fd())?;
    let opened = fs::open_in_root(root, c"dev/ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
    check_is_multiplexer(opened.as_fd())?;
    Ok(opened)
}

fn check_is_multiplexer(file: BorrowedFd<'_>) -> sys::Result<()> {
    let stat = fs::fstat(file)?;
    let is_character_device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
    if is_character_device && stat.st_rdev == rustix::fs::makedev(5, 2) {
        return Ok(());
    }
    Err(refused(Errno::NODEV))
}

/// Mounts the slave, by descriptor, on /dev/console.
fn become_dev_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>, dev: Option<u64>) -> sys::Result<()> {
    let target = TargetArgs {
        path: c"console",
        is_directory: false,
        links: Links::Refuse,
        may_be_on_procfs: false,
    };
    let directory = paths::open_device_directory(root, c"dev", dev)?;
    let target = paths::open_target(directory.as_fd(), &target)?;
    let tree = mount::clone_tree(slave, false)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

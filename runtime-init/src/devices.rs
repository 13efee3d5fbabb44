//! Runs in: INIT. Nodes and links in /dev.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use crate::args::{DeviceArgs, LinkArgs, Links, TargetArgs};
use crate::paths;
use crate::report::{At, Result, refused};
use crate::step::Step;
use runtime_sys::{self as sys, SysError, fs, mount};

/// Makes the nodes, in order. The umask is 0 by now, so that modes are exact. `dev`: what was mounted on
/// /dev.
pub(crate) fn make_all(root: BorrowedFd<'_>, devices: &[DeviceArgs<'_>], dev: Option<u64>) -> Result<()> {
    let mut directory = None;
    for (index, device) in devices.iter().enumerate() {
        let index = index as u16;
        let open = match directory {
            Some((path, open)) if path == device.directory => open,
            _ => paths::open_device_directory(root, device.directory, dev).at_index(Step::Device, index)?,
        };
        make(open.as_fd(), device).at_index(Step::Device, index)?;
        directory = Some((device.directory, open));
    }
    Ok(())
}

fn make(directory: BorrowedFd<'_>, device: &DeviceArgs<'_>) -> sys::Result<()> {
    if let Some(host_node) = device.host_node {
        if is_directory(directory, device.name)? {
            return Ok(());
        }
        return bind(directory, device.name, host_node);
    }
    match fs::mknod(
        directory,
        device.name,
        device.file_type,
        device.mode,
        device.device,
    ) {
        Ok(()) => {}
        Err(SysError {
            errno: Errno::EXIST, ..
        }) => return check_existing(directory, device),
        Err(error) => {
            if is_directory(directory, device.name)? {
                return Ok(());
            }
            let node = instead_of(error, device.instead, device.file_type, device.device)?;
            return bind(directory, device.name, node.as_fd());
        }
    }
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let made = fs::open_child(directory, device.name, OFlags::PATH | OFlags::NOFOLLOW)?;
    // Who has the directory, too, may have put something else there.
    if !is_the_device(&fs::fstat(made.as_fd())?, device) {
        return Err(refused(Errno::EXIST));
    }
    fs::chown_found(made.as_fd(), device.uid, device.gid)
}

fn bind(directory: BorrowedFd<'_>, name: &CStr, host_node: BorrowedFd<'_>) -> sys::Result<()> {
    let target = TargetArgs {
        path: name,
        is_directory: false,
        links: Links::Refuse,
        may_be_on_procfs: false,
    };
    let target = paths::open_target(directory, &target)?;
    mount::attach(host_node, target.as_fd())
}

/// Runs in: INIT and TREES. A copy of the host's node, where a device cgroup, a seccomp filter or a security
/// module that the runtime is under has refused to make one; that error, if the host has not this device at
/// the place.
pub(crate) fn instead_of(
    error: SysError,
    path: Option<&CStr>,
    file_type: u32,
    device: u64,
) -> sys::Result<OwnedFd> {
    let (Errno::PERM | Errno::ACCESS, Some(path)) = (error.errno, path) else {
        return Err(error);
    };
    let node = fs::open_host(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(|_| error)?;
    let stat = fs::fstat(node.as_fd())?;
    if (stat.st_mode & libc::S_IFMT, stat.st_rdev) != (file_type, device) {
        return Err(error);
    }
    let tree = mount::clone_tree(node.as_fd(), false)?;
    mount::mount_setattr(tree.as_fd(), &mount::DEVICE_NODE, false)?;
    Ok(tree)
}

/// An absolute path leads to what the host has.
pub(crate) fn is_directory(directory: BorrowedFd<'_>, name: &CStr) -> sys::Result<bool> {
    match fs::stat_child(directory, name) {
        Ok(stat) => Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR),
        Err(error) if error.errno == Errno::NOENT => Ok(false),
        Err(error) => Err(error),
    }
}

/// The spec (config-linux.md, Devices) wants an error where something else is there already. A directory is
/// what a mount is on, as /dev/shm, and stays what it is: nobody takes it for the device.
fn check_existing(directory: BorrowedFd<'_>, device: &DeviceArgs<'_>) -> sys::Result<()> {
    let stat = fs::stat_child(directory, device.name)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Ok(());
    }
    match is_the_device(&stat, device) {
        true => Ok(()),
        false => Err(refused(Errno::EXIST)),
    }
}

fn is_the_device(stat: &Stat, device: &DeviceArgs<'_>) -> bool {
    let same_type = stat.st_mode & libc::S_IFMT == device.file_type;
    same_type && (device.file_type == libc::S_IFIFO || stat.st_rdev == device.device)
}

/// Makes the links in /dev. A link that is there already stays, unless the kernel's own (ptmx) must be
/// replaced.
pub(crate) fn link_all(root: BorrowedFd<'_>, links: &[LinkArgs<'_>], dev: Option<u64>) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let dev = paths::open_device_directory(root, c"dev", dev).at(Step::DeviceLink)?;
    for (index, link) in links.iter().enumerate() {
        make_link(dev.as_fd(), link).at_index(Step::DeviceLink, index as u16)?;
    }
    Ok(())
}

fn make_link(dev: BorrowedFd<'_>, link: &LinkArgs<'_>) -> sys::Result<()> {
    match fs::symlink(link.target, dev, link.name) {
        Err(SysError {
            errno: Errno::EXIST, ..
        }) if link.replace => {
            fs::unlink(dev, link.name)?;
            fs::symlink(link.target, dev, link.name)
        }
        Err(SysError {
            errno: Errno::EXIST, ..
        }) => Ok(()),
        other => other,
    }
}

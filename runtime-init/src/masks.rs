//! Runs in: INIT, after pivot_root. Makes paths read-only or hides them. What does not exist needs neither.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::MaskArgs;
use crate::mounts;
use crate::report::{At, Result, refused};
use crate::step::Step;
use runtime_sys::{self as sys, SysError, fs};

/// `linux.readonlyPaths`.
pub(crate) fn make_readonly(root: BorrowedFd<'_>, paths: &[&CStr]) -> Result<()> {
    for (index, path) in paths.iter().enumerate() {
        if paths.iter().take(index).any(|earlier| earlier == path) {
            continue;
        }
        let at = |result: sys::Result<()>| result.at_index(Step::ReadonlyPath, index as u16);
        match find(root, path) {
            Ok(Some(target)) => at(mounts::readonly_over_itself(target.as_fd()))?,
            Ok(None) => {}
            Err(error) => at(Err(error))?,
        }
    }
    Ok(())
}

/// `linux.maskedPaths`: an empty tmpfs over directories (one superblock for all), /dev/null over files.
pub(crate) fn hide(root: BorrowedFd<'_>, masks: &MaskArgs<'_>) -> Result<()> {
    let mut tmpfs: Option<OwnedFd> = None;
    let mut null_used = false;
    for (index, path) in masks.paths.iter().enumerate() {
        hide_one(root, path, masks, &mut tmpfs, &mut null_used).at_index(Step::MaskedPath, index as u16)?;
    }
    Ok(())
}

fn hide_one(
    root: BorrowedFd<'_>,
    path: &CStr,
    masks: &MaskArgs<'_>,
    tmpfs: &mut Option<OwnedFd>,
    null_used: &mut bool,
) -> sys::Result<()> {
    let Some(target) = find(root, path)? else {
        return Ok(());
    };
    let found = fs::fstat(target.as_fd())?;
    // Named twice, or by a link: what is there is the mask.
    let is_mask = |mask: BorrowedFd<'_>| -> sys::Result<bool> {
        let mask = fs::fstat(mask)?;
        Ok((mask.st_dev, mask.st_ino) == (found.st_dev, found.st_ino))
    };
    if found.st_mode & libc::S_IFMT != libc::S_IFDIR {
        let null = masks.null.ok_or(refused(Errno::BADF))?;
        if is_mask(null)? {
            return Ok(());
        }
        mounts::attach_copy(null, target.as_fd(), !*null_used)?;
        *null_used = true;
        return Ok(());
    }
    let first = tmpfs.is_none();
    let tree = match tmpfs.take() {
        Some(tree) => tree,
        None => mounts::empty_tmpfs(masks.label)?,
    };
    if !first && is_mask(tree.as_fd())? {
        *tmpfs = Some(tree);
        return Ok(());
    }
    let attached = mounts::attach_copy(tree.as_fd(), target.as_fd(), first);
    *tmpfs = Some(tree);
    attached
}

fn find(root: BorrowedFd<'_>, path: &CStr) -> sys::Result<Option<OwnedFd>> {
    match fs::open_in_root(root, path, OFlags::PATH) {
        Ok(file) => Ok(Some(file)),
        Err(SysError {
            errno: Errno::NOENT | Errno::NOTDIR,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

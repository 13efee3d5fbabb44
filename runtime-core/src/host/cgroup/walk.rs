//! Runs in: RUNTIME. Visits the cgroups below a cgroup. A container makes these, with any name and to any
//! depth, and may add and remove them meanwhile.
//!
//! The walk holds one directory at a time and steps back by `..`, so depth costs neither file descriptors nor
//! stack and no path can grow too long. The file system has no symbolic links, and version 2 no rename, so
//! `..` leads back to where the walk came from.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::error::{CallResult, ErrorResult};
use crate::{Errno, Error, Result};

struct Level {
    name: CString,
    unvisited: Vec<CString>,
}

/// A cgroup on the walk.
pub(super) struct Visited<'a> {
    /// Its directory.
    pub(super) dir: BorrowedFd<'a>,
    levels: &'a [Level],
    name: &'a CStr,
}

impl Visited<'_> {
    /// Its path from where the walk began.
    pub(super) fn path(&self) -> PathBuf {
        // The first level is the top itself.
        let above = self.levels.iter().skip(1).map(|level| level.name.as_c_str());
        let names = above.chain([self.name]);
        names.map(|name| OsStr::from_bytes(name.to_bytes())).collect()
    }
}

/// Calls `enter` with every cgroup below `top`, parents first, and `leave` with the parent and the name of
/// each, children first. What disappears meanwhile is passed over; so is what this user may not open, if
/// `closed` agrees.
pub(super) fn below(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(Visited<'_>) -> Result<()>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<()>,
    mut closed: impl FnMut(Error) -> Result<()>,
) -> Result<()> {
    let unvisited = children(top)?;
    if unvisited.is_empty() {
        return Ok(());
    }
    let mut dir = open(top, c".")?;
    let mut levels = vec![Level {
        name: CString::default(),
        unvisited,
    }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.unvisited.pop() {
            match open(dir.as_fd(), &name) {
                Ok(child) => {
                    enter(Visited {
                        dir: child.as_fd(),
                        levels: &levels,
                        name: &name,
                    })?;
                    let unvisited = match children(child.as_fd()) {
                        Err(error) if error.errno() == Some(Errno::ACCESS) => {
                            closed(error)?;
                            Vec::new()
                        }
                        children => children?,
                    };
                    levels.push(Level { name, unvisited });
                    dir = child;
                }
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) if error.errno() == Some(Errno::ACCESS) => closed(error)?,
                Err(error) => return Err(error),
            }
            continue;
        }
        let Some(done) = levels.pop().filter(|_| !levels.is_empty()) else {
            break;
        };
        dir = open(dir.as_fd(), c"..")?;
        leave(dir.as_fd(), &done.name)?;
    }
    Ok(())
}

/// Removes every cgroup below `top` that is empty by now; those with processes stay.
pub(super) fn remove_below(top: BorrowedFd<'_>) -> Result<()> {
    below(
        top,
        |_| Ok(()),
        |parent, name| match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Busy: it still has processes, or new sub-cgroups. The caller sees that in its own rmdir.
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => Ok(()),
            Err(errno) => Err(Error::os("unlinkat", errno).with_path(name.to_string_lossy().as_ref())),
        },
        Err,
    )
}

/// The names of the files of a cgroup; none if it is gone.
pub(super) fn files(dir: BorrowedFd<'_>) -> Result<Vec<String>> {
    let names = entries(dir, FileType::RegularFile)?;
    // The kernel's names are ASCII.
    Ok(names
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect())
}

pub(super) fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .call("openat")
        .path(name.to_string_lossy().as_ref())
}

/// The names of the cgroups directly below; none if the cgroup itself is gone.
pub(super) fn children(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let stat = rustix::fs::fstat(dir).call("fstat")?;
    // kernfs counts a directory's sub-directories in its links, besides `.` and its name: no need to list the
    // files.
    if stat.st_nlink <= 2 {
        return Ok(Vec::new());
    }
    entries(dir, FileType::Directory)
}

/// The names of a cgroup's entries of one kind; none if the cgroup is gone.
fn entries(dir: BorrowedFd<'_>, kind: FileType) -> Result<Vec<CString>> {
    let entries = match Dir::read_from(dir) {
        Ok(entries) => entries,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::os("openat", errno)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(Error::os("getdents64", errno)),
        };
        let name = entry.file_name();
        if entry.file_type() == kind && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

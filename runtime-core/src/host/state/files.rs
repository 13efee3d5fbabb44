//! Runs in: RUNTIME. File work below a held directory: whole files in, whole files out, and emptying a
//! directory. Every name is one component below an open directory and no symbolic link is followed. Knows
//! nothing of containers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// No file of a container is near this size: config.json is the largest. It bounds what a damaged one can
/// cost.
const LARGEST: usize = 64 << 20;

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Refuses a file name that is more than one component. Names come from this library, never from the user.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("{name:?} is not a file name"),
        ));
    }
    Ok(())
}

/// Replaces a file by its new contents: a reader sees the old bytes or the new, never a part. `dir_path` is
/// for errors.
pub(super) fn replace(dir: BorrowedFd<'_>, dir_path: &Path, name: &str, contents: &[u8]) -> Result<()> {
    let temporary = format!("{name}.new");
    create(dir, &temporary, OFlags::TRUNC, contents)
        .and_then(|()| rustix::fs::renameat(dir, &temporary, dir, name).map_err(|errno| ("renameat", errno)))
        .map_err(|(call, errno)| Error::os(call, errno).with_path(dir_path.join(name)))
}

/// Creates a file with these contents, mode 0600. On failure names the call. `extra` is `TRUNC` or `EXCL`.
pub(super) fn create(
    dir: BorrowedFd<'_>,
    name: &str,
    extra: OFlags,
    contents: &[u8],
) -> std::result::Result<(), (&'static str, Errno)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | extra;
    let file =
        rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| ("openat", errno))?;
    let mut rest = contents;
    while !rest.is_empty() {
        let written =
            rustix::io::retry_on_intr(|| rustix::io::write(&file, rest)).map_err(|errno| ("write", errno))?;
        rest = &rest[written..];
    }
    Ok(())
}

/// Reads a whole file at `path` below `dir` (`state.json`, or `id/state.json` below the root).
pub(super) fn read(dir: BorrowedFd<'_>, path: &str) -> std::result::Result<Vec<u8>, (&'static str, Errno)> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    // A fifo in its place must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve).map_err(|errno| ("openat2", errno))?;
    let mut bytes = vec![0; 8 << 10];
    let mut length = 0;
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes[length..]));
        match read.map_err(|errno| ("read", errno))? {
            0 => break,
            read => length += read,
        }
        if length > LARGEST {
            return Err(("read", Errno::FBIG));
        }
        if length == bytes.len() {
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Removes whatever is in a directory: anything with any name, in directories of any depth. A container with
/// the right to mount can write to a directory of its state (`notify`), and may have left this there.
pub(super) fn empty(dir: BorrowedFd<'_>, dir_path: &Path) -> Result<()> {
    let mut number = 0_u64;
    // Each round takes one level away: no path grows long, depth costs no descriptors, and no `..` is
    // trusted.
    while empty_one_level(dir, &mut number)
        .map_err(|(call, errno)| Error::os(call, errno).with_path(dir_path))?
    {}
    Ok(())
}

/// Removes the files and directories in `dir`, after the directories in these have been moved up into `dir`.
/// Whether there were any directories.
fn empty_one_level(
    dir: BorrowedFd<'_>,
    number: &mut u64,
) -> std::result::Result<bool, (&'static str, Errno)> {
    let mut had_directories = false;
    for entry in entries(dir).map_err(|errno| ("openat", errno))? {
        let entry = entry.map_err(|errno| ("getdents64", errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(|errno| ("unlinkat", errno))?;
            continue;
        }
        had_directories = true;
        let below =
            rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).map_err(|errno| ("openat", errno))?;
        move_up(&below, dir, number)?;
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(|errno| ("unlinkat", errno))?;
    }
    Ok(had_directories)
}

/// Removes the files in `from` and moves its directories to `to`, under names that nothing has there.
fn move_up(
    from: &OwnedFd,
    to: BorrowedFd<'_>,
    number: &mut u64,
) -> std::result::Result<(), (&'static str, Errno)> {
    for entry in entries(from.as_fd()).map_err(|errno| ("openat", errno))? {
        let entry = entry.map_err(|errno| ("getdents64", errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            rustix::fs::unlinkat(from, name, AtFlags::empty()).map_err(|errno| ("unlinkat", errno))?;
            continue;
        }
        loop {
            *number += 1;
            let free = format!("@{number}");
            match rustix::fs::renameat_with(from, name, to, &free, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(("renameat2", errno)),
            }
        }
    }
    Ok(())
}

/// The entries of a directory, read through an open file of its own: the caller's keeps its position and its
/// lock, and may be an `O_PATH` one.
pub(super) fn entries(dir: BorrowedFd<'_>) -> std::result::Result<rustix::fs::Dir, Errno> {
    rustix::fs::Dir::new(rustix::fs::openat(dir, ".", DIRECTORY, Mode::empty())?)
}

/// Whether the open directory is the one that `name` below `parent` now names.
pub(super) fn is_still_at(
    dir: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &str,
) -> std::result::Result<bool, Errno> {
    let held = rustix::fs::fstat(dir)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

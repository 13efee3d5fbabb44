//! Runs in: INIT. `tmpcopyup`: copies what lies at a tmpfs' place into the tmpfs. Bounded memory, no heap: a
//! frame of the stack for each level of directories.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use crate::report::refused;
use runtime_sys::{self as sys, fs};

/// How deep directories may nest: 64 frames of about 6 KiB fit the smallest stacks in use.
const MAX_DEPTH: usize = 64;

/// Copies the contents, owner and mode of the directory `from` (O_PATH) to the directory `to`.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> sys::Result<()> {
    let from = fs::open_child(from, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let to = fs::open_child(to, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    copy_directory(from.as_fd(), to.as_fd(), 0)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> sys::Result<()> {
    if depth == MAX_DEPTH {
        return Err(refused(Errno::NAMETOOLONG));
    }
    let mut entries = [MaybeUninit::uninit(); 2048];
    fs::for_each_entry(from, &mut entries, |name| {
        let stat = fs::stat_child(from, name)?;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                fs::mkdir(to, name, 0o700)?;
                let from = fs::open_child(from, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let to = fs::open_child(to, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                copy_directory(from.as_fd(), to.as_fd(), depth + 1)?;
                mapped(fs::chown(to.as_fd(), stat.st_uid, Some(stat.st_gid)))?;
                fs::chmod(to.as_fd(), stat.st_mode & 0o7777)
            }
            libc::S_IFREG => copy_file(from, to, name, &stat),
            libc::S_IFLNK => copy_link(from, to, name, &stat),
            kind => {
                fs::mknod(to, name, kind, stat.st_mode & 0o7777, stat.st_rdev)?;
                mapped(fs::chown_child(to, name, stat.st_uid, stat.st_gid))
            }
        }
    })
}

/// Files of an id that the user namespace does not have cannot be given to it: the copy is the container
/// root's.
fn mapped(chowned: sys::Result<()>) -> sys::Result<()> {
    match chowned {
        Err(sys::SysError {
            errno: Errno::INVAL, ..
        }) => Ok(()),
        other => other,
    }
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> sys::Result<()> {
    let source = fs::open_child(from, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let copy = fs::create_file(to, name, 0o600)?;
    let mut chunk = [0u8; 4096];
    loop {
        let got = fs::read(source.as_fd(), &mut chunk)?;
        if got == 0 {
            break;
        }
        fs::write_all(copy.as_fd(), chunk.get(..got).unwrap_or_default())?;
    }
    // The owner first: a change of owner clears the set-user-id bit.
    mapped(fs::chown(copy.as_fd(), stat.st_uid, Some(stat.st_gid)))?;
    fs::chmod(copy.as_fd(), stat.st_mode & 0o7777)
}

fn copy_link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> sys::Result<()> {
    let mut buffer = [0u8; 4096];
    let length = fs::read_link(from, name, &mut buffer)?.len();
    // The buffer is zeroed and the link shorter than it, so a null follows.
    let target = CStr::from_bytes_until_nul(buffer.get(..=length).unwrap_or_default())
        .map_err(|_| refused(Errno::NAMETOOLONG))?;
    fs::symlink(target, to, name)?;
    mapped(fs::chown_child(to, name, stat.st_uid, stat.st_gid))
}

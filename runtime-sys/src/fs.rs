//! Files and directories, always relative to an open directory.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{self as raw, AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatFs, Uid};
use rustix::io::Errno;

use super::{Call, Named, Result, SysError, checked};

/// How often `openat2` is tried again when it says EAGAIN, which it does when a rename or mount raced with
/// it.
const RACES: usize = 128;

fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    mode: u32,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..RACES {
        result = raw::openat2(
            dir,
            path,
            flags | OFlags::CLOEXEC,
            Mode::from_bits_retain(mode),
            resolve,
        );
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result.named(Call::Open)
}

/// Opens an untrusted path with `root` as its "/": symbolic links and `..` stay inside, magic links are
/// refused.
pub fn open_in_root(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    openat2(
        root,
        path,
        flags,
        0,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The same, and no component may be a symbolic link.
pub fn open_in_root_no_links(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    openat2(
        root,
        path,
        flags,
        0,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens below `dir` without leaving its mount: for a procfs handle, where links are the kernel's own.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, path, flags, 0, resolve)
}

/// Opens an absolute path of the host, following links: for paths that the operator gave.
pub fn open_host(path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    raw::openat(raw::CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).named(Call::Open)
}

/// The same, and no component may be a symbolic link: for paths that are resolved already.
pub fn open_host_no_links(path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    openat2(raw::CWD, path, flags, 0, ResolveFlags::NO_SYMLINKS)
}

/// Gives the root directory of a detached mount SELinux's label.
pub fn label_directory(mount: BorrowedFd<'_>, label: &CStr) -> Result<()> {
    let directory = openat2(
        mount,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY,
        0,
        ResolveFlags::BENEATH,
    )?;
    raw::fsetxattr(
        directory,
        c"security.selinux",
        label.to_bytes_with_nul(),
        raw::XattrFlags::empty(),
    )
    .named(Call::Setxattr)
}

/// Makes an empty file `name` directly in `dir`, which must not exist.
pub fn create_file(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    raw::openat(dir, name, flags, Mode::from_bits_retain(mode)).named(Call::Open)
}

/// Opens the existing `name` directly in `dir`; a symbolic link is refused unless `flags` has PATH.
pub fn open_child(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    raw::openat(
        dir,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named(Call::Open)
}

/// `mkdirat`.
pub fn mkdir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    raw::mkdirat(dir, name, Mode::from_bits_retain(mode)).named(Call::Mkdir)
}

/// `mknodat`: `file_type` is `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
pub fn mknod(dir: BorrowedFd<'_>, name: &CStr, file_type: u32, mode: u32, device: Dev) -> Result<()> {
    let kind = FileType::from_raw_mode(file_type);
    raw::mknodat(dir, name, kind, Mode::from_bits_retain(mode), device).named(Call::Mknod)
}

/// `symlinkat`.
pub fn symlink(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    raw::symlinkat(target, dir, name).named(Call::Symlink)
}

/// `unlinkat` of something that is no directory.
pub fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    raw::unlinkat(dir, name, AtFlags::empty()).named(Call::Unlink)
}

/// `readlinkat` into `buffer`; the link's bytes. EOVERFLOW if it does not fit.
pub fn read_link<'b>(dir: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let capacity = buffer.len();
    let pointer = buffer.as_mut_ptr();
    // SAFETY: name is a C string; the kernel writes at most `capacity` bytes to the live buffer.
    let length = unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            dir.as_raw_fd(),
            name.as_ptr(),
            pointer,
            capacity,
        )
    };
    let length = checked(Call::Readlink, length)? as usize;
    match buffer.get(..length) {
        Some(link) if length < capacity => Ok(link),
        _ => Err(SysError {
            call: Call::Readlink,
            errno: Errno::OVERFLOW,
        }),
    }
}

/// `fstat`.
pub fn fstat(file: BorrowedFd<'_>) -> Result<Stat> {
    raw::fstat(file).named(Call::Fstat)
}

/// What tells a file in one mount from every other: device, inode, and the mount's id, which is free again
/// once the mount is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// `STATX_MNT_ID`, as in the first field of mountinfo.
    pub mount: u64,
}

/// The identity of an open file.
pub fn identity(file: BorrowedFd<'_>) -> Result<Identity> {
    let wanted = raw::StatxFlags::INO | raw::StatxFlags::MNT_ID;
    let stat = raw::statx(file, c"", AtFlags::EMPTY_PATH, wanted).named(Call::Statx)?;
    Ok(Identity {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        mount: stat.stx_mnt_id,
    })
}

/// `fstatat` without following a link at the end.
pub fn stat_child(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat> {
    raw::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).named(Call::Fstat)
}

/// `stat` of a path as the calling process sees it, links followed.
pub fn stat(path: &CStr) -> Result<Stat> {
    raw::statat(raw::CWD, path, AtFlags::empty()).named(Call::Fstat)
}

/// `fstatat` below a directory, of what a last link leads to.
pub fn stat_below(dir: BorrowedFd<'_>, path: &CStr) -> Result<Stat> {
    raw::statat(dir, path, AtFlags::empty()).named(Call::Fstat)
}

/// A descriptor that a process with the same table has made, and has left there at its end.
pub fn left_by_another(number: RawFd) -> OwnedFd {
    // SAFETY: number is not -1; whoever has made it is gone, and has told nobody else.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// `fstatfs`.
pub fn fstatfs(file: BorrowedFd<'_>) -> Result<StatFs> {
    raw::fstatfs(file).named(Call::Fstatfs)
}

/// Whether the effective user may execute `path`: `faccessat2(X_OK, AT_EACCESS)`.
///
/// Seccomp profiles from before Linux 5.8 deny the call itself. Then a file that somebody may execute passes:
/// `execve` has the last word.
pub fn may_execute(path: &CStr) -> Result<()> {
    match raw::accessat(raw::CWD, path, raw::Access::EXEC_OK, AtFlags::EACCESS) {
        Err(Errno::PERM | Errno::NOSYS) if stat(path)?.st_mode & 0o111 == 0 => Err(Errno::ACCESS),
        Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        other => other,
    }
    .named(Call::Faccess)
}

/// `fchmod`.
pub fn chmod(file: BorrowedFd<'_>, mode: u32) -> Result<()> {
    raw::fchmod(file, Mode::from_bits_retain(mode)).named(Call::Chmod)
}

/// `fchmodat` of `name` in `dir`, which the caller has just made and which is no link.
pub fn chmod_child(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    raw::chmodat(dir, name, Mode::from_bits_retain(mode), AtFlags::empty()).named(Call::Chmod)
}

/// `fchown` of an open file.
pub fn chown(file: BorrowedFd<'_>, uid: u32, gid: Option<u32>) -> Result<()> {
    raw::fchown(file, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw)).named(Call::Chown)
}

/// `fchownat` of what an O_PATH descriptor has found.
pub fn chown_found(found: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    raw::chownat(found, c"", uid, gid, AtFlags::EMPTY_PATH).named(Call::Chown)
}

/// `fchownat` without following a link.
pub fn chown_child(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    raw::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).named(Call::Chown)
}

/// `fchdir`.
pub fn chdir(dir: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(dir).named(Call::Chdir)
}

/// `chdir("/")`.
pub fn chdir_root() -> Result<()> {
    rustix::process::chdir(c"/").named(Call::Chdir)
}

/// Whether the working directory is inside the root: the kernel says "(unreachable)..." where it is not.
pub fn cwd_is_reachable() -> Result<bool> {
    let mut buffer = [0u8; 4200];
    // SAFETY: the kernel writes at most the length given to the live buffer.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    checked(Call::Getcwd, length)?;
    Ok(buffer.first() == Some(&b'/'))
}

/// `read`, going on after a signal.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match rustix::io::read(file, &mut *buffer) {
            Err(Errno::INTR) => {}
            other => return other.named(Call::Read),
        }
    }
}

/// Writes all of `bytes`.
pub fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Err(Errno::INTR) => {}
            Ok(0) => {
                return Err(SysError {
                    call: Call::Write,
                    errno: Errno::IO,
                });
            }
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(errno) => {
                return Err(SysError {
                    call: Call::Write,
                    errno,
                });
            }
        }
    }
    Ok(())
}

/// Writes `bytes` with one `write`, as files of procfs want it.
pub fn write_once(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    match rustix::io::write(file, bytes).named(Call::Write)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(SysError {
            call: Call::Write,
            errno: Errno::IO,
        }),
    }
}

/// `lseek(file, 0, SEEK_SET)`.
pub fn rewind(file: BorrowedFd<'_>) -> Result<()> {
    raw::seek(file, raw::SeekFrom::Start(0))
        .map(drop)
        .named(Call::Read)
}

/// An anonymous file in memory, close-on-exec.
pub fn memfd(name: &CStr) -> Result<OwnedFd> {
    raw::memfd_create(name, raw::MemfdFlags::CLOEXEC).named(Call::MemfdCreate)
}

/// Calls `each` with every name in `dir` but `.` and `..`. `buffer` bounds the memory, not the number of
/// entries.
pub fn for_each_entry(
    dir: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    mut each: impl FnMut(&CStr) -> Result<()>,
) -> Result<()> {
    let mut entries = raw::RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.named(Call::Getdents)?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            _ => each(entry.file_name())?,
        }
    }
    Ok(())
}

/// The longest name of a file, with its NUL.
pub const LONGEST_NAME: usize = 256;

/// Copies the name of the first directory in `dir`, but `.` and `..`, to `name`; `None` if there is none.
pub fn first_directory<'n>(
    dir: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    name: &'n mut [u8; LONGEST_NAME],
) -> Result<Option<&'n CStr>> {
    let mut entries = raw::RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.named(Call::Getdents)?;
        let bytes = entry.file_name().to_bytes_with_nul();
        if entry.file_type() != FileType::Directory || matches!(bytes, b".\0" | b"..\0") {
            continue;
        }
        if let Some(place) = name.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            return Ok(CStr::from_bytes_until_nul(name).ok());
        }
    }
    Ok(None)
}

/// `unlinkat` of an empty directory.
pub fn rmdir(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    raw::unlinkat(dir, name, AtFlags::REMOVEDIR).named(Call::Unlink)
}

/// `ftruncate`.
pub fn set_length(file: BorrowedFd<'_>, length: u64) -> Result<()> {
    raw::ftruncate(file, length).named(Call::Write)
}

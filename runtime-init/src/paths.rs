//! Runs in: INIT. Finds or makes untrusted paths inside the rootfs. The rootfs descriptor is the root of
//! every look-up (openat2, RESOLVE_IN_ROOT); whoever owns the image cannot lead us out of it, with links or
//! with races.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{Links, TargetArgs};
use crate::report::refused;
use runtime_sys::{self as sys, SysError, fs};

/// Longest path that the kernel takes, with its null.
const PATH_MAX: usize = 4096;
/// How many dangling links are followed, as the kernel's own limit.
const MAX_LINKS: usize = 40;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Opens the place of a mount (O_PATH), making directories and the file on the way where they are missing.
pub(crate) fn open_target(root: BorrowedFd<'_>, target: &TargetArgs<'_>) -> sys::Result<OwnedFd> {
    let path = if target.path.is_empty() { c"." } else { target.path };
    let opened = match target.links {
        Links::KeepLast => open_or_make_last(root, path, target.is_directory)?,
        Links::Refuse => match fs::open_in_root_no_links(root, path, OFlags::PATH) {
            Err(error) if error.errno == Errno::NOENT => {
                make(root, path, target.is_directory, Links::Refuse)?
            }
            other => other?,
        },
        Links::Follow => match fs::open_in_root(root, path, OFlags::PATH) {
            Err(error) if error.errno == Errno::NOENT => {
                make(root, path, target.is_directory, Links::Follow)?
            }
            other => other?,
        },
    };
    // Whoever mounts over /proc/self/attr and the like can fake what security labels are written to
    // (CVE-2019-16884). The path may be harmless and a link of the image not: so ask what was found.
    if !target.may_be_on_procfs && fs::fstatfs(opened.as_fd())?.f_type as u64 == PROC_SUPER_MAGIC {
        return Err(refused(Errno::PERM));
    }
    Ok(opened)
}

/// Whether no link on the way leads to what was found at a path; one that was found itself, at its end, is
/// none on the way.
pub(crate) fn is_plain(root: BorrowedFd<'_>, path: &CStr, found: BorrowedFd<'_>) -> sys::Result<bool> {
    match fs::open_in_root_no_links(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(plain) => Ok(fs::identity(plain.as_fd())? == fs::identity(found)?),
        Err(error) if matches!(error.errno, Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The mode of what is at the place of a mount already.
pub(crate) fn mode_of_target(root: BorrowedFd<'_>, target: &TargetArgs<'_>) -> sys::Result<Option<u32>> {
    let path = if target.path.is_empty() { c"." } else { target.path };
    let flags = match target.links {
        Links::KeepLast => OFlags::PATH | OFlags::NOFOLLOW,
        Links::Follow | Links::Refuse => OFlags::PATH,
    };
    match fs::open_in_root(root, path, flags) {
        Ok(found) => Ok(Some(fs::fstat(found.as_fd())?.st_mode & 0o7777)),
        Err(error) if error.errno == Errno::NOENT => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the last component as it is, be it a link; what is missing is made.
fn open_or_make_last(root: BorrowedFd<'_>, path: &CStr, is_directory: bool) -> sys::Result<OwnedFd> {
    let (directory, name) = split_last(path)?;
    let directory = open_directory(root, directory.as_cstr()?)?;
    match fs::open_child(directory.as_fd(), name, OFlags::PATH) {
        Err(error) if error.errno == Errno::NOENT => {}
        other => return other,
    }
    // A link that has come to be since then is somebody's who races with us.
    make_one(directory.as_fd(), name, is_directory)?.ok_or_else(|| refused(Errno::LOOP))
}

/// Makes a symbolic link that says `target`, and the directories on the way; one that is there already may
/// stay.
pub(crate) fn make_link(root: BorrowedFd<'_>, path: &CStr, target: &CStr) -> sys::Result<()> {
    let (directory, name) = split_last(path)?;
    let directory = open_directory(root, directory.as_cstr()?)?;
    let error = match fs::symlink(target, directory.as_fd(), name) {
        Err(error) if error.errno == Errno::EXIST => error,
        other => return other,
    };
    let mut found = [0u8; PATH_MAX];
    match fs::read_link(directory.as_fd(), name, &mut found) {
        Ok(found) if found == target.to_bytes() => Ok(()),
        // It is no link, or another one: that it is there says it best.
        _ => Err(error),
    }
}

/// The directory part, and the last component.
fn split_last(path: &CStr) -> sys::Result<(Buffer, &CStr)> {
    let start = path.to_bytes().iter().rposition(|byte| *byte == b'/');
    let mut directory = Buffer::new();
    directory.push(path.to_bytes().get(..start.unwrap_or(0)).unwrap_or_default())?;
    let name = path.to_bytes_with_nul().get(start.map_or(0, |slash| slash + 1)..);
    let name = CStr::from_bytes_until_nul(name.unwrap_or_default()).map_err(|_| refused(Errno::INVAL))?;
    Ok((directory, name))
}

/// Opens a directory (O_PATH), making it where it is missing.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &CStr) -> sys::Result<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    match fs::open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(SysError {
            errno: Errno::NOENT, ..
        }) => make(root, path, true, Links::Follow),
        other => other,
    }
}

/// The same for a directory of devices. A link of the image may lead to another directory of the image, or to
/// what was mounted on /dev, whose number is `dev`; in any other mount, nodes would be made in a volume.
pub(crate) fn open_device_directory(
    root: BorrowedFd<'_>,
    path: &CStr,
    dev: Option<u64>,
) -> sys::Result<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    match fs::open_in_root_no_links(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(
            error @ SysError {
                errno: Errno::LOOP, ..
            },
        ) => {
            let found = open_directory(root, path)?;
            let mount = fs::identity(found.as_fd())?.mount;
            if Some(mount) == dev || mount == fs::identity(root)?.mount {
                return Ok(found);
            }
            Err(error)
        }
        Err(SysError {
            errno: Errno::NOENT, ..
        }) => make(root, path, true, Links::Refuse),
        other => other,
    }
}

/// A path in a buffer of its own, ended by a null.
#[derive(PartialEq, Eq)]
pub(crate) struct Buffer {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; PATH_MAX],
            length: 0,
        }
    }

    pub(crate) fn push(&mut self, part: &[u8]) -> sys::Result<()> {
        let end = self.length + part.len();
        match self.bytes.get_mut(self.length..end) {
            Some(room) if end < PATH_MAX => room.copy_from_slice(part),
            _ => return Err(refused(Errno::NAMETOOLONG)),
        }
        self.length = end;
        self.end()
    }

    /// Appends what an open link (O_PATH) says.
    pub(crate) fn push_link(&mut self, link: BorrowedFd<'_>) -> sys::Result<()> {
        let mut text = [0u8; PATH_MAX];
        let text = fs::read_link(link, c"", &mut text)?;
        self.push(text)
    }

    fn truncate(&mut self, length: usize) -> sys::Result<()> {
        self.length = length.min(self.length);
        self.end()
    }

    fn end(&mut self) -> sys::Result<()> {
        match self.bytes.get_mut(self.length) {
            Some(byte) => *byte = 0,
            None => return Err(refused(Errno::NAMETOOLONG)),
        }
        Ok(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn as_cstr(&self) -> sys::Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| refused(Errno::NAMETOOLONG))
    }
}

/// Makes the place of a mount where it is missing, and goes through no link.
pub(crate) fn make_plainly(root: BorrowedFd<'_>, target: &TargetArgs<'_>) -> sys::Result<()> {
    make(root, target.path, target.is_directory, Links::Refuse).map(drop)
}

/// Makes what is missing of `path`. A dangling link is followed, inside the root, and its target is made:
/// images have /etc/resolv.conf pointing into an empty /run. Unless links are refused.
fn make(root: BorrowedFd<'_>, path: &CStr, is_directory: bool, links: Links) -> sys::Result<OwnedFd> {
    let mut todo = Buffer::new();
    todo.push(path.to_bytes())?;
    for _ in 0..MAX_LINKS {
        match make_without_links(root, todo.as_bytes(), is_directory, links)? {
            Made::Opened(file) => return Ok(file),
            Made::Link { .. } if links == Links::Refuse => break,
            Made::Link {
                directory,
                name_start,
                name_end,
            } => {
                todo = splice_link(directory.as_fd(), &todo, name_start, name_end)?;
            }
        }
    }
    Err(refused(Errno::LOOP))
}

enum Made {
    Opened(OwnedFd),
    /// A component, by its place in the path, is a link whose target is missing.
    Link {
        directory: OwnedFd,
        name_start: usize,
        name_end: usize,
    },
}

fn make_without_links(
    root: BorrowedFd<'_>,
    path: &[u8],
    is_directory: bool,
    links: Links,
) -> sys::Result<Made> {
    let open = match links {
        Links::Refuse => fs::open_in_root_no_links,
        Links::Follow | Links::KeepLast => fs::open_in_root,
    };
    let mut done = Buffer::new();
    let mut directory = fs::open_in_root(root, c".", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut start = 0;
    for component in path.split(|byte| *byte == b'/') {
        let end = start + component.len();
        let (name_start, last) = (start, end == path.len());
        start = end + 1;
        if component.is_empty() || component == b"." {
            continue;
        }
        let before = done.length;
        done.push(component)?;
        let want_directory = !last || is_directory;
        let flags = if want_directory {
            OFlags::PATH | OFlags::DIRECTORY
        } else {
            OFlags::PATH
        };
        directory = match open(root, done.as_cstr()?, flags) {
            Ok(found) => found,
            Err(SysError {
                errno: Errno::NOENT, ..
            }) => {
                let mut name = Buffer::new();
                name.push(component)?;
                match make_one(directory.as_fd(), name.as_cstr()?, want_directory)? {
                    Some(made) => made,
                    None => {
                        return Ok(Made::Link {
                            directory,
                            name_start,
                            name_end: end,
                        });
                    }
                }
            }
            Err(error) => {
                done.truncate(before)?;
                return Err(error);
            }
        };
        done.push(b"/")?;
    }
    Ok(Made::Opened(directory))
}

/// Makes one directory or file and opens it. `None`: there is a link of that name.
fn make_one(directory: BorrowedFd<'_>, name: &CStr, is_directory: bool) -> sys::Result<Option<OwnedFd>> {
    let made = if is_directory {
        fs::mkdir(directory, name, 0o755)
    } else {
        fs::create_file(directory, name, 0o755).map(drop)
    };
    match made {
        Ok(())
        | Err(SysError {
            errno: Errno::EXIST, ..
        }) => {}
        Err(error) => return Err(error),
    }
    let flags = if is_directory {
        OFlags::PATH | OFlags::DIRECTORY
    } else {
        OFlags::PATH
    };
    match fs::open_child(directory, name, flags) {
        // O_DIRECTORY on a link says ENOTDIR; a file would too, but then the look-up above had said so.
        Err(SysError {
            errno: Errno::NOTDIR, ..
        }) => Ok(None),
        Err(error) => Err(error),
        Ok(file) if is_link(&file)? => Ok(None),
        Ok(file) => Ok(Some(file)),
    }
}

fn is_link(file: &OwnedFd) -> sys::Result<bool> {
    Ok(fs::fstat(file.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

/// The path with the link at `name_start..name_end` replaced by what it says.
fn splice_link(
    directory: BorrowedFd<'_>,
    path: &Buffer,
    name_start: usize,
    name_end: usize,
) -> sys::Result<Buffer> {
    let mut name = Buffer::new();
    name.push(path.as_bytes().get(name_start..name_end).unwrap_or_default())?;
    let mut link = [0u8; PATH_MAX];
    let link = fs::read_link(directory, name.as_cstr()?, &mut link)?;
    let mut spliced = Buffer::new();
    if link.first() != Some(&b'/') {
        spliced.push(path.as_bytes().get(..name_start).unwrap_or_default())?;
    }
    spliced.push(link)?;
    spliced.push(path.as_bytes().get(name_end..).unwrap_or_default())?;
    Ok(spliced)
}

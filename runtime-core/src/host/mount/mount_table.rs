//! Runs in: RUNTIME. Reads mount tables (`/proc/<pid>/mountinfo`): what is mounted where, in a container and
//! on the host. Mounts nothing.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use crate::error::{CallResult, ErrorResult};
use crate::host::mount::mountinfo::unescape;
use crate::{Error, ErrorKind, Result};

/// One line of a mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kernel's number of the mount.
    pub id: u64,
    /// Where it is mounted, as seen from the root of the process.
    pub place: PathBuf,
    /// What is mounted: the number of the device, and the path in its file system, as they stand there.
    pub source: (Vec<u8>, Vec<u8>),
    /// Whether the mount itself is read-only, whatever its file system is.
    pub is_readonly: bool,
}

/// The mount table of a process, and its root.
#[derive(Debug)]
pub(crate) struct MountTable {
    entries: Vec<Entry>,
}

impl MountTable {
    /// The table of a process; of the calling thread itself with `None`.
    pub(crate) fn of(pid: Option<i32>) -> Result<Self> {
        let path = match pid {
            Some(pid) => format!("/proc/{pid}/mountinfo"),
            None => "/proc/thread-self/mountinfo".to_owned(),
        };
        let text = std::fs::read(&path).call("read").path(&path)?;
        match parse(&text) {
            Some(entries) => Ok(Self { entries }),
            None => Err(Error::new(ErrorKind::Internal, "not in the format of proc(5)").with_path(path)),
        }
    }

    /// Whether something is mounted at this path.
    pub(crate) fn has(&self, place: &Path) -> bool {
        self.entries.iter().any(|entry| entry.place == place)
    }

    /// Whether different things are mounted at this path, one over the other.
    pub(crate) fn is_stack(&self, place: &Path) -> bool {
        let mut there = self.entries.iter().filter(|entry| entry.place == place);
        let first = there.next();
        there.any(|entry| first.is_some_and(|first| first.source != entry.source))
    }

    /// Whether the mount with this number is there, and at this path.
    pub(crate) fn is_at(&self, id: u64, place: &Path) -> bool {
        self.place_of(id) == Some(place)
    }

    /// Whether the mount with this number is read-only itself; `None` if it is not in the table.
    pub(crate) fn is_readonly(&self, id: u64) -> Option<bool> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some(entry.is_readonly)
    }

    /// What is mounted below a directory: the paths from there.
    pub(crate) fn below<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = &'a Path> {
        let below = move |entry: &'a Entry| entry.place.strip_prefix(directory).ok();
        self.entries
            .iter()
            .filter_map(below)
            .filter(|rest| !rest.as_os_str().is_empty())
    }

    fn place_of(&self, id: u64) -> Option<&Path> {
        let entry = self.entries.iter().find(|entry| entry.id == id);
        entry.map(|entry| entry.place.as_path())
    }
}

/// What a container has mounted, looked at from outside. Its processes may change all of it at any moment.
#[derive(Debug)]
pub(crate) struct ContainerMounts {
    root: OwnedFd,
    /// All of it.
    pub table: MountTable,
}

impl ContainerMounts {
    /// Looks at the container with this init.
    pub(crate) fn open(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .call("open")
            .path(&path)?;
        Ok(Self {
            root,
            table: MountTable::of(Some(pid))?,
        })
    }

    /// The place of the mount that `path` leads to, links followed inside the container, and what is at its
    /// root. `None` if there is nothing, or something that is not the root of a mount.
    pub(crate) fn at(&self, path: &CStr) -> Result<Option<(PathBuf, Stat)>> {
        let shown = || Path::new(OsStr::from_bytes(path.to_bytes()));
        let target = match runtime_sys::fs::open_in_root(self.root.as_fd(), path, OFlags::PATH) {
            Ok(target) => target,
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Ok(None);
            }
            Err(error) => return Err(Error::from(error).with_path(shown())),
        };
        let os = |call, errno| Error::os(call, errno).with_path(shown());
        let statx = rustix::fs::statx(&target, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map_err(|errno| os("statx", errno))?;
        let Some(place) = self.table.place_of(statx.stx_mnt_id) else {
            return Ok(None);
        };
        // Seen from another mount namespace, the kernel gives the path up to the root of that one.
        let link = format!("/proc/self/fd/{}", target.as_raw_fd());
        let found = std::fs::read_link(&link).call("readlink").path(link)?;
        if found != place {
            return Ok(None);
        }
        let stat = rustix::fs::fstat(&target).map_err(|errno| os("fstat", errno))?;
        Ok(Some((found, stat)))
    }
}

pub(crate) fn parse(text: &[u8]) -> Option<Vec<Entry>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(parse_line).collect()
}

/// `36 35 98:0 /root /place options...` (proc(5)).
fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let source = (fields.nth(1)?.to_owned(), fields.next()?.to_owned());
    let place = unescape(fields.next()?);
    let is_readonly = fields
        .next()?
        .split(|byte| *byte == b',')
        .any(|option| option == b"ro");
    Some(Entry {
        id,
        place,
        source,
        is_readonly,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_with_all_that_a_name_may_hold() {
        let text = b"36 35 98:0 / /a\\040b\\134 rw - ext4 /dev/x rw\n37 36 0:5 /null /a\\040b\\134/c rw - devtmpfs d rw\n";
        let table = MountTable {
            entries: parse(text).unwrap(),
        };
        assert!(table.has(Path::new("/a b\\")) && !table.has(Path::new("/a")));
        assert_eq!(table.place_of(37), Some(Path::new("/a b\\/c")));
        assert_eq!(
            table.below(Path::new("/a b\\")).collect::<Vec<_>>(),
            [Path::new("c")]
        );
        assert_eq!(table.below(Path::new("/")).count(), 2);
        let options = MountTable {
            entries: parse(b"1 0 8:1 / / rw,nosuid - ext4 d ro\n2 1 8:1 /a /a nodev,ro - ext4 d rw\n")
                .unwrap(),
        };
        assert_eq!(
            [1, 2, 3].map(|id| options.is_readonly(id)),
            [Some(false), Some(true), None]
        );
        let stack =
            b"1 0 8:1 / / rw\n2 1 8:1 /a /a rw\n3 2 8:1 /a /a rw\n4 1 8:1 /a /b rw\n5 4 0:9 / /b rw\n";
        let table = MountTable {
            entries: parse(stack).unwrap(),
        };
        let stacks = ["/", "/a", "/b", "/c"].map(|place| table.is_stack(Path::new(place)));
        assert_eq!(stacks, [false, false, true, false]);
        assert!(parse(b"x 1 2 3 4\n").is_none() && parse(b"1 2\n").is_none());
    }

    #[test]
    fn the_own_table_has_a_root_and_a_mount_is_found_by_its_place_only() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mounts = ContainerMounts::open(pid).unwrap();
        assert!(MountTable::of(None).unwrap().has(Path::new("/proc")));
        let (place, _) = mounts.at(c"proc").unwrap().unwrap();
        assert_eq!(place, Path::new("/proc"));
        assert!(mounts.at(c"proc/self/status").unwrap().is_none());
        assert!(mounts.at(c"nonexistent/path").unwrap().is_none());
    }
}

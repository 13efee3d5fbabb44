//! Runs in: INIT. With `--no-pivot` the host's mounts stay below the container's root. Takes procfs and sysfs
//! out of them.
//!
//! The kernel lets a process in a user namespace make a new procfs or sysfs where its mount namespace has one
//! that is whole and not covered (`mnt_already_visible`, fs/namespace.c), wherever that is: the host's would
//! give the container a procfs in which nothing is masked.
//!
//! There is no list from RUNTIME: what the host mounted after it was made would be missing. All is private
//! since `HostPropagation`, so that nothing comes or goes here but by us.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::paths::Buffer;
use crate::report::refused;
use runtime_sys::{self as sys, SysError, fs, mount};

/// More mounts than a mount namespace may have by default (fs.mount-max), so that no fault goes on for ever.
const MOST: usize = 100_000;

/// `old` is the root that the container's, `tree`, has been moved onto.
pub(crate) fn hide_kernel_filesystems(
    old: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    procfs: Option<BorrowedFd<'_>>,
) -> sys::Result<()> {
    let tables = Tables {
        procfs: procfs.ok_or(refused(Errno::BADF))?,
        tree: fs::identity(tree)?.mount,
    };
    for _ in 0..MOST {
        match tables.next_visible()? {
            Some(mount) => hide(old, &mount)?,
            None => return Ok(()),
        }
    }
    Err(refused(Errno::LOOP))
}

/// Takes one away, or what covers it. Where the kernel locks it, in a user namespace, it is covered.
fn hide(old: BorrowedFd<'_>, target: &Mount) -> sys::Result<()> {
    let path = target.point.as_ref().ok_or(refused(Errno::NAMETOOLONG))?;
    // The path has no leading slash: nothing is looked up from our root, which the container's covers.
    let place = fs::open_in_root_no_links(old, path.as_cstr()?, OFlags::PATH | OFlags::DIRECTORY)?;
    let is_target = fs::identity(place.as_fd())?.mount == target.id;
    fs::chdir(place.as_fd())?;
    match mount::detach(c".") {
        Err(SysError {
            errno: Errno::INVAL | Errno::PERM,
            ..
        }) if is_target => {
            const FLAGS: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            mount::mount_on_cwd(c"tmpfs", c"tmpfs", FLAGS, c"size=4k,mode=0")
        }
        // It lies in a directory that is covered.
        Err(SysError {
            errno: Errno::INVAL, ..
        }) => Err(refused(Errno::BUSY)),
        other => other,
    }
}

/// The mount table of this process, read as often as needed: there is no heap to keep it on.
struct Tables<'a> {
    procfs: BorrowedFd<'a>,
    /// The container's root mount.
    tree: u64,
}

impl Tables<'_> {
    fn open(&self) -> sys::Result<Table> {
        let file = fs::open_beneath(self.procfs, c"thread-self/mountinfo", OFlags::RDONLY)?;
        Ok(Table {
            file,
            buffer: [0; 4096],
            at: 0,
            end: 0,
        })
    }

    fn next_visible(&self) -> sys::Result<Option<Mount>> {
        let mut table = self.open()?;
        while let Some(mount) = table.next()? {
            if mount.is_kernels
                && mount.is_whole
                && !self.is_covered(&mount)?
                && !self.is_containers(&mount)?
            {
                return Ok(Some(mount));
            }
        }
        Ok(None)
    }

    /// Whether another mount lies on the root of this one.
    fn is_covered(&self, below: &Mount) -> sys::Result<bool> {
        let mut table = self.open()?;
        while let Some(mount) = table.next()? {
            if mount.parent == below.id && mount.point == below.point {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_containers(&self, mount: &Mount) -> sys::Result<bool> {
        let mut id = mount.id;
        for _ in 0..MOST {
            if id == self.tree {
                return Ok(true);
            }
            match self.parent_of(id)? {
                Some(parent) if parent != id => id = parent,
                _ => return Ok(false),
            }
        }
        Err(refused(Errno::LOOP))
    }

    fn parent_of(&self, id: u64) -> sys::Result<Option<u64>> {
        let mut table = self.open()?;
        while let Some(mount) = table.next()? {
            if mount.id == id {
                return Ok(Some(mount.parent));
            }
        }
        Ok(None)
    }
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    id: u64,
    parent: u64,
    /// It shows its file system from the root on.
    is_whole: bool,
    /// procfs or sysfs.
    is_kernels: bool,
    /// Where, without leading slash; `None` for more than a path may have.
    point: Option<Buffer>,
}

struct Table {
    file: OwnedFd,
    buffer: [u8; 4096],
    at: usize,
    end: usize,
}

impl Table {
    fn byte(&mut self) -> sys::Result<Option<u8>> {
        if self.at == self.end {
            self.end = fs::read(self.file.as_fd(), &mut self.buffer)?;
            self.at = 0;
        }
        let filled = self.buffer.get(..self.end).unwrap_or_default();
        let byte = filled.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        Ok(byte)
    }

    fn next(&mut self) -> sys::Result<Option<Mount>> {
        let mut line = Line::new();
        loop {
            match self.byte()? {
                Some(b'\n') => return Ok(Some(line.end())),
                Some(byte) => line.take(byte),
                None => return Ok(None),
            }
        }
    }
}

/// A line on its way, byte by byte: it may be longer than any room for it.
struct Line {
    mount: Mount,
    field: Field,
    number: u64,
    /// The first bytes of a field, and how many it has in all.
    word: [u8; 8],
    length: usize,
    /// What an octal escape has said so far, and how many digits are missing.
    escape: (u8, u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Parent,
    Device,
    Root,
    Point,
    Options,
    Type,
    Rest,
}

impl Line {
    fn new() -> Self {
        Self {
            mount: Mount {
                id: 0,
                parent: 0,
                is_whole: false,
                is_kernels: false,
                point: Some(Buffer::new()),
            },
            field: Field::Id,
            number: 0,
            word: [0; 8],
            length: 0,
            escape: (0, 0),
        }
    }

    fn take(&mut self, byte: u8) {
        if byte == b' ' {
            return self.end_field();
        }
        match self.field {
            Field::Id | Field::Parent => {
                let digit = u64::from(byte.wrapping_sub(b'0'));
                self.number = self.number.wrapping_mul(10).wrapping_add(digit);
            }
            Field::Point => self.take_of_path(byte),
            _ => {}
        }
        if let Some(room) = self.word.get_mut(self.length) {
            *room = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    fn take_of_path(&mut self, byte: u8) {
        let byte = match (self.escape, byte) {
            ((_, 0), b'\\') => {
                self.escape = (0, 3);
                return;
            }
            ((_, 0), byte) => byte,
            ((so_far, missing), digit) => {
                let value = so_far.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'));
                self.escape = (value, missing - 1);
                if missing > 1 {
                    return;
                }
                value
            }
        };
        if self.length == 0 && byte == b'/' {
            return;
        }
        if let Some(point) = &mut self.mount.point
            && point.push(&[byte]).is_err()
        {
            self.mount.point = None;
        }
    }

    fn end_field(&mut self) {
        let word = self.word.get(..self.length).unwrap_or_default();
        self.field = match self.field {
            Field::Id => {
                self.mount.id = self.number;
                Field::Parent
            }
            Field::Parent => {
                self.mount.parent = self.number;
                Field::Device
            }
            Field::Device => Field::Root,
            Field::Root => {
                self.mount.is_whole = word == b"/";
                Field::Point
            }
            Field::Point => Field::Options,
            // Any number of fields, up to a dash.
            Field::Options if word == b"-" => Field::Type,
            Field::Options => Field::Options,
            Field::Type => {
                self.mount.is_kernels = matches!(word, b"proc" | b"sysfs");
                Field::Rest
            }
            Field::Rest => Field::Rest,
        };
        (self.number, self.length, self.escape) = (0, 0, (0, 0));
    }

    fn end(mut self) -> Mount {
        self.end_field();
        self.mount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> Mount {
        let mut parsed = Line::new();
        line.iter().for_each(|byte| parsed.take(*byte));
        parsed.end()
    }

    fn point(mount: &Mount) -> Option<&[u8]> {
        mount.point.as_ref().map(Buffer::as_bytes)
    }

    #[test]
    fn a_line_is_read() {
        let line = b"36 35 98:0 / /mnt/a\\040b\\134c rw,noatime master:1 propagate_from:2 - proc proc rw";
        let mount = parse(line);
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert!(mount.is_whole && mount.is_kernels);
        assert_eq!(point(&mount), Some(&b"mnt/a b\\c"[..]));
    }

    #[test]
    fn the_type_is_behind_the_dash_and_nothing_else_counts() {
        let kind = |line: &[u8]| parse(line).is_kernels;
        assert!(kind(b"1 2 0:5 / /sys rw - sysfs sysfs rw"));
        assert!(kind(b"1 2 0:5 / /- rw - proc - rw"));
        assert!(!kind(b"1 2 0:5 / /proc rw - tmpfs proc rw"));
        assert!(!kind(b"1 2 0:5 / /proc rw - procfs proc rw"));
        assert!(!kind(b"1 2 0:5 / /proc rw shared:5 - overlay proc rw"));
    }

    #[test]
    fn a_part_of_a_file_system_is_not_whole() {
        assert!(!parse(b"1 2 0:5 /sys /proc/sys rw - proc proc rw").is_whole);
        assert!(!parse(b"1 2 0:5 // /x rw - proc proc rw").is_whole);
    }

    #[test]
    fn the_root_is_an_empty_path_and_one_that_is_too_long_none() {
        assert_eq!(point(&parse(b"1 2 0:5 / / rw - proc proc rw")), Some(&b""[..]));
        let mut line = b"1 2 0:5 / /".to_vec();
        line.extend([b'x'; 5000]);
        line.extend(b" rw - proc proc rw");
        let mount = parse(&line);
        assert!(mount.point.is_none() && mount.is_kernels);
    }

    #[test]
    fn the_own_table_is_read_to_its_end() -> sys::Result<()> {
        let mut table = Table {
            file: fs::open_host(c"/proc/self/mountinfo", OFlags::RDONLY)?,
            buffer: [0; 4096],
            at: 0,
            end: 0,
        };
        let (mut lines, mut found) = (0, false);
        while let Some(mount) = table.next()? {
            lines += 1;
            found |= mount.is_kernels && point(&mount) == Some(b"proc");
        }
        assert!(lines > 1 && found);
        Ok(())
    }
}

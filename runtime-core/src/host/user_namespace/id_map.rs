//! Runs in: RUNTIME. The user and group id maps of a new user namespace, written to
//! `/proc/<pid>/{uid_map,gid_map, setgroups}` from outside. Which ranges to map is decided elsewhere.

use std::fmt::Write;

use oci_spec::runtime::LinuxIdMapping;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::{Error, ErrorKind, Result};

/// The most lines the kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
pub(crate) const MOST_RANGES: usize = 340;

/// The kernel takes a map in one write of less than a page. This is the smallest page there is: 340 lines of
/// long numbers can exceed it, while on a machine with larger pages they may fit.
const SMALLEST_PAGE: usize = 4096;

/// Which of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// `uid_map`, from `linux.uidMappings`.
    Uid,
    /// `gid_map`, from `linux.gidMappings`.
    Gid,
}

impl IdMap {
    /// The program that maps for ordinary users.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Uid => "newuidmap",
            Self::Gid => "newgidmap",
        }
    }

    /// The field of config.json.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Uid => "linux.uidMappings",
            Self::Gid => "linux.gidMappings",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Uid => "uid_map",
            Self::Gid => "gid_map",
        }
    }

    /// The map in the kernel's form: a line `inside outside count` for each range (user_namespaces(7)). Pure.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for no range, more than 340, one of size 0, or one that goes beyond the highest
    /// id.
    pub(crate) fn text(self, ranges: &[LinuxIdMapping]) -> Result<String> {
        if ranges.is_empty() {
            return Err(Error::invalid(
                self.field(),
                "a new user namespace needs at least one range",
            ));
        }
        if ranges.len() > MOST_RANGES {
            let message = format!(
                "has {} ranges, the kernel takes at most {MOST_RANGES}",
                ranges.len()
            );
            return Err(Error::invalid(self.field(), message));
        }
        let mut text = String::with_capacity(ranges.len() * 16);
        for (index, range) in ranges.iter().enumerate() {
            let (inside, outside, size) = (range.container_id(), range.host_id(), range.size());
            let wrong = |text| Err(Error::invalid(format!("{}[{index}]", self.field()), text));
            if size == 0 {
                return wrong("size must not be 0");
            }
            // 4294967295 is (uid_t)-1, which is no id; the kernel refuses a range that reaches it.
            if inside.checked_add(size).is_none() || outside.checked_add(size).is_none() {
                return wrong("the range goes beyond the highest id, 4294967294");
            }
            // Writing to a String cannot fail.
            let _cannot_fail = writeln!(text, "{inside} {outside} {size}");
        }
        Ok(text)
    }

    /// Writes the text of [`IdMap::text`] for a process that is in a new user namespace and still waits. The
    /// caller needs CAP_SETUID or CAP_SETGID where it is.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] without the privilege; [`ErrorKind::Invalid`] if the kernel refuses the ranges.
    pub(crate) fn write(self, pid: Pid, text: &str) -> Result<()> {
        write_file(pid, self.file(), text.as_bytes()).map_err(|(error, errno)| {
            let error = error.with_field(self.field());
            match errno {
                Errno::INVAL if text.len() >= SMALLEST_PAGE => {
                    error.with_kind(ErrorKind::Invalid).with_hint(format!(
                        "the ranges are too long: {} bytes of text, and the kernel takes less than one page",
                        text.len()
                    ))
                }
                Errno::INVAL => error
                    .with_kind(ErrorKind::Invalid)
                    .with_hint("do two of the ranges overlap, inside or outside?"),
                Errno::PERM | Errno::ACCESS => error
                    .with_kind(ErrorKind::Denied)
                    .with_hint("mapping these ids needs CAP_SETUID and CAP_SETGID where the runtime is"),
                _ => error,
            }
        })
    }
}

/// What `id` of a user namespace is outside, by its map as the kernel shows it; `None` if it is not mapped.
/// Pure.
pub(crate) fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (first, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = id.checked_sub(first).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

/// Forbids setgroups(2) for ever in the process's user namespace. Needed before a gid map written without
/// CAP_SETGID; it also keeps a program from giving up a group that denies it access.
pub(crate) fn deny_setgroups(pid: Pid) -> Result<()> {
    write_file(pid, "setgroups", b"deny").map_err(|(error, _)| error.with_field(IdMap::Gid.field()))
}

fn write_file(pid: Pid, name: &str, text: &[u8]) -> std::result::Result<(), (Error, Errno)> {
    let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
    let failed = |call, errno| {
        (
            Error::os(call, errno)
                .with_path(&path)
                .doing("map ids into the user namespace"),
            errno,
        )
    };
    let file = rustix::fs::open(&*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("open", errno))?;
    // Never a second write for a rest: the kernel takes a map once, whole.
    rustix::io::retry_on_intr(|| rustix::io::write(&file, text)).map_err(|errno| failed("write", errno))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use oci_spec::runtime::LinuxIdMappingBuilder;

    use super::*;

    fn range(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMappingBuilder::default()
            .container_id(inside)
            .host_id(outside)
            .size(size)
            .build()
            .unwrap()
    }

    #[test]
    fn ids_are_told_by_the_kernels_map() {
        let map =
            "         0     100000      65536\n     70000          5          1\n4294967294 4294967294 1\n";
        for (id, there) in [
            (0, Some(100_000)),
            (65535, Some(165_535)),
            (65536, None),
            (70000, Some(5)),
            (70001, None),
            (4_294_967_294, Some(4_294_967_294)),
        ] {
            assert_eq!(outside(map, id), there, "{id}");
        }
        assert_eq!(outside("", 0), None);
        assert_eq!(outside("         0          0 4294967295\n", 7), Some(7));
    }

    /// A process in a new user namespace without maps; killed on drop.
    struct Unmapped(Child);

    impl Unmapped {
        fn new() -> Self {
            let child = Command::new("unshare")
                .args(["-U", "cat"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let own = std::fs::read_link("/proc/self/ns/user").unwrap();
            let path = format!("/proc/{}/ns/user", child.id());
            while std::fs::read_link(&path).unwrap() == own {
                std::thread::yield_now();
            }
            Self(child)
        }

        fn pid(&self) -> Pid {
            Pid::from_child(&self.0)
        }

        fn read(&self, name: &str) -> String {
            let text = std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }

    impl Drop for Unmapped {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn text_is_one_line_for_each_range_in_order() {
        let text = IdMap::Uid
            .text(&[range(0, 100_000, 65536), range(65536, 5, 1)])
            .unwrap();
        assert_eq!(text, "0 100000 65536\n65536 5 1\n");
        let text = IdMap::Uid.text(&[range(0, 0, u32::MAX)]).unwrap();
        assert_eq!(text, "0 0 4294967295\n");
    }

    #[test]
    fn what_no_kernel_takes_is_refused_with_the_field() {
        let cases: [(&[LinuxIdMapping], &str); 5] = [
            (
                &[],
                "linux.gidMappings: a new user namespace needs at least one range",
            ),
            (
                &[range(0, 1, 1), range(5, 5, 0)],
                "linux.gidMappings[1]: size must not be 0",
            ),
            (
                &[range(1, 0, u32::MAX)],
                "linux.gidMappings[0]: the range goes beyond the highest id, 4294967294",
            ),
            (
                &[range(0, u32::MAX, 1)],
                "linux.gidMappings[0]: the range goes beyond the highest id, 4294967294",
            ),
            (
                &vec![range(0, 0, 1); 341],
                "linux.gidMappings: has 341 ranges, the kernel takes at most 340",
            ),
        ];
        for (ranges, text) in cases {
            let error = IdMap::Gid.text(ranges).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::Invalid, text.to_owned())
            );
        }
    }

    #[test]
    fn the_kernel_has_the_maps_afterwards() {
        let process = Unmapped::new();
        deny_setgroups(process.pid()).unwrap();
        let ranges: Vec<_> = (0..340).map(|n| range(n * 2, n * 2 + 1, 1)).collect();
        IdMap::Uid
            .write(process.pid(), &IdMap::Uid.text(&ranges).unwrap())
            .unwrap();
        IdMap::Gid
            .write(process.pid(), &IdMap::Gid.text(&[range(0, 1000, 10)]).unwrap())
            .unwrap();
        assert_eq!(process.read("uid_map").split(' ').count(), 340 * 3);
        assert_eq!(process.read("gid_map"), "0 1000 10");
        assert_eq!(process.read("setgroups"), "deny");
    }

    #[test]
    fn overlaps_and_long_texts_are_explained() {
        let process = Unmapped::new();
        let text = IdMap::Uid.text(&[range(0, 0, 10), range(5, 100, 10)]).unwrap();
        let error = IdMap::Uid.write(process.pid(), &text).unwrap_err();
        assert_eq!(
            (error.kind(), error.field()),
            (ErrorKind::Invalid, Some("linux.uidMappings"))
        );
        assert!(error.to_string().contains("overlap"), "{error}");

        let long: Vec<_> = (0..300)
            .map(|n| range(4_000_000_000 + n, 4_000_000_000 + n, 1))
            .collect();
        let text = IdMap::Uid.text(&long).unwrap();
        assert!(text.len() > 4096);
        // Machines with larger pages may take it.
        if cfg!(target_arch = "x86_64") {
            let error = IdMap::Uid.write(process.pid(), &text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("too long: 7200 bytes"), "{error}");
        }
    }

    #[test]
    fn a_second_map_is_denied() {
        let process = Unmapped::new();
        IdMap::Uid.write(process.pid(), "0 0 1\n").unwrap();
        let error = IdMap::Uid.write(process.pid(), "0 0 1\n").unwrap_err();
        assert_eq!(
            (error.kind(), error.errno()),
            (ErrorKind::Denied, Some(Errno::PERM))
        );
    }
}

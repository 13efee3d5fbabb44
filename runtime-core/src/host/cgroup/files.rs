//! Runs in: RUNTIME. Reads and writes the files of cgroups, and finds values in what was read.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use crate::Errno;

pub(super) const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const WRITE: OFlags = OFlags::WRONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Reads a file of a cgroup to its end.
pub(super) fn read_file<P: rustix::path::Arg>(dir: BorrowedFd<'_>, name: P) -> rustix::io::Result<Vec<u8>> {
    let file = rustix::fs::openat(dir, name, READ, Mode::empty())?;
    let mut text = Vec::new();
    let mut block = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut block) {
            Ok(0) => return Ok(text),
            Ok(length) => text.extend_from_slice(&block[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes a value into a file of a cgroup: one `write(2)`, since the kernel parses each on its own.
pub(super) fn write_file<P: rustix::path::Arg>(
    dir: BorrowedFd<'_>,
    name: P,
    value: &[u8],
) -> rustix::io::Result<()> {
    let file = rustix::fs::openat(dir, name, WRITE, Mode::empty())?;
    rustix::io::retry_on_intr(|| rustix::io::write(&file, value)).map(drop)
}

/// Whether a list such as `cgroup.controllers` holds the word.
pub(super) fn has_word(list: &[u8], word: &str) -> bool {
    list.split(u8::is_ascii_whitespace)
        .any(|candidate| candidate == word.as_bytes())
}

/// The value of a key in a flat keyed file (`populated 1`).
pub(crate) fn value_of<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b" "))
}

/// The value of a key in a flat keyed file, as a number.
pub(super) fn number_of(text: &[u8], key: &str) -> Option<u64> {
    std::str::from_utf8(value_of(text, key)?).ok()?.parse().ok()
}

/// The processes of `cgroup.procs`.
pub(crate) fn listed(text: &[u8]) -> impl Iterator<Item = Pid> {
    // A process outside of the runtime's pid namespace is listed as 0: it has no id that could be told.
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok())
        .filter(|number| *number > 0)
        .filter_map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_files_and_lists_are_read_by_whole_words() {
        let text = b"populated 1\nfrozen 0\n";
        assert_eq!(value_of(text, "populated"), Some(&b"1"[..]));
        assert_eq!(value_of(text, "frozen"), Some(&b"0"[..]));
        assert_eq!(value_of(text, "froze"), None);
        assert!(has_word(b"cpuset cpu io\n", "cpu"));
        assert!(!has_word(b"cpuset io\n", "cpu"));
    }

    #[test]
    fn process_lists_hold_what_can_be_a_process_only() {
        let pids = listed(b"0\n-5\n7\nx\n2147483648\n\n4194304\n");
        assert_eq!(
            pids.map(|pid| pid.as_raw_nonzero().get()).collect::<Vec<_>>(),
            [7, 4_194_304]
        );
    }
}

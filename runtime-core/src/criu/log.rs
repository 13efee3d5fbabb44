//! Runs in: RUNTIME. What criu's log gives as the reason of a failure.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

/// How much of the end of a log is looked at, in bytes: a dump of many processes logs megabytes.
const TAIL: u64 = 256 << 10;

/// The line that gives the reason, without its time. `None` if there is none, or no log of this name in the
/// directory.
pub(crate) fn reason(dir: BorrowedFd<'_>, log: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // The log only helps to explain; that it cannot be read is no failure of its own.
    let mut file = File::from(rustix::fs::openat(dir, log, flags, Mode::empty()).ok()?);
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text).ok()?;
    find(&String::from_utf8_lossy(&text))
}

/// What follows every failure (`Dumping FAILED.`), is said of any program that criu starts, or means nothing
/// to it.
const NO_REASONS: [&str; 4] = [
    "FAILED.",
    "exited, status=",
    "RLIMIT_NOFILE for self",
    "No parent image found",
];

/// The first: those after it say what failed because of it, or while it was undone.
pub(crate) fn find(text: &str) -> Option<String> {
    let errors = || {
        text.lines()
            .filter_map(|line| line.find("Error (").map(|place| &line[place..]))
    };
    let telling = errors().find(|line| !NO_REASONS.iter().any(|text| line.contains(text)));
    telling
        .map(clean)
        .or_else(|| Some(with_refused_sockets(clean(errors().next_back()?), text)))
}

/// criu does not say that it gives up because the kernel will not list the sockets of a protocol: criu before
/// 4.2.1 on Linux 7.1, which has no UDP-Lite any more.
fn with_refused_sockets(failure: String, text: &str) -> String {
    let refused = text
        .lines()
        .filter(|line| line.contains("collect procedure"))
        .filter_map(|line| line.split_once("family "))
        .next_back();
    match refused {
        Some((_, socket)) => format!(
            "{failure} The kernel did not list sockets of family {}: this criu may be too old for it",
            clean(socket)
        ),
        None => failure,
    }
}

/// On one line, and without bytes that could command a terminal: it holds names from the container.
fn clean(line: &str) -> String {
    line.trim_end().chars().fold(String::new(), |mut text, letter| {
        match letter.is_control() {
            true => text.extend(letter.escape_default()),
            false => text.push(letter),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_first_reason_is_taken_and_not_what_it_led_to() {
        let text = "(00.01) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self: x\n\
                    (00.02) Warn  (a.c:1): x\n(00.03) Error (b.c:3): tty: \x1b[2Jdangling\n\
                    (00.03) Error (c.c:4): Dump files failed\n(00.05) Error (criu/util.c:657): exited, status=1\n\
                    (00.05) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(find(text).unwrap(), "Error (b.c:3): tty: \\u{1b}[2Jdangling");
        let only = "Error (c.c:1): Restoring FAILED.";
        assert_eq!(find(&format!("x\n(00.1) {only}\n")).unwrap(), only);
        let refused = "(1) sockets: Sockects collect procedure family AF_INET6 proto IPPROTO_UDPLITE: -2";
        assert_eq!(
            find(&format!("{refused}\n(2) {only}\n")).unwrap(),
            format!(
                "{only} The kernel did not list sockets of family AF_INET6 proto IPPROTO_UDPLITE: -2: \
                 this criu may be too old for it"
            )
        );
        assert_eq!(find("nothing\nhere"), None);
        let dir = tempfile::tempdir().unwrap();
        let open = File::open(dir.path()).unwrap();
        assert_eq!(reason(open.as_fd(), "log"), None);
        std::fs::write(dir.path().join("other"), only).unwrap();
        assert_eq!(reason(open.as_fd(), "other").unwrap(), only);
        std::os::unix::fs::symlink("other", dir.path().join("log")).unwrap();
        assert_eq!(reason(open.as_fd(), "log"), None);
    }
}

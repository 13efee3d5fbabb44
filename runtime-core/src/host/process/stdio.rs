//! Runs in: RUNTIME. What standard input, output and error of a container are, for criu, which must be told
//! which pipes lead out of a container.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::FileType;

/// The names of those of them that are pipes, as in `pipe:[4711]`, in their places; nothing if none is.
pub(crate) fn pipes(standard: [BorrowedFd<'_>; 3]) -> Vec<String> {
    let names = standard.into_iter().map(|fd| {
        // What is not open is no pipe.
        let is_fifo =
            rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_fifo { name(fd) } else { String::new() }
    });
    let names: Vec<String> = names.collect();
    if names.iter().all(String::is_empty) {
        return Vec::new();
    }
    names
}

/// A fifo with a path has another name, and is found by that.
fn name(fd: BorrowedFd<'_>) -> String {
    let link = std::fs::read_link(Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()));
    let name = link
        .ok()
        .and_then(|link| link.into_os_string().into_string().ok());
    name.filter(|name| is_pipe(name)).unwrap_or_default()
}

/// Whether it is the name of a pipe.
pub(crate) fn is_pipe(name: &str) -> bool {
    let number = name
        .strip_prefix("pipe:[")
        .and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_names_of_pipes_are_names_of_pipes() {
        for name in [
            "",
            "/dev/null",
            "pipe:[]",
            "pipe:[12",
            "pipe:[1x]",
            "socket:[1]",
            "/x/pipe:[1]",
        ] {
            assert!(!super::is_pipe(name), "{name}");
        }
        assert!(super::is_pipe("pipe:[4711]"));
    }
}

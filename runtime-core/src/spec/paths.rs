//! Runs in: RUNTIME. Paths in the container, judged by their text alone. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What may be mounted over below /proc, as in runc: files that only show numbers, and that lxcfs and the
/// like replace. Anything else would let a container pose as the kernel towards whoever joins it.
const BELOW_PROC: [&str; 10] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/slabinfo",
    "proc/stat",
    "proc/swaps",
    "proc/sys/crypto/fips_enabled",
    "proc/sys/kernel/ns_last_pid",
    "proc/uptime",
];

/// Whether a clean path is that of a file below /proc over which something may be mounted.
pub(crate) fn is_free_below_proc(clean: &[u8]) -> bool {
    BELOW_PROC.iter().any(|path| path.as_bytes() == clean)
}

/// The path without `.`, `..`, double slashes and its leading slash: "" is the root, which no `..` leaves.
/// Relative paths count from "/" (config.md, Mounts).
pub(crate) fn clean(path: &Path) -> Vec<u8> {
    let mut clean: Vec<&[u8]> = Vec::new();
    for component in path.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(clean.pop()),
            name => clean.push(name),
        }
    }
    clean.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_container_are_cleaned_and_cannot_climb_out() {
        for (path, wish) in [
            ("", ""),
            ("/", ""),
            ("/a/b", "a/b"),
            ("a//b/", "a/b"),
            ("/a/./b/../c", "a/c"),
            ("/../../etc", "etc"),
            ("../x", "x"),
            ("/a/..", ""),
            ("/...", "..."),
        ] {
            assert_eq!(clean(Path::new(path)), wish.as_bytes(), "{path}");
        }
    }

    #[test]
    fn below_proc_only_files_that_show_numbers_are_free() {
        assert!(is_free_below_proc(b"proc/uptime") && is_free_below_proc(b"proc/sys/crypto/fips_enabled"));
        assert!(
            !is_free_below_proc(b"proc")
                && !is_free_below_proc(b"proc/sys")
                && !is_free_below_proc(b"uptime")
        );
    }
}

//! Runs in: RUNTIME. Paths as criu is told them.

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A path for criu, which takes bytes.
pub(crate) fn path_bytes(path: impl AsRef<OsStr>) -> Vec<u8> {
    path.as_ref().as_bytes().to_vec()
}

/// The same file of the host by an absolute path without links, `.`, `..` or a slash at its end: criu takes
/// paths apart by their text. What cannot be opened has been refused before, or will be by criu, under the
/// name that it was given.
pub(crate) fn clean_path(path: &Path) -> PathBuf {
    // The text alone: two slashes, `.` and a slash at the end.
    let named = || path.components().collect();
    let resolve = || {
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let resolved = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        // Of a file of another mount namespace, or one that has been covered, it is the path of something
        // else here.
        let (held, found) = (rustix::fs::fstat(&file).ok()?, rustix::fs::stat(&resolved).ok()?);
        let is_it = resolved.is_absolute() && (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino);
        is_it.then_some(resolved)
    };
    resolve().unwrap_or_else(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criu_is_told_has_no_links_and_no_dots() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::write(base.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", base.join("link")).unwrap();
        for (path, clean) in [
            (".", ""),
            ("./a/.", "a"),
            ("a/b/../file", "a/file"),
            ("link/b/", "a/b"),
            ("link//./file", "a/file"),
            ("missing/./x/", "missing/x"),
        ] {
            let wish = base.join(clean);
            assert_eq!(
                clean_path(&base.join(path)).as_os_str(),
                wish.as_os_str()
                    .to_owned()
                    .as_bytes()
                    .strip_suffix(b"/")
                    .map_or(wish.as_os_str(), OsStr::from_bytes),
                "{path}"
            );
        }
    }
}

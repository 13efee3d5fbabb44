//! Runs in: RUNTIME. The file for `--pid-file`: made whole under a temporary name, then renamed, because
//! engines wait for the name to appear and read at once. What is no file, as /dev/null or a fifo, is written
//! to, and stays.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::CallResult;
use crate::{Error, ErrorKind, Result};

/// Writes the pid in decimal, without a newline, to `path` by way of `.<name>` in the same directory. A file
/// at `path`, and a symbolic link to one or to nothing, is replaced. Anything else, also behind a link
/// (`/dev/stdout`), is written through: it may be the host's /dev/null. But no block device is, and nothing
/// behind another user's link, which is replaced, too.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the path names no file; otherwise the failed call with the path. Nothing is left
/// behind.
pub(crate) fn write(path: &Path, pid: i32) -> Result<()> {
    let os = |call, errno| Error::os(call, errno).with_path(path).doing("write the pid file");
    let located = |error: Error| error.with_path(path).doing("write the pid file");
    // `file_name` alone would take `dir/` for the file `dir`.
    let name = path
        .file_name()
        .filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
    let Some(name) = name else {
        return Err(Error::new(ErrorKind::Invalid, "not the name of a file")
            .with_path(path)
            .doing("write the pid file"));
    };
    if let Some(device) = open_unless_regular(path).map_err(located)? {
        return write_to(&device, pid).map_err(|errno| os("write", errno));
    }
    let mut hidden = OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);

    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let create = || rustix::fs::openat(CWD, &temporary, flags, Mode::from_raw_mode(0o644));
    let file = match create() {
        // A runtime that was killed here left it. Exclusive creation still keeps us from writing through a
        // link.
        Err(Errno::EXIST) => rustix::fs::unlink(&temporary).and_then(|()| create()),
        file => file,
    };
    let file = file.map_err(|errno| os("open", errno))?;
    let written = write_to(&file, pid)
        .map_err(|errno| os("write", errno))
        .and_then(|()| rustix::fs::rename(&temporary, path).map_err(|errno| os("rename", errno)));
    written.map_err(|error| match rustix::fs::unlink(&temporary) {
        Ok(()) => error,
        Err(errno) => error.and(Error::os("unlink", errno).with_path(&temporary)),
    })
}

fn write_to(file: &OwnedFd, pid: i32) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::io::write(file, pid.to_string().as_bytes())).map(drop)
}

/// What is there, open for writing, if that is neither a regular file nor nothing. A fifo that nobody reads
/// is an error, not a wait.
fn open_unless_regular(path: &Path) -> Result<Option<OwnedFd>> {
    let Some(place) = find(path)? else {
        return Ok(None);
    };
    match FileType::from_raw_mode(fstat(&place)?.st_mode) {
        FileType::RegularFile => Ok(None),
        FileType::BlockDevice => Err(Error::new(ErrorKind::Invalid, "a block device")),
        _ => {
            // What was looked at, not what the path leads to by now.
            let held = format!("/proc/self/fd/{}", place.as_raw_fd());
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = rustix::fs::open(held, flags, Mode::empty());
            file.map(Some).call("open")
        }
    }
}

/// What is there, or behind a link of root's or the caller's own. Another user's link does not say which
/// device is written to.
fn find(path: &Path) -> Result<Option<OwnedFd>> {
    let open =
        |path: &Path, flags| rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    // Why it cannot be opened is told when the file is made.
    let Ok(place) = open(path, OFlags::NOFOLLOW) else {
        return Ok(None);
    };
    let stat = fstat(&place)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(Some(place));
    }
    if ![0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid) {
        return Ok(None);
    }
    let text = rustix::fs::readlinkat(&place, "", Vec::new()).call("readlinkat")?;
    let directory = path.parent().unwrap_or(path);
    Ok(open(
        &directory.join(OsStr::from_bytes(text.as_bytes())),
        OFlags::empty(),
    )
    .ok())
}

fn fstat(file: &OwnedFd) -> Result<Stat> {
    rustix::fs::fstat(file).call("fstat")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[test]
    fn writes_the_number_and_nothing_else_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.pid");
        let victim = dir.path().join("victim");
        fs::write(&victim, "victim").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".init.pid")).unwrap();
        write(&path, 4321).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"4321");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        write(&path, 7).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"7");
        assert_eq!(fs::read(&victim).unwrap(), b"victim");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_is_written_through_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::fs::symlink("fifo", &link).unwrap();
        // Nobody reads it.
        assert_eq!(write(&fifo, 1).unwrap_err().errno(), Some(Errno::NXIO));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let reader = rustix::fs::open(&fifo, flags, Mode::empty()).unwrap();
        for path in [&fifo, &link] {
            write(path, 4321).unwrap();
            let mut read = [0; 8];
            let length = rustix::io::read(&reader, &mut read[..]).unwrap();
            assert_eq!(&read[..length], b"4321", "{}", path.display());
        }
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_relative_path_is_below_the_working_directory() {
        let path = Path::new("pid-file-test.tmp");
        write(path, 1).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"1");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn failure_names_the_path_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no/pid");
        let error = write(&missing, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "write the pid file: {}: open: no such file or directory",
                missing.display()
            )
        );
        // A directory in the way fails the rename.
        fs::create_dir(dir.path().join("pid")).unwrap();
        assert_eq!(
            write(&dir.path().join("pid"), 1).unwrap_err().errno(),
            Some(Errno::ISDIR)
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        for path in ["", "/", "..", "a/", "a/.."] {
            assert_eq!(
                write(Path::new(path), 1).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{path}"
            );
        }
    }
}

//! Runs in: RUNTIME. The directories that criu works in: the images, and where its log goes. What is in them
//! is trusted, since it becomes the memory of processes: they are for their owner alone. criu opens files in
//! them by name, and follows links: whoever could make one there could have it overwrite any file.

use std::ffi::{CString, OsStr};
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use crate::error::{CallResult, ErrorResult};
use crate::{Error, ErrorKind, Result};

/// The directories that criu works in, open.
#[derive(Debug)]
pub(crate) struct Directories {
    /// The images.
    pub(crate) images: Directory,
    /// The images as criu is to see them, if not as they are.
    pub(crate) mapped: Option<MappedImages>,
    work: Option<Directory>,
}

/// The images on an id-mapped copy of their mount.
#[derive(Debug)]
pub(crate) struct MappedImages {
    /// Their directory. criu gets it under the same number.
    pub(crate) directory: OwnedFd,
    /// The detached tree that it is in, which would be taken apart without this.
    pub(crate) _tree: OwnedFd,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Its descriptor. criu gets it under the same number.
    pub(crate) fd: OwnedFd,
    /// Absolute, without links.
    pub(crate) path: CString,
    /// Device and inode.
    pub(crate) identity: (u64, u64),
}

impl Directories {
    /// For `images_dir_fd`.
    pub(crate) fn images_number(&self) -> i32 {
        match &self.mapped {
            Some(mapped) => mapped.directory.as_raw_fd(),
            None => self.images.fd.as_raw_fd(),
        }
    }

    /// For `work_dir_fd`. criu writes there, which the host's root cannot do on a mount where it is not
    /// mapped.
    pub(crate) fn work_number(&self) -> Option<i32> {
        match (&self.work, &self.mapped) {
            (Some(work), _) => Some(work.fd.as_raw_fd()),
            (None, Some(_)) => Some(self.images.fd.as_raw_fd()),
            (None, None) => None,
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<&Directory> {
        [Some(&self.images), self.work.as_ref()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Where criu writes its log.
    pub(crate) fn work(&self) -> &Directory {
        self.work.as_ref().unwrap_or(&self.images)
    }

    /// Takes away what is no plain file under the names that criu writes beside the images: the log, and what
    /// it always calls the same. An archive that was unpacked here may have brought it.
    ///
    /// # Errors
    /// It cannot be taken away: a directory, for one.
    pub(crate) fn clear_work(&self, log: &str) -> Result<()> {
        let work = self.work();
        for name in [log, "stats-dump", "stats-restore", "irmap-cache"] {
            let failed = |call, errno| Error::os(call, errno).with_path(work.file(name));
            let stat = match rustix::fs::statat(&work.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|errno| failed("fstatat", errno))?,
            };
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            // Of a hard link the other name may be anything.
            if is_file && stat.st_nlink == 1 {
                continue;
            }
            rustix::fs::unlinkat(&work.fd, name, AtFlags::empty())
                .map_err(|errno| failed("unlinkat", errno).doing("make room for a file of criu's"))?;
        }
        Ok(())
    }

    /// Refuses images among which there are links: criu would write through them. `parent` is its own.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] with the path of the link.
    pub(crate) fn refuse_links(&self) -> Result<()> {
        let images = &self.images;
        let failed = |call, errno| Error::os(call, errno).with_path(images.file("."));
        let entries = Dir::read_from(&images.fd).map_err(|errno| failed("openat", errno))?;
        for entry in entries {
            let entry = entry.map_err(|errno| failed("getdents64", errno))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "parent" {
                continue;
            }
            let stat = match rustix::fs::statat(&images.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|errno| failed("fstatat", errno))?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                let text = "a link among the images, through which criu would write";
                return Err(Error::new(ErrorKind::Denied, text).with_path(images.file(name)));
            }
        }
        Ok(())
    }
}

impl Directory {
    /// The path of a file in it: for messages.
    pub(crate) fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new(OsStr::from_bytes(self.path.to_bytes())).join(name)
    }

    /// The path of the root of the mount that it is in.
    ///
    /// # Errors
    /// As statx(2).
    pub(crate) fn mount_root(&self) -> Result<&Path> {
        let path = Path::new(OsStr::from_bytes(self.path.to_bytes()));
        let own = mount_id(path)?;
        let mut root = path;
        for above in path.ancestors().skip(1) {
            if mount_id(above)? != own {
                break;
            }
            root = above;
        }
        Ok(root)
    }
}

fn mount_id(path: &Path) -> Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID)
        .map(|stat| stat.stx_mnt_id)
        .call("statx")
        .path(path)
}

/// For a dump: directories that are missing are made, with mode 0700.
///
/// # Errors
/// They cannot be made, or are something else.
pub(crate) fn open_or_make_images(images: &Path, work: Option<&Path>) -> Result<Directories> {
    make(images)?;
    open_images(images, work)
}

/// For a restore: the images must be there. The working directory is made if it is missing.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there are no images.
pub(crate) fn open_images(images: &Path, work: Option<&Path>) -> Result<Directories> {
    let opened = open(images).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => error.with_kind(ErrorKind::NotFound),
        _ => error,
    })?;
    let work = match work {
        Some(work) => {
            make(work)?;
            Some(open(work)?)
        }
        None => None,
    };
    Ok(Directories {
        images: opened,
        mapped: None,
        work,
    })
}

fn make(path: &Path) -> Result<()> {
    // mkdir(2) makes no directory under the name `.`.
    let named: PathBuf = path.components().collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(named)
        .call("mkdir")
        .path(path)
        .doing("make the directory for criu")
}

fn open(path: &Path) -> Result<Directory> {
    let at = |error: Error| error.with_path(path).doing("open the directory for criu");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| at(Error::os("open", errno)))?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| at(Error::os("fstat", errno)))?;
    refuse_shared(&stat).map_err(at)?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let resolved = std::fs::read_link(link).map_err(|error| at(Error::os("readlink", error)))?;
    let path = CString::new(resolved.into_os_string().into_encoded_bytes())
        .map_err(|_| at(Error::new(ErrorKind::Internal, "a path with a null byte")))?;
    Ok(Directory {
        fd,
        path,
        identity: (stat.st_dev, stat.st_ino),
    })
}

/// Whoever can write to it, or is its owner, says what is restored, and where criu's files go.
fn refuse_shared(stat: &Stat) -> Result<()> {
    let is_foreign = stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw();
    let text = match (is_foreign, stat.st_mode & 0o022) {
        (false, 0) => return Ok(()),
        (true, _) => "it belongs to another user",
        (false, _) => "others may write to it",
    };
    Err(Error::new(ErrorKind::Denied, text).with_hint(
        "criu would read the memory of processes from it, and write through links in it: take a directory that nobody else \
         can write to",
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_dump_makes_private_directories_and_a_restore_makes_no_images() {
        let base = tempfile::tempdir().unwrap();
        let (images, work) = (base.path().join("a/images"), base.path().join("b/work"));
        let error = open_images(&images, Some(&work)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!images.exists() && !work.exists());
        let directories = open_or_make_images(&images, Some(&work)).unwrap();
        assert_eq!(directories.work().file("dump.log"), work.join("dump.log"));
        assert!(directories.work_number().is_some());
        for path in [&images, &work] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(
            open_images(&images, None).unwrap().work().file("restore.log"),
            images.join("restore.log")
        );
    }

    #[test]
    fn directories_are_made_however_they_are_spelt() {
        let base = tempfile::tempdir().unwrap();
        for name in ["a/.", "./b//c/", "d/./e/."] {
            open_or_make_images(&base.path().join(name), None).unwrap();
        }
    }

    #[test]
    fn a_mount_has_one_root_for_all_that_is_in_it() {
        let base = tempfile::tempdir().unwrap();
        let images = base.path().join("a");
        let directories = open_or_make_images(&images, None).unwrap();
        let root = directories.images.mount_root().unwrap();
        assert!(base.path().starts_with(root), "{root:?}");
        let proc = open(Path::new("/proc/self/task")).unwrap();
        assert_eq!(proc.mount_root().unwrap(), Path::new("/proc"));
    }

    #[test]
    fn a_directory_that_others_could_write_to_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("d");
        std::fs::create_dir(&path).unwrap();
        let chmod = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        chmod(0o755);
        assert!(open_images(&path, Some(&path)).is_ok());
        for mode in [0o775, 0o757, 0o1777] {
            chmod(mode);
            for (images, work) in [(path.as_path(), None), (base.path(), Some(path.as_path()))] {
                let error = open_images(images, work).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Denied, "{mode:o}: {error}");
                assert!(error.to_string().contains("others may write to it"), "{error}");
            }
        }
        chmod(0o755);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(64_123), None).unwrap();
            let error = open_or_make_images(&path, None).unwrap_err().to_string();
            assert!(error.contains("belongs to another user"), "{error}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let base = tempfile::tempdir().unwrap();
        let victim = base.path().join("victim");
        std::fs::write(&victim, "victim").unwrap();
        let (images, work) = (base.path().join("images"), base.path().join("work"));
        let directories = open_or_make_images(&images, Some(&work)).unwrap();
        let link = |path: &Path| std::os::unix::fs::symlink(&victim, path).unwrap();
        link(&work.join("dump.log"));
        std::fs::hard_link(&victim, work.join("stats-dump")).unwrap();
        std::fs::write(work.join("irmap-cache"), "kept").unwrap();
        link(&images.join("parent"));
        directories.refuse_links().unwrap();
        directories.clear_work("dump.log").unwrap();
        let names: Vec<_> = std::fs::read_dir(&work)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["irmap-cache"]);
        link(&images.join("inventory.img"));
        let error = directories.refuse_links().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(
            error
                .to_string()
                .starts_with(&images.join("inventory.img").display().to_string())
        );
        assert_eq!(std::fs::read(&victim).unwrap(), b"victim");
        std::fs::create_dir(work.join("dump.log")).unwrap();
        assert!(directories.clear_work("dump.log").is_err());
    }
}

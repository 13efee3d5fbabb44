//! Runs in: RUNTIME. The directories that criu works in: the images, and where its log goes. What is in them is trusted,
//! since it becomes the memory of processes: they are for their owner alone.

use std::ffi::{CString, OsStr};
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// The directories that criu works in, open.
#[derive(Debug)]
pub struct Directories {
    /// The images.
    pub images: Directory,
    /// The images as criu is to see them, if not as they are.
    pub mapped: Option<MappedImages>,
    work: Option<Directory>,
}

/// The images on an id-mapped copy of their mount.
#[derive(Debug)]
pub struct MappedImages {
    /// Their directory. criu gets it under the same number.
    pub directory: OwnedFd,
    /// The detached tree that it is in, which would be taken apart without this.
    pub tree: OwnedFd,
}

/// One of them.
#[derive(Debug)]
pub struct Directory {
    /// Its descriptor. criu gets it under the same number.
    pub fd: OwnedFd,
    /// Absolute, without links.
    pub path: CString,
    /// Device and inode.
    pub identity: (u64, u64),
}

impl Directories {
    /// For `images_dir_fd`.
    pub fn images_number(&self) -> i32 {
        match &self.mapped {
            Some(mapped) => mapped.directory.as_raw_fd(),
            None => self.images.fd.as_raw_fd(),
        }
    }

    /// For `work_dir_fd`. criu writes there, which the host's root cannot do on a mount where he is not mapped.
    pub fn work_number(&self) -> Option<i32> {
        match (&self.work, &self.mapped) {
            (Some(work), _) => Some(work.fd.as_raw_fd()),
            (None, Some(_)) => Some(self.images.fd.as_raw_fd()),
            (None, None) => None,
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<&Directory> {
        [Some(&self.images), self.work.as_ref()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Where criu writes a log of this name.
    pub fn log(&self, name: &str) -> PathBuf {
        let directory = self.work.as_ref().unwrap_or(&self.images);
        Path::new(OsStr::from_bytes(directory.path.to_bytes())).join(name)
    }
}

impl Directory {
    /// The path of the root of the mount that it is in.
    ///
    /// # Errors
    /// As statx(2).
    pub fn mount_root(&self) -> Result<&Path> {
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
        .map_err(|errno| Error::os("statx", errno).path(path))
}

/// For a dump: directories that are missing are made, with mode 0700.
///
/// # Errors
/// They cannot be made, or are something else.
pub fn open_or_make_images(images: &Path, work: Option<&Path>) -> Result<Directories> {
    make(images)?;
    open_images(images, work)
}

/// For a restore: the images must be there. The working directory is made if it is missing.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there are no images.
pub fn open_images(images: &Path, work: Option<&Path>) -> Result<Directories> {
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
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| {
            Error::io("mkdir", &error)
                .path(path)
                .doing("make the directory for criu")
        })
}

fn open(path: &Path) -> Result<Directory> {
    let at = |error: Error| error.path(path).doing("open the directory for criu");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| at(Error::os("open", errno)))?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| at(Error::os("fstat", errno)))?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let resolved = std::fs::read_link(link).map_err(|error| at(Error::io("readlink", &error)))?;
    let path = CString::new(resolved.into_os_string().into_encoded_bytes())
        .map_err(|_| at(Error::new(ErrorKind::Internal, "a path with a null byte")))?;
    Ok(Directory {
        fd,
        path,
        identity: (stat.st_dev, stat.st_ino),
    })
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
        assert_eq!(directories.log("dump.log"), work.join("dump.log"));
        assert!(directories.work_number().is_some());
        for path in [&images, &work] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(
            open_images(&images, None).unwrap().log("restore.log"),
            images.join("restore.log")
        );
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
}

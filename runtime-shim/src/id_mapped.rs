//! Runs in: SHIM; `hold_user_namespace` in a child of it. Directories with other ids, for the rootfs of a
//! container with a user namespace: containerd names the mappings, and leaves the mapping to the shim.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use runtime_sys::mount::{ATTR_IDMAP, MountAttr, mount_setattr};
use runtime_sys::namespace::{Kinds, unshare};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::failure::{Failure, Result};

/// What the ids of a directory become.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Mappings {
    /// As in `0:100000:65536`, with commas between several: inside, outside, how many.
    pub(crate) uids: String,
    pub(crate) gids: String,
}

/// Directories at places of their own while something is made of them. Dropping it takes them away.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// The directory of the places.
    base: PathBuf,
    places: Vec<PathBuf>,
}

impl Mapped {
    /// # Errors
    /// A mapping that is none; a failed call.
    pub(crate) fn new(directories: &[&str], mappings: &Mappings, base: &Path) -> Result<Self> {
        let namespace = user_namespace(mappings)?;
        let mut mapped = Self {
            base: base.to_owned(),
            places: Vec::new(),
        };
        for (number, directory) in directories.iter().enumerate() {
            let place = base.join(number.to_string());
            std::fs::create_dir_all(&place)
                .map_err(|error| Failure::io("make a place for a layer", &place, error))?;
            mapped.places.push(place.clone());
            attach(directory, &namespace, &place)?;
        }
        Ok(mapped)
    }

    pub(crate) fn places(&self) -> &[PathBuf] {
        &self.places
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        for place in &self.places {
            match unmount(place, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH) {
                // It was not mounted yet.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => log::warn!("unmount {}: {errno}", place.display()),
            }
            // What is not empty stays: it is not ours.
            let _stays = std::fs::remove_dir(place);
        }
        let _stays = std::fs::remove_dir(&self.base);
    }
}

/// Mounts a directory with other ids.
///
/// # Errors
/// The failed call; `EINVAL` for a file system that cannot.
pub(crate) fn mount_mapped(directory: &str, mappings: &Mappings, target: &Path) -> Result<()> {
    attach(directory, &user_namespace(mappings)?, target)
}

fn attach(directory: &str, namespace: &OwnedFd, target: &Path) -> Result<()> {
    let failed = |errno: Errno| Failure::io("map the ids of a layer", directory, errno);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, directory, flags).map_err(failed)?;
    let attributes = MountAttr {
        set: ATTR_IDMAP,
        userns_fd: namespace.as_raw_fd().unsigned_abs().into(),
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), &attributes, false).map_err(|error| failed(error.errno))?;
    move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)
}

/// A user namespace with these mappings, in which nobody is.
fn user_namespace(mappings: &Mappings) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| Failure::io("make a user namespace", "/proc/self/exe", error);
    let (uids, gids) = (lines(&mappings.uids)?, lines(&mappings.gids)?);
    let mut holder = Command::new("/proc/self/exe")
        .arg("hold-user-namespace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let namespace = namespace_of(&mut holder, &uids, &gids);
    // It ends with its input, which waiting for it closes.
    holder.wait().map_err(failed)?;
    namespace.map_err(failed)
}

fn namespace_of(holder: &mut Child, uids: &str, gids: &str) -> std::io::Result<OwnedFd> {
    let mut ready = [0];
    if let Some(output) = &mut holder.stdout {
        output.read_exact(&mut ready)?;
    }
    let process = format!("/proc/{}", holder.id());
    std::fs::write(format!("{process}/uid_map"), uids)?;
    std::fs::write(format!("{process}/gid_map"), gids)?;
    std::fs::File::open(format!("{process}/ns/user")).map(Into::into)
}

/// The lines of uid_map.
fn lines(mapping: &str) -> Result<String> {
    let wrong = || Failure::invalid(format!("not a mapping of ids: {mapping}"));
    let mut lines = String::new();
    for one in mapping.split(',') {
        let numbers: Vec<u32> = one
            .split(':')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| wrong())?;
        let [inside, outside, count] = numbers[..] else {
            return Err(wrong());
        };
        lines.push_str(&format!("{inside} {outside} {count}\n"));
    }
    Ok(lines)
}

/// In the child: is in a new user namespace until its input ends.
///
/// # Errors
/// A failed call.
pub(crate) fn hold_user_namespace() -> Result<()> {
    let failed = |error: std::io::Error| Failure::io("hold a user namespace", "stdin", error);
    unshare(Kinds::USER).map_err(|error| failed(error.errno.into()))?;
    std::io::stdout().write_all(b"r").map_err(failed)?;
    std::io::stdout().flush().map_err(failed)?;
    std::io::stdin().read_to_end(&mut Vec::new()).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_become_lines() {
        assert_eq!(lines("0:100000:65536").unwrap(), "0 100000 65536\n");
        assert_eq!(lines("0:1:2,2:7:1").unwrap(), "0 1 2\n2 7 1\n");
        for wrong in ["", "0:1", "0:1:2:3", "a:1:2", "0:-1:2", "0:1:2,"] {
            assert!(lines(wrong).is_err(), "{wrong}");
        }
    }
}

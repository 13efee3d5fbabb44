//! Runs in: SHIM. The mounts that containerd names for a container's rootfs: done here, in the host's mount
//! namespace, and undone.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};

use crate::failure::{Failure, Result};
use crate::id_mapped::{Mapped, Mappings, mount_mapped};

/// Mounts all of them at `rootfs`, which is made if it is not there. What was mounted is unmounted if one
/// fails.
///
/// # Errors
/// The mount that fails; an option that is not known here.
pub(crate) fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    match DirBuilder::new().mode(0o711).create(rootfs) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.map_err(|error| Failure::io("make the rootfs", rootfs, error))?,
    }
    let result = mounts.iter().try_for_each(|one| mount_one(one, rootfs));
    if result.is_err() {
        unmount_all(rootfs)?;
    }
    result.map_err(|error| error.doing("failed to mount rootfs component"))
}

fn mount_one(one: &Mount, rootfs: &Path) -> Result<()> {
    let target = target_of(rootfs, &one.target)?;
    let mut options = Options::parse(&one.options)?;
    let is_bind = matches!(one.type_.as_str(), "bind" | "rbind") || options.flags.contains(MountFlags::BIND);
    if is_bind {
        bind(&one.source, &target, &options)?;
        return propagate(&target, &options);
    }
    // Until the file system holds its layers itself.
    let _layers = match (&options.mappings, one.type_.as_str()) {
        (None, _) => None,
        (Some(mappings), "overlay") => Some(map_layers(&mut options.data, mappings, &layers_of(rootfs))?),
        (Some(_), other) => return Err(unknown(&format!("uidmap of {other}"))),
    };
    let failed = |errno: Errno| Failure::io(&format!("mount {} {}", one.type_, one.source), &target, errno);
    let data = CString::new(options.data.join(","))
        .map_err(|_| Failure::invalid("a mount option with a zero byte"))?;
    mount(&one.source, &target, &one.type_, options.flags, data.as_c_str()).map_err(failed)?;
    propagate(&target, &options)
}

/// Where layers with other ids are while the rootfs is mounted.
pub(crate) fn layers_of(rootfs: &Path) -> PathBuf {
    rootfs.with_file_name("layers")
}

/// Puts layers with other ids in the place of those that an overlay names.
fn map_layers(data: &mut [String], mappings: &Mappings, base: &Path) -> Result<Mapped> {
    const LAYERS: &str = "lowerdir=";
    let missing = || Failure::invalid("an overlay with a mapping of ids, and without layers");
    let option = data
        .iter_mut()
        .find(|option| option.starts_with(LAYERS))
        .ok_or_else(missing)?;
    let layers: Vec<&str> = option[LAYERS.len()..].split(':').collect();
    let mapped = Mapped::new(&layers, mappings, base)?;
    let places: Vec<_> = mapped
        .places()
        .iter()
        .map(|place| place.to_string_lossy())
        .collect();
    *option = format!("{LAYERS}{}", places.join(":"));
    Ok(mapped)
}

fn bind(source: &str, target: &Path, options: &Options) -> Result<()> {
    let failed = |errno: Errno| Failure::io(&format!("mount bind {source}"), target, errno);
    match &options.mappings {
        Some(mappings) => mount_mapped(source, mappings, target)?,
        None => {
            let recursive = options.flags & MountFlags::REC;
            mount(source, target, "", MountFlags::BIND | recursive, None).map_err(failed)?;
        }
    }
    let rest = options.flags - MountFlags::BIND - MountFlags::REC;
    match rest.is_empty() {
        true => Ok(()),
        false => mount_remount(target, MountFlags::BIND | rest, c"").map_err(failed),
    }
}

fn unknown(option: &str) -> Failure {
    let text = format!("this shim does not know the mount option {option} of a rootfs");
    Failure::new(containerd_shim_protos::ttrpc::Code::UNIMPLEMENTED, text)
}

fn propagate(target: &Path, options: &Options) -> Result<()> {
    let Some(propagation) = options.propagation else {
        return Ok(());
    };
    mount_change(target, propagation).map_err(|errno| Failure::io("set the propagation", target, errno))
}

/// The place below the rootfs, which must not lead out of it.
fn target_of(rootfs: &Path, target: &str) -> Result<PathBuf> {
    let mut path = rootfs.to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            _ => {
                return Err(Failure::invalid(format!(
                    "a mount's target leaves the rootfs: {target}"
                )));
            }
        }
    }
    Ok(path)
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
    /// Those of the file system.
    data: Vec<String>,
    mappings: Option<Mappings>,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self {
            flags: MountFlags::empty(),
            propagation: None,
            data: Vec::new(),
            mappings: None,
        };
        for word in words {
            if let Some((flag, is_set)) = flag_of(word) {
                options.flags.set(flag, is_set);
            } else if let Some(propagation) = propagation_of(word) {
                options.propagation = Some(propagation);
            } else if let Some(uids) = word.strip_prefix("uidmap=") {
                uids.clone_into(&mut options.mappings.get_or_insert_default().uids);
            } else if let Some(gids) = word.strip_prefix("gidmap=") {
                gids.clone_into(&mut options.mappings.get_or_insert_default().gids);
            } else if word == "loop" || word.starts_with("X-containerd.") {
                return Err(unknown(word));
            } else if word != "defaults" {
                options.data.push(word.clone());
            }
        }
        Ok(options)
    }
}

fn flag_of(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND.union(MountFlags::REC), true),
        _ => return None,
    })
}

fn propagation_of(word: &str) -> Option<MountPropagationFlags> {
    let recursive = MountPropagationFlags::REC;
    Some(match word {
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | recursive,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | recursive,
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | recursive,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | recursive,
        _ => return None,
    })
}

/// Unmounts all that is mounted at `rootfs` and below. One that is busy is detached, and goes when it is
/// free.
///
/// # Errors
/// The mount that cannot be unmounted.
pub(crate) fn unmount_all(rootfs: &Path) -> Result<()> {
    let Some(rootfs) = name_in_the_kernel(rootfs)? else {
        return Ok(());
    };
    // The last mounted first.
    for point in mounts_at(&rootfs)?.iter().rev() {
        match unmount(point, UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(Errno::BUSY) => unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .map_err(|errno| Failure::io("detach", point, errno))?,
            Err(errno) => return Err(Failure::io("unmount", point, errno)),
        }
    }
    Ok(())
}

/// What mountinfo calls a directory; none if it is not there.
fn name_in_the_kernel(directory: &Path) -> Result<Option<PathBuf>> {
    let failed = |errno: Errno| Failure::io("unmount the rootfs", directory, errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(directory, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.map_err(failed)?,
    };
    let name =
        rustix::fs::readlink(format!("/proc/self/fd/{}", opened.as_raw_fd()), Vec::new()).map_err(failed)?;
    Ok(Some(PathBuf::from(OsString::from_vec(name.into_bytes()))))
}

/// The mount points at `rootfs` and below, in the order of mounting.
fn mounts_at(rootfs: &Path) -> Result<Vec<PathBuf>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = fs::read(TABLE).map_err(|error| Failure::io("look for mounts", TABLE, error))?;
    let mut points = BTreeMap::new();
    for line in table.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields
            .next()
            .and_then(|id| std::str::from_utf8(id).ok()?.parse::<u64>().ok());
        if let (Some(id), Some(point)) = (id, fields.nth(3)) {
            let point = PathBuf::from(plain(point));
            if point.starts_with(rootfs) {
                // Deeper ones are unmounted before those that carry them, and of two at one place the later
                // before the earlier.
                points.insert((point.components().count(), id), point);
            }
        }
    }
    Ok(points.into_values().collect())
}

/// A name of mountinfo, in which white space and backslashes are octal.
fn plain(name: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, others)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| others.get(..3)).flatten();
        let byte = octal.and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[3..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let words = ["rbind", "ro", "rslave", "lowerdir=/a:/b", "nosuid", "suid"].map(String::from);
        let options = Options::parse(&words).unwrap();
        assert_eq!(
            options.flags,
            MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY
        );
        assert_eq!(
            options.propagation,
            Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        );
        assert_eq!(options.data, ["lowerdir=/a:/b"]);
        let words = ["uidmap=0:1000:1", "gidmap=0:2000:1"].map(String::from);
        let mappings = Options::parse(&words).unwrap().mappings.unwrap();
        assert_eq!(
            (mappings.uids.as_str(), mappings.gids.as_str()),
            ("0:1000:1", "0:2000:1")
        );
        for unknown in ["loop", "X-containerd.mkfs"] {
            assert!(Options::parse(&[unknown.to_owned()]).is_err());
        }
    }

    #[test]
    fn a_target_stays_in_the_rootfs() {
        let rootfs = Path::new("/b/rootfs");
        assert_eq!(target_of(rootfs, "").unwrap(), rootfs);
        assert_eq!(target_of(rootfs, "/a/./b").unwrap(), Path::new("/b/rootfs/a/b"));
        assert!(target_of(rootfs, "a/../../..").is_err());
    }

    #[test]
    fn names_of_mounts_are_read() {
        assert_eq!(plain(br"/a\040b\134c"), OsString::from("/a b\\c"));
        assert_eq!(plain(br"/a\0"), OsString::from(r"/a\0"));
    }
}

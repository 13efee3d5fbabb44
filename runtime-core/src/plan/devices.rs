//! Runs in: RUNTIME. Decides which nodes and links are made in /dev. Pure.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType, Spec};
use rustix::fs::{Dev, makedev};

use super::mounts::{MountPlan, MountSource};
use super::{c_string, clean_in_container};
use crate::{Error, Result};

/// Nodes and links of /dev.
#[derive(Debug, Default)]
pub struct DevicesPlan {
    /// Nodes, in order.
    pub nodes: Vec<DevicePlan>,
    /// Links.
    pub links: Vec<DeviceLink>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// For errors: `linux.devices[n]`, or the name of a default device.
    pub field: String,
    /// Directory, clean, without leading slash.
    pub directory: CString,
    /// Name in it.
    pub name: CString,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub file_type: u32,
    /// Permission bits.
    pub mode: u32,
    /// Number.
    pub device: Dev,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The node of the host to mount instead of making one: in a user namespace.
    pub host_path: Option<PathBuf>,
    /// In a user namespace: a node is made all the same, by TREES, since the mode and the owner of the host's
    /// are not those that are asked for. A restored container has the host's.
    pub is_made: bool,
    /// Where INIT makes it: the node of the host that it mounts if it is refused that. Not without a mount
    /// namespace of its own.
    pub instead: Option<CString>,
}

/// Where device nodes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodesFrom {
    /// INIT makes them.
    Init {
        /// Whether the container has a mount namespace.
        may_mount: bool,
    },
    /// In a user namespace, which may make none: those of config.json are made by TREES, the default ones are
    /// the host's.
    Trees,
    /// RUNTIME may make none either: they are the host's.
    Host,
}

/// A symbolic link in /dev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLink {
    /// Where to.
    pub target: &'static std::ffi::CStr,
    /// Name in /dev.
    pub name: &'static std::ffi::CStr,
    /// Whether something else of that name is replaced.
    pub replace: bool,
}

/// config-linux.md, Default Devices. /dev/console comes with the terminal, /dev/ptmx as a link.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// runtime-linux.md, "Dev symbolic links", and /dev/ptmx.
const LINKS: [DeviceLink; 5] = [
    DeviceLink {
        target: c"/proc/self/fd",
        name: c"fd",
        replace: false,
    },
    DeviceLink {
        target: c"/proc/self/fd/0",
        name: c"stdin",
        replace: false,
    },
    DeviceLink {
        target: c"/proc/self/fd/1",
        name: c"stdout",
        replace: false,
    },
    DeviceLink {
        target: c"/proc/self/fd/2",
        name: c"stderr",
        replace: false,
    },
    DeviceLink {
        target: c"pts/ptmx",
        name: c"ptmx",
        replace: true,
    },
];

impl DevicesPlan {
    /// Decides.
    ///
    /// # Errors
    /// `Invalid` for a device without a name.
    pub fn new(spec: &Spec, mounts: &[MountPlan], from: NodesFrom) -> Result<Self> {
        let Some(linux) = spec.linux() else {
            return Ok(Self::default());
        };
        // The host's own /dev must not be written to.
        let dev_is_bind = mounts.iter().any(|mount| {
            mount.target.as_bytes() == b"dev" && matches!(mount.source, MountSource::Bind { .. })
        });
        if dev_is_bind {
            return Ok(Self::default());
        }
        let mut nodes = configured(linux, from)?;
        add_defaults(&mut nodes, from)?;
        Ok(Self {
            nodes,
            links: LINKS.to_vec(),
        })
    }
}

/// Where INIT finds the host's node, should it not be allowed to make one.
fn instead(from: NodesFrom, path: &Path, file_type: u32, field: &str) -> Result<Option<CString>> {
    let may_be = from == NodesFrom::Init { may_mount: true } && file_type != libc::S_IFIFO;
    may_be
        .then(|| c_string(path.as_os_str().as_bytes(), field.to_owned()))
        .transpose()
}

/// `linux.devices`.
fn configured(linux: &Linux, from: NodesFrom) -> Result<Vec<DevicePlan>> {
    let by_init = matches!(from, NodesFrom::Init { .. });
    let mut nodes: Vec<DevicePlan> = Vec::new();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let field = format!("linux.devices[{index}]");
        let (directory, name) = split(device.path(), &field)?;
        // Always a link to that of the container's own devpts. Engines list the host's for privileged
        // containers.
        if (directory.as_bytes(), name.as_bytes()) == (b"dev", b"ptmx") {
            continue;
        }
        let file_type = match device.typ() {
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A => {
                return Err(Error::invalid(format!("{field}.type"), "must be c, b, u or p"));
            }
        };
        nodes.push(DevicePlan {
            instead: instead(from, device.path(), file_type, &field)?,
            directory,
            name,
            file_type,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            device: makedev(device.major() as u32, device.minor() as u32),
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            // A fifo may be made in any namespace.
            host_path: (!by_init && file_type != libc::S_IFIFO).then(|| device.path().clone()),
            is_made: from == NodesFrom::Trees && file_type != libc::S_IFIFO,
            field,
        });
    }
    Ok(nodes)
}

/// The devices that every container has (config-linux.md, Default Devices), unless config.json has another in
/// the place.
fn add_defaults(nodes: &mut Vec<DevicePlan>, from: NodesFrom) -> Result<()> {
    let by_init = matches!(from, NodesFrom::Init { .. });
    for (name, major, minor) in DEFAULTS {
        let is_given = nodes
            .iter()
            .any(|node| node.directory.as_bytes() == b"dev" && node.name.as_bytes() == name.as_bytes());
        if is_given {
            continue;
        }
        let path = Path::new("/dev").join(name);
        nodes.push(DevicePlan {
            instead: instead(from, &path, libc::S_IFCHR, name)?,
            field: format!("default device /dev/{name}"),
            directory: c_string("dev", "dev")?,
            name: c_string(name, "dev")?,
            file_type: libc::S_IFCHR,
            mode: 0o666,
            device: makedev(major, minor),
            uid: 0,
            gid: 0,
            host_path: (!by_init).then_some(path),
            is_made: false,
        });
    }
    Ok(())
}

fn split(path: &Path, field: &str) -> Result<(CString, CString)> {
    let field = format!("{field}.path");
    let clean = clean_in_container(path, field.clone())?;
    let clean = Path::new(std::ffi::OsStr::from_bytes(clean.as_bytes()));
    match (clean.parent(), clean.file_name()) {
        (Some(directory), Some(name)) => Ok((
            c_string(directory.as_os_str().as_bytes(), field.clone())?,
            c_string(name.as_bytes(), field)?,
        )),
        _ => Err(Error::invalid(field, "not the path of a file").with_path(path)),
    }
}

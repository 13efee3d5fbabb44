//! Runs in: RUNTIME. What is mounted: a tree of the host, a new file system, or a change of what is there.
//! Pure.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use oci_spec::runtime::Mount;
use runtime_sys::namespace::Kinds;

use super::options::{Options, Superblock};
use super::{CLASSIC_MAX, FSCONFIG_MAX, MountContext, MountPlan, MountSource, NewFilesystem, cgroup};
use crate::plan::namespaces::NamespacesPlan;
use crate::plan::{HostFacts, c_string};
use crate::{Error, Result};

/// Which kind of superblock a new file system has, or the one that is there already.
pub(super) fn superblock_of(
    fstype: &str,
    target: &CString,
    options: &Options<'_>,
    earlier: &[MountPlan],
) -> Superblock {
    let fstype = match earlier.iter().rfind(|mount| mount.target == *target) {
        _ if !options.said.remount => fstype,
        Some(MountPlan {
            source: MountSource::New(NewFilesystem { fstype, .. }) | MountSource::Classic { fstype, .. },
            ..
        }) => fstype.to_str().unwrap_or_default(),
        // Of a tree of the host, or in the image.
        _ => return Superblock::Shared,
    };
    match fstype {
        "tmpfs" | "ramfs" | "devpts" | "hugetlbfs" | "bpf" => Superblock::Memory,
        // One for each network, ipc or pid namespace.
        "sysfs" | "mqueue" | "proc" | "rpc_pipefs" | "nfsd" => Superblock::Shared,
        // One for the machine, or for each user namespace.
        "cgroup" | "cgroup2" | "cpuset" | "resctrl" | "debugfs" | "tracefs" | "securityfs" | "configfs"
        | "devtmpfs" | "pstore" | "efivarfs" | "fusectl" | "selinuxfs" | "smackfs" | "binfmt_misc" => {
            Superblock::Shared
        }
        _ => Superblock::Own,
    }
}

/// What is mounted.
///
/// # Errors
/// `Invalid` with the field.
pub(super) fn source(
    index: u16,
    mount: &Mount,
    mut options: Options<'_>,
    context: MountContext<'_>,
    is_proc_itself: bool,
) -> Result<MountSource> {
    let fstype = mount.typ().as_deref().unwrap_or("none");
    let field = |name: &str| format!("mounts[{index}].{name}");
    if options.said.remount && options.said.bind {
        // As with mount(2): only the mount changes. The superblock is the host's.
        return Ok(MountSource::Remount { options: Vec::new() });
    }
    if cgroup::is_cgroup(fstype) {
        // The superblock is shared with the host: no option may reach it.
        options.take_out_cgroup_options(&field("options"))?;
    }
    if options.said.remount {
        return Ok(MountSource::Remount {
            options: options.superblock(None),
        });
    }
    if options.said.bind {
        let source = mount.source().as_ref();
        let source = source.ok_or_else(|| Error::invalid(field("source"), "missing"))?;
        let path = context.facts.bundle.join(source);
        return Ok(MountSource::Bind {
            inside: context.rootfs.inside(&path),
            path,
            recursive: options.said.recursive_bind,
            link: options.said.source_link,
            must_be_procfs: is_proc_itself,
        });
    }
    if is_proc_itself && fstype != "proc" {
        let message = format!("{fstype:?} cannot be mounted on /proc because it is not of type proc");
        return Err(Error::invalid(field("type"), message));
    }
    let source = c_string(source_name(mount), field("source"))?;
    if cgroup::is_cgroup(fstype) {
        return Ok(cgroup::source(&options));
    }
    new_filesystem(index, fstype, source, options, context)
}

/// What a new file system is made of: its type where nothing is named.
pub(super) fn source_name(mount: &Mount) -> &[u8] {
    let fstype = mount.typ().as_deref().unwrap_or("none");
    let source = mount.source().as_ref();
    source.map_or(fstype.as_bytes(), |path| path.as_os_str().as_bytes())
}

fn new_filesystem(
    index: u16,
    fstype: &str,
    source: CString,
    mut options: Options<'_>,
    context: MountContext<'_>,
) -> Result<MountSource> {
    let name = c_string(fstype, format!("mounts[{index}].type"))?;
    let mode_of_place = fstype == "tmpfs" && !options.has("mode");
    if options.needs_classic(source.as_bytes()) {
        let field = format!("mounts[{index}].options");
        if options.said.copy_up {
            let message = format!("tmpcopyup with a source or an option of {FSCONFIG_MAX} bytes or more");
            return Err(Error::invalid(field, message));
        }
        let data = options.data();
        // INIT adds it.
        let mode = if mode_of_place { ",mode=0755".len() } else { 0 };
        let is_short = data.len() + mode < CLASSIC_MAX;
        let can_be_split =
            options.is_overlay && !options.said.only_classic && source.as_bytes().len() < FSCONFIG_MAX;
        if is_short {
            return Ok(MountSource::Classic {
                source,
                fstype: name,
                flags: options.flags(),
                data: c_string(data, field)?,
                mode_of_place,
            });
        }
        if !can_be_split {
            let message = format!("{} bytes, which mount(2) would cut at {CLASSIC_MAX}", data.len());
            return Err(Error::invalid(field, message));
        }
        options.split_layers(&field)?;
    }
    // Without an ipc namespace these are the queues of the host, whose label is its own.
    let label = context.label.filter(|_| context.namespaces.has(Kinds::IPC));
    Ok(MountSource::New(NewFilesystem {
        fstype: name,
        attributes: options.new_attributes(),
        copy_up: options.said.copy_up,
        options: options.superblock(Some(source)),
        mode_of_place,
        root_label: label.and_then(|label| label.of_root(fstype)),
        instead: instead(fstype, context.namespaces, context.facts),
    }))
}

/// A file system that shows a namespace is refused to a user namespace that does not own the namespace. The
/// host's own mount of it shows the same, if the namespace is the host's.
fn instead(fstype: &str, namespaces: &NamespacesPlan, facts: &HostFacts) -> Option<PathBuf> {
    let (kind, path) = match fstype {
        "sysfs" => (Kinds::NETWORK, "/sys"),
        "mqueue" => (Kinds::IPC, "/dev/mqueue"),
        "proc" => (Kinds::PID, "/proc"),
        _ => return None,
    };
    let inside = namespaces.is_user_namespaced() || facts.in_user_namespace;
    (inside && !namespaces.makes(kind)).then(|| path.into())
}

//! Runs in: RUNTIME. Turns `mounts` into what the kernel's mount calls take. Pure.
//!
//! A bind mount is a tree that RUNTIME copies and changes before the clone; a new file system is made by INIT
//! inside the container's namespaces.

mod cgroup;
mod options;
mod overlay;
mod sources;
mod targets;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use oci_spec::runtime::{Mount, Spec};
use runtime_init::args::Links;
use runtime_sys::mount::{ATTR_RDONLY, MountAttr};
use runtime_sys::namespace::Kinds;

use super::HostFacts;
pub(crate) use super::mount_label::FsOption;
use super::mount_label::MountLabel;
use super::namespaces::{NamespacesPlan, UserNamespace};
use super::rootfs::RootfsPlan;
pub(crate) use crate::spec::mount_options::{IdRanges, SourceLink};
use crate::spec::paths::is_free_below_proc;
use crate::{Error, ErrorKind, Result};
use options::{Options, Superblock};
use sources::superblock_of;
use targets::target_of;

/// fsconfig(2) takes strings of less than this (fs/fsopen.c); longer ones must go by mount(2).
const FSCONFIG_MAX: usize = 256;
/// mount(2) takes options of less than this, and cuts longer ones without a word (`copy_mount_options`).
const CLASSIC_MAX: usize = 4096;

/// One mount.
#[derive(Debug)]
pub struct MountPlan {
    /// Place in `mounts`.
    pub index: u16,
    /// `destination`, clean, without leading slash.
    pub target: CString,
    /// What symbolic links on the way are.
    pub links: Links,
    /// Whether it may lie on a procfs.
    pub may_be_on_procfs: bool,
    /// What is mounted.
    pub source: MountSource,
    /// Changes of attributes and propagation, in order; the flag: recursively.
    pub attributes: Vec<(MountAttr, bool)>,
    /// Id mapping, for bind mounts.
    pub id_map: Option<MountIdMap>,
    /// Whether it becomes read-only when all else has been made: places of other mounts, or devices, are made
    /// in it.
    pub readonly_late: bool,
    /// Whether mounts of the list lie below this read-only bind mount, whose places are made in it where they
    /// are missing.
    pub places_below: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute path.
        path: PathBuf,
        /// The rest of it, if it is a path below the rootfs: an earlier mount may lie there when it is this
        /// one's turn.
        inside: Option<CString>,
        /// `rbind`.
        recursive: bool,
        /// What is mounted where the path ends in a symbolic link.
        link: SourceLink,
        /// Must be of a procfs: it is mounted on /proc.
        must_be_procfs: bool,
    },
    /// A new file system.
    New(NewFilesystem),
    /// A new file system by mount(2).
    Classic {
        /// Source.
        source: CString,
        /// Type.
        fstype: CString,
        /// `MS_*`.
        flags: u64,
        /// Options.
        data: CString,
        /// A tmpfs without a mode of its own.
        mode_of_place: bool,
    },
    /// The cgroup tree. A new cgroup2 mount if the cgroup namespace is the container's own; the host's tree
    /// if not.
    Cgroup(NewFilesystem),
    /// Changes what is mounted there already.
    Remount {
        /// Options of the superblock.
        options: Vec<FsOption>,
    },
}

/// A file system for fsopen(2).
#[derive(Debug)]
pub struct NewFilesystem {
    /// Type.
    pub fstype: CString,
    /// Options, in order.
    pub options: Vec<FsOption>,
    /// `MOUNT_ATTR_*`.
    pub attributes: u64,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// A tmpfs without a mode of its own gets that of the directory which it covers.
    pub mode_of_place: bool,
    /// `security.selinux` of its root directory.
    pub root_label: Option<CString>,
    /// What of the host is mounted instead if the kernel refuses the file system to a user namespace.
    pub instead: Option<PathBuf>,
}

impl NewFilesystem {
    /// The attributes of what is mounted instead: never more than the file system would have had, also below
    /// it.
    pub fn attributes_instead(&self) -> Vec<(MountAttr, bool)> {
        let attributes = MountAttr {
            set: self.attributes,
            propagation: libc::MS_SLAVE,
            ..MountAttr::default()
        };
        vec![(attributes, true)]
    }
}

/// Id mapping of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIdMap {
    /// Own mappings; `None`: those of the container's user namespace.
    pub mappings: Option<IdRanges>,
    /// `ridmap`.
    pub recursive: bool,
}

/// What the plan of a mount has to know of the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MountContext<'a> {
    /// The host.
    pub facts: &'a HostFacts,
    /// The container's namespaces.
    pub namespaces: &'a NamespacesPlan,
    /// Its rootfs.
    pub rootfs: &'a RootfsPlan,
    /// `linux.mountLabel`, where there is SELinux.
    pub label: Option<&'a MountLabel>,
}

/// Key and value, as in config.json.
pub(crate) fn text_of((key, value): &FsOption) -> String {
    let key = key.to_string_lossy();
    match value {
        Some(value) => format!("{key}={}", value.to_string_lossy()),
        None => key.into_owned(),
    }
}

/// All of `mounts`, in order.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn plan(spec: &Spec, context: MountContext<'_>) -> Result<Vec<MountPlan>> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mut plans = Vec::new();
    for (index, mount) in mounts {
        let plan = plan_one(spec, index as u16, mount, context, &plans)?;
        plans.push(plan);
    }
    for place in 0..plans.len() {
        if let Some((mount, later)) = plans.get_mut(place..).and_then(<[_]>::split_first_mut) {
            mount.postpone_readonly(later);
            // Where others see it, it is not writable for a moment either.
            if context.namespaces.unshare.has(Kinds::MOUNT) {
                mount.allow_places_below(later);
            }
        }
    }
    Ok(plans)
}

fn plan_one(
    spec: &Spec,
    index: u16,
    mount: &Mount,
    context: MountContext<'_>,
    earlier: &[MountPlan],
) -> Result<MountPlan> {
    let MountContext {
        facts, namespaces, ..
    } = context;
    let target = target_of(mount.destination(), &context.rootfs.path, index)?;
    let mut options = options_for(spec, index, mount, context)?;
    let id_map = plan_id_map(mount, &options);
    if id_map.is_some() && !facts.may_mount {
        let message = "an id-mapped mount needs CAP_SYS_ADMIN over the source's file system";
        return Err(Error::invalid(format!("mounts[{index}]"), message).with_kind(ErrorKind::Denied));
    }
    let mut attributes = Vec::new();
    if options.said.bind && !options.said.remount && context.rootfs.copy_propagation != 0 {
        attributes.push((MountAttr::propagation(context.rootfs.copy_propagation), true));
    }
    if !options.said.bind {
        settle_new(mount, &target, &mut options, context, earlier);
    }
    options.push_attributes(
        &mut attributes,
        namespaces.is_user_namespaced() || facts.in_user_namespace,
    );
    let is_proc_itself = target.as_bytes() == b"proc";
    let is_kernel_tree = !options.said.bind && matches!(mount.typ().as_deref(), Some("proc" | "sysfs"));
    Ok(MountPlan {
        index,
        links: match (is_proc_itself || is_kernel_tree, options.said.keep_last_link) {
            (true, _) => Links::Refuse,
            (false, true) => Links::KeepLast,
            (false, false) => Links::Follow,
        },
        may_be_on_procfs: is_proc_itself || is_free_below_proc(target.as_bytes()),
        source: sources::source(index, mount, options, context, is_proc_itself)?,
        target,
        attributes,
        id_map,
        readonly_late: false,
        places_below: false,
    })
}

/// The options, with those that the whole picture adds and takes away.
fn options_for<'a>(
    spec: &Spec,
    index: u16,
    mount: &'a Mount,
    context: MountContext<'_>,
) -> Result<Options<'a>> {
    let mut options = Options::new(spec, index, mount)?;
    let fstype = mount.typ().as_deref().unwrap_or("none");
    if fstype == "devpts" {
        options
            .data
            .retain(|option| is_mapped_group(option, context.namespaces));
    }
    if options.is_overlay && !options.said.bind {
        options.resolve_layers(context.facts.bundle.as_os_str().as_bytes(), index)?;
    }
    if let (Some(label), false) = (context.label, options.said.bind || options.said.remount) {
        let label = label.option_for(fstype, &options.data);
        options.data.extend(label);
    }
    Ok(options)
}

/// Decides for a new file system, or a change of one, what reaches its superblock, and when it becomes
/// read-only.
fn settle_new(
    mount: &Mount,
    target: &CString,
    options: &mut Options<'_>,
    context: MountContext<'_>,
    earlier: &[MountPlan],
) {
    let fstype = mount.typ().as_deref().unwrap_or("none");
    let superblock = superblock_of(fstype, target, options, earlier);
    options.settle_superblock(superblock);
    // What is written to it comes before: copies, a label of its root directory, its mode.
    let is_written_to = options.said.copy_up
        || context.label.is_some_and(|label| label.of_root(fstype).is_some())
        || superblock != Superblock::Own && options.needs_classic(sources::source_name(mount));
    let is_read_only = options.said.attributes.set & ATTR_RDONLY != 0;
    options.readonly_after = is_written_to && !cgroup::is_cgroup(fstype) && is_read_only;
}

/// That there are mappings, or a user namespace whose mappings they are, has been judged.
fn plan_id_map(mount: &Mount, options: &Options<'_>) -> Option<MountIdMap> {
    let mappings = match (mount.uid_mappings(), mount.gid_mappings()) {
        (Some(uids), Some(gids)) if !uids.is_empty() && !gids.is_empty() => {
            Some((uids.clone(), gids.clone()))
        }
        _ => options.said.id_ranges.clone(),
    };
    (mappings.is_some() || options.said.id_map.is_some()).then(|| MountIdMap {
        mappings,
        recursive: options.said.id_map.unwrap_or(false),
    })
}

/// Every engine gives terminals to the group `tty` by `gid=5`. Where that is not mapped, the kernel would
/// refuse the whole file system; without it they belong to the group of whoever opens them.
fn is_mapped_group((key, value): &FsOption, namespaces: &NamespacesPlan) -> bool {
    let UserNamespace::New { gids, .. } = &namespaces.user else {
        return true;
    };
    let number = value
        .as_ref()
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let (true, Some(group)) = (key.as_bytes() == b"gid", number) else {
        return true;
    };
    gids.iter().any(|range| {
        group
            .checked_sub(range.container_id())
            .is_some_and(|offset| offset < range.size())
    })
}

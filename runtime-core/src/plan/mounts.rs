//! Runs in: RUNTIME. Turns `mounts` into what the kernel's mount calls take. Pure.
//!
//! A bind mount is a tree that RUNTIME copies and changes before the clone; a new file system is made by INIT inside
//! the container's namespaces. What mount(8) calls options falls apart into attributes of the mount (`MountAttr`),
//! flags of the superblock, propagation, and data for the file system.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};
use runtime_init::args::Links;
use runtime_sys::mount::{ATTR_RDONLY, MountAttr};

use super::mount_label::{self, MountLabel};
use super::mount_text::{absolute, id_ranges, label, layers, words};
use super::namespaces::{NamespacesPlan, UserNamespace};
use super::rootfs::RootfsPlan;
use super::{HostFacts, c_string, clean_in_container};
use crate::{Error, ErrorKind, Result};

const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME_MASK: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;
/// What the kernel locks on a mount that a user namespace gets from outside.
const LOCKABLE: u64 = ATTR_RDONLY | NOSUID | NODEV | NOEXEC;

/// fsconfig(2) takes strings of less than this (fs/fsopen.c); longer ones must go by mount(2).
const FSCONFIG_MAX: usize = 256;
/// mount(2) takes options of less than this, and cuts longer ones without a word (`copy_mount_options`).
const CLASSIC_MAX: usize = 4096;

/// Options of cgroup2, none of which is for a container to set.
const CGROUP_OPTIONS: [&str; 6] = [
    "nsdelegate",
    "favordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
];

/// Files below /proc that may be mounted over, as in runc: lxcfs and the like do.
const ON_PROCFS: [&str; 10] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

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
    /// Whether it becomes read-only when all else has been made: places of other mounts, or devices, are made in it.
    pub readonly_late: bool,
    /// Whether mounts of the list lie below this read-only bind mount, whose places are made in it where they are missing.
    pub places_below: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute path.
        path: PathBuf,
        /// The rest of it, if it is a path below the rootfs: an earlier mount may lie there when it is this one's turn.
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
    /// The cgroup tree. A new cgroup2 mount if the cgroup namespace is the container's own; the host's tree if not.
    Cgroup(NewFilesystem),
    /// Changes what is mounted there already.
    Remount {
        /// Options of the superblock.
        options: Vec<FsOption>,
    },
}

/// What a bind mount makes of a source that is a symbolic link. Links before the last component are always followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceLink {
    /// What it leads to is mounted.
    #[default]
    Follow,
    /// `src-nofollow`: the link itself is mounted.
    Itself,
    /// `copy-symlink`: nothing is mounted; the destination becomes a link that says the same.
    Copy,
}

/// Key and value of a file system option.
pub type FsOption = (CString, Option<CString>);

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
    /// The attributes of what is mounted instead: never more than the file system would have had, also below it.
    pub fn attributes_instead(&self) -> Vec<(MountAttr, bool)> {
        let attributes = MountAttr {
            set: self.attributes,
            propagation: libc::MS_SLAVE,
            ..MountAttr::default()
        };
        vec![(attributes, true)]
    }
}

/// A file system that shows a namespace is refused to a user namespace that does not own the namespace. The host's own
/// mount of it shows the same, if the namespace is the host's.
fn instead(fstype: &str, namespaces: &NamespacesPlan, facts: &HostFacts) -> Option<PathBuf> {
    let (kind, path) = match fstype {
        "sysfs" => (libc::CLONE_NEWNET, "/sys"),
        "mqueue" => (libc::CLONE_NEWIPC, "/dev/mqueue"),
        "proc" => (libc::CLONE_NEWPID, "/proc"),
        _ => return None,
    };
    let inside = namespaces.is_user_namespaced() || facts.in_user_namespace;
    (inside && !namespaces.makes(kind as u32)).then(|| path.into())
}

/// Id mapping of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIdMap {
    /// Own mappings; `None`: those of the container's user namespace.
    pub mappings: Option<IdRanges>,
    /// `ridmap`.
    pub recursive: bool,
}

/// Of users and groups.
pub type IdRanges = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// What the plan of a mount has to know of the rest.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
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
pub fn text_of((key, value): &FsOption) -> String {
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
pub fn plan(spec: &Spec, around: Around<'_>) -> Result<Vec<MountPlan>> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mut plans = Vec::new();
    for (index, mount) in mounts {
        let plan = plan_one(index as u16, mount, around, &plans)?;
        plans.push(plan);
    }
    for place in 0..plans.len() {
        if let Some((mount, later)) = plans.get_mut(place..).and_then(<[_]>::split_first_mut) {
            mount.postpone_readonly(later);
            // Where others see it, it is not writable for a moment either.
            if around.namespaces.unshare & libc::CLONE_NEWNS as u32 != 0 {
                mount.allow_places_below(later);
            }
        }
    }
    Ok(plans)
}

impl MountPlan {
    /// A mount of the list may lie below a read-only bind mount where there is no place for it yet. As crun does it.
    fn allow_places_below(&mut self, later: &[Self]) {
        let is_below = |mount: &Self| {
            let rest = mount.target.as_bytes().strip_prefix(self.target.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let is_changed = later.iter().any(|mount| mount.target == self.target);
        let makes = |wanted: bool| {
            let is_readonly = |(change, recursive): &(MountAttr, bool)| {
                *recursive == wanted && change.set & ATTR_RDONLY != 0
            };
            self.attributes.iter().any(is_readonly)
        };
        self.places_below = matches!(self.source, MountSource::Bind { .. })
            && !is_changed
            && later.iter().any(is_below)
            && makes(false)
            && !makes(true);
    }

    /// A tmpfs that is read-only from the start has no directories for `later` mounts, nor devices. As runc does it.
    fn postpone_readonly(&mut self, later: &[Self]) {
        let MountSource::New(new) = &mut self.source else {
            return;
        };
        let is_below = |path: &CString| {
            let rest = path.as_bytes().strip_prefix(self.target.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let is_written_to = self.target.as_bytes() == b"dev" || later.iter().any(|m| is_below(&m.target));
        let is_covered = later.iter().any(|mount| mount.target == self.target);
        if new.fstype.as_bytes() != b"tmpfs" || !is_written_to || is_covered {
            return;
        }
        let only_readonly = MountAttr {
            set: ATTR_RDONLY,
            ..MountAttr::default()
        };
        let is_ro = |(change, _): &(MountAttr, bool)| *change == only_readonly;
        self.readonly_late = new.attributes & ATTR_RDONLY != 0 || self.attributes.iter().any(is_ro);
        new.attributes &= !ATTR_RDONLY;
        new.options.retain(|(key, _)| key.as_bytes() != b"ro");
        self.attributes.retain(|change| !is_ro(change));
    }
}

fn plan_one(index: u16, mount: &Mount, around: Around<'_>, earlier: &[MountPlan]) -> Result<MountPlan> {
    let Around {
        facts,
        namespaces,
        rootfs,
        ..
    } = around;
    let fstype = mount.typ().as_deref().unwrap_or("none");
    let mut options = Options::parse(mount, index)?;
    if mount.typ().as_deref() == Some("devpts") {
        options.data.retain(|option| is_mapped_group(option, namespaces));
    }
    options.is_overlay = fstype == "overlay";
    if options.is_overlay && !options.bind {
        options.resolve_layers(facts.bundle.as_os_str().as_bytes(), index)?;
    }
    if let (Some(label), false) = (around.label, options.bind || options.remount) {
        let label = label.option_for(fstype, &options.data);
        options.data.extend(label);
    }
    let target = target_of(mount.destination(), &rootfs.path, index)?;
    let is_proc_itself = target.as_bytes() == b"proc";
    let is_kernel_tree = !options.bind && matches!(fstype, "proc" | "sysfs");
    let may_be_on_procfs =
        is_proc_itself || ON_PROCFS.iter().any(|path| path.as_bytes() == target.as_bytes());
    let id_map = plan_id_map(mount, &options, index, namespaces)?;
    if id_map.is_some() && !facts.may_mount {
        let message = "an id-mapped mount needs CAP_SYS_ADMIN over the source's file system";
        return Err(Error::invalid(format!("mounts[{index}]"), message).with_kind(ErrorKind::Denied));
    }
    let mut attributes = Vec::new();
    if options.bind && !options.remount && rootfs.copy_propagation != 0 {
        attributes.push((MountAttr::propagation(rootfs.copy_propagation), true));
    }
    if !options.bind {
        let superblock = superblock_of(fstype, &target, &options, earlier);
        options.settle_superblock(superblock);
        let source = mount
            .source()
            .as_ref()
            .map_or(fstype.as_bytes(), |path| path.as_os_str().as_bytes());
        // What is written to it comes before: copies, a label of its root directory, its mode.
        let is_written_to = options.copy_up
            || around.label.is_some_and(|label| label.of_root(fstype).is_some())
            || superblock != Superblock::Own && options.needs_classic(source);
        let is_cgroup = matches!(fstype, "cgroup" | "cgroup2");
        options.readonly_after = is_written_to && !is_cgroup && options.attributes & ATTR_RDONLY != 0;
    }
    options.push_attributes(
        &mut attributes,
        namespaces.is_user_namespaced() || facts.in_user_namespace,
    );
    Ok(MountPlan {
        index,
        links: match (is_proc_itself || is_kernel_tree, options.keep_last_link) {
            (true, _) => Links::Refuse,
            (false, true) => Links::KeepLast,
            (false, false) => Links::Follow,
        },
        may_be_on_procfs,
        source: plan_source(index, mount, fstype, options, around, is_proc_itself)?,
        target,
        attributes,
        id_map,
        readonly_late: false,
        places_below: false,
    })
}

/// Every engine gives terminals to the group `tty` by `gid=5`. Where that is not mapped, the kernel would refuse the
/// whole file system; without it they belong to the group of whoever opens them.
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

/// Whose the superblock of a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Superblock {
    /// The mount's own, on a device, a server or other file systems.
    Own,
    /// The mount's own, in memory: nothing is gained where it is read-only too.
    Memory,
    /// Also that of others: flags would be theirs too.
    Shared,
}

/// Which kind of superblock a new file system has, or the one that is there already.
fn superblock_of(fstype: &str, target: &CString, options: &Options, earlier: &[MountPlan]) -> Superblock {
    let fstype = match earlier.iter().rfind(|mount| mount.target == *target) {
        _ if !options.remount => fstype,
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

fn plan_source(
    index: u16,
    mount: &Mount,
    fstype: &str,
    mut options: Options,
    around: Around<'_>,
    is_proc_itself: bool,
) -> Result<MountSource> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    if options.remount && options.bind {
        // As with mount(2): only the mount changes. The superblock is the host's.
        return Ok(MountSource::Remount { options: Vec::new() });
    }
    if matches!(fstype, "cgroup" | "cgroup2") {
        // The superblock is shared with the host: no option may reach it.
        options.take_out_cgroup_options(&field("options"))?;
    }
    if options.remount {
        return Ok(MountSource::Remount {
            options: options.superblock(None),
        });
    }
    if options.bind {
        let source = mount
            .source()
            .as_ref()
            .ok_or_else(|| Error::invalid(field("source"), "missing"))?;
        let path = around.facts.bundle.join(source);
        return Ok(MountSource::Bind {
            inside: around.rootfs.inside(&path),
            path,
            recursive: options.recursive_bind,
            link: options.source_link,
            must_be_procfs: is_proc_itself,
        });
    }
    if is_proc_itself && fstype != "proc" {
        let message = format!("{fstype:?} cannot be mounted on /proc because it is not of type proc");
        return Err(Error::invalid(field("type"), message));
    }
    let source = mount
        .source()
        .as_ref()
        .map_or(fstype.as_bytes(), |path| path.as_os_str().as_bytes());
    let source = c_string(source, field("source"))?;
    if matches!(fstype, "cgroup" | "cgroup2") {
        let attributes = options.new_attributes();
        let options = vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))];
        let fstype = c"cgroup2".to_owned();
        return Ok(MountSource::Cgroup(NewFilesystem {
            fstype,
            options,
            attributes,
            copy_up: false,
            mode_of_place: false,
            root_label: None,
            instead: None,
        }));
    }
    let name = c_string(fstype, field("type"))?;
    let label = around.label;
    let mode_of_place = fstype == "tmpfs" && !options.has("mode");
    if options.needs_classic(source.as_bytes()) {
        let field = field("options");
        if options.copy_up {
            let message = format!("tmpcopyup with a source or an option of {FSCONFIG_MAX} bytes or more");
            return Err(Error::invalid(field.to_owned(), message));
        }
        let data = options.data();
        // INIT adds it.
        let mode = if mode_of_place { ",mode=0755".len() } else { 0 };
        let is_short = data.len() + mode < CLASSIC_MAX;
        if is_short || options.only_classic || source.as_bytes().len() >= FSCONFIG_MAX || !options.is_overlay
        {
            if !is_short {
                let message = format!("{} bytes, which mount(2) would cut at {CLASSIC_MAX}", data.len());
                return Err(Error::invalid(field.to_owned(), message));
            }
            return Ok(MountSource::Classic {
                source,
                fstype: name,
                flags: options.flags(),
                data: c_string(data, field)?,
                mode_of_place,
            });
        }
        options.split_layers(&field)?;
    }
    // Without an ipc namespace these are the queues of the host, whose label is its own.
    let root_label = label
        .filter(|_| around.namespaces.has(libc::CLONE_NEWIPC as u32))
        .and_then(|label| label.of_root(fstype));
    let (attributes, copy_up) = (options.new_attributes(), options.copy_up);
    Ok(MountSource::New(NewFilesystem {
        fstype: name,
        options: options.superblock(Some(source)),
        attributes,
        copy_up,
        mode_of_place,
        root_label,
        instead: instead(fstype, around.namespaces, around.facts),
    }))
}

/// As runc does, and documents that were written for it rely on: a destination that names the rootfs by its path on the host is
/// in it.
fn target_of(destination: &Path, rootfs: &Path, index: u16) -> Result<CString> {
    let field = || format!("mounts[{index}].destination");
    let target = clean_in_container(destination, field())?;
    let rootfs = clean_in_container(rootfs, "root.path")?;
    if rootfs.is_empty() {
        return Ok(target);
    }
    let (target, rootfs) = (target.to_bytes(), rootfs.to_bytes());
    let inside = target
        .strip_prefix(rootfs)
        .filter(|rest| matches!(rest, [] | [b'/', ..]));
    c_string(
        inside.map_or(target, |rest| rest.strip_prefix(b"/").unwrap_or(rest)),
        field(),
    )
}

fn plan_id_map(
    mount: &Mount,
    options: &Options,
    index: u16,
    namespaces: &NamespacesPlan,
) -> Result<Option<MountIdMap>> {
    let mappings = match (mount.uid_mappings(), mount.gid_mappings()) {
        (Some(uids), Some(gids)) if !uids.is_empty() && !gids.is_empty() => {
            Some((uids.clone(), gids.clone()))
        }
        _ => options.id_ranges.clone(),
    };
    if mappings.is_none() && options.id_map.is_none() {
        return Ok(None);
    }
    if !options.bind {
        let message = "id-mapped mounts are only possible for bind mounts";
        return Err(Error::invalid(format!("mounts[{index}]"), message));
    }
    if mappings.is_none() && !namespaces.is_user_namespaced() {
        let message = "an id-mapped mount needs uidMappings and gidMappings, or a user namespace";
        return Err(Error::invalid(format!("mounts[{index}]"), message));
    }
    Ok(Some(MountIdMap {
        mappings,
        recursive: options.id_map.unwrap_or(false),
    }))
}

/// The options of one mount, taken apart.
#[derive(Debug, Default)]
struct Options {
    bind: bool,
    recursive_bind: bool,
    remount: bool,
    copy_up: bool,
    source_link: SourceLink,
    /// `dest-nofollow`.
    keep_last_link: bool,
    /// `idmap` (false) or `ridmap` (true).
    id_map: Option<bool>,
    /// crun's `idmap=uids=...;gids=...`.
    id_ranges: Option<IdRanges>,
    /// Attributes of the mount: what they are for a new one, and what is set and cleared on an existing one.
    attributes: u64,
    cleared: u64,
    access_time: AccessTime,
    /// Whether there is any option that mount(2) has a flag for.
    has_flags: bool,
    /// Whether what makes a new file system read-only waits until it has been written to.
    readonly_after: bool,
    is_overlay: bool,
    recursive: MountAttr,
    propagation: Vec<(u64, bool)>,
    /// Superblock flags by name, for fsconfig.
    superblock_flags: Vec<CString>,
    /// Superblock flags by bit, for mount(2).
    classic_flags: u64,
    /// Whether a flag is among them that only mount(2) has.
    only_classic: bool,
    data: Vec<FsOption>,
}

impl Options {
    fn parse(mount: &Mount, index: u16) -> Result<Self> {
        let field = format!("mounts[{index}].options");
        let mut options = Self {
            // A bind mount may be told by its type alone: mount(8) does so.
            bind: matches!(mount.typ().as_deref(), Some("bind" | "rbind")),
            recursive_bind: mount.typ().as_deref() == Some("rbind"),
            ..Self::default()
        };
        let fstype = mount.typ().as_deref().unwrap_or_default();
        for text in mount.options().iter().flatten() {
            match words(fstype, text).as_slice() {
                [word] => options.take(word, &field)?,
                // What the kernel takes apart for runc and crun: nothing that is the runtime's own.
                several => several
                    .iter()
                    .try_for_each(|word| options.take_for_filesystem(word, &field))?,
            }
        }
        Ok(options)
    }

    fn take(&mut self, text: &str, field: &str) -> Result<()> {
        if let Some((word @ ("idmap" | "ridmap"), value)) = text.split_once('=') {
            let ranges = id_ranges(value).ok_or_else(|| {
                let message =
                    format!("{text:?} is not of the form {word}=uids=ID-HOST-SIZE#...;gids=ID-HOST-SIZE#...");
                Error::invalid(field.to_owned(), message)
            })?;
            self.id_map = Some(word == "ridmap");
            self.id_ranges = Some(ranges);
            return Ok(());
        }
        if self.take_mode(text) || self.take_recursive(text) || self.take_propagation(text) {
            return Ok(());
        }
        self.take_for_filesystem(text, field)
    }

    fn take_for_filesystem(&mut self, text: &str, field: &str) -> Result<()> {
        if text.is_empty() || self.take_attribute(text) || self.take_superblock(text) {
            return Ok(());
        }
        self.take_data(text, field)
    }

    fn take_mode(&mut self, text: &str) -> bool {
        match text {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.source_link = SourceLink::Copy,
            "src-nofollow" => self.source_link = SourceLink::Itself,
            "dest-nofollow" => self.keep_last_link = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            "" | "defaults" => {}
            _ => return false,
        }
        true
    }

    fn take_attribute(&mut self, text: &str) -> bool {
        if self.access_time.take(text) {
            self.has_flags = true;
            return true;
        }
        let Some((set, clear)) = attribute(text) else {
            return false;
        };
        self.attributes = self.attributes & !clear | set;
        self.cleared = self.cleared & !set | clear;
        self.has_flags = true;
        match text {
            "ro" => {
                self.clear_superblock("rw", 0);
                self.set_superblock("ro", libc::MS_RDONLY);
            }
            "rw" => {
                self.clear_superblock("ro", libc::MS_RDONLY);
                self.set_superblock("rw", 0);
            }
            _ => {}
        }
        true
    }

    fn take_recursive(&mut self, text: &str) -> bool {
        let Some((set, clear)) = text.strip_prefix('r').and_then(attribute) else {
            return false;
        };
        self.recursive.set = self.recursive.set & !clear | set;
        self.recursive.clear = self.recursive.clear & !set | clear;
        true
    }

    fn take_superblock(&mut self, text: &str) -> bool {
        match text {
            "sync" => self.set_superblock("sync", libc::MS_SYNCHRONOUS),
            "async" => self.clear_superblock("sync", libc::MS_SYNCHRONOUS),
            "dirsync" => self.set_superblock("dirsync", libc::MS_DIRSYNC),
            "lazytime" => self.set_superblock("lazytime", libc::MS_LAZYTIME),
            "nolazytime" => self.clear_superblock("lazytime", libc::MS_LAZYTIME),
            "mand" => self.set_superblock("mand", libc::MS_MANDLOCK),
            "nomand" => self.clear_superblock("mand", libc::MS_MANDLOCK),
            "iversion" => {
                (self.classic_flags, self.only_classic) = (self.classic_flags | libc::MS_I_VERSION, true)
            }
            "noiversion" => {
                (self.classic_flags, self.only_classic) = (self.classic_flags & !libc::MS_I_VERSION, false)
            }
            "silent" => self.classic_flags |= libc::MS_SILENT,
            "loud" => self.classic_flags &= !libc::MS_SILENT,
            _ => return false,
        }
        self.has_flags = true;
        true
    }

    fn set_superblock(&mut self, name: &str, bit: u64) {
        self.clear_superblock(name, bit);
        self.classic_flags |= bit;
        self.superblock_flags.extend(CString::new(name));
    }

    fn clear_superblock(&mut self, name: &str, bit: u64) {
        self.classic_flags &= !bit;
        self.superblock_flags
            .retain(|flag| flag.as_bytes() != name.as_bytes());
    }

    fn take_propagation(&mut self, text: &str) -> bool {
        let (kind, recursive) = match text {
            "shared" => (libc::MS_SHARED, false),
            "rshared" => (libc::MS_SHARED, true),
            "slave" => (libc::MS_SLAVE, false),
            "rslave" => (libc::MS_SLAVE, true),
            "private" => (libc::MS_PRIVATE, false),
            "rprivate" => (libc::MS_PRIVATE, true),
            "unbindable" => (libc::MS_UNBINDABLE, false),
            "runbindable" => (libc::MS_UNBINDABLE, true),
            _ => return false,
        };
        self.propagation.push((kind, recursive));
        true
    }

    fn take_data(&mut self, text: &str, field: &str) -> Result<()> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) if mount_label::is_context(key.as_bytes()) => (key, Some(label(value))),
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let value = value.map(|value| c_string(value, field.to_owned())).transpose()?;
        self.data.push((c_string(key, field.to_owned())?, value));
        Ok(())
    }

    /// The directories of an overlay, which are looked up where INIT happens to be.
    fn resolve_layers(&mut self, bundle: &[u8], index: u16) -> Result<()> {
        for (key, value) in &mut self.data {
            if let Some(value) = value {
                let absolute = absolute(key.as_bytes(), value.as_bytes(), bundle);
                *value = c_string(absolute, format!("mounts[{index}].options"))?;
            }
        }
        Ok(())
    }

    fn has(&self, key: &str) -> bool {
        self.data
            .iter()
            .any(|(found, _)| found.as_bytes() == key.as_bytes())
    }

    /// Takes away what must not or need not reach the superblock.
    fn settle_superblock(&mut self, superblock: Superblock) {
        match superblock {
            Superblock::Own => return,
            Superblock::Memory => self.clear_superblock("ro", libc::MS_RDONLY),
            Superblock::Shared => (self.superblock_flags, self.classic_flags) = (Vec::new(), 0),
        }
        self.only_classic = false;
    }

    /// Refuses what cgroup2 does not know, as the kernel does where it is asked, and forgets the rest.
    fn take_out_cgroup_options(&mut self, field: &str) -> Result<()> {
        let is_known = |(key, value): &FsOption| {
            value.is_none()
                && CGROUP_OPTIONS
                    .iter()
                    .any(|known| known.as_bytes() == key.as_bytes())
        };
        match self.data.iter().find(|option| !is_known(option)) {
            Some(option) => {
                let message = format!("{:?} is no option of cgroup2", text_of(option));
                Err(Error::invalid(field.to_owned(), message))
            }
            None => {
                self.data.clear();
                Ok(())
            }
        }
    }

    /// The attributes with which a new file system is mounted.
    fn new_attributes(&self) -> u64 {
        let waits = if self.readonly_after { ATTR_RDONLY } else { 0 };
        (self.attributes | self.access_time.attributes()) & !waits
    }

    /// What remains to be changed on a made or copied mount.
    fn push_attributes(&self, changes: &mut Vec<(MountAttr, bool)>, is_locked: bool) {
        let is_new = !self.bind && !self.remount;
        let mut own = MountAttr {
            set: self.attributes,
            clear: self.cleared,
            ..MountAttr::default()
        };
        if self.access_time.is_given() {
            own.set |= self.access_time.attributes();
            own.clear |= (ATIME_MASK | NODIRATIME) & !own.set;
        }
        if self.remount || self.bind && self.has_flags {
            // As with runc and crun, and mount(2): who names flags, or mounts again, names all of them. What the kernel locks stays,
            // unless it is named.
            let replaced = if is_locked {
                NOSYMFOLLOW
            } else {
                LOCKABLE | NOSYMFOLLOW
            };
            own.clear |= replaced & !own.set;
        }
        own.clear = with_atime(own.set, own.clear);
        if !is_new && !own.is_empty() {
            changes.push((own, false));
        }
        if is_new && self.readonly_after {
            changes.push((
                MountAttr {
                    set: ATTR_RDONLY,
                    ..MountAttr::default()
                },
                false,
            ));
        }
        let recursive = MountAttr {
            clear: with_atime(self.recursive.set, self.recursive.clear),
            ..self.recursive
        };
        if !recursive.is_empty() {
            changes.push((recursive, true));
        }
        changes.extend(
            self.propagation
                .iter()
                .map(|(kind, recursive)| (MountAttr::propagation(*kind), *recursive)),
        );
    }

    fn needs_classic(&self, source: &[u8]) -> bool {
        let has_comma = |value: &CString| self.is_overlay && value.as_bytes().contains(&b',');
        let is_too_long = |value: &CString| value.as_bytes().len() >= FSCONFIG_MAX;
        // Before Linux 6.5 fsconfig(2) takes no comma in a value of overlay's.
        let mut values = self.data.iter().filter_map(|(_, value)| value.as_ref());
        self.only_classic
            || source.len() >= FSCONFIG_MAX
            || values.any(|value| is_too_long(value) || has_comma(value))
    }

    fn superblock(self, source: Option<CString>) -> Vec<FsOption> {
        let source = source.map(|source| (c"source".to_owned(), Some(source)));
        // A new one is writable anyhow; one that is there already may have to become it.
        let is_remount = self.remount;
        let flags = self
            .superblock_flags
            .into_iter()
            .filter(|flag| is_remount || flag.as_bytes() != b"rw");
        source
            .into_iter()
            .chain(flags.map(|flag| (flag, None)))
            .chain(self.data)
            .collect()
    }

    /// `MS_*`.
    fn flags(&self) -> u64 {
        const BITS: [(u64, u64); 6] = [
            (ATTR_RDONLY, libc::MS_RDONLY),
            (NOSUID, libc::MS_NOSUID),
            (NODEV, libc::MS_NODEV),
            (NOEXEC, libc::MS_NOEXEC),
            (NODIRATIME, libc::MS_NODIRATIME),
            (NOSYMFOLLOW, 256),
        ];
        let attributes = self.new_attributes();
        let mut flags = self.classic_flags;
        for (attribute, bit) in BITS {
            flags |= if attributes & attribute != 0 { bit } else { 0 };
        }
        flags
            | match attributes & ATIME_MASK {
                NOATIME => libc::MS_NOATIME,
                STRICTATIME => libc::MS_STRICTATIME,
                _ => libc::MS_RELATIME,
            }
    }

    /// The options as mount(2) takes them.
    fn data(&self) -> Vec<u8> {
        let words: Vec<Vec<u8>> = self
            .data
            .iter()
            .map(|(key, value)| match value {
                // The categories of a label stand between commas.
                Some(value) if mount_label::is_context(key.as_bytes()) => {
                    [key.as_bytes(), b"=\"", value.as_bytes(), b"\""].concat()
                }
                Some(value) => [key.as_bytes(), b"=", value.as_bytes()].concat(),
                None => key.as_bytes().to_owned(),
            })
            .collect();
        words.join(&b',')
    }

    /// An overlay with more options than mount(2) takes: its layers one by one, each short enough for fsconfig(2).
    fn split_layers(&mut self, field: &str) -> Result<()> {
        let mut data = Vec::with_capacity(self.data.len());
        for (key, value) in std::mem::take(&mut self.data) {
            let (b"lowerdir", Some(value)) = (key.as_bytes(), &value) else {
                data.push((key, value));
                continue;
            };
            let layers = layers(value.as_bytes()).ok_or_else(|| {
                Error::invalid(
                    field.to_owned(),
                    "lowerdir: an empty layer, or a backslash at the end",
                )
            })?;
            for (key, layer) in layers {
                data.push((
                    c_string(key, field.to_owned())?,
                    Some(c_string(layer, field.to_owned())?),
                ));
            }
        }
        self.data = data;
        let length = |(_, value): &FsOption| value.as_ref().map_or(0, |value| value.as_bytes().len());
        match self.data.iter().find(|option| length(option) >= FSCONFIG_MAX) {
            Some(option) => {
                let message = format!(
                    "of {CLASSIC_MAX} bytes or more none may have {FSCONFIG_MAX} or more: {} has {}",
                    option.0.to_string_lossy(),
                    length(option)
                );
                Err(Error::invalid(field.to_owned(), message))
            }
            None => Ok(()),
        }
    }
}

/// The access time as mount(2) has it: some of its flags win over others, whichever comes last.
#[derive(Debug, Default, Clone, Copy)]
struct AccessTime {
    noatime: bool,
    relatime: bool,
    strictatime: bool,
    nodiratime: bool,
}

impl AccessTime {
    fn take(&mut self, text: &str) -> bool {
        match text {
            "noatime" => self.noatime = true,
            "atime" => self.noatime = false,
            "relatime" => self.relatime = true,
            "norelatime" => self.relatime = false,
            "strictatime" => self.strictatime = true,
            "nostrictatime" => self.strictatime = false,
            "nodiratime" => self.nodiratime = true,
            "diratime" => self.nodiratime = false,
            _ => return false,
        }
        true
    }

    /// Whether anything is asked for. Nothing leaves an existing mount as it is.
    fn is_given(self) -> bool {
        self.noatime || self.relatime || self.strictatime || self.nodiratime
    }

    fn attributes(self) -> u64 {
        let kind = match (self.strictatime, self.noatime) {
            (true, _) => STRICTATIME,
            (false, true) => NOATIME,
            (false, false) => 0,
        };
        kind | if self.nodiratime { NODIRATIME } else { 0 }
    }
}

/// Attributes that an option sets and clears. The access time is one field of three values, not bits.
fn attribute(text: &str) -> Option<(u64, u64)> {
    Some(match text {
        "ro" => (ATTR_RDONLY, 0),
        "rw" => (0, ATTR_RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "noatime" => (NOATIME, ATIME_MASK),
        "strictatime" => (STRICTATIME, ATIME_MASK),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME_MASK),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

/// mount_setattr(2) wants the whole access time field cleared where any of it is changed.
fn with_atime(set: u64, clear: u64) -> u64 {
    if (set | clear) & ATIME_MASK != 0 {
        clear & !set | ATIME_MASK
    } else {
        clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Wishes;
    use crate::spec;
    use std::ffi::CStr;

    fn plan_mount(mount: &str) -> Result<MountPlan> {
        plan_on(&HostFacts::of_root(), mount)
    }

    /// With a label, which counts where there is SELinux.
    fn plan_on(facts: &HostFacts, mount: &str) -> Result<MountPlan> {
        Ok(plan_all(facts, "", mount)?.remove(0))
    }

    /// With more namespaces.
    fn plan_all(facts: &HostFacts, more: &str, mounts: &str) -> Result<Vec<MountPlan>> {
        let json = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"mounts":[{mounts}],"linux":{{"mountLabel":"u:r:t:s0:c1,c2","namespaces":[{{"type":"mount"}},{{"type":"ipc"}}{more}]}}}}"#
        );
        let config = spec::parse(json.into_bytes())?;
        let namespaces = NamespacesPlan::new(&config.spec)?;
        let rootfs = RootfsPlan::new(&config.spec, facts, &namespaces, Wishes::default())?;
        let label = MountLabel::plan(&config.spec, facts)?;
        let around = Around {
            facts,
            namespaces: &namespaces,
            rootfs: &rootfs,
            label: label.as_ref(),
        };
        plan(&config.spec, around)
    }

    fn options_of(mount: &MountPlan) -> Vec<String> {
        let options = match &mount.source {
            MountSource::New(new) | MountSource::Cgroup(new) => &new.options,
            MountSource::Remount { options } => options,
            source => panic!("{source:?}"),
        };
        let text = |(key, value): &FsOption| match value {
            Some(value) => format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap()),
            None => key.to_str().unwrap().to_owned(),
        };
        options.iter().map(text).collect()
    }

    #[test]
    fn a_destination_may_name_the_rootfs_by_its_path_on_the_host() {
        let cases: [(&str, &str, &CStr); 8] = [
            ("/b/rootfs/data", "/b/rootfs", c"data"),
            ("/b//x/../rootfs/./data/", "/b/./rootfs/", c"data"),
            ("b/rootfs/data", "/b/rootfs", c"data"),
            ("/b/rootfs", "/b/rootfs", c""),
            ("/b/rootfs2/data", "/b/rootfs", c"b/rootfs2/data"),
            ("/b", "/b/rootfs", c"b"),
            ("/x/b/rootfs/data", "/b/rootfs", c"x/b/rootfs/data"),
            ("/data", "/", c"data"),
        ];
        for (destination, rootfs, target) in cases {
            let reality = target_of(Path::new(destination), Path::new(rootfs), 0).unwrap();
            assert_eq!(reality.as_c_str(), target, "{destination} in {rootfs}");
        }
    }

    #[test]
    fn what_is_written_to_becomes_read_only_late() {
        let plan = |target: &str, fstype: &str| MountPlan {
            index: 0,
            target: CString::new(target).unwrap(),
            links: Links::Follow,
            may_be_on_procfs: false,
            source: MountSource::New(NewFilesystem {
                fstype: CString::new(fstype).unwrap(),
                options: vec![(c"ro".to_owned(), None)],
                attributes: ATTR_RDONLY | NOSUID,
                copy_up: false,
                mode_of_place: false,
                root_label: None,
                instead: None,
            }),
            attributes: Vec::new(),
            id_map: None,
            readonly_late: false,
            places_below: false,
        };
        for (target, fstype, later, is_late) in [
            ("dev", "tmpfs", vec![], true),
            ("a", "tmpfs", vec![plan("a/b", "tmpfs")], true),
            ("a", "tmpfs", vec![plan("ab", "tmpfs")], false),
            (
                "a",
                "tmpfs",
                vec![plan("a/b", "tmpfs"), plan("a", "tmpfs")],
                false,
            ),
            ("a", "ext4", vec![plan("a/b", "tmpfs")], false),
        ] {
            let mut mount = plan(target, fstype);
            mount.postpone_readonly(&later);
            assert_eq!(mount.readonly_late, is_late, "{target} {fstype} {later:?}");
            let MountSource::New(new) = &mount.source else {
                panic!()
            };
            assert_eq!(new.attributes == NOSUID && new.options.is_empty(), is_late);
        }
    }

    #[test]
    fn a_tmpfs_gets_its_data_by_fsconfig_and_its_attributes_by_fsmount() {
        let mount = plan_mount(
            r#"{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=65536k"]}"#,
        )
        .unwrap();
        assert_eq!(options_of(&mount), ["source=shm", "mode=1777", "size=65536k"]);
        let MountSource::New(new) = &mount.source else {
            unreachable!()
        };
        assert_eq!(new.attributes, NOSUID | NOEXEC | NODEV);
        assert!(mount.attributes.is_empty());
        assert_eq!(mount.target.as_c_str(), c"dev/shm");
    }

    /// The change that makes a mount read-only.
    fn readonly() -> (MountAttr, bool) {
        let attributes = MountAttr {
            set: ATTR_RDONLY,
            ..MountAttr::default()
        };
        (attributes, false)
    }

    #[test]
    fn read_only_reaches_no_superblock_that_others_have_or_that_is_memory() {
        for (fstype, flags) in [
            ("ext4", vec!["ro", "sync"]),
            ("overlay", vec!["ro", "sync"]),
            ("tmpfs", vec!["sync"]),
            ("devpts", vec!["sync"]),
            ("sysfs", vec![]),
            ("mqueue", vec![]),
            ("proc", vec![]),
            ("debugfs", vec![]),
            ("devtmpfs", vec![]),
        ] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/t","type":"{fstype}","source":"s","options":["ro","sync"]}}"#
            ))
            .unwrap();
            assert_eq!(options_of(&mount), [vec!["source=s"], flags].concat(), "{fstype}");
            let MountSource::New(new) = &mount.source else {
                panic!("{mount:?}")
            };
            assert_eq!(
                (new.attributes, mount.attributes.len()),
                (ATTR_RDONLY, 0),
                "{fstype}"
            );
        }
    }

    #[test]
    fn what_is_written_to_first_becomes_read_only_afterwards() {
        let long = "s".repeat(300);
        for (mount, label) in [
            (r#""type":"tmpfs","options":["ro","tmpcopyup"]"#.to_owned(), false),
            (r#""type":"mqueue","options":["ro"]"#.to_owned(), true),
            (
                format!(r#""type":"tmpfs","source":"{long}","options":["ro"]"#),
                false,
            ),
            (
                format!(r#""type":"sysfs","source":"{long}","options":["ro"]"#),
                false,
            ),
        ] {
            let facts = HostFacts {
                selinux: label,
                ..HostFacts::of_root()
            };
            let mount = plan_on(&facts, &format!(r#"{{"destination":"/t",{mount}}}"#)).unwrap();
            let is_writable = match &mount.source {
                MountSource::New(new) => new.attributes == 0,
                MountSource::Classic { flags, .. } => *flags == libc::MS_RELATIME,
                source => panic!("{source:?}"),
            };
            assert!(is_writable, "{mount:?}");
            assert_eq!(mount.attributes, [readonly()], "{mount:?}");
        }
    }

    #[test]
    fn a_remount_changes_the_superblock_of_a_mount_of_the_list_only() {
        let change = r#"{"destination":"/t","options":["remount","ro","sync"]}"#;
        let undo = r#"{"destination":"/t","type":"ext4","options":["remount","rw","nosuid"]}"#;
        for (first, second, flags) in [
            (r#""type":"ext4","source":"/dev/sda""#, change, vec!["ro", "sync"]),
            (r#""type":"ext4","source":"/dev/sda""#, undo, vec!["rw"]),
            (r#""type":"tmpfs""#, change, vec!["sync"]),
            (r#""type":"sysfs""#, change, vec![]),
            (r#""type":"bind","source":"/""#, change, vec![]),
            (r#""type":"bind","source":"/""#, undo, vec![]),
        ] {
            let mounts = format!(r#"{{"destination":"/t",{first}}},{second}"#);
            let mount = plan_all(&HostFacts::of_root(), "", &mounts).unwrap().remove(1);
            assert_eq!(options_of(&mount), flags, "{first} {second}");
            assert_eq!(mount.attributes.len(), 1);
            assert_eq!(
                mount.attributes[0].0.clear | mount.attributes[0].0.set,
                LOCKABLE | NOSYMFOLLOW,
                "all flags are said"
            );
        }
        assert!(options_of(&plan_mount(change).unwrap()).is_empty());
    }

    #[test]
    fn a_tmpfs_without_a_mode_gets_that_of_its_place() {
        for (options, fstype, wish) in [
            (r#""nosuid""#, "tmpfs", true),
            (r#""size=1m,mode=700""#, "tmpfs", false),
            (r#""nosuid""#, "ramfs", false),
        ] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/t","type":"{fstype}","options":[{options}]}}"#
            ))
            .unwrap();
            let MountSource::New(new) = &mount.source else {
                panic!("{mount:?}")
            };
            assert_eq!(new.mode_of_place, wish, "{options}");
        }
    }

    #[test]
    fn several_options_in_one_string_are_the_file_system_s() {
        let mount = plan_mount(
            r#"{"destination":"/t","type":"tmpfs","options":["ro,nosuid,mode=711,sync","size=1m,bind,rshared"]}"#,
        )
        .unwrap();
        assert_eq!(
            options_of(&mount),
            ["source=tmpfs", "sync", "mode=711", "size=1m", "bind", "rshared"]
        );
        assert!(mount.attributes.is_empty());
        let label = r#"{"destination":"/t","type":"tmpfs","options":["context=\"a:s0:c1,c2\",size=1m"]}"#;
        assert_eq!(
            options_of(&plan_mount(label).unwrap()),
            ["source=tmpfs", "context=a:s0:c1,c2", "size=1m"]
        );
    }

    #[test]
    fn unknown_options_of_cgroup2_are_refused_and_known_ones_forgotten() {
        for fstype in ["cgroup", "cgroup2"] {
            for option in ["nsdelegate", "memory_recursiveprot,favordynmods"] {
                let mount = plan_mount(&format!(
                    r#"{{"destination":"/c","type":"{fstype}","options":["{option}"]}}"#
                ));
                assert_eq!(options_of(&mount.unwrap()), ["source=cgroup"]);
            }
            for option in ["bogus", "xattr", "nsdelegate=1"] {
                let mount = plan_mount(&format!(
                    r#"{{"destination":"/c","type":"{fstype}","options":["ro","{option}"]}}"#
                ));
                let wish = format!("mounts[0].options: {option:?} is no option of cgroup2");
                assert_eq!(mount.unwrap_err().to_string(), wish);
            }
        }
    }

    #[test]
    fn the_access_time_follows_the_rules_of_mount_2() {
        for (options, wish) in [
            (r#""strictatime","noatime""#, STRICTATIME),
            (r#""noatime","strictatime""#, STRICTATIME),
            (r#""noatime","relatime""#, NOATIME),
            (r#""noatime","atime""#, 0),
            (r#""strictatime","nostrictatime","noatime""#, NOATIME),
            (r#""strictatime","nodiratime""#, STRICTATIME | NODIRATIME),
            (r#""norelatime""#, 0),
            (r#""nodiratime","diratime""#, 0),
        ] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/t","type":"tmpfs","options":[{options}]}}"#
            ))
            .unwrap();
            let MountSource::New(new) = &mount.source else {
                panic!("{mount:?}")
            };
            assert_eq!(new.attributes, wish, "{options}");
        }
    }

    #[test]
    fn flags_of_a_bind_mount_are_all_that_are_named() {
        const ALL: u64 = LOCKABLE | NOSYMFOLLOW;
        const ATIME: u64 = ATIME_MASK | NODIRATIME;
        // What is set and cleared, and what is cleared where the kernel locks the flags of the source.
        for (options, set, clear, clear_locked) in [
            (r#""ro""#, ATTR_RDONLY, ALL & !ATTR_RDONLY, NOSYMFOLLOW),
            (r#""rw""#, 0, ALL, ATTR_RDONLY | NOSYMFOLLOW),
            (r#""nosuid","exec""#, NOSUID, ALL & !NOSUID, NOEXEC | NOSYMFOLLOW),
            (r#""nosymfollow""#, NOSYMFOLLOW, LOCKABLE, 0),
            // No flag of a mount, and still one that mount(2) has.
            (r#""sync""#, 0, ALL, NOSYMFOLLOW),
            // To take an access time away is to ask for none.
            (r#""atime","norelatime""#, 0, ALL, NOSYMFOLLOW),
            (r#""relatime""#, 0, ALL | ATIME, NOSYMFOLLOW | ATIME),
            (r#""noatime""#, NOATIME, ALL | ATIME, NOSYMFOLLOW | ATIME),
            (
                r#""nodiratime""#,
                NODIRATIME,
                ALL | ATIME_MASK,
                NOSYMFOLLOW | ATIME_MASK,
            ),
        ] {
            let json = format!(r#"{{"destination":"/v","source":"/v","options":["bind",{options}]}}"#);
            for (namespaces, wish) in [("", clear), (r#",{"type":"user"}"#, clear_locked)] {
                let mount = plan_all(&HostFacts::of_root(), namespaces, &json)
                    .unwrap()
                    .remove(0);
                let wish = MountAttr {
                    set,
                    clear: wish,
                    ..MountAttr::default()
                };
                let found = mount.attributes.iter().find(|(attr, _)| attr.propagation == 0);
                let none = (MountAttr::default(), false);
                assert_eq!(found.unwrap_or(&none).0, wish, "{options} {namespaces}");
            }
        }
        for options in ["", r#","rslave","defaults","rro""#] {
            let json = format!(r#"{{"destination":"/v","source":"/v","options":["bind"{options}]}}"#);
            let mount = plan_mount(&json).unwrap();
            assert!(
                mount
                    .attributes
                    .iter()
                    .all(|(attr, recursive)| *recursive || attr.clear == 0)
            );
        }
    }

    #[test]
    fn options_that_mount_2_would_cut_are_refused_or_given_one_by_one() {
        let overlay = |lower: &str, rest: &str| {
            plan_mount(&format!(
                r#"{{"destination":"/o","type":"overlay","options":["lowerdir={lower}","index=off"{rest}]}}"#
            ))
        };
        let mount = overlay(r"/a\\,b:/c", "").unwrap();
        let MountSource::Classic { data, .. } = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(data.to_str().unwrap(), r"lowerdir=/a\,b:/c,index=off");
        let many = vec![r"/l\\:\\,ow"; 500].join(":");
        let mount = overlay(&many, "").unwrap();
        let mut wish = vec!["source=overlay"];
        wish.extend(vec!["lowerdir+=/l:,ow"; 500]);
        wish.push("index=off");
        assert_eq!(options_of(&mount), wish);
        let long = format!("/a:/{}", "l".repeat(4096));
        for (mount, wish) in [
            (
                overlay(&long, ""),
                "mounts[0].options: of 4096 bytes or more none may have 256 or more: lowerdir+ has 4097",
            ),
            (
                overlay(&long, r#","iversion""#),
                "mounts[0].options: 4119 bytes, which mount(2) would cut at 4096",
            ),
            (
                plan_mount(&format!(
                    r#"{{"destination":"/o","type":"ext4","options":["a={}"]}}"#,
                    "a".repeat(4094)
                )),
                "mounts[0].options: 4096 bytes, which mount(2) would cut at 4096",
            ),
            (
                overlay(&format!("{many}::"), ""),
                "mounts[0].options: lowerdir: an empty layer, or a backslash at the end",
            ),
            (
                plan_mount(&format!(
                    r#"{{"destination":"/o","type":"tmpfs","source":"{}","options":["tmpcopyup"]}}"#,
                    "s".repeat(256)
                )),
                "mounts[0].options: tmpcopyup with a source or an option of 256 bytes or more",
            ),
        ] {
            assert_eq!(mount.unwrap_err().to_string(), wish);
        }
        let mount = plan_mount(&format!(
            r#"{{"destination":"/o","type":"ext4","options":["a={}"]}}"#,
            "a".repeat(4093)
        ));
        assert!(matches!(mount.unwrap().source, MountSource::Classic { .. }));
    }

    #[test]
    fn a_later_option_wins() {
        let mount =
            plan_mount(r#"{"destination":"/t","type":"tmpfs","options":["ro","nosuid","rw","suid"]}"#)
                .unwrap();
        let MountSource::New(new) = &mount.source else {
            unreachable!()
        };
        assert_eq!(new.attributes, 0);
        assert_eq!(options_of(&mount), ["source=tmpfs"]);
    }

    #[test]
    fn a_bind_mount_is_cut_from_the_host_first_and_then_changed_as_asked() {
        let mount = plan_mount(
            r#"{"destination":"/v","type":"none","source":"v","options":["rbind","ro","noatime","rnodev","rshared"]}"#,
        )
        .unwrap();
        let MountSource::Bind { path, recursive, .. } = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!((path.to_str().unwrap(), *recursive), ("/bundle/v", true));
        assert_eq!(
            mount.attributes,
            [
                (MountAttr::propagation(libc::MS_SLAVE), true),
                (
                    MountAttr {
                        set: ATTR_RDONLY | NOATIME,
                        clear: NOSUID | NODEV | NOEXEC | NOSYMFOLLOW | ATIME_MASK | NODIRATIME,
                        ..MountAttr::default()
                    },
                    false
                ),
                (
                    MountAttr {
                        set: NODEV,
                        ..MountAttr::default()
                    },
                    true
                ),
                (MountAttr::propagation(libc::MS_SHARED), true),
            ]
        );
    }

    #[test]
    fn recursive_access_time_options_clear_the_whole_field() {
        for (option, set) in [
            ("rnoatime", NOATIME),
            ("rstrictatime", STRICTATIME),
            ("rrelatime", 0),
            ("ratime", 0),
        ] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/v","source":"/v","options":["bind","{option}"]}}"#
            ))
            .unwrap();
            let expected = MountAttr {
                set,
                clear: ATIME_MASK,
                ..MountAttr::default()
            };
            assert_eq!(mount.attributes.last(), Some(&(expected, true)), "{option}");
        }
    }

    #[test]
    fn crun_s_options_for_links_say_what_a_link_at_either_end_is() {
        for (option, wanted, place) in [
            ("ro", SourceLink::Follow, Links::Follow),
            ("copy-symlink", SourceLink::Copy, Links::Follow),
            ("src-nofollow", SourceLink::Itself, Links::Follow),
            ("dest-nofollow", SourceLink::Follow, Links::KeepLast),
        ] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/v","source":"/v","options":["bind","{option}"]}}"#
            ))
            .unwrap();
            let MountSource::Bind { link, .. } = mount.source else {
                panic!("{mount:?}")
            };
            assert_eq!((link, mount.links), (wanted, place), "{option}");
        }
        let mount = plan_mount(r#"{"destination":"/proc","source":"/v","options":["bind","dest-nofollow"]}"#)
            .unwrap();
        assert_eq!(mount.links, Links::Refuse);
    }

    #[test]
    fn a_remount_of_a_bind_mount_leaves_the_superblock_alone() {
        let mount = plan_mount(r#"{"destination":"/v","options":["bind","remount","ro"]}"#).unwrap();
        let MountSource::Remount { options } = &mount.source else {
            panic!("{mount:?}")
        };
        assert!(options.is_empty());
        let attr = MountAttr {
            set: ATTR_RDONLY,
            clear: NOSUID | NODEV | NOEXEC | NOSYMFOLLOW,
            ..MountAttr::default()
        };
        assert_eq!(mount.attributes.last(), Some(&(attr, false)));
    }

    #[test]
    fn long_options_go_by_mount_2() {
        let lower = format!("/{}", "l".repeat(300));
        let mount = plan_mount(&format!(
            r#"{{"destination":"/o","type":"overlay","options":["ro","noatime","lowerdir={lower}","index=off"]}}"#
        ))
        .unwrap();
        let MountSource::Classic { flags, data, .. } = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(*flags, libc::MS_RDONLY | libc::MS_NOATIME);
        assert_eq!(data.to_str().unwrap(), format!("lowerdir={lower},index=off"));
    }

    #[test]
    fn new_file_systems_get_the_label_and_nothing_else_does() {
        let selinux = HostFacts {
            selinux: true,
            ..HostFacts::of_root()
        };
        for (mount, wish) in [
            (
                r#""tmpfs","options":["size=1m"]"#,
                vec!["source=tmpfs", "size=1m", "context=u:r:t:s0:c1,c2"],
            ),
            (
                r#""tmpfs","options":["rootcontext=x"]"#,
                vec!["source=tmpfs", "rootcontext=x"],
            ),
            (r#""tmpfs","options":["remount","size=1m"]"#, vec!["size=1m"]),
            (r#""mqueue""#, vec!["source=mqueue"]),
            (r#""proc""#, vec!["source=proc"]),
            (r#""cgroup2""#, vec!["source=cgroup"]),
        ] {
            let json = format!(r#"{{"destination":"/m","type":{mount}}}"#);
            let planned = plan_on(&selinux, &json).unwrap();
            assert_eq!(options_of(&planned), wish, "{mount}");
            let root = match &planned.source {
                MountSource::New(new) => new.root_label.clone(),
                _ => None,
            };
            let wish = mount.contains("mqueue").then(|| c"u:r:t:s0:c1,c2".to_owned());
            assert_eq!(root, wish, "{mount}");
            let without = plan_mount(&json).unwrap();
            assert!(
                !options_of(&without)
                    .iter()
                    .any(|option| option.starts_with("context"))
            );
        }
        let bind = r#"{"destination":"/m","type":"bind","source":"/s"}"#;
        assert!(matches!(
            plan_on(&selinux, bind).unwrap().source,
            MountSource::Bind { .. }
        ));
        let long = format!(
            r#"{{"destination":"/m","type":"overlay","options":["lowerdir={}"]}}"#,
            "l".repeat(300)
        );
        match plan_on(&selinux, &long).unwrap().source {
            MountSource::Classic { data, .. } => {
                assert!(data.to_str().unwrap().ends_with(r#",context="u:r:t:s0:c1,c2""#));
            }
            source => panic!("{source:?}"),
        }
    }

    #[test]
    fn what_is_mounted_on_proc_must_be_a_procfs() {
        assert!(plan_mount(r#"{"destination":"/proc","type":"tmpfs"}"#).is_err());
        let mount = plan_mount(r#"{"destination":"/a/../proc","type":"proc"}"#).unwrap();
        assert!(mount.links == Links::Refuse && mount.may_be_on_procfs);
        let mount = plan_mount(r#"{"destination":"/proc/uptime","source":"/u","options":["bind"]}"#).unwrap();
        assert!(mount.may_be_on_procfs);
    }

    #[test]
    fn cgroup_options_never_reach_the_shared_superblock() {
        let long = "s".repeat(300);
        for (more, source) in [
            ("", "cgroup"),
            (r#","sync","tmpcopyup""#, "cgroup"),
            (r#","iversion""#, long.as_str()),
        ] {
            let json = format!(
                r#"{{"destination":"/c","type":"cgroup","source":"{source}","options":["ro","nosuid"{more}]}}"#
            );
            let mount = plan_mount(&json).unwrap();
            let MountSource::Cgroup(new) = &mount.source else {
                panic!("{mount:?}")
            };
            assert_eq!(new.options.len(), 1);
            assert_eq!(new.attributes, ATTR_RDONLY | NOSUID);
        }
    }

    #[test]
    fn places_are_made_below_read_only_binds_if_nobody_else_sees_them() {
        let first = |namespaces: &str, mounts: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"mounts":[{mounts}],"linux":{{"namespaces":[{namespaces}]}}}}"#
            );
            let config = spec::parse(json.into_bytes()).unwrap();
            let facts = HostFacts::of_root();
            let namespaces = NamespacesPlan::new(&config.spec).unwrap();
            let rootfs = RootfsPlan::new(&config.spec, &facts, &namespaces, Wishes::default()).unwrap();
            let around = Around {
                facts: &facts,
                namespaces: &namespaces,
                rootfs: &rootfs,
                label: None,
            };
            plan(&config.spec, around).unwrap().remove(0)
        };
        let is_readonly = |mount: &MountPlan| {
            let mut attributes = mount.attributes.iter();
            (
                attributes.any(|(attr, _)| attr.set & ATTR_RDONLY != 0),
                mount.places_below,
            )
        };
        let new = r#"{"type":"mount"}"#;
        let bind = r#"{"destination":"/v","source":"/v","options":["bind","ro","nosuid"]}"#;
        let recursive = r#"{"destination":"/v","source":"/v","options":["bind","rro"]}"#;
        let below = r#"{"destination":"/v/a","type":"tmpfs"}"#;
        let beside = r#"{"destination":"/va","type":"tmpfs"}"#;
        let again = r#"{"destination":"/v","options":["bind","remount","rw"]}"#;
        for (namespaces, mounts, wish) in [
            (new, format!("{bind},{below}"), (true, true)),
            (new, format!("{bind},{beside}"), (true, false)),
            (new, format!("{bind},{below},{again}"), (true, false)),
            (new, format!("{recursive},{below}"), (true, false)),
            (
                r#"{"type":"mount","path":"/m"}"#,
                format!("{bind},{below}"),
                (true, false),
            ),
            ("", format!("{bind},{below}"), (true, false)),
        ] {
            assert_eq!(
                is_readonly(&first(namespaces, &mounts)),
                wish,
                "{namespaces} {mounts}"
            );
        }
    }
}

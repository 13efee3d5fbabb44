//! Runs in: RUNTIME. Turns `mounts` into what the kernel's mount calls take. Pure.
//!
//! A bind mount is a tree that RUNTIME copies and changes before the clone; a new file system is made by INIT inside
//! the container's namespaces. What mount(8) calls options falls apart into attributes of the mount (`MountAttr`),
//! flags of the superblock, propagation, and data for the file system.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};
use runtime_init::args::Links;
use runtime_init::sys::mount::{ATTR_RDONLY, MountAttr};

use super::mount_label::{self, MountLabel};
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

/// fsconfig(2) takes strings of less than this (fs/fsopen.c); longer ones must go by mount(2).
const FSCONFIG_MAX: usize = 256;

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
    /// The same of a bind mount, when all of `mounts` are made: the places of those below it are.
    pub readonly_last: bool,
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
    pub mappings: Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)>,
    /// `ridmap`.
    pub recursive: bool,
}

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

/// All of `mounts`, in order.
///
/// # Errors
/// `Invalid` with the field.
pub fn plan(spec: &Spec, around: Around<'_>) -> Result<Vec<MountPlan>> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mut plans: Vec<_> = mounts
        .map(|(index, mount)| plan_one(index as u16, mount, around))
        .collect::<Result<_>>()?;
    for place in 0..plans.len() {
        if let Some((mount, later)) = plans.get_mut(place..).and_then(<[_]>::split_first_mut) {
            mount.postpone_readonly(later);
            // Where others see it, it is never writable.
            if around.namespaces.unshare & libc::CLONE_NEWNS as u32 != 0 {
                mount.postpone_readonly_bind(later);
            }
        }
    }
    Ok(plans)
}

impl MountPlan {
    /// A mount of the list may lie below a read-only bind mount where there is no place for it yet. As crun does it.
    fn postpone_readonly_bind(&mut self, later: &[Self]) {
        let is_below = |mount: &Self| {
            let rest = mount.target.as_bytes().strip_prefix(self.target.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let is_changed = later.iter().any(|mount| mount.target == self.target);
        if !matches!(self.source, MountSource::Bind { .. }) || is_changed || !later.iter().any(is_below) {
            return;
        }
        for (change, recursive) in &mut self.attributes {
            if !*recursive && change.set & ATTR_RDONLY != 0 {
                change.set &= !ATTR_RDONLY;
                self.readonly_last = true;
            }
        }
        self.attributes.retain(|(change, _)| !change.is_empty());
    }

    /// For whoever mounts where others can see it.
    pub fn readonly_at_once(&mut self) {
        if std::mem::take(&mut self.readonly_last) {
            let readonly = MountAttr {
                set: ATTR_RDONLY,
                ..MountAttr::default()
            };
            self.attributes.push((readonly, false));
        }
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

fn plan_one(index: u16, mount: &Mount, around: Around<'_>) -> Result<MountPlan> {
    let Around {
        facts,
        namespaces,
        rootfs,
        ..
    } = around;
    let mut options = Options::parse(mount, index)?;
    if mount.typ().as_deref() == Some("devpts") {
        options.data.retain(|option| is_mapped_group(option, namespaces));
    }
    let target = clean_in_container(mount.destination(), format!("mounts[{index}].destination"))?;
    let fstype = mount.typ().as_deref().unwrap_or("none");
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
    options.push_attributes(&mut attributes);
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
        readonly_last: false,
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
        // The superblock is shared with the host: no option may reach it.
        let attributes = options.attributes;
        let options = vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))];
        let fstype = c"cgroup2".to_owned();
        return Ok(MountSource::Cgroup(NewFilesystem {
            fstype,
            options,
            attributes,
            copy_up: false,
            root_label: None,
            instead: None,
        }));
    }
    let name = c_string(fstype, field("type"))?;
    let label = around.label;
    options
        .data
        .extend(label.and_then(|label| label.option_for(fstype, &options.data)));
    if options.needs_classic(&source) {
        return options.classic(source, name, index);
    }
    let (attributes, copy_up) = (options.attributes, options.copy_up);
    Ok(MountSource::New(NewFilesystem {
        fstype: name,
        options: options.superblock(Some(source)),
        attributes,
        copy_up,
        // Without an ipc namespace these are the queues of the host, whose label is its own.
        root_label: label
            .filter(|_| around.namespaces.has(libc::CLONE_NEWIPC as u32))
            .and_then(|label| label.of_root(fstype)),
        instead: instead(fstype, around.namespaces, around.facts),
    }))
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
        _ => None,
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
    /// Attributes of the mount: what they are for a new one, and what is set and cleared on an existing one.
    attributes: u64,
    cleared: u64,
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
        for text in mount.options().iter().flatten() {
            if options.take_mode(text) || options.take_attribute(text) || options.take_superblock(text) {
                continue;
            }
            if options.take_recursive(text) || options.take_propagation(text) {
                continue;
            }
            options.take_data(text, &field)?;
        }
        Ok(options)
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
        let Some((set, clear)) = attribute(text) else {
            return false;
        };
        self.attributes = self.attributes & !clear | set;
        self.cleared = self.cleared & !set | clear;
        match text {
            "ro" => self.set_superblock("ro", libc::MS_RDONLY),
            "rw" => self.clear_superblock("ro", libc::MS_RDONLY),
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
            Some((key, value)) => (key, Some(c_string(value, field.to_owned())?)),
            None => (text, None),
        };
        self.data.push((c_string(key, field.to_owned())?, value));
        Ok(())
    }

    /// What remains to be changed on a made or copied mount.
    fn push_attributes(&self, changes: &mut Vec<(MountAttr, bool)>) {
        let is_new = !self.bind && !self.remount;
        let own = MountAttr {
            set: self.attributes,
            clear: with_atime(self.attributes, self.cleared),
            ..MountAttr::default()
        };
        if !is_new && !own.is_empty() {
            changes.push((own, false));
        }
        // Copying up needs a writable tmpfs, which then is made what it was to be.
        if is_new && self.copy_up && self.attributes & ATTR_RDONLY != 0 {
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

    fn needs_classic(&self, source: &CString) -> bool {
        let too_long = |text: &CString| text.as_bytes().len() >= FSCONFIG_MAX;
        self.only_classic
            || too_long(source)
            || self
                .data
                .iter()
                .filter_map(|(_, value)| value.as_ref())
                .any(too_long)
    }

    fn superblock(self, source: Option<CString>) -> Vec<FsOption> {
        let source = source.map(|source| (c"source".to_owned(), Some(source)));
        // A read-only superblock could not be copied into.
        let copy_up = self.copy_up;
        let flags = self
            .superblock_flags
            .into_iter()
            .filter(|flag| !(copy_up && flag.as_bytes() == b"ro"));
        source
            .into_iter()
            .chain(flags.map(|flag| (flag, None)))
            .chain(self.data)
            .collect()
    }

    fn classic(self, source: CString, fstype: CString, index: u16) -> Result<MountSource> {
        const BITS: [(u64, u64); 5] = [
            (ATTR_RDONLY, libc::MS_RDONLY),
            (NOSUID, libc::MS_NOSUID),
            (NODEV, libc::MS_NODEV),
            (NOEXEC, libc::MS_NOEXEC),
            (NODIRATIME, libc::MS_NODIRATIME),
        ];
        let mut flags = self.classic_flags;
        for (attribute, bit) in BITS {
            flags |= if self.attributes & attribute != 0 { bit } else { 0 };
        }
        flags |= match self.attributes & ATIME_MASK {
            NOATIME => libc::MS_NOATIME,
            STRICTATIME => libc::MS_STRICTATIME,
            _ => libc::MS_RELATIME,
        };
        if self.attributes & NOSYMFOLLOW != 0 {
            flags |= 256;
        }
        let words: Vec<Vec<u8>> = self
            .data
            .into_iter()
            .map(|(key, value)| match value {
                // The categories of a label stand between commas.
                Some(value) if mount_label::is_context(&key) => {
                    [key.as_bytes(), b"=\"", value.as_bytes(), b"\""].concat()
                }
                Some(value) => [key.as_bytes(), b"=", value.as_bytes()].concat(),
                None => key.into_bytes(),
            })
            .collect();
        let data = c_string(words.join(&b','), format!("mounts[{index}].options"))?;
        Ok(MountSource::Classic {
            source,
            fstype,
            flags,
            data,
        })
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

    fn plan_mount(mount: &str) -> Result<MountPlan> {
        plan_on(&HostFacts::of_root(), mount)
    }

    /// With a label, which counts where there is SELinux.
    fn plan_on(facts: &HostFacts, mount: &str) -> Result<MountPlan> {
        let json = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"mounts":[{mount}],"linux":{{"mountLabel":"u:r:t:s0:c1,c2","namespaces":[{{"type":"mount"}},{{"type":"ipc"}}]}}}}"#
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
        Ok(plan(&config.spec, around)?.remove(0))
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
                root_label: None,
                instead: None,
            }),
            attributes: Vec::new(),
            id_map: None,
            readonly_late: false,
            readonly_last: false,
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

    #[test]
    fn read_only_is_of_the_superblock_too_unless_something_is_copied_up() {
        let mount = plan_mount(r#"{"destination":"/t","type":"tmpfs","options":["ro"]}"#).unwrap();
        assert_eq!(options_of(&mount), ["source=tmpfs", "ro"]);
        let mount =
            plan_mount(r#"{"destination":"/t","type":"tmpfs","options":["ro","tmpcopyup"]}"#).unwrap();
        assert_eq!(options_of(&mount), ["source=tmpfs"]);
        assert_eq!(
            mount.attributes,
            [(
                MountAttr {
                    set: ATTR_RDONLY,
                    ..MountAttr::default()
                },
                false
            )]
        );
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
                        clear: ATIME_MASK,
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
            ..MountAttr::default()
        };
        assert_eq!(mount.attributes.last(), Some(&(attr, false)));
    }

    #[test]
    fn long_options_go_by_mount_2() {
        let lower = "l".repeat(300);
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
        let mount =
            plan_mount(r#"{"destination":"/sys/fs/cgroup","type":"cgroup","options":["ro","nosuid"]}"#)
                .unwrap();
        let MountSource::Cgroup(new) = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(new.options.len(), 1);
        assert_eq!(new.attributes, ATTR_RDONLY | NOSUID);
    }

    #[test]
    fn read_only_binds_with_mounts_below_become_so_last_if_nobody_else_sees_them() {
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
                mount.readonly_last,
            )
        };
        let new = r#"{"type":"mount"}"#;
        let bind = r#"{"destination":"/v","source":"/v","options":["bind","ro","nosuid"]}"#;
        let recursive = r#"{"destination":"/v","source":"/v","options":["bind","rro"]}"#;
        let below = r#"{"destination":"/v/a","type":"tmpfs"}"#;
        let beside = r#"{"destination":"/va","type":"tmpfs"}"#;
        let again = r#"{"destination":"/v","options":["bind","remount","rw"]}"#;
        for (namespaces, mounts, wish) in [
            (new, format!("{bind},{below}"), (false, true)),
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
        let mut mount = first(new, &format!("{bind},{below}"));
        mount.readonly_at_once();
        assert_eq!(is_readonly(&mount), (true, false));
    }
}

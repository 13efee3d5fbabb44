//! Runs in: RUNTIME. How the options of a mount reach the kernel: as attributes of the mount, flags of the
//! superblock, and options of the file system. Pure.

use std::ffi::CString;

use oci_spec::runtime::{Mount, Spec};
use runtime_sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME, MountAttr,
};

use super::{FSCONFIG_MAX, FsOption};
use crate::Result;
use crate::plan::c_string;
use crate::spec::mount_options::{MountOptions, is_context};

/// What the kernel locks on a mount that a user namespace gets from outside.
pub(super) const LOCKABLE: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

/// Whose the superblock of a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Superblock {
    /// The mount's own, on a device, a server or other file systems.
    Own,
    /// The mount's own, in memory: nothing is gained where it is read-only too.
    Memory,
    /// Also that of others: flags would be theirs too.
    Shared,
}

/// The options of one mount, and what has been decided about them.
#[derive(Debug)]
pub(super) struct Options<'a> {
    pub said: MountOptions<'a>,
    /// Those of the file system.
    pub data: Vec<FsOption>,
    /// Whether what makes a new file system read-only waits until it has been written to.
    pub readonly_after: bool,
    pub is_overlay: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(spec: &Spec, index: u16, mount: &'a Mount) -> Result<Self> {
        let mut said = MountOptions::parse(spec, index.into(), mount)?;
        let string = |text: &str| c_string(text, format!("mounts[{index}].options"));
        let data = std::mem::take(&mut said.data).into_iter();
        let data = data.map(|(key, value)| Ok((string(key)?, value.map(string).transpose()?)));
        Ok(Self {
            is_overlay: mount.typ().as_deref() == Some("overlay"),
            data: data.collect::<Result<_>>()?,
            said,
            readonly_after: false,
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.data
            .iter()
            .any(|(found, _)| found.as_bytes() == key.as_bytes())
    }

    /// Takes away what must not or need not reach the superblock.
    pub(super) fn settle_superblock(&mut self, superblock: Superblock) {
        let said = &mut self.said;
        match superblock {
            Superblock::Own => return,
            Superblock::Memory => said.clear_superblock(c"ro", libc::MS_RDONLY),
            Superblock::Shared => (said.superblock_flags, said.classic_flags) = (Vec::new(), 0),
        }
        said.only_classic = false;
    }

    /// The attributes with which a new file system is mounted.
    pub(super) fn new_attributes(&self) -> u64 {
        let waits = if self.readonly_after { ATTR_RDONLY } else { 0 };
        (self.said.attributes.set | access_time(self.said.access_time)) & !waits
    }

    /// What remains to be changed on a made or copied mount.
    pub(super) fn push_attributes(&self, changes: &mut Vec<(MountAttr, bool)>, is_locked: bool) {
        let is_new = !self.said.bind && !self.said.remount;
        let mut own = MountAttr {
            set: self.said.attributes.set,
            clear: self.said.attributes.clear,
            ..MountAttr::default()
        };
        if self.said.access_time != 0 {
            own.set |= access_time(self.said.access_time);
            own.clear |= (ATTR_ATIME | ATTR_NODIRATIME) & !own.set;
        }
        if self.said.remount || self.said.bind && self.said.has_flags {
            // As with runc and crun, and mount(2): who names flags, or mounts again, names all of them. What
            // the kernel locks stays, unless it is named.
            let replaced = if is_locked {
                ATTR_NOSYMFOLLOW
            } else {
                LOCKABLE | ATTR_NOSYMFOLLOW
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
            set: self.said.below.set,
            clear: with_atime(self.said.below.set, self.said.below.clear),
            ..MountAttr::default()
        };
        if !recursive.is_empty() {
            changes.push((recursive, true));
        }
        changes.extend(
            self.said
                .propagation
                .iter()
                .map(|(kind, recursive)| (MountAttr::propagation(*kind), *recursive)),
        );
    }

    pub(super) fn needs_classic(&self, source: &[u8]) -> bool {
        let has_comma = |value: &CString| self.is_overlay && value.as_bytes().contains(&b',');
        let is_too_long = |value: &CString| value.as_bytes().len() >= FSCONFIG_MAX;
        // Before Linux 6.5 fsconfig(2) takes no comma in a value of overlay's.
        let mut values = self.data.iter().filter_map(|(_, value)| value.as_ref());
        self.said.only_classic
            || source.len() >= FSCONFIG_MAX
            || values.any(|value| is_too_long(value) || has_comma(value))
    }

    pub(super) fn superblock(self, source: Option<CString>) -> Vec<FsOption> {
        let source = source.map(|source| (c"source".to_owned(), Some(source)));
        // A new one is writable anyhow; one that is there already may have to become it.
        let is_remount = self.said.remount;
        let flags = self
            .said
            .superblock_flags
            .into_iter()
            .filter(|flag| is_remount || *flag != c"rw");
        source
            .into_iter()
            .chain(flags.map(|flag| (flag.to_owned(), None)))
            .chain(self.data)
            .collect()
    }

    /// `MS_*`.
    pub(super) fn flags(&self) -> u64 {
        const BITS: [(u64, u64); 6] = [
            (ATTR_RDONLY, libc::MS_RDONLY),
            (ATTR_NOSUID, libc::MS_NOSUID),
            (ATTR_NODEV, libc::MS_NODEV),
            (ATTR_NOEXEC, libc::MS_NOEXEC),
            (ATTR_NODIRATIME, libc::MS_NODIRATIME),
            (ATTR_NOSYMFOLLOW, 256),
        ];
        let attributes = self.new_attributes();
        let mut flags = self.said.classic_flags;
        for (attribute, bit) in BITS {
            flags |= if attributes & attribute != 0 { bit } else { 0 };
        }
        flags
            | match attributes & ATTR_ATIME {
                ATTR_NOATIME => libc::MS_NOATIME,
                ATTR_STRICTATIME => libc::MS_STRICTATIME,
                _ => libc::MS_RELATIME,
            }
    }

    /// The options as mount(2) takes them.
    pub(super) fn data(&self) -> Vec<u8> {
        let words: Vec<Vec<u8>> = self
            .data
            .iter()
            .map(|(key, value)| match value {
                // The categories of a label stand between commas.
                Some(value) if is_context(key.as_bytes()) => {
                    [key.as_bytes(), b"=\"", value.as_bytes(), b"\""].concat()
                }
                Some(value) => [key.as_bytes(), b"=", value.as_bytes()].concat(),
                None => key.as_bytes().to_owned(),
            })
            .collect();
        words.join(&b',')
    }
}

/// What the flags of mount(2) make of the access time: some win over others, whichever comes last.
fn access_time(flags: u64) -> u64 {
    let kind = match flags & (libc::MS_STRICTATIME | libc::MS_NOATIME) {
        0 => 0,
        libc::MS_NOATIME => ATTR_NOATIME,
        _ => ATTR_STRICTATIME,
    };
    kind | if flags & libc::MS_NODIRATIME != 0 {
        ATTR_NODIRATIME
    } else {
        0
    }
}

/// mount_setattr(2) wants the whole access time field cleared where any of it is changed.
fn with_atime(set: u64, clear: u64) -> u64 {
    if (set | clear) & ATTR_ATIME != 0 {
        clear & !set | ATTR_ATIME
    } else {
        clear
    }
}

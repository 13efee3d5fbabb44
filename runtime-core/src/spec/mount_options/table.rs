//! Runs in: RUNTIME. The mount options that are no file system's own, and what each does: the one table of
//! them. Pure.

use std::ffi::CStr;

use libc::{MS_NOATIME, MS_NODIRATIME, MS_RELATIME, MS_STRICTATIME};
use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};
use runtime_sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME,
};

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    Nothing,
    /// A tree of the host is mounted; with all that is mounted below.
    Bind { recursive: bool },
    /// What is mounted there is changed.
    Remount,
    /// A new file system gets what it covers.
    CopyUp,
    /// What symbolic links at either end are, of a bind mount.
    Links(Links),
    /// The ids are mapped; of all that is mounted below too. With a value: by the mappings there.
    IdMap { recursive: bool },
    /// The mount, and a superblock of its own, are read-only, or writable.
    ReadOnly(bool),
    /// `MOUNT_ATTR_*` of the mount.
    Attribute(Change),
    /// `MOUNT_ATTR_*` of the mount and all below.
    AttributeBelow(Change),
    /// One of the flags of mount(2) that together make the access time.
    AccessTime(u64, bool),
    /// A flag of the superblock: its name for fsconfig(2), and that of mount(2).
    Superblock(&'static CStr, u64, bool),
    /// The only flag of a superblock that fsconfig(2) does not have.
    CountVersions(bool),
    /// Whether the kernel's log is spared; of mount(2) only.
    Silent(bool),
    /// `MS_SHARED` and the like; of all below too.
    Propagation(u64, bool),
}

/// crun's options for symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// The destination becomes a link that says what the source says.
    Copy,
    /// The source is mounted, not what it leads to.
    KeepSource,
    /// The destination is mounted over, not what it leads to.
    KeepDestination,
}

/// Bits to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    /// This, and then `other`.
    pub(super) fn then(self, other: Self) -> Self {
        Self {
            set: self.set & !other.clear | other.set,
            clear: self.clear & !other.set | other.clear,
        }
    }
}

const fn set(bits: u64) -> Change {
    Change { set: bits, clear: 0 }
}

const fn clear(bits: u64) -> Change {
    Change { set: 0, clear: bits }
}

/// The access time is one field, and each value of it replaces all others.
const fn atime(set: u64) -> Change {
    Change {
        set,
        clear: ATTR_ATIME,
    }
}

/// All of them: the list of runtime-spec, config.md "Linux mount options", with runc's `tmpcopyup` and crun's
/// `copy-symlink`, `src-nofollow`, `dest-nofollow`. In alphabetical order. `docs/mount-options.md` says the
/// same in words.
pub(super) const OPTIONS: &[(&str, Effect)] = &[
    ("async", Effect::Superblock(c"sync", libc::MS_SYNCHRONOUS, false)),
    ("atime", Effect::AccessTime(MS_NOATIME, false)),
    ("bind", Effect::Bind { recursive: false }),
    ("copy-symlink", Effect::Links(Links::Copy)),
    ("defaults", Effect::Nothing),
    ("dest-nofollow", Effect::Links(Links::KeepDestination)),
    ("dev", Effect::Attribute(clear(ATTR_NODEV))),
    ("diratime", Effect::AccessTime(MS_NODIRATIME, false)),
    ("dirsync", Effect::Superblock(c"dirsync", libc::MS_DIRSYNC, true)),
    ("exec", Effect::Attribute(clear(ATTR_NOEXEC))),
    ("idmap", Effect::IdMap { recursive: false }),
    ("iversion", Effect::CountVersions(true)),
    (
        "lazytime",
        Effect::Superblock(c"lazytime", libc::MS_LAZYTIME, true),
    ),
    ("loud", Effect::Silent(false)),
    ("mand", Effect::Superblock(c"mand", libc::MS_MANDLOCK, true)),
    ("noatime", Effect::AccessTime(MS_NOATIME, true)),
    ("nodev", Effect::Attribute(set(ATTR_NODEV))),
    ("nodiratime", Effect::AccessTime(MS_NODIRATIME, true)),
    ("noexec", Effect::Attribute(set(ATTR_NOEXEC))),
    ("noiversion", Effect::CountVersions(false)),
    (
        "nolazytime",
        Effect::Superblock(c"lazytime", libc::MS_LAZYTIME, false),
    ),
    ("nomand", Effect::Superblock(c"mand", libc::MS_MANDLOCK, false)),
    ("norelatime", Effect::AccessTime(MS_RELATIME, false)),
    ("nostrictatime", Effect::AccessTime(MS_STRICTATIME, false)),
    ("nosuid", Effect::Attribute(set(ATTR_NOSUID))),
    ("nosymfollow", Effect::Attribute(set(ATTR_NOSYMFOLLOW))),
    ("private", Effect::Propagation(MS_PRIVATE, false)),
    ("ratime", Effect::AttributeBelow(atime(0))),
    ("rbind", Effect::Bind { recursive: true }),
    ("rdev", Effect::AttributeBelow(clear(ATTR_NODEV))),
    ("rdiratime", Effect::AttributeBelow(clear(ATTR_NODIRATIME))),
    ("relatime", Effect::AccessTime(MS_RELATIME, true)),
    ("remount", Effect::Remount),
    ("rexec", Effect::AttributeBelow(clear(ATTR_NOEXEC))),
    ("ridmap", Effect::IdMap { recursive: true }),
    ("rnoatime", Effect::AttributeBelow(atime(ATTR_NOATIME))),
    ("rnodev", Effect::AttributeBelow(set(ATTR_NODEV))),
    ("rnodiratime", Effect::AttributeBelow(set(ATTR_NODIRATIME))),
    ("rnoexec", Effect::AttributeBelow(set(ATTR_NOEXEC))),
    ("rnorelatime", Effect::AttributeBelow(atime(0))),
    ("rnostrictatime", Effect::AttributeBelow(atime(0))),
    ("rnosuid", Effect::AttributeBelow(set(ATTR_NOSUID))),
    ("rnosymfollow", Effect::AttributeBelow(set(ATTR_NOSYMFOLLOW))),
    ("ro", Effect::ReadOnly(true)),
    ("rprivate", Effect::Propagation(MS_PRIVATE, true)),
    ("rrelatime", Effect::AttributeBelow(atime(0))),
    ("rro", Effect::AttributeBelow(set(ATTR_RDONLY))),
    ("rrw", Effect::AttributeBelow(clear(ATTR_RDONLY))),
    ("rshared", Effect::Propagation(MS_SHARED, true)),
    ("rslave", Effect::Propagation(MS_SLAVE, true)),
    ("rstrictatime", Effect::AttributeBelow(atime(ATTR_STRICTATIME))),
    ("rsuid", Effect::AttributeBelow(clear(ATTR_NOSUID))),
    ("rsymfollow", Effect::AttributeBelow(clear(ATTR_NOSYMFOLLOW))),
    ("runbindable", Effect::Propagation(MS_UNBINDABLE, true)),
    ("rw", Effect::ReadOnly(false)),
    ("shared", Effect::Propagation(MS_SHARED, false)),
    ("silent", Effect::Silent(true)),
    ("slave", Effect::Propagation(MS_SLAVE, false)),
    ("src-nofollow", Effect::Links(Links::KeepSource)),
    ("strictatime", Effect::AccessTime(MS_STRICTATIME, true)),
    ("suid", Effect::Attribute(clear(ATTR_NOSUID))),
    ("symfollow", Effect::Attribute(clear(ATTR_NOSYMFOLLOW))),
    ("sync", Effect::Superblock(c"sync", libc::MS_SYNCHRONOUS, true)),
    ("tmpcopyup", Effect::CopyUp),
    ("unbindable", Effect::Propagation(MS_UNBINDABLE, false)),
];

/// What the option does; `None` for what is the file system's own.
pub(super) fn effect_of(word: &str) -> Option<Effect> {
    let found = OPTIONS.binary_search_by(|(name, _)| (*name).cmp(word));
    OPTIONS.get(found.ok()?).map(|(_, effect)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| name));
        for (name, effect) in OPTIONS {
            assert_eq!(effect_of(name), Some(*effect), "{name}");
        }
        assert_eq!(
            (effect_of("size=1m"), effect_of("ro=1"), effect_of("")),
            (None, None, None)
        );
    }

    #[test]
    fn the_document_has_the_same_options() {
        let document = include_str!("../../../../docs/mount-options.md");
        let documented = document.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: Vec<_> = documented
            .filter_map(|line| Some(line.split_once("` |")?.0))
            .collect();
        let known: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(documented, known);
    }
}

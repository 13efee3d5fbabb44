//! Runs in: RUNTIME. The options of a mount, taken apart by one table. Pure.
//!
//! What mount(8) calls options falls apart into what the runtime does, attributes of the mount, flags of the
//! superblock, propagation, and data for the file system. `validate` wants to know whether that can be done,
//! `plan` does it.

mod table;
mod text;

use std::ffi::CStr;

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};
use runtime_sys::mount::ATTR_RDONLY;

use super::lenient::quoted;
use crate::Error;
pub(crate) use table::Change;
use table::{Effect, Links, OPTIONS, effect_of};
pub(crate) use text::{CONTEXTS, is_context};

/// The options that are no file system's own, for `features`.
pub(crate) fn names() -> Vec<&'static str> {
    OPTIONS.iter().map(|(name, _)| *name).collect()
}

/// What a bind mount makes of a source that is a symbolic link. Links before the last component are always
/// followed.
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

/// Id mappings of users and groups.
pub(crate) type IdRanges = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// The options of one mount.
#[derive(Debug, Default)]
pub(crate) struct MountOptions<'a> {
    pub bind: bool,
    pub recursive_bind: bool,
    pub remount: bool,
    pub copy_up: bool,
    pub source_link: SourceLink,
    /// `dest-nofollow`.
    pub keep_last_link: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub id_map: Option<bool>,
    /// The value of these.
    pub id_ranges: Option<IdRanges>,
    /// `MOUNT_ATTR_*` of the mount, but for the access time.
    pub attributes: Change,
    /// The flags of mount(2) of the access time.
    pub access_time: u64,
    /// Whether there is any option that mount(2) has a flag for.
    pub has_flags: bool,
    /// `MOUNT_ATTR_*` of the mount and all below.
    pub below: Change,
    /// `MS_SHARED` and the like, in order; the flag: of all below too.
    pub propagation: Vec<(u64, bool)>,
    /// Flags of the superblock by name, for fsconfig(2).
    pub superblock_flags: Vec<&'static CStr>,
    /// The same by bit, for mount(2).
    pub classic_flags: u64,
    /// Whether a flag is among them that only mount(2) has.
    pub only_classic: bool,
    /// What is the file system's own: key and value.
    pub data: Vec<(&'a str, Option<&'a str>)>,
}

/// An option, and its place in the list.
type Listed<'a> = (usize, &'a str);

/// The first of each of the options that some mounts may not have.
#[derive(Debug, Default)]
struct Suspects<'a> {
    /// What is the file system's own.
    data: Option<Listed<'a>>,
    copy: Option<Listed<'a>>,
    keep_source: Option<Listed<'a>>,
    keep_destination: Option<Listed<'a>>,
}

impl<'a> MountOptions<'a> {
    /// Takes apart the options of `mounts[index]` of `spec`.
    ///
    /// # Errors
    /// `Invalid` with the field, for what cannot be done whatever the host is.
    pub(crate) fn parse(spec: &Spec, index: usize, mount: &'a Mount) -> crate::Result<Self> {
        let fstype = mount.typ().as_deref().unwrap_or_default();
        let refused = |(at, message)| Error::invalid(format!("mounts[{index}].options[{at}]"), message);
        let mut options = Self {
            // A bind mount may be told by its type alone: mount(8) does so.
            bind: matches!(fstype, "bind" | "rbind"),
            recursive_bind: fstype == "rbind",
            ..Self::default()
        };
        let mut suspects = Suspects::default();
        for (at, text) in mount.options().iter().flatten().enumerate() {
            let words = match text.contains(',') {
                true => text::words(fstype, text),
                false => Vec::new(),
            };
            match words.as_slice() {
                [] | [_] => options.take((at, text), spec, &mut suspects).map_err(refused)?,
                // What the kernel takes apart for runc and crun: nothing that is the runtime's own.
                several => {
                    suspects.data.get_or_insert((at, text));
                    several.iter().for_each(|word| options.take_for_filesystem(word));
                }
            }
        }
        options.judge(&suspects).map_err(refused)?;
        Ok(options)
    }

    fn take(
        &mut self,
        option: Listed<'a>,
        spec: &Spec,
        suspects: &mut Suspects<'a>,
    ) -> Result<(), (usize, String)> {
        let (at, text) = option;
        match effect_of(text) {
            Some(Effect::Nothing) => {}
            Some(Effect::Bind { recursive }) => {
                self.bind = true;
                self.recursive_bind |= recursive;
            }
            Some(Effect::Remount) => self.remount = true,
            Some(Effect::CopyUp) => self.copy_up = true,
            Some(Effect::Links(links)) => self.take_links(links, option, suspects),
            Some(Effect::IdMap { recursive }) => self.id_map = Some(recursive),
            Some(Effect::AttributeBelow(change)) => self.below = self.below.then(change),
            Some(Effect::Propagation(kind, recursive)) => self.propagation.push((kind, recursive)),
            Some(_) => self.take_for_filesystem(text),
            None => {
                if let Some((word, value)) = text.split_once('=')
                    && let Some(Effect::IdMap { recursive }) = effect_of(word)
                {
                    self.id_map = Some(recursive);
                    let ranges = text::id_ranges(spec, value);
                    self.id_ranges = ranges.map_err(|why| (at, format!("{text:?} {}", why.text(word))))?;
                    return Ok(());
                }
                // Engines leave SELinux's relabelling marks and empty options in the list.
                if !matches!(text, "z" | "Z" | "") {
                    suspects.data.get_or_insert(option);
                }
                self.take_for_filesystem(text);
            }
        }
        Ok(())
    }

    fn take_links(&mut self, links: Links, option: Listed<'a>, suspects: &mut Suspects<'a>) {
        let first = match links {
            Links::Copy => {
                self.source_link = SourceLink::Copy;
                &mut suspects.copy
            }
            Links::KeepSource => {
                self.source_link = SourceLink::Itself;
                &mut suspects.keep_source
            }
            Links::KeepDestination => {
                self.keep_last_link = true;
                &mut suspects.keep_destination
            }
        };
        first.get_or_insert(option);
    }

    fn take_for_filesystem(&mut self, text: &'a str) {
        let is_flag = effect_of(text).is_some_and(|effect| self.take_flag(effect));
        if is_flag || text.is_empty() {
            return;
        }
        self.data.push(match text.split_once('=') {
            Some((key, value)) if is_context(key.as_bytes()) => (key, Some(text::label(value))),
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        });
    }

    /// Takes what mount(2) has a flag for, and what takes such a flag away; false for anything else.
    fn take_flag(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Attribute(change) => self.attributes = self.attributes.then(change),
            Effect::ReadOnly(is_on) => self.take_read_only(is_on),
            Effect::AccessTime(bit, true) => self.access_time |= bit,
            Effect::AccessTime(bit, false) => self.access_time &= !bit,
            Effect::Superblock(name, bit, true) => self.set_superblock(name, bit),
            Effect::Superblock(name, bit, false) => self.clear_superblock(name, bit),
            Effect::CountVersions(is_on) => {
                self.set_classic(libc::MS_I_VERSION, is_on);
                self.only_classic = is_on;
            }
            Effect::Silent(is_on) => self.set_classic(libc::MS_SILENT, is_on),
            _ => return false,
        }
        self.has_flags = true;
        true
    }

    fn take_read_only(&mut self, is_on: bool) {
        let (set, clear) = if is_on { (ATTR_RDONLY, 0) } else { (0, ATTR_RDONLY) };
        self.attributes = self.attributes.then(Change { set, clear });
        self.clear_superblock(c"ro", libc::MS_RDONLY);
        self.clear_superblock(c"rw", 0);
        match is_on {
            true => self.set_superblock(c"ro", libc::MS_RDONLY),
            false => self.set_superblock(c"rw", 0),
        }
    }

    fn set_classic(&mut self, bit: u64, is_on: bool) {
        self.classic_flags = self.classic_flags & !bit | if is_on { bit } else { 0 };
    }

    fn set_superblock(&mut self, name: &'static CStr, bit: u64) {
        self.clear_superblock(name, bit);
        self.classic_flags |= bit;
        self.superblock_flags.push(name);
    }

    /// Takes the flag out again.
    pub(crate) fn clear_superblock(&mut self, name: &CStr, bit: u64) {
        self.classic_flags &= !bit;
        self.superblock_flags.retain(|flag| *flag != name);
    }

    fn judge(&self, suspects: &Suspects<'_>) -> Result<(), (usize, String)> {
        let Suspects {
            data,
            copy,
            keep_source,
            keep_destination,
        } = *suspects;
        let of_source = copy.or(keep_source);
        if let (true, Some((at, text))) = (self.bind, data) {
            let message = "bind mounts cannot have any filesystem-specific options applied";
            return Err((at, format!("{}: {message}", quoted(text))));
        }
        let (refused, why) = match self.bind {
            false => (of_source.or(keep_destination), "is for bind mounts only"),
            // A link is either copied or mounted.
            true if copy.is_some() && keep_source.or(keep_destination).is_some() => (
                keep_source.or(keep_destination),
                "and copy-symlink exclude each other",
            ),
            true if self.remount => (of_source, "is about the source, and a remount has none"),
            true => (None, ""),
        };
        match refused {
            Some((at, text)) => Err((at, format!("{text} {why}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mount: &str) -> Result<String, String> {
        let json = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"mounts":[{mount}],"linux":{{
            "uidMappings":[{{"containerID":0,"hostID":100000,"size":10}},{{"containerID":10,"hostID":500,"size":5}}],
            "gidMappings":[{{"containerID":0,"hostID":200000,"size":10}}]}}}}"#
        );
        let spec = crate::spec::parse(json.into_bytes()).unwrap().spec;
        let mount = &spec.mounts().as_ref().unwrap()[0];
        match MountOptions::parse(&spec, 0, mount) {
            Ok(options) => Ok(format!("{options:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_bind_mount_takes_nothing_of_a_file_system_and_nothing_is_dropped_in_silence() {
        let bind = |options: &str| {
            parse(&format!(
                r#"{{"destination":"/v","source":"/v","options":["bind",{options}]}}"#
            ))
        };
        for option in [
            "size=1m",
            "ro=1",
            "foo=bar",
            "idmap=uids=0-1-1;gids=0-1-1,ro",
            "ro,nosuid",
        ] {
            let wish = format!(
                "mounts[0].options[1]: {option:?}: bind mounts cannot have any filesystem-specific options applied"
            );
            assert_eq!(bind(&format!("{option:?}")).unwrap_err(), wish);
        }
        for option in ["", "z", "Z", "defaults", "ro", "rshared", "idmap=", "ridmap"] {
            assert!(bind(&format!("{option:?}")).is_ok(), "{option}");
        }
        let wish = "mounts[0].options[1]: \"idmap=x\" is not of the form idmap=uids=ID-HOST-SIZE#...;gids=ID-HOST-SIZE#...";
        assert_eq!(bind(r#""idmap=x""#).unwrap_err(), wish);
    }

    #[test]
    fn options_for_links_are_for_bind_mounts_and_exclude_each_other() {
        for (options, wish) in [
            (
                r#""ro","src-nofollow""#,
                "[1]: src-nofollow is for bind mounts only",
            ),
            (r#""bind","dest-nofollow""#, ""),
            (
                r#""bind","copy-symlink","dest-nofollow""#,
                "[2]: dest-nofollow and copy-symlink exclude each other",
            ),
            (
                r#""bind","remount","copy-symlink""#,
                "[2]: copy-symlink is about the source, and a remount has none",
            ),
        ] {
            let found = parse(&format!(
                r#"{{"destination":"/v","source":"/v","options":[{options}]}}"#
            ));
            let found = found.err().unwrap_or_default();
            assert_eq!(
                found.strip_prefix("mounts[0].options").unwrap_or_default(),
                wish,
                "{options}"
            );
        }
    }
}

//! Runs in: RUNTIME. How a string of mount options falls apart: the file system's own rules about commas,
//! colons, quotes and backslashes. Pure.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Spec};

use super::IdRanges;

/// The options of SELinux, which every file system takes (security/selinux/hooks.c).
pub(crate) const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Whether this is the key of an option that carries a label.
pub(crate) fn is_context(key: &[u8]) -> bool {
    CONTEXTS.iter().any(|context| context.as_bytes() == key)
}

/// Options in one string, as mount(2) takes them apart (`parse_monolithic` of the file system).
pub(super) fn words<'t>(fstype: &str, text: &'t str) -> Vec<&'t str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(comma) = end_of_word(fstype, rest) {
        let (word, after) = rest.split_at(comma);
        words.push(word);
        rest = after.get(1..).unwrap_or_default();
    }
    words.push(rest);
    words
}

/// Where the comma is that ends the first option.
fn end_of_word(fstype: &str, text: &str) -> Option<usize> {
    let is_label = text
        .split_once('=')
        .is_some_and(|(key, _)| is_context(key.as_bytes()));
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((place, byte)) = bytes.next() {
        let next = bytes.peek().map_or(0, |(_, byte)| *byte);
        let after = text.as_bytes().get(place + 2).copied().unwrap_or_default();
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if fstype == "overlay" => is_escaped = true,
            b'"' if is_label => is_quoted = !is_quoted,
            // Categories of a label, with or without quotes.
            b',' if is_label && (is_quoted || next == b'c' && after.is_ascii_digit()) => {}
            // Nodes of a memory policy (`shmem_next_opt`).
            b',' if fstype == "tmpfs" && next.is_ascii_digit() => {}
            b',' => return Some(place),
            _ => {}
        }
    }
    None
}

/// The value of an option that carries a label: mount(2) wants it in quotes, which are no part of it.
pub(super) fn label(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

/// Why there are no id mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRanges {
    Malformed,
    /// What counts from the container's user namespace is not in its mappings.
    Unmapped,
}

impl NoRanges {
    /// The rest of a sentence about the option of this name.
    pub(super) fn text(self, option: &str) -> String {
        match self {
            Self::Malformed => {
                format!("is not of the form {option}=uids=ID-HOST-SIZE#...;gids=ID-HOST-SIZE#...")
            }
            Self::Unmapped => {
                "has an id of the container (@) that linux.uidMappings or linux.gidMappings do not have"
                    .to_owned()
            }
        }
    }
}

/// What crun's `idmap=` and `ridmap=` say: `uids=0-100000-10#20-200000-5;gids=0-100000-10`. With `@` in front
/// of a range the second number is an id in the container's user namespace. Without any text the option says
/// no more than without a value.
pub(super) fn id_ranges(spec: &Spec, text: &str) -> Result<Option<IdRanges>, NoRanges> {
    if text.is_empty() {
        return Ok(None);
    }
    let linux = spec.linux().as_ref();
    let (mut uids, mut gids) = (None, None);
    for part in text.split(';') {
        let (key, list) = part.split_once('=').ok_or(NoRanges::Malformed)?;
        let (kind, container) = match key {
            "uids" => (&mut uids, linux.and_then(|linux| linux.uid_mappings().as_deref())),
            "gids" => (&mut gids, linux.and_then(|linux| linux.gid_mappings().as_deref())),
            _ => return Err(NoRanges::Malformed),
        };
        let ranges = list
            .split('#')
            .map(|range| id_range(range, container.unwrap_or_default()));
        if kind.replace(ranges.collect::<Result<Vec<_>, _>>()?).is_some() {
            return Err(NoRanges::Malformed);
        }
    }
    match uids.zip(gids) {
        None => Err(NoRanges::Malformed),
        ranges => Ok(ranges),
    }
}

fn id_range(text: &str, container: &[LinuxIdMapping]) -> Result<LinuxIdMapping, NoRanges> {
    let (text, is_relative) = match text.strip_prefix('@') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (id, host, size) = numbers(text).ok_or(NoRanges::Malformed)?;
    let host = match is_relative {
        true => on_host(host, container).ok_or(NoRanges::Unmapped)?,
        false => host,
    };
    LinuxIdMappingBuilder::default()
        .container_id(id)
        .host_id(host)
        .size(size)
        .build()
        .map_err(|_| NoRanges::Malformed)
}

fn numbers(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let found = (numbers.next()??, numbers.next()??, numbers.next()??);
    (numbers.next().is_none() && found.2 != 0).then_some(found)
}

/// What an id of the container is on the host. As with crun, only the first of a range has to be mapped.
fn on_host(id: u32, container: &[LinuxIdMapping]) -> Option<u32> {
    container.iter().find_map(|range| {
        let offset = id.checked_sub(range.container_id())?;
        (offset < range.size()).then(|| range.host_id().checked_add(offset))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_one_string_are_taken_apart_as_mount_2_does() {
        for (fstype, text, wish) in [
            ("tmpfs", "mode=711,size=1m", vec!["mode=711", "size=1m"]),
            ("tmpfs", "", vec![""]),
            ("tmpfs", "ro,", vec!["ro", ""]),
            ("tmpfs", "mpol=bind:0,2,size=1m", vec!["mpol=bind:0,2", "size=1m"]),
            ("proc", "hidepid=2,1", vec!["hidepid=2", "1"]),
            (
                "overlay",
                r"lowerdir=/a\,b:/c\\,upperdir=/d",
                vec![r"lowerdir=/a\,b:/c\\", "upperdir=/d"],
            ),
            ("tmpfs", r"a=b\,c", vec![r"a=b\", "c"]),
            (
                "tmpfs",
                r#"context="u:r:t:s0:c1,c2",size=1m"#,
                vec![r#"context="u:r:t:s0:c1,c2""#, "size=1m"],
            ),
            (
                "tmpfs",
                "rootcontext=u:r:t:s0:c1,c2,context=x",
                vec!["rootcontext=u:r:t:s0:c1,c2", "context=x"],
            ),
            (
                "overlay",
                r#"lowerdir=/a"b,index=on"#,
                vec![r#"lowerdir=/a"b"#, "index=on"],
            ),
        ] {
            assert_eq!(words(fstype, text), wish, "{fstype} {text}");
        }
    }

    #[test]
    fn quotes_are_no_part_of_a_label() {
        for (value, wish) in [
            (r#""a,b""#, "a,b"),
            ("a,b", "a,b"),
            (r#""a"#, r#""a"#),
            (r#"""#, r#"""#),
        ] {
            assert_eq!(label(value), wish);
        }
    }

    #[test]
    fn ranges_of_crun_s_idmap() {
        let spec: Spec = serde_json::from_value(serde_json::json!({"ociVersion": "1.3.0", "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 10, "hostID": 50, "size": 5}],
            "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 10}],
        }}))
        .unwrap();
        let of = |text: &str| {
            let numbers = |list: Vec<LinuxIdMapping>| -> Vec<_> {
                list.iter()
                    .map(|range| (range.container_id(), range.host_id(), range.size()))
                    .collect()
            };
            let found = id_ranges(&spec, text)?;
            Ok(found.map(|(uids, gids)| (numbers(uids), numbers(gids))))
        };
        assert_eq!(
            of("uids=0-1-10#10-11-5;gids=0-100-10"),
            Ok(Some((vec![(0, 1, 10), (10, 11, 5)], vec![(0, 100, 10)])))
        );
        assert_eq!(
            of("gids=@0-9-5;uids=0-5-1#@1-12-2"),
            Ok(Some((vec![(0, 5, 1), (1, 52, 2)], vec![(0, 2009, 5)])))
        );
        assert_eq!(of(""), Ok(None));
        for wrong in [
            "bogus",
            "uids=0-1-10",
            "uids=0-1-10;uids=0-1-10;gids=0-1-1",
            "uids=@;gids=0-1-10",
            "uids=@@0-1-10;gids=0-1-10",
            "uids=0-1;gids=0-1-10",
            "uids=0-1-0;gids=0-1-10",
            "uids=0-1-1-1;gids=0-1-10",
            "uids=0-1-4294967296;gids=0-1-10",
        ] {
            assert_eq!(of(wrong), Err(NoRanges::Malformed), "{wrong}");
        }
        for unmapped in ["uids=@0-15-1;gids=0-1-10", "uids=0-1-1;gids=@0-10-1"] {
            assert_eq!(of(unmapped), Err(NoRanges::Unmapped), "{unmapped}");
        }
    }
}

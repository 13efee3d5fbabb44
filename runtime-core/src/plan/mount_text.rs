//! Runs in: RUNTIME. How a string of mount options falls apart: the file system's own rules about commas, colons,
//! quotes and backslashes. Pure.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use super::mount_label::is_context;

/// Of users and groups.
pub type IdRanges = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

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

/// The layers of an overlay's `lowerdir` one by one, as options `lowerdir+` and `datadir+`, which take them as they are:
/// without backslashes before colons. `None` where the value is not well formed.
pub(super) fn layers(lowerdir: &[u8]) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let (mut layers, mut layer, mut is_data) = (Vec::new(), Vec::new(), false);
    let mut bytes = lowerdir.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => layer.push(*bytes.next()?),
            b':' => {
                layers.push((key(is_data), std::mem::take(&mut layer)));
                let is_double = bytes.next_if_eq(&&b':').is_some();
                if is_data && !is_double {
                    return None;
                }
                is_data |= is_double;
            }
            byte => layer.push(*byte),
        }
    }
    layers.push((key(is_data), layer));
    layers
        .iter()
        .all(|(_, layer)| !layer.is_empty())
        .then_some(layers)
}

/// The value of an overlay's option that names directories, with those that are relative below `bundle`, as a bind mount's source:
/// what the working directory of the runtime is says nothing.
pub(super) fn absolute(key: &[u8], value: &[u8], bundle: &[u8]) -> Vec<u8> {
    let special: &[u8] = match key {
        b"lowerdir" => b":,\\",
        b"upperdir" | b"workdir" => b",\\",
        b"lowerdir+" | b"datadir+" => b"",
        _ => return value.to_owned(),
    };
    let is_list = key == b"lowerdir";
    let (mut result, mut is_start, mut is_escaped) = (Vec::new(), true, false);
    for byte in value {
        if is_start && !matches!(byte, b'/' | b':') {
            for byte in bundle {
                result.extend(special.contains(byte).then_some(b'\\'));
                result.push(*byte);
            }
            result.push(b'/');
        }
        result.push(*byte);
        is_start = is_list && !is_escaped && *byte == b':';
        is_escaped = !is_escaped && *byte == b'\\';
    }
    result
}

/// What crun's `idmap=` and `ridmap=` say: `uids=0-100000-10#20-200000-5;gids=0-100000-10`. `None` where it is not well formed, or relative
/// to the container's user namespace (`@`).
pub(super) fn id_ranges(text: &str) -> Option<IdRanges> {
    let (mut uids, mut gids) = (None, None);
    for part in text.split(';') {
        let (key, list) = part.split_once('=')?;
        let kind = match key {
            "uids" => &mut uids,
            "gids" => &mut gids,
            _ => return None,
        };
        let ranges: Option<Vec<_>> = list.split('#').map(id_range).collect();
        if kind.replace(ranges?).is_some() {
            return None;
        }
    }
    uids.zip(gids)
}

fn id_range(text: &str) -> Option<LinuxIdMapping> {
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let (id, host, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if numbers.next().is_some() || size == 0 {
        return None;
    }
    LinuxIdMappingBuilder::default()
        .container_id(id)
        .host_id(host)
        .size(size)
        .build()
        .ok()
}

fn key(is_data: bool) -> &'static str {
    if is_data { "datadir+" } else { "lowerdir+" }
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
    fn relative_directories_of_an_overlay_are_the_bundle_s() {
        for (key, value, wish) in [
            ("lowerdir", "a:/b:c/d::e", r"/x\:\,y/a:/b:/x\:\,y/c/d::/x\:\,y/e"),
            ("lowerdir", r"a\:/b\\:c", r"/x\:\,y/a\:/b\\:/x\:\,y/c"),
            ("lowerdir", r"\:a", r"/x\:\,y/\:a"),
            ("lowerdir", "", ""),
            ("upperdir", "up:/per", r"/x:\,y/up:/per"),
            ("workdir", "/w", "/w"),
            ("lowerdir+", "a:b", "/x:,y/a:b"),
            ("datadir+", "/a", "/a"),
            ("index", "off", "off"),
        ] {
            let result = absolute(key.as_bytes(), value.as_bytes(), b"/x:,y");
            assert_eq!(String::from_utf8(result).unwrap(), wish, "{key}={value}");
        }
    }

    #[test]
    fn ranges_of_crun_s_idmap() {
        let of = |text: &str| {
            let numbers = |list: Vec<LinuxIdMapping>| -> Vec<_> {
                list.iter()
                    .map(|range| (range.container_id(), range.host_id(), range.size()))
                    .collect()
            };
            id_ranges(text).map(|(uids, gids)| (numbers(uids), numbers(gids)))
        };
        assert_eq!(
            of("uids=0-1-10#10-11-5;gids=0-100-10"),
            Some((vec![(0, 1, 10), (10, 11, 5)], vec![(0, 100, 10)]))
        );
        for wrong in [
            "",
            "bogus",
            "uids=0-1-10",
            "uids=0-1-10;uids=0-1-10;gids=0-1-1",
            "uids=@0-1-10;gids=0-1-10",
            "uids=0-1;gids=0-1-10",
            "uids=0-1-0;gids=0-1-10",
            "uids=0-1-1-1;gids=0-1-10",
            "uids=0-1-4294967296;gids=0-1-10",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn layers_are_told_by_colons_without_a_backslash() {
        let of = |text: &str| {
            layers(text.as_bytes()).map(|layers| {
                let text =
                    |(key, value): (&str, Vec<u8>)| format!("{key}={}", String::from_utf8(value).unwrap());
                layers.into_iter().map(text).collect::<Vec<_>>()
            })
        };
        assert_eq!(of("/a:/b").unwrap(), ["lowerdir+=/a", "lowerdir+=/b"]);
        assert_eq!(
            of(r"/a\:b\\:/c\,d").unwrap(),
            [r"lowerdir+=/a:b\", "lowerdir+=/c,d"]
        );
        assert_eq!(
            of("/a::/b::/c").unwrap(),
            ["lowerdir+=/a", "datadir+=/b", "datadir+=/c"]
        );
        for wrong in ["", ":/a", "/a:", "/a:::/b", "/a::/b:/c", r"/a\"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}

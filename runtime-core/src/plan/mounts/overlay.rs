//! Runs in: RUNTIME. The options of overlay that name directories. Pure.

use super::options::Options;
use super::{CLASSIC_MAX, FSCONFIG_MAX, FsOption};
use crate::plan::c_string;
use crate::{Error, Result};

impl Options<'_> {
    /// The directories of an overlay, which are looked up where INIT happens to be.
    pub(super) fn resolve_layers(&mut self, bundle: &[u8], index: u16) -> Result<()> {
        for (key, value) in &mut self.data {
            if let Some(value) = value {
                let absolute = absolute(key.as_bytes(), value.as_bytes(), bundle);
                *value = c_string(absolute, format!("mounts[{index}].options"))?;
            }
        }
        Ok(())
    }

    /// An overlay with more options than mount(2) takes: its layers one by one, each short enough for
    /// fsconfig(2).
    pub(super) fn split_layers(&mut self, field: &str) -> Result<()> {
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

/// The layers of an overlay's `lowerdir` one by one, as options `lowerdir+` and `datadir+`, which take them
/// as they are: without backslashes before colons. `None` where the value is not well formed.
fn layers(lowerdir: &[u8]) -> Option<Vec<(&'static str, Vec<u8>)>> {
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

/// The value of an overlay's option that names directories, with those that are relative below `bundle`, as a
/// bind mount's source: what the working directory of the runtime is says nothing.
fn absolute(key: &[u8], value: &[u8], bundle: &[u8]) -> Vec<u8> {
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

fn key(is_data: bool) -> &'static str {
    if is_data { "datadir+" } else { "lowerdir+" }
}

#[cfg(test)]
mod tests {
    use super::*;

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

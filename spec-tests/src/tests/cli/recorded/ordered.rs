//! Runs in: SUITE. JSON with its keys in their order, compared by shape, and printed in a given layout.

use crate::outcome::Check;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Value, ser::PrettyFormatter};
use std::fmt;

/// A JSON value that knows the order of its keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ordered {
    Object(Vec<(String, Ordered)>),
    Array(Vec<Ordered>),
    Leaf(Value),
}

/// What may differ at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The object's keys are not part of the format; its values are alike.
    AnyNames,
    /// This key may be absent.
    MayLack,
    /// This key may be there, though the recording has none.
    MayHave,
}

impl Ordered {
    /// How `real` differs from this recording, a line for each place.
    pub(super) fn differences(&self, real: &Self, rules: &[(&str, Rule)]) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(real, "", rules, &mut found);
        found
    }

    fn compare(&self, real: &Self, path: &str, rules: &[(&str, Rule)], found: &mut Vec<String>) {
        let is = |path: &str, rule| rules.contains(&(path, rule));
        match (self, real) {
            (Self::Object(wish), Self::Object(real)) if is(path, Rule::AnyNames) => {
                if let Some((_, first)) = wish.first() {
                    for (name, value) in real {
                        first.compare(value, &format!("{path}/{name}"), rules, found);
                    }
                }
            }
            (Self::Object(wish), Self::Object(real)) => {
                let below = |name: &str| format!("{path}/{name}");
                let value =
                    |of: &'_ [(String, Self)], name: &str| of.iter().find(|(n, _)| n == name).cloned();
                let names = |of: &[(String, Self)], other: &[(String, Self)], rule| -> Vec<String> {
                    let kept = of
                        .iter()
                        .filter(|(name, _)| value(other, name).is_some() || !is(&below(name), rule));
                    kept.map(|(name, _)| name.clone()).collect()
                };
                let (wished, there) = (names(wish, real, Rule::MayLack), names(real, wish, Rule::MayHave));
                if wished != there {
                    found.push(format!("keys of {path:?}: wish {wished:?}, reality {there:?}"));
                }
                for (name, wish) in wish {
                    if let Some((_, real)) = value(real, name) {
                        wish.compare(&real, &below(name), rules, found);
                    }
                }
            }
            (Self::Array(wish), Self::Array(real)) => {
                // The last one, where the first may have more than each must have.
                for (index, value) in real.iter().enumerate() {
                    if let Some(wish) = wish.get(index).or_else(|| wish.last()) {
                        wish.compare(value, &format!("{path}[]"), rules, found);
                    }
                }
            }
            (Self::Leaf(wish), Self::Leaf(real)) => {
                if kind(wish) != kind(real) {
                    found.push(format!("{path:?}: wish {}, reality {}", kind(wish), kind(real)));
                }
            }
            _ => found.push(format!("{path:?}: wish {self:?}, reality {real:?}")),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if is_time(text) => "a time",
        Value::String(_) => "a text",
        Value::Array(_) | Value::Object(_) => "more than a leaf",
    }
}

/// RFC 3339, in UTC.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && text.ends_with('Z')
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(entries) => {
                let mut map = to.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::Array(values) => {
                let mut sequence = to.serialize_seq(Some(values.len()))?;
                for value in values {
                    sequence.serialize_element(value)?;
                }
                sequence.end()
            }
            Self::Leaf(value) => value.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Ordered;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Ordered::Object(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Ordered, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Ordered::Array(values))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::Null))
    }
}

/// How a document is set: what a level is indented by, if there are lines, and what it ends with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<'a> {
    indent: Option<&'a str>,
    end: &'static str,
}

impl<'a> Layout<'a> {
    /// That of `text`.
    pub(super) fn of(text: &'a str) -> Self {
        let second = text.lines().nth(1);
        Self {
            indent: second.map(|line| &line[..line.len() - line.trim_start().len()]),
            end: if text.ends_with('\n') { "\n" } else { "" },
        }
    }

    /// `value` in this layout.
    pub(super) fn print(&self, value: &Ordered) -> Check<String> {
        let text = match self.indent {
            None => serde_json::to_string(value)?,
            Some(indent) => {
                let mut text = Vec::new();
                let formatter = PrettyFormatter::with_indent(indent.as_bytes());
                value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
                String::from_utf8(text)?
            }
        };
        Ok(text + self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::{Layout, Ordered, Rule};

    fn read(text: &str) -> Ordered {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn order_names_and_types_count() {
        let recorded = read(r#"{"a":1,"b":[{"c":"x"}],"d":{"e":null}}"#);
        for alike in [
            r#"{"a":7,"b":[],"d":{"e":null}}"#,
            r#"{"a":1.5,"b":[{"c":"y"},{"c":""}],"d":{"e":null}}"#,
        ] {
            assert!(recorded.differences(&read(alike), &[]).is_empty(), "{alike}");
        }
        for other in [
            r#"{"b":[],"a":7,"d":{"e":null}}"#,
            r#"{"a":"7","b":[],"d":{"e":null}}"#,
            r#"{"a":7,"b":[{"c":1}],"d":{"e":null}}"#,
            r#"{"a":7,"b":[],"d":{"e":{}}}"#,
            r#"{"a":7,"b":[],"d":{}}"#,
            r#"{"a":7,"b":[],"d":{"e":null,"f":1}}"#,
        ] {
            assert_eq!(recorded.differences(&read(other), &[]).len(), 1, "{other}");
        }
        let rules = [("/d/e", Rule::MayLack), ("/d/f", Rule::MayHave)];
        assert!(
            recorded
                .differences(&read(r#"{"a":7,"b":[],"d":{"f":1}}"#), &rules)
                .is_empty()
        );
    }

    #[test]
    fn layouts_are_told_apart() {
        let text = "{\n\t\"a\": [\n\t\t1\n\t]\n}\n";
        assert_eq!(Layout::of(text).print(&read(text)).unwrap(), text);
        assert_eq!(Layout::of("{\"b\":2}").print(&read(text)).unwrap(), "{\"a\":[1]}");
    }
}

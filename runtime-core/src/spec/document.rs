//! Runs in: RUNTIME. From bytes to a JSON value that has known keys only, spelled as in the schema. Which key
//! is which field, and what counts of a field given twice, is decided as Go's encoding/json does: what
//! engines and policies (Go programs, all of them) see in a document must be what is run. It does not judge
//! values: that is `lenient`.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::lenient::{At, quoted};
use super::schema::{Absent, Field, Schema, Zero};

/// A key that is not written as the specification has it, but counts: the two differ only in case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherSpelling {
    /// The field that it was taken for, with all that it is in: `linux.resources.cpu`.
    pub field: String,
    /// The key, as it is in the document.
    pub key: String,
}

impl fmt::Display for OtherSpelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, key } = self;
        write!(
            f,
            "{field}: taken from the key {}, which differs in case",
            quoted(key)
        )
    }
}

/// A document as it was read.
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) spellings: Vec<OtherSpelling>,
}

/// More are of no use to who reads them, and a document may have millions.
const MOST_SPELLINGS: usize = 16;

/// Reads `json`, which has the shape of `schema` or is refused later. `root` is the name in front of every
/// field.
pub(super) fn read(json: &[u8], schema: &'static Schema, root: &'static str) -> serde_json::Result<Document> {
    let spellings = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Reader {
        schema,
        at: &At::Root(root),
        spellings: &spellings,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Document {
        value,
        spellings: spellings.into_inner(),
    })
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Reader<'a> {
    schema: &'static Schema,
    at: &'a At<'a>,
    spellings: &'a RefCell<Vec<OtherSpelling>>,
}

impl Reader<'_> {
    fn within<'b>(&'b self, schema: &'static Schema, at: &'b At<'b>) -> Reader<'b> {
        Reader {
            schema,
            at,
            spellings: self.spellings,
        }
    }

    fn note(&self, field: &At<'_>, key: String) {
        let mut spellings = self.spellings.borrow_mut();
        if spellings.len() < MOST_SPELLINGS {
            let field = field.to_string();
            spellings.push(OtherSpelling { field, key });
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match has_fields(self.schema) {
            true => deserializer.deserialize_any(self),
            false => serde::Deserialize::deserialize(deserializer),
        }
    }
}

/// What is of another type than the schema says is read as well, for the error that names it.
impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let element_schema = match bare(self.schema) {
            Schema::List(schema) => schema,
            _ => &Schema::Text,
        };
        let mut list = Vec::new();
        loop {
            let at = At::Index(self.at, list.len());
            match elements.next_element_seed(self.within(element_schema, &at))? {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        match bare(self.schema) {
            Schema::Object(fields) => {
                while let Some(key) = entries.next_key_seed(Key(fields))? {
                    self.field(&mut map, key, &mut entries)?;
                }
            }
            schema => {
                let value_schema = match schema {
                    Schema::Map(schema) => schema,
                    _ => &Schema::Text,
                };
                while let Some(key) = entries.next_key::<String>()? {
                    let value =
                        entries.next_value_seed(self.within(value_schema, &At::Entry(self.at, &key)))?;
                    map.insert(key, value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

impl Reader<'_> {
    /// Reads the value of a key of an object, and puts it to what the object has.
    fn field<'de, A: MapAccess<'de>>(
        &self,
        map: &mut Map<String, Value>,
        key: Found,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        let (field, written) = match key {
            Found::Exact(field) => (field, None),
            Found::InAnotherCase(field, written) => (field, Some(written)),
            // Unknown fields must be ignored (runtime-spec, config.md "Extensibility"). They are dropped
            // here, not left for the types to skip: oci-spec has types for some that no version of the
            // specification knows.
            Found::Unknown => return entries.next_value::<IgnoredAny>().map(drop),
        };
        let at = At::Field(self.at, field.name);
        if let Some(written) = written {
            self.note(&at, written);
        }
        let value = entries.next_value_seed(self.within(&field.schema, &at))?;
        if let Some(earlier) = map.insert(field.name.to_owned(), value)
            && let Some(place) = map.get_mut(field.name)
        {
            let later = std::mem::replace(place, earlier);
            lay_over(place, later, field);
        }
        Ok(())
    }
}

/// What a key of an object is.
enum Found {
    Exact(&'static Field),
    InAnotherCase(&'static Field, String),
    Unknown,
}

/// Reads a key of an object with these fields.
struct Key(&'static [Field]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Found, E> {
        if let Some(field) = self.0.iter().find(|field| field.name == key) {
            return Ok(Found::Exact(field));
        }
        Ok(
            match self.0.iter().find(|field| is_same_folded(field.name, key)) {
                Some(field) => Found::InAnotherCase(field, key.to_owned()),
                None => Found::Unknown,
            },
        )
    }
}

/// Whether Go takes `key` for the field `name`, which is ASCII. Unicode's simple folding, which Go uses,
/// knows two characters outside of ASCII that are the same as one in it: the long s and the Kelvin sign.
fn is_same_folded(name: &str, key: &str) -> bool {
    let folded = key.chars().map(|character| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    name.chars()
        .map(|character| character.to_ascii_lowercase())
        .eq(folded)
}

/// The schema of a value, without what is to be mended in it.
fn bare(mut schema: &'static Schema) -> &'static Schema {
    while let Schema::Mended(_, inner) = schema {
        schema = inner;
    }
    schema
}

/// Whether there is an object with known keys somewhere in a value. The long lists of a document (names of
/// system calls, variables, paths) have none.
fn has_fields(schema: &'static Schema) -> bool {
    match bare(schema) {
        Schema::Object(_) => true,
        Schema::List(inner) | Schema::Map(inner) => has_fields(inner),
        _ => false,
    }
}

/// A field given twice: Go reads the later value into what the earlier one has left. Objects have the fields
/// of both, lists the length of the later one, and null takes away what is a pointer, a list or a map in Go's
/// types, and leaves the rest. (Numbers and booleans are some one, some the other there. Here they stay:
/// `noNewPrivileges` must not be lost by a null.)
fn lay_over(place: &mut Value, later: Value, field: &'static Field) {
    match (&later, field.absent) {
        (Value::Null, Absent::Zero(Zero::Object)) => {}
        _ => lay_over_value(place, later, &field.schema),
    }
}

fn lay_over_value(place: &mut Value, later: Value, schema: &'static Schema) {
    match (bare(schema), place, later) {
        (Schema::Object(fields), Value::Object(object), Value::Object(later)) => {
            for (name, value) in later {
                match (
                    object.get_mut(&name),
                    fields.iter().find(|field| field.name == name),
                ) {
                    (Some(place), Some(field)) => lay_over(place, value, field),
                    _ => drop(object.insert(name, value)),
                }
            }
        }
        (Schema::List(schema), Value::Array(list), Value::Array(later)) => {
            list.truncate(later.len());
            for (index, value) in later.into_iter().enumerate() {
                match list.get_mut(index) {
                    Some(place) => lay_over_value(place, value, schema),
                    None => list.push(value),
                }
            }
        }
        (Schema::Map(_), Value::Object(map), Value::Object(later)) => map.extend(later),
        (Schema::Object(_) | Schema::List(_) | Schema::Map(_), place, later) => *place = later,
        (_, _, Value::Null) => {}
        (_, place, later) => *place = later,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema;
    use super::*;

    fn config(json: &str) -> (Value, Vec<String>) {
        let document = read(json.as_bytes(), &schema::CONFIG, "").unwrap();
        let spellings = document.spellings.iter().map(ToString::to_string);
        (document.value, spellings.collect())
    }

    #[test]
    fn keys_count_in_any_case_and_are_named() {
        let (value, spellings) = config(
            r#"{"OCIVersion":"1.0.0","process":{"NOnewPrivileges":true,"\u212awd":"x","u\u017fer":{"UID":5}},
                "mounts":[{"destination":"/a"},{"Destination":"/b","OPTIONS":["Ro"]}],
                "linux":{"netDevices":{"Eth0":{"Name":"x"}},"ma\u017fkedPath\u017f":["/x"],"Resources":{"CPU":{"Cpus":"0"},
                    "hugepageLimits":[{"pagesize":"2MB","limit":1}],"memory":{"\u212aernel":1}}}}"#,
        );
        assert_eq!(
            value,
            json!({"ociVersion":"1.0.0","process":{"noNewPrivileges":true,"user":{"uid":5}},
                "mounts":[{"destination":"/a"},{"destination":"/b","options":["Ro"]}],
                "linux":{"netDevices":{"Eth0":{"name":"x"}},"maskedPaths":["/x"],"resources":{"cpu":{"cpus":"0"},
                    "hugepageLimits":[{"pageSize":"2MB","limit":1}],"memory":{"kernel":1}}}})
        );
        assert_eq!(
            spellings,
            [
                "ociVersion: taken from the key \"OCIVersion\", which differs in case",
                "process.noNewPrivileges: taken from the key \"NOnewPrivileges\", which differs in case",
                "process.user: taken from the key \"u\u{17f}er\", which differs in case",
                "process.user.uid: taken from the key \"UID\", which differs in case",
                "mounts[1].destination: taken from the key \"Destination\", which differs in case",
                "mounts[1].options: taken from the key \"OPTIONS\", which differs in case",
                "linux.netDevices[\"Eth0\"].name: taken from the key \"Name\", which differs in case",
                "linux.maskedPaths: taken from the key \"ma\u{17f}kedPath\u{17f}\", which differs in case",
                "linux.resources: taken from the key \"Resources\", which differs in case",
                "linux.resources.cpu: taken from the key \"CPU\", which differs in case",
                "linux.resources.cpu.cpus: taken from the key \"Cpus\", which differs in case",
                "linux.resources.hugepageLimits[0].pageSize: taken from the key \"pagesize\", which differs in case",
                "linux.resources.memory.kernel: taken from the key \"\u{212a}ernel\", which differs in case",
            ]
        );
    }

    #[test]
    fn keys_that_are_data_keep_their_case() {
        let document = r#"{"annotations":{"A":"1","a":"2"},"linux":{"sysctl":{"Net.x":"1"},"timeOffsets":{"Boottime":{"secs":1}},
            "resources":{"unified":{"Memory.high":"1"}}}}"#;
        let (value, spellings) = config(document);
        assert_eq!(value, serde_json::from_str::<Value>(document).unwrap());
        assert!(spellings.is_empty());
    }

    #[test]
    fn no_two_fields_of_an_object_are_the_same_but_for_case() {
        fn check(schema: &'static Schema) {
            match bare(schema) {
                Schema::List(inner) | Schema::Map(inner) => check(inner),
                Schema::Object(fields) => {
                    for (index, field) in fields.iter().enumerate() {
                        let same = |other: &Field| is_same_folded(other.name, field.name);
                        assert!(
                            field.name.is_ascii() && !fields[..index].iter().any(same),
                            "{}",
                            field.name
                        );
                        check(&field.schema);
                    }
                }
                _ => {}
            }
        }
        check(&schema::CONFIG);
    }

    /// What Go's decoder makes of each, with the types of runtime-spec 1.3.
    #[test]
    fn a_field_given_twice_is_laid_over_what_was_there() {
        for (given, taken) in [
            (r#"{"hostname":"a","HostName":"b"}"#, json!({"hostname":"b"})),
            (r#"{"HostName":"a","hostname":"b"}"#, json!({"hostname":"b"})),
            (r#"{"hostname":"b","HostName":"a"}"#, json!({"hostname":"a"})),
            (r#"{"hostname":"a","hostname":null}"#, json!({"hostname":"a"})),
            (
                r#"{"process":{"noNewPrivileges":true},"Process":{"noNewPrivileges":null,"user":{"uid":1},"user":null}}"#,
                json!({"process":{"noNewPrivileges":true,"user":{"uid":1}}}),
            ),
            (
                r#"{"linux":{"seccomp":{"defaultAction":"A"},"sysctl":{"a":"1"}},"Linux":{"sysctl":{"b":"2"}}}"#,
                json!({"linux":{"seccomp":{"defaultAction":"A"},"sysctl":{"a":"1","b":"2"}}}),
            ),
            (r#"{"linux":{"seccomp":{}},"linux":null}"#, json!({"linux":null})),
            (
                r#"{"process":{"rlimits":[{"type":"A","hard":1,"soft":1},{"type":"B"}],"Rlimits":[{"hard":2}]}}"#,
                json!({"process":{"rlimits":[{"type":"A","hard":2,"soft":1}]}}),
            ),
            (
                r#"{"process":{"args":["a"],"Args":["b","c"]}}"#,
                json!({"process":{"args":["b","c"]}}),
            ),
            (
                r#"{"linux":{"sysctl":{"a":"1"},"sysctl":null}}"#,
                json!({"linux":{"sysctl":null}}),
            ),
            (
                r#"{"annotations":{"a":"1","a":"2"}}"#,
                json!({"annotations":{"a":"2"}}),
            ),
            (
                r#"{"linux":{"netDevices":{"a":{"name":"1"},"a":{}}}}"#,
                json!({"linux":{"netDevices":{"a":{}}}}),
            ),
        ] {
            assert_eq!(config(given).0, taken, "{given}");
        }
    }

    #[test]
    fn of_many_spellings_the_first_are_named() {
        let mounts = vec![r#"{"Destination":"/a"}"#; 1000].join(",");
        let (value, spellings) = config(&format!(r#"{{"mounts":[{mounts}]}}"#));
        assert_eq!(value["mounts"].as_array().unwrap().len(), 1000);
        assert_eq!(spellings.len(), MOST_SPELLINGS);
        assert!(
            spellings[15].starts_with("mounts[15].destination: "),
            "{spellings:?}"
        );
    }

    #[test]
    fn what_is_unknown_is_dropped_unread() {
        let (value, _) = config(r#"{"x":[{"hostname":1e999}],"linux":{"hostname":"x","wind\u017fows":1}}"#);
        assert_eq!(value, json!({"linux":{}}));
    }
}

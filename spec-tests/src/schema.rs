//! Runs in: SUITE. Validates documents by the JSON schemas of the runtime-spec, with the few words of draft 4
//! that they use. A word that this file does not know is an error, never passed over.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The schemas of runtime-spec 1.3.0, as published beside it (Apache-2.0).
const FILES: &[(&str, &str)] = &[
    (
        "config-schema.json",
        include_str!("../fixtures/runtime-spec/config-schema.json"),
    ),
    (
        "config-freebsd.json",
        include_str!("../fixtures/runtime-spec/config-freebsd.json"),
    ),
    (
        "config-linux.json",
        include_str!("../fixtures/runtime-spec/config-linux.json"),
    ),
    (
        "config-solaris.json",
        include_str!("../fixtures/runtime-spec/config-solaris.json"),
    ),
    (
        "config-vm.json",
        include_str!("../fixtures/runtime-spec/config-vm.json"),
    ),
    (
        "config-windows.json",
        include_str!("../fixtures/runtime-spec/config-windows.json"),
    ),
    (
        "config-zos.json",
        include_str!("../fixtures/runtime-spec/config-zos.json"),
    ),
    ("defs.json", include_str!("../fixtures/runtime-spec/defs.json")),
    (
        "defs-freebsd.json",
        include_str!("../fixtures/runtime-spec/defs-freebsd.json"),
    ),
    (
        "defs-linux.json",
        include_str!("../fixtures/runtime-spec/defs-linux.json"),
    ),
    (
        "defs-vm.json",
        include_str!("../fixtures/runtime-spec/defs-vm.json"),
    ),
    (
        "defs-windows.json",
        include_str!("../fixtures/runtime-spec/defs-windows.json"),
    ),
    (
        "defs-zos.json",
        include_str!("../fixtures/runtime-spec/defs-zos.json"),
    ),
    (
        "features-schema.json",
        include_str!("../fixtures/runtime-spec/features-schema.json"),
    ),
    (
        "features-linux.json",
        include_str!("../fixtures/runtime-spec/features-linux.json"),
    ),
    (
        "state-schema.json",
        include_str!("../fixtures/runtime-spec/state-schema.json"),
    ),
];

/// The schemas, parsed.
#[derive(Debug)]
pub(crate) struct Schemas(BTreeMap<&'static str, Value>);

impl Schemas {
    pub(crate) fn load() -> Result<Self, String> {
        let parse = |(name, text): &(&'static str, &str)| {
            let value = serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))?;
            Ok((*name, value))
        };
        FILES.iter().map(parse).collect::<Result<_, String>>().map(Self)
    }

    /// What is wrong with the document, one line each; empty if nothing is.
    pub(crate) fn check(&self, file: &str, document: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        match self.0.keys().find(|name| **name == file) {
            Some(file) => self.rule(
                At {
                    file,
                    path: String::new(),
                },
                &self.0[file],
                document,
                &mut faults,
            ),
            None => faults.push(format!("no schema {file}")),
        }
        faults
    }

    fn rule(&self, at: At, rule: &Value, value: &Value, faults: &mut Vec<String>) {
        let Some(words) = rule.as_object() else {
            return faults.push(format!("{}: a rule that is no object", at.path));
        };
        for (word, wish) in words {
            self.word(&at, words, (word, wish), value, faults);
        }
    }

    fn word(
        &self,
        at: &At,
        words: &Map<String, Value>,
        rule: (&str, &Value),
        value: &Value,
        faults: &mut Vec<String>,
    ) {
        let (word, wish) = rule;
        let mut fault = |text: String| faults.push(format!("{}: {text}", at.path));
        match word {
            "description" | "$schema" | "id" | "definitions" | "deprecated" | "title" => {}
            "type" if !has_type(wish, value) => fault(format!("wish type {wish}, reality {value}")),
            "type" => {}
            "enum" if !wish.as_array().is_some_and(|list| list.contains(value)) => {
                fault(format!("{value} is none of {wish}"))
            }
            "enum" => {}
            "minimum" if value.as_f64() < wish.as_f64() && value.is_number() => {
                fault(format!("{value} is below {wish}"))
            }
            "maximum" if value.as_f64() > wish.as_f64() && value.is_number() => {
                fault(format!("{value} is above {wish}"))
            }
            "minimum" | "maximum" => {}
            "minItems"
                if value
                    .as_array()
                    .is_some_and(|list| (list.len() as u64) < wish.as_u64().unwrap_or(0)) =>
            {
                fault(format!("fewer than {wish} items"));
            }
            "minItems" => {}
            "pattern" => match (wish.as_str().and_then(matcher), value.as_str()) {
                (None, _) => fault(format!("the pattern {wish} is not known here")),
                (Some(matches), Some(text)) if !matches(text) => {
                    fault(format!("{value} does not match {wish}"))
                }
                _ => {}
            },
            "required" => {
                for name in wish.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if value.as_object().is_some_and(|object| !object.contains_key(name)) {
                        fault(format!("{name} is missing"));
                    }
                }
            }
            "$ref" => match self.resolve(at.file, wish.as_str().unwrap_or_default()) {
                Some((file, rule)) => self.rule(
                    At {
                        file,
                        path: at.path.clone(),
                    },
                    rule,
                    value,
                    faults,
                ),
                None => fault(format!("the reference {wish} leads nowhere")),
            },
            "allOf" => {
                for rule in wish.as_array().into_iter().flatten() {
                    self.rule(at.clone(), rule, value, faults);
                }
            }
            "anyOf" | "oneOf" => {
                let passes = |rule: &&Value| {
                    let mut inner = Vec::new();
                    self.rule(at.clone(), rule, value, &mut inner);
                    inner.is_empty()
                };
                match wish.as_array().into_iter().flatten().filter(passes).count() {
                    0 => fault(format!("{value} fits none of {wish}")),
                    2.. if word == "oneOf" => fault(format!("{value} fits more than one of {wish}")),
                    _ => {}
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.rule(at.below(&format!("[{index}]")), wish, item, faults);
                }
            }
            "properties" => {
                for (name, rule) in wish.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        self.rule(at.below(&format!(".{name}")), rule, value, faults);
                    }
                }
            }
            // `.{1,}` is the only pattern: any name but the empty one.
            "additionalProperties" | "patternProperties" => {
                let rule = if word == "patternProperties" {
                    &wish[".{1,}"]
                } else {
                    wish
                };
                for (name, value) in value.as_object().into_iter().flatten() {
                    let is_named = words
                        .get("properties")
                        .is_some_and(|named| named.get(name).is_some());
                    if !is_named && rule.is_object() {
                        self.rule(at.below(&format!(".{name}")), rule, value, faults);
                    } else if !is_named && *rule == Value::Bool(false) {
                        faults.push(format!("{}.{name}: is not defined", at.path));
                    }
                }
            }
            other => fault(format!("the word {other} is not known here")),
        }
    }

    /// `file.json#/a/b`, or `#/a/b` in the same file.
    fn resolve(&self, here: &'static str, reference: &str) -> Option<(&'static str, &Value)> {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let (file, value) = match file {
            "" => (here, self.0.get(here)?),
            file => self.0.get_key_value(file).map(|(file, value)| (*file, value))?,
        };
        Some((file, value.pointer(pointer)?))
    }
}

/// Where in the schemas, and where in the document.
#[derive(Debug, Clone)]
struct At {
    file: &'static str,
    path: String,
}

impl At {
    fn below(&self, step: &str) -> Self {
        Self {
            file: self.file,
            path: format!("{}{step}", self.path),
        }
    }
}

fn has_type(wish: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    };
    match wish {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => false,
    }
}

type Matcher = fn(&str) -> bool;

/// The patterns of the schemas, each as a function: seven do not need an engine for regular expressions.
fn matcher(pattern: &str) -> Option<Matcher> {
    let known: &[(&str, Matcher)] = &[
        ("^[1-9][0-9]*[KMG]B$", |text| {
            let digits = text
                .strip_suffix('B')
                .and_then(|text| text.strip_suffix(['K', 'M', 'G']));
            digits.is_some_and(|text| {
                !text.starts_with('0') && !text.is_empty() && all(text, |c| c.is_ascii_digit())
            })
        }),
        ("^RLIMIT_[A-Z]+$", |text| {
            name_after(text, "RLIMIT_", |c| c.is_ascii_uppercase())
        }),
        ("^CAP_[A-Z_]+$", |text| {
            name_after(text, "CAP_", |c| c.is_ascii_uppercase() || c == '_')
        }),
        ("^[0-9, -]*$", |text| {
            all(text, |c| c.is_ascii_digit() || ", -".contains(c))
        }),
        ("^MB:[^\\n]*$", |text| {
            text.starts_with("MB:") && !text.contains('\n')
        }),
        ("^[cbup]$", |text| matches!(text, "c" | "b" | "u" | "p")),
    ];
    known
        .iter()
        .find(|(name, _)| *name == pattern)
        .map(|(_, matches)| *matches)
}

fn all(text: &str, test: impl Fn(char) -> bool) -> bool {
    text.chars().all(test)
}

fn name_after(text: &str, prefix: &str, test: impl Fn(char) -> bool) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && all(rest, test))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLES: [(&str, &str); 3] = [
        ("config-schema.json", "../runtime-core/tests/fixtures/config"),
        ("features-schema.json", "fixtures/runtime-spec/test/features"),
        ("state-schema.json", "fixtures/runtime-spec/test/state"),
    ];

    /// The examples that the schemas come with show that this validator reads them as their authors do.
    #[test]
    fn good_examples_pass_and_bad_ones_do_not() {
        let schemas = Schemas::load().unwrap();
        for (schema, folder) in EXAMPLES {
            for (verdict, is_good) in [("good", true), ("bad", false)] {
                let folder = format!("{}/{folder}/{verdict}", env!("CARGO_MANIFEST_DIR"));
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    let faults = match serde_json::from_slice(&std::fs::read(&path).unwrap()) {
                        Ok(document) => schemas.check(schema, &document),
                        Err(error) => vec![error.to_string()],
                    };
                    assert_eq!(faults.is_empty(), is_good, "{}: {faults:?}", path.display());
                }
            }
        }
    }

    #[test]
    fn one_of_several_is_exactly_one() {
        let number_or_small = serde_json::json!([{"type": "integer"}, {"maximum": 5}]);
        let check = |word: &str, value: i64| {
            let schema = serde_json::json!({word: number_or_small});
            let schemas = Schemas(BTreeMap::from([("a.json", schema)]));
            schemas.check("a.json", &value.into()).len()
        };
        assert_eq!([check("oneOf", 6), check("oneOf", 5)], [0, 1]);
        assert_eq!([check("anyOf", 6), check("anyOf", 5)], [0, 0]);
    }

    #[test]
    fn faults_name_their_place() {
        let schemas = Schemas::load().unwrap();
        let document = serde_json::json!({"ociVersion": "1.3.0", "root": {"path": 5}, "linux": {"netDevices": {"eth0": 1}}});
        let faults = schemas.check("config-schema.json", &document).join("\n");
        assert!(faults.contains(".root.path: wish type"), "{faults}");
        assert!(faults.contains(".linux.netDevices.eth0: wish type"), "{faults}");
    }
}

//! What the library shows is what `public-items.txt` lists: nothing new by accident, and nothing of other
//! crates. Read from rustdoc's JSON, whose shape this test knows as far as it needs.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// How many items a reader can be asked to learn: types, functions, constants and modules, without what
/// belongs to a type.
const MOST_ITEMS: usize = 60;

/// Crates whose types may stand in signatures: the standard library's, the specification's own, and those of
/// the project.
const ALLOWED: &[&str] = &["runtime_core", "runtime_sys", "oci_spec", "std", "core", "alloc"];

fn documentation() -> Value {
    let place = tempfile::tempdir().unwrap();
    // JSON is no stable output of rustdoc: this says that we know, and to nobody but rustdoc, so that nothing
    // is built anew.
    let rustdoc = place.path().join("rustdoc");
    let named = std::env::var("RUSTDOC").unwrap_or_else(|_| "rustdoc".to_owned());
    std::fs::write(
        &rustdoc,
        format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec {named} \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&rustdoc, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = Command::new(env!("CARGO"))
        .args([
            "rustdoc",
            "--quiet",
            "--offline",
            "--locked",
            "--lib",
            "--package",
            "runtime-core",
        ])
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTDOC", &rustdoc)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Beside the place for tests' files, where the same build puts its documentation.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("doc")
        .join("runtime_core.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

struct Crate {
    documentation: Value,
    lines: Vec<String>,
    items: usize,
    foreign: BTreeSet<String>,
    exhaustive: Vec<String>,
}

impl Crate {
    fn item(&self, id: &Value) -> Option<Value> {
        self.documentation["index"].get(id.to_string()).cloned()
    }

    fn module(&mut self, at: &str, items: &Value) {
        for id in items.as_array().unwrap() {
            let item = self.item(id).expect("an item of a module");
            let used = &item["inner"]["use"];
            if used.is_object() {
                assert_eq!(used["is_glob"], false, "a glob shows what nobody has listed");
                let name = used["name"].as_str().unwrap().to_owned();
                let target = self.item(&used["id"]).expect("what is shown under another name");
                self.named(at, &name, &target);
            } else {
                let name = item["name"].as_str().unwrap().to_owned();
                self.named(at, &name, &item);
            }
        }
    }

    fn named(&mut self, at: &str, name: &str, item: &Value) {
        let (kind, inner) = item["inner"].as_object().unwrap().iter().next().unwrap();
        let path = format!("{at}{name}");
        self.items += 1;
        let open = matches!(kind.as_str(), "struct" | "enum")
            && !item["attrs"].to_string().contains("non_exhaustive");
        self.lines.push(format!("{kind} {path}"));
        match kind.as_str() {
            "module" => self.module(&format!("{path}::"), &inner["items"]),
            "struct" => {
                let plain = &inner["kind"]["plain"];
                let fields = plain["fields"].as_array().cloned().unwrap_or_default();
                if open && !fields.is_empty() && plain["has_stripped_fields"] == false {
                    self.exhaustive.push(path.clone());
                }
                self.members(&path, &fields);
                self.implementations(&path, inner);
            }
            "enum" => {
                if open {
                    self.exhaustive.push(path.clone());
                }
                self.members(&path, inner["variants"].as_array().unwrap());
                self.implementations(&path, inner);
            }
            _ => self.types(inner),
        }
    }

    fn members(&mut self, path: &str, ids: &[Value]) {
        for id in ids {
            let member = self.item(id).expect("a field or variant");
            self.lines
                .push(format!("  {path}.{}", member["name"].as_str().unwrap()));
            self.types(&member["inner"]);
        }
    }

    /// Methods of the type's own, and the traits that are not derived for every type.
    fn implementations(&mut self, path: &str, inner: &Value) {
        for id in inner["impls"].as_array().unwrap() {
            let Some(block) = self.item(id) else { continue };
            let block = &block["inner"]["impl"];
            if block["is_synthetic"] == true || !block["blanket_impl"].is_null() {
                continue;
            }
            if !block["trait"].is_null() {
                // `From<T>` shows T.
                self.types(&block["trait"]["args"]);
                continue;
            }
            for id in block["items"].as_array().unwrap() {
                let Some(method) = self.item(id) else { continue };
                self.lines
                    .push(format!("  {path}::{}", method["name"].as_str().unwrap()));
                self.types(&method["inner"]);
            }
        }
    }

    /// Notes the crate of every type that is named in there.
    fn types(&mut self, inside: &Value) {
        match inside {
            Value::Array(parts) => parts.iter().for_each(|part| self.types(part)),
            Value::Object(parts) => {
                if let Some(named) = parts.get("resolved_path") {
                    self.crate_of(&named["id"]);
                }
                parts.values().for_each(|part| self.types(part));
            }
            _ => {}
        }
    }

    fn crate_of(&mut self, id: &Value) {
        let Some(summary) = self.documentation["paths"].get(id.to_string()) else {
            return;
        };
        let path: Vec<_> = summary["path"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if !ALLOWED.contains(&path[0]) {
            self.foreign.insert(path.join("::"));
        }
    }
}

#[test]
fn what_is_public_is_listed_and_nobody_elses() {
    let documentation = documentation();
    let root = documentation["index"][documentation["root"].to_string()].clone();
    let mut seen = Crate {
        documentation,
        lines: Vec::new(),
        items: 0,
        foreign: BTreeSet::new(),
        exhaustive: Vec::new(),
    };
    seen.module("", &root["inner"]["module"]["items"]);
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("public-items.txt");
    let text = seen.lines.join("\n") + "\n";
    if std::env::var_os("ONGGI_WRITE_PUBLIC_ITEMS").is_some() {
        std::fs::write(&list, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&list).unwrap(),
        text,
        "public-items.txt is out of date: ONGGI_WRITE_PUBLIC_ITEMS=1 cargo test -p runtime-core --test public_face writes it"
    );
    assert!(
        seen.items <= MOST_ITEMS,
        "{} items, at most {MOST_ITEMS} are wanted",
        seen.items
    );
    assert!(
        seen.items > 30,
        "{} items: has the test seen the crate?",
        seen.items
    );
    assert_eq!(
        seen.foreign,
        BTreeSet::new(),
        "types of other crates in signatures"
    );
    assert_eq!(
        seen.exhaustive,
        Vec::<String>::new(),
        "these cannot grow without breaking programs"
    );
}

//! The modules of the library call downwards only, in the order that `docs/design.md` gives, and no two of
//! them need each other. What a module needs is read from its text: `use`, and paths that begin with `crate`
//! or `super`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The path of a module: empty for `lib.rs`.
type Module = Vec<String>;

/// The face of the library, and what fuzz targets reach it by: they name everything.
const ABOVE_ALL: [&str; 2] = ["", "unstable"];

/// The code of the library, without that of its tests.
struct Library {
    modules: BTreeMap<Module, String>,
}

impl Library {
    fn read(directory: &Path) -> Self {
        let mut modules = BTreeMap::new();
        collect(directory, &[], &mut modules);
        Self { modules }
    }

    fn of(files: &[(&str, &str)]) -> Self {
        let module = |(path, text): &(&str, &str)| (segments(path), (*text).to_owned());
        Self {
            modules: files.iter().map(module).collect(),
        }
    }

    /// Which modules a module needs, those by which it comes to them left out.
    fn needs(&self, module: &Module) -> BTreeSet<Module> {
        let text = code(&self.modules[module]);
        let mut paths: Vec<String> = uses(&text).into_iter().flatten().collect();
        let words = text.split(|letter: char| !is_path(letter));
        let is_ours = |word: &&str| word.starts_with("crate::") || word.starts_with("super::");
        paths.extend(words.filter(is_ours).map(str::to_owned));
        paths.iter().filter_map(|path| self.home(module, path)).collect()
    }

    /// The module that has what this path names.
    fn home(&self, from: &Module, path: &str) -> Option<Module> {
        let path = segments(path);
        let mut place = match path.first()?.as_str() {
            "crate" => Module::new(),
            "self" | "super" => from.clone(),
            first if self.modules.contains_key(&child(from, first)) => from.clone(),
            _ => return None,
        };
        for (number, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" | "self" => continue,
                "super" => {
                    place.pop();
                    continue;
                }
                _ => {}
            }
            let below = child(&place, name);
            if self.modules.contains_key(&below) {
                place = below;
                continue;
            }
            // What is handed on is where it comes from.
            let handed_on = uses(&code(&self.modules[&place])).into_iter().flatten();
            let source = handed_on
                .filter(|used| used.rsplit("::").next() == Some(name))
                .find(|used| segments(used) != path[number..]);
            return match source {
                Some(source) => self.home(&place, &source).or(Some(place)),
                None => Some(place),
            };
        }
        Some(place)
    }

    /// What breaks the rules, in words.
    fn faults(&self, layers: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut siblings: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for module in self.modules.keys() {
            let top = module.first().map_or("", String::as_str);
            if ABOVE_ALL.contains(&top) {
                continue;
            }
            let Some(layer) = layers.iter().position(|layer| layer == top) else {
                faults.push(format!("{top} is in no layer of docs/design.md"));
                continue;
            };
            for needed in self.needs(module) {
                let common = module.iter().zip(&needed).take_while(|(one, other)| one == other);
                let common = common.count();
                let (Some(own), Some(other)) = (module.get(common), needed.get(common)) else {
                    continue; // one is the face of the other
                };
                if common == 0 && layers.iter().position(|layer| layer == other) <= Some(layer) {
                    faults.push(format!(
                        "upwards: {} needs {}",
                        module.join("::"),
                        needed.join("::")
                    ));
                }
                let level = siblings.entry(module[..common].to_vec()).or_default();
                level.entry(own.clone()).or_default().insert(other.clone());
            }
        }
        for (above, level) in &siblings {
            let circle = level.keys().find_map(|start| circle(level, &[start.as_str()]));
            if let Some(circle) = circle {
                faults.push(format!(
                    "circle in {:?}: {}",
                    above.join("::"),
                    circle.join(" → ")
                ));
            }
        }
        faults
    }
}

fn collect(directory: &Path, above: &[String], modules: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if entry.file_type().unwrap().is_dir() {
            collect(&path, &child(above, &name), modules);
        } else if name != "tests" {
            let module = match name.as_str() {
                "lib" | "mod" => above.to_vec(),
                name => child(above, name),
            };
            modules.insert(module, std::fs::read_to_string(path).unwrap());
        }
    }
}

fn child(above: &[String], name: &str) -> Module {
    above.iter().cloned().chain([name.to_owned()]).collect()
}

fn segments(path: &str) -> Module {
    let names = path.split("::").filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn is_path(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == ':'
}

/// The text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text[..end].lines().map(line).collect()
}

/// The paths of every `use`.
fn uses(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line_start in text
        .split('\n')
        .map(|line| line.as_ptr() as usize - text.as_ptr() as usize)
    {
        let line = text[line_start..].trim_start();
        let line = match line.strip_prefix("pub") {
            Some(rest) => rest.trim_start_matches(|c| c != ' ' && c != '\n').trim_start(),
            None => line,
        };
        if let Some(tree) = line.strip_prefix("use ").and_then(|rest| rest.split(';').next()) {
            found.push(branches(tree));
        }
    }
    found
}

/// Of `a::{b, c::{d, e as f}}` the paths `a::b`, `a::c::d`, `a::c::e`.
fn branches(tree: &str) -> Vec<String> {
    let Some((stem, rest)) = tree.split_once('{') else {
        let path = tree.trim().split(" as ").next().unwrap_or_default();
        return vec![path.trim_end_matches("::self").to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (place, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(branches)
        .map(|part| match part.as_str() {
            "self" => stem.trim().trim_end_matches("::").to_owned(),
            part => format!("{}{part}", stem.trim()),
        })
        .collect()
}

/// A circle that the way leads into.
fn circle(level: &BTreeMap<String, BTreeSet<String>>, way: &[&str]) -> Option<Vec<String>> {
    let next = level.get(*way.last()?)?;
    next.iter().find_map(|next| {
        let way: Vec<&str> = way.iter().copied().chain([next.as_str()]).collect();
        match way[..way.len() - 1].contains(&next.as_str()) {
            true => Some(way.iter().map(|name| (*name).to_owned()).collect()),
            false => circle(level, &way),
        }
    })
}

/// The list in docs/design.md, from the top down.
fn layers() -> Vec<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/design.md");
    let text = std::fs::read_to_string(document).unwrap();
    let list = text
        .split("<!-- layers -->")
        .nth(1)
        .expect("design.md lists the layers");
    let names = list.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn modules_call_downwards_and_not_in_circles() {
    let library = Library::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(library.modules.len() > 50, "the modules are not found");
    let faults = library.faults(&layers());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_upward_use_and_a_circle_are_seen() {
    let layers = ["ops", "host", "plan"].map(str::to_owned);
    let faults = |files: &[(&str, &str)]| Library::of(files).faults(&layers);
    let lib = ("", "pub use ops::Runtime;");
    let ops = ("ops", "use crate::host::{self, state};\npub struct Runtime;");
    let host = ("host", "pub(crate) mod state;\nmod id;\npub use id::Id;");
    let id = ("host::id", "pub struct Id;");
    let good = [
        lib,
        ops,
        host,
        id,
        ("host::state", "use super::Id;"),
        ("plan", ""),
    ];
    assert_eq!(faults(&good), [""; 0]);
    let state = |text: &'static str| [lib, ops, host, id, ("host::state", text), ("plan", "")];
    let upwards = [
        "upwards: host::state needs ops",
        "circle in \"\": host → ops → host",
    ];
    assert_eq!(faults(&state("use crate::{\n    Runtime,\n};")), upwards);
    assert_eq!(faults(&state("fn f() { super::super::ops::g() }")), upwards);
    // Neither comments nor tests count.
    assert_eq!(
        faults(&state(
            "// crate::ops\n#[cfg(test)]\nmod tests { use crate::ops; }"
        )),
        [""; 0]
    );
    let both = [
        lib,
        ops,
        host,
        ("host::id", "use super::state;"),
        ("host::state", "use super::Id;"),
        ("plan", ""),
    ];
    assert_eq!(faults(&both), ["circle in \"host\": id → state → id"]);
    let unknown = [lib, ("other", "")];
    assert_eq!(faults(&unknown), ["other is in no layer of docs/design.md"]);
}

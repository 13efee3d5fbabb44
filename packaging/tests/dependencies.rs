//! What `deny.toml` forbids is not among the crates that Cargo.lock names: licences, sources, banned crates,
//! wildcards. The part of `cargo deny check bans licenses sources` that fails it, for machines where that is
//! not installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// The rules of `deny.toml` that are held here.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
    /// Those that may depend on it all the same.
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

/// A crate, and what it depends on: identifiers of packages.
#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

#[derive(Deserialize, Clone)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// `registry+URL` or `git+URL`; none of what lies in a directory.
    source: Option<String>,
    /// Empty for what cannot be published.
    publish: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
    /// Names of those that depend on it.
    #[serde(skip)]
    dependents: Vec<String>,
}

#[derive(Deserialize, Clone)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

impl Rules {
    /// What is wrong with this crate.
    fn findings(&self, package: &Package) -> Vec<String> {
        let found = [self.license(package), self.source(package), self.ban(package)];
        let named = |what| format!("{} {}: {what}", package.name, package.version);
        let found = found.into_iter().flatten().chain(wildcards(package));
        found.map(named).collect()
    }

    fn license(&self, package: &Package) -> Option<String> {
        if package.publish.as_ref().is_some_and(Vec::is_empty) && package.source.is_none() {
            return None;
        }
        let Some(text) = &package.license else {
            return Some("names no licence".to_owned());
        };
        let expression = match Expression::parse_mode(text, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => return Some(format!("licence {text:?}: {error}")),
        };
        let exceptions = self.licenses.exceptions.iter();
        let own = exceptions.filter(|exception| exception.name == package.name);
        let allowed = self.licenses.allow.iter().chain(own.flat_map(|own| &own.allow));
        let allowed: Vec<_> = allowed.map(|name| Licensee::parse(name).unwrap()).collect();
        let is_allowed = expression.evaluate(|asked| allowed.iter().any(|one| one.satisfies(asked)));
        (!is_allowed).then(|| format!("licence {text:?} is not allowed"))
    }

    fn source(&self, package: &Package) -> Option<String> {
        let source = package.source.as_deref()?;
        let is_allowed = match source.split_once('+') {
            Some(("registry" | "sparse", url)) => self.sources.allow_registry.iter().any(|one| one == url),
            // Without branch and commit.
            Some(("git", url)) => {
                let url = url.split(['?', '#']).next().unwrap_or_default();
                self.sources.allow_git.iter().any(|one| one == url)
            }
            _ => false,
        };
        (!is_allowed).then(|| format!("source {source} is not allowed"))
    }

    fn ban(&self, package: &Package) -> Option<String> {
        let ban = self.bans.deny.iter().find(|ban| ban.name == package.name)?;
        let mut others = package
            .dependents
            .iter()
            .filter(|name| !ban.wrappers.contains(name));
        let is_wrapped = !ban.wrappers.is_empty() && others.next().is_none();
        (!is_wrapped).then(|| format!("is banned: {}", ban.reason))
    }
}

/// Dependencies of our own crates that take any version.
fn wildcards(package: &Package) -> impl Iterator<Item = String> {
    let ours = package.source.is_none().then_some(&package.dependencies);
    let any = ours
        .into_iter()
        .flatten()
        .filter(|one| one.req == "*" && one.path.is_none());
    any.map(|one| format!("takes any version of {}", one.name))
}

fn rules() -> Rules {
    toml::from_str(include_str!("../../deny.toml")).unwrap()
}

/// The crates of the workspace, and all that they depend on where onggi is built, tests included.
fn packages(rules: &Rules) -> Vec<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--format-version=1"]);
    for target in &rules.graph.targets {
        cargo.args(["--filter-platform", target]);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = cargo.current_dir(root).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = metadata.packages;
    let names: BTreeMap<_, _> = packages
        .iter()
        .map(|one| (one.id.clone(), one.name.clone()))
        .collect();
    for package in &mut packages {
        let nodes = metadata.resolve.nodes.iter();
        let above = nodes.filter(|node| node.dependencies.contains(&package.id));
        package.dependents = above.map(|node| names[&node.id].clone()).collect();
    }
    packages
}

#[test]
fn every_crate_is_one_that_deny_toml_allows() {
    let rules = rules();
    let packages = packages(&rules);
    assert!(packages.iter().any(|package| package.name == "rustix"));
    let found: Vec<_> = packages
        .iter()
        .flat_map(|package| rules.findings(package))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_deny_toml_forbids_is_found() {
    let mut rules = rules();
    let index = "registry+https://github.com/rust-lang/crates.io-index";
    let good = Package {
        id: String::new(),
        name: "good".to_owned(),
        version: "1.0.0".to_owned(),
        license: Some("MIT/Apache-2.0".to_owned()),
        source: Some(index.to_owned()),
        publish: None,
        dependencies: Vec::new(),
        dependents: Vec::new(),
    };
    let with = |change: fn(&mut Package)| {
        let mut package = good.clone();
        change(&mut package);
        rules.findings(&package).join("\n")
    };
    let license = |text: &str| {
        let mut package = good.clone();
        package.license = Some(text.to_owned());
        rules.findings(&package).join("\n")
    };
    let wildcard = |path: Option<&str>| Dependency {
        name: "any".to_owned(),
        req: "*".to_owned(),
        path: path.map(str::to_owned),
    };
    let mut ours = good.clone();
    (ours.source, ours.publish, ours.license) = (None, Some(Vec::new()), None);
    ours.dependencies = vec![wildcard(None), wildcard(Some("../any"))];
    let cases = BTreeMap::from([
        ("as it is", (with(|_| ()), "")),
        ("one of two", (license("GPL-3.0-only OR Zlib"), "")),
        (
            "exception of a licence",
            (license("Apache-2.0 WITH LLVM-exception"), ""),
        ),
        (
            "copyleft",
            (
                license("GPL-3.0-only"),
                "good 1.0.0: licence \"GPL-3.0-only\" is not allowed",
            ),
        ),
        (
            "both",
            (
                license("MIT AND MPL-2.0"),
                "good 1.0.0: licence \"MIT AND MPL-2.0\" is not allowed",
            ),
        ),
        (
            "no licence",
            (with(|one| one.license = None), "good 1.0.0: names no licence"),
        ),
        (
            "of one crate",
            (
                with(|one| {
                    (one.name, one.license) = ("pathrs".to_owned(), Some("MPL-2.0".to_owned()));
                }),
                "",
            ),
        ),
        (
            "git",
            (
                with(|one| one.source = Some("git+https://example.org/x?branch=y#0a1b".to_owned())),
                "good 1.0.0: source git+https://example.org/x?branch=y#0a1b is not allowed",
            ),
        ),
        (
            "registry",
            (
                with(|one| one.source = Some("registry+https://example.org/index".to_owned())),
                "good 1.0.0: source registry+https://example.org/index is not allowed",
            ),
        ),
        (
            "banned",
            (
                with(|one| one.name = "libseccomp-sys".to_owned()),
                "libseccomp-sys 1.0.0: is banned: as above",
            ),
        ),
        (
            "ours",
            (
                rules.findings(&ours).join("\n"),
                "good 1.0.0: takes any version of any",
            ),
        ),
    ]);
    let mut banned = Package {
        name: "banned".to_owned(),
        ..good
    };
    rules.bans.deny.push(Banned {
        name: "banned".to_owned(),
        reason: "x".to_owned(),
        wrappers: vec!["a".to_owned()],
    });
    for (above, expected) in [(["a", "a"], None), (["a", "b"], Some("is banned: x".to_owned()))] {
        banned.dependents = above.map(str::to_owned).to_vec();
        assert_eq!(rules.ban(&banned), expected);
    }
    for (case, (found, expected)) in cases {
        assert_eq!(found, expected, "{case}");
    }
}

//! Runs in: RUNTIME. Judges a whole config.json before anything is done with it. Pure: what needs a fact of
//! the host (is this namespace the host's, is SELinux on) is left to `plan`, and seccomp rules to their
//! compiler.
//!
//! The texts that runc prints are kept where people and programs know them.

mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;
#[cfg(test)]
mod tests;

use std::path::Path;

use oci_spec::runtime::{Hook, Hooks, Linux, Spec};
use runtime_sys::namespace::Kinds;

use super::Config;
use super::lenient::quoted;
use super::namespace_kind::NamespaceKind;
use crate::{Error, Result};

pub use process::validate_process;
pub use resources::validate_resources;
pub(crate) use resources::{has_other_letters, odd_letters};

/// Judges everything in the document that can be judged without the host. Call it before the first side
/// effect.
///
/// Fails with the name of the first field that is wrong. Takes for granted that [`super::parse`] made the
/// config: it is what refuses wrong types, unknown words and NUL bytes.
pub fn validate(config: &Config) -> Result<()> {
    let spec = &config.spec;
    version(spec)?;
    annotations(spec)?;
    root(spec)?;
    let process = spec.process().as_ref();
    let process = process.ok_or_else(|| Error::invalid("process", "process property must not be empty"))?;
    validate_process(process, &config.extra.process)?;
    mounts::mounts(spec)?;
    if let Some(hooks) = spec.hooks() {
        self::hooks(hooks)?;
    }
    let namespaces = Namespaces::of(spec.linux().as_ref())?;
    namespaces::host_names(spec, &namespaces)?;
    if let Some(linux) = spec.linux() {
        namespaces::namespaces(linux, &namespaces)?;
        namespaces::process_ids(process.user(), linux, &namespaces)?;
        let domain_name = spec.domainname().as_deref().filter(|name| !name.is_empty());
        linux::linux(linux, domain_name, &namespaces)?;
    }
    Ok(())
}

/// "MUST be in SemVer v2.0.0 format" (runtime-spec, config.md), and of the major version that we know.
fn version(spec: &Spec) -> Result<()> {
    let version = spec.version();
    if version.is_empty() {
        return Err(Error::invalid("ociVersion", "missing"));
    }
    if !is_semver(version) || !version.starts_with("1.") {
        return Err(Error::invalid(
            "ociVersion",
            format!("{}: not a version 1.x.y", quoted(version)),
        ));
    }
    Ok(())
}

/// `MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]`.
fn is_semver(version: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_digit());
    let number = |word: &str| is_digits(word) && (word == "0" || !word.starts_with('0'));
    let (rest, build) = version
        .split_once('+')
        .map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (release, pre) = rest
        .split_once('-')
        .map_or((rest, None), |(release, pre)| (release, Some(pre)));
    release.split('.').count() == 3
        && release.split('.').all(number)
        && pre.is_none_or(|pre| {
            pre.split('.')
                .all(|part| word(part) && (!is_digits(part) || number(part)))
        })
        && build.is_none_or(|build| build.split('.').all(word))
}

/// Keys have to be there; everything else about them is the business of whoever reads them.
fn annotations(spec: &Spec) -> Result<()> {
    match spec
        .annotations()
        .as_ref()
        .is_some_and(|all| all.contains_key(""))
    {
        true => Err(Error::invalid("annotations[\"\"]", "a key must not be empty")),
        false => Ok(()),
    }
}

fn root(spec: &Spec) -> Result<()> {
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| Error::invalid("root", "root must be specified"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::invalid("root.path", "must not be empty"));
    }
    Ok(())
}

fn hooks(hooks: &Hooks) -> Result<()> {
    // Deprecated since 1.1, and what engines still use most.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    hook_list("prestart", prestart)?;
    hook_list("createRuntime", hooks.create_runtime())?;
    hook_list("createContainer", hooks.create_container())?;
    hook_list("startContainer", hooks.start_container())?;
    hook_list("poststart", hooks.poststart())?;
    hook_list("poststop", hooks.poststop())
}

fn hook_list(name: &str, hooks: &Option<Vec<Hook>>) -> Result<()> {
    for (index, hook) in each(hooks) {
        if !hook.path().is_absolute() {
            let message = format!("{}: must be an absolute path", shown(hook.path()));
            return Err(Error::invalid(format!("hooks.{name}[{index}].path"), message));
        }
        if let Some(timeout) = hook.timeout().filter(|timeout| *timeout <= 0) {
            let field = format!("hooks.{name}[{index}].timeout");
            return Err(Error::invalid(
                field,
                format!("{timeout}: must be greater than zero"),
            ));
        }
    }
    Ok(())
}

/// The elements of an optional list, with their index.
fn each<T>(list: &Option<Vec<T>>) -> impl Iterator<Item = (usize, &T)> {
    list.iter().flatten().enumerate()
}

/// A path of the document as errors show it.
fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// `linux.namespaces`, by kind; a namespace that is not there is shared with the host.
struct Namespaces<'a> {
    list: Vec<(Kinds, Option<&'a Path>)>,
}

impl<'a> Namespaces<'a> {
    fn of(linux: Option<&'a Linux>) -> Result<Self> {
        let mut found = Self { list: Vec::new() };
        let Some(linux) = linux else { return Ok(found) };
        for (index, namespace) in each(linux.namespaces()) {
            let NamespaceKind { flag, name, .. } = NamespaceKind::of(namespace.typ());
            let path = namespace.path().as_deref();
            if found.has(flag) {
                let path = shown(path.unwrap_or(Path::new("")));
                let message = format!("malformed spec file: duplicated ns {{{name:?} {path}}}");
                return Err(Error::invalid(format!("linux.namespaces[{index}]"), message));
            }
            if let Some(path) = path.filter(|path| !path.is_absolute()) {
                let message = format!("{}: must be an absolute path", shown(path));
                return Err(Error::invalid(format!("linux.namespaces[{index}].path"), message));
            }
            found.list.push((flag, path));
        }
        Ok(found)
    }

    /// Whether the container has a namespace of this kind that the document asks for, new or joined.
    fn has(&self, kind: Kinds) -> bool {
        self.list.iter().any(|(each, _)| *each == kind)
    }

    /// The path of the namespace to join.
    fn path(&self, kind: Kinds) -> Option<&'a Path> {
        self.list
            .iter()
            .find(|(each, _)| *each == kind)
            .and_then(|(_, path)| *path)
    }
}

//! Runs in: RUNTIME. Pure: what `linux.cgroupsPath` means to systemd, `slice:prefix:name`, and where in the
//! cgroup tree systemd puts the units of these names. Talks to nobody.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

pub(crate) const FIELD: &str = "linux.cgroupsPath";

/// What comes in front of a container's id in the name of its scope, if config.json names none.
const DEFAULT_PREFIX: &str = "onggi";

/// The longest name that systemd takes (`UNIT_NAME_MAX`, with the final NUL).
const LONGEST_NAME: usize = 255;

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitName {
    /// The slice that it is in; `None`: the usual one of the service manager.
    pub(super) slice: Option<String>,
    /// Its name, with its type: `.scope`, or `.slice`.
    pub(crate) unit: String,
}

impl UnitName {
    /// Reads `linux.cgroupsPath` as runc and crun do: `slice:prefix:name` is `prefix-name.scope` in that
    /// slice, and a name that ends in `.slice` is itself a slice. Absent or empty: `onggi-ID.scope` in the
    /// usual slice.
    ///
    /// # Errors
    /// Another form, or a name that no unit can have.
    pub(crate) fn new(cgroups_path: Option<&Path>, container_id: &str) -> Result<Self> {
        let given = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let Some(path) = given else {
            let unit = format!("{DEFAULT_PREFIX}-{}.scope", escaped(container_id));
            return Ok(Self { slice: None, unit });
        };
        let parts = path.to_str().map(|text| text.split(':').collect::<Vec<_>>());
        let Some([slice, prefix, name]) = parts.as_deref() else {
            let message = format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {:?} instead",
                path.display().to_string()
            );
            return Err(Error::invalid(FIELD, message)
                .with_hint("or leave out --systemd-cgroup: this is a path for the driver cgroupfs"));
        };
        let slice = Some(*slice).filter(|slice| !slice.is_empty());
        if let Some(slice) = slice {
            expand_slice(slice)?;
        }
        let unit = match name.ends_with(SLICE) {
            true => (*name).to_owned(),
            false => format!("{prefix}-{name}.scope"),
        };
        check_unit(&unit)?;
        Ok(Self {
            slice: slice.map(str::to_owned),
            unit,
        })
    }

    /// Whether the container gets a slice of its own, to which systemd moves no processes.
    pub(crate) fn is_slice(&self) -> bool {
        self.unit.ends_with(SLICE)
    }

    /// The cgroup of the unit, relative to that of the service manager; `usual_slice` if config.json names
    /// none.
    ///
    /// # Errors
    /// A slice that systemd cannot have.
    pub(crate) fn below_manager(&self, usual_slice: &str) -> Result<PathBuf> {
        if self.is_slice() {
            // A slice's name says by itself where it is.
            return expand_slice(&self.unit);
        }
        Ok(expand_slice(self.slice.as_deref().unwrap_or(usual_slice))?.join(directory(&self.unit)))
    }
}

/// Controllers as systemd knows them, also those of version 1 and its own.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
    "bpf-bind-network-interface",
];

/// The name of a unit's directory in the cgroup tree. One that could be taken for a file of the kernel's, or
/// for a name that was changed already, gets a `_` in front (cg_escape in systemd's cgroup-util.c):
/// `cpu.slice`, `_x.scope`.
pub(crate) fn directory(unit: &str) -> String {
    let first = unit.split_once('.').map_or(unit, |(first, _)| first);
    let is_taken = unit.starts_with(['_', '.']) || first == "cgroup" || CONTROLLERS.contains(&first);
    match is_taken {
        true => format!("_{unit}"),
        false => unit.to_owned(),
    }
}

const SLICE: &str = ".slice";

/// The path of a slice: each dash in its name is a level, so `a-b.slice` is `a.slice/a-b.slice`, and
/// `-.slice` the root (systemd.slice(5)).
fn expand_slice(slice: &str) -> Result<PathBuf> {
    let wrong = || Error::invalid(FIELD, format!("invalid slice name: {slice}"));
    let stem = slice
        .strip_suffix(SLICE)
        .filter(|stem| !stem.is_empty())
        .ok_or_else(wrong)?;
    check_unit(slice).map_err(|_| wrong())?;
    let mut path = PathBuf::new();
    if stem == "-" {
        return Ok(path);
    }
    let mut end = 0;
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(wrong());
        }
        end += part.len();
        path.push(directory(&format!("{}{SLICE}", &stem[..end])));
        end += 1;
    }
    Ok(path)
}

/// A unit's name becomes a directory of the cgroup tree and an argument of systemd.
fn check_unit(unit: &str) -> Result<()> {
    if let Some(wrong) = unit.chars().find(|letter| !is_allowed(*letter)) {
        let message = format!("{unit:?} cannot be the name of a systemd unit: it holds {wrong:?}");
        return Err(Error::invalid(FIELD, message)
            .with_hint("letters, digits and :-_.\\ are allowed in those of scopes and slices"));
    }
    if unit.len() > LONGEST_NAME {
        let message = format!("{unit:?} is too long for the name of a systemd unit, {LONGEST_NAME} at most");
        return Err(Error::invalid(FIELD, message));
    }
    Ok(())
}

/// systemd allows `@`, too, for instances of a template, which scopes and slices cannot be.
fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ":-_.\\".contains(letter)
}

/// A container's id may hold `+`, the name of a unit not: the escape is systemd's own (systemd-escape(1)).
fn escaped(id: &str) -> String {
    let escape = |letter: char| match is_allowed(letter) {
        true => letter.to_string(),
        false => letter
            .to_string()
            .bytes()
            .map(|byte| format!("\\x{byte:02x}"))
            .collect(),
    };
    id.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn name(path: &str) -> Result<UnitName> {
        UnitName::new(Some(Path::new(path)), "c1")
    }

    fn below(path: &str) -> PathBuf {
        name(path).unwrap().below_manager("system.slice").unwrap()
    }

    #[test]
    fn three_parts_name_slice_prefix_and_container() {
        assert_eq!(
            name("machine.slice:libpod:abc").unwrap(),
            UnitName {
                slice: Some("machine.slice".into()),
                unit: "libpod-abc.scope".into()
            }
        );
        for (given, path) in [
            (":docker:abc", "system.slice/docker-abc.scope"),
            ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope"),
            ("-.slice::n", "-n.scope"),
            ("cpu-pids.slice:_p:n", "_cpu.slice/cpu-pids.slice/__p-n.scope"),
            ("memory.slice:.p:n", "_memory.slice/_.p-n.scope"),
            ("_a.slice:cgroup.p:n", "__a.slice/_cgroup.p-n.scope"),
            ("cpus.slice:cpu.p:n", "cpus.slice/_cpu.p-n.scope"),
            ("a\\x40.slice:p\\x2d:n", "a\\x40.slice/p\\x2d-n.scope"),
            (
                "x.slice:ignored:kubepods-besteffort.slice",
                "kubepods.slice/kubepods-besteffort.slice",
            ),
        ] {
            assert_eq!(below(given), Path::new(path), "{given}");
        }
    }

    #[test]
    fn absent_means_a_scope_with_the_containers_id() {
        for absent in [None, Some(Path::new(""))] {
            let name = UnitName::new(absent, "c1").unwrap();
            assert_eq!(name.unit, "onggi-c1.scope");
            assert_eq!(
                name.below_manager("user.slice").unwrap(),
                Path::new("user.slice/onggi-c1.scope")
            );
        }
        assert_eq!(UnitName::new(None, "a+b").unwrap().unit, "onggi-a\\x2bb.scope");
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        let long = format!(":p:{}", "n".repeat(300));
        for bad in [
            "/docker/abc",
            "abc",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            ".slice:p:n",
            "a--b.slice:p:n",
            "-a.slice:p:n",
            "a-.slice:p:n",
            "../x.slice:p:n",
            "a/b.slice:p:n",
            ":p@:n",
            "a@b.slice:p:n",
            ":p:n/../../x",
            ":p:..",
            ":p: n",
            ":p:n\n",
            ":p:a--b.slice",
            &long,
        ] {
            let error = name(bad).and_then(|name| name.below_manager("system.slice"));
            let allowed = bad == ":p:.."; // "p-...scope" is one component, and harmless
            assert_eq!(error.is_ok(), allowed, "{bad:?}");
            if let Err(error) = error {
                assert_eq!(
                    (error.kind(), error.field()),
                    (ErrorKind::Invalid, Some(FIELD)),
                    "{bad}"
                );
            }
        }
        assert_eq!(
            name("/docker/abc").unwrap_err().to_string(),
            "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \
             \"/docker/abc\" instead (or leave out --systemd-cgroup: this is a path for the driver cgroupfs)"
        );
        assert_eq!(
            name("a:b:c").unwrap_err().to_string(),
            "linux.cgroupsPath: invalid slice name: a"
        );
    }
}

//! Runs in: SHIM. The options of runc's shim, by its own message or by that of containerd for runtimes of any
//! name, whose body is the table of containerd's configuration; and what of them `delete` has to know, in a
//! file of the bundle.

use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::values::name_of;

/// Where runc's shim keeps containers, in a directory of the namespace.
const ROOT: &str = "/run/containerd/runc";

const RUNC: &str = "containerd.runc.v1.Options";
const ANY_RUNTIME: [&str; 2] = [
    "runtimeoptions.v1.Options",
    "containerd.runtimeoptions.v1.Options",
];

const FILE: &str = "options.json";

/// Options of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) root: String,
    pub(crate) systemd_cgroup: bool,
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) io_uid: u32,
    pub(crate) io_gid: u32,
    pub(crate) shim_cgroup: String,
    pub(crate) criu_work_path: String,
    /// Of no use: no program is executed.
    #[serde(skip)]
    pub(crate) binary_name: String,
}

/// Whether these are options that are understood.
pub(crate) fn is_known(any: &Any) -> bool {
    let name = name_of(any);
    name == RUNC || ANY_RUNTIME.contains(&name)
}

impl Options {
    /// # Errors
    /// Options of another kind, or damaged ones.
    pub(crate) fn of(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        match name_of(any) {
            RUNC => Ok(oci::Options::parse_from_bytes(&any.value)?.into()),
            name if ANY_RUNTIME.contains(&name) => Self::of_table(&body(&any.value)?),
            name => Err(Failure::invalid(format!("options of an unknown kind: {name}"))),
        }
    }

    /// The table of containerd's configuration: lines of TOML, each with one value.
    fn of_table(table: &str) -> Result<Self> {
        let mut options = Self::default();
        for line in table.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', '[']) {
                continue;
            }
            let wrong = || Failure::invalid(format!("an option that is not understood: {line}"));
            let (key, value) = line.split_once('=').ok_or_else(wrong)?;
            options.set(key.trim(), value.trim()).ok_or_else(wrong)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let text = || {
            let inner = value.strip_prefix(['"', '\''])?.strip_suffix(['"', '\''])?;
            Some(inner.to_owned())
        };
        match key {
            "Root" => self.root = text()?,
            "ShimCgroup" => self.shim_cgroup = text()?,
            "CriuWorkPath" => self.criu_work_path = text()?,
            "BinaryName" => self.binary_name = text()?,
            "SystemdCgroup" => self.systemd_cgroup = value.parse().ok()?,
            "NoPivotRoot" => self.no_pivot_root = value.parse().ok()?,
            "NoNewKeyring" => self.no_new_keyring = value.parse().ok()?,
            "IoUid" => self.io_uid = value.parse().ok()?,
            "IoGid" => self.io_gid = value.parse().ok()?,
            other => log::warn!("the option {other} is not used"),
        }
        Some(())
    }

    /// The directory of the states of this namespace's containers: runc's `--root`.
    pub(crate) fn state_root(&self, namespace: &str) -> PathBuf {
        let root = match self.root.is_empty() {
            true => Path::new(ROOT),
            false => Path::new(&self.root),
        };
        root.join(namespace)
    }

    /// Keeps them in the bundle, for `delete`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        let json = serde_json::to_vec(self).map_err(|error| Failure::invalid(error.to_string()))?;
        std::fs::write(&path, json).map_err(|error| Failure::io("keep the options", &path, error))
    }

    /// Those of a bundle; the usual ones if none were kept.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub(crate) fn saved(bundle: &Path) -> Result<Self> {
        let path = bundle.join(FILE);
        let json = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(|error| Failure::io("read the options", &path, error))?,
        };
        serde_json::from_slice(&json).map_err(|error| Failure::io("read the options", &path, error))
    }
}

impl From<oci::Options> for Options {
    fn from(message: oci::Options) -> Self {
        Self {
            root: message.root,
            systemd_cgroup: message.systemd_cgroup,
            no_pivot_root: message.no_pivot_root,
            no_new_keyring: message.no_new_keyring,
            io_uid: message.io_uid,
            io_gid: message.io_gid,
            shim_cgroup: message.shim_cgroup,
            criu_work_path: message.criu_work_path,
            binary_name: message.binary_name,
        }
    }
}

/// `config_body` of a `runtimeoptions.v1.Options`, which containerd-shim-protos does not have.
fn body(message: &[u8]) -> Result<String> {
    const BODY: u32 = 3;
    const BYTES: u32 = 2;
    let mut input = CodedInputStream::from_bytes(message);
    let mut body = Vec::new();
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match (tag >> 3, tag & 7) {
            (BODY, BYTES) => body = input.read_bytes()?,
            (_, BYTES) => drop(input.read_bytes()?),
            _ => return Err(Failure::invalid("options with a field that is not known")),
        }
    }
    String::from_utf8(body).map_err(|_| Failure::invalid("options that are not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(name: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: name.to_owned(),
            value,
            ..Any::default()
        }
    }

    #[test]
    fn both_messages_are_understood() {
        let message = oci::Options {
            root: "/r".into(),
            systemd_cgroup: true,
            io_uid: 7,
            ..oci::Options::default()
        };
        let wish = Options {
            root: "/r".into(),
            systemd_cgroup: true,
            io_uid: 7,
            ..Options::default()
        };
        let bare = any(RUNC, message.write_to_bytes().unwrap());
        assert_eq!(Options::of(Some(&bare)).unwrap(), wish);
        let table = "# a comment\nRoot = \"/r\"\nSystemdCgroup = true\nIoUid = 7\n";
        let mut value = vec![0x0a, 1, b'x', 0x1a, u8::try_from(table.len()).unwrap()];
        value.extend_from_slice(table.as_bytes());
        let other = any("type.googleapis.com/runtimeoptions.v1.Options", value);
        assert_eq!(Options::of(Some(&other)).unwrap(), wish);
        assert_eq!(Options::of(None).unwrap(), Options::default());
    }

    #[test]
    fn damaged_options_are_refused() {
        assert!(Options::of(Some(&any("some.Thing", vec![]))).is_err());
        assert!(Options::of(Some(&any(RUNC, vec![0x0a, 9]))).is_err());
        assert!(Options::of(Some(&any(ANY_RUNTIME[0], vec![0x1a, 200]))).is_err());
        assert!(Options::of_table("Root").is_err());
        assert!(Options::of_table("SystemdCgroup = maybe").is_err());
        assert!(Options::of_table("Root = \"").is_err());
    }

    #[test]
    fn delete_finds_what_create_has_kept() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(Options::saved(bundle.path()).unwrap(), Options::default());
        let options = Options {
            root: "/r".into(),
            systemd_cgroup: true,
            ..Options::default()
        };
        options.save(bundle.path()).unwrap();
        assert_eq!(Options::saved(bundle.path()).unwrap(), options);
        assert_eq!(options.state_root("moby"), Path::new("/r/moby"));
        assert_eq!(
            Options::default().state_root("n"),
            Path::new("/run/containerd/runc/n")
        );
    }
}

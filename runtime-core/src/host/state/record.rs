//! Runs in: RUNTIME. The contents of `state.json`: what every later command must know of a container, and its
//! encoding. No I/O.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use crate::{Error, ErrorKind, Result};

/// The version of the format. Raised only when an older runtime would misread a newer file; a new field that
/// may be absent (`#[serde(default)]`) does not raise it.
pub(super) const VERSION: u32 = 1;

/// How far the runtime has come with a container. What the process itself does is asked of the kernel, not
/// stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// `create` is at work, or died in its work. Everything named in the record may or may not exist.
    Creating,
    /// `create` has succeeded.
    Created,
}

/// The cgroup of a container: where it is, and who manages it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// The driver that made it, such as `cgroupfs` or `systemd`. Later commands use this one, whatever their
    /// own options say.
    pub driver: String,
    /// The absolute path of the cgroup's directory on the host.
    #[serde(with = "bytes")]
    pub path: PathBuf,
    /// The unit that systemd made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether that is a unit of the user's service manager, not of the system's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_user: bool,
    /// The inode number of its directory, or of the unit's: another cgroup at this path is not the
    /// container's. 0 until it is there; absent in states of releases that trusted the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// The resctrl group of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResctrlRecord {
    /// Its directory.
    #[serde(with = "bytes")]
    pub path: PathBuf,
    /// Whether it was made for the container, so that `delete` removes it.
    pub is_own: bool,
    /// Whether the container has a monitoring group in it, named after the container.
    #[serde(default)]
    pub monitoring: bool,
}

/// The container's root, when it was made: device, inode and id of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `STATX_MNT_ID`.
    pub mount: u64,
}

/// What a container without a mount namespace has mounted on the host: its rootfs over its own directory. All
/// else that it has mounted lies on that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMount {
    /// Where, without links.
    #[serde(with = "bytes")]
    pub path: PathBuf,
    /// What is there while it is mounted.
    pub root: RootRecord,
}

/// The contents of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the format: [`VERSION`].
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// `ociVersion` of the container's config.json.
    pub oci_version: String,
    /// How far the runtime has come.
    pub phase: Phase,
    /// The process id of INIT in the runtime's pid namespace; 0 before there is one.
    #[serde(default)]
    pub pid: i32,
    /// The start time of INIT in clock ticks after boot (field 22 of `/proc/<pid>/stat`): with the pid it
    /// names one process for ever. 0 before there is one.
    #[serde(default)]
    pub start_time: u64,
    /// The absolute path of the bundle.
    #[serde(with = "bytes")]
    pub bundle: PathBuf,
    /// The absolute path of the root filesystem.
    #[serde(with = "bytes")]
    pub rootfs: PathBuf,
    /// What its root is, which `exec` compares with what it finds; absent where the runtime may not look into
    /// INIT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootRecord>,
    /// When the container was created: RFC 3339, UTC, nanoseconds.
    pub created: String,
    /// The annotations of config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The user id of the caller who created the container.
    #[serde(default)]
    pub owner_uid: u32,
    /// Whether config.json has poststart hooks, so that `start` need not read it for those that have none.
    #[serde(default)]
    pub poststart: bool,
    /// The same of poststop hooks, for `delete`.
    #[serde(default)]
    pub poststop: bool,
    /// Whether the container has made its pid namespace. Only then does the kernel end all with init; a
    /// namespace that is joined, a pod's for one, outlives it.
    #[serde(default)]
    pub own_pids: bool,
    /// Whether the container has a session keyring of its own, which `exec` joins.
    #[serde(default)]
    pub keyring: bool,
    /// Its name, which has a secret in it; absent in states of releases that had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring_name: Option<String>,
    /// The names of those of standard input, output and error that are pipes, in their places; empty if none
    /// is. They lead out of the container, which `checkpoint` must know of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdio: Vec<String>,
    /// The container's cgroup; absent if the runtime manages none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupRecord>,
    /// The container's group of resctrl, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<ResctrlRecord>,
    /// Its mount on the host, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mount: Option<HostMount>,
}

impl Record {
    /// The record of a container whose creation begins now: no process, no cgroup, no annotations, owned by
    /// root.
    pub fn creating(id: &ContainerId, oci_version: &str, bundle: &Path, rootfs: &Path) -> Self {
        Self {
            version: VERSION,
            id: id.as_str().to_owned(),
            oci_version: oci_version.to_owned(),
            phase: Phase::Creating,
            pid: 0,
            start_time: 0,
            bundle: bundle.to_owned(),
            rootfs: rootfs.to_owned(),
            root: None,
            created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
            annotations: BTreeMap::new(),
            owner_uid: 0,
            poststart: false,
            poststop: false,
            own_pids: false,
            keyring: false,
            keyring_name: None,
            stdio: Vec::new(),
            cgroup: None,
            resctrl: None,
            host_mount: None,
        }
    }

    /// What the container's cgroup is marked with: no other container has, or will have, the same.
    pub fn mark(&self) -> String {
        format!("{}, created {}", self.id, self.created)
    }

    /// The bytes of `state.json`.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Internal, error.to_string()).doing("encode the container's state")
        })
    }

    /// Reads the bytes of `state.json`, and checks that they are about this container and in a version that
    /// we know.
    pub(crate) fn decode(id: &ContainerId, json: &[u8]) -> Result<Self> {
        /// Read first: a newer format may differ in any other field.
        #[derive(Deserialize)]
        struct Head {
            version: Option<u32>,
        }
        let damaged = |error: serde_json::Error| Error::new(ErrorKind::Internal, format!("damaged: {error}"));
        let record: Self = match serde_json::from_slice(json) {
            Ok(record) => record,
            Err(error) => {
                let head: Head = serde_json::from_slice(json).map_err(damaged)?;
                check_version(head.version.ok_or_else(foreign)?)?;
                return Err(damaged(error));
            }
        };
        check_version(record.version)?;
        if record.id != id.as_str() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("damaged: it is about the container {:?}", record.id),
            ));
        }
        Ok(record)
    }
}

/// The error for a container of another runtime, which shares the root with this one: runc, crun and youki
/// use the same layout. It may be running, so nothing of it is touched.
pub(super) fn foreign() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the container was made by another runtime",
    )
    .with_hint("use that one for it; this runtime leaves it alone")
}

fn check_version(version: u32) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("has the format version {version}; this runtime knows {VERSION}"),
    ))
}

/// A path in JSON. Paths are bytes: one that is UTF-8 is a string, any other a list of numbers.
mod bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => text.serialize(serializer),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => text.into(),
            Either::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn record(id: &ContainerId) -> Record {
        let bundle = Path::new(OsStr::from_bytes(b"/b\xff"));
        let mut record = Record::creating(id, "1.3.0", bundle, Path::new("/b/rootfs"));
        record.cgroup = Some(CgroupRecord {
            driver: "cgroupfs".into(),
            path: "/sys/fs/cgroup/c".into(),
            unit: Some("c.scope".into()),
            of_user: true,
            inode: Some(u64::MAX),
        });
        record.annotations.insert("k".into(), "v\n\"".into());
        (record.phase, record.pid, record.start_time) = (Phase::Created, 4_000_000, u64::MAX);
        record
    }

    #[test]
    fn survives_encoding_also_with_paths_that_are_not_text() {
        let id = ContainerId::new("c1").unwrap();
        let record = record(&id);
        let json = record.encode().unwrap();
        assert_eq!(Record::decode(&id, &json).unwrap(), record);
        let text = String::from_utf8(json).unwrap();
        assert!(
            text.contains(r#""bundle":[47,98,255],"rootfs":"/b/rootfs""#),
            "{text}"
        );
        assert!(text.contains(r#""phase":"created""#), "{text}");
    }

    #[test]
    fn time_of_creation_is_rfc3339_in_utc_with_nanoseconds() {
        let created = record(&ContainerId::new("c1").unwrap()).created;
        assert_eq!(created.len(), "2026-08-19T02:35:07.123456789Z".len(), "{created}");
        assert!(
            created.ends_with('Z') && created.as_bytes()[10] == b'T',
            "{created}"
        );
    }

    #[test]
    fn unknown_fields_of_a_newer_minor_release_are_passed_over() {
        let id = ContainerId::new("c1").unwrap();
        let json = String::from_utf8(record(&id).encode().unwrap()).unwrap();
        let json = json.replacen('{', r#"{"novelty":[1,2],"#, 1);
        assert_eq!(Record::decode(&id, json.as_bytes()).unwrap().pid, 4_000_000);
    }

    #[test]
    fn states_of_releases_that_trusted_the_path_are_read() {
        let id = ContainerId::new("c1").unwrap();
        let json = String::from_utf8(record(&id).encode().unwrap()).unwrap();
        let json = json.replacen(&format!(r#","inode":{}"#, u64::MAX), "", 1);
        let cgroup = Record::decode(&id, json.as_bytes()).unwrap().cgroup.unwrap();
        assert_eq!((cgroup.inode, cgroup.of_user), (None, true));
    }

    #[test]
    fn damage_is_told_from_an_unknown_version() {
        let id = ContainerId::new("c1").unwrap();
        let whole = record(&id).encode().unwrap();
        for json in [
            &b""[..],
            b"{",
            b"null",
            b"{\"version\":1}",
            &whole[..whole.len() / 2],
            b"\xff",
        ] {
            assert_eq!(Record::decode(&id, json).unwrap_err().kind(), ErrorKind::Internal);
        }
        let newer = Record::decode(&id, br#"{"version":2,"all":"else"}"#).unwrap_err();
        assert_eq!(newer.kind(), ErrorKind::Unsupported);
        assert_eq!(
            newer.to_string(),
            "has the format version 2; this runtime knows 1"
        );
        let other = Record::decode(&ContainerId::new("c2").unwrap(), &whole).unwrap_err();
        assert_eq!(other.to_string(), "damaged: it is about the container \"c1\"");
    }
}

//! Runs in: SUITE. What the probe has seen in a container (`src/bin/probe.rs`), field by field.

use serde::Deserialize;
use std::{collections::BTreeMap, ops::Index};

/// The probe's report.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) fds: Vec<Descriptor>,
    pub(crate) tty: [bool; 3],
    /// Rows and columns.
    pub(crate) winsize: [u16; 2],
    /// The process group in the foreground of the terminal; -1 if there is none.
    pub(crate) foreground: i32,
    /// 0, or the errno of opening /dev/tty.
    pub(crate) dev_tty: i32,
    /// Real, effective, saved.
    pub(crate) uids: [u32; 3],
    pub(crate) gids: [u32; 3],
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) pid: i32,
    pub(crate) ppid: i32,
    pub(crate) sid: i32,
    pub(crate) pgid: i32,
    pub(crate) cwd: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    /// Soft and hard, by the number of the limit.
    pub(crate) rlimits: [[u64; 2]; 16],
    pub(crate) no_new_privs: i32,
    pub(crate) securebits: i32,
    pub(crate) death_signal: i32,
    pub(crate) subreaper: i32,
    pub(crate) scheduler: Scheduler,
    pub(crate) ioprio: i64,
    pub(crate) personality: i64,
    /// Seconds of the clocks.
    pub(crate) monotonic: i64,
    pub(crate) boottime: i64,
    pub(crate) hostname: String,
    #[expect(
        dead_code,
        reason = "only `faults/` looks at it, which compares whole reports"
    )]
    pub(crate) machine: String,
    pub(crate) domainname: String,
    /// The session keyring: type;uid;gid;permissions;name.
    pub(crate) keyring: String,
    pub(crate) keyring_label: String,
    pub(crate) keyring_id: i64,
    pub(crate) lo_up: bool,
    /// The lines of /proc/self/status.
    pub(crate) status: Named<String>,
    /// The links of /proc/self/ns.
    pub(crate) ns: Named<String>,
    pub(crate) mountinfo: String,
    pub(crate) cgroup: String,
    pub(crate) oom_score_adj: String,
    pub(crate) label: String,
    pub(crate) uid_map: String,
    pub(crate) gid_map: String,
    /// The entries of /dev.
    pub(crate) dev: Named<File>,
    /// What the options `--access`, `--stat`, `--cat`, `--syscall` and `--mknod` have asked for.
    pub(crate) access: Named<Access>,
    pub(crate) stat: Named<File>,
    pub(crate) cat: Named<Content>,
    pub(crate) syscall: Named<Option<i64>>,
    pub(crate) mknod: Named<Node>,
}

/// An open descriptor: its number, where it leads, and the id of the mount that its file is of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Descriptor(pub(crate) i32, pub(crate) String, pub(crate) Option<u64>);

/// struct sched_attr.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scheduler {
    pub(crate) policy: u64,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u64,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// A file; all is absent but `errno` if there is none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) errno: Option<i32>,
    /// `file`, `dir`, `link`, `char`, `block`, `fifo` or `socket`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    /// Of a symbolic link.
    pub(crate) target: Option<String>,
}

/// What opening a file for reading and writing says: 0 or an errno. Of a directory, writing is making a file
/// in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Access {
    pub(crate) read: Option<i32>,
    pub(crate) write: Option<i32>,
    /// Of a directory.
    pub(crate) entries: Option<u64>,
}

impl Access {
    /// Of something that is no directory.
    pub(crate) fn new(read: i32, write: i32) -> Self {
        Self {
            read: Some(read),
            write: Some(write),
            entries: None,
        }
    }
}

/// What making a device node says, and opening it: 0 or an errno.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    pub(crate) mknod: Option<i32>,
    pub(crate) read: Option<i32>,
    pub(crate) write: Option<i32>,
}

impl Node {
    /// Of a node that was made.
    pub(crate) fn new(mknod: i32, read: i32, write: i32) -> Self {
        Self {
            mknod: Some(mknod),
            read: Some(read),
            write: Some(write),
        }
    }
}

/// What is in a file, without white space at its end; or the errno.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Errno(i32),
}

impl Content {
    /// The empty text for a file that could not be read.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Errno(_) => "",
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Errno(0)
    }
}

/// Values by name. A name that is not there has the empty value, and a test that looks for one fails by it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "BTreeMap<String, T>", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct Named<T> {
    values: BTreeMap<String, T>,
    missing: T,
}

impl<T: Default> From<BTreeMap<String, T>> for Named<T> {
    fn from(values: BTreeMap<String, T>) -> Self {
        Self {
            values,
            missing: T::default(),
        }
    }
}

impl<T> Named<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<T, K: AsRef<str>> Index<K> for Named<T> {
    type Output = T;

    fn index(&self, name: K) -> &T {
        self.values.get(name.as_ref()).unwrap_or(&self.missing)
    }
}

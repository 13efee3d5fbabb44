//! Runs in: RUNTIME. config.json and process files: bytes in, typed and validated values out. Reads the one
//! file it is asked to read; no other side effects.
//!
//! [`load`] or [`parse`] give a [`Config`] whose every field has the right type; [`validate`] then judges the
//! whole document. What only the host can tell (is this path a namespace of the host?) is judged by `plan`.

mod document;
mod example;
pub(crate) mod given;
mod lenient;
pub(crate) mod mount_options;
pub(crate) mod namespace_kind;
pub(crate) mod paths;
mod ranges;
mod schema;
pub mod sysctl;
mod update;
mod validate;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::runtime::{LinuxResources, Mount, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use document::OtherSpelling;
pub use example::example;
pub(crate) use lenient::quoted;
pub use ranges::parse_ranges;
pub(crate) use schema::{MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES};
pub use update::{ResourceUpdate, update_resources};
pub(crate) use validate::{has_other_letters, odd_letters};
pub use validate::{validate, validate_process, validate_resources};

use crate::error::{CallResult, ErrorResult};
use crate::{Cancel, Error, ErrorKind, Result};
use document::Document;
use schema::Schema;

/// The largest document that is read, in bytes. The engines' largest have some ten thousand; without a bound
/// a config.json that is a link to /dev/zero would take all memory.
const LARGEST: u64 = 64 << 20;

/// A config.json, read and typed.
#[derive(Debug, Clone)]
pub struct Config {
    /// The document in the types of oci-spec. Empty strings where the specification has an optional one are
    /// `None`.
    pub spec: Spec,
    /// What those types have no room for.
    pub extra: Extra,
    /// The bytes as they were read, for the container's state directory.
    pub json: Vec<u8>,
}

/// The parts of a config.json that the types of oci-spec cannot hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// `linux.resources.pids.limit`. Use this and not the number in the spec, where 0 may also mean absent:
    /// `None` leaves the limit as it is, a negative one removes it, 0 is a limit.
    pub pids_limit: Option<i64>,
    /// What belongs to `process`.
    pub process: ProcessExtra,
    /// Keys of the document that count although they differ in case from those of the specification, the
    /// first few. To be warned about.
    pub spellings: Vec<OtherSpelling>,
}

/// The parts of a process that the types of oci-spec cannot hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessExtra {
    /// Names in `capabilities` that are no capability, each once. To be warned about: the specification says
    /// that a runtime SHOULD NOT fail for them. They are not in the sets of the spec.
    pub unknown_capabilities: Vec<String>,
    /// `execCPUAffinity`; the field of the spec is always `None`.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
    /// Of a document that is a process only: as in [`Extra::spellings`].
    pub spellings: Vec<OtherSpelling>,
}

/// `process.execCPUAffinity`: lists of processors as in `0-3, 7`; [`parse_ranges`] reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecCpuAffinity {
    /// Where the process may run before it enters the container's cgroup.
    pub initial: Option<String>,
    /// Where it may run after that (`final`).
    pub last: Option<String>,
}

/// Reads a config.json in whatever form it is given.
///
/// Fails if there is none, if it is larger than 64 MiB, and as [`parse`] does; with `Interrupted` if `cancel`
/// comes while nobody writes into what is no file but a pipe.
pub(crate) fn load(document: &given::Document<Spec>, cancel: &Cancel) -> Result<Config> {
    let json = document
        .json(cancel)
        .map_err(|error| match (error.errno(), document.path()) {
            (Some(crate::Errno::NOENT), Some(path)) => not_found(path),
            _ => error,
        })?;
    parse(json).map_err(|error| document.blamed(error))
}

/// Reads a document; it may come through a fifo.
///
/// # Errors
/// That of the system call, with the path; `Interrupted`.
pub(crate) fn read(path: &Path, cancel: &Cancel) -> Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    if cancel.may_come() {
        // Opening a fifo that nobody has opened for writing waits; then reading it waits instead.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let mut file = options.read(true).open(path).call("open").path(path)?;
    // What most documents fit into: without it they are read in a dozen pieces.
    let mut json = Vec::with_capacity(32 << 10);
    let failed = |error: std::io::Error| Error::os("read", error).with_path(path);
    if cancel.may_come() && !file.metadata().map_err(failed)?.is_file() {
        read_pipe(&mut file, &mut json, cancel).path(path)?;
    } else {
        file.take(LARGEST + 1).read_to_end(&mut json).map_err(failed)?;
    }
    if json.len() as u64 > LARGEST {
        let message = format!("larger than {} MiB", LARGEST >> 20);
        return Err(Error::new(ErrorKind::Invalid, message).with_path(path));
    }
    Ok(json)
}

fn read_pipe(pipe: &mut File, json: &mut Vec<u8>, cancel: &Cancel) -> Result<()> {
    let mut buffer = [0; 4096];
    while json.len() as u64 <= LARGEST {
        cancel.wait_readable(pipe.as_fd())?;
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => json.extend_from_slice(&buffer[..length]),
            // Somebody else has read it.
            Err(error) if matches!(error.kind(), IoErrorKind::WouldBlock | IoErrorKind::Interrupted) => {}
            Err(error) => return Err(Error::os("read", error)),
        }
    }
    Ok(())
}

fn not_found(path: &Path) -> Error {
    let name = path.file_name().unwrap_or(path.as_os_str()).display();
    Error::new(
        ErrorKind::Invalid,
        format!("JSON specification file {name} not found"),
    )
    .with_path(path)
    .with_hint("the bundle is the directory that holds it; onggi spec writes an example")
}

/// Types a config.json.
///
/// Lenient where the specification and the other runtimes are: unknown fields are dropped, null fields are
/// absent, the case of keys does not count, of a field given twice the last counts, unknown capabilities are
/// set aside. Fails, naming the field, if a value has the wrong type, is out of the range of its type, is an
/// unknown word, or holds a NUL byte where it becomes a C string; and with line and column if the document is
/// not JSON.
pub fn parse(json: Vec<u8>) -> Result<Config> {
    let (spec, extra) = typed(&json, &schema::CONFIG, "")?;
    Ok(Config { spec, extra, json })
}

/// Types the document that `exec --process` reads: an object as at `process` in config.json. Lenient and
/// strict as [`parse`].
pub fn parse_process(json: &[u8]) -> Result<(Process, ProcessExtra)> {
    let (process, extra) = typed(json, &schema::PROCESS, "process")?;
    let spellings = extra.spellings;
    Ok((
        process,
        ProcessExtra {
            spellings,
            ..extra.process
        },
    ))
}

/// Types the document that `update --resources` reads: an object as at `linux.resources` in config.json, and
/// its `pids.limit` as in [`Extra::pids_limit`]. Lenient and strict as [`parse`].
pub fn parse_resources(json: &[u8]) -> Result<(LinuxResources, Option<i64>)> {
    let (resources, extra) = typed(json, &schema::RESOURCES, RESOURCES)?;
    Ok((resources, extra.pids_limit))
}

/// Types the document that `mounts add` and `mounts remove` read: a list as at `mounts` in config.json, and
/// its [`Extra::spellings`]. Lenient and strict as [`parse`].
pub fn parse_mounts(json: &[u8]) -> Result<(Vec<Mount>, Vec<OtherSpelling>)> {
    let (mounts, extra) = typed(json, &schema::MOUNTS, "mounts")?;
    Ok((mounts, extra.spellings))
}

/// `linux.resources` of a config.json, with the keys of the specification, for [`update_resources`].
pub(crate) fn resources_of(config: &[u8]) -> Result<Vec<u8>> {
    let mut config = document(config, &schema::CONFIG, "")?.value;
    let resources = config.pointer_mut("/linux/resources").map(Value::take);
    Ok(resources.unwrap_or(Value::Null).to_string().into_bytes())
}

/// Where the limits are in a config.json.
const RESOURCES: &str = "linux.resources";

fn typed<T: DeserializeOwned>(
    json: &[u8],
    schema: &'static Schema,
    root: &'static str,
) -> Result<(T, Extra)> {
    let Document { mut value, spellings } = document(json, schema, root)?;
    let extra = lenient::mend(&mut value, schema, root)?;
    // The schema is at least as strict as the types, so this fails only if the two have drifted apart.
    let typed = T::deserialize(value).map_err(|error| Error::invalid(named(root), error.to_string()))?;
    Ok((typed, Extra { spellings, ..extra }))
}

fn document(json: &[u8], schema: &'static Schema, root: &'static str) -> Result<Document> {
    document::read(json, schema, root)
        .map_err(|error| Error::invalid(named(root), format!("not JSON: {error}")))
}

fn named(root: &'static str) -> &'static str {
    if root.is_empty() { "config.json" } else { root }
}

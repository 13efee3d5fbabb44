//! Runs in: the targets of `fuzz/`, which reach the inside by this. No promise to anybody else: functions of
//! private modules, with results of public types.
#![allow(
    missing_docs,
    clippy::type_complexity,
    reason = "each has the name of what it calls, where the documentation is, and gives all of its results at once"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use prost::Message;

use crate::Result;
use crate::criu;
use crate::host::cgroup::stats::CgroupStats;
use crate::host::cgroup::systemd::message;
use crate::host::cgroup::{files, membership, stats};
use crate::host::mount::{mount_table, mountinfo};
use crate::host::net_devices::{self, message as netlink};
pub use crate::host::process::Stat;
use crate::host::socket::notify_socket;
use crate::host::state::{ContainerId, Record};
use crate::plan::cgroup::CgroupWrite;
use crate::plan::cgroup::systemd::properties::{self, Property};
use crate::plan::cgroup::systemd::{annotations, gvariant, name};
use crate::spec::{Config, ProcessExtra};
pub use rustix::io::Errno;

pub mod plan {
    pub use crate::plan::cgroup::UnitPlan;
    pub use crate::plan::cgroup::resources::ResourcePlan;
    pub use crate::plan::process::ProcessPlan;
    pub use crate::plan::seccomp;
    pub use crate::plan::{CallerOptions, ConsoleRequest, HostFacts, Plan};
}

pub mod spec {
    pub use crate::spec::*;

    pub fn load_file(path: &std::path::Path, cancel: &crate::Cancel) -> crate::Result<Config> {
        load(&path.to_owned().into(), cancel)
    }
}

pub fn process_of_file(config: &Config, json: &[u8]) -> Result<(Process, ProcessExtra)> {
    crate::ops::exec::process::process_of_file(config, json)
}

pub fn decode_record(id: &ContainerId, json: &[u8]) -> Result<Record> {
    Record::decode(id, json)
}

pub fn encode_record(record: &Record) -> Result<Vec<u8>> {
    record.encode()
}

pub fn mount_point(text: &[u8], kind: &[u8]) -> Option<PathBuf> {
    mountinfo::mount_point(text, kind)
}

pub fn mount_table(text: &[u8]) -> Option<Vec<mount_table::Entry>> {
    mount_table::parse(text)
}

pub fn explain_program(file: &File, errno: Errno, exists: impl Fn(&Path) -> bool) -> Option<String> {
    crate::parent::diagnose::explain(file, errno, exists)
}

pub fn says_ready(message: &[u8]) -> bool {
    notify_socket::says_ready(message)
}

pub fn criu_reason(log: &str) -> Option<String> {
    criu::log::find(log)
}

/// Whether a response that can be read is the same after it has been written again.
pub fn criu_response_survives(bytes: &[u8]) -> bool {
    let Ok(response) = criu::Response::decode(bytes) else {
        return true;
    };
    // Numbers that a newer criu has are no kinds of ours.
    let _kind = response.kind();
    criu::Response::decode(&*response.encode_to_vec()).as_ref() == Ok(&response)
}

/// Of each the hierarchy, and the path.
pub fn cgroup_roots(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let roots = criu::cgroups::parse(text).into_iter();
    roots
        .map(|root| (root.controller().to_owned(), root.path))
        .collect()
}

pub fn cgroup2_line(text: &[u8]) -> Option<&Path> {
    membership::cgroup2_line(text)
}

pub fn listed_processes(text: &[u8]) -> Vec<i32> {
    files::listed(text)
        .map(|pid| pid.as_raw_nonzero().get())
        .collect()
}

pub fn value_of<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    files::value_of(text, key)
}

pub fn ranges(text: &str) -> Vec<u64> {
    stats::ranges(text)
}

/// What the same text gives as each of the files.
pub fn cgroup_stats(text: &str) -> CgroupStats {
    let mut found = CgroupStats::default();
    (found.cpu.usage, found.cpu.throttling) = stats::cpu_stat(text.as_bytes());
    found.cpu.psi = Some(stats::pressure(text));
    found.memory.raw = stats::key_values(text);
    (found.blkio.bytes, found.blkio.requests) = stats::io_stat(text);
    found.cpuset.cpus = stats::ranges(text);
    found
}

/// An answer of rtnetlink: whether it was the last, and its messages.
pub fn netlink_read(answer: &[u8]) -> (std::result::Result<bool, Errno>, Vec<(u16, Vec<u8>)>) {
    let mut messages = Vec::new();
    let result = netlink::read(answer, &mut |kind, body| messages.push((kind, body.to_vec())));
    (result.map_err(|(_, errno)| errno), messages)
}

pub fn netlink_attributes(rest: &[u8]) -> Vec<(u16, &[u8])> {
    netlink::attributes(rest).collect()
}

/// The request by which the address in this message is given to the device again; its bytes as they are sent.
pub fn netlink_address(body: &[u8], index: u32) -> Option<Vec<u8>> {
    Some(net_devices::Address::read(body)?.request(index).into_bytes())
}

/// A message of D-Bus. The values in the body of an answer: as an object path, and as a string in a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DbusMessage {
    Return {
        serial: u32,
        path: std::result::Result<String, String>,
        variant: std::result::Result<String, String>,
    },
    Error {
        serial: u32,
        name: String,
        text: String,
    },
    JobRemoved {
        job: String,
        result: String,
    },
    Other,
}

pub fn dbus_length(start: &[u8; 16]) -> std::result::Result<usize, String> {
    message::length(start)
}

pub fn dbus_read(bytes: &[u8]) -> std::result::Result<DbusMessage, String> {
    use message::Incoming;
    Ok(match message::read(bytes)? {
        Incoming::Return(serial, body) => DbusMessage::Return {
            serial,
            path: body.object_path(),
            variant: body.string_in_variant(),
        },
        Incoming::Error(serial, name, text) => DbusMessage::Error { serial, name, text },
        Incoming::JobRemoved(job, result) => DbusMessage::JobRemoved { job, result },
        Incoming::Other => DbusMessage::Other,
    })
}

/// The value's signature, and its text.
pub fn gvariant(text: &str) -> std::result::Result<(String, String), String> {
    let value = gvariant::parse(text)?;
    Ok((value.value_signature().to_string(), value.to_string()))
}

/// The names of the properties that the annotations ask for, and the bytes of a call with all of them.
pub fn unit_properties(
    annotations: &std::collections::HashMap<String, String>,
) -> Result<(Vec<String>, std::result::Result<Vec<u8>, String>)> {
    let properties = annotations::properties(annotations)?;
    let names = properties
        .iter()
        .map(|property| property.name.to_string())
        .collect();
    Ok((names, call_with(&properties)))
}

fn call_with(properties: &[Property]) -> std::result::Result<Vec<u8>, String> {
    let values: Vec<_> = properties
        .iter()
        .map(|property| (&*property.name, &property.value))
        .collect();
    let target = message::Target {
        name: "a.b",
        path: "/a",
        interface: "a.b",
    };
    message::call(target, "Set", 1, &(values,))
}

/// The unit, and its cgroup below that of the service manager.
pub fn unit_name(cgroups_path: Option<&Path>, id: &str) -> Result<(String, PathBuf)> {
    let name = name::UnitName::new(cgroups_path, id)?;
    let place = name.below_manager("system.slice")?;
    Ok((name.unit, place))
}

/// The bytes of a call with the properties for these limits.
pub fn limit_properties(writes: &[CgroupWrite]) -> std::result::Result<Vec<u8>, String> {
    let properties = properties::of_limits(writes, properties::Moment::Start);
    call_with(&properties)
}

pub use crate::parent::handshake::hostile;

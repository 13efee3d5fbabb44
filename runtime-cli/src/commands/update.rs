//! Runs in: RUNTIME. `update`: changes the limits of a container.

use std::io::Read;
use std::path::Path;

use clap::Arg;
use runtime_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{Definition, Invocation, command};
use crate::flags::{path, value};
use crate::{report, units};

pub(crate) const COMMAND: Definition =
    command("update", "change the resource limits of a container", flags, run);

fn flags() -> Vec<Arg> {
    let limit = |name, help| value(name).value_name("number").help(help);
    let text = |name, help| value(name).help(help);
    let ignored = |name| {
        value(name)
            .hide(true)
            .help("accepted for old callers, without effect")
    };
    vec![
        path("resources")
            .short('r')
            .help("file with new linux.resources as JSON, or - for standard input; other limits are then not looked at"),
        limit("blkio-weight", "weight of disk access, 10 to 1000"),
        limit("cpu-period", "period of the CPU quota, in microseconds"),
        limit("cpu-quota", "CPU time in each period, in microseconds; -1 for no limit"),
        limit("cpu-burst", "CPU time that may be saved up, in microseconds"),
        limit("cpu-share", "relative weight of CPU time (1024 is usual)"),
        limit("cpu-rt-period", "period of real-time scheduling, in microseconds (cgroup v1 only)"),
        limit("cpu-rt-runtime", "real-time CPU time in each period, in microseconds (cgroup v1 only)"),
        limit("cpu-idle", "1: run only when nobody else wants to"),
        text("cpuset-cpus", "CPUs to run on, as in 0-3,7"),
        text("cpuset-mems", "memory nodes to use, as in 0-3,7"),
        ignored("kernel-memory"),
        ignored("kernel-memory-tcp"),
        text("memory", "memory limit in bytes, or with k, m, g; -1 for no limit"),
        text("memory-reservation", "memory that is not taken away, in bytes, or with k, m, g"),
        text("memory-swap", "memory and swap together, in bytes, or with k, m, g; -1 for no limit"),
        limit("pids-limit", "most processes at a time; -1 for no limit"),
        text("l3-cache-schema", "Intel RDT: L3 cache schema"),
        text("mem-bw-schema", "Intel RDT: memory bandwidth schema"),
    ]
}

/// As much as is read of a file or of standard input: of a real one there are some hundred bytes.
const LARGEST: u64 = 1 << 20;

fn run(call: &Invocation) -> Result<u8> {
    let (runtime, id) = (call.runtime()?, call.id()?);
    let schema = |name| call.text(name).filter(|schema| !schema.is_empty());
    let (l3_cache, memory_bandwidth) = (schema("l3-cache-schema"), schema("mem-bw-schema"));
    if l3_cache.is_some() || memory_bandwidth.is_some() {
        runtime.update_intel_rdt(&id, l3_cache.as_deref(), memory_bandwidth.as_deref())?;
    }
    let resources = match call.path("resources") {
        Some(path) => read(&path)?,
        None => from_flags(call)?.to_string().into_bytes(),
    };
    runtime.update(&id, &resources)?;
    for name in ["kernel-memory", "kernel-memory-tcp"] {
        if call.text(name).is_some_and(|limit| !limit.is_empty()) {
            report::skipped(&format!(
                "--{name} is ignored: the kernel has no such limit any more"
            ));
        }
    }
    Ok(0)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(|error| Error::io("open", &error).path(path))?),
    };
    source
        .take(LARGEST)
        .read_to_end(&mut json)
        .map_err(|error| Error::io("read", &error).path(path))?;
    Ok(json)
}

/// Flag, section of `linux.resources` and field in it.
type Field = (&'static str, &'static str, &'static str);

const NUMBERS: [Field; 9] = [
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("pids-limit", "pids", "limit"),
];

const SIZES: [Field; 3] = [
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
];

const LISTS: [Field; 2] = [("cpuset-cpus", "cpu", "cpus"), ("cpuset-mems", "cpu", "mems")];

/// What the flags ask for, as an object of `linux.resources`. An empty value asks for nothing.
fn from_flags(call: &Invocation) -> Result<Value> {
    resources(|flag| call.text(flag).filter(|text| !text.is_empty()))
}

fn resources(given: impl Fn(&str) -> Option<String>) -> Result<Value> {
    let mut sections = Map::new();
    let mut set = |(_, section, field): Field, value: Value| {
        let object = sections
            .entry(section)
            .or_insert_with(|| Value::Object(Map::new()));
        object[field] = value;
    };
    for field in NUMBERS {
        if let Some(text) = given(field.0) {
            // i128: some fields go to -1, others to the greatest u64. Which is which is judged with the whole.
            let number: i128 = text.parse().map_err(|_| invalid(field.0, &text))?;
            let number = serde_json::Number::from_i128(number).ok_or_else(|| invalid(field.0, &text))?;
            set(field, Value::Number(number));
        }
    }
    for field in SIZES {
        if let Some(text) = given(field.0) {
            let size = match text.as_str() {
                "-1" => Some(-1),
                size => units::bytes(size),
            };
            set(field, size.ok_or_else(|| invalid(field.0, &text))?.into());
        }
    }
    for field in LISTS {
        if let Some(list) = given(field.0) {
            set(field, list.into());
        }
    }
    Ok(Value::Object(sections))
}

fn invalid(flag: &str, text: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("invalid value for {flag}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from(flags: &[(&str, &str)]) -> Result<Value> {
        resources(|name| {
            let found = flags.iter().find(|(flag, _)| *flag == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_flag_has_its_field() {
        let flags = [
            ("blkio-weight", "500"),
            ("cpu-quota", "-1"),
            ("cpu-period", "10000"),
            ("cpu-share", "18446744073709551615"),
            ("cpu-idle", "1"),
            ("cpuset-cpus", "0-1"),
            ("memory", "64m"),
            ("memory-swap", "-1"),
            ("memory-reservation", "1.5k"),
            ("pids-limit", "0"),
        ];
        assert_eq!(
            from(&flags).unwrap(),
            json!({
                "blockIO": {"weight": 500},
                "cpu": {"quota": -1, "period": 10000, "shares": u64::MAX, "idle": 1, "cpus": "0-1"},
                "memory": {"limit": 64 << 20, "swap": -1, "reservation": 1536},
                "pids": {"limit": 0},
            })
        );
        assert_eq!(from(&[]).unwrap(), json!({}));
    }

    #[test]
    fn what_is_no_number_is_named() {
        for (flag, text) in [
            ("cpu-quota", "x"),
            ("memory", "5x"),
            ("memory", "-2"),
            ("pids-limit", "1.5"),
        ] {
            let error = from(&[(flag, text)]).unwrap_err().to_string();
            assert_eq!(error, format!("invalid value for {flag}: {text:?}"));
        }
    }
}

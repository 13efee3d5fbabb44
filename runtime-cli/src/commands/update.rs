//! Runs in: RUNTIME. `update`: changes the limits of a container.

use std::io::Read;
use std::path::{Path, PathBuf};

use runtime_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{Command, Definition, Invocation};
use crate::flags::{NamedText, flags};
use crate::{report, units};

flags! {
    pub(crate) struct Update {
        /// file with new linux.resources as JSON, or - for standard input; other limits are then not looked
        /// at
        resources: Option<PathBuf> { short('r') },
        ..limits: LimitFlags,
        /// Intel RDT: L3 cache schema
        l3_cache_schema: NamedText,
        /// Intel RDT: memory bandwidth schema
        mem_bw_schema: NamedText,
    }
}

flags! {
    /// Limits that are named one by one.
    pub(crate) struct LimitFlags {
        /// weight of disk access, 10 to 1000
        blkio_weight: NamedText { value_name("number") },
        /// period of the CPU quota, in microseconds
        cpu_period: NamedText { value_name("number") },
        /// CPU time in each period, in microseconds; -1 for no limit
        cpu_quota: NamedText { value_name("number") },
        /// CPU time that may be saved up, in microseconds
        cpu_burst: NamedText { value_name("number") },
        /// relative weight of CPU time (1024 is usual)
        cpu_share: NamedText { value_name("number") },
        /// period of real-time scheduling, in microseconds (cgroup v1 only)
        cpu_rt_period: NamedText { value_name("number") },
        /// real-time CPU time in each period, in microseconds (cgroup v1 only)
        cpu_rt_runtime: NamedText { value_name("number") },
        /// 1: run only when nobody else wants to
        cpu_idle: NamedText { value_name("number") },
        /// CPUs to run on, as in 0-3,7
        cpuset_cpus: NamedText,
        /// memory nodes to use, as in 0-3,7
        cpuset_mems: NamedText,
        /// accepted for old callers, without effect
        kernel_memory: NamedText { hide(true) },
        /// accepted for old callers, without effect
        kernel_memory_tcp: NamedText { hide(true) },
        /// memory limit in bytes, or with k, m, g; -1 for no limit
        memory: NamedText,
        /// memory that is not taken away, in bytes, or with k, m, g
        memory_reservation: NamedText,
        /// memory and swap together, in bytes, or with k, m, g; -1 for no limit
        memory_swap: NamedText,
        /// most processes at a time; -1 for no limit
        pids_limit: NamedText { value_name("number") },
    }
}

/// As much as is read of a file or of standard input: of a real one there are some hundred bytes.
const LARGEST: u64 = 1 << 20;

impl Command for Update {
    const DEFINITION: Definition =
        Definition::new::<Self>("update", "change the resource limits of a container");

    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        let (l3_cache, memory_bandwidth) = (self.l3_cache_schema.text, self.mem_bw_schema.text);
        if l3_cache.is_some() || memory_bandwidth.is_some() {
            runtime.update_intel_rdt(&id, l3_cache.as_deref(), memory_bandwidth.as_deref())?;
        }
        let resources = match self.resources {
            Some(path) => read(&path)?,
            None => self.limits.resources()?.to_string().into_bytes(),
        };
        runtime.update(&id, resources)?;
        for NamedText { flag, text } in [self.limits.kernel_memory, self.limits.kernel_memory_tcp] {
            if text.is_some() {
                report::skipped(&format!(
                    "--{flag} is ignored: the kernel has no such limit any more"
                ));
            }
        }
        Ok(0)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => {
            Box::new(std::fs::File::open(path).map_err(|error| Error::os("open", error).with_path(path))?)
        }
    };
    source
        .take(LARGEST)
        .read_to_end(&mut json)
        .map_err(|error| Error::os("read", error).with_path(path))?;
    Ok(json)
}

impl LimitFlags {
    /// What the flags ask for, as `linux.resources`. An empty value asks for nothing.
    fn resources(&self) -> Result<Value> {
        let mut resources = Resources::default();
        resources.number("blockIO", "weight", &self.blkio_weight)?;
        resources.number("cpu", "period", &self.cpu_period)?;
        resources.number("cpu", "quota", &self.cpu_quota)?;
        resources.number("cpu", "burst", &self.cpu_burst)?;
        resources.number("cpu", "shares", &self.cpu_share)?;
        resources.number("cpu", "realtimePeriod", &self.cpu_rt_period)?;
        resources.number("cpu", "realtimeRuntime", &self.cpu_rt_runtime)?;
        resources.number("cpu", "idle", &self.cpu_idle)?;
        resources.number("pids", "limit", &self.pids_limit)?;
        resources.size("memory", "limit", &self.memory)?;
        resources.size("memory", "reservation", &self.memory_reservation)?;
        resources.size("memory", "swap", &self.memory_swap)?;
        resources.list("cpu", "cpus", &self.cpuset_cpus);
        resources.list("cpu", "mems", &self.cpuset_mems);
        Ok(Value::Object(resources.0))
    }
}

/// An object of `linux.resources` that is being made: its sections.
#[derive(Default)]
struct Resources(Map<String, Value>);

impl Resources {
    fn number(&mut self, section: &str, field: &str, given: &NamedText) -> Result<()> {
        let Some(text) = &given.text else { return Ok(()) };
        // i128: some fields go to -1, others to the greatest u64. Which is which is judged with the whole.
        let number = text.parse().ok().and_then(serde_json::Number::from_i128);
        let number = number.ok_or_else(|| invalid(given.flag, text))?;
        self.set(section, field, Value::Number(number));
        Ok(())
    }

    fn size(&mut self, section: &str, field: &str, given: &NamedText) -> Result<()> {
        let Some(text) = &given.text else { return Ok(()) };
        let size = match text.as_str() {
            "-1" => Some(-1),
            size => units::bytes(size),
        };
        let size = size.ok_or_else(|| invalid(given.flag, text))?;
        self.set(section, field, size.into());
        Ok(())
    }

    fn list(&mut self, section: &str, field: &str, given: &NamedText) {
        if let Some(list) = &given.text {
            self.set(section, field, list.as_str().into());
        }
    }

    fn set(&mut self, section: &str, field: &str, value: Value) {
        let object = self.0.entry(section).or_insert_with(|| Value::Object(Map::new()));
        object[field] = value;
    }
}

fn invalid(flag: &str, text: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("invalid value for {flag}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::args;
    use crate::flags::Flags;

    fn from(flags: &[(&str, &str)]) -> Result<Value> {
        let mut arguments: Vec<String> = vec!["update".to_owned()];
        arguments.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
        let command = args::command(&Update::DEFINITION);
        let mut matches = command.try_get_matches_from(arguments).expect("flags of update");
        Update::read(&mut matches).limits.resources()
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

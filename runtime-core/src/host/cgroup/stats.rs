//! Runs in: RUNTIME. What a cgroup has used: reads the files of the controllers into the shape that runc's
//! `events` prints, which is that of cgroup version 1. Times are in nanoseconds, sizes in bytes. Changes
//! nothing.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use serde::Serialize;

use super::directory::Cgroup;
use super::files::{number_of, read_file};
use super::walk;
use crate::{Errno, Error, Result};

/// Statistics of a container, serialised with runc's keys. What a controller that is not enabled would tell
/// is 0 or absent.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct CgroupStats {
    /// Processor time.
    pub cpu: Cpu,
    /// Where the processes may run.
    pub cpuset: CpuSet,
    /// Memory and swap.
    pub memory: Memory,
    /// Number of processes and threads.
    pub pids: Pids,
    /// Traffic with block devices.
    pub blkio: BlockIo,
    /// Huge pages, by page size as in `2MB`.
    pub hugetlb: BTreeMap<String, HugePages>,
    /// Of version 1 and resctrl; always empty here.
    pub intel_rdt: Empty,
    /// Of libcontainer's own networks; always null.
    pub network_interfaces: Option<()>,
}

/// An object without keys.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct Empty {}

/// `cpu.stat`, `cpu.pressure`.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// How the quota has worked.
    pub throttling: Throttling,
    /// Time lost waiting for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// What `cpu.max` has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Throttling {
    /// Periods with anything to run.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Of these, periods in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Time for which processes had to wait for the next, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// A file of pressure stall information (kernel, accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pressure {
    /// Some process waited.
    pub some: Stall,
    /// All of them did.
    pub full: Stall,
}

/// Shares of time in per cent over 10, 60 and 300 seconds, and the total in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stall {
    /// Over ten seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// Microseconds since the cgroup was made.
    pub total: u64,
}

/// `cpuset.*.effective`; the other keys are of version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CpuSet {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u64>,
    cpu_exclusive: u64,
    /// Nodes of memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u64>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

/// `memory.*`.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Of the usage, pages of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// All memory.
    pub usage: Counter,
    /// Memory and swap together, as in config.json.
    pub swap: Counter,
    /// Of version 1.
    pub kernel: Counter,
    /// Of version 1.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Counter,
    /// `memory.stat` as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Time lost waiting for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A usage and its bounds. No limit is the greatest number, as in runc.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counter {
    /// The limit.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// Of version 1.
    pub failcnt: u64,
}

/// `pids.*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit; 0 is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// `io.stat`, `io.pressure`.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct BlockIo {
    /// Bytes.
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<Transfer>,
    /// Requests.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Transfer>,
    /// Time lost waiting for a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// What went to or from one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Transfer {
    /// Number of the device's driver.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Number of the device.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read` or `Write`.
    pub op: &'static str,
    /// Bytes or requests.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// `hugetlb.SIZE.*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HugePages {
    /// Bytes in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Allocations that the limit has prevented.
    pub failcnt: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cgroup {
    /// What the cgroup has used.
    ///
    /// # Errors
    /// A file cannot be read. One that is not there, because its controller is not enabled, is passed over.
    pub(crate) fn stats(&self) -> Result<CgroupStats> {
        let files = Files(self);
        Ok(CgroupStats {
            cpu: files.cpu()?,
            cpuset: files.cpuset()?,
            memory: files.memory()?,
            pids: files.pids()?,
            blkio: files.block_io()?,
            hugetlb: files.huge_pages()?,
            ..CgroupStats::default()
        })
    }
}

struct Files<'a>(&'a Cgroup);

impl Files<'_> {
    fn text(&self, file: &str) -> Result<Option<String>> {
        match read_file(self.0.dir(), file) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            // EOPNOTSUPP: pressure that the kernel was told not to account (`psi=0`, or cgroup.pressure).
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::os("read", errno)
                .with_path(self.0.path().join(file))
                .doing("read the statistics")),
        }
    }

    /// A file with one number; `max` is the greatest.
    fn number(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.text(file)?.and_then(|text| match text.trim_ascii() {
            "max" => Some(u64::MAX),
            number => number.parse().ok(),
        }))
    }

    fn pressure(&self, file: &str) -> Result<Option<Pressure>> {
        Ok(self.text(file)?.map(|text| pressure(&text)))
    }

    fn cpu(&self) -> Result<Cpu> {
        let text = self.text("cpu.stat")?.unwrap_or_default();
        let (usage, throttling) = cpu_stat(text.as_bytes());
        Ok(Cpu {
            usage,
            throttling,
            psi: self.pressure("cpu.pressure")?,
        })
    }

    fn cpuset(&self) -> Result<CpuSet> {
        let list = |file| -> Result<Vec<u64>> { Ok(ranges(&self.text(file)?.unwrap_or_default())) };
        Ok(CpuSet {
            cpus: list("cpuset.cpus.effective")?,
            mems: list("cpuset.mems.effective")?,
            ..CpuSet::default()
        })
    }

    fn memory(&self) -> Result<Memory> {
        let raw = key_values(&self.text("memory.stat")?.unwrap_or_default());
        let usage = self.counter("memory")?.unwrap_or_default();
        // Without swap in the kernel there is nothing to add, and nothing to tell.
        let swap = self.counter("memory.swap")?.map(|swap| Counter {
            limit: swap.limit.saturating_add(usage.limit),
            usage: swap.usage.saturating_add(usage.usage),
            // The two greatest usages need not have been at the same time.
            max: 0,
            failcnt: 0,
        });
        Ok(Memory {
            cache: raw.get("file").copied().unwrap_or(0),
            usage,
            swap: swap.unwrap_or_default(),
            raw,
            psi: self.pressure("memory.pressure")?,
            ..Memory::default()
        })
    }

    fn counter(&self, name: &str) -> Result<Option<Counter>> {
        let Some(usage) = self.number(&format!("{name}.current"))? else {
            return Ok(None);
        };
        Ok(Some(Counter {
            usage,
            limit: self.number(&format!("{name}.max"))?.unwrap_or(0),
            // memory.peak since Linux 5.19, memory.swap.peak since 6.5.
            max: self.number(&format!("{name}.peak"))?.unwrap_or(0),
            failcnt: 0,
        }))
    }

    fn pids(&self) -> Result<Pids> {
        let current = match self.number("pids.current")? {
            Some(current) => current,
            // Without the controller they can still be counted.
            None => self.0.processes()?.len() as u64,
        };
        let limit = self.number("pids.max")?.filter(|limit| *limit != u64::MAX);
        Ok(Pids {
            current,
            limit: limit.unwrap_or(0),
        })
    }

    fn block_io(&self) -> Result<BlockIo> {
        let (bytes, requests) = io_stat(&self.text("io.stat")?.unwrap_or_default());
        Ok(BlockIo {
            bytes,
            requests,
            psi: self.pressure("io.pressure")?,
        })
    }

    /// One entry for each page size that the kernel has files for.
    fn huge_pages(&self) -> Result<BTreeMap<String, HugePages>> {
        let mut pages = BTreeMap::new();
        for size in page_sizes(self.0.dir())? {
            let events = self.text(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
            let entry = HugePages {
                usage: self.number(&format!("hugetlb.{size}.current"))?.unwrap_or(0),
                failcnt: number_of(events.as_bytes(), "max").unwrap_or(0),
            };
            pages.insert(size, entry);
        }
        Ok(pages)
    }
}

fn page_sizes(dir: BorrowedFd<'_>) -> Result<Vec<String>> {
    let names = walk::files(dir)?;
    let size = |name: &String| {
        let rest = name.strip_prefix("hugetlb.")?;
        rest.strip_suffix(".current")
            .filter(|size| !size.contains('.'))
            .map(str::to_owned)
    };
    Ok(names.iter().filter_map(size).collect())
}

pub(crate) fn cpu_stat(text: &[u8]) -> (CpuUsage, Throttling) {
    let number = |key| number_of(text, key).unwrap_or(0);
    let nanoseconds = |key| number(key).saturating_mul(1000);
    let usage = CpuUsage {
        total: nanoseconds("usage_usec"),
        kernel: nanoseconds("system_usec"),
        user: nanoseconds("user_usec"),
    };
    let throttling = Throttling {
        periods: number("nr_periods"),
        throttled_periods: number("nr_throttled"),
        throttled_time: nanoseconds("throttled_usec"),
    };
    (usage, throttling)
}

pub(crate) fn key_values(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full …`.
pub(crate) fn pressure(text: &str) -> Pressure {
    let stall = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        let value = |key: &str| {
            let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
            pairs
                .clone()
                .find(|(found, _)| *found == key)
                .map(|(_, value)| value)
        };
        let share = |key| value(key).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Stall {
            avg10: share("avg10"),
            avg60: share("avg60"),
            avg300: share("avg300"),
            total: value("total").and_then(|text| text.parse().ok()).unwrap_or(0),
        }
    };
    Pressure {
        some: stall("some "),
        full: stall("full "),
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` per device, into version 1's tables of bytes and
/// requests.
pub(crate) fn io_stat(text: &str) -> (Vec<Transfer>, Vec<Transfer>) {
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        let device = words.next().and_then(|device| device.split_once(':'));
        let numbers = device.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let Some((major, minor)) = numbers else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (table, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut requests, "Read"),
                "wios" => (&mut requests, "Write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                table.push(Transfer {
                    major,
                    minor,
                    op,
                    value,
                });
            }
        }
    }
    (bytes, requests)
}

/// `0-2,7`, as the kernel writes lists. It never writes a range that is wrong or long.
pub(crate) fn ranges(text: &str) -> Vec<u64> {
    const LONGEST: u64 = 1 << 16;
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u64>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (last < LONGEST).then_some(first..=last)
    };
    text.trim_ascii().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn printed(stats: impl Serialize) -> Value {
        serde_json::to_value(stats).unwrap()
    }

    #[test]
    fn times_are_nanoseconds() {
        let text =
            b"usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 3\nnr_throttled 2\nthrottled_usec 9\n";
        let (usage, throttling) = cpu_stat(text);
        assert_eq!(
            printed(usage),
            json!({"total": 12000, "kernel": 5000, "user": 7000})
        );
        assert_eq!(
            printed(throttling),
            json!({"periods": 3, "throttledPeriods": 2, "throttledTime": 9000})
        );
    }

    #[test]
    fn pressure_has_two_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let pressure = pressure(text);
        assert_eq!(
            (pressure.some.avg10, pressure.some.total, pressure.full.total),
            (1.5, 77, 3)
        );
    }

    #[test]
    fn traffic_is_listed_by_device_and_direction() {
        let text = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1\nnonsense rbytes=1\n";
        let (bytes, requests) = io_stat(text);
        assert_eq!(
            printed(bytes),
            json!([{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}])
        );
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn the_keys_are_runcs() {
        let empty = printed(CgroupStats::default());
        assert_eq!(
            empty,
            json!({
                "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
                "cpuset": {"cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                    "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0,
                    "sched_relax_domain_level": 0},
                "memory": {"usage": {"limit": 0, "failcnt": 0}, "swap": {"limit": 0, "failcnt": 0},
                    "kernel": {"limit": 0, "failcnt": 0}, "kernelTCP": {"limit": 0, "failcnt": 0}},
                "pids": {}, "blkio": {}, "hugetlb": {}, "intel_rdt": {}, "network_interfaces": null,
            })
        );
    }

    #[test]
    fn lists_are_spelled_out() {
        assert_eq!(ranges("0-2,7\n"), [0, 1, 2, 7]);
        assert!(ranges("\n").is_empty());
        assert!(ranges("0-99999999999").is_empty());
    }
}

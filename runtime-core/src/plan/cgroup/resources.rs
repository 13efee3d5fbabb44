//! Runs in: RUNTIME. Pure: turns `linux.resources` into the list of values to write into the files of a
//! cgroup. Writing them is `apply.rs`; the device rules are `devices.rs`.
//!
//! config.json speaks in the units of cgroup version 1; the conversions here are those of runc, so that a
//! container gets the same share of a host under either runtime.

use std::borrow::Cow;
use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxRdma, LinuxResources, LinuxThrottleDevice,
};

use crate::{Error, ErrorKind, Result};

/// One value to write into one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupWrite {
    /// The file's name, as in `memory.max`.
    pub file: Cow<'static, str>,
    /// What to write. Each line is a `write(2)` of its own, as the kernel wants it for keyed files.
    pub value: String,
    /// The field of config.json that asks for it, in dotted form.
    pub field: Cow<'static, str>,
    /// What to do if the cgroup has no such file.
    pub if_missing: IfMissing,
}

/// What it means for a [`CgroupWrite`] that the kernel, or this cgroup, does not have the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMissing {
    /// The limit cannot be set: an error.
    Fail,
    /// The value lifts a limit that, without the file, is not there anyway.
    Skip,
    /// Another file does the same job, with this value.
    Write(&'static str, String),
}

impl CgroupWrite {
    /// The controller that provides the file; `cgroup` for the files that every cgroup has.
    pub fn controller(&self) -> &str {
        self.file
            .split_once('.')
            .map_or(&*self.file, |(controller, _)| controller)
    }
}

/// What `linux.resources` asks for, apart from devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcePlan {
    /// In the order of writing; `unified` comes last, so it wins over the other fields.
    pub writes: Vec<CgroupWrite>,
    /// Fields that are set but have no meaning in cgroup version 2, and without which a container has no more
    /// than it would have with them, or only worse tuning. They are ignored, as runc does, because engines
    /// pass them on from their own users; a warning says so.
    pub ignored: Vec<&'static str>,
    /// `linux.resources.memory.checkBeforeUpdate`: limits in bytes, with their fields, that an update must
    /// refuse if the container uses as much already. Without the check the kernel would kill processes to get
    /// there.
    pub above_usage: Vec<(&'static str, i64)>,
}

impl ResourcePlan {
    /// Converts all of `linux.resources` but the devices. `pids_limit` is `linux.resources.pids.limit`, which
    /// `oci_spec` cannot hold: it does not tell an absent limit from 0.
    ///
    /// # Errors
    /// A value out of its range, or a contradiction between two (such as a swap limit below the memory
    /// limit).
    pub fn new(resources: &LinuxResources, pids_limit: Option<i64>) -> Result<Self> {
        let mut plan = Self::default();
        plan.pids(pids_limit);
        if let Some(memory) = resources.memory() {
            plan.memory(memory)?;
        }
        if let Some(block_io) = resources.block_io() {
            plan.block_io(block_io)?;
        }
        if let Some(cpu) = resources.cpu() {
            plan.cpu(cpu)?;
        }
        plan.hugepages(resources.hugepage_limits().as_deref().unwrap_or_default())?;
        if let Some(rdma) = resources.rdma() {
            plan.rdma(rdma)?;
        }
        if let Some(network) = resources.network() {
            let has_priorities = network.priorities().as_ref().is_some_and(|list| !list.is_empty());
            for (field, is_set) in [
                (
                    "linux.resources.network.classID",
                    network.class_id().is_some_and(|id| id != 0),
                ),
                ("linux.resources.network.priorities", has_priorities),
            ] {
                if is_set {
                    let instead =
                        "mark the packets by a filter on the cgroup instead (iptables -m cgroup, eBPF)";
                    return Err(only_in_version_1(field, instead));
                }
            }
        }
        if let Some(unified) = resources.unified() {
            plan.unified(unified)?;
        }
        Ok(plan)
    }

    /// The first write that the container may not go without.
    pub fn first_limit(&self) -> Option<&CgroupWrite> {
        self.writes
            .iter()
            .find(|write| write.if_missing != IfMissing::Skip)
    }

    /// Logs each field that is ignored: engines set some of them whatever the cgroup version is.
    pub fn log_ignored(&self) {
        for field in &self.ignored {
            log::info!("{field}: cgroup version 2 has nothing like it; ignored");
        }
    }

    fn write(&mut self, file: &'static str, value: impl Into<String>, field: &'static str) {
        self.push(file, value.into(), field, IfMissing::Fail);
    }

    fn push(
        &mut self,
        file: impl Into<Cow<'static, str>>,
        value: String,
        field: impl Into<Cow<'static, str>>,
        if_missing: IfMissing,
    ) {
        self.writes.push(CgroupWrite {
            file: file.into(),
            value,
            field: field.into(),
            if_missing,
        });
    }

    fn ignore(&mut self, field: &'static str, is_set: bool) {
        if is_set {
            self.ignored.push(field);
        }
    }

    /// A limit in bytes, where 0 means not set and -1 no limit.
    fn limit(&mut self, file: &'static str, value: i64, field: &'static str) -> Result<()> {
        match value {
            0 => {}
            -1 => self.push(file, "max".to_owned(), field, IfMissing::Skip),
            1.. => self.write(file, value.to_string(), field),
            ..-1 => {
                return Err(Error::invalid(
                    field,
                    format!("{value} is neither a size nor -1 (no limit)"),
                ));
            }
        }
        Ok(())
    }

    fn pids(&mut self, limit: Option<i64>) {
        const FIELD: &str = "linux.resources.pids.limit";
        match limit {
            None => {}
            Some(..0) => self.push("pids.max", "max".to_owned(), FIELD, IfMissing::Skip),
            // 0 means no process at all (runtime-spec 1.3), but then the container's own could not be there.
            // Engines write it for users who want no limit, and expect it to work where there is nothing to
            // limit by.
            Some(0) => self.push("pids.max", "1".to_owned(), FIELD, IfMissing::Skip),
            Some(limit) => self.write("pids.max", limit.to_string(), FIELD),
        }
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        let limit = memory.limit().unwrap_or(0);
        match swap_beside_memory(memory.swap().unwrap_or(0), limit)? {
            None => {}
            // Without swap support in the kernel there is no such file, and no swap to limit.
            Some(value) if value == "max" || value == "0" => {
                self.push("memory.swap.max", value, SWAP_FIELD, IfMissing::Skip);
            }
            Some(value) => self.write("memory.swap.max", value, SWAP_FIELD),
        }
        self.limit("memory.max", limit, "linux.resources.memory.limit")?;
        let reservation = memory.reservation().unwrap_or(0);
        self.limit("memory.low", reservation, "linux.resources.memory.reservation")?;
        if memory.check_before_update() == Some(true) {
            let limits = [
                (SWAP_FIELD, memory.swap()),
                ("linux.resources.memory.limit", memory.limit()),
            ];
            let given = limits
                .into_iter()
                .filter_map(|(field, limit)| Some((field, limit?)));
            self.above_usage.extend(given.filter(|(_, limit)| *limit > 0));
        }
        self.ignore(
            "linux.resources.memory.kernel",
            memory.kernel().is_some_and(|limit| limit != 0),
        );
        self.ignore(
            "linux.resources.memory.kernelTCP",
            memory.kernel_tcp().is_some_and(|limit| limit != 0),
        );
        self.ignore("linux.resources.memory.swappiness", memory.swappiness().is_some());
        self.ignore(
            "linux.resources.memory.disableOOMKiller",
            memory.disable_oom_killer() == Some(true),
        );
        self.ignore(
            "linux.resources.memory.useHierarchy",
            memory.use_hierarchy() == Some(false),
        );
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        const IDLE: &str = "linux.resources.cpu.idle";
        if let Some(idle) = cpu.idle() {
            if !matches!(idle, 0 | 1) {
                return Err(Error::invalid(IDLE, format!("{idle} is neither 0 nor 1")));
            }
            let if_missing = if idle == 0 {
                IfMissing::Skip
            } else {
                IfMissing::Fail
            };
            self.push("cpu.idle", idle.to_string(), IDLE, if_missing);
        }
        const SHARES: &str = "linux.resources.cpu.shares";
        if let Some(weight) = shares_to_weight(cpu.shares().unwrap_or(0)) {
            if cpu.idle() == Some(1) {
                return Err(Error::invalid(SHARES, IDLE_HAS_NO_WEIGHT).with_hint("leave it out"));
            }
            self.write("cpu.weight", weight.to_string(), SHARES);
        }
        // Before the quota: a lower quota is refused while the burst is above it. The other way round the
        // burst is refused, and written again after the quota.
        if let Some(burst) = cpu.burst() {
            let if_missing = if burst == 0 {
                IfMissing::Skip
            } else {
                IfMissing::Fail
            };
            self.push(
                "cpu.max.burst",
                burst.to_string(),
                "linux.resources.cpu.burst",
                if_missing,
            );
        }
        self.cpu_quota(cpu);
        if let Some(cpus) = cpu.cpus().as_ref().filter(|list| !list.is_empty()) {
            self.write("cpuset.cpus", cpus.as_str(), "linux.resources.cpu.cpus");
        }
        if let Some(mems) = cpu.mems().as_ref().filter(|list| !list.is_empty()) {
            self.write("cpuset.mems", mems.as_str(), "linux.resources.cpu.mems");
        }
        if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) {
            return Err(only_in_version_1(
                "linux.resources.cpu.realtimeRuntime",
                "realtime processes cannot be limited; leave the field out",
            ));
        }
        self.ignore(
            "linux.resources.cpu.realtimePeriod",
            cpu.realtime_period().is_some_and(|period| period != 0),
        );
        Ok(())
    }

    fn cpu_quota(&mut self, cpu: &LinuxCpu) {
        let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
        if quota != 0 || period != 0 {
            let period = if period == 0 { 100_000 } else { period };
            match quota {
                1.. => self.write(
                    "cpu.max",
                    format!("{quota} {period}"),
                    "linux.resources.cpu.quota",
                ),
                _ => self.push(
                    "cpu.max",
                    format!("max {period}"),
                    "linux.resources.cpu.quota",
                    IfMissing::Skip,
                ),
            }
        }
    }

    fn block_io(&mut self, block_io: &LinuxBlockIo) -> Result<()> {
        let weight = block_io.weight().unwrap_or(0);
        if weight != 0 {
            const FIELD: &str = "linux.resources.blockIO.weight";
            let instead = IfMissing::Write("io.weight", default_io_weight(weight, FIELD)?.to_string());
            self.push("io.bfq.weight", weight.to_string(), FIELD, instead);
        }
        self.ignore(
            "linux.resources.blockIO.leafWeight",
            block_io.leaf_weight().is_some_and(|weight| weight != 0),
        );
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.weightDevice[{index}]");
            let number = device_number(&field, device.major(), device.minor())?;
            let leaf_weight = device.leaf_weight().is_some_and(|weight| weight != 0);
            self.ignore("linux.resources.blockIO.weightDevice.leafWeight", leaf_weight);
            let weight = device.weight().unwrap_or(0);
            if weight != 0 {
                let converted = default_io_weight(weight, &field)?;
                let instead = IfMissing::Write("io.weight", format!("{number} {converted}"));
                self.push("io.bfq.weight", format!("{number} {weight}"), field, instead);
            }
        }
        self.throttle(
            "throttleReadBpsDevice",
            "rbps",
            block_io.throttle_read_bps_device(),
        )?;
        self.throttle(
            "throttleWriteBpsDevice",
            "wbps",
            block_io.throttle_write_bps_device(),
        )?;
        self.throttle(
            "throttleReadIOPSDevice",
            "riops",
            block_io.throttle_read_iops_device(),
        )?;
        self.throttle(
            "throttleWriteIOPSDevice",
            "wiops",
            block_io.throttle_write_iops_device(),
        )
    }

    fn throttle(&mut self, name: &str, key: &str, devices: &Option<Vec<LinuxThrottleDevice>>) -> Result<()> {
        for (index, device) in devices.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{name}[{index}]");
            let number = device_number(&field, device.major(), device.minor())?;
            // Version 1 lifted a limit by 0; version 2 refuses 0.
            match device.rate() {
                0 => self.push("io.max", format!("{number} {key}=max"), field, IfMissing::Skip),
                rate => self.push("io.max", format!("{number} {key}={rate}"), field, IfMissing::Fail),
            }
        }
        Ok(())
    }

    fn hugepages(&mut self, limits: &[LinuxHugepageLimit]) -> Result<()> {
        for (index, limit) in limits.iter().enumerate() {
            let field = format!("linux.resources.hugepageLimits[{index}]");
            let size = limit.page_size();
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                let message = format!("{size:?} is not a page size such as 2MB or 1GB");
                return Err(Error::invalid(format!("{field}.pageSize"), message));
            }
            if limit.limit() < 0 {
                return Err(Error::invalid(
                    format!("{field}.limit"),
                    format!("{} is negative", limit.limit()),
                ));
            }
            let value = limit.limit().to_string();
            self.push(
                format!("hugetlb.{size}.max"),
                value.clone(),
                field.clone(),
                IfMissing::Fail,
            );
            // Pages that are reserved but not yet touched count separately, since kernel 5.7 and only if
            // compiled in.
            self.push(format!("hugetlb.{size}.rsvd.max"), value, field, IfMissing::Skip);
        }
        Ok(())
    }

    fn rdma(&mut self, devices: &HashMap<String, LinuxRdma>) -> Result<()> {
        let mut names: Vec<&String> = devices.keys().collect();
        names.sort();
        for name in names {
            let field = format!("linux.resources.rdma[{name:?}]");
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(Error::invalid(field, "not the name of a device"));
            }
            let mut value = name.clone();
            if let Some(handles) = devices[name].hca_handles() {
                value += &format!(" hca_handle={handles}");
            }
            if let Some(objects) = devices[name].hca_objects() {
                value += &format!(" hca_object={objects}");
            }
            if value != *name {
                self.push("rdma.max", value, field, IfMissing::Fail);
            }
        }
        Ok(())
    }

    fn unified(&mut self, files: &HashMap<String, String>) -> Result<()> {
        let mut names: Vec<&String> = files.keys().collect();
        names.sort(); // config.json has no order here; a fixed one makes failures repeatable
        for name in names {
            let field = format!("linux.resources.unified[{name:?}]");
            if name.contains(['/', '\0']) {
                let message = format!("unified resource {name:?} must be a file name (no slashes)");
                return Err(Error::invalid(field, message));
            }
            if !name
                .split_once('.')
                .is_some_and(|(controller, file)| !controller.is_empty() && !file.is_empty())
            {
                let message = format!("unified resource {name:?} must be in the form CONTROLLER.PARAMETER");
                return Err(Error::invalid(field, message));
            }
            if FILES_OF_THE_RUNTIME.contains(&name.as_str()) {
                // Frozen before it has begun, for one, `create` would wait for ever.
                let message = format!("unable to set unified resource {name:?}: it is the runtime's own");
                return Err(Error::invalid(field, message));
            }
            self.push(name.clone(), files[name].clone(), field, IfMissing::Fail);
        }
        Ok(())
    }
}

/// The kernel fixes the weight of an idle group and refuses another. The beginning is runc's.
pub(crate) const IDLE_HAS_NO_WEIGHT: &str =
    "unable to apply both cpu.weight and cpu.idle: an idle group has no weight of its own";

const SWAP_FIELD: &str = "linux.resources.memory.swap";

/// Files of the cgroup itself through which the runtime places, stops and ends the processes.
const FILES_OF_THE_RUNTIME: [&str; 4] = ["cgroup.freeze", "cgroup.kill", "cgroup.procs", "cgroup.threads"];

/// A limit that version 2 has no counterpart for, and that a container must not go without unnoticed.
fn only_in_version_1(field: &'static str, instead: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, "cgroup version 2 has no such limit")
        .with_field(field)
        .with_hint(instead)
}

/// `memory.swap` of config.json limits memory and swap together, `memory.swap.max` swap alone.
fn swap_beside_memory(swap: i64, memory: i64) -> Result<Option<String>> {
    match (swap, memory) {
        (-1, _) | (0, -1) => Ok(Some("max".to_owned())),
        (0, _) => Ok(None),
        // Nothing to take off.
        (1.., -1) => Ok(Some(swap.to_string())),
        (..-1, _) => Err(Error::invalid(
            SWAP_FIELD,
            format!("{swap} is neither a size nor -1 (no limit)"),
        )),
        (_, ..=0) => Err(Error::invalid(
            SWAP_FIELD,
            "unable to set swap limit without memory limit",
        )),
        (swap, memory) if swap < memory => Err(Error::invalid(
            SWAP_FIELD,
            "memory+swap limit must not be below the memory limit",
        )),
        (swap, memory) => Ok(Some((swap - memory).to_string())),
    }
}

/// `cpu.shares` (2 to 262144, usually 1024) to `cpu.weight` (1 to 10000, usually 100). A curve through those
/// three points, quadratic in the logarithms, so that the usual stays the usual; all runtimes use the same
/// since 2025.
fn shares_to_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let logarithm = (shares as f64).log2();
            let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
            Some(10_f64.powf(exponent).ceil() as u64)
        }
    }
}

/// A weight of the BFQ scheduler (10 to 1000, the range of version 1) to one of `io.weight` (1 to 10000),
/// linearly.
fn default_io_weight(weight: u16, field: &str) -> Result<u32> {
    let weight = u32::from(weight);
    if !(10..=1000).contains(&weight) {
        return Err(Error::invalid(
            field.to_owned(),
            format!("weight {weight} is not between 10 and 1000"),
        ));
    }
    Ok(1 + (weight - 10) * 9999 / 990)
}

fn device_number(field: &str, major: i64, minor: i64) -> Result<String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => Err(Error::invalid(
            field.to_owned(),
            format!("{major}:{minor} is not a device number"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(resources: Value) -> Result<ResourcePlan> {
        // The limit goes its own way, as from `spec/lenient.rs`.
        let pids_limit = resources["pids"]["limit"].as_i64();
        ResourcePlan::new(&serde_json::from_value(resources).unwrap(), pids_limit)
    }

    /// Each write as `file=value`, with `?` in front if the file may be missing.
    fn writes(resources: Value) -> Vec<String> {
        let show = |write: &CgroupWrite| match &write.if_missing {
            IfMissing::Fail => format!("{}={}", write.file, write.value),
            IfMissing::Skip => format!("?{}={}", write.file, write.value),
            IfMissing::Write(file, value) => format!("{}={} or {file}={value}", write.file, write.value),
        };
        plan(resources).unwrap().writes.iter().map(show).collect()
    }

    fn refusal(resources: Value) -> String {
        let error = plan(resources).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    }

    #[test]
    fn shares_follow_the_quadratic_curve() {
        for (shares, weight) in [
            (1, 1),
            (2, 1),
            (102, 17),
            (256, 35),
            (512, 59),
            (1000, 99),
            (1024, 100),
            (2000, 170),
            (2048, 174),
            (4096, 303),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(shares_to_weight(shares), Some(weight), "{shares} shares");
        }
        assert_eq!(shares_to_weight(0), None);
    }

    #[test]
    fn memory_and_swap() {
        for (memory, expected) in [
            (json!({}), &[][..]),
            (json!({"limit": 0, "swap": 0, "reservation": 0}), &[]),
            (
                json!({"limit": 1000, "swap": 1500}),
                &["memory.swap.max=500", "memory.max=1000"],
            ),
            (
                json!({"limit": 1000, "swap": 1000}),
                &["?memory.swap.max=0", "memory.max=1000"],
            ),
            (json!({"limit": 1000}), &["memory.max=1000"]),
            (
                json!({"limit": 1000, "swap": -1}),
                &["?memory.swap.max=max", "memory.max=1000"],
            ),
            (json!({"limit": -1}), &["?memory.swap.max=max", "?memory.max=max"]),
            (
                json!({"limit": -1, "swap": -1}),
                &["?memory.swap.max=max", "?memory.max=max"],
            ),
            (
                json!({"limit": -1, "swap": 1000}),
                &["memory.swap.max=1000", "?memory.max=max"],
            ),
            (json!({"reservation": 77}), &["memory.low=77"]),
            (json!({"reservation": -1}), &["?memory.low=max"]),
        ] {
            assert_eq!(writes(json!({"memory": memory})), expected, "{memory}");
        }
        for (memory, text) in [
            (
                json!({"swap": 5}),
                "linux.resources.memory.swap: unable to set swap limit without memory limit",
            ),
            (
                json!({"swap": 5, "limit": 0}),
                "linux.resources.memory.swap: unable to set swap limit without",
            ),
            (
                json!({"swap": 5, "limit": 6}),
                "linux.resources.memory.swap: memory+swap limit must not be below",
            ),
            (
                json!({"swap": -2, "limit": 6}),
                "linux.resources.memory.swap: -2 is neither",
            ),
            (
                json!({"limit": -7}),
                "linux.resources.memory.limit: -7 is neither",
            ),
        ] {
            assert!(refusal(json!({"memory": memory})).starts_with(text), "{memory}");
        }
    }

    #[test]
    fn cpu_and_cpuset() {
        for (cpu, expected) in [
            (
                json!({"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}),
                &[][..],
            ),
            (json!({"shares": 1024}), &["cpu.weight=100"]),
            (json!({"quota": 50000}), &["cpu.max=50000 100000"]),
            (json!({"quota": 50000, "period": 20000}), &["cpu.max=50000 20000"]),
            (json!({"quota": -1}), &["?cpu.max=max 100000"]),
            (json!({"period": 20000}), &["?cpu.max=max 20000"]),
            (
                json!({"quota": 9, "burst": 5}),
                &["cpu.max.burst=5", "cpu.max=9 100000"],
            ),
            (json!({"burst": 0}), &["?cpu.max.burst=0"]),
            (json!({"idle": 1, "shares": 0}), &["cpu.idle=1"]),
            (
                json!({"idle": 0, "shares": 512}),
                &["?cpu.idle=0", "cpu.weight=59"],
            ),
            (
                json!({"cpus": "0-1,3", "mems": "0"}),
                &["cpuset.cpus=0-1,3", "cpuset.mems=0"],
            ),
        ] {
            assert_eq!(writes(json!({"cpu": cpu})), expected, "{cpu}");
        }
        assert!(refusal(json!({"cpu": {"idle": 2}})).contains("neither 0 nor 1"));
        assert_eq!(
            refusal(json!({"cpu": {"idle": 1, "shares": 512}})),
            "linux.resources.cpu.shares: unable to apply both cpu.weight and cpu.idle: an idle group has no weight of its \
             own (leave it out)"
        );
    }

    #[test]
    fn pids_limit_tells_zero_from_absent() {
        assert_eq!(writes(json!({"pids": {}})), Vec::<String>::new());
        assert_eq!(writes(json!({"pids": {"limit": 0}})), ["?pids.max=1"]);
        assert_eq!(writes(json!({"pids": {"limit": 64}})), ["pids.max=64"]);
        assert_eq!(writes(json!({"pids": {"limit": -1}})), ["?pids.max=max"]);
    }

    #[test]
    fn block_io_weights_and_throttles() {
        assert_eq!(
            writes(json!({"blockIO": {
                "weight": 500,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}, {"major": 8, "minor": 16}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 0}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 8}],
            }})),
            [
                "io.bfq.weight=500 or io.weight=4950",
                "io.bfq.weight=8:0 1000 or io.weight=8:0 10000",
                "io.max=8:0 rbps=600",
                "?io.max=8:0 wbps=max",
                "io.max=8:16 riops=7",
                "io.max=8:16 wiops=8",
            ]
        );
        assert_eq!(default_io_weight(10, "").unwrap(), 1);
        assert_eq!(writes(json!({"blockIO": {"weight": 0}})), Vec::<String>::new());
        assert!(refusal(json!({"blockIO": {"weight": 9}})).contains("not between 10 and 1000"));
        let negative = json!({"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}});
        assert!(refusal(negative).starts_with("linux.resources.blockIO.throttleReadBpsDevice[0]: -1:0"));
    }

    #[test]
    fn hugepages_rdma_and_what_version_2_does_not_know() {
        assert_eq!(
            writes(json!({
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
                "rdma": {"b1": {"hcaHandles": 2, "hcaObjects": 2000}, "a0": {"hcaObjects": 5}, "c": {}},
            })),
            [
                "hugetlb.2MB.max=4194304",
                "?hugetlb.2MB.rsvd.max=4194304",
                "rdma.max=a0 hca_object=5",
                "rdma.max=b1 hca_handle=2 hca_object=2000",
            ]
        );
        let bad = json!({"hugepageLimits": [{"pageSize": "../../2MB", "limit": 1}]});
        assert!(refusal(bad).starts_with("linux.resources.hugepageLimits[0].pageSize: "));
        assert!(refusal(json!({"rdma": {"a b": {"hcaHandles": 1}}})).contains("not the name of a device"));
        let ignored = plan(json!({
            "network": {"classID": 0, "priorities": []},
            "memory": {"kernel": 5, "kernelTCP": 5, "swappiness": 0, "disableOOMKiller": true, "useHierarchy": false},
            "cpu": {"realtimeRuntime": 0, "realtimePeriod": 5},
            "blockIO": {"leafWeight": 10},
        }))
        .unwrap();
        assert!(ignored.writes.is_empty());
        let names: Vec<&str> = ignored
            .ignored
            .iter()
            .filter_map(|name| name.rsplit('.').next())
            .collect();
        assert_eq!(
            names,
            [
                "kernel",
                "kernelTCP",
                "swappiness",
                "disableOOMKiller",
                "useHierarchy",
                "leafWeight",
                "realtimePeriod",
            ]
        );
    }

    #[test]
    fn a_limit_of_version_1_alone_is_refused() {
        for (resources, field) in [
            (json!({"network": {"classID": 1_048_577}}), "network.classID"),
            (
                json!({"network": {"priorities": [{"name": "eth0", "priority": 5}]}}),
                "network.priorities",
            ),
            (json!({"cpu": {"realtimeRuntime": 5}}), "cpu.realtimeRuntime"),
        ] {
            let error = plan(resources).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_eq!(error.field(), Some(&*format!("linux.resources.{field}")));
        }
    }

    #[test]
    fn the_greatest_numbers_do_not_overflow() {
        let most = u64::MAX;
        assert_eq!(
            writes(json!({
                "memory": {"limit": i64::MAX, "swap": i64::MAX, "reservation": i64::MAX},
                "cpu": {"shares": most, "quota": i64::MAX, "period": most, "burst": most},
                "pids": {"limit": i64::MAX},
                "blockIO": {"weight": 1000, "throttleReadBpsDevice": [{"major": 4095, "minor": 1_048_575, "rate": most}]},
                "hugepageLimits": [{"pageSize": "1GB", "limit": i64::MAX}],
                "rdma": {"a": {"hcaHandles": u32::MAX, "hcaObjects": u32::MAX}},
            })),
            [
                "pids.max=9223372036854775807",
                "?memory.swap.max=0",
                "memory.max=9223372036854775807",
                "memory.low=9223372036854775807",
                "io.bfq.weight=1000 or io.weight=10000",
                "io.max=4095:1048575 rbps=18446744073709551615",
                "cpu.weight=10000",
                "cpu.max.burst=18446744073709551615",
                "cpu.max=9223372036854775807 18446744073709551615",
                "hugetlb.1GB.max=9223372036854775807",
                "?hugetlb.1GB.rsvd.max=9223372036854775807",
                "rdma.max=a hca_handle=4294967295 hca_object=4294967295",
            ]
        );
    }

    #[test]
    fn unified_comes_last_and_names_files_only() {
        assert_eq!(
            writes(json!({
                "unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2", "cgroup.max.depth": "3"},
                "memory": {"limit": 9},
            })),
            [
                "memory.max=9",
                "cgroup.max.depth=3",
                "io.max=8:0 rbps=1\n8:16 rbps=2",
                "memory.high=5"
            ]
        );
        let slash = refusal(json!({"unified": {"../memory.max": "5"}}));
        assert!(
            slash.ends_with("unified resource \"../memory.max\" must be a file name (no slashes)"),
            "{slash}"
        );
        assert!(refusal(json!({"unified": {"cgroup.freeze": "1"}})).contains("the runtime's own"));
        for bad in ["memory", ".", "..", "", "memory.", ".max"] {
            assert!(
                refusal(json!({"unified": {bad: "5"}})).contains("CONTROLLER.PARAMETER"),
                "{bad:?}"
            );
        }
    }
}

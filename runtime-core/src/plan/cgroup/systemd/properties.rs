//! Runs in: RUNTIME. Pure: the properties that a unit gets. The limits are those that are written into the
//! cgroup's files anyway: systemd has to know them too, since it writes its own idea of them again at every
//! `daemon-reload`.

use std::borrow::Cow;

use zbus::wire::Variant;

use crate::plan::cgroup::{CgroupWrite, IfMissing};
use crate::spec;

/// The kernel's io.weight of a cgroup, where nothing else is said.
const USUAL_WEIGHT: u64 = 100;

/// The kernel's and systemd's period of cpu.max, in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// systemd's "no limit".
const INFINITY: u64 = u64::MAX;

/// The highest processor or memory node that is passed on; the kernel has far fewer. A list from config.json
/// may name any number, and the mask grows with it.
const HIGHEST_BIT: u32 = 8191;

/// One property of a unit.
#[derive(Debug, PartialEq)]
pub(crate) struct Property {
    /// Its name on systemd's D-Bus interface.
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Variant<'static>,
    /// The field of config.json that asks for it.
    pub(crate) field: Option<Cow<'static, str>>,
    /// Whether an older systemd may do without: the cgroup's files hold the same.
    pub(crate) is_optional: bool,
}

impl Clone for Property {
    fn clone(&self) -> Self {
        // Only file descriptors cannot always be copied, and no value of ours holds one.
        let value = self.value.try_clone().unwrap_or(Variant::Bool(false));
        Self {
            name: self.name.clone(),
            value,
            field: self.field.clone(),
            is_optional: self.is_optional,
        }
    }
}

impl Property {
    /// One that the runtime needs.
    pub(crate) fn needed(name: &'static str, value: impl Into<Variant<'static>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            field: None,
            is_optional: false,
        }
    }

    /// One that an annotation asks for.
    pub(crate) fn asked(name: String, value: Variant<'static>, field: String) -> Self {
        Self {
            name: name.into(),
            value,
            field: Some(field.into()),
            is_optional: false,
        }
    }

    /// One that only makes things better.
    pub(crate) fn optional(name: &'static str, value: impl Into<Variant<'static>>) -> Self {
        Self {
            is_optional: true,
            ..Self::needed(name, value)
        }
    }

    fn limit(name: &'static str, value: impl Into<Variant<'static>>, field: &str) -> Self {
        Self {
            field: Some(field.to_owned().into()),
            ..Self::optional(name, value)
        }
    }
}

/// When properties are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In making the unit.
    Start,
    /// On a unit that runs: some can no longer be changed.
    Update,
    /// On a unit that runs, to what its files held before: also the absence of a limit is said.
    Restore,
}

/// The properties that say the same as `writes`, later ones winning over earlier ones, as in the files. What
/// systemd has no word for (huge pages, rdma, bursts, …) it does not touch either; what is no value is left
/// to the kernel to refuse.
pub(crate) fn of_limits(writes: &[CgroupWrite], moment: Moment) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    let of_write = |write: &CgroupWrite| match moment {
        Moment::Restore => absence(write).map_or_else(|| of_write(write), |property| vec![property]),
        Moment::Start | Moment::Update => of_write(write),
    };
    for property in writes.iter().flat_map(of_write) {
        if moment != Moment::Start && property.name == "OOMPolicy" {
            continue;
        }
        match properties
            .iter_mut()
            .find(|earlier| earlier.name == property.name)
        {
            Some(earlier) => *earlier = join(earlier, property),
            None => properties.push(property),
        }
    }
    properties
}

/// A list by devices grows; anything else is replaced.
fn join(earlier: &Property, later: Property) -> Property {
    let (Variant::Array(old), Variant::Array(new)) = (&earlier.value, &later.value) else {
        return later;
    };
    if !later.name.starts_with("IO") {
        return later;
    }
    let list: Option<Vec<(String, u64)>> = old.inner().iter().chain(new.inner()).map(device_entry).collect();
    match list {
        Some(list) => Property {
            value: list.into(),
            ..later
        },
        None => later,
    }
}

fn device_entry(value: &Variant<'_>) -> Option<(String, u64)> {
    let Variant::Structure(entry) = value else {
        return None;
    };
    match entry.fields() {
        [Variant::Str(path), Variant::U64(number)] => Some((path.to_string(), *number)),
        _ => None,
    }
}

/// The property that says that there is no limit, if the file's text is that: no config.json says so.
fn absence(write: &CgroupWrite) -> Option<Property> {
    let nothing: Vec<u8> = Vec::new();
    match (&*write.file, write.value.trim()) {
        ("cpuset.cpus", "") => Some(Property::limit("AllowedCPUs", nothing, &write.field)),
        ("cpuset.mems", "") => Some(Property::limit("AllowedMemoryNodes", nothing, &write.field)),
        // systemd can take back only all of a unit's; the kernel's default is the same for the device.
        ("io.weight", text) => {
            let path = device_path(text.strip_suffix(" default")?)?;
            Some(Property::limit(
                "IODeviceWeight",
                vec![(path, USUAL_WEIGHT)],
                &write.field,
            ))
        }
        _ => None,
    }
}

fn of_write(write: &CgroupWrite) -> Vec<Property> {
    let value = write.value.trim();
    let number = |name: &'static str, value: Option<u64>| {
        value
            .map(|value| Property::limit(name, value, &write.field))
            .into_iter()
            .collect()
    };
    match &*write.file {
        "memory.max" => number("MemoryMax", size(value)),
        "memory.high" => number("MemoryHigh", size(value)),
        "memory.low" => number("MemoryLow", size(value)),
        "memory.min" => number("MemoryMin", size(value)),
        "memory.swap.max" => number("MemorySwapMax", size(value)),
        "memory.zswap.max" => number("MemoryZSwapMax", size(value)),
        "memory.zswap.writeback" => match value {
            "0" | "1" => vec![Property::limit(
                "MemoryZSwapWriteback",
                value == "1",
                &write.field,
            )],
            _ => Vec::new(),
        },
        "pids.max" => number("TasksMax", size(value)),
        "cpu.weight" => number("CPUWeight", value.parse().ok()),
        // Since systemd 252 the weight 0 stands for an idle group.
        "cpu.idle" if value == "1" => number("CPUWeight", Some(0)),
        "cpu.max" => quota(value, &write.field),
        "cpuset.cpus" => mask("AllowedCPUs", value, &write.field),
        "cpuset.mems" => mask("AllowedMemoryNodes", value, &write.field),
        "io.weight" => weight(value, &write.field),
        "io.bfq.weight" => match &write.if_missing {
            IfMissing::Write(_, value) => weight(value, &write.field),
            _ => Vec::new(),
        },
        "io.max" => value
            .lines()
            .flat_map(|line| throttle(line, &write.field))
            .collect(),
        "memory.oom.group" => {
            let policy = if value == "1" { "kill" } else { "continue" };
            vec![Property::limit("OOMPolicy", policy, &write.field)]
        }
        _ => Vec::new(),
    }
}

/// A number of bytes or processes as the kernel reads it: `max`, or a number with K, M, G, T, P or E after
/// it.
fn size(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(INFINITY);
    }
    let unit = text
        .chars()
        .last()
        .and_then(|last| "KMGTPE".find(last.to_ascii_uppercase()));
    let (digits, shift) = match unit {
        Some(place) => (&text[..text.len() - 1], 10 * (place as u32 + 1)),
        None => (text, 0),
    };
    let is_digits = digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = is_digits.then(|| digits.parse().ok()).flatten()?;
    number.checked_mul(1 << shift)
}

/// What systemd has to be told of the files once they are written: a weight that the kernel gave, and one
/// that is counted otherwise because the host has the BFQ scheduler. As writes for [`of_limits`], after the
/// others.
pub(crate) fn seen_in_files(
    writes: &[CgroupWrite],
    read: impl Fn(&str) -> Option<String>,
) -> Vec<CgroupWrite> {
    let told = |write: &CgroupWrite, file: &'static str, value: String| CgroupWrite {
        file: file.into(),
        value,
        field: write.field.clone(),
        if_missing: IfMissing::Skip,
    };
    let seen = |write: &CgroupWrite| match (&*write.file, write.value.trim()) {
        // A group that is no longer idle has the usual weight, or that of a later write.
        ("cpu.idle", "0") | ("cpu.weight.nice", _) => Some(told(write, "cpu.weight", read("cpu.weight")?)),
        ("io.bfq.weight", text) => {
            read("io.bfq.weight")?;
            Some(told(write, "io.weight", by_bfq(text)?))
        }
        _ => None,
    };
    writes.iter().filter_map(seen).collect()
}

/// The text for io.weight of which systemd makes this one for io.bfq.weight: one up to the usual, above it
/// 1000 is 10000.
fn by_bfq(text: &str) -> Option<String> {
    let (device, weight) = match text.rsplit_once(' ') {
        Some((device, weight)) => (format!("{device} "), weight),
        None => (String::new(), text),
    };
    let weight = match weight.parse::<u64>().ok()? {
        weight @ ..=USUAL_WEIGHT => weight,
        weight => USUAL_WEIGHT + (weight.min(1000) - USUAL_WEIGHT) * 11,
    };
    Some(format!("{device}{weight}"))
}

/// The writes as systemd would make them again, at `daemon-reload` or when another property changes. It keeps
/// a quota as whole percents of a second, so what it would write is written at once: unit and file say the
/// same, then and later.
pub(crate) fn as_systemd_writes(writes: &[CgroupWrite]) -> Vec<CgroupWrite> {
    let rounded = |write: &CgroupWrite| match &*write.file {
        "cpu.max" => CpuMax::parse(&write.value).and_then(CpuMax::rounded),
        _ => None,
    };
    let written = |write: &CgroupWrite| CgroupWrite {
        value: rounded(write).unwrap_or_else(|| write.value.clone()),
        ..write.clone()
    };
    writes.iter().map(written).collect()
}

/// `QUOTA PERIOD` of `cpu.max`, either of which may be missing, in microseconds.
#[derive(Debug, Clone, Copy)]
struct CpuMax {
    /// `INFINITY` without one.
    quota: u64,
    period: u64,
}

impl CpuMax {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let quota = words.next().and_then(size)?;
        let period = words
            .next()
            .map_or(Some(USUAL_PERIOD), |word| word.parse().ok())?;
        (period > 0).then_some(Self { quota, period })
    }

    /// In whole percents. systemd would round down, below what the container is to have (1 % is 10 ms a
    /// second).
    fn per_second(self) -> Option<u64> {
        const PERCENT: u64 = 10_000;
        if self.quota == INFINITY {
            return Some(INFINITY);
        }
        let product = self.quota.checked_mul(1_000_000)?;
        let per_second = product.div_ceil(self.period).div_ceil(PERCENT) * PERCENT;
        (per_second > 0).then_some(per_second)
    }

    /// What systemd makes of [`CpuMax::per_second`]; `None` where the kernel is to refuse what it would
    /// refuse from any other driver.
    fn rounded(self) -> Option<String> {
        const MILLISECOND: u64 = 1000;
        const SECOND: u64 = 1_000_000;
        let is_taken = self.quota >= MILLISECOND && (MILLISECOND..=SECOND).contains(&self.period);
        match self.per_second().filter(|_| is_taken)? {
            // Then it forgets the period.
            INFINITY => Some(format!("max {USUAL_PERIOD}")),
            per_second => {
                let quota = per_second.checked_mul(self.period)? / SECOND;
                Some(format!("{quota} {}", self.period))
            }
        }
    }
}

fn quota(text: &str, field: &str) -> Vec<Property> {
    let Some((limit, per_second)) = CpuMax::parse(text).and_then(|limit| Some((limit, limit.per_second()?)))
    else {
        return Vec::new();
    };
    vec![
        Property::limit("CPUQuotaPeriodUSec", limit.period, field),
        Property::limit("CPUQuotaPerSecUSec", per_second, field),
    ]
}

/// Bit n of byte m stands for number 8m + n.
fn mask(name: &'static str, list: &str, field: &str) -> Vec<Property> {
    let Some(ranges) = spec::parse_ranges(list) else {
        return Vec::new();
    };
    let Some(highest) = ranges
        .iter()
        .map(|range| *range.end())
        .max()
        .filter(|highest| *highest <= HIGHEST_BIT)
    else {
        return Vec::new();
    };
    let mut bytes = vec![0u8; highest as usize / 8 + 1];
    for number in ranges.into_iter().flatten() {
        bytes[number as usize / 8] |= 1 << (number % 8);
    }
    vec![Property::limit(name, bytes, field)]
}

/// `default W`, `W`, or `MAJOR:MINOR W`.
fn weight(text: &str, field: &str) -> Vec<Property> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (device, weight) = match words[..] {
        [weight] | ["default", weight] => (None, weight),
        [device, weight] => (Some(device), weight),
        _ => return Vec::new(),
    };
    let Ok(weight) = weight.parse::<u64>() else {
        return Vec::new();
    };
    match device {
        None => vec![Property::limit("IOWeight", weight, field)],
        Some(device) => device_path(device)
            .map(|path| Property::limit("IODeviceWeight", vec![(path, weight)], field))
            .into_iter()
            .collect(),
    }
}

/// `MAJOR:MINOR KEY=VALUE …` of `io.max`.
fn throttle(line: &str, field: &str) -> Vec<Property> {
    let mut words = line.split_whitespace();
    let Some(path) = words.next().and_then(device_path) else {
        return Vec::new();
    };
    let property = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => return None,
        };
        Some(Property::limit(name, vec![(path.clone(), size(value)?)], field))
    };
    words.filter_map(property).collect()
}

/// systemd takes devices by the path of a node.
fn device_path(number: &str) -> Option<String> {
    let (major, minor) = number.split_once(':')?;
    let numbers: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some(format!("/dev/block/{}:{}", numbers.0, numbers.1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::runtime::LinuxResources;

    use super::*;
    use crate::plan::cgroup::ResourcePlan;

    fn limits(json: &str) -> Vec<Property> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        of_limits(
            &ResourcePlan::new(&resources, Some(7)).unwrap().writes,
            Moment::Start,
        )
    }

    fn shown(properties: &[Property]) -> HashMap<&str, String> {
        let text = |property: &Property| property.value.to_string();
        properties
            .iter()
            .map(|property| (&*property.name, text(property)))
            .collect()
    }

    #[test]
    fn every_limit_that_systemd_knows_becomes_a_property() {
        let properties = limits(
            r#"{"memory":{"limit":1000000,"reservation":500000,"swap":3000000},
                "cpu":{"shares":1024,"quota":12345,"period":50000,"cpus":"0-3,9","mems":"0"},
                "blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":100}],
                  "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576},{"major":8,"minor":16,"rate":5}],
                  "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":10}]}}"#,
        );
        let expected = [
            ("TasksMax", "uint64 7"),
            ("MemoryMax", "uint64 1000000"),
            ("MemoryLow", "uint64 500000"),
            ("MemorySwapMax", "uint64 2000000"),
            ("CPUWeight", "uint64 100"),
            ("CPUQuotaPeriodUSec", "uint64 50000"),
            ("CPUQuotaPerSecUSec", "uint64 250000"),
            ("AllowedCPUs", "[byte 0x0f, 0x02]"),
            ("AllowedMemoryNodes", "[byte 0x01]"),
            ("IOWeight", "uint64 4950"),
            ("IODeviceWeight", "[(\"/dev/block/8:0\", uint64 910)]"),
            (
                "IOReadBandwidthMax",
                "[(\"/dev/block/8:0\", uint64 1048576), (\"/dev/block/8:16\", 5)]",
            ),
            ("IOWriteIOPSMax", "[(\"/dev/block/8:0\", uint64 10)]"),
        ];
        let shown = shown(&properties);
        for (name, value) in expected {
            assert_eq!(shown.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(shown.len(), expected.len(), "{shown:?}");
        assert!(
            properties
                .iter()
                .all(|property| property.is_optional && property.field.is_some())
        );
    }

    #[test]
    fn unified_wins_and_unlimited_is_infinity() {
        let properties = limits(
            r#"{"memory":{"limit":5},"cpu":{"quota":-1},
                "unified":{"memory.max":"max","memory.high":"64M","memory.zswap.max":"4M","memory.zswap.writeback":"0","memory.oom.group":"1","cpu.weight":"300",
                           "hugetlb.2MB.max":"0","memory.min":"ten"}}"#,
        );
        let shown = shown(&properties);
        let infinity = format!("uint64 {}", u64::MAX);
        assert_eq!(shown["MemoryMax"], infinity);
        assert_eq!(shown["CPUQuotaPerSecUSec"], infinity);
        assert_eq!(shown["MemoryHigh"], format!("uint64 {}", 64 << 20));
        assert_eq!(shown["MemoryZSwapMax"], format!("uint64 {}", 4 << 20));
        assert_eq!(shown["MemoryZSwapWriteback"], "false");
        assert_eq!(shown["CPUWeight"], "uint64 300");
        assert_eq!(shown["OOMPolicy"], "\"kill\"");
        assert!(!shown.contains_key("MemoryMin"));
    }

    #[test]
    fn quotas_are_rounded_up_to_whole_percents() {
        for (text, per_second) in [
            ("12345 100000", 130_000),
            ("20000 100000", 200_000),
            ("20001 100000", 210_000),
            ("1 1000000", 10_000),
            ("200000", 2_000_000),
        ] {
            let properties = quota(text, "f");
            assert_eq!(properties[1].value, Variant::U64(per_second), "{text}");
        }
        for bad in ["", "x", "1 0", "1 x", "18446744073709551614 1"] {
            assert_eq!(quota(bad, "f"), [], "{bad}");
        }
    }

    fn write(file: &'static str, value: &str) -> CgroupWrite {
        CgroupWrite {
            file: file.into(),
            value: value.to_owned(),
            field: "f".into(),
            if_missing: IfMissing::Fail,
        }
    }

    #[test]
    fn the_file_gets_the_quota_that_systemd_will_write() {
        for (asked, written) in [
            ("500000 900000", "504000 900000"),
            ("12345 50000", "12500 50000"),
            ("20000 100000", "20000 100000"),
            ("20000", "20000 100000"),
            ("1000 1000000", "10000 1000000"),
            ("1000 1000", "1000 1000"),
            ("186666 333333", "186666 333333"),
            ("max", "max 100000"),
            ("max 50000", "max 100000"),
            // For the kernel to refuse.
            ("999 100000", "999 100000"),
            ("5000 999", "5000 999"),
            ("max 2000000", "max 2000000"),
            ("nonsense", "nonsense"),
        ] {
            let writes = as_systemd_writes(&[write("pids.max", "7"), write("cpu.max", asked)]);
            assert_eq!(writes[0], write("pids.max", "7"));
            assert_eq!(writes[1], write("cpu.max", written), "{asked}");
        }
    }

    #[test]
    fn what_the_kernel_has_decided_is_told_to_systemd() {
        let files = |name: &str| match name {
            "cpu.weight" => Some("33".to_owned()),
            "io.bfq.weight" => Some("default 500".to_owned()),
            _ => None,
        };
        let seen = |file: &'static str, value: &str| seen_in_files(&[write(file, value)], files);
        let told = |file: &'static str, value: &str| CgroupWrite {
            if_missing: IfMissing::Skip,
            ..write(file, value)
        };
        assert_eq!(seen("cpu.idle", "0"), [told("cpu.weight", "33")]);
        assert_eq!(seen("cpu.weight.nice", "5"), [told("cpu.weight", "33")]);
        assert_eq!(seen("cpu.idle", "1"), []);
        assert_eq!(seen("io.bfq.weight", "10"), [told("io.weight", "10")]);
        assert_eq!(seen("io.bfq.weight", "500"), [told("io.weight", "4500")]);
        assert_eq!(
            seen("io.bfq.weight", "8:0 1000"),
            [told("io.weight", "8:0 10000")]
        );
        assert_eq!(seen_in_files(&[write("io.bfq.weight", "500")], |_| None), []);
    }

    #[test]
    fn masks_have_a_bit_for_each_number() {
        let bytes = |list| {
            mask("AllowedCPUs", list, "f")
                .first()
                .map(|property| property.value.to_string())
        };
        assert_eq!(bytes("0"), Some("[byte 0x01]".into()));
        assert_eq!(bytes("7-8"), Some("[byte 0x80, 0x01]".into()));
        assert_eq!(bytes("16"), Some("[byte 0x00, 0x00, 0x01]".into()));
        for bad in ["", "4294967295", "0-8192", "a", "3-1"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_kernel() {
        for (text, value) in [
            ("0", Some(0)),
            ("4K", Some(4096)),
            ("2g", Some(2 << 30)),
            ("max", Some(u64::MAX)),
            ("", None),
            ("K", None),
            ("-1", None),
            ("99999999999E", None),
            ("1€", None),
        ] {
            assert_eq!(size(text), value, "{text}");
        }
    }

    #[test]
    fn what_the_files_held_before_is_said_again() {
        let before = [
            write("memory.max", "max\n"),
            write("pids.max", "77\n"),
            write("cpu.max", "max 100000\n"),
            write("cpuset.cpus", "\n"),
            write("io.max", "8:0 rbps=max wbps=5 riops=max wiops=max"),
            write("io.weight", "8:0 default"),
        ];
        let properties = of_limits(&before, Moment::Restore);
        let shown = shown(&properties);
        let infinity = format!("uint64 {}", u64::MAX);
        for (name, value) in [
            ("MemoryMax", &*infinity),
            ("TasksMax", "uint64 77"),
            ("CPUQuotaPerSecUSec", &infinity),
            ("CPUQuotaPeriodUSec", "uint64 100000"),
            ("AllowedCPUs", "@ay []"),
            ("IOWriteBandwidthMax", "[(\"/dev/block/8:0\", uint64 5)]"),
            ("IODeviceWeight", "[(\"/dev/block/8:0\", uint64 100)]"),
        ] {
            assert_eq!(shown.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(of_limits(&[write("cpuset.cpus", "")], Moment::Update).is_empty());
    }

    #[test]
    fn the_oom_policy_cannot_be_changed_later() {
        let write = write("memory.oom.group", "1");
        assert_eq!(of_limits(std::slice::from_ref(&write), Moment::Update), []);
        assert_eq!(of_limits(&[write], Moment::Start).len(), 1);
    }
}

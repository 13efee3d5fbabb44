//! Runs in: RUNTIME. Judges `linux.resources`: what is written into files of the cgroup, or names them.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxRdma,
    LinuxResources, LinuxThrottleDevice,
};

use super::super::lenient::quoted;
use super::each;
use crate::{Error, Result};

/// Judges the limits of a container, from config.json or for `update`. Fails with the name of the first field
/// that is wrong, starting with `linux.resources`. What this host's cgroup has no controller for is found out
/// later.
pub fn validate_resources(resources: &LinuxResources) -> Result<()> {
    for (index, rule) in each(resources.devices()) {
        device_rule(rule).map_err(|(field, message)| {
            Error::invalid(format!("linux.resources.devices[{index}].{field}"), message)
        })?;
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu)?;
    }
    if let Some(block_io) = resources.block_io() {
        self::block_io(block_io)?;
    }
    for (index, limit) in each(resources.hugepage_limits()) {
        hugepage_limit(index, limit)?;
    }
    if let Some(rdma) = resources.rdma() {
        self::rdma(rdma)?;
    }
    match resources.unified() {
        Some(unified) => self::unified(unified),
        None => Ok(()),
    }
}

fn device_rule(rule: &LinuxDeviceCgroup) -> std::result::Result<(), (&'static str, String)> {
    if let Some(typ @ (LinuxDeviceType::P | LinuxDeviceType::U)) = rule.typ() {
        return Err(("type", format!("invalid cgroup device type {:?}", typ.as_str())));
    }
    let access = rule.access().as_deref().unwrap_or("");
    if access.is_empty() {
        return Err(("access", "device access field cannot be empty".to_owned()));
    }
    // -1 stands for every number, as absent does; the kernel has 12 bits and 20 for them.
    for (name, number, bits) in [("major", rule.major(), 12), ("minor", rule.minor(), 20)] {
        if let Some(number) = number.filter(|number| !(-1..1 << bits).contains(number)) {
            return Err((name, format!("{number}: must be from -1 to {}", (1 << bits) - 1)));
        }
    }
    Ok(())
}

/// Whether `access` of a device rule has other letters than r, w and m.
pub(crate) fn has_other_letters(access: &str) -> bool {
    !access.bytes().all(|letter| b"rwm".contains(&letter))
}

/// Rules for devices with other letters than r, w and m, each with a text that says so. What allows counts as
/// if these were not there, as with runc and crun: device plugins and CDI files write `none` for a device
/// that is not to be opened yet. What denies denies everything, since nobody knows what else it was to deny.
pub(crate) fn odd_letters(resources: &LinuxResources) -> impl Iterator<Item = String> + '_ {
    each(resources.devices()).filter_map(|(index, rule)| {
        let access = rule
            .access()
            .as_deref()
            .filter(|access| has_other_letters(access))?;
        let shown = quoted(access);
        let meaning = match rule.allow() {
            true => "are left out",
            false => "deny everything",
        };
        Some(format!(
            "linux.resources.devices[{index}].access: {shown}: letters other than r, w and m {meaning}"
        ))
    })
}

/// `memory.swap` is memory and swap together; cgroup v2 has a limit for swap alone, so it must be the larger.
fn memory(memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().unwrap_or(0);
    let swap = memory.swap().unwrap_or(0);
    for (name, bytes) in [
        ("limit", limit),
        ("reservation", memory.reservation().unwrap_or(0)),
        ("swap", swap),
    ] {
        if bytes < -1 {
            let message = format!("{bytes}: must be a number of bytes, or -1 for no limit");
            return Err(Error::invalid(format!("linux.resources.memory.{name}"), message));
        }
    }
    if swap <= 0 {
        return Ok(());
    }
    if limit == -1 {
        return Ok(());
    }
    if limit <= 0 {
        let message = "unable to set swap limit without memory limit";
        return Err(Error::invalid("linux.resources.memory.swap", message));
    }
    if swap < limit {
        let message = "memory+swap limit should be >= memory limit";
        return Err(Error::invalid("linux.resources.memory.swap", message));
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu) -> Result<()> {
    match cpu.idle() {
        None | Some(0 | 1) => Ok(()),
        Some(idle) => Err(Error::invalid(
            "linux.resources.cpu.idle",
            format!("{idle}: must be 0 or 1"),
        )),
    }
}

fn block_io(block_io: &LinuxBlockIo) -> Result<()> {
    // 0 is what Go writes for "no weight".
    let weight = |field: String, weight: Option<u16>| match weight {
        None | Some(0 | 10..=1000) => Ok(()),
        Some(weight) => Err(Error::invalid(
            field,
            format!("{weight}: must be from 10 to 1000"),
        )),
    };
    let numbers = |field: String, major: i64, minor: i64| {
        if (0..1 << 12).contains(&major) && (0..1 << 20).contains(&minor) {
            return Ok(());
        }
        Err(Error::invalid(
            field,
            format!("{major}:{minor}: is not a device number"),
        ))
    };
    weight("linux.resources.blockIO.weight".to_owned(), block_io.weight())?;
    for (index, device) in each(block_io.weight_device()) {
        let field = format!("linux.resources.blockIO.weightDevice[{index}]");
        numbers(field.clone(), device.major(), device.minor())?;
        if device.weight().is_none() && device.leaf_weight().is_none() {
            return Err(Error::invalid(field, "needs weight or leafWeight"));
        }
        weight(format!("{field}.weight"), device.weight())?;
    }
    let throttles: [(&str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("throttleReadBpsDevice", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", block_io.throttle_write_iops_device()),
    ];
    for (name, devices) in throttles {
        for (index, device) in each(devices) {
            let field = format!("linux.resources.blockIO.{name}[{index}]");
            numbers(field, device.major(), device.minor())?;
        }
    }
    Ok(())
}

/// The size is part of a file's name, `hugetlb.<size>.max`.
fn hugepage_limit(index: usize, limit: &LinuxHugepageLimit) -> Result<()> {
    let size = limit.page_size();
    let digits = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| size.strip_suffix(unit))
        .unwrap_or("");
    if !digits.starts_with('0') && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Ok(());
    }
    let message = format!("{}: is no page size, as in 64KB, 2MB or 1GB", quoted(size));
    Err(Error::invalid(
        format!("linux.resources.hugepageLimits[{index}].pageSize"),
        message,
    ))
}

/// The name is the first word of a line that is written; what follows it must be something.
fn rdma(devices: &HashMap<String, LinuxRdma>) -> Result<()> {
    let mut names: Vec<(&String, &LinuxRdma)> = devices.iter().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    for (name, limits) in names {
        let refuse = |message| {
            let field = format!("linux.resources.rdma[{}]", quoted(name));
            Err(Error::invalid(field, message))
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return refuse("is not the name of a device");
        }
        if limits.hca_handles().is_none() && limits.hca_objects().is_none() {
            return refuse("needs hcaHandles or hcaObjects");
        }
    }
    Ok(())
}

/// The key is the name of a file in the cgroup: a slash in it would reach other cgroups.
fn unified(files: &HashMap<String, String>) -> Result<()> {
    let mut names: Vec<&String> = files.keys().collect();
    names.sort_unstable();
    for name in names {
        let field = || format!("linux.resources.unified[{}]", quoted(name));
        if name.contains('/') {
            let message = format!(
                "unified resource {} must be a file name (no slashes)",
                quoted(name)
            );
            return Err(Error::invalid(field(), message));
        }
        let controller = name.split_once('.').map_or("", |(controller, _)| controller);
        if controller.is_empty() {
            let message = format!(
                "unable to set unified resource {}: no controller in it",
                quoted(name)
            );
            return Err(Error::invalid(field(), message));
        }
    }
    Ok(())
}

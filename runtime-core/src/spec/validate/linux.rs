//! Runs in: RUNTIME. Judges the rest of `linux`: devices, sysctl, propagation, resctrl, memory policy, net
//! devices.

use std::collections::{HashMap, HashSet};

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIntelRdt, LinuxMemoryPolicy, LinuxNetDevice, LinuxPersonality,
    MemoryPolicyFlagType, MemoryPolicyModeType,
};
use runtime_sys::namespace::Kinds;

use super::super::lenient::quoted;
use super::super::{parse_ranges, sysctl};
use super::{Namespaces, each, shown, validate_resources};
use crate::{Error, Result};

pub(super) fn linux(linux: &Linux, domain_name: Option<&str>, namespaces: &Namespaces<'_>) -> Result<()> {
    devices(linux.devices())?;
    if let Some(parameters) = linux.sysctl() {
        sysctls(parameters, domain_name, namespaces)?;
    }
    propagation(linux)?;
    absolute_paths("maskedPaths", linux.masked_paths())?;
    absolute_paths("readonlyPaths", linux.readonly_paths())?;
    if let Some(resources) = linux.resources() {
        validate_resources(resources)?;
    }
    if let Some(rdt) = linux.intel_rdt() {
        intel_rdt(rdt)?;
    }
    if let Some(personality) = linux.personality() {
        personality_flags(personality)?;
    }
    if let Some(policy) = linux.memory_policy() {
        memory_policy(policy)?;
    }
    match linux.net_devices() {
        Some(devices) => net_devices(devices, namespaces),
        None => Ok(()),
    }
}

fn devices(devices: &Option<Vec<LinuxDevice>>) -> Result<()> {
    for (index, device) in each(devices) {
        let refuse = |field: &str, message: String| {
            Err(Error::invalid(format!("linux.devices[{index}].{field}"), message))
        };
        if !device.path().is_absolute() {
            return refuse(
                "path",
                format!("{}: must be an absolute path", shown(device.path())),
            );
        }
        let typ = device.typ();
        if typ == LinuxDeviceType::A {
            return refuse("type", format!("invalid device type {:?}", typ.as_str()));
        }
        // A pipe has no numbers. MAJOR is 12 bits of the kernel's dev_t and MINOR 20; mknod would cut more
        // off.
        if typ != LinuxDeviceType::P {
            for (name, number, bits) in [("major", device.major(), 12), ("minor", device.minor(), 20)] {
                if !(0..1 << bits).contains(&number) {
                    return refuse(name, format!("{number}: must be from 0 to {}", (1 << bits) - 1));
                }
            }
        }
        // Some engines write a whole st_mode, with the bits of the file type.
        if let Some(mode) = device.file_mode().filter(|mode| *mode > 0o177_777) {
            return refuse("fileMode", format!("{mode}: is not a file mode"));
        }
    }
    Ok(())
}

/// A parameter that is not private to a namespace of the container would change the host. Whether a namespace
/// that is joined by path is the host's own, `plan` finds out.
fn sysctls(
    parameters: &HashMap<String, String>,
    domain_name: Option<&str>,
    namespaces: &Namespaces<'_>,
) -> Result<()> {
    // Sorted, so that the same document always gets the same error.
    let mut entries: Vec<(&String, &String)> = parameters.iter().collect();
    entries.sort_unstable();
    for (name, value) in entries {
        let dotted = sysctl::dotted(name);
        let refuse =
            |message: String| Err(Error::invalid(format!("linux.sysctl[{}]", quoted(name)), message));
        if dotted == "kernel.hostname" {
            let message =
                "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field";
            return refuse(message.to_owned());
        }
        // This one may stand alone, for want of the field before 1.1, or say the same (crun).
        if dotted == "kernel.domainname"
            && let Some(field) = domain_name
            && value != field
        {
            let message = "sysctl \"kernel.domainname\" is not allowed as it conflicts with the OCI \"domainname\" field";
            return refuse(message.to_owned());
        }
        let shown = quoted(&dotted);
        let Some(namespace) = sysctl::namespace(&dotted) else {
            return refuse(format!("sysctl {shown} is not in a separate kernel namespace"));
        };
        if sysctl::path(&dotted).is_none() {
            return refuse(format!(
                "sysctl {shown} has an empty part, or one that is \".\" or \"..\""
            ));
        }
        if !namespaces.has(namespace) {
            let message = match namespace {
                Kinds::IPC => format!("sysctl {shown} is not allowed in the hosts ipc namespace"),
                Kinds::NETWORK => format!("sysctl {shown} not allowed in host network namespace"),
                _ => format!("sysctl {shown} is not in a separate kernel namespace"),
            };
            return refuse(message);
        }
    }
    Ok(())
}

fn absolute_paths(name: &str, paths: &Option<Vec<String>>) -> Result<()> {
    match each(paths).find(|(_, path)| !path.starts_with('/')) {
        None => Ok(()),
        Some((index, path)) => {
            let message = format!("{}: must be an absolute path", quoted(path));
            Err(Error::invalid(format!("linux.{name}[{index}]"), message))
        }
    }
}

fn propagation(linux: &Linux) -> Result<()> {
    let Some(propagation) = linux.rootfs_propagation() else {
        return Ok(());
    };
    match propagation.as_str() {
        "" | "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable"
        | "runbindable" => Ok(()),
        other => {
            let message = format!("rootfsPropagation={} is not supported", quoted(other));
            Err(Error::invalid("linux.rootfsPropagation", message))
        }
    }
}

/// The specification has the property, and no value for it yet.
fn personality_flags(personality: &LinuxPersonality) -> Result<()> {
    match personality.flags().as_ref().and_then(|flags| flags.first()) {
        None => Ok(()),
        Some(flag) => Err(Error::invalid(
            "linux.personality.flags",
            format!("{}: is not supported", quoted(flag)),
        )),
    }
}

/// The closID becomes the name of a directory below /sys/fs/resctrl; "/" is that directory itself.
fn intel_rdt(rdt: &LinuxIntelRdt) -> Result<()> {
    if let Some(id) = rdt.clos_id()
        && (matches!(id.as_str(), "." | "..") || (id != "/" && id.contains('/')))
    {
        let message = format!("invalid intelRdt.ClosID {}", quoted(id));
        return Err(Error::invalid("linux.intelRdt.closID", message));
    }
    // Each is one line of the file `schemata`.
    for (index, line) in each(rdt.schemata()) {
        if line.contains('\n') {
            let field = format!("linux.intelRdt.schemata[{index}]");
            return Err(Error::invalid(
                field,
                format!("{}: must be one line", quoted(line)),
            ));
        }
    }
    match rdt.mem_bw_schema() {
        Some(line) if !line.starts_with("MB:") || line.contains('\n') => {
            let message = format!("{}: must be one line that starts with \"MB:\"", quoted(line));
            Err(Error::invalid("linux.intelRdt.memBwSchema", message))
        }
        _ => Ok(()),
    }
}

/// The rules of set_mempolicy(2), which the kernel answers with a bare EINVAL.
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<()> {
    use MemoryPolicyFlagType::{MpolFRelativeNodes, MpolFStaticNodes};
    use MemoryPolicyModeType::{MpolDefault, MpolLocal, MpolPreferred};

    let nodes = policy.nodes().as_deref().unwrap_or("");
    let Some(ranges) = parse_ranges(nodes) else {
        let message = format!("{}: not a list of memory nodes", quoted(nodes));
        return Err(Error::invalid("linux.memoryPolicy.nodes", message));
    };
    let mode = policy.mode();
    if matches!(mode, MpolDefault | MpolLocal) && !ranges.is_empty() {
        return Err(Error::invalid(
            "linux.memoryPolicy.nodes",
            format!("{mode} takes no nodes"),
        ));
    }
    if !matches!(mode, MpolDefault | MpolLocal | MpolPreferred) && ranges.is_empty() {
        return Err(Error::invalid(
            "linux.memoryPolicy.nodes",
            format!("{mode} needs nodes"),
        ));
    }
    let has = |flag| policy.flags().as_ref().is_some_and(|flags| flags.contains(&flag));
    if has(MpolFRelativeNodes) && has(MpolFStaticNodes) {
        let message = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        return Err(Error::invalid("linux.memoryPolicy.flags", message));
    }
    Ok(())
}

fn net_devices(devices: &HashMap<String, LinuxNetDevice>, namespaces: &Namespaces<'_>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    if !namespaces.has(Kinds::NETWORK) {
        let message = "unable to move network devices without a private NET namespace";
        return Err(Error::invalid("linux.netDevices", message));
    }
    let mut names: Vec<(&String, Option<&String>)> = devices
        .iter()
        .map(|(name, device)| (name, device.name().as_ref()))
        .collect();
    names.sort_unstable();
    let mut taken = HashSet::new();
    for (name, new_name) in names {
        let field = format!("linux.netDevices[{}]", quoted(name));
        if !is_interface_name(name) {
            return Err(Error::invalid(
                field,
                format!("invalid network device name {}", quoted(name)),
            ));
        }
        let new_name = new_name.filter(|name| !name.is_empty());
        if let Some(new_name) = new_name.filter(|name| !is_interface_name(name) || !is_template(name)) {
            let message = format!("invalid network device name {}", quoted(new_name));
            return Err(Error::invalid(format!("{field}.name"), message));
        }
        let new_name = new_name.unwrap_or(name);
        if !new_name.contains('%') && !taken.insert(new_name) {
            let message = format!("two devices cannot both be called {}", quoted(new_name));
            return Err(Error::invalid(format!("{field}.name"), message));
        }
    }
    Ok(())
}

/// The kernel fills in one `%d`, and knows no other use of `%` (`__dev_alloc_name`).
fn is_template(name: &str) -> bool {
    !name.replacen("%d", "", 1).contains('%')
}

/// The kernel's `dev_valid_name`: at most 15 bytes, no slash, colon or white space. A `%d` it fills in
/// itself.
fn is_interface_name(name: &str) -> bool {
    let sound = |letter: u8| !matches!(letter, b'/' | b':' | b'\x0b') && !letter.is_ascii_whitespace();
    (1..=15).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(sound)
}

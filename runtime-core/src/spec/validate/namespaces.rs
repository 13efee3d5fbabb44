//! Runs in: RUNTIME. Judges `linux.namespaces`, the id mappings and time offsets that belong to them, and the
//! fields that need a namespace of their own.

use oci_spec::runtime::{Linux, LinuxIdMapping, Spec, User};
use runtime_sys::namespace::Kinds;

use super::super::lenient::quoted;
use super::{Namespaces, each};
use crate::{Error, Result};

pub(super) fn host_names(spec: &Spec, namespaces: &Namespaces<'_>) -> Result<()> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if !namespaces.has(Kinds::UTS) {
            let message = format!("unable to set {field} without a private UTS namespace");
            return Err(Error::invalid(field, message));
        }
        // __NEW_UTS_LEN of the kernel.
        if name.len() > 64 {
            return Err(Error::invalid(
                field,
                format!("{} bytes: must be at most 64", name.len()),
            ));
        }
    }
    Ok(())
}

pub(super) fn namespaces(linux: &Linux, namespaces: &Namespaces<'_>) -> Result<()> {
    user_namespace(linux, namespaces)?;
    time_namespace(linux, namespaces)?;
    if namespaces.has(Kinds::MOUNT) {
        return Ok(());
    }
    for (field, paths) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        if paths.as_ref().is_some_and(|paths| !paths.is_empty()) {
            let message = "unable to restrict sys entries without a private MNT namespace";
            return Err(Error::invalid(format!("linux.{field}"), message));
        }
    }
    Ok(())
}

fn user_namespace(linux: &Linux, namespaces: &Namespaces<'_>) -> Result<()> {
    let uids = linux.uid_mappings().as_ref().is_some_and(|list| !list.is_empty());
    let gids = linux.gid_mappings().as_ref().is_some_and(|list| !list.is_empty());
    if !namespaces.has(Kinds::USER) {
        // Somebody who wrote mappings believes that root in the container is not root on the host.
        if uids || gids {
            let field = if uids {
                "linux.uidMappings"
            } else {
                "linux.gidMappings"
            };
            let message = "user namespace mappings specified, but user namespace isn't enabled in the config";
            return Err(Error::invalid(field, message));
        }
        return Ok(());
    }
    // With a path as well, `plan` compares the mappings with those of the namespace: containerd and CRI-O
    // give both.
    let joined = namespaces.path(Kinds::USER).is_some();
    for (name, there) in [("uid", uids), ("gid", gids)] {
        if !there && !joined {
            let message = format!("User namespaces enabled, but no {name} mappings found.");
            return Err(Error::invalid(format!("linux.{name}Mappings"), message));
        }
    }
    mappings("linux.uidMappings", linux.uid_mappings())?;
    mappings("linux.gidMappings", linux.gid_mappings())
}

/// The rules of the kernel for uid_map (user_namespaces(7)), which it answers with a bare EINVAL.
pub(super) fn mappings(field: &str, list: &Option<Vec<LinuxIdMapping>>) -> Result<()> {
    const MOST: usize = 340;
    let Some(list) = list else { return Ok(()) };
    if list.len() > MOST {
        let message = format!("{} ranges: the kernel takes at most {MOST}", list.len());
        return Err(Error::invalid(field.to_owned(), message));
    }
    for (index, range) in list.iter().enumerate() {
        let refuse = |message: &str| Err(Error::invalid(format!("{field}[{index}]"), message.to_owned()));
        if range.size() == 0 {
            return refuse("size must not be 0");
        }
        let fits = |first: u32| {
            first
                .checked_add(range.size() - 1)
                .is_some_and(|last| last < u32::MAX)
        };
        if !fits(range.container_id()) || !fits(range.host_id()) {
            return refuse("goes beyond the highest id");
        }
        let overlaps = |earlier: &LinuxIdMapping| {
            overlap(
                (earlier.container_id(), earlier.size()),
                (range.container_id(), range.size()),
            ) || overlap(
                (earlier.host_id(), earlier.size()),
                (range.host_id(), range.size()),
            )
        };
        if let Some(earlier) = list[..index].iter().position(overlaps) {
            return refuse(&format!("overlaps with {field}[{earlier}]"));
        }
    }
    Ok(())
}

fn overlap((one, one_size): (u32, u32), (two, two_size): (u32, u32)) -> bool {
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    u64::from(one) < end(two, two_size) && u64::from(two) < end(one, one_size)
}

/// The kernel refuses ids that the user namespace has no mapping for, with a bare EINVAL. Without mappings in
/// the document the namespace is joined, and only the kernel knows them.
pub(super) fn process_ids(user: &User, linux: &Linux, namespaces: &Namespaces<'_>) -> Result<()> {
    if !namespaces.has(Kinds::USER) {
        return Ok(());
    }
    let mapped = |list: &Option<Vec<LinuxIdMapping>>, id: u32| {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else {
            return true;
        };
        list.iter()
            .any(|range| overlap((range.container_id(), range.size()), (id, 1)))
    };
    let refuse = |field: String, id: u32, kind: &str| {
        let message = format!("{id}: is not in linux.{kind}Mappings");
        Err(Error::invalid(field, message)
            .with_hint(format!("cannot set {kind} to unmapped user in user namespace")))
    };
    if !mapped(linux.uid_mappings(), user.uid()) {
        return refuse("process.user.uid".to_owned(), user.uid(), "uid");
    }
    if !mapped(linux.gid_mappings(), user.gid()) {
        return refuse("process.user.gid".to_owned(), user.gid(), "gid");
    }
    match each(user.additional_gids()).find(|(_, gid)| !mapped(linux.gid_mappings(), **gid)) {
        Some((index, gid)) => refuse(format!("process.user.additionalGids[{index}]"), *gid, "gid"),
        None => Ok(()),
    }
}

fn time_namespace(linux: &Linux, namespaces: &Namespaces<'_>) -> Result<()> {
    let Some(offsets) = linux
        .time_offsets()
        .as_ref()
        .filter(|offsets| !offsets.is_empty())
    else {
        return Ok(());
    };
    if !namespaces.has(Kinds::TIME) {
        let message = "time namespace offsets specified, but time namespace isn't enabled in the config";
        return Err(Error::invalid("linux.timeOffsets", message));
    }
    if namespaces.path(Kinds::TIME).is_some() {
        let message = "time namespace enabled, but both namespace path and time offsets specified -- you may only \
                       provide one";
        return Err(Error::invalid("linux.timeOffsets", message));
    }
    for (clock, offset) in offsets {
        // time_namespaces(7): there are two clocks with an offset.
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            let field = format!("linux.timeOffsets[{}]", quoted(clock));
            return Err(Error::invalid(
                field,
                "unknown clock: must be monotonic or boottime",
            ));
        }
        if let Some(nanosecs) = offset.nanosecs().filter(|nanosecs| *nanosecs > 999_999_999) {
            let field = format!("linux.timeOffsets[\"{clock}\"].nanosecs");
            return Err(Error::invalid(
                field,
                format!("{nanosecs}: must be below a second"),
            ));
        }
    }
    Ok(())
}

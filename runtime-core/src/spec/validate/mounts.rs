//! Runs in: RUNTIME. Judges `mounts`: destinations and id mappings. Which options go together is said by
//! those who take them apart.

use oci_spec::runtime::{Mount, Spec};
use runtime_sys::namespace::Kinds;

use super::super::mount_options::MountOptions;
use super::super::paths::{clean, is_free_below_proc};
use super::namespaces::mappings;
use super::{Namespaces, each, shown};
use crate::{Error, Result};

pub(super) fn mounts(spec: &Spec) -> Result<()> {
    for (index, mount) in each(spec.mounts()) {
        let options = MountOptions::parse(spec, index, mount)?;
        destination(index, mount, options.bind)?;
        id_mapping(index, mount, &options, spec)?;
    }
    Ok(())
}

fn destination(index: usize, mount: &Mount, bind: bool) -> Result<()> {
    let destination = mount.destination();
    let refuse = |message: String| Err(Error::invalid(format!("mounts[{index}].destination"), message));
    if destination.as_os_str().is_empty() {
        return refuse("must not be empty".to_owned());
    }
    let clean = clean(destination);
    if clean.is_empty() {
        // It would hide the root filesystem and everything mounted before, and pivot_root would not see it.
        return refuse(format!(
            "mountpoint {} is on the top of rootfs",
            shown(destination)
        ));
    }
    // Labels are written through /proc; a false one would take them and do nothing (CVE-2019-16884). Whether
    // what is bound there is a procfs, only the host can tell.
    if clean == b"proc" && !bind && mount.typ().as_deref() != Some("proc") {
        return refuse(format!(
            "{} cannot be mounted because it is not of type proc",
            shown(destination)
        ));
    }
    if clean.starts_with(b"proc/") && !is_free_below_proc(&clean) {
        return refuse(format!(
            "{} cannot be mounted because it is inside /proc",
            shown(destination)
        ));
    }
    Ok(())
}

/// runtime-spec, config.md "mounts": mappings of the mount itself, or `idmap` for those of the container.
fn id_mapping(index: usize, mount: &Mount, options: &MountOptions<'_>, spec: &Spec) -> Result<()> {
    let refuse = |field: &str, message: &str| {
        Err(Error::invalid(
            format!("mounts[{index}].{field}"),
            message.to_owned(),
        ))
    };
    let uids = mount.uid_mappings().as_ref().is_some_and(|list| !list.is_empty());
    let gids = mount.gid_mappings().as_ref().is_some_and(|list| !list.is_empty());
    if uids != gids {
        let field = if uids { "gidMappings" } else { "uidMappings" };
        return refuse(
            field,
            "missing: an id-mapped mount must have both uidMappings and gidMappings",
        );
    }
    if !uids && options.id_map.is_none() {
        return Ok(());
    }
    if !options.bind {
        return refuse(
            "uidMappings",
            "id-mapped mounts are only supported for bind-mounts",
        );
    }
    if uids {
        mappings(&format!("mounts[{index}].uidMappings"), mount.uid_mappings())?;
        return mappings(&format!("mounts[{index}].gidMappings"), mount.gid_mappings());
    }
    if options.id_ranges.is_some() || Namespaces::of(spec.linux().as_ref())?.has(Kinds::USER) {
        return Ok(());
    }
    refuse(
        "options",
        "idmap needs uidMappings and gidMappings, or a user namespace of the container",
    )
}

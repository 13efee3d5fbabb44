//! Runs in: RUNTIME. Judges `mounts`: destinations, id mappings, and which options go together.

use std::ffi::OsStr;
use std::path::{Component, Path};

use oci_spec::runtime::{Mount, Spec};
use runtime_sys::namespace::Kinds;

use super::super::lenient::quoted;
use super::namespaces::mappings;
use super::{Namespaces, each, shown};
use crate::{Error, Result};

/// Options that every filesystem has, or that the runtime itself acts on. All others are data for the filesystem.
/// The list of runtime-spec, config.md "Linux mount options", with runc's `tmpcopyup` and crun's
/// `copy-symlink`, `src-nofollow`, `dest-nofollow`; in alphabetical order.
pub const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "copy-symlink",
    "defaults",
    "dest-nofollow",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "src-nofollow",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What may be mounted over below /proc: files that only show numbers, and that lxcfs and the like replace.
/// Anything else would let a container pose as the kernel towards whoever joins it.
const BELOW_PROC: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Whether a mount option is one of the runtime or of every filesystem, and so not data for one filesystem.
pub fn is_mount_option(option: &str) -> bool {
    let word = match option.split_once('=') {
        // Of the options with a value only crun's `idmap=uids=...` is no filesystem's.
        Some((word @ ("idmap" | "ridmap"), _)) => word,
        _ => option,
    };
    // Engines leave SELinux's relabelling marks and empty options in the list.
    MOUNT_OPTIONS.binary_search(&word).is_ok() || matches!(word, "z" | "Z" | "")
}

pub(super) fn mounts(spec: &Spec) -> Result<()> {
    for (index, mount) in each(spec.mounts()) {
        let bind = is_bind(mount);
        destination(index, mount, bind)?;
        if bind {
            bind_options(index, mount)?;
        }
        link_options(index, mount, bind)?;
        id_mapping(index, mount, bind, spec)?;
    }
    Ok(())
}

fn options(mount: &Mount) -> impl Iterator<Item = (usize, &String)> {
    each(mount.options())
}

fn is_bind(mount: &Mount) -> bool {
    matches!(mount.typ().as_deref(), Some("bind" | "rbind"))
        || options(mount).any(|(_, name)| name == "bind" || name == "rbind")
}

fn destination(index: usize, mount: &Mount, bind: bool) -> Result<()> {
    let destination = mount.destination();
    let refuse = |message: String| Err(Error::invalid(format!("mounts[{index}].destination"), message));
    if destination.as_os_str().is_empty() {
        return refuse("must not be empty".to_owned());
    }
    let parts = cleaned(destination);
    let Some((first, rest)) = parts.split_first() else {
        // It would hide the root filesystem and everything mounted before, and pivot_root would not see it.
        return refuse(format!(
            "mountpoint {} is on the top of rootfs",
            shown(destination)
        ));
    };
    if *first != "proc" {
        return Ok(());
    }
    if rest.is_empty() {
        // Labels are written through /proc; a false one would take them and do nothing (CVE-2019-16884). Whether
        // what is bound there is a procfs, only the host can tell.
        if bind || mount.typ().as_deref() == Some("proc") {
            return Ok(());
        }
        return refuse(format!(
            "{} cannot be mounted because it is not of type proc",
            shown(destination)
        ));
    }
    let below = rest.join(OsStr::new("/"));
    if below.to_str().is_some_and(|below| BELOW_PROC.contains(&below)) {
        return Ok(());
    }
    refuse(format!(
        "{} cannot be mounted because it is inside /proc",
        shown(destination)
    ))
}

/// The parts of a path below "/", `.` and `..` taken out by their letters alone. A relative path is relative to "/".
fn cleaned(path: &Path) -> Vec<&OsStr> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}

fn bind_options(index: usize, mount: &Mount) -> Result<()> {
    match options(mount).find(|(_, option)| !is_mount_option(option)) {
        None => Ok(()),
        Some((at, option)) => {
            let message = format!(
                "{}: bind mounts cannot have any filesystem-specific options applied",
                quoted(option)
            );
            Err(Error::invalid(format!("mounts[{index}].options[{at}]"), message))
        }
    }
}

/// crun's options for links: of bind mounts only, and a link is either copied or mounted.
fn link_options(index: usize, mount: &Mount, bind: bool) -> Result<()> {
    let find = |wanted: &[&str]| options(mount).find(|(_, option)| wanted.contains(&option.as_str()));
    let refuse = |(at, option): (usize, &String), message: &str| {
        let field = format!("mounts[{index}].options[{at}]");
        Err(Error::invalid(field, format!("{option} {message}")))
    };
    let (copy, source) = (find(&["copy-symlink"]), find(&["src-nofollow"]));
    let destination = find(&["dest-nofollow"]);
    if let (false, Some(option)) = (bind, copy.or(source).or(destination)) {
        return refuse(option, "is for bind mounts only");
    }
    if let (Some(_), Some(option)) = (copy, source.or(destination)) {
        return refuse(option, "and copy-symlink exclude each other");
    }
    match (find(&["remount"]), copy.or(source)) {
        (Some(_), Some(option)) => refuse(option, "is about the source, and a remount has none"),
        _ => Ok(()),
    }
}

/// runtime-spec, config.md "mounts": mappings of the mount itself, or `idmap` for those of the container.
fn id_mapping(index: usize, mount: &Mount, bind: bool, spec: &Spec) -> Result<()> {
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
    let asked = options(mount).find(|(_, option)| {
        let word = option.split_once('=').map_or(option.as_str(), |(word, _)| word);
        matches!(word, "idmap" | "ridmap")
    });
    if !uids && asked.is_none() {
        return Ok(());
    }
    if !bind {
        return refuse(
            "uidMappings",
            "id-mapped mounts are only supported for bind-mounts",
        );
    }
    if uids {
        mappings(&format!("mounts[{index}].uidMappings"), mount.uid_mappings())?;
        return mappings(&format!("mounts[{index}].gidMappings"), mount.gid_mappings());
    }
    let own_mappings = asked.is_some_and(|(_, option)| option.contains('='));
    if own_mappings || Namespaces::of(spec.linux().as_ref())?.has(Kinds::USER) {
        return Ok(());
    }
    refuse(
        "options",
        "idmap needs uidMappings and gidMappings, or a user namespace of the container",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_the_search() {
        assert!(MOUNT_OPTIONS.is_sorted());
        assert!(is_mount_option("copy-symlink"));
        assert!(is_mount_option("rbind"));
        assert!(is_mount_option("idmap=uids=0-1000-1"));
        assert!(!is_mount_option("size=1m"));
        assert!(!is_mount_option("ro=1"));
    }
}

//! Runs in: RUNTIME. The id maps of a child in a new user namespace, from outside: by ourselves, or by
//! newuidmap and newgidmap.

use oci_spec::runtime::LinuxIdMapping;
use rustix::process::Pid;

use super::child::pid_of;
use crate::host::user_namespace::id_map::{IdMap, deny_setgroups};
use crate::host::user_namespace::id_map_program;
use crate::{Cancel, Error, ErrorKind, Result};

/// Writes both maps of a child in a new user namespace.
pub(super) fn write_maps(
    pid: i32,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
    cancel: &Cancel,
) -> Result<()> {
    let pid = pid_of(pid)?;
    let (uid_text, gid_text) = (IdMap::Uid.text(uids)?, IdMap::Gid.text(gids)?);
    match IdMap::Uid.write(pid, &uid_text) {
        Err(error) if error.kind() == ErrorKind::Denied => {
            map_by_program(IdMap::Uid, pid, uids, error, cancel)?
        }
        written => written?,
    }
    match IdMap::Gid.write(pid, &gid_text) {
        Err(error) if error.kind() == ErrorKind::Denied && is_own_group(gids) => {
            // What the kernel demands for it (user_namespaces(7)).
            deny_setgroups(pid)?;
            IdMap::Gid.write(pid, &gid_text)
        }
        Err(error) if error.kind() == ErrorKind::Denied => {
            map_by_program(IdMap::Gid, pid, gids, error, cancel)
        }
        written => written,
    }
}

/// The single group that a process may map without privileges.
fn is_own_group(gids: &[LinuxIdMapping]) -> bool {
    matches!(gids, [range] if range.size() == 1 && range.host_id() == rustix::process::getegid().as_raw())
}

/// Root has other means than newuidmap, and what denies it something will not be asked a second time.
fn map_by_program(
    map: IdMap,
    pid: Pid,
    ranges: &[LinuxIdMapping],
    denied: Error,
    cancel: &Cancel,
) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Err(denied);
    }
    id_map_program::run(map.program(), pid, ranges, cancel).map_err(|error| {
        error
            .with_field(map.field())
            .doing("map ids into the user namespace")
    })
}

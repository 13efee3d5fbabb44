//! Runs in: RUNTIME. What later mounts of the list, and devices, want of the place on which one is mounted.
//! Pure.

use std::ffi::CString;
use std::path::Path;

use runtime_sys::mount::{ATTR_RDONLY, MountAttr};

use super::{MountPlan, MountSource};
use crate::Result;
use crate::plan::{c_string, clean_in_container};

/// As runc does, and documents that were written for it rely on: a destination that names the rootfs by its
/// path on the host is in it.
pub(super) fn target_of(destination: &Path, rootfs: &Path, index: u16) -> Result<CString> {
    let field = || format!("mounts[{index}].destination");
    let target = clean_in_container(destination, field())?;
    let rootfs = clean_in_container(rootfs, "root.path")?;
    if rootfs.is_empty() {
        return Ok(target);
    }
    let (target, rootfs) = (target.to_bytes(), rootfs.to_bytes());
    let inside = target
        .strip_prefix(rootfs)
        .filter(|rest| matches!(rest, [] | [b'/', ..]));
    c_string(
        inside.map_or(target, |rest| rest.strip_prefix(b"/").unwrap_or(rest)),
        field(),
    )
}

impl MountPlan {
    /// A mount of the list may lie below a read-only bind mount where there is no place for it yet. As crun
    /// does it.
    pub(super) fn allow_places_below(&mut self, later: &[Self]) {
        let is_below = |mount: &Self| {
            let rest = mount.target.as_bytes().strip_prefix(self.target.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let is_changed = later.iter().any(|mount| mount.target == self.target);
        let makes = |wanted: bool| {
            let is_readonly = |(change, recursive): &(MountAttr, bool)| {
                *recursive == wanted && change.set & ATTR_RDONLY != 0
            };
            self.attributes.iter().any(is_readonly)
        };
        self.places_below = matches!(self.source, MountSource::Bind { .. })
            && !is_changed
            && later.iter().any(is_below)
            && makes(false)
            && !makes(true);
    }

    /// A tmpfs that is read-only from the start has no directories for `later` mounts, nor devices. As runc
    /// does it.
    pub(super) fn postpone_readonly(&mut self, later: &[Self]) {
        let MountSource::New(new) = &mut self.source else {
            return;
        };
        let is_below = |path: &CString| {
            let rest = path.as_bytes().strip_prefix(self.target.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let is_written_to = self.target.as_bytes() == b"dev" || later.iter().any(|m| is_below(&m.target));
        let is_covered = later.iter().any(|mount| mount.target == self.target);
        if new.fstype.as_bytes() != b"tmpfs" || !is_written_to || is_covered {
            return;
        }
        let only_readonly = MountAttr {
            set: ATTR_RDONLY,
            ..MountAttr::default()
        };
        let is_ro = |(change, _): &(MountAttr, bool)| *change == only_readonly;
        self.readonly_late = new.attributes & ATTR_RDONLY != 0 || self.attributes.iter().any(is_ro);
        new.attributes &= !ATTR_RDONLY;
        new.options.retain(|(key, _)| key.as_bytes() != b"ro");
        self.attributes.retain(|change| !is_ro(change));
    }
}

//! Runs in: SUITE. SELinux, enforced.

pub(crate) mod mounts;
pub(crate) mod processes;

use crate::{case::Case, label::relabel, outcome::Check};

/// A container and its files have a pair of categories.
pub(crate) const PROCESS: &str = "system_u:system_r:container_t:s0:c1,c2";

pub(crate) const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// Every container may read these: images.
pub(crate) const IMAGE: &str = "system_u:object_r:container_file_t:s0";

/// No policy has it.
pub(crate) const UNKNOWN: &str = "system_u:object_r:of_no_policy_t:s0";

/// As an engine does it: an image that all may read, and labels of the container's own.
pub(crate) fn confine(c: &mut Case) -> Check {
    relabel(&c.rootfs("/"), IMAGE)?;
    c.process().selinux_label(PROCESS);
    c.linux().mount_label(FILES);
    Ok(())
}

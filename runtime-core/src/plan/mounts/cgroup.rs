//! Runs in: RUNTIME. Mounts of the cgroup tree. Pure.

use super::options::Options;
use super::{FsOption, MountSource, NewFilesystem, text_of};
use crate::{Error, Result};

/// Options of cgroup2, none of which is for a container to set.
const CGROUP_OPTIONS: [&str; 6] = [
    "nsdelegate",
    "favordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
];

/// Whether it is the cgroup tree.
pub(super) fn is_cgroup(fstype: &str) -> bool {
    matches!(fstype, "cgroup" | "cgroup2")
}

/// A mount of the cgroup tree. The superblock is shared with the host: no option reaches it.
pub(super) fn source(options: &Options<'_>) -> MountSource {
    MountSource::Cgroup(NewFilesystem {
        fstype: c"cgroup2".to_owned(),
        options: vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))],
        attributes: options.new_attributes(),
        copy_up: false,
        mode_of_place: false,
        root_label: None,
        instead: None,
    })
}

impl Options<'_> {
    /// Refuses what cgroup2 does not know, as the kernel does where it is asked, and forgets the rest.
    pub(super) fn take_out_cgroup_options(&mut self, field: &str) -> Result<()> {
        let is_known = |(key, value): &FsOption| {
            value.is_none()
                && CGROUP_OPTIONS
                    .iter()
                    .any(|known| known.as_bytes() == key.as_bytes())
        };
        match self.data.iter().find(|option| !is_known(option)) {
            Some(option) => {
                let message = format!("{:?} is no option of cgroup2", text_of(option));
                Err(Error::invalid(field.to_owned(), message))
            }
            None => {
                self.data.clear();
                Ok(())
            }
        }
    }
}

//! Runs in: RUNTIME. `linux.mountLabel`: which of the container's file systems have SELinux's label, and how
//! they get it. Pure.

use std::ffi::CString;

use oci_spec::runtime::Spec;

use super::{HostFacts, c_string};
use crate::spec::mount_options::{CONTEXTS, is_context};
use crate::{Error, Result};

/// crun's, which Podman sets: the option that carries the label.
const ANNOTATION: &str = "run.oci.mount_context_type";

/// Key and value of a file system option.
pub(crate) type FsOption = (CString, Option<CString>);

/// The label, as an option of a file system.
#[derive(Debug, Clone)]
pub struct MountLabel {
    key: CString,
    label: CString,
}

/// How a file system gets a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As an option of its superblock.
    Option,
    /// As the extended attribute of its root directory.
    Root,
    /// The policy labels it, or its superblock is the host's.
    None,
}

fn way(fstype: &str) -> Way {
    match fstype {
        "proc" | "sysfs" | "cgroup" | "cgroup2" => Way::None,
        // Its superblock was made with the ipc namespace.
        "mqueue" => Way::Root,
        _ => Way::Option,
    }
}

impl MountLabel {
    /// None if there is no label, or no SELinux: engines set one all the same.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn plan(spec: &Spec, facts: &HostFacts) -> Result<Option<Self>> {
        let label = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.mount_label().as_ref());
        let Some(label) = label.filter(|label| facts.selinux && !label.is_empty()) else {
            return Ok(None);
        };
        let annotation = spec.annotations().as_ref().and_then(|all| all.get(ANNOTATION));
        let key = annotation.map_or(CONTEXTS[0], String::as_str);
        if !CONTEXTS.contains(&key) {
            let message = format!("{key:?} is none of {}", CONTEXTS.join(", "));
            return Err(Error::invalid(format!("annotations[{ANNOTATION}]"), message));
        }
        Ok(Some(Self {
            key: c_string(key, format!("annotations[{ANNOTATION}]"))?,
            label: c_string(label.as_str(), "linux.mountLabel".to_owned())?,
        }))
    }

    /// As an option for a file system that INIT makes by itself.
    pub fn option(&self) -> FsOption {
        (self.key.clone(), Some(self.label.clone()))
    }

    /// What a new file system of this type gets among its options, unless they name a label of their own.
    pub fn option_for(&self, fstype: &str, options: &[FsOption]) -> Option<FsOption> {
        let is_wanted =
            way(fstype) == Way::Option && !options.iter().any(|(key, _)| is_context(key.as_bytes()));
        is_wanted.then(|| self.option())
    }

    /// What the root directory of a new file system of this type gets as `security.selinux`.
    pub fn of_root(&self, fstype: &str) -> Option<CString> {
        (way(fstype) == Way::Root).then(|| self.label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn planned(annotation: Option<&str>, label: &str, selinux: bool) -> Result<Option<MountLabel>> {
        let mut document = serde_json::json!({
            "ociVersion": "1.3.0",
            "linux": {"mountLabel": label},
        });
        if let Some(annotation) = annotation {
            document["annotations"][ANNOTATION] = annotation.into();
        }
        let facts = HostFacts {
            selinux,
            ..HostFacts::of_root()
        };
        MountLabel::plan(&serde_json::from_value(document).unwrap(), &facts)
    }

    #[test]
    fn a_label_counts_where_there_is_selinux() {
        assert!(planned(None, LABEL, false).unwrap().is_none());
        assert!(planned(None, "", true).unwrap().is_none());
        let label = planned(None, LABEL, true).unwrap().unwrap();
        assert_eq!(label.option().0.as_c_str(), c"context");
        assert_eq!(label.option().1.unwrap().to_str().unwrap(), LABEL);
    }

    #[test]
    fn the_type_of_the_file_system_decides_how_it_gets_the_label() {
        let label = planned(None, LABEL, true).unwrap().unwrap();
        for (fstype, option, root) in [
            ("tmpfs", true, false),
            ("devpts", true, false),
            ("overlay", true, false),
            ("mqueue", false, true),
            ("proc", false, false),
            ("sysfs", false, false),
            ("cgroup2", false, false),
        ] {
            assert_eq!(label.option_for(fstype, &[]).is_some(), option, "{fstype}");
            assert_eq!(label.of_root(fstype).is_some(), root, "{fstype}");
        }
        let own = [(c"rootcontext".to_owned(), Some(c"x".to_owned()))];
        assert!(label.option_for("tmpfs", &own).is_none());
    }

    #[test]
    fn the_annotation_names_the_option() {
        let label = planned(Some("rootcontext"), LABEL, true).unwrap().unwrap();
        assert_eq!(label.option().0.as_c_str(), c"rootcontext");
        let error = planned(Some("size"), LABEL, true).unwrap_err();
        assert_eq!(error.field(), Some("annotations[run.oci.mount_context_type]"));
    }
}

//! Runs in: RUNTIME. Decides how the rootfs becomes the root, and how mounts propagate. Pure.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;
use runtime_init::args::EnterRoot;

use super::namespaces::NamespacesPlan;
use super::{CallerOptions, HostFacts, clean_in_container};
use crate::{Error, Result};

/// The root file system.
#[derive(Debug, Clone)]
pub struct RootfsPlan {
    /// `root.path`, absolute.
    pub path: PathBuf,
    /// `root.readonly`.
    pub readonly: bool,
    /// How it becomes the root.
    pub enter: EnterRoot,
    /// What is done to the mounts that INIT inherits from the host; 0 for nothing.
    pub host_propagation: u64,
    /// What is done to the propagation of trees copied from the host (rootfs and bind mounts); 0: they stay
    /// peers.
    pub copy_propagation: u64,
    /// Propagation of the root at the end, and whether for all below it.
    pub final_propagation: Option<(u64, bool)>,
    /// `linux.readonlyPaths`, clean.
    pub readonly_paths: Vec<CString>,
    /// `linux.maskedPaths`, clean.
    pub masked_paths: Vec<CString>,
}

impl RootfsPlan {
    /// Decides.
    ///
    /// # Errors
    /// `Invalid` for a rootfs that is the host's root, or private propagation with `--no-pivot`, as runc.
    pub fn new(
        spec: &Spec,
        facts: &HostFacts,
        namespaces: &NamespacesPlan,
        caller: CallerOptions<'_>,
    ) -> Result<Self> {
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| Error::invalid("root", "missing"))?;
        let linux = spec.linux().as_ref();
        let wanted = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let enter = match (namespaces.has_own_mounts, caller.no_pivot) {
            (false, _) if mounts_on_the_host(spec, facts, namespaces)? => EnterRoot::MountAndChroot,
            (false, _) => EnterRoot::Chroot,
            (true, true) => EnterRoot::MoveAndChroot,
            (true, false) => EnterRoot::Pivot,
        };
        let (copy_propagation, final_propagation) = propagation(wanted)?;
        let clean = |paths: Option<&Vec<String>>, field: &'static str| -> Result<Vec<CString>> {
            paths
                .into_iter()
                .flatten()
                .map(|path| clean_in_container(path.as_ref(), field))
                .collect()
        };
        Ok(Self {
            path: facts.bundle.join(root.path()),
            readonly: root.readonly().unwrap_or(false),
            enter,
            // Always cut: what must stay a peer of the host is copied before, in RUNTIME, and keeps its own
            // tie.
            host_propagation: match enter {
                EnterRoot::MountAndChroot | EnterRoot::Chroot => 0,
                EnterRoot::Pivot => libc::MS_SLAVE,
                // They stay there, below the container's root, and must not get a procfs more: `old_root.rs`.
                EnterRoot::MoveAndChroot => libc::MS_PRIVATE,
            },
            copy_propagation,
            final_propagation,
            readonly_paths: clean(
                linux.and_then(|l| l.readonly_paths().as_ref()),
                "linux.readonlyPaths",
            )?,
            masked_paths: clean(linux.and_then(|l| l.masked_paths().as_ref()), "linux.maskedPaths")?,
        })
    }
}

/// Whether a container without a mount namespace of its own mounts anything, which is on the host then. In a
/// user namespace, and without CAP_SYS_ADMIN, nobody may.
fn mounts_on_the_host(spec: &Spec, facts: &HostFacts, namespaces: &NamespacesPlan) -> Result<bool> {
    let may = facts.may_mount && !namespaces.is_user_namespaced();
    let refused = |field: &'static str, text: &'static str| match may {
        true => Ok(true),
        false => Err(Error::invalid(field, text)),
    };
    if spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        return refused("mounts", "unable to mount without a private MNT namespace");
    }
    let root = spec.root().as_ref();
    if root.is_some_and(|root| root.readonly().unwrap_or(false)) {
        return refused(
            "root.readonly",
            "unable to remount without a private MNT namespace",
        );
    }
    let process = spec.process().as_ref();
    // /dev/console is a mount.
    let has_terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
    Ok(may && has_terminal)
}

impl RootfsPlan {
    /// The rest of a path of the host below the rootfs, by its text; `None` if it is no such path, or may
    /// leave the rootfs again.
    pub fn inside(&self, path: &Path) -> Option<CString> {
        rest_inside(path.strip_prefix(&self.path).ok()?)
    }
}

/// A path that is looked up with the rootfs as root, where ".." leads no further up than that: where it
/// would, it is none.
pub(crate) fn rest_inside(rest: &Path) -> Option<CString> {
    let mut depth = 0_usize;
    for component in rest.components() {
        depth = match component {
            Component::Normal(_) => depth + 1,
            Component::ParentDir => depth.checked_sub(1)?,
            _ => depth,
        };
    }
    match rest.as_os_str().as_bytes() {
        b"" => Some(c".".to_owned()),
        rest => CString::new(rest).ok(),
    }
}

/// What `linux.rootfsPropagation` means for copies of the host's mounts, and for the root in the end.
///
/// runc sets the inherited tree to this propagation and then binds from it, so a bind mount is by default a
/// slave of the host, and with "shared" its peer. Only shared and unbindable are set on the root once more
/// after pivot_root.
fn propagation(wanted: Option<&str>) -> Result<(u64, Option<(u64, bool)>)> {
    Ok(match wanted {
        None | Some("" | "slave" | "rslave") => (libc::MS_SLAVE, None),
        Some("private" | "rprivate") => (libc::MS_PRIVATE, None),
        Some("shared") => (0, Some((libc::MS_SHARED, false))),
        Some("rshared") => (0, Some((libc::MS_SHARED, true))),
        Some("unbindable") => (libc::MS_PRIVATE, Some((libc::MS_UNBINDABLE, false))),
        Some("runbindable") => (libc::MS_PRIVATE, Some((libc::MS_UNBINDABLE, true))),
        Some(other) => {
            let message = format!("{other:?}: unknown propagation");
            return Err(Error::invalid("linux.rootfsPropagation", message));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mount_namespace_there_is_one_mount_on_the_host_if_any_is_needed() {
        let enter = |facts: &HostFacts, root: &str, mounts: &str, terminal: bool, namespaces: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.3.0","root":{{"path":"r"{root}}},"mounts":[{mounts}],"process":{{"terminal":{terminal},"cwd":"/"}},"linux":{{"namespaces":[{namespaces}],"uidMappings":[{{"containerID":0,"hostID":1,"size":1}}],"gidMappings":[{{"containerID":0,"hostID":1,"size":1}}]}}}}"#
            );
            let config = crate::spec::parse(json.into_bytes()).unwrap();
            let namespaces = NamespacesPlan::new(&config.spec).unwrap();
            let plan = RootfsPlan::new(&config.spec, facts, &namespaces, CallerOptions::default());
            plan.map(|plan| (plan.enter, plan.host_propagation))
                .map_err(|error| error.to_string())
        };
        let root = HostFacts::of_root();
        let mount = r#"{"destination":"/mnt","type":"tmpfs"}"#;
        let readonly = r#","readonly":true"#;
        let user = r#"{"type":"user"}"#;
        let made = Ok((EnterRoot::MountAndChroot, 0));
        let nothing = Ok((EnterRoot::Chroot, 0));
        assert_eq!(enter(&root, "", "", false, ""), nothing);
        assert_eq!(enter(&root, "", mount, false, ""), made);
        assert_eq!(enter(&root, readonly, "", false, ""), made);
        assert_eq!(enter(&root, "", "", true, ""), made);
        assert_eq!(enter(&root, "", "", true, user), nothing);
        let powerless = HostFacts {
            may_mount: false,
            ..HostFacts::of_root()
        };
        let refused = Err("mounts: unable to mount without a private MNT namespace".to_owned());
        assert_eq!(enter(&root, "", mount, false, user), refused);
        assert_eq!(enter(&powerless, "", mount, false, ""), refused);
        assert_eq!(
            enter(&root, readonly, "", false, user),
            Err("root.readonly: unable to remount without a private MNT namespace".to_owned())
        );
    }

    #[test]
    fn what_is_below_the_rootfs_and_stays_there() {
        let cases: [(&str, Option<&std::ffi::CStr>); 7] = [
            ("", Some(c".")),
            ("a", Some(c"a")),
            ("a//b/./c", Some(c"a//b/./c")),
            ("a/../b", Some(c"a/../b")),
            ("..", None),
            ("a/../../c", None),
            ("a/../../rootfs/c", None),
        ];
        for (rest, inside) in cases {
            assert_eq!(rest_inside(Path::new(rest)).as_deref(), inside, "{rest}");
        }
    }
}

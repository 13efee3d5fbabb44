//! What plans of mounts come to.

mod options;
mod sources;
mod targets;

use runtime_sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_STRICTATIME,
};

use super::options::LOCKABLE;
use super::*;
use crate::plan::CallerOptions;
use crate::spec;

fn plan_mount(mount: &str) -> Result<MountPlan> {
    plan_on(&HostFacts::of_root(), mount)
}

/// With a label, which counts where there is SELinux.
fn plan_on(facts: &HostFacts, mount: &str) -> Result<MountPlan> {
    Ok(plan_all(facts, "", mount)?.remove(0))
}

/// With more namespaces.
fn plan_all(facts: &HostFacts, more: &str, mounts: &str) -> Result<Vec<MountPlan>> {
    let json = format!(
        r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"mounts":[{mounts}],"linux":{{"mountLabel":"u:r:t:s0:c1,c2","namespaces":[{{"type":"mount"}},{{"type":"ipc"}}{more}]}}}}"#
    );
    let config = spec::parse(json.into_bytes())?;
    let namespaces = NamespacesPlan::new(&config.spec)?;
    let rootfs = RootfsPlan::new(&config.spec, facts, &namespaces, CallerOptions::default())?;
    let label = MountLabel::plan(&config.spec, facts)?;
    let context = MountContext {
        facts,
        namespaces: &namespaces,
        rootfs: &rootfs,
        label: label.as_ref(),
    };
    plan(&config.spec, context)
}

fn options_of(mount: &MountPlan) -> Vec<String> {
    let options = match &mount.source {
        MountSource::New(new) | MountSource::Cgroup(new) => &new.options,
        MountSource::Remount { options } => options,
        source => panic!("{source:?}"),
    };
    let text = |(key, value): &FsOption| match value {
        Some(value) => format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap()),
        None => key.to_str().unwrap().to_owned(),
    };
    options.iter().map(text).collect()
}

/// The change that makes a mount read-only.
fn readonly() -> (MountAttr, bool) {
    let attributes = MountAttr {
        set: ATTR_RDONLY,
        ..MountAttr::default()
    };
    (attributes, false)
}

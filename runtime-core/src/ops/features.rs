//! Runs in: RUNTIME. `features`: what onggi can do, as features.md and features-linux.md have it. No look at
//! the host.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::OCI_VERSION;
use crate::plan::seccomp;
use crate::spec::namespace_kind::NamespaceKind;
use crate::spec::{MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, mount_options};

/// The document of `features`. Serialises as the specification wants it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; 6],
    mount_options: Vec<&'static str>,
    linux: LinuxFeatures,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: [&'static str; 4],
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct LinuxFeatures {
    namespaces: [&'static str; NamespaceKind::ALL.len()],
    capabilities: Vec<String>,
    cgroup: CgroupFeatures,
    seccomp: SeccompFeatures,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdtFeatures,
    memory_policy: MemoryPolicyFeatures,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct CgroupFeatures {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct SeccompFeatures {
    enabled: bool,
    actions: Vec<&'static str>,
    operators: Vec<&'static str>,
    archs: Vec<String>,
    known_flags: Vec<&'static str>,
    supported_flags: Vec<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
struct IntelRdtFeatures {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Debug, Clone, Serialize)]
struct MemoryPolicyFeatures {
    modes: [&'static str; 7],
    flags: [&'static str; 3],
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Clone, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// What onggi can do. The value is the same on every host: what a kernel or a host lacks is said when it is
/// asked for.
pub fn features() -> Features {
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: OCI_VERSION,
        hooks: [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        mount_options: mount_options::names(),
        linux: linux_features(),
        annotations: BTreeMap::from([
            ("dev.onggi.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("org.opencontainers.runc.checkpoint.enabled", "true".to_owned()),
        ]),
        potentially_unsafe_config_annotations: [
            "bundle",
            "org.criu.config",
            "org.systemd.property.",
            "run.oci.",
        ],
    }
}

fn linux_features() -> LinuxFeatures {
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_by_key(|capability| capability.index());
    let mut namespaces = NamespaceKind::ALL.map(|kind| kind.name);
    namespaces.sort_unstable();
    LinuxFeatures {
        namespaces,
        capabilities: capabilities.iter().map(ToString::to_string).collect(),
        cgroup: CgroupFeatures {
            v1: false,
            v2: true,
            systemd: true,
            systemd_user: true,
            rdma: true,
        },
        seccomp: SeccompFeatures {
            enabled: true,
            actions: seccomp::ACTIONS.to_vec(),
            operators: seccomp::OPERATORS.to_vec(),
            archs: seccomp::architecture_names(),
            known_flags: seccomp::FLAGS.to_vec(),
            supported_flags: seccomp::FLAGS.to_vec(),
        },
        apparmor: Enabled { enabled: true },
        selinux: Enabled { enabled: true },
        intel_rdt: IntelRdtFeatures {
            enabled: true,
            schemata: true,
            monitoring: true,
        },
        memory_policy: MemoryPolicyFeatures {
            modes: MEMORY_POLICY_MODES,
            flags: MEMORY_POLICY_FLAGS,
        },
        mount_extensions: MountExtensions {
            idmap: Enabled { enabled: true },
        },
        net_devices: Enabled { enabled: true },
    }
}

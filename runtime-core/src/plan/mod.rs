//! Runs in: RUNTIME. Decides, from config.json and host facts, what will be done. Pure: no I/O, no clock, no
//! environment. What comes out is already in the child's own terms: C strings, kernel flags, bit sets, in
//! order.

pub(crate) mod annotations;
pub(crate) mod cgroup;
mod cgroup_owner;
pub(crate) mod devices;
pub(crate) mod hooks;
pub(crate) mod intel_rdt;
pub(crate) mod keyring;
pub(crate) mod mount_label;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod net_devices;
pub(crate) mod process;
pub(crate) mod rootfs;
pub mod seccomp;

use std::ffi::CString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::spec::Config;
use crate::{Error, ErrorKind, Result};
use cgroup::{CgroupDriver, CgroupPlan};
use devices::{DevicesPlan, NodesFrom};
use hooks::HooksPlan;
use intel_rdt::IntelRdtPlan;
use keyring::{KeyringPlan, KeyringSecret, keyring_name};
use mount_label::MountLabel;
use mounts::MountPlan;
use namespaces::NamespacesPlan;
use net_devices::NetDevicePlan;
use process::ProcessPlan;
use rootfs::RootfsPlan;
use runtime_sys::namespace::Kinds;
use seccomp::SeccompPlan;

/// What the plan has to know of the host. `HostFacts::probe` in `host/facts.rs` reads it; tests make it up.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The bundle directory, absolute, without links.
    pub bundle: PathBuf,
    /// Highest capability that the kernel knows.
    pub last_capability: u32,
    /// Capabilities that RUNTIME itself is permitted, bit n for capability n.
    pub permitted_capabilities: u64,
    /// RUNTIME is in another user namespace than the first: rootless Podman, Docker in rootlesskit.
    pub in_user_namespace: bool,
    /// RUNTIME may mount where it is, and so copy mounts. It has CAP_SYS_ADMIN then.
    pub may_mount: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// RUNTIME lacks powers of the host's root: it is another user, or in another user namespace than the
    /// first.
    pub is_rootless: bool,
}

#[cfg(any(test, feature = "unstable"))]
impl HostFacts {
    /// Those of an ordinary host, for its root: for tests and fuzz targets.
    #[doc(hidden)]
    pub fn of_root() -> Self {
        Self {
            bundle: "/bundle".into(),
            last_capability: 40,
            permitted_capabilities: u64::MAX,
            in_user_namespace: false,
            may_mount: true,
            selinux: false,
            is_rootless: false,
        }
    }
}

/// What the caller decides that is not in config.json.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallerOptions<'a> {
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// What of the new keyring nobody may guess.
    pub keyring_secret: KeyringSecret,
    /// Whether a socket to send the terminal to was given.
    pub console: ConsoleRequest,
    /// Rows and columns of the caller's own terminal, for a process whose config gives none.
    pub terminal_size: Option<(u16, u16)>,
    /// Whether the terminal leaves newlines as they are.
    pub plain_newlines: bool,
    /// The descriptors that the program inherits besides standard input to error, sockets of the service
    /// manager included. Sorted.
    pub inherited: &'a [RawFd],
    /// Descriptors that the caller has given, and the numbers that they get: 0 to 2, or one of `inherited`.
    pub placed: &'a [(RawFd, RawFd)],
    /// How many of these are sockets of the service manager.
    pub listen_fds: u32,
    /// Annotation `run.oci.keep_original_groups` (crun's): supplementary groups are not touched.
    pub keep_groups: bool,
    /// Soft and hard limit of open files where config.json names none, if not RUNTIME's own.
    pub open_files: Option<(u64, u64)>,
    /// Who makes the cgroup, if there is one to be made.
    pub cgroup_driver: CgroupDriver,
    /// Whether the container is made without one where the right to make one is missing and nothing depends
    /// on it.
    pub rootless: bool,
}

/// What was said about the terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConsoleRequest {
    /// Nothing: then there must be none.
    #[default]
    None,
    /// There is somebody to take it, if there is one: `run` in the foreground.
    Optional,
    /// `--console-socket`: there must be one.
    Required,
}

/// Everything that was decided about a container, before anything is done.
#[derive(Debug)]
pub struct Plan {
    /// RUNTIME may not mount and not look into processes: what takes that is done by its children.
    pub unprivileged: bool,
    /// Namespaces.
    pub namespaces: NamespacesPlan,
    /// The rootfs.
    pub rootfs: RootfsPlan,
    /// `mounts`, in order.
    pub mounts: Vec<MountPlan>,
    /// /dev.
    pub devices: DevicesPlan,
    /// Paths below /proc, and values.
    pub sysctl: Vec<Sysctl>,
    /// Host name.
    pub hostname: Option<Vec<u8>>,
    /// NIS domain name.
    pub domainname: Option<Vec<u8>>,
    /// `linux.netDevices`, by name.
    pub net_devices: Vec<NetDevicePlan>,
    /// `linux.intelRdt`.
    pub intel_rdt: Option<IntelRdtPlan>,
    /// The session keyring.
    pub keyring: Option<KeyringPlan>,
    /// Hooks that run inside.
    pub hooks: HooksPlan,
    /// The program.
    pub process: ProcessPlan,
    /// `linux.mountLabel`, where there is SELinux.
    pub mount_label: Option<MountLabel>,
    /// Its filter.
    pub seccomp: Option<SeccompPlan>,
    /// The container's cgroup.
    pub cgroup: CgroupPlan,
}

/// A kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// As in config.json.
    pub name: String,
    /// Below the root of procfs, without leading slash.
    pub path: CString,
    /// Value.
    pub value: Vec<u8>,
}

impl Plan {
    /// Decides. `config` has been validated.
    ///
    /// # Errors
    /// `Invalid`, with the field, for what only the whole picture shows; `Unsupported` for what onggi cannot
    /// do.
    pub fn new(config: &Config, id: &str, facts: &HostFacts, caller: CallerOptions<'_>) -> Result<Self> {
        let spec = &config.spec;
        refuse_long_lists(spec)?;
        let namespaces = NamespacesPlan::new(spec)?;
        refuse_without_user_namespace(facts, &namespaces)?;
        let rootfs = RootfsPlan::new(spec, facts, &namespaces, caller)?;
        let mount_label = MountLabel::plan(spec, facts)?;
        let context = mounts::MountContext {
            facts,
            namespaces: &namespaces,
            rootfs: &rootfs,
            label: mount_label.as_ref(),
        };
        let mounts = mounts::plan(spec, context)?;
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| Error::invalid("process", "missing"))?;
        let inside = namespaces.is_user_namespaced();
        Ok(Self {
            unprivileged: !facts.may_mount,
            devices: DevicesPlan::new(spec, &mounts, nodes_from(&namespaces, facts))?,
            sysctl: plan_sysctl(spec)?,
            hostname: spec.hostname().as_ref().map(|name| name.clone().into_bytes()),
            domainname: spec.domainname().as_ref().map(|name| name.clone().into_bytes()),
            net_devices: net_devices::plan(spec, facts)?,
            intel_rdt: intel_rdt::plan(spec, id),
            keyring: plan_keyring(id, caller, facts, inside)?,
            hooks: HooksPlan::new(spec)?,
            process: ProcessPlan::new(process, spec.linux().as_ref(), facts, inside, caller)?,
            seccomp: plan_seccomp(spec)?,
            cgroup: CgroupPlan::new(config, id, caller)?,
            mount_label,
            namespaces,
            rootfs,
            mounts,
        })
    }
}

/// A node that is to be used must be made by root of the first user namespace; and TREES, which does it,
/// needs INIT's own mount namespace to do it in.
fn nodes_from(namespaces: &NamespacesPlan, facts: &HostFacts) -> NodesFrom {
    const CAP_MKNOD: u64 = 1 << 27;
    if !namespaces.is_user_namespaced() && !facts.in_user_namespace {
        return NodesFrom::Init {
            may_mount: namespaces.has_own_mounts,
        };
    }
    let has_own_mounts = namespaces.unshare.has(Kinds::MOUNT);
    let may_make = !facts.is_rootless && facts.may_mount && facts.permitted_capabilities & CAP_MKNOD != 0;
    match has_own_mounts && may_make {
        true => NodesFrom::Trees,
        false => NodesFrom::Host,
    }
}

/// Without CAP_SYS_ADMIN only a new user namespace can give the right to make the other namespaces and to
/// mount.
fn refuse_without_user_namespace(facts: &HostFacts, namespaces: &NamespacesPlan) -> Result<()> {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    if namespaces.is_user_namespaced() || facts.permitted_capabilities & CAP_SYS_ADMIN != 0 {
        return Ok(());
    }
    Err(
        Error::invalid("linux.namespaces", "rootless container requires user namespaces")
            .with_kind(ErrorKind::Denied)
            .with_hint(
                "this user is not root: add the namespace \"user\" with uidMappings and gidMappings, as \"spec --rootless\" has it",
            ),
    )
}

/// A place in a list has 16 bits on its way from the child.
fn refuse_long_lists(spec: &Spec) -> Result<()> {
    let linux = spec.linux().as_ref();
    let length = |list: Option<usize>| list.unwrap_or(0);
    let lists = [
        ("mounts", length(spec.mounts().as_ref().map(Vec::len))),
        (
            "linux.devices",
            length(linux.and_then(|linux| linux.devices().as_ref()).map(Vec::len)),
        ),
        (
            "linux.maskedPaths",
            length(
                linux
                    .and_then(|linux| linux.masked_paths().as_ref())
                    .map(Vec::len),
            ),
        ),
        (
            "linux.readonlyPaths",
            length(
                linux
                    .and_then(|linux| linux.readonly_paths().as_ref())
                    .map(Vec::len),
            ),
        ),
        (
            "linux.sysctl",
            length(
                linux
                    .and_then(|linux| linux.sysctl().as_ref())
                    .map(|sysctl| sysctl.len()),
            ),
        ),
    ];
    match lists.iter().find(|(_, length)| *length > MOST_ENTRIES) {
        Some((field, _)) => Err(Error::invalid(
            *field,
            format!("has more than {MOST_ENTRIES} entries"),
        )),
        None => Ok(()),
    }
}

/// More than any container has; and the default devices come on top.
const MOST_ENTRIES: usize = 60_000;

fn plan_keyring(
    id: &str,
    caller: CallerOptions<'_>,
    facts: &HostFacts,
    inside: bool,
) -> Result<Option<KeyringPlan>> {
    if caller.no_new_keyring {
        return Ok(None);
    }
    let name = keyring_name(id, caller.keyring_secret);
    KeyringPlan::new(&name, caller.keyring_secret, facts, inside).map(Some)
}

/// The filter of `linux.seccomp`.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn plan_seccomp(spec: &Spec) -> Result<Option<SeccompPlan>> {
    match annotations::seccomp(spec)? {
        Some(seccomp) => seccomp::compile(&seccomp),
        None => Ok(None),
    }
}

fn plan_sysctl(spec: &Spec) -> Result<Vec<Sysctl>> {
    let Some(sysctl) = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else {
        return Ok(Vec::new());
    };
    let mut planned = Vec::with_capacity(sysctl.len());
    for (name, value) in sysctl {
        let field = || format!("linux.sysctl[{name}]");
        let dotted = crate::spec::sysctl::dotted(name);
        let path = crate::spec::sysctl::path(&dotted)
            .ok_or_else(|| Error::invalid(field(), "not the name of a kernel parameter"))?;
        let path = c_string(format!("sys/{path}"), field())?;
        planned.push(Sysctl {
            name: name.clone(),
            path,
            value: value.clone().into_bytes(),
        });
    }
    // The document has no order; a fixed one makes errors repeatable.
    planned.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(planned)
}

/// A C string, or an error that names the field.
pub(crate) fn c_string(
    bytes: impl Into<Vec<u8>>,
    field: impl Into<std::borrow::Cow<'static, str>>,
) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::invalid(field, "contains a null byte"))
}

/// A path in the container, cleaned without looking at it (`.`, `..` and double slashes are gone), and
/// without its leading slash: "" is the root. Relative paths count from "/" (config.md, Mounts).
pub(crate) fn clean_in_container(
    path: &Path,
    field: impl Into<std::borrow::Cow<'static, str>>,
) -> Result<CString> {
    c_string(crate::spec::paths::clean(path), field)
}

//! What RUNTIME has prepared for its child: borrowed views only, the contract between the two crates.
//!
//! Everything here was made before `clone3` and lies in the child's copy of memory at the same place, from
//! where the child takes it into memory of its own (`carry.rs`). Descriptors are in the child's copy of the
//! table under the same numbers.

use core::ffi::CStr;

use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::Dev;

use runtime_sys::fs::Identity;
use runtime_sys::mount::MountAttr;
use runtime_sys::namespace::Kinds;
use runtime_sys::process::{ExecVector, Resource, SchedAttr, SockFilter};

/// Everything that INIT needs, in the order in which it needs it.
#[derive(Debug)]
pub struct InitArgs<'a> {
    /// The child's end of the socket pair.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep, sorted; all others are closed first.
    pub keep: &'a [RawFd],
    /// RUNTIME has no rights over other users' files below /proc.
    pub unprivileged: bool,
    /// Namespaces to join and to make.
    pub namespaces: NamespaceArgs<'a>,
    /// Present where an intermediate process makes init.
    pub intermediate: Option<IntermediateArgs<'a>>,
    /// It is born in its cgroup, and will not be moved to another.
    pub has_its_cgroup: bool,
    /// Descriptors of trees that are exchanged for locked ones, in the order in which RUNTIME sends those.
    pub locked_trees: &'a [BorrowedFd<'a>],
    /// Whether RUNTIME has network devices to move in.
    pub net_devices: bool,
    /// The session keyring; `None` with `--no-new-keyring`.
    pub keyring: Option<KeyringArgs<'a>>,
    /// Host name.
    pub hostname: Option<&'a [u8]>,
    /// NIS domain name.
    pub domainname: Option<&'a [u8]>,
    /// A private procfs mount, where something has to be read or written there.
    pub procfs: Option<BorrowedFd<'a>>,
    /// The root file system.
    pub rootfs: RootfsArgs<'a>,
    /// `mounts`, in order.
    pub mounts: &'a [MountArgs<'a>],
    /// Nodes in /dev.
    pub devices: &'a [DeviceArgs<'a>],
    /// Links in /dev.
    pub device_links: &'a [LinkArgs<'a>],
    /// Whether RUNTIME has hooks to run while init waits.
    pub runtime_hooks: bool,
    /// Hooks that init runs.
    pub hooks: HookArgs<'a>,
    /// Kernel parameters.
    pub sysctl: &'a [SysctlArgs<'a>],
    /// Paths to make read-only, without leading slash.
    pub readonly_paths: &'a [&'a CStr],
    /// Paths to hide.
    pub masked: MaskArgs<'a>,
    /// The program.
    pub process: ProcessArgs<'a>,
    /// How the process learns that it may execute the program.
    pub gate: Gate<'a>,
}

/// Namespaces of the child.
#[derive(Debug)]
pub struct NamespaceArgs<'a> {
    /// Namespace files to join, the user namespace first.
    pub join: &'a [JoinArgs<'a>],
    /// Whether the user namespace is made after the others have been joined; RUNTIME is asked for its maps
    /// then.
    pub new_user: bool,
    /// Whether a user namespace is new or joined, so that ids must be changed to its root.
    pub become_root: bool,
    /// What init makes itself.
    pub unshare: Kinds,
    /// Whether the network namespace is new.
    pub loopback: bool,
}

/// One namespace to join.
#[derive(Debug, Clone, Copy)]
pub struct JoinArgs<'a> {
    /// Place in `linux.namespaces`.
    pub index: u16,
    /// The namespace file, checked to be one of `kind`; or a pidfd.
    pub fd: BorrowedFd<'a>,
    /// One; several with a pidfd.
    pub kind: Kinds,
}

/// What the intermediate process does before it makes init.
#[derive(Debug)]
pub struct IntermediateArgs<'a> {
    /// What must be there before init is born (time, with offsets).
    pub unshare: Kinds,
    /// The bytes for /proc/self/timens_offsets, empty for none.
    pub time_offsets: &'a [u8],
    /// A pid namespace, or nothing.
    pub clone: Kinds,
    /// Place in `linux.namespaces` of what `clone` makes, for messages.
    pub index: u16,
    /// Whether it takes all of INIT's steps up to Ready itself, and makes INIT then.
    pub last: bool,
}

/// A session keyring.
#[derive(Debug, Clone, Copy)]
pub struct KeyringArgs<'a> {
    /// Its name, which nobody can guess.
    pub name: &'a CStr,
    /// The real user who makes it, and whom nobody else is; `None` where only the first user namespace's root
    /// could give it away again.
    pub maker: Option<u32>,
}

/// Which directory is the container's root, for a process that has joined its namespaces.
#[derive(Debug, Clone, Copy)]
pub struct RootArgs<'a> {
    /// What "/" may be then; `None`: whatever it is, where RUNTIME could not look into the container.
    pub known: Option<&'a [Identity]>,
    /// The container's root, opened by RUNTIME, which becomes "/" where that is none of these.
    pub instead: Option<BorrowedFd<'a>>,
}

/// The root file system.
#[derive(Debug)]
pub struct RootfsArgs<'a> {
    /// Its absolute path on the host, links resolved.
    pub path: &'a CStr,
    /// The detached tree of it.
    pub tree: BorrowedFd<'a>,
    /// What is done to the propagation of all mounts inherited from the host; 0 for nothing.
    pub host_propagation: u64,
    /// Propagation of the new root at the end, and whether for all mounts below it too.
    pub final_propagation: Option<(u64, bool)>,
    /// Whether the root mount becomes read-only.
    pub readonly: bool,
    /// New file systems that become read-only with it: place in `mounts`, and path without leading slash.
    pub readonly_mounts: &'a [(u16, &'a CStr)],
    /// How it becomes the root.
    pub enter: EnterRoot,
}

/// How the rootfs becomes the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnterRoot {
    /// pivot_root(2), and the old root is gone.
    Pivot,
    /// MS_MOVE onto "/" and chroot(2): `--no-pivot`, for a root on a ramdisk.
    MoveAndChroot,
    /// The rootfs is mounted over its own directory, on the host, and then chroot(2): no mount namespace of
    /// its own. All that is mounted lies on that mount, and goes with it.
    MountAndChroot,
    /// chroot(2) only: the same, and nothing is mounted.
    Chroot,
}

/// A place in the rootfs. The path is clean (no `..`, no doubled slash) and has no leading slash; it is
/// untrusted.
#[derive(Debug, Clone, Copy)]
pub struct TargetArgs<'a> {
    /// The path.
    pub path: &'a CStr,
    /// What is made there if nothing is.
    pub is_directory: bool,
    /// What symbolic links on the way are.
    pub links: Links,
    /// Whether it may lie on a procfs: only for the few files that may be mounted over.
    pub may_be_on_procfs: bool,
}

/// What becomes of symbolic links in the path of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are followed, inside the root.
    Follow,
    /// The same, but for the last component: a link there is itself the place.
    KeepLast,
    /// They are an error: for proc and sysfs.
    Refuse,
}

/// One mount.
#[derive(Debug)]
pub struct MountArgs<'a> {
    /// Place in `mounts`.
    pub index: u16,
    /// Where.
    pub target: TargetArgs<'a>,
    /// What.
    pub what: MountWhat<'a>,
    /// Changes after it is made and before it is attached, in order; the flag: recursively.
    pub attributes: &'a [(MountAttr, bool)],
    /// Whether places of later mounts are made in it although it is read-only, if it is a tree that INIT
    /// holds so long.
    pub places_below: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum MountWhat<'a> {
    /// A detached tree that RUNTIME has opened and set up.
    Tree(BorrowedFd<'a>),
    /// A tree of the host that INIT itself copies: there are more than RUNTIME may have descriptors.
    HostTree(TreeSource<'a>),
    /// What lies at a place inside the rootfs when it is the mount's turn: an earlier mount may have made it.
    Inside(InsideArgs<'a>),
    /// Nothing: a symbolic link that says this is made instead.
    Link(&'a CStr),
    /// A new file system.
    New(NewArgs<'a>),
    /// A new file system by mount(2), where an option is too long for fsconfig(2).
    Classic(ClassicArgs<'a>),
    /// Options and attributes of what is mounted there already (`remount`): options of the superblock to
    /// change.
    Remount(&'a [(&'a CStr, Option<&'a CStr>)]),
}

/// A new file system.
#[derive(Debug)]
pub struct NewArgs<'a> {
    /// File system type.
    pub fstype: &'a CStr,
    /// Options in order: key, value.
    pub options: &'a [(&'a CStr, Option<&'a CStr>)],
    /// `MOUNT_ATTR_*`.
    pub attributes: u64,
    /// Whether the contents of the directory below are copied into it.
    pub copy_up: bool,
    /// Whether its mode is that of the directory which it covers.
    pub mode_of_place: bool,
    /// `security.selinux` of its root directory.
    pub root_label: Option<&'a CStr>,
    /// What fsopen(2) gave in the pid namespace that INIT will be in.
    pub context: Option<ContextArgs<'a>>,
    /// A tree to mount where the kernel does not allow a new one (sysfs, cgroup in a user namespace).
    pub fallback: Option<BorrowedFd<'a>>,
}

/// A new file system by mount(2).
#[derive(Debug)]
pub struct ClassicArgs<'a> {
    /// Its source.
    pub source: &'a CStr,
    /// File system type.
    pub fstype: &'a CStr,
    /// `MS_*`.
    pub flags: u64,
    /// Options.
    pub data: &'a CStr,
    /// Whether its mode is that of the directory which it covers.
    pub mode_of_place: bool,
}

/// A procfs that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct ContextArgs<'a> {
    /// From fsopen(2).
    pub fd: BorrowedFd<'a>,
    /// Device and inode of the pid namespace that it must show, where the context comes from a process that
    /// others could reach.
    pub must_show: Option<(u64, u64)>,
}

/// Everything that the process needs which has a procfs opened in a pid namespace.
#[derive(Debug)]
pub struct ProcfsArgs<'a> {
    /// Its end of a socket pair of its own.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep, sorted.
    pub keep: &'a [RawFd],
    /// A user namespace to join first, where RUNTIME has no rights over the pid namespace itself.
    pub user: Option<JoinArgs<'a>>,
    /// The pid namespace.
    pub pids: JoinArgs<'a>,
}

/// One device node. `path` as in [`TargetArgs`].
#[derive(Debug)]
pub struct DeviceArgs<'a> {
    /// Directory part.
    pub directory: &'a CStr,
    /// Last component.
    pub name: &'a CStr,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub file_type: u32,
    /// Permission bits.
    pub mode: u32,
    /// Device number.
    pub device: Dev,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The host's node as a detached mount, where nodes cannot be made (user namespace).
    pub host_node: Option<BorrowedFd<'a>>,
    /// Where the host has it, which is mounted if INIT is refused to make one.
    pub instead: Option<&'a CStr>,
}

/// One symbolic link in /dev.
#[derive(Debug)]
pub struct LinkArgs<'a> {
    /// Where it points.
    pub target: &'a CStr,
    /// Its name in /dev.
    pub name: &'a CStr,
    /// Whether something else of that name is replaced.
    pub replace: bool,
}

/// Paths to hide.
#[derive(Debug)]
pub struct MaskArgs<'a> {
    /// Paths without leading slash.
    pub paths: &'a [&'a CStr],
    /// A detached mount of the host's /dev/null, verified.
    pub null: Option<BorrowedFd<'a>>,
    /// SELinux's label, as an option of the tmpfs over directories.
    pub label: Option<(&'a CStr, Option<&'a CStr>)>,
}

/// One kernel parameter.
#[derive(Debug)]
pub struct SysctlArgs<'a> {
    /// Path below the root of procfs, "sys/net/...".
    pub path: &'a CStr,
    /// Value.
    pub value: &'a [u8],
}

/// Hooks that run in the container's namespaces.
#[derive(Debug)]
pub struct HookArgs<'a> {
    /// createContainer.
    pub create_container: &'a mut [Hook<'a>],
    /// startContainer.
    pub start_container: &'a mut [Hook<'a>],
    /// The state on standard input of createContainer hooks, up to and after the digits of the pid.
    pub creating_state: (&'a [u8], &'a [u8]),
    /// The same for startContainer hooks.
    pub created_state: (&'a [u8], &'a [u8]),
    /// Soft and hard limit of open files for createContainer hooks, if not RUNTIME's own. The others get the
    /// process's.
    pub open_files: Option<(u64, u64)>,
    /// Where their standard output goes, if not to a file for RUNTIME.
    pub stdout: Option<BorrowedFd<'a>>,
    /// The same for standard error.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// A hook in the runtime's namespaces.
#[derive(Debug)]
pub struct HostHookArgs<'a> {
    /// Program.
    pub path: &'a CStr,
    /// Arguments.
    pub argv: ExecVector<'a>,
    /// Environment.
    pub envp: ExecVector<'a>,
    /// Standard input, output and error; none of them has one of these three numbers.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its working directory, if not RUNTIME's.
    pub directory: Option<BorrowedFd<'a>>,
    /// Whether it leads a process group of its own.
    pub own_group: bool,
    /// Soft and hard limit of open files, if not RUNTIME's own.
    pub open_files: Option<(u64, u64)>,
    /// Gets the errno, four bytes, if the program cannot be executed; close-on-exec.
    pub failure: BorrowedFd<'a>,
}

/// One hook.
#[derive(Debug)]
pub struct Hook<'a> {
    /// Program.
    pub path: &'a CStr,
    /// Arguments.
    pub argv: ExecVector<'a>,
    /// Environment.
    pub envp: ExecVector<'a>,
    /// Whether `envp` is to be that of the process, HOME included.
    pub inherit: bool,
    /// Milliseconds.
    pub timeout: Option<i64>,
}

/// The program and its properties.
#[derive(Debug)]
pub struct ProcessArgs<'a> {
    /// The terminal, if the process has one.
    pub console: Option<ConsoleArgs<'a>>,
    /// Scheduling policy.
    pub scheduler: Option<SchedAttr>,
    /// Value for `ioprio_set`.
    pub io_priority: Option<i32>,
    /// Execution domain.
    pub personality: Option<u64>,
    /// NUMA memory policy: mode and nodes.
    pub memory_policy: Option<(i32, &'a [u64])>,
    /// What is written to attr/apparmor/exec: `exec PROFILE`.
    pub apparmor: Option<&'a [u8]>,
    /// What is written to attr/exec.
    pub selinux: Option<&'a [u8]>,
    /// Working directory, without leading slash.
    pub cwd: &'a CStr,
    /// Resource limits: index in `process.rlimits`, `RLIMIT_*`, soft, hard. Empty where RUNTIME sets them
    /// from outside.
    pub rlimits: &'a [(u16, Resource, u64, u64)],
    /// Limits that are taken after `start` only, because the child itself could not go on under them.
    pub late_rlimits: &'a [(u16, Resource, u64, u64)],
    /// Ids and capabilities.
    pub credentials: CredentialArgs<'a>,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// Candidates for the program, in the order of PATH.
    pub candidates: &'a [&'a CStr],
    /// The place of the candidate that was found: 0 at first, set by the child.
    pub found: usize,
    /// Arguments.
    pub argv: ExecVector<'a>,
    /// Environment, with a spare slot for HOME and one for LISTEN_PID.
    pub envp: ExecVector<'a>,
    /// Room for "HOME=..." from the container's /etc/passwd; empty if HOME is given.
    pub home: &'a mut [u8],
    /// Room for "LISTEN_PID=..."; empty if no sockets are passed.
    pub listen_pid: &'a mut [u8],
    /// Filter.
    pub seccomp: Option<SeccompArgs<'a>>,
    /// Descriptors from 3 on that the program inherits, sorted.
    pub inherited: &'a [RawFd],
    /// Descriptors of the host program, and the numbers that they get, before anything else is done: 0 to 2,
    /// or one of `inherited`. None of the numbers is a descriptor of ours.
    pub placed: &'a [(RawFd, RawFd)],
}

/// The terminal.
#[derive(Debug)]
pub struct ConsoleArgs<'a> {
    /// Connected socket that the master is sent over.
    pub socket: BorrowedFd<'a>,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    /// Whether newlines go out as they are, without a carriage return in front.
    pub plain_newlines: bool,
    /// Whether it becomes /dev/console.
    pub dev_console: bool,
}

/// Ids and capabilities.
#[derive(Debug)]
pub struct CredentialArgs<'a> {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups; `None`: not touched.
    pub groups: Option<&'a [u32]>,
    /// umask.
    pub umask: u32,
    /// Capabilities.
    pub capabilities: CapabilityArgs,
}

/// Capability sets, bit n for capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilityArgs {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
    /// Highest capability of this kernel.
    pub last: u32,
}

/// The filter.
#[derive(Debug)]
pub struct SeccompArgs<'a> {
    /// Instructions.
    pub program: &'a [SockFilter],
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Whether the filter notifies, so that its listener has to be handed to RUNTIME.
    pub notifies: bool,
    /// Whether RUNTIME can take the listener only from a process that is dumpable.
    pub dumpable: bool,
}

/// How the child learns that it may execute the program.
#[derive(Debug, Clone, Copy)]
pub enum Gate<'a> {
    /// `run` and `exec`: a record on the link.
    Link,
    /// `create`: a connection to the socket in the state directory.
    Socket(BorrowedFd<'a>),
}

/// Everything that the process needs which copies the host's trees in INIT's mount namespace.
#[derive(Debug)]
pub struct TreesArgs<'a> {
    /// Its end of a socket pair of its own.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep, sorted.
    pub keep: &'a [RawFd],
    /// How it gets into INIT's mount namespace: by INIT's pidfd, or by the user namespace that owns it and
    /// then itself.
    pub namespaces: &'a [JoinArgs<'a>],
    /// What to copy.
    pub sources: &'a [TreeSource<'a>],
    /// The option that labels a new file system.
    pub label: Option<(&'a CStr, Option<&'a CStr>)>,
}

/// The source of a bind mount inside the rootfs.
#[derive(Debug, Clone, Copy)]
pub struct InsideArgs<'a> {
    /// Looked up with the rootfs as root.
    pub path: &'a CStr,
    /// With what is mounted below it.
    pub recursive: bool,
    /// A link at the end of the path is not followed.
    pub keeps_link: bool,
    /// And if there is one, a link that says the same is made instead of a mount.
    pub copies_link: bool,
    /// It is mounted on /proc.
    pub must_be_procfs: bool,
    /// RUNTIME gives the copy its id mapping.
    pub is_mapped: bool,
}

/// A tree of the host, as RUNTIME has found it.
#[derive(Debug, Clone, Copy)]
pub struct TreeSource<'a> {
    /// Absolute, without links.
    pub path: &'a CStr,
    /// Device and inode of what must be found there.
    pub identity: (u64, u64),
    /// With what is mounted below it.
    pub recursive: bool,
    /// Changes of attributes and propagation, in order; the flag: recursively. Those that RUNTIME may not
    /// make itself.
    pub attributes: &'a [(MountAttr, bool)],
    /// A device node to make, which is no file of the host's: then nothing is looked for.
    pub node: Option<NodeArgs<'a>>,
}

/// A device node that TREES makes.
#[derive(Debug, Clone, Copy)]
pub struct NodeArgs<'a> {
    /// Its name among them.
    pub name: &'a CStr,
    /// `S_IFCHR` or `S_IFBLK`.
    pub file_type: u32,
    /// Permission bits.
    pub mode: u32,
    /// Device number.
    pub device: Dev,
    /// Owner on the host.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
}

/// Everything that MOUNTER needs.
#[derive(Debug)]
pub struct MounterArgs<'a> {
    /// Its end of a socket pair of its own.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep, sorted.
    pub keep: &'a [RawFd],
    /// Namespaces of the container to join; no pid namespace among them.
    pub namespaces: &'a [JoinArgs<'a>],
    /// Whether the user namespace differs from RUNTIME's.
    pub become_root: bool,
    /// The container's root.
    pub root: RootArgs<'a>,
    /// What it does there.
    pub work: MounterWork<'a>,
}

/// What is done to a running container's mounts, in order.
#[derive(Debug)]
pub enum MounterWork<'a> {
    /// These are added.
    Add(&'a [MountArgs<'a>]),
    /// These are taken away.
    Remove(&'a [RemovalArgs<'a>]),
}

/// A mount point that is taken away.
#[derive(Debug, Clone, Copy)]
pub struct RemovalArgs<'a> {
    /// Place in the list.
    pub index: u16,
    /// Directory part, clean, without leading slash; "." for the root.
    pub directory: &'a CStr,
    /// Last component.
    pub name: &'a CStr,
}

/// Everything that the process needs which holds a mount namespace of the container's user namespace.
#[derive(Debug)]
pub struct HolderArgs<'a> {
    /// Its end of a socket pair of its own.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep, sorted.
    pub keep: &'a [RawFd],
    /// The user namespace.
    pub user: JoinArgs<'a>,
}

/// Everything that the process needs which becomes criu.
#[derive(Debug)]
pub struct CriuArgs<'a> {
    /// Its end of a socket pair of its own.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep until `execve`, sorted.
    pub keep: &'a [RawFd],
    /// Those of them that criu inherits, under the same numbers.
    pub inherit: &'a [BorrowedFd<'a>],
    /// The number under which criu inherits its connection, until then something else.
    pub socket: BorrowedFd<'a>,
    /// The directories that criu works in.
    pub directories: &'a [CriuDirectory<'a>],
    /// What criu gets as standard input, output and error, each with its number; it keeps RUNTIME's own where
    /// there is none.
    pub placed: &'a [(RawFd, RawFd)],
    /// The session keyring that the restored processes are to have.
    pub keyring: Option<KeyringArgs<'a>>,
    /// The rootfs, for a restore.
    pub root: Option<CriuRootArgs<'a>>,
    /// criu.
    pub program: &'a CStr,
    /// Its arguments.
    pub argv: ExecVector<'a>,
    /// Its environment.
    pub envp: ExecVector<'a>,
}

/// A directory that criu works in. It inherits it under the number that it has in RUNTIME.
#[derive(Debug, Clone, Copy)]
pub struct CriuDirectory<'a> {
    /// As RUNTIME has it open.
    pub fd: BorrowedFd<'a>,
    /// Absolute, without links.
    pub path: &'a CStr,
    /// Device and inode.
    pub identity: (u64, u64),
}

/// Where criu finds the rootfs.
#[derive(Debug)]
pub struct CriuRootArgs<'a> {
    /// A directory of the host that it is mounted on.
    pub place: &'a CStr,
    /// The tree for criu.
    pub rootfs: BorrowedFd<'a>,
    /// A copy of it, in which the places of mounts are made.
    pub draft: BorrowedFd<'a>,
    /// The places.
    pub mounts: &'a [CriuMountArgs<'a>],
}

/// The place of a mount.
#[derive(Debug, Clone, Copy)]
pub struct CriuMountArgs<'a> {
    /// Place in `mounts`.
    pub index: u16,
    /// Where.
    pub target: TargetArgs<'a>,
    /// A symbolic link that is made there instead of a place.
    pub link: Option<&'a CStr>,
    /// What is mounted there.
    pub tree: Option<BorrowedFd<'a>>,
}

/// Everything that EXEC needs.
#[derive(Debug)]
pub struct JoinProcessArgs<'a> {
    /// The child's end of the socket pair.
    pub link: BorrowedFd<'a>,
    /// The descriptors to keep, sorted.
    pub keep: &'a [RawFd],
    /// RUNTIME has no rights over other users' files below /proc.
    pub unprivileged: bool,
    /// Namespaces to join.
    pub namespaces: &'a [JoinArgs<'a>],
    /// Whether a pid namespace is among them, into which only a child can be born.
    pub joins_pids: bool,
    /// Whether the user namespace differs from the caller's.
    pub become_root: bool,
    /// The container's root.
    pub root: RootArgs<'a>,
    /// The container's session keyring.
    pub keyring: Option<KeyringArgs<'a>>,
    /// A private procfs mount, where something has to be written there.
    pub procfs: Option<BorrowedFd<'a>>,
    /// The program.
    pub process: ProcessArgs<'a>,
}

/// Everything that the process needs which holds a new user namespace, and does nothing else.
#[derive(Debug)]
pub struct NamespaceHolderArgs<'a> {
    /// Its end of a socket pair of its own: it ends with the other.
    pub link: BorrowedFd<'a>,
}

/// Everything that SWEEPER needs.
#[derive(Debug)]
pub struct SweeperArgs<'a> {
    /// Its end of a socket pair of its own.
    pub link: BorrowedFd<'a>,
    /// The cgroup below which all are removed.
    pub cgroup: BorrowedFd<'a>,
}

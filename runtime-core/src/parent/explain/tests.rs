//! Runs in: RUNTIME. Golden messages: what people read when a step of the child fails, one entry for each
//! [`Step`] at least. A message names the operation, the field of config.json, the path, the call and the
//! errno, and a hint where the cause is known.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;

use super::*;
use crate::plan::{CallerOptions, ConsoleRequest, HostFacts};
use crate::spec::{self, Config};

/// A document with something for every step. Only parsed and planned, never run.
const CONFIG: &str = r#"{
    "ociVersion": "1.3.0",
    "process": {
        "terminal": true,
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [5]},
        "args": ["server", "--listen"],
        "env": ["PATH=/usr/bin:/bin", "HOME=/"],
        "cwd": "/srv/data",
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
        "apparmorProfile": "onggi-default",
        "selinuxLabel": "system_u:system_r:container_t:s0",
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "noNewPrivileges": true
    },
    "root": {"path": "rootfs", "readonly": true},
    "hostname": "jar",
    "domainname": "example.org",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64m"]},
        {"destination": "/etc/conf", "type": "bind", "source": "/srv/conf", "options": ["rbind", "ro"]},
        {"destination": "/var/cache", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
        {"destination": "/data", "type": "xfz", "source": "data"}
    ],
    "hooks": {
        "createContainer": [{"path": "/usr/libexec/net"}, {"path": "/usr/libexec/log", "timeout": 5}],
        "startContainer": [{"path": "/bin/prepare"}]
    },
    "linux": {
        "namespaces": [
            {"type": "pid"}, {"type": "network", "path": "/run/netns/blue"}, {"type": "mount"}, {"type": "uts"},
            {"type": "ipc"}, {"type": "user"}, {"type": "time"}
        ],
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "timeOffsets": {"monotonic": {"secs": 3600, "nanosecs": 0}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "personality": {"domain": "LINUX32"},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1"},
        "rootfsPropagation": "slave",
        "mountLabel": "system_u:object_r:no_t:s0",
        "maskedPaths": ["/proc/kcore", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys"],
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}
    }
}"#;

struct Made {
    config: Config,
    plan: Plan,
}

fn made() -> Made {
    let facts = HostFacts {
        selinux: true,
        ..HostFacts::of_root()
    };
    let config = spec::parse(CONFIG.as_bytes().to_vec()).unwrap();
    spec::validate(&config).unwrap();
    let caller = CallerOptions {
        console: ConsoleRequest::Required,
        ..CallerOptions::default()
    };
    let plan = Plan::new(&config, "jar", &facts, caller).unwrap();
    Made { config, plan }
}

/// A pid that is never there, so that no file of this host is looked at.
const NOBODY: i32 = i32::MAX;

fn at(step: Step, call: Call, errno: Errno) -> Failure {
    Failure {
        step,
        call,
        index: 0,
        sub: 0,
        errno,
    }
}

fn nth(index: u16, failure: Failure) -> Failure {
    Failure { index, ..failure }
}

fn sub(sub: u16, failure: Failure) -> Failure {
    Failure { sub, ..failure }
}

fn message(made: &Made, failure: Failure, output: Option<OwnedFd>) -> Error {
    let subject = Subject {
        process: &made.plan.process,
        container: Some((&made.plan, &made.config.spec)),
    };
    explain(subject, NOBODY, failure, output)
}

#[test]
fn every_step_has_its_golden_message() {
    let made = made();
    let mut wrong = Vec::new();
    let mut explained = HashSet::new();
    for (failure, golden) in goldens() {
        explained.insert(failure.step.name());
        let text = message(&made, failure, None).to_string();
        if text != golden {
            wrong.push(format!("{failure:?}\n  is:     {text}\n  golden: {golden}"));
        }
    }
    let missing: Vec<_> = Step::ALL
        .iter()
        .map(|step| step.name())
        .filter(|name| !explained.contains(name))
        .collect();
    assert!(missing.is_empty(), "no golden message for {missing:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table. Only hooks can have an output, which is tested below.
#[rustfmt::skip]
fn goldens() -> Vec<(Failure, &'static str)> {
    use Call::*;
    use Errno as E;
    vec![
        (at(Step::Detach, CloseRange, E::NOMEM),
            "leave the host program behind: close_range: cannot allocate memory"),
        (at(Step::AwaitGo, Recv, E::SRCH),
            "wait for the runtime: recvmsg: no such process (the runtime has ended)"),
        (nth(0, at(Step::CloneInit, Clone, E::AGAIN)),
            "make the container's process: linux.namespaces[0]: clone3: resource temporarily unavailable (pids.max of a cgroup above, or RLIMIT_NPROC)"),
        (nth(1, at(Step::JoinNamespace, Setns, E::PERM)),
            "join namespace: linux.namespaces[1].path (/run/netns/blue): setns: operation not permitted (needs CAP_SYS_ADMIN in the user namespace that it belongs to)"),
        (at(Step::BecomeRoot, Setresuid, E::INVAL),
            "become root in the user namespace: linux.namespaces: setresuid: invalid argument (the mappings have no container id 0)"),
        (at(Step::Unshare, Unshare, E::NOSPC),
            "make namespaces: linux.namespaces: unshare: no space left on device (too many namespaces: see /proc/sys/user/max_*_namespaces, or nested too deep)"),
        (at(Step::TimeOffsets, Write, E::RANGE),
            "set the clock offsets: linux.timeOffsets (/proc/self/timens_offsets): write: numerical result out of range (the clock would be out of its range)"),
        (at(Step::LockedTree, Recv, E::SRCH),
            "take over a tree of the host: recvmsg: no such process"),
        (at(Step::Session, Setsid, E::PERM),
            "start a session: setsid: operation not permitted"),
        (at(Step::Keyring, Keyctl, E::DQUOT),
            "unable to join session keyring: keyctl: disk quota exceeded (too many keyrings: raise kernel.keys.maxkeys, or use --no-new-keyring)"),
        (at(Step::Loopback, Ioctl, E::PERM),
            "bring the loopback device up: linux.namespaces: ioctl: operation not permitted"),
        (at(Step::NetDevices, Recv, E::SRCH),
            "move network devices into the namespace: linux.netDevices: recvmsg: no such process (the runtime has ended)"),
        (at(Step::Hostname, Sethostname, E::PERM),
            "set the host name: hostname: sethostname: operation not permitted (the uts namespace belongs to another user namespace than the container's)"),
        (at(Step::Domainname, Setdomainname, E::PERM),
            "set the domain name: domainname: setdomainname: operation not permitted (the uts namespace belongs to another user namespace than the container's)"),
        (at(Step::HostPropagation, MountSetattr, E::PERM),
            "separate the mounts from the host's: linux.rootfsPropagation (/): mount_setattr: operation not permitted (the mount namespace belongs to another user namespace than the container's, whose root may not mount there)"),
        (at(Step::HostPropagation, MountSetattr, E::INVAL),
            "separate the mounts from the host's: linux.rootfsPropagation (/): mount_setattr: invalid argument (/ is not a mount: the runtime runs in a chroot)"),
        (at(Step::AttachRootfs, MoveMount, E::ACCESS),
            "mount the rootfs: root.path (/bundle/rootfs): move_mount: permission denied"),
        (nth(2, at(Step::MountSource, Open, E::NOENT)),
            "find the source of a mount in the rootfs: mounts[2] (/srv/conf): openat2: no such file or directory"),
        (nth(2, at(Step::MountSource, Open, E::LOOP)),
            "find the source of a mount in the rootfs: mounts[2] (/srv/conf): openat2: too many levels of symbolic links (magic links are not followed)"),
        (nth(2, at(Step::MountSource, OpenTree, E::INVAL)),
            "find the source of a mount in the rootfs: mounts[2] (/srv/conf): open_tree: invalid argument (something is mounted below it, which must not come to light in a user namespace: use rbind)"),
        (nth(2, at(Step::MountSource, None, E::STALE)),
            "find the source of a mount in the rootfs: mounts[2] (/srv/conf): cannot be mounted on /proc because it is not of type proc"),
        (nth(2, at(Step::MountTarget, Open, E::LOOP)),
            "find the place of a mount: mounts[2] (/etc/conf): openat2: too many levels of symbolic links (symbolic links are not followed here)"),
        (nth(0, at(Step::Device, Open, E::LOOP)),
            "make a device: linux.devices[0] (/dev/fuse): openat2: too many levels of symbolic links (a link of the image leads into another mount: /dev may be a link to a directory of the image, or to what is mounted on /dev)"),
        (nth(0, at(Step::MountTarget, None, E::PERM)),
            "find the place of a mount: mounts[0] (/proc): is on a procfs, where only a few files may be mounted over"),
        (nth(4, at(Step::MountFilesystem, Fsopen, E::NODEV)),
            "make a file system: mounts[4].type \"xfz\" (/data): fsopen: no such device (the kernel does not know this file system type)"),
        (nth(1, sub(2, at(Step::MountFilesystem, Fsconfig, E::INVAL))),
            "make a file system: mounts[1].options \"mode=755\" (/dev): fsconfig: invalid argument"),
        (nth(1, sub(4, at(Step::MountFilesystem, Fsconfig, E::INVAL))),
            "make a file system: linux.mountLabel (/dev): fsconfig: invalid argument (does SELinux's policy know this label, and may the file system have it?)"),
        (nth(1, at(Step::MountFilesystem, Setxattr, E::ACCESS)),
            "make a file system: linux.mountLabel (/dev): fsetxattr: permission denied (does SELinux's policy know this label, and may the file system have it?)"),
        (at(Step::MaskedPath, Fsconfig, E::INVAL),
            "mask a path: linux.mountLabel: fsconfig: invalid argument (does SELinux's policy know this label, and may the file system have it?)"),
        (nth(3, at(Step::MountCopyUp, Write, E::NOSPC)),
            "copy into the tmpfs: mounts[3] (/var/cache): write: no space left on device"),
        (nth(2, at(Step::MountAttach, MoveMount, E::NOTDIR)),
            "mount: mounts[2] (/etc/conf): move_mount: not a directory (source and destination must both be directories, or both not)"),
        (nth(0, at(Step::Device, Mknod, E::PERM)),
            "make a device: linux.devices[0] (/dev/fuse): mknodat: operation not permitted (needs CAP_MKNOD, on a file system not of a user namespace)"),
        (nth(0, at(Step::Device, None, E::EXIST)),
            "make a device: linux.devices[0] (/dev/fuse): something else is there already"),
        (nth(4, at(Step::DeviceLink, Symlink, E::ROFS)),
            "make a link in /dev: /dev/ptmx: symlinkat: read-only file system"),
        (at(Step::RuntimeHooks, Recv, E::SRCH),
            "wait for the hooks: recvmsg: no such process (the runtime has ended)"),
        (nth(0, sub(1, at(Step::CreateContainerHook, Wait, E::CANCELED))),
            "error running createContainer hook #0: exit status 1"),
        (nth(1, at(Step::CreateContainerHook, None, E::TIMEDOUT)),
            "error running createContainer hook #1: hook ran past specified timeout of 5s"),
        (nth(1, at(Step::CreateContainerHook, Faccess, E::NOENT)),
            "error running createContainer hook #1: /usr/libexec/log: faccessat2: no such file or directory"),
        (at(Step::Pivot, PivotRoot, E::INVAL),
            "enter the rootfs: root.path (/bundle/rootfs): pivot_root: invalid argument (the root is on a ramdisk? try --no-pivot)"),
        (at(Step::RootPropagation, MountSetattr, E::PERM),
            "set the propagation of the root: linux.rootfsPropagation (/bundle/rootfs): mount_setattr: operation not permitted"),
        (at(Step::CreateCwd, Mkdir, E::ROFS),
            "make the working directory: process.cwd (/srv/data): mkdirat: read-only file system"),
        (at(Step::Console, None, E::NODEV),
            "set up the terminal: process.terminal: /dev/ptmx is not the pty multiplexer (is a devpts mounted on /dev/pts?)"),
        (at(Step::Stdio, Chown, E::IO),
            "give standard input and output to the user: process.user: fchownat: input/output error"),
        (at(Step::ReadonlyRootfs, MountSetattr, E::PERM),
            "make the rootfs read-only: root.readonly (/bundle/rootfs): mount_setattr: operation not permitted"),
        (at(Step::Sysctl, Write, E::INVAL),
            "set a kernel parameter: linux.sysctl[net.ipv4.ip_forward] (/proc/sys/net/ipv4/ip_forward): write: invalid argument"),
        (at(Step::ReadonlyPath, OpenTree, E::ACCESS),
            "make a path read-only: linux.readonlyPaths[0] (/proc/sys): open_tree: permission denied"),
        (nth(1, at(Step::MaskedPath, MoveMount, E::ACCESS)),
            "mask a path: linux.maskedPaths[1] (/sys/firmware): move_mount: permission denied"),
        (at(Step::Scheduler, SchedSetattr, E::PERM),
            "set the scheduler: process.scheduler: sched_setattr: operation not permitted (a higher priority than the runtime's own needs CAP_SYS_NICE)"),
        (at(Step::IoPriority, Ioprio, E::PERM),
            "set the I/O priority: process.ioPriority: ioprio_set: operation not permitted (a higher priority than the runtime's own needs CAP_SYS_NICE)"),
        (at(Step::Personality, Personality, E::INVAL),
            "set the personality: linux.personality: personality: invalid argument"),
        (at(Step::MemoryPolicy, SetMempolicy, E::INVAL),
            "set the memory policy: linux.memoryPolicy: set_mempolicy: invalid argument (are the nodes online, and allowed by cpuset.mems?)"),
        (at(Step::Apparmor, Write, E::NOENT),
            "set the AppArmor profile: process.apparmorProfile (`/proc/thread-self/attr/apparmor/exec`): write: no such file or directory (AppArmor is not enabled, or the profile is not loaded)"),
        (at(Step::Keyring, Write, E::INVAL),
            "set the SELinux label: process.selinuxLabel (`/proc/thread-self/attr/exec`): write: invalid argument (selinux label is specified in config, but selinux is disabled or not supported)"),
        (at(Step::Selinux, Write, E::INVAL),
            "set the SELinux label: process.selinuxLabel (`/proc/thread-self/attr/exec`): write: invalid argument (selinux label is specified in config, but selinux is disabled or not supported)"),
        (at(Step::Home, Read, E::IO),
            "look up HOME: /etc/passwd: read: input/output error"),
        (at(Step::Cwd, Open, E::ACCESS),
            "chdir to cwd: process.cwd (/srv/data): openat2: permission denied (the user may not enter it)"),
        (at(Step::Cwd, None, E::NOENT),
            "chdir to cwd: process.cwd (/srv/data): current working directory is outside of container mount namespace root -- possible container breakout detected"),
        (at(Step::Rlimit, Prlimit, E::PERM),
            "set a resource limit: process.rlimits[0]: prlimit: operation not permitted (raising a hard limit needs CAP_SYS_RESOURCE, and no limit of open files may exceed fs.nr_open)"),
        (at(Step::Groups, Setgroups, E::PERM),
            "set the groups: process.user.additionalGids: setgroups: operation not permitted (a user namespace without privileges denies setgroups: user_namespaces(7))"),
        (at(Step::User, Setresuid, E::INVAL),
            "set the user: process.user: setresuid: invalid argument (the id is not mapped into the user namespace)"),
        (at(Step::Capabilities, Capset, E::PERM),
            "set the capabilities: process.capabilities: capset: operation not permitted"),
        (at(Step::NoNewPrivileges, Prctl, E::INVAL),
            "set no_new_privs: process.noNewPrivileges: prctl: invalid argument"),
        (nth(1, at(Step::FindProgram, Fstat, E::NOENT)),
            "unable to start container process: exec: \"server\": executable file not found in $PATH"),
        (nth(1, at(Step::FindProgram, Faccess, E::ACCESS)),
            "unable to start container process: exec: \"server\": permission denied"),
        (at(Step::AwaitStart, Accept, E::MFILE),
            "wait for start: accept4: too many open files"),
        (nth(0, sub(256 + 9, at(Step::StartContainerHook, Wait, E::CANCELED))),
            "error running startContainer hook #0: signal: killed"),
        (at(Step::Seccomp, Seccomp, E::ACCESS),
            "load the seccomp filter: linux.seccomp: seccomp: permission denied (needs noNewPrivileges, or CAP_SYS_ADMIN)"),
        (nth(1, at(Step::Exec, Exec, E::NOEXEC)),
            "unable to start container process: exec /bin/server: exec format error"),
    ]
}

#[test]
fn operations_are_told_apart() {
    let texts: HashSet<_> = Step::ALL.iter().map(|step| doing(*step)).collect();
    assert_eq!(texts.len(), Step::ALL.len());
}

#[test]
fn what_a_hook_has_printed_is_quoted_on_one_line() {
    let made = made();
    let output = || {
        let mut file = File::from(runtime_sys::fs::memfd(c"output").unwrap());
        file.write_all(b"no\nluck\x1b[31m\n").unwrap();
        Some(OwnedFd::from(file))
    };
    let failed = sub(3, at(Step::CreateContainerHook, Call::Wait, Errno::CANCELED));
    let error = message(&made, failed, output());
    assert_eq!(error.kind(), ErrorKind::Hook);
    assert_eq!(
        error.to_string(),
        r"error running createContainer hook #0: exit status 3, output: no\nluck\u{1b}[31m"
    );
    // A pipe, which a process in the container may have sent, would hold whoever reads it.
    let (pipe, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let error = message(&made, failed, Some(pipe));
    assert_eq!(
        error.to_string(),
        "error running createContainer hook #0: exit status 3"
    );
}

#[test]
fn only_the_beginning_of_a_long_output_is_quoted() {
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(&[b'x'; 10_000]).unwrap();
    assert_eq!(read_output(File::into(file)).unwrap().len() as u64, QUOTED);
}

/// `exec` has no plan of the container: the fields are those of its process.
#[test]
fn a_joining_process_is_explained_without_the_container() {
    let made = made();
    let subject = Subject {
        process: &made.plan.process,
        container: None,
    };
    for (failure, golden) in [
        (
            at(Step::Cwd, Call::Open, Errno::LOOP),
            "chdir to cwd: process.cwd (/srv/data): openat2: too many levels of symbolic links (magic links are not followed)",
        ),
        (
            at(Step::JoinNamespace, Call::Setns, Errno::PERM),
            "join namespace: setns: operation not permitted (needs CAP_SYS_ADMIN in the user namespace that it belongs to)",
        ),
        (
            at(Step::FindProgram, Call::Fstat, Errno::NOENT),
            "unable to start container process: exec: \"server\": executable file not found in $PATH",
        ),
    ] {
        assert_eq!(explain(subject, NOBODY, failure, None).to_string(), golden);
    }
}

/// An index that no list has (a damaged record, an option of the runtime's own) costs the place, not the
/// message.
#[test]
fn an_index_out_of_range_is_no_panic() {
    let made = made();
    for step in Step::ALL {
        let failure = Failure {
            step: *step,
            call: Call::Open,
            index: u16::MAX,
            sub: 0xfff,
            errno: Errno::IO,
        };
        let text = message(&made, failure, None).to_string();
        assert!(text.contains("input/output error"), "{text}");
    }
}

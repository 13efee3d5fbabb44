//! Runs in: RUNTIME. Turns the eight bytes of a failed child into an error: which operation, which field of
//! config.json, which path, which call. All texts about the child are in this file, and each [`Step`] has its
//! golden message in `explain/tests.rs`.

pub(crate) mod clone3;

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::Spec;
use runtime_init::step::Step;
use runtime_init::wire::Failure;
use runtime_sys::Call;
use runtime_sys::process::SchedAttr;
use rustix::io::Errno;

use super::diagnose;
use super::link::is_memfd;
use crate::error::{CallResult, errno_text};
use crate::host::process::hooks::on_one_line;
use crate::host::process::signals;
use crate::host::user_namespace::obstacle;
use crate::plan::Plan;
use crate::plan::hooks::HookPlan;
use crate::plan::mounts::{FsOption, MountSource, text_of};
use crate::plan::process::ProcessPlan;
use crate::prepare::trees;
use crate::{Error, ErrorKind, Result};

/// What EPERM means where a priority is set.
const HIGHER_PRIORITY: &str = "a higher priority than the runtime's own needs CAP_SYS_NICE";

/// What EPERM means where a scheduler is set. The kernel gives SCHED_DEADLINE to who may run on every
/// processor (sched(7)); the words about that are runc's.
pub(crate) fn refused_scheduler(scheduler: &SchedAttr) -> &'static str {
    match scheduler.policy == libc::SCHED_DEADLINE as u32 {
        true => {
            "it needs CAP_SYS_NICE, and this process scheduler can't be used together with AllowedCPUs: linux.resources.cpu.cpus"
        }
        false => HIGHER_PRIORITY,
    }
}

/// Why a resource limit is refused.
pub(crate) const RAISED_LIMIT: &str =
    "raising a hard limit needs CAP_SYS_RESOURCE, and no limit of open files may exceed fs.nr_open";

/// The field that names the program.
const PROGRAM: &str = "process.args[0]";

/// How much of a hook's output is quoted, in bytes.
const QUOTED: u64 = 4096;

/// What a failure is explained from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The program.
    pub process: &'a ProcessPlan,
    /// The container, if it was INIT that failed.
    pub container: Option<(&'a Plan, &'a Spec)>,
}

/// The error that a failure is.
pub(crate) fn explain(subject: Subject<'_>, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
    in_words(subject, pid, failure, output).in_step(failure.step.name())
}

fn in_words(subject: Subject<'_>, pid: i32, failure: Failure, output: Option<OwnedFd>) -> Error {
    let Subject { process, container } = subject;
    let failure = match (failure.step, failure.call) {
        // The keyring's label, which is the program's: what is wrong with it is the same.
        (Step::Keyring, Call::Open | Call::Write) => Failure {
            step: Step::Selinux,
            ..failure
        },
        _ => failure,
    };
    match failure.step {
        Step::FindProgram => find_program(process, failure),
        Step::Exec => execute(process, pid, failure),
        Step::CreateContainerHook => {
            let hooks = container.map(|(plan, _)| &plan.hooks.create_container);
            hook("createContainer", hooks, failure, output)
        }
        Step::StartContainerHook => {
            let hooks = container.map(|(plan, _)| &plan.hooks.start_container);
            hook("startContainer", hooks, failure, output)
        }
        step => {
            let error = plain(failure).doing(doing(step));
            let error = match container {
                Some((plan, spec)) => locate(error, plan, spec, failure),
                None => locate_process(error, process, failure),
            };
            match (failure.step, failure.errno, &process.scheduler) {
                (Step::Scheduler, Errno::PERM, Some(scheduler)) => {
                    error.with_hint(refused_scheduler(scheduler))
                }
                _ => hint(error, failure),
            }
        }
    }
}

fn plain(failure: Failure) -> Error {
    if failure.call == Call::None {
        check(failure)
    } else {
        Error::os(failure.call.name(), failure.errno)
    }
}

/// A check of the child's own, which has no call.
fn check(failure: Failure) -> Error {
    let text = match (failure.step, failure.errno) {
        (Step::MountTarget, Errno::PERM) => "is on a procfs, where only a few files may be mounted over".to_owned(),
        (Step::MountSource, Errno::STALE) => "cannot be mounted on /proc because it is not of type proc".to_owned(),
        (Step::MountSource, Errno::PERM) => "a link leads to a file system of the kernel, such as /proc".to_owned(),
        (Step::Device, Errno::EXIST) => "something else is there already".to_owned(),
        (Step::Console, Errno::NODEV) => "/dev/ptmx is not the pty multiplexer (is a devpts mounted on /dev/pts?)".to_owned(),
        (Step::Cwd, _) => "current working directory is outside of container mount namespace root -- possible container breakout detected".to_owned(),
        (_, errno) => errno_text(errno),
    };
    Error::new(ErrorKind::Invalid, text)
}

/// What the child was doing.
pub(crate) fn doing(step: Step) -> &'static str {
    match step {
        Step::Detach => "leave the host program behind",
        Step::AwaitGo => "wait for the runtime",
        Step::CloneInit => "make the container's process",
        Step::JoinNamespace => "join namespace",
        Step::BecomeRoot => "become root in the user namespace",
        Step::Unshare => "make namespaces",
        Step::TimeOffsets => "set the clock offsets",
        Step::LockedTree => "take over a tree of the host",
        Step::Session => "start a session",
        Step::Keyring => "unable to join session keyring",
        Step::Loopback => "bring the loopback device up",
        Step::NetDevices => "move network devices into the namespace",
        Step::Hostname => "set the host name",
        Step::Domainname => "set the domain name",
        Step::HostPropagation => "separate the mounts from the host's",
        Step::AttachRootfs => "mount the rootfs",
        Step::MountSource => "find the source of a mount in the rootfs",
        Step::MountTarget => "find the place of a mount",
        Step::MountFilesystem => "make a file system",
        Step::MountCopyUp => "copy into the tmpfs",
        Step::MountAttach => "mount",
        Step::Device => "make a device",
        Step::DeviceLink => "make a link in /dev",
        Step::RuntimeHooks => "wait for the hooks",
        Step::CreateContainerHook => "run createContainer hooks",
        Step::Pivot => "enter the rootfs",
        Step::RootPropagation => "set the propagation of the root",
        Step::CreateCwd => "make the working directory",
        Step::Console => "set up the terminal",
        Step::Stdio => "give standard input and output to the user",
        Step::ReadonlyRootfs => "make the rootfs read-only",
        Step::Sysctl => "set a kernel parameter",
        Step::ReadonlyPath => "make a path read-only",
        Step::MaskedPath => "mask a path",
        Step::Scheduler => "set the scheduler",
        Step::IoPriority => "set the I/O priority",
        Step::Personality => "set the personality",
        Step::MemoryPolicy => "set the memory policy",
        Step::Apparmor => "set the AppArmor profile",
        Step::Selinux => "set the SELinux label",
        Step::Home => "look up HOME",
        Step::Cwd => "chdir to cwd",
        Step::Rlimit => "set a resource limit",
        Step::Groups => "set the groups",
        Step::User => "set the user",
        Step::Capabilities => "set the capabilities",
        Step::NoNewPrivileges => "set no_new_privs",
        Step::FindProgram => "find the program",
        Step::AwaitStart => "wait for start",
        Step::StartContainerHook => "run startContainer hooks",
        Step::Seccomp => "load the seccomp filter",
        Step::Exec => "execute the program",
    }
}

/// Adds field and path of what the step is about.
fn locate(error: Error, plan: &Plan, spec: &Spec, failure: Failure) -> Error {
    let index = usize::from(failure.index);
    match failure.step {
        Step::JoinNamespace => {
            let mut joins = plan.namespaces.join.iter();
            let join = joins.find(|join| join.index == failure.index);
            let error = error.with_field(crate::plan::namespaces::field(failure.index));
            match join {
                Some(join) => error.with_path(&join.path),
                None => error,
            }
        }
        Step::CloneInit => error.with_field(format!("linux.namespaces[{index}]")),
        Step::Unshare | Step::BecomeRoot | Step::Loopback => error.with_field("linux.namespaces"),
        Step::TimeOffsets => error
            .with_field("linux.timeOffsets")
            .with_path("/proc/self/timens_offsets"),
        Step::NetDevices => error.with_field("linux.netDevices"),
        Step::Hostname => error.with_field("hostname"),
        Step::Domainname => error.with_field("domainname"),
        Step::AttachRootfs | Step::Pivot => error.with_field("root.path").with_path(&plan.rootfs.path),
        Step::ReadonlyRootfs => error.with_field("root.readonly").with_path(&plan.rootfs.path),
        Step::HostPropagation => error.with_field("linux.rootfsPropagation").with_path("/"),
        Step::RootPropagation => error
            .with_field("linux.rootfsPropagation")
            .with_path(&plan.rootfs.path),
        Step::MountSource
        | Step::MountTarget
        | Step::MountFilesystem
        | Step::MountCopyUp
        | Step::MountAttach => locate_mount(error, plan, spec, failure),
        Step::Device => match plan.devices.nodes.get(index) {
            Some(node) => error
                .with_field(node.field.clone())
                .with_path(in_container(&[&node.directory, &node.name])),
            None => error.with_field("linux.devices"),
        },
        Step::DeviceLink => match plan.devices.links.get(index) {
            Some(link) => error.with_path(in_container(&[c"dev", link.name])),
            None => error,
        },
        Step::Sysctl => match plan.sysctl.get(index) {
            Some(sysctl) => error
                .with_field(format!("linux.sysctl[{}]", sysctl.name))
                .with_path(format!("/proc/{}", sysctl.path.to_string_lossy())),
            None => error.with_field("linux.sysctl"),
        },
        Step::ReadonlyPath => locate_listed(error, "linux.readonlyPaths", &plan.rootfs.readonly_paths, index),
        // Nothing else that the tmpfs over a directory is told comes from config.json.
        Step::MaskedPath if failure.call == Call::Fsconfig && plan.mount_label.is_some() => {
            error.with_field(MOUNT_LABEL).with_hint(UNKNOWN_LABEL)
        }
        Step::MaskedPath => locate_listed(error, "linux.maskedPaths", &plan.rootfs.masked_paths, index),
        Step::Personality => error.with_field("linux.personality"),
        Step::MemoryPolicy => error.with_field("linux.memoryPolicy"),
        _ => locate_process(error, &plan.process, failure),
    }
}

fn locate_process(error: Error, process: &ProcessPlan, failure: Failure) -> Error {
    match failure.step {
        Step::CreateCwd | Step::Cwd => error
            .with_field("process.cwd")
            .with_path(in_container(&[&process.cwd])),
        Step::Console => error.with_field("process.terminal"),
        Step::Scheduler => error.with_field("process.scheduler"),
        Step::IoPriority => error.with_field("process.ioPriority"),
        Step::Apparmor => error
            .with_field("process.apparmorProfile")
            // In back quotes: so Podman knows that a security attribute could not be set.
            .with_path("`/proc/thread-self/attr/apparmor/exec`"),
        Step::Selinux => error
            .with_field("process.selinuxLabel")
            .with_path("`/proc/thread-self/attr/exec`"),
        Step::Home => error.with_path("/etc/passwd"),
        Step::Rlimit => error.with_field(format!("process.rlimits[{}]", failure.index)),
        Step::Groups => error.with_field("process.user.additionalGids"),
        Step::User | Step::Stdio => error.with_field("process.user"),
        Step::Capabilities => error.with_field("process.capabilities"),
        Step::NoNewPrivileges => error.with_field("process.noNewPrivileges"),
        Step::Seccomp => error.with_field("linux.seccomp"),
        _ => error,
    }
}

const MOUNT_LABEL: &str = "linux.mountLabel";
const UNKNOWN_LABEL: &str = "does SELinux's policy know this label, and may the file system have it?";

fn locate_mount(error: Error, plan: &Plan, spec: &Spec, failure: Failure) -> Error {
    let field = format!("mounts[{}]", failure.index);
    let mount = spec.mounts().iter().flatten().nth(usize::from(failure.index));
    let planned = plan.mounts.iter().find(|mount| mount.index == failure.index);
    let option = planned.and_then(|mount| option_text(&mount.source, usize::from(failure.sub)));
    let fstype = mount
        .and_then(|mount| mount.typ().as_ref())
        .filter(|_| failure.call == Call::Fsopen);
    let is_label = failure.call == Call::Setxattr
        || option.is_some() && option == plan.mount_label.as_ref().map(|label| text_of(&label.option()));
    let error = match (option, fstype) {
        _ if is_label => error.with_field(MOUNT_LABEL).with_hint(UNKNOWN_LABEL),
        (Some(option), _) => error.with_field(format!("{field}.options \"{option}\"")),
        (None, Some(fstype)) => error.with_field(format!("{field}.type \"{fstype}\"")),
        (None, None) => error.with_field(field),
    };
    let error = match planned {
        Some(planned) if failure.errno == Errno::INVAL && has_single_layers(&planned.source) => error.with_hint(
            "an overlay with options of 4096 bytes and more gets its layers one by one, which needs Linux 6.7; 500 is the most",
        ),
        _ => error,
    };
    match (planned.map(|mount| &mount.source), mount) {
        (Some(MountSource::Bind { path, .. }), _) if failure.step == Step::MountSource => {
            error.with_path(path)
        }
        (_, Some(mount)) => error.with_path(mount.destination()),
        (_, None) => error,
    }
}

fn has_single_layers(source: &MountSource) -> bool {
    matches!(source, MountSource::New(new) if new.options.iter().any(|(key, _)| key.as_c_str() == c"lowerdir+"))
}

/// The option with that number, counted from 1; 0 is none.
fn option_text(source: &MountSource, number: usize) -> Option<String> {
    let options: &[FsOption] = match source {
        MountSource::New(new) | MountSource::Cgroup(new) => &new.options,
        MountSource::Remount { options } => options,
        _ => return None,
    };
    options.get(number.checked_sub(1)?).map(text_of)
}

fn locate_listed(error: Error, field: &str, paths: &[std::ffi::CString], index: usize) -> Error {
    let error = error.with_field(format!("{field}[{index}]"));
    match paths.get(index) {
        Some(path) => error.with_path(in_container(&[path])),
        None => error,
    }
}

fn in_container(parts: &[&std::ffi::CStr]) -> String {
    parts
        .iter()
        .fold(String::new(), |path, part| path + "/" + &part.to_string_lossy())
}

fn hint(error: Error, failure: Failure) -> Error {
    let text = match (failure.step, failure.errno) {
        (Step::BecomeRoot | Step::Unshare | Step::LockedTree, Errno::PERM | Errno::ACCESS) => obstacle(),
        _ => hint_of_mounts(failure).or_else(|| hint_of_process(failure)),
    };
    match text {
        Some(text) => error.with_hint(text),
        None => error,
    }
}

/// What is about the root file system and what is in it.
fn hint_of_mounts(failure: Failure) -> Option<&'static str> {
    Some(match (failure.step, failure.errno) {
        (Step::MountFilesystem, Errno::PERM) => {
            "in a user namespace proc, sysfs, mqueue and cgroup need a pid, network, ipc or cgroup namespace of the \
             container's own, and proc and sysfs a host (or outer container) whose own are not masked in part"
        }
        (Step::MountFilesystem, Errno::NODEV) => "the kernel does not know this file system type",
        (Step::MountAttach, Errno::NOTDIR) => "source and destination must both be directories, or both not",
        (Step::Device | Step::DeviceLink, Errno::LOOP) => {
            "a link of the image leads into another mount: /dev may be a link to a directory of the image, or to what is mounted on /dev"
        }
        (Step::Device, Errno::PERM) => "needs CAP_MKNOD, on a file system not of a user namespace",
        (Step::Cwd, Errno::ACCESS) => "the user may not enter it",
        (Step::MountTarget, Errno::EXIST) => "copy-symlink: what is there already is no link, or another one",
        (Step::MountSource, Errno::INVAL) if failure.call == Call::OpenTree => {
            "something is mounted below it, which must not come to light in a user namespace: use rbind"
        }
        (Step::MountTarget, Errno::LOOP) => "symbolic links are not followed here",
        (Step::MountSource | Step::Cwd | Step::CreateCwd, Errno::LOOP) => "magic links are not followed",
        (Step::HostPropagation, Errno::PERM) => {
            "the mount namespace belongs to another user namespace than the container's, whose root may not mount there"
        }
        (Step::HostPropagation, Errno::INVAL) => "/ is not a mount: the runtime runs in a chroot",
        (Step::AttachRootfs, Errno::STALE) => trees::REPLACED,
        (Step::Pivot | Step::MountTarget, Errno::STALE) if failure.call == Call::None => {
            "the root of the container's mount namespace is neither what it was when the container was made nor that of \
             its init"
        }
        (Step::Pivot, Errno::BUSY) if failure.call == Call::None => {
            "a procfs or sysfs of the host lies where another mount hides it: it would be the container's, too"
        }
        (Step::Pivot, Errno::INVAL) => "the root is on a ramdisk? try --no-pivot",
        _ => return None,
    })
}

/// What is about namespaces and the process.
fn hint_of_process(failure: Failure) -> Option<&'static str> {
    Some(match (failure.step, failure.errno) {
        (Step::AwaitGo | Step::NetDevices | Step::RuntimeHooks | Step::AwaitStart, Errno::SRCH) => {
            "the runtime has ended"
        }
        (Step::CloneInit, Errno::AGAIN) => "pids.max of a cgroup above, or RLIMIT_NPROC",
        (Step::JoinNamespace, Errno::PERM) => "needs CAP_SYS_ADMIN in the user namespace that it belongs to",
        (Step::BecomeRoot, Errno::INVAL) => "the mappings have no container id 0",
        (Step::TimeOffsets, Errno::RANGE) => "the clock would be out of its range",
        (Step::Keyring, Errno::DQUOT) => {
            "too many keyrings: raise kernel.keys.maxkeys, or use --no-new-keyring"
        }
        (Step::Scheduler | Step::IoPriority, Errno::PERM) => HIGHER_PRIORITY,
        (Step::MemoryPolicy, Errno::INVAL) => "are the nodes online, and allowed by cpuset.mems?",
        (Step::Groups, Errno::PERM) => {
            "a user namespace without privileges denies setgroups: user_namespaces(7)"
        }
        (Step::Hostname | Step::Domainname, Errno::PERM) => {
            "the uts namespace belongs to another user namespace than the container's"
        }
        (Step::User | Step::Groups, Errno::INVAL) => "the id is not mapped into the user namespace",
        (Step::Apparmor, Errno::INVAL | Errno::NOENT) => {
            "AppArmor is not enabled, or the profile is not loaded"
        }
        (Step::Selinux, Errno::INVAL | Errno::NOENT) => {
            "selinux label is specified in config, but selinux is disabled or not supported"
        }
        (Step::Rlimit, Errno::PERM) => RAISED_LIMIT,
        (Step::Seccomp, Errno::ACCESS) => "needs noNewPrivileges, or CAP_SYS_ADMIN",
        (Step::Seccomp, Errno::BUSY) => "a notify listener is in force already",
        (Step::Unshare, Errno::NOSPC) => {
            "too many namespaces: see /proc/sys/user/max_*_namespaces, or nested too deep"
        }
        _ => return None,
    })
}

/// The texts that engines turn into exit codes 126 and 127.
fn find_program(process: &ProcessPlan, failure: Failure) -> Error {
    let program = &process.program;
    let by_path = !program.contains('/');
    let text = match failure.errno {
        Errno::NOENT | Errno::NOTDIR if by_path => "executable file not found in $PATH".to_owned(),
        Errno::NOENT | Errno::NOTDIR => format!("stat {program}: {}", errno_text(failure.errno)),
        errno => errno_text(errno),
    };
    let words = format!("exec: {program:?}: {text}");
    Error::in_words(ErrorKind::Invalid, words, "stat", failure.errno)
        .with_field(PROGRAM)
        .doing("unable to start container process")
}

fn execute(process: &ProcessPlan, pid: i32, failure: Failure) -> Error {
    let candidate = process.candidates.get(usize::from(failure.index));
    let program = candidate.map_or_else(
        || process.program.clone(),
        |path| path.to_string_lossy().into_owned(),
    );
    let words = format!("exec {program}: {}", errno_text(failure.errno));
    let error = Error::in_words(ErrorKind::Exec, words, failure.call.name(), failure.errno)
        .with_field(PROGRAM)
        .with_path(&program)
        .doing("unable to start container process");
    match diagnose::program(pid, Path::new(&program), failure.errno) {
        Some(cause) => error.with_hint(cause),
        None => error,
    }
}

fn hook(list: &str, hooks: Option<&Vec<HookPlan>>, failure: Failure, output: Option<OwnedFd>) -> Error {
    let doing = format!("error running {list} hook #{}", failure.index);
    let hook = hooks.and_then(|hooks| hooks.get(usize::from(failure.index)));
    let text = match (failure.call, failure.errno, failure.sub) {
        (Call::Wait, Errno::CANCELED, status) if status >= 256 => signals::ended_by(i32::from(status - 256)),
        (Call::Wait, Errno::CANCELED, 126) => {
            "exit status 126 (or its program could not be executed)".to_owned()
        }
        (Call::Wait, Errno::CANCELED, status) => format!("exit status {status}"),
        (Call::None, Errno::TIMEDOUT, _) => match hook.and_then(|hook| hook.timeout) {
            Some(timeout) => format!("hook ran past specified timeout of {}s", timeout / 1000),
            None => "hook ran past specified timeout".to_owned(),
        },
        _ => {
            let error = Error::os(failure.call.name(), failure.errno)
                .doing(doing)
                .with_kind(ErrorKind::Hook);
            return match hook {
                Some(hook) => error.with_path(hook.path.to_string_lossy().as_ref()),
                None => error,
            };
        }
    };
    // What else it could be, a child that something in the container traces may have sent: reading it might
    // not end.
    let quoted = output
        .filter(|output| is_memfd(output))
        .and_then(|output| read_output(output).ok())
        .unwrap_or_default();
    let text = match on_one_line(&quoted).as_str() {
        "" => text,
        quoted => format!("{text}, output: {quoted}"),
    };
    Error::new(ErrorKind::Hook, text).doing(doing)
}

fn read_output(output: OwnedFd) -> Result<String> {
    let mut file = File::from(output);
    file.rewind().call("lseek")?;
    let mut bytes = Vec::new();
    file.take(QUOTED).read_to_end(&mut bytes).call("read")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;

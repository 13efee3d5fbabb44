//! Runs in: INIT and EXEC. The process itself: descriptors, keyring, working directory, credentials, finding
//! the program, seccomp, execve.

use core::convert::Infallible;
use core::ffi::CStr;
use core::sync::atomic::Ordering;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::args::{CapabilityArgs, CredentialArgs, KeyringArgs, ProcessArgs, SeccompArgs, SysctlArgs};
use crate::report::{At, Result, Stop, refused};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{environment, paths};
use runtime_sys::process::SharedWord;
use runtime_sys::{self as sys, Call, SysError, credentials, fs, process};

const CAP_SETGID: u64 = 1 << 6;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Leaves the host program behind: its descriptors, its signal actions and mask, its umask, its securebits,
/// the name of its thread. Dies with RUNTIME. What else is inherited is in the table of docs/design.md.
///
/// A RUNTIME without privileges may write the id maps and oom_score_adj only of a process that is dumpable,
/// so then it is, up to [`await_go`]: until then it is alone in its user namespace, and of its own user
/// nothing is hidden.
pub(crate) fn detach(keep: &[RawFd], unprivileged: bool) -> sys::Result<()> {
    process::parent_death_signal(Some(Signal::KILL))?;
    match unprivileged {
        true => process::set_dumpable()?,
        false => process::set_undumpable()?,
    }
    close_gaps(keep.iter().copied())?;
    process::default_signal_actions()?;
    process::set_signal_mask(0)?;
    credentials::umask(0);
    process::set_name(c"onggi")?;
    reset_securebits()
}

/// Puts the descriptors that the host program has given under their numbers.
pub(crate) fn place(given: &[(RawFd, RawFd)]) -> sys::Result<()> {
    given
        .iter()
        .try_for_each(|(number, target)| process::copy_to(*number, *target))
}

/// The kernel spares process 1 of a pid namespace all signals that it has no handler for, but SIGKILL of
/// those outside (pid_namespaces(7)). A container that waits for `start` ends by those that end every other
/// process.
pub(crate) fn end_at_signals() -> sys::Result<()> {
    match rustix::process::getpid().as_raw_pid() {
        1 => process::end_at_signals(),
        _ => Ok(()),
    }
}

/// From `start` on the limit of the program's files counts for what its hooks and a listener take: then an
/// error of a call says more than a signal.
pub(crate) fn heed_no_file_limit() -> sys::Result<()> {
    process::set_signal_action(libc::SIGXFSZ, false)
}

/// With those of a caller a program that changes from root to another user might keep all its capabilities.
fn reset_securebits() -> sys::Result<()> {
    if credentials::has_usual_securebits()? {
        return Ok(());
    }
    match credentials::set_usual_securebits() {
        // Locked, or without CAP_SETPCAP: so they are for whatever the caller starts. A new user namespace
        // has none.
        Err(SysError {
            errno: Errno::PERM, ..
        }) => Ok(()),
        other => other,
    }
}

/// Waits until RUNTIME has done its part from outside.
pub(crate) fn await_go(unprivileged: bool, link: Link<'_>) -> sys::Result<()> {
    link.expect(Message::Go)?;
    match unprivileged {
        true => process::set_undumpable(),
        false => Ok(()),
    }
}

/// Closes all descriptors above standard error that are not among the given ones, which must be sorted.
fn close_gaps(keep: impl Iterator<Item = RawFd>) -> sys::Result<()> {
    let mut next = 3u32;
    for fd in keep {
        let fd = fd as u32;
        if fd > next {
            process::close_range(next, fd - 1, false)?;
        }
        next = next.max(fd + 1);
    }
    process::close_range(next, u32::MAX, false)
}

/// The most descriptors of its own that a process keeps while it waits.
pub(crate) const OWN: usize = 4;

/// Closes everything but standard input to error, the descriptors for the program, and a few of ours.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>], inherited: &[RawFd]) -> sys::Result<()> {
    let mut own = [RawFd::MAX; OWN];
    for (slot, fd) in own.iter_mut().zip(keep) {
        *slot = fd.as_raw_fd();
    }
    own.sort_unstable();
    close_gaps(merged(inherited, &own).filter(|fd| *fd != RawFd::MAX))
}

/// Two sorted lists as one: there may be gaps among the inherited, and ours in them.
fn merged<'a>(mut some: &'a [RawFd], mut others: &'a [RawFd]) -> impl Iterator<Item = RawFd> + 'a {
    core::iter::from_fn(move || {
        let from = match (some.first(), others.first()) {
            (Some(one), Some(other)) if one > other => &mut others,
            (None, _) => &mut others,
            _ => &mut some,
        };
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first)
    })
}

/// With SELinux the session keyring gets the label of the program, which could not use one of RUNTIME's. No
/// key is made after it, and execve(2) forgets the wish (security/selinux/hooks.c).
pub(crate) fn label_keyring(
    procfs: Option<BorrowedFd<'_>>,
    keyring: Option<KeyringArgs<'_>>,
    args: &ProcessArgs<'_>,
) -> sys::Result<()> {
    match (keyring, args.selinux) {
        (Some(_), Some(label)) => write_proc(procfs, c"thread-self/attr/keycreate", label),
        _ => Ok(()),
    }
}

/// Possessor: all; user: search, and nothing else (include/linux/key.h). `exec` can join it, but only by its
/// name, which nobody else can see.
const KEYRING_PERMISSIONS: u32 = 0x3f08_0000;
/// Those of a keyring that KEYCTL_JOIN_SESSION_KEYRING has just made (security/keys/process_keys.c).
const NEW_KEYRING_PERMISSIONS: u32 = 0x3f13_0000;

/// Joins a new session keyring.
pub(crate) fn new_keyring(keyring: Option<KeyringArgs<'_>>) -> sys::Result<()> {
    take_keyring(keyring, |_| Ok(true))
}

/// Joins the container's session keyring. Where every process of the container has left it, there is a new
/// one.
pub(crate) fn join_keyring(keyring: Option<KeyringArgs<'_>>) -> sys::Result<()> {
    take_keyring(keyring, |serial| match process::key_permissions(serial) {
        Ok(permissions) => Ok(permissions == NEW_KEYRING_PERMISSIONS),
        // The container has taken it from itself.
        Err(SysError {
            errno: Errno::ACCESS, ..
        }) => Ok(false),
        Err(error) => Err(error),
    })
}

/// A keyring is made readable for the user that makes it, and /proc/keys shows its name to that user's
/// processes in every container: who knows the name could join it. So until that is changed it belongs to a
/// user that nobody is.
fn take_keyring(keyring: Option<KeyringArgs<'_>>, is_new: fn(i32) -> sys::Result<bool>) -> sys::Result<()> {
    let Some(KeyringArgs { name, maker }) = keyring else {
        return Ok(());
    };
    let own = credentials::real_uid();
    if let Some(maker) = maker {
        credentials::set_real_uid(maker)?;
    }
    let serial = process::join_session_keyring(name)?;
    if is_new(serial)? {
        process::set_key_permissions(serial, KEYRING_PERMISSIONS)?;
        if maker.is_some() {
            process::give_key(serial, own)?;
        }
    }
    if maker.is_some() {
        credentials::set_real_uid(own)?;
    }
    Ok(())
}

/// Makes the working directory where it is missing.
pub(crate) fn make_cwd(root: BorrowedFd<'_>, cwd: &CStr) -> sys::Result<()> {
    paths::open_directory(root, cwd).map(drop)
}

/// Gives standard input, output and error to the container's user, as far as they are not the host's for all.
/// A regular file gets the group as well: /dev/stdout is opened anew by what has only the group in common.
/// The group of a terminal is what devpts wants it to be. Root needs nothing.
pub(crate) fn give_stdio(ids: &CredentialArgs<'_>) -> sys::Result<()> {
    if (ids.uid, ids.gid) == (0, 0) {
        return Ok(());
    }
    let null = rustix::fs::makedev(1, 3);
    for fd in process::standard_descriptors() {
        let stat = match fs::fstat(fd) {
            // Nothing is open there.
            Err(SysError {
                errno: Errno::BADF, ..
            }) => continue,
            other => other?,
        };
        let is_regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        let group = (is_regular && stat.st_gid != ids.gid).then_some(ids.gid);
        let has_user = stat.st_uid == ids.uid || (ids.uid == 0 && !is_regular);
        if (has_user && group.is_none()) || stat.st_rdev == null {
            continue;
        }
        match fs::chown(fd, ids.uid, group) {
            // A pipe or file of a user who is not mapped, or of a read-only file system: it stays usable as
            // it is.
            Err(SysError {
                errno: Errno::PERM | Errno::INVAL | Errno::ROFS,
                ..
            }) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Exchanges the host's /dev/null on standard input, output and error for the container's: a file of a mount
/// that the container does not have cannot be saved by criu, nor named by an AppArmor profile. Where the
/// container has none, the host's stays.
pub(crate) fn take_own_null(root: BorrowedFd<'_>) -> sys::Result<()> {
    let mut own = None;
    for (number, fd) in process::standard_descriptors().into_iter().enumerate() {
        match fs::fstat(fd) {
            // Nothing is open there.
            Err(SysError {
                errno: Errno::BADF, ..
            }) => continue,
            other if !is_null(&other?) => continue,
            _ => {}
        }
        if own.is_none() {
            own = open_null(root)?;
        }
        let Some(own) = &own else { return Ok(()) };
        process::dup_onto(own.as_fd(), number as RawFd)?;
    }
    Ok(())
}

/// Looked at before it is opened: an image may have another device there.
fn open_null(root: BorrowedFd<'_>) -> sys::Result<Option<OwnedFd>> {
    let open = |flags| match fs::open_in_root(root, c"dev/null", flags) {
        // There is none; or a mount without devices, or the cgroup's filter, forbids it: the container goes
        // on with the host's.
        Err(SysError {
            errno: Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM,
            ..
        }) => Ok(None),
        other => other.map(Some),
    };
    let Some(found) = open(OFlags::PATH)? else {
        return Ok(None);
    };
    if !is_null(&fs::fstat(found.as_fd())?) {
        return Ok(None);
    }
    let Some(opened) = open(OFlags::RDWR)? else {
        return Ok(None);
    };
    Ok(is_null(&fs::fstat(opened.as_fd())?).then_some(opened))
}

fn is_null(stat: &rustix::fs::Stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == rustix::fs::makedev(1, 3)
}

/// `linux.sysctl`, through the private procfs: what is mounted in the container is not trusted.
pub(crate) fn write_sysctls(procfs: Option<BorrowedFd<'_>>, sysctls: &[SysctlArgs<'_>]) -> Result<()> {
    for (index, sysctl) in sysctls.iter().enumerate() {
        write_proc(procfs, sysctl.path, sysctl.value).at_index(Step::Sysctl, index as u16)?;
    }
    Ok(())
}

fn write_proc(procfs: Option<BorrowedFd<'_>>, path: &CStr, value: &[u8]) -> sys::Result<()> {
    let procfs = procfs.ok_or(refused(Errno::BADF))?;
    let file = fs::open_beneath(procfs, path, OFlags::WRONLY)?;
    fs::write_once(file.as_fd(), value)
}

/// Everything about the process that is settled before Ready: its class, labels, directory, ids, and that its
/// program can be found.
pub(crate) fn settle(
    root: BorrowedFd<'_>,
    procfs: Option<BorrowedFd<'_>>,
    args: &mut ProcessArgs<'_>,
    own: &[BorrowedFd<'_>],
    link: Link<'_>,
) -> Result<()> {
    if let Some(scheduler) = &args.scheduler {
        process::sched_setattr(0, scheduler).at(Step::Scheduler)?;
    }
    if let Some(priority) = args.io_priority {
        process::ioprio_set(priority).at(Step::IoPriority)?;
    }
    if let Some(personality) = args.personality {
        process::personality(personality).at(Step::Personality)?;
    }
    if let Some((mode, nodes)) = args.memory_policy {
        process::set_mempolicy(mode, nodes).at(Step::MemoryPolicy)?;
    }
    if let Some(label) = args.apparmor {
        write_apparmor(procfs, label).at(Step::Apparmor)?;
    }
    if let Some(label) = args.selinux {
        write_proc(procfs, c"thread-self/attr/exec", label).at(Step::Selinux)?;
    }
    environment::add_home(root, args).at(Step::Home)?;
    let entered = enter_cwd(root, args.cwd);
    set_limits(args.rlimits)?;
    take_ids(args)?;
    if entered.is_err() {
        // root may be denied what the user is allowed: on NFS, or with a mode of 0700 in a user namespace.
        enter_cwd(root, args.cwd).at(Step::Cwd)?;
    }
    check_cwd().at(Step::Cwd)?;
    take_capabilities(args, own, link)?;
    args.found = find_program(args)?;
    Ok(())
}

/// Limits of this process: index, resource, soft, hard.
pub(crate) fn set_limits(limits: &[(u16, process::Resource, u64, u64)]) -> Result<()> {
    for (index, resource, soft, hard) in limits {
        process::set_limit(0, *resource, *soft, *hard).at_index(Step::Rlimit, *index)?;
    }
    Ok(())
}

fn write_apparmor(procfs: Option<BorrowedFd<'_>>, label: &[u8]) -> sys::Result<()> {
    match write_proc(procfs, c"thread-self/attr/apparmor/exec", label) {
        Err(SysError {
            errno: Errno::NOENT, ..
        }) => write_proc(procfs, c"thread-self/attr/exec", label),
        other => other,
    }
}

/// Enters the working directory. Magic links are refused: /proc/self/fd/7 could be a directory of the host
/// (CVE-2024-21626).
fn enter_cwd(root: BorrowedFd<'_>, cwd: &CStr) -> sys::Result<()> {
    let cwd = if cwd.is_empty() { c"." } else { cwd };
    let directory = fs::open_in_root(root, cwd, OFlags::PATH | OFlags::DIRECTORY)?;
    fs::chdir(directory.as_fd())
}

fn check_cwd() -> sys::Result<()> {
    if fs::cwd_is_reachable()? {
        Ok(())
    } else {
        Err(refused(Errno::NOENT))
    }
}

/// Without no_new_privs only CAP_SYS_ADMIN may load a filter (seccomp(2)), so it is loaded before that is
/// given up: nothing that could be taken over while the container waits for `start` may still have it. From
/// then on only calls that every profile allows are made: those of before Linux 5.8 know neither openat2 nor
/// close_range.
pub(crate) fn loads_seccomp_early(args: &ProcessArgs<'_>) -> bool {
    args.seccomp.is_some() && !args.no_new_privileges
}

/// Closes everything but `own`, which later cannot be done by close_range any more.
fn load_seccomp_early(args: &ProcessArgs<'_>, own: &[BorrowedFd<'_>], link: Link<'_>) -> Result<()> {
    close_all_but(own, args.inherited).at(Step::Seccomp)?;
    load_seccomp(args, link).at(Step::Seccomp)
}

fn take_ids(args: &ProcessArgs<'_>) -> Result<()> {
    let ids = &args.credentials;
    credentials::umask(ids.umask);
    drop_bounding(&ids.capabilities).at(Step::Capabilities)?;
    credentials::set_keep_capabilities(true).at(Step::Capabilities)?;
    if let Some(groups) = ids.groups {
        set_groups(groups).at(Step::Groups)?;
    }
    credentials::setresgid(ids.gid).at(Step::User)?;
    credentials::setresuid(ids.uid).at(Step::User)?;
    // A change of ids makes the kernel forget it.
    process::parent_death_signal(Some(Signal::KILL)).at(Step::User)
}

fn take_capabilities(args: &ProcessArgs<'_>, own: &[BorrowedFd<'_>], link: Link<'_>) -> Result<()> {
    let capabilities = &args.credentials.capabilities;
    let loads_now = loads_seccomp_early(args);
    set_capabilities(capabilities, loads_now).at(Step::Capabilities)?;
    if loads_now {
        load_seccomp_early(args, own, link)?;
        credentials::capset(
            capabilities.effective,
            capabilities.permitted,
            capabilities.inheritable,
        )
        .at(Step::Capabilities)?;
    }
    if args.no_new_privileges {
        credentials::set_no_new_privileges().at(Step::NoNewPrivileges)?;
    }
    Ok(())
}

/// A user namespace whose group map was written without privileges denies setgroups for ever, so that nobody
/// can give up a group that denies something (user_namespaces(7)). Then the groups of whoever made it stay.
fn set_groups(groups: &[u32]) -> sys::Result<()> {
    match credentials::setgroups(groups) {
        Err(SysError {
            errno: Errno::PERM, ..
        }) if groups.is_empty() && credentials::has_effective(CAP_SETGID)? => Ok(()),
        other => other,
    }
}

fn drop_bounding(capabilities: &CapabilityArgs) -> sys::Result<()> {
    for capability in 0..=capabilities.last {
        if capabilities.bounding & (1 << capability) == 0 {
            credentials::drop_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// With `as_admin`, CAP_SYS_ADMIN comes on top, for one more call.
fn set_capabilities(sets: &CapabilityArgs, as_admin: bool) -> sys::Result<()> {
    let more = if as_admin { CAP_SYS_ADMIN } else { 0 };
    credentials::capset(sets.effective | more, sets.permitted | more, sets.inheritable)?;
    credentials::clear_ambient()?;
    for capability in 0..=sets.last {
        if sets.ambient & (1 << capability) != 0 {
            credentials::raise_ambient(capability)?;
        }
    }
    Ok(())
}

/// The first candidate that is a file the user may execute. The errno of the most telling failure otherwise.
fn find_program(args: &ProcessArgs<'_>) -> Result<usize> {
    let mut reason = SysError {
        call: Call::Fstat,
        errno: Errno::NOENT,
    };
    let mut place = 0;
    for (index, candidate) in args.candidates.iter().enumerate() {
        match check_program(candidate) {
            Ok(()) => return Ok(index),
            Err(error) if reason.errno == Errno::NOENT => (reason, place) = (error, index as u16),
            Err(_) => {}
        }
    }
    Err(reason).at_index(Step::FindProgram, place)
}

fn check_program(path: &CStr) -> sys::Result<()> {
    match fs::stat(path)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => fs::may_execute(path),
        libc::S_IFDIR => Err(SysError {
            call: Call::Fstat,
            errno: Errno::ISDIR,
        }),
        _ => Err(SysError {
            call: Call::Fstat,
            errno: Errno::ACCESS,
        }),
    }
}

/// Loads the filter where no_new_privs allows that without a privilege: after `start`, so that it need not
/// allow what waiting takes; before the startContainer hooks, whose programs are the image's.
pub(crate) fn load_seccomp_late(args: &ProcessArgs<'_>, link: Link<'_>) -> sys::Result<()> {
    if args.no_new_privileges {
        load_seccomp(args, link)
    } else {
        Ok(())
    }
}

fn load_seccomp(args: &ProcessArgs<'_>, link: Link<'_>) -> sys::Result<()> {
    let Some(seccomp) = &args.seccomp else {
        return Ok(());
    };
    if seccomp.notifies {
        return load_with_listener(seccomp, link);
    }
    process::seccomp(seccomp.program, seccomp.flags).map(drop)
}

/// Loads a filter that notifies. Once it is loaded, any system call of ours may wait for the agent, who does
/// not have the listener yet. So its number goes by shared memory, and RUNTIME takes it with pidfd_getfd(2).
fn load_with_listener(seccomp: &SeccompArgs<'_>, link: Link<'_>) -> sys::Result<()> {
    /// Some seconds: RUNTIME only has to pass the listener on, and has died if it takes that long.
    const PATIENCE: u64 = 1 << 28;
    let file = fs::memfd(c"onggi-seccomp")?;
    fs::set_length(file.as_fd(), process::SHARED_PAGE as u64)?;
    let shared = SharedWord::map(file.as_fd())?;
    link.send_fd(Message::SeccompFd, file.as_fd())?;
    if seccomp.dumpable {
        process::set_dumpable()?;
    }
    let word = shared.word();
    match process::seccomp(seccomp.program, seccomp.flags) {
        // Never 0, which is standard input and means "go on".
        Ok(listener) => word.store(listener, Ordering::SeqCst),
        Err(error) => {
            word.store(-1, Ordering::SeqCst);
            return Err(error);
        }
    }
    for _ in 0..PATIENCE {
        if word.load(Ordering::Relaxed) == 0 {
            // The filter is in force: the agent, who has the listener by now, may have to allow this.
            return if seccomp.dumpable {
                process::set_undumpable()
            } else {
                Ok(())
            };
        }
        core::hint::spin_loop();
    }
    process::exit_now(1)
}

/// Becomes the program. Returns only with the reason why not.
pub(crate) fn execute(args: &ProcessArgs<'_>) -> Result<Infallible> {
    // The one that was found, and those after it should it be gone by now.
    let mut reason = SysError {
        call: Call::Exec,
        errno: Errno::NOENT,
    };
    let mut place = 0;
    for (index, candidate) in args.candidates.iter().enumerate().skip(args.found) {
        let error = process::execve(candidate, &args.argv, &args.envp);
        if reason.errno == Errno::NOENT {
            (reason, place) = (error, index as u16);
        }
        if !matches!(
            error.errno,
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::ISDIR
        ) {
            break;
        }
    }
    Err(Stop::new(Step::Exec, place, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sorted_lists_become_one() {
        assert!(merged(&[3, 4, 9], &[5, 12]).eq([3, 4, 5, 9, 12]));
        assert!(merged(&[], &[7, 8]).eq([7, 8]));
        assert!(merged(&[3], &[]).eq([3]));
        assert!(merged(&[3, 5], &[4, RawFd::MAX]).eq([3, 4, 5, RawFd::MAX]));
        assert!(merged(&[5], &[5, 5]).eq([5, 5, 5]));
    }
}

//! Processes: clone3, execve, signals, prctl, waiting, file descriptors as a table.

use core::ffi::{CStr, c_char};
use core::mem::size_of;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::process::{Signal, WaitIdOptions, WaitIdStatus};

use super::memory::{Carry, Room};
use super::namespace::Kinds;
use super::{Call, Named, Result, SysError, checked};

/// What `clone3` makes, beyond a copy of the calling process.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneFlags<'a> {
    /// The namespaces that the new process is born in.
    pub namespaces: Kinds,
    /// `CLONE_PARENT`, `CLONE_FILES`.
    pub flags: u64,
    /// The cgroup2 directory that the new process is born in (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The signal that the parent gets when the process ends; 0 with `CLONE_PARENT`, which inherits it.
    pub exit_signal: u64,
}

impl CloneFlags<'_> {
    /// Those of both system calls.
    fn all_flags(&self) -> u64 {
        u64::from(self.namespaces.bits()) | self.flags | libc::CLONE_PIDFD as u64
    }
}

/// Which of the two processes we are after `clone3`.
#[derive(Debug)]
pub enum Cloned {
    /// The caller: the pid in the caller's pid namespace, and a pidfd, close-on-exec.
    Parent(i32, OwnedFd),
    /// The new process.
    Child,
}

/// `clone3(2)` without a new stack and without shared memory: like `fork`, but none of libc's at-fork work is
/// done.
///
/// The child must do nothing but system calls: in a program with threads, every lock may be held for ever.
///
/// # Errors
/// The errno of the call.
pub fn clone3(options: CloneFlags<'_>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a struct of integers, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { core::mem::zeroed() };
    args.flags = options.all_flags() | CLONE_CLEAR_SIGHAND;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = options.exit_signal;
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args is a live clone_args of exactly the size given, its pidfd points to a live i32; without
    // CLONE_VM and without a stack the child goes on in its own copy of this very frame.
    let raw = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    let raw = match checked(Call::Clone, raw) {
        // The engines' filters answer ENOSYS, since they cannot look into the struct, those from before Linux
        // 5.3 EPERM.
        Err(SysError {
            errno: rustix::io::Errno::NOSYS | rustix::io::Errno::PERM,
            ..
        }) if options.cgroup.is_none() => clone(options, &mut pidfd),
        other => other,
    };
    match raw? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just stored a new descriptor there which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(pid as i32, pidfd))
        }
    }
}

/// The same by `clone(2)`, for a process that runs under a filter and has no handlers any more.
fn clone(options: CloneFlags<'_>, pidfd: &mut RawFd) -> Result<libc::c_long> {
    let flags = options.all_flags() | options.exit_signal;
    // SAFETY: without CLONE_VM and without a stack the child goes on in its own copy of this frame; the third
    // argument is, on every architecture, where the kernel stores the pidfd.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            0usize,
            core::ptr::from_mut(pidfd),
            0usize,
            0usize,
        )
    };
    checked(Call::Clone, raw)
}

/// `CLONE_CLEAR_SIGHAND`: handlers of the host program must not run in the child. libc has it as a signed
/// type.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLONE_INTO_CGROUP`, likewise.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `_exit` of the whole process, without libc's exit handlers.
pub fn exit_now(status: i32) -> ! {
    loop {
        // SAFETY: exit_group takes an integer and does not return; the loop is for the type only.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// A vector of C strings, ended by a null pointer, as `execve` wants it.
///
/// The pointers are made by RUNTIME before the clone from strings that it keeps alive; the child copies them.
#[derive(Debug)]
pub struct ExecVector<'a> {
    pointers: &'a mut [*const c_char],
    /// How many of the first strings are in memory that was taken for them alone.
    carried: usize,
}

impl Carry for ExecVector<'_> {
    type Carried = ExecVector<'static>;

    fn carry(&self, room: &Room) -> Result<ExecVector<'static>> {
        let pointers = room.each(self.pointers, |pointer| {
            if pointer.is_null() {
                return Ok(core::ptr::null::<c_char>());
            }
            // SAFETY: `new` and `push` put only C strings there, which live as long as the vector.
            let string = unsafe { CStr::from_ptr(*pointer) };
            let copy = room.copy(string.to_bytes_with_nul())?;
            Ok(copy.as_mut_ptr().cast_const().cast())
        })?;
        let carried = pointers.iter().take_while(|pointer| !pointer.is_null()).count();
        Ok(ExecVector { pointers, carried })
    }
}

impl<'a> ExecVector<'a> {
    /// Wraps `pointers`, which must be `strings` in order and then at least one null.
    ///
    /// # Panics
    /// Runs in RUNTIME. If there is no room for the null.
    pub fn new(pointers: &'a mut [*const c_char], strings: &'a [impl AsRef<CStr>]) -> Self {
        assert!(pointers.len() > strings.len(), "no room for the null pointer");
        pointers.fill(core::ptr::null());
        for (pointer, string) in pointers.iter_mut().zip(strings) {
            *pointer = string.as_ref().as_ptr();
        }
        Self { pointers, carried: 0 }
    }

    /// Runs in: the child. Zeroes the strings that it has taken along, which nobody needs any more.
    pub fn wipe(&mut self) {
        for pointer in self.pointers.iter().take(self.carried) {
            // SAFETY: a C string that lives as long as the vector.
            let length = unsafe { CStr::from_ptr(*pointer) }.to_bytes().len();
            // SAFETY: as many bytes of memory that `carry` has taken for this string alone, and that can be
            // written.
            unsafe { core::ptr::write_bytes(pointer.cast_mut(), 0, length) };
        }
        self.carried = 0;
    }

    /// Puts one more string after the last, if a spare slot is left. `string` must live until the process has
    /// called `execve`, which in the child means: in a frame that never returns.
    pub fn push(&mut self, string: &'a CStr) -> bool {
        let used = self
            .pointers
            .iter()
            .position(|p| p.is_null())
            .unwrap_or(self.pointers.len());
        let has_room = used + 1 < self.pointers.len();
        match self.pointers.get_mut(used) {
            Some(slot) if has_room => {
                *slot = string.as_ptr();
                true
            }
            _ => false,
        }
    }

    /// Whether one of the strings starts with `prefix`.
    pub fn has_prefix(&self, prefix: &[u8]) -> bool {
        self.pointers.iter().take_while(|p| !p.is_null()).any(|pointer| {
            // SAFETY: every non-null pointer was made from a CStr that outlives self.
            let string = unsafe { CStr::from_ptr(*pointer) };
            string.to_bytes().starts_with(prefix)
        })
    }
}

/// `execve(2)`. Returns only on failure.
pub fn execve(path: &CStr, argv: &ExecVector<'_>, envp: &ExecVector<'_>) -> SysError {
    let (argv, envp) = (argv.pointers.as_ptr(), envp.pointers.as_ptr());
    // SAFETY: path is a C string, argv and envp are null-terminated arrays of C strings that outlive the
    // call.
    let raw = unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv, envp) };
    failure_of(checked(Call::Exec, raw))
}

/// `execveat(2)` on an open file. Returns only on failure. Runs in RUNTIME (self-protection of the binary).
pub fn execveat(file: BorrowedFd<'_>, argv: &ExecVector<'_>, envp: &ExecVector<'_>) -> SysError {
    let (argv, envp) = (argv.pointers.as_ptr(), envp.pointers.as_ptr());
    // SAFETY: the path is an empty C string, argv and envp are null-terminated arrays of live C strings.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv,
            envp,
            libc::AT_EMPTY_PATH,
        )
    };
    failure_of(checked(Call::Exec, raw))
}

fn failure_of(result: Result<libc::c_long>) -> SysError {
    match result {
        Err(error) => error,
        Ok(_) => SysError {
            call: Call::Exec,
            errno: rustix::io::Errno::INVAL,
        },
    }
}

/// Number of signals of the kernel, and of bytes in its signal set.
const SIGNALS: i32 = 64;
const SIGSET_BYTES: usize = 8;

/// The kernel's `struct sigaction` as all zeroes: `SIG_DFL`, no flags, empty mask. Large enough for every
/// layout.
#[repr(C, align(8))]
struct DefaultAction([u8; 64]);

/// Gives every signal its default action, also those that the caller of RUNTIME ignored.
pub fn default_signal_actions() -> Result<()> {
    (1..=SIGNALS)
        .filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP))
        .try_for_each(|signal| set_signal_action(signal, false))
}

/// The kernel's `struct sigaction`, with `SA_RESTORER` as x86-64 wants it. Where an architecture has no
/// restorer, the mask comes in its place: what is blocked in a handler that does not return.
#[repr(C)]
struct HandledAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// linux/signal.h; libc has it for some architectures only.
const SA_RESTORER: usize = 0x0400_0000;

/// Signals whose default action does not end a process (signal(7)), and the two that cannot be handled.
const NOT_FATAL: [i32; 10] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
    0,
];

/// A handler that makes one system call and never returns: libc has no part in it.
extern "C" fn end_by(signal: i32) {
    exit_now(128 | signal)
}

/// Has every signal that would end an ordinary process end this one, with status 128 and its number. `execve`
/// sets the actions back, as does a clone that clears them.
pub fn end_at_signals() -> Result<()> {
    let handler = end_by as extern "C" fn(i32) as usize;
    let action = HandledAction {
        handler,
        flags: SA_RESTORER,
        // Never called.
        restorer: handler,
        mask: 0,
    };
    for signal in (1..=SIGNALS).filter(|signal| !NOT_FATAL.contains(signal)) {
        // SAFETY: action is as large as the largest of the kernel's structs sigaction, and only read; its
        // handler may interrupt anything, since nothing comes after it. The old action is not asked for.
        let raw = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const action,
                core::ptr::null::<u8>(),
                SIGSET_BYTES,
            )
        };
        checked(Call::Sigaction, raw)?;
    }
    Ok(())
}

/// Whether this process ignores a signal.
pub fn ignores(signal: i32) -> Result<bool> {
    // The kernel's struct begins with the handler.
    let mut action = [0u64; 4];
    // SAFETY: action is as large as the largest of the kernel's structs sigaction, which is only written to;
    // no new action is given.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            core::ptr::null::<u64>(),
            action.as_mut_ptr(),
            SIGSET_BYTES,
        )
    };
    checked(Call::Sigaction, raw)?;
    Ok(action.first() == Some(&(libc::SIG_IGN as u64)))
}

/// Has this process ignore a signal, or take its default action.
pub fn set_signal_action(signal: i32, ignore: bool) -> Result<()> {
    let mut action = DefaultAction([0; 64]);
    // The kernel's struct begins with the handler; SIG_IGN is 1.
    if let Some(first) = action.0.first_chunk_mut() {
        *first = usize::from(ignore).to_ne_bytes();
    }
    // SAFETY: action is larger than the kernel's struct sigaction, names no function, and is only read; the
    // old action is not asked for.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const action,
            core::ptr::null::<u8>(),
            SIGSET_BYTES,
        )
    };
    checked(Call::Sigaction, raw).map(drop)
}

/// Sets the signal mask of the calling thread to `mask` and returns the old one, as the kernel's 64 bits.
pub fn set_signal_mask(mask: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: both sets are live 8-byte integers, which is the size given.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut old,
            SIGSET_BYTES,
        )
    };
    checked(Call::Sigmask, raw)?;
    Ok(old)
}

/// Blocks the signals of `mask` in the calling thread, besides those that are blocked already. For RUNTIME:
/// the sets of the C library leave out what it keeps for itself, which in musl is SIGRTMIN, too.
pub fn block_signals(mask: u64) -> Result<()> {
    // SAFETY: the set is a live 8-byte integer, which is the size given, and only read; the old one is not
    // asked for.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const mask,
            core::ptr::null::<u8>(),
            SIGSET_BYTES,
        )
    };
    checked(Call::Sigmask, raw).map(drop)
}

/// `signalfd(2)` of the signals of `mask`; non-blocking, close-on-exec. For RUNTIME, see [`block_signals`].
pub fn signalfd(mask: u64) -> Result<OwnedFd> {
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: the set is a live 8-byte integer, which is the size given, and only read.
    let raw = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, SIGSET_BYTES, flags) };
    let fd = checked(Call::Signalfd, raw)?;
    // SAFETY: the kernel has just opened it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `close`, of a descriptor of which this process has only the number.
pub fn close(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes an integer only. What an OwnedFd holds is closed by dropping it, not by this.
    let raw = unsafe { libc::syscall(libc::SYS_close, fd.as_raw_fd()) };
    checked(Call::Close, raw).map(drop)
}

/// `close_range(first, last)`; with `cloexec` the descriptors are only marked close-on-exec.
pub fn close_range(first: u32, last: u32, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: takes integers only. Descriptors above the range given are not owned by anything that lives on.
    let raw = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    checked(Call::CloseRange, raw).map(drop)
}

/// `dup3`, onto the number `target`, which stays open across `execve`. Whatever `target` was before is
/// closed.
pub fn dup_onto(fd: BorrowedFd<'_>, target: RawFd) -> Result<()> {
    if fd.as_raw_fd() == target {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).named(Call::Fcntl);
    }
    copy_to(fd.as_raw_fd(), target)
}

/// `dup3` by numbers, of which the second is another than the first, and stays open across `execve`.
pub fn copy_to(number: RawFd, target: RawFd) -> Result<()> {
    // SAFETY: takes integers only; a target is 0, 1 or 2, or a number that RUNTIME has kept free: no OwnedFd
    // holds it.
    let raw = unsafe { libc::syscall(libc::SYS_dup3, number, target, 0) };
    checked(Call::Dup, raw).map(drop)
}

/// Puts `new` under the number of `old`, which is closed; close-on-exec.
pub fn exchange(new: BorrowedFd<'_>, old: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers only. The number stays open, and means a tree before and after.
    let raw = unsafe { libc::syscall(libc::SYS_dup3, new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) };
    checked(Call::Dup, raw).map(drop)
}

/// Sends this process `signal` when its parent ends, or with `None` no more.
pub fn parent_death_signal(signal: Option<Signal>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(signal).named(Call::Prctl)
}

/// Hides this process from `ptrace` and `/proc/<pid>/fd` of others that lack the privilege.
pub fn set_undumpable() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).named(Call::Prctl)
}

/// The opposite: files below `/proc/<pid>` belong to the process's own user, who may also trace it.
pub fn set_dumpable() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).named(Call::Prctl)
}

/// Gives this process a name, as `ps` shows it (PR_SET_NAME).
pub fn set_name(name: &CStr) -> Result<()> {
    rustix::thread::set_name(name).named(Call::Prctl)
}

/// `setsid(2)`: the process leads a new session, without a controlling terminal.
pub fn setsid() -> Result<()> {
    rustix::process::setsid().map(drop).named(Call::Setsid)
}

/// `setpgid(0, 0)`: the process leads a new process group of its session.
pub fn lead_process_group() -> Result<()> {
    rustix::process::setpgid(None, None).named(Call::Setpgid)
}

/// Waits for the process behind `pidfd` to end and reaps it.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<WaitIdStatus> {
    loop {
        match rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(errno) => {
                return Err(SysError {
                    call: Call::Wait,
                    errno,
                });
            }
        }
    }
}

/// Of `struct pidfd_info` what all kernels that know it fill in (include/uapi/linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xff, 11, struct pidfd_info)`, of the size above.
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;

const _: () = assert!(size_of::<PidfdInfo>() == 0x40);

/// How a process has ended that somebody else has reaped, in the form of wait(2). `None` where the kernel
/// does not tell: before Linux 6.15, or as long as it is not reaped.
pub fn status_of_reaped(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the number says the size of what it points to; on other files it is unknown.
    let raw = unsafe { libc::syscall(libc::SYS_ioctl, pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (raw == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

/// Whether the process behind `pidfd` is a child of this process that nobody has reaped yet. False for what
/// is no pidfd.
pub fn is_child(pidfd: BorrowedFd<'_>) -> Result<bool> {
    let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd), only_look) {
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::CHILD | rustix::io::Errno::BADF) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(SysError {
                    call: Call::Wait,
                    errno,
                });
            }
        }
    }
}

/// Waits until `fd` is readable; false after `milliseconds`. A pidfd is readable when its process has ended.
pub fn wait_readable(fd: BorrowedFd<'_>, milliseconds: Option<i64>) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = milliseconds.map(|ms| Timespec {
        tv_sec: ms / 1000,
        tv_nsec: ((ms % 1000) * 1_000_000) as _,
    });
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|ready| ready > 0).named(Call::Poll),
        }
    }
}

/// Sends `signal` to the process behind `pidfd`.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    rustix::process::pidfd_send_signal(pidfd, signal).named(Call::Pidfd)
}

/// A pidfd of the calling process, close-on-exec.
pub fn own_pidfd() -> Result<OwnedFd> {
    let own = rustix::process::getpid();
    rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).named(Call::PidfdOpen)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, name)`: a new session keyring of that name; its serial number.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    // SAFETY: name is a C string, which the kernel only reads.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING as libc::c_long,
            name.as_ptr(),
        )
    };
    checked(Call::Keyctl, raw).map(|serial| serial as i32)
}

/// `keyctl(KEYCTL_SETPERM)`.
pub fn set_key_permissions(serial: i32, permissions: u32) -> Result<()> {
    // SAFETY: takes integers only.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SETPERM as libc::c_long,
            serial,
            permissions,
        )
    };
    checked(Call::Keyctl, raw).map(drop)
}

/// `keyctl(KEYCTL_CHOWN)` to another user.
pub fn give_key(serial: i32, uid: u32) -> Result<()> {
    // SAFETY: takes integers only.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_CHOWN as libc::c_long,
            serial,
            uid,
            u32::MAX,
        )
    };
    checked(Call::Keyctl, raw).map(drop)
}

/// The permissions of a key, by `keyctl(KEYCTL_DESCRIBE)`: `type;uid;gid;permissions;description`.
pub fn key_permissions(serial: i32) -> Result<u32> {
    // The longest description has 4095 bytes (KEY_MAX_DESC_SIZE).
    let mut text = [0u8; 4200];
    // SAFETY: the kernel writes at most the length given to the live buffer.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE as libc::c_long,
            serial,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    checked(Call::Keyctl, raw)?;
    let field = text.split(|byte| *byte == b';').nth(3).unwrap_or_default();
    core::str::from_utf8(field)
        .ok()
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .ok_or(SysError {
            call: Call::Keyctl,
            errno: rustix::io::Errno::PROTO,
        })
}

/// The kernel's `struct sched_attr`, size 56 (with utilisation clamps left zero).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's, see sched_setattr(2)")]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

/// `sched_setattr(2)` of a process; 0 is the calling thread.
pub fn sched_setattr(pid: i32, attr: &SchedAttr) -> Result<()> {
    // SAFETY: attr is a live struct whose size field says how much the kernel may read.
    let raw = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, core::ptr::from_ref(attr), 0) };
    checked(Call::SchedSetattr, raw).map(drop)
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0, value)`.
pub fn ioprio_set(value: i32) -> Result<()> {
    // SAFETY: takes integers only.
    let raw = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) };
    checked(Call::Ioprio, raw).map(drop)
}

/// `personality(2)`.
pub fn personality(value: u64) -> Result<()> {
    // SAFETY: takes an integer only.
    let raw = unsafe { libc::syscall(libc::SYS_personality, value) };
    checked(Call::Personality, raw).map(drop)
}

/// `set_mempolicy(2)` with a node mask of 64-bit words.
pub fn set_mempolicy(mode: i32, nodes: &[u64]) -> Result<()> {
    let (pointer, bits) = match nodes {
        [] => (core::ptr::null(), 0),
        _ => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: pointer is null or points to `bits - 1` live bits, which is what the kernel reads.
    let raw = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    checked(Call::SetMempolicy, raw).map(drop)
}

/// One classic BPF instruction, as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[allow(
    missing_docs,
    reason = "the fields are the kernel's, see bpf in networking/filter"
)]
pub struct SockFilter {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)`: the value is the listener's descriptor if `flags` asks for one, else
/// 0.
pub fn seccomp(filter: &[SockFilter], flags: u32) -> Result<i32> {
    let program = SockFprog {
        len: filter.len() as u16,
        filter: filter.as_ptr(),
    };
    // SAFETY: program and the instructions it points to are live; the kernel copies them and writes nothing.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    checked(Call::Seccomp, raw).map(|value| value as i32)
}

/// A 4-byte word in a page of a shared file: how init, once its filter is loaded, talks without a system
/// call.
#[derive(Debug)]
pub struct SharedWord(*mut core::sync::atomic::AtomicI32);

impl SharedWord {
    /// Maps the first page of `file`, which must be at least that long. The mapping is never undone: `execve`
    /// does it.
    pub fn map(file: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: asks for a new mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::syscall(
                libc::SYS_mmap,
                core::ptr::null::<u8>(),
                SHARED_PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0usize,
            )
        };
        checked(Call::None, page).map(|page| Self(page as usize as *mut _))
    }

    /// The word.
    pub fn word(&self) -> &core::sync::atomic::AtomicI32 {
        // SAFETY: the page is mapped, aligned, as long as the process lives, and only accessed atomically.
        unsafe { &*self.0 }
    }
}

/// Bytes of the page behind a [`SharedWord`].
pub const SHARED_PAGE: usize = 4096;

/// Standard input, output and error of this process, whether or not something is open there.
pub fn standard_descriptors() -> [BorrowedFd<'static>; 3] {
    // SAFETY: 0 is not -1, and only system calls that check it themselves are made with it.
    let input = unsafe { BorrowedFd::borrow_raw(0) };
    // SAFETY: as above.
    let output = unsafe { BorrowedFd::borrow_raw(1) };
    // SAFETY: as above.
    let error = unsafe { BorrowedFd::borrow_raw(2) };
    [input, output, error]
}

/// Takes over a descriptor that this process was started with, by its number. It gets another number,
/// close-on-exec. EBADF for one that is close-on-exec: that is somebody's own, since no program is started
/// with such a one.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd> {
    if number < 3 {
        return Err(SysError {
            call: Call::Fcntl,
            errno: rustix::io::Errno::BADF,
        });
    }
    // SAFETY: number is not -1, and is only asked whether it is open; it is closed below, and not used again.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(inherited).named(Call::Fcntl)?;
    if flags.contains(rustix::io::FdFlags::CLOEXEC) {
        return Err(SysError {
            call: Call::Fcntl,
            errno: rustix::io::Errno::BADF,
        });
    }
    let taken = rustix::io::fcntl_dupfd_cloexec(inherited, 3).named(Call::Fcntl)?;
    close_range(number as u32, number as u32, false)?;
    Ok(taken)
}

/// Sends the signal with that number, real-time signals included, to the process behind `pidfd`.
pub fn send_signal_number(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: takes integers; no siginfo is given.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            core::ptr::null::<u8>(),
            0,
        )
    };
    checked(Call::Pidfd, raw).map(drop)
}

/// `RLIMIT_*`, of which type C libraries have opinions of their own.
#[cfg(target_env = "gnu")]
pub type Resource = libc::c_uint;
/// `RLIMIT_*`, of which type C libraries have opinions of their own.
#[cfg(not(target_env = "gnu"))]
pub type Resource = libc::c_int;

/// The soft and the hard limit of this process.
pub fn limit(resource: Resource) -> Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    // SAFETY: limit is two live 64-bit integers, the kernel's struct rlimit64, which are only written to.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            core::ptr::null::<u8>(),
            limit.as_mut_ptr(),
        )
    };
    checked(Call::Prlimit, raw)?;
    let [soft, hard] = limit;
    Ok((soft, hard))
}

/// Lets a process run on every CPU that there is: the kernel takes those of its cgroup's cpuset of them.
pub fn allow_all_cpus(pid: i32) -> Result<()> {
    // More than any kernel is built for (CONFIG_NR_CPUS is at most 8192): those that there are not it leaves
    // out.
    let all = [u64::MAX; 256];
    // SAFETY: the mask is as long as said, and only read.
    let raw = unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(&all), all.as_ptr()) };
    checked(Call::SchedSetaffinity, raw).map(drop)
}

/// `prlimit(2)`: of this process for 0, or of another one.
pub fn set_limit(pid: i32, resource: Resource, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: limit is two live 64-bit integers, the kernel's struct rlimit64; the old limit is not asked
    // for.
    let raw = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            limit.as_ptr(),
            core::ptr::null::<u8>(),
        )
    };
    checked(Call::Prlimit, raw).map(drop)
}

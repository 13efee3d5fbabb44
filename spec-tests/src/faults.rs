//! Runs in: SUITE. Makes one system call of a runtime's children fail: the first, the second, and so on. A thread of the
//! suite loads a seccomp filter that asks, and starts the runtime, which inherits it; the answers come from another
//! thread, by seccomp_unotify(2). The runtime itself, and the programs that its children become, are left alone.

use crate::outcome::{Check, fail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    collections::HashMap,
    fs,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::mpsc,
    thread,
};

/// The calls that are counted: those that set something up. What only asks, or cannot be denied, is left out.
const CALLS: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bpf,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_chroot,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_execve,
    libc::SYS_faccessat2,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_ioctl,
    libc::SYS_ioprio_set,
    libc::SYS_keyctl,
    libc::SYS_memfd_create,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_newfstatat,
    libc::SYS_open_tree,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_personality,
    libc::SYS_pivot_root,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_recvmsg,
    libc::SYS_sched_setattr,
    libc::SYS_seccomp,
    libc::SYS_sendmsg,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_setgroups,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setsid,
    libc::SYS_socket,
    libc::SYS_symlinkat,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_waitid,
    libc::SYS_write,
];

const RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
/// Let the kernel go on with the call.
const CONTINUE: u32 = 1;

/// Runs `body` on a thread of its own, with the call number `which` (from 1) of the runtime's children failing with EIO.
/// Returns what `body` does, and how many calls they made.
pub(crate) fn failing<T: Send>(which: usize, body: impl FnOnce() -> Check<T> + Send) -> Check<(T, usize)> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let worker = scope.spawn(move || {
            let listener = install()?;
            if sender.send(listener).is_err() {
                return fail("nobody answers");
            }
            body()
        });
        let mut judge = Judge {
            which,
            seen: 0,
            last: (0, 0, 0),
            kinds: HashMap::new(),
        };
        if let Ok(listener) = receiver.recv() {
            while !worker.is_finished() {
                judge.answer_one(&listener)?;
            }
        }
        let result = worker
            .join()
            .unwrap_or_else(|_| fail("the thread of the test ended"))?;
        Ok((result, judge.seen))
    })
}

/// Runs `body` on a thread of its own, on what looks like a kernel that has no system call `call`: it fails with ENOSYS,
/// for the runtime too.
pub(crate) fn on_a_kernel_without<T: Send>(
    call: libc::c_long,
    body: impl FnOnce() -> Check<T> + Send,
) -> Check<T> {
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            load(&mut program(&[call], unknown), 0)?;
            body()
        });
        worker
            .join()
            .unwrap_or_else(|_| fail("the thread of the test ended"))
    })
}

/// Decides about every call.
struct Judge {
    which: usize,
    seen: usize,
    /// Process, call and first argument of the call before.
    last: (u32, i32, u64),
    /// Whether the calls of a process count.
    kinds: HashMap<u32, bool>,
}

impl Judge {
    fn answer_one(&mut self, listener: &OwnedFd) -> Check {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::from(20_u8);
        let ready = match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => 0,
            ready => ready?,
        };
        // Once nobody has the filter any more it hangs up, and Linux 6.1 waits for ever if one reads then.
        let asks = fds[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN));
        if ready == 0 || !asks {
            return Ok(());
        }
        // struct seccomp_notif: id; pid and flags; call and architecture; instruction; six arguments.
        let mut notification = [0_u64; 10];
        // SAFETY: struct seccomp_notif is 80 bytes, zeroed as the kernel demands.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECV, notification.as_mut_ptr()) } != 0 {
            // Who asked has been killed meanwhile.
            return Ok(());
        }
        let pid = notification[1] as u32;
        let call = notification[2] as i32;
        let fails = self.counts(pid, call, notification[4]) && self.seen == self.which;
        let verdict = if fails {
            u64::from((-libc::EIO) as u32)
        } else {
            u64::from(CONTINUE) << 32
        };
        let mut response = [notification[0], 0, verdict];
        loop {
            // SAFETY: struct seccomp_notif_resp is 24 bytes: id, value, error and flags.
            let sent = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, response.as_mut_ptr()) };
            // Any other failure says that who asked has been killed meanwhile; unanswered it would wait for ever.
            if sent == 0 || Errno::last() != Errno::EINTR {
                return Ok(());
            }
        }
    }

    fn counts(&mut self, pid: u32, call: i32, argument: u64) -> bool {
        let is_child = *self.kinds.entry(pid).or_insert_with(|| is_grandchild(pid));
        if !is_child {
            return false;
        }
        if libc::c_long::from(call) == libc::SYS_execve {
            // From here on it is somebody else's program.
            self.kinds.insert(pid, false);
        }
        // The capabilities of a set are dropped one by one; the first stands for all.
        let this = (pid, call, argument);
        let is_repeated = libc::c_long::from(call) == libc::SYS_prctl && this == self.last;
        self.last = this;
        if !is_repeated {
            self.seen += 1;
        }
        !is_repeated
    }
}

/// Whether it is a child of the runtime; the runtime is a child of ours.
fn is_grandchild(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u32>().ok()
    };
    let me = Some(std::process::id());
    field("Tgid:") != me && field("PPid:") != me
}

/// Loads the filter into this thread; returns where its questions arrive.
fn install() -> Check<OwnedFd> {
    let raw = load(
        &mut program(CALLS, libc::SECCOMP_RET_USER_NOTIF),
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    )?;
    // SAFETY: with this flag the call returns a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// A filter with this verdict about `calls`, which allows all others.
fn program(calls: &[libc::c_long], verdict: u32) -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, call) in calls.iter().enumerate() {
        let mut jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32);
        // Over the rest of the list, and over the statement that allows.
        jump.jt = (calls.len() - index) as u8;
        program.push(jump);
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, verdict));
    program
}

fn load(program: &mut [libc::sock_filter], flags: libc::c_ulong) -> Check<libc::c_long> {
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program lives until the kernel has copied it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(result)
}

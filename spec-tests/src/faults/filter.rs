//! Runs in: SUITE. The seccomp filters that a thread of the suite loads for what it starts.

use crate::outcome::{Check, Stop, fail};
use std::{
    fs,
    ops::Range,
    os::fd::{FromRawFd, OwnedFd},
    thread,
};

/// Runs `body` on a thread of its own, on what looks like a kernel that has no system call `call`: it fails
/// with ENOSYS, for the runtime too.
pub(crate) fn on_a_kernel_without<T: Send>(
    call: libc::c_long,
    body: impl FnOnce() -> Check<T> + Send,
) -> Check<T> {
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    under(by_number(&[call], unknown, libc::SECCOMP_RET_ALLOW), body)
}

/// The same where something forbids the system calls: they fail with EPERM.
pub(crate) fn where_forbidden<T: Send>(
    calls: &[libc::c_long],
    body: impl FnOnce() -> Check<T> + Send,
) -> Check<T> {
    let forbidden = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    under(by_number(calls, forbidden, libc::SECCOMP_RET_ALLOW), body)
}

/// The same on one where no procfs can be told its pid namespace (before 6.17): no file system takes a
/// descriptor.
pub(crate) fn on_a_kernel_before_6_17<T: Send>(body: impl FnOnce() -> Check<T> + Send) -> Check<T> {
    const FSCONFIG_SET_FD: u32 = 5;
    // The low half of the second argument in struct seccomp_data.
    const COMMAND: u32 = 24;
    let word = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let verdict = |verdict| statement(libc::BPF_RET | libc::BPF_K, verdict);
    let program = vec![
        word(0),
        jump(libc::BPF_JEQ, libc::SYS_fsconfig as u32, 0, 3),
        word(COMMAND),
        jump(libc::BPF_JEQ, FSCONFIG_SET_FD, 0, 1),
        verdict(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        verdict(libc::SECCOMP_RET_ALLOW),
    ];
    under(program, body)
}

fn under<T: Send>(mut program: Vec<libc::sock_filter>, body: impl FnOnce() -> Check<T> + Send) -> Check<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            load(&mut program, 0)?;
            body()
        });
        worker
            .join()
            .unwrap_or_else(|_| fail("the thread of the test ended"))
    })
}

/// Loads a filter into this thread that asks about every call but `allowed`, and but those that the suite
/// itself makes: it could not answer while it asks. Returns where the questions arrive.
pub(super) fn ask_about_all_but(allowed: &[libc::c_long]) -> Check<OwnedFd> {
    let mut program = from_outside(&c_library()?)?;
    program.extend(by_number(
        allowed,
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_USER_NOTIF,
    ));
    let raw = load(&mut program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: with this flag the call returns a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Where this process has the C library's code, by which alone it makes system calls, also between fork and
/// execve. What it starts has its code elsewhere: addresses are drawn by lot, out of 2^28 pages.
fn c_library() -> Check<Range<u64>> {
    let inside = libc::syscall as *const () as u64;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let ranges = maps.lines().filter_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(number(start)?..number(end)?)
    });
    ranges
        .into_iter()
        .find(|range| range.contains(&inside))
        .ok_or_else(|| Stop::Fail("/proc/self/maps does not have the C library".into()))
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump(code: u32, k: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    libc::sock_filter {
        jt: if_true,
        jf: if_false,
        ..statement(libc::BPF_JMP | libc::BPF_K | code, k)
    }
}

/// Allows what is called from `code`, and goes on with the rest of the program for all else.
fn from_outside(code: &Range<u64>) -> Check<Vec<libc::sock_filter>> {
    /// `instruction_pointer` in struct seccomp_data.
    const LOW: u32 = 8;
    const HIGH: u32 = 12;
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let half = (code.start >> 32) as u32;
    if half != (code.end >> 32) as u32 {
        return fail("the C library lies across a border of 4 GiB");
    }
    Ok(vec![
        load(HIGH),
        jump(libc::BPF_JEQ, half, 0, 4),
        load(LOW),
        jump(libc::BPF_JGE, code.start as u32, 0, 2),
        jump(libc::BPF_JGE, code.end as u32, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ])
}

/// A program with one verdict about `calls`, and another about the rest.
fn by_number(calls: &[libc::c_long], verdict: u32, otherwise: u32) -> Vec<libc::sock_filter> {
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, call) in calls.iter().enumerate() {
        // Over the rest of the list, and over the statement about the others.
        program.push(jump(libc::BPF_JEQ, *call as u32, (calls.len() - index) as u8, 0));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, otherwise));
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

//! Runs in: the CONTAINER, as a process with CAP_SYS_PTRACE. Does to every process that appears in its pid
//! namespace what an attacker would, until the file /stop is there, and prints what it got. Uses std only,
//! because build.rs compiles it alone.
//!
//! `impersonate PID`: takes the sockets out of it, says over them in onggi's protocol that the process is
//! PID, and ready, and ends it. `search REKRAM`: looks for a text, given backwards, in all its readable
//! memory and files. `search-init REKRAM LOG` does so once, with process 1.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn getsockopt(fd: i32, level: i32, name: i32, value: *mut i32, length: *mut u32) -> i32;
    fn sendmsg(fd: i32, message: *const Message, flags: i32) -> isize;
}

const PIDFD_SEND_SIGNAL: i64 = 424;
const PIDFD_OPEN: i64 = 434;
const PIDFD_GETFD: i64 = 438;
const SOL_SOCKET: i32 = 1;
const SO_TYPE: i32 = 3;
const SOCK_SEQPACKET: i32 = 5;
const SCM_RIGHTS: i32 = 1;
const MSG_DONTWAIT_NOSIGNAL: i32 = 0x40 | 0x4000;
const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match &*words {
        [_, what, pid] if what == "impersonate" => impersonate(pid.parse().unwrap_or(1)),
        [_, what, marker] if what == "search" => search(marker.as_bytes()),
        [_, what, marker, log] if what == "search-init" => search_init(marker.as_bytes(), log),
        _ => println!("usage: impersonate PID | search REKRAM | search-init REKRAM LOG"),
    }
}

/// Calls `attack` for each new process, again while it wants to, until /stop is there.
fn for_each_newcomer(mut attack: impl FnMut(i32) -> bool) {
    let mut done: HashSet<i32> = HashSet::from([std::process::id() as i32]);
    while !Path::new("/stop").exists() {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let last = load.split_whitespace().last().and_then(|pid| pid.parse().ok());
        let last: i32 = last.unwrap_or(1);
        for pid in last.max(2)..=last + 2 {
            if !done.contains(&pid) && attack(pid) {
                done.insert(pid);
            }
        }
    }
}

fn pidfd_of(pid: i32) -> Option<OwnedFd> {
    // SAFETY: takes integers only.
    let raw = unsafe { syscall(PIDFD_OPEN, i64::from(pid), 0i64) };
    // SAFETY: a descriptor that the kernel has just made.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

fn signal(victim: &OwnedFd, signal: i32) {
    let (victim, signal) = (i64::from(victim.as_raw_fd()), i64::from(signal));
    // SAFETY: takes integers and a null pointer.
    unsafe { syscall(PIDFD_SEND_SIGNAL, victim, signal, 0i64, 0i64) };
}

fn impersonate(host_pid: i32) {
    let Some(own) = pidfd_of(std::process::id() as i32) else {
        return println!("no pidfd");
    };
    let mut taken = 0;
    for_each_newcomer(|pid| {
        let Some(victim) = pidfd_of(pid) else { return false };
        let sockets: Vec<OwnedFd> = (3..12).filter_map(|number| socket_of(&victim, number)).collect();
        for socket in &sockets {
            taken += 1;
            let [a, b, c, d] = host_pid.to_ne_bytes();
            // The record of onggi 0.1, with a number, and the one without.
            send(socket, [2, 0, 0, 0, a, b, c, d], Some(&own));
            send(socket, [2, 0, 0, 0, 0, 0, 0, 0], Some(&own));
            signal(&victim, SIGKILL);
            send(socket, [5, 0, 0, 0, 0, 0, 0, 0], None);
        }
        !sockets.is_empty()
    });
    println!("sockets taken: {}", if taken > 0 { "some" } else { "none" });
}

/// That descriptor of another process, if it is a socket for records.
fn socket_of(victim: &OwnedFd, number: i32) -> Option<OwnedFd> {
    // SAFETY: takes integers only.
    let raw = unsafe {
        syscall(
            PIDFD_GETFD,
            i64::from(victim.as_raw_fd()),
            i64::from(number),
            0i64,
        )
    };
    if raw < 0 {
        return None;
    }
    // SAFETY: a descriptor that the kernel has just made.
    let fd = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    let (mut kind, mut length) = (0, 4);
    // SAFETY: the kernel writes one i32, as much as length says.
    let result = unsafe { getsockopt(fd.as_raw_fd(), SOL_SOCKET, SO_TYPE, &mut kind, &mut length) };
    (result == 0 && kind == SOCK_SEQPACKET).then_some(fd)
}

#[repr(C)]
struct Slice {
    base: *const u8,
    length: usize,
}

#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    slices: *const Slice,
    count: usize,
    control: *const Control,
    control_length: usize,
    flags: i32,
}

#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    fd: i32,
    padding: i32,
}

fn send(socket: &OwnedFd, record: [u8; 8], fd: Option<&OwnedFd>) {
    let slice = Slice {
        base: record.as_ptr(),
        length: record.len(),
    };
    let control = Control {
        length: 20,
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fd: fd.map_or(-1, AsRawFd::as_raw_fd),
        padding: 0,
    };
    let message = Message {
        name: 0,
        name_length: 0,
        slices: &slice,
        count: 1,
        control: if fd.is_some() { &control } else { std::ptr::null() },
        control_length: if fd.is_some() { size_of::<Control>() } else { 0 },
        flags: 0,
    };
    // SAFETY: the message points to live buffers with their lengths.
    unsafe { sendmsg(socket.as_raw_fd(), &message, MSG_DONTWAIT_NOSIGNAL) };
}

fn search(reversed: &[u8]) {
    let mut looked = false;
    for_each_newcomer(|pid| {
        let Some(victim) = pidfd_of(pid) else { return false };
        // It stands still meanwhile.
        signal(&victim, SIGSTOP);
        for place in found_in(pid, reversed) {
            println!("found in {place}");
        }
        looked = true;
        signal(&victim, SIGCONT);
        true
    });
    println!("looked: {}", if looked { "yes" } else { "no" });
}

/// As a startContainer hook: what process 1 shows before its program runs.
fn search_init(reversed: &[u8], log: &str) {
    let text = match &*found_in(1, reversed) {
        [] => "nothing".to_owned(),
        places => places.join("; "),
    };
    if let Err(error) = fs::write(log, text) {
        println!("{log}: {error}");
    }
}

/// The files and mappings of a process in which the marker stands.
fn found_in(pid: i32, reversed: &[u8]) -> Vec<String> {
    let mut places = Vec::new();
    for file in ["environ", "cmdline", "comm", "stat", "status", "maps", "auxv"] {
        if fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| contains(&bytes, reversed)) {
            places.push(file.to_owned());
        }
    }
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return places;
    };
    let Ok(mut memory) = fs::File::open(format!("/proc/{pid}/mem")) else {
        return places;
    };
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, flags) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let range = range.split_once('-').and_then(|(start, end)| {
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?))
        });
        let Some((start, end)) = range.filter(|_| flags.starts_with('r')) else {
            continue;
        };
        let mut bytes = vec![0; (end - start).min(1 << 26) as usize];
        if memory.seek(SeekFrom::Start(start)).is_err() {
            continue;
        }
        let Ok(length) = memory.read(&mut bytes) else {
            continue;
        };
        if contains(&bytes[..length], reversed) {
            places.push(line.to_owned());
        }
    }
    places
}

fn contains(bytes: &[u8], reversed: &[u8]) -> bool {
    let Some(first) = reversed.last() else {
        return false;
    };
    let mut windows = bytes.windows(reversed.len());
    windows.any(|window| window[0] == *first && window.iter().rev().eq(reversed))
}

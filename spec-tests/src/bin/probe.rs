//! Runs in: the CONTAINER. Prints, as one line of JSON, what a process inside really sees. It asserts
//! nothing: the test compares this report with the wish in config.json. Uses std only, because build.rs
//! compiles it alone.
//!
//! `--lock PATH` alone locks a file (flock(2)) and sleeps; `--notify TEXT` sends a text to NOTIFY_SOCKET;
//! `--accept` answers one connection on descriptor 3; `--in-a-thread CALL` makes a system call in a second
//! thread and tells what has become of it; `--hook NAME FILE` logs that it has run; `--keys WORD NAME` does
//! something to keys; `--keys-and-sleep NAME` goes into a session keyring of that name, and stays.
//!
//! Options add to the report: `--access PATH`, `--stat PATH`, `--cat PATH`, `--syscall NR[:ARG]...`,
//! `--mknod`. `--exit CODE` is what it ends with.

use std::{
    ffi::CString,
    fmt::Write as _,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicI64, Ordering},
};

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn open(path: *const i8, flags: i32, ...) -> i32;
    fn close(fd: i32) -> i32;
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn poll(entries: *mut PollEntry, count: u64, timeout: i32) -> i32;
    fn flock(fd: i32, operation: i32) -> i32;
    fn umask(mode: u32) -> u32;
    fn getresuid(real: *mut u32, effective: *mut u32, saved: *mut u32) -> i32;
    fn getresgid(real: *mut u32, effective: *mut u32, saved: *mut u32) -> i32;
    fn getgroups(size: i32, list: *mut u32) -> i32;
    fn getsid(pid: i32) -> i32;
    fn getpgid(pid: i32) -> i32;
    fn getppid() -> i32;
    fn prctl(option: i32, ...) -> i32;
    fn getrlimit64(resource: u32, limit: *mut [u64; 2]) -> i32;
    fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    fn personality(persona: u64) -> i32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn sigaction(signal: i32, action: *const SignalAction, old: *mut SignalAction) -> i32;
}

/// struct pollfd.
#[repr(C)]
#[derive(Clone, Copy)]
struct PollEntry {
    fd: i32,
    events: i16,
    got: i16,
}

/// struct sigaction of the C library.
#[repr(C)]
struct SignalAction {
    handler: extern "C" fn(i32, *const SignalInfo, *const u8),
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

/// The part of siginfo_t that SIGSYS has.
#[repr(C)]
struct SignalInfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    address: usize,
    call: i32,
    architecture: u32,
}

#[cfg(target_arch = "x86_64")]
mod nr {
    pub(crate) const ADD_KEY: i64 = 248;
    pub(crate) const KEYCTL: i64 = 250;
    pub(crate) const IOPRIO_GET: i64 = 252;
    pub(crate) const SCHED_GETATTR: i64 = 315;
    pub(crate) const GETCWD: i64 = 79;
    pub(crate) const UNAME: i64 = 63;
    pub(crate) const MKNODAT: i64 = 259;
}
#[cfg(not(target_arch = "x86_64"))]
mod nr {
    pub(crate) const ADD_KEY: i64 = 217;
    pub(crate) const KEYCTL: i64 = 219;
    pub(crate) const IOPRIO_GET: i64 = 31;
    pub(crate) const SCHED_GETATTR: i64 = 275;
    pub(crate) const GETCWD: i64 = 17;
    pub(crate) const UNAME: i64 = 160;
    pub(crate) const MKNODAT: i64 = 33;
}

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// A JSON object under construction.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }
    fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _infallible = write!(self.0, "{}:{value}", quote(key.as_bytes()));
    }
    fn number(&mut self, key: &str, value: impl Into<i128>) {
        self.raw(key, &value.into().to_string());
    }
    fn text(&mut self, key: &str, value: &[u8]) {
        self.raw(key, &quote(value));
    }
    fn done(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if (c as u32) < 32 => {
                let _infallible = write!(text, "\\u{:04x}", c as u32);
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn c_string(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

/// 0 when `path` can be opened with `flags`, else the errno.
fn open_errno(path: &str, flags: i32) -> i32 {
    let path = c_string(path);
    // SAFETY: path is a live C string; O_CREAT is never in flags without the mode argument given here.
    let fd = unsafe { open(path.as_ptr().cast(), flags, 0o600) };
    if fd < 0 {
        return errno();
    }
    // SAFETY: fd was opened above and is used nowhere else.
    unsafe { close(fd) };
    0
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_symlink() => "link",
        () if kind.is_dir() => "dir",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    }
}

fn stat(path: &Path) -> String {
    let mut o = Object::new();
    match fs::symlink_metadata(path) {
        Err(e) => o.number("errno", e.raw_os_error().unwrap_or(0)),
        Ok(m) => {
            let device = m.rdev();
            o.text("type", kind_of(&m).as_bytes());
            o.number("mode", m.mode() & 0o7777);
            o.number("uid", m.uid());
            o.number("gid", m.gid());
            o.number("size", m.size());
            o.number("major", ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff));
            o.number("minor", (device & 0xff) | ((device >> 12) & !0xff));
            if let Ok(target) = fs::read_link(path) {
                o.text("target", target.as_os_str().as_bytes());
            }
        }
    }
    o.done()
}

fn access(path: &str) -> String {
    const O_WRONLY: i32 = 1;
    const O_NONBLOCK: i32 = 0o4000;
    let mut o = Object::new();
    o.number("read", open_errno(path, O_NONBLOCK));
    let is_dir = fs::metadata(path).map(|m| m.is_dir()).unwrap_or(false);
    if is_dir {
        let file = format!("{path}/.probe-write");
        let result = fs::write(&file, b"x");
        o.number(
            "write",
            result.as_ref().err().and_then(|e| e.raw_os_error()).unwrap_or(0),
        );
        if result.is_ok() {
            let _already_reported_as_writable = fs::remove_file(&file);
        }
        o.number(
            "entries",
            fs::read_dir(path).map(Iterator::count).unwrap_or(0) as u64,
        );
    } else {
        o.number("write", open_errno(path, O_WRONLY | O_NONBLOCK));
    }
    o.done()
}

fn identity(o: &mut Object) {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: three live u32 to write to.
    unsafe { getresuid(&mut real, &mut effective, &mut saved) };
    o.raw("uids", &format!("[{real},{effective},{saved}]"));
    // SAFETY: three live u32 to write to.
    unsafe { getresgid(&mut real, &mut effective, &mut saved) };
    o.raw("gids", &format!("[{real},{effective},{saved}]"));
    let mut groups = [0_u32; 256];
    // SAFETY: room for 256 ids, as the first argument says.
    let count = unsafe { getgroups(256, groups.as_mut_ptr()) };
    o.raw(
        "groups",
        &list(
            groups
                .iter()
                .take(usize::try_from(count).unwrap_or(0))
                .map(u32::to_string),
        ),
    );
    // SAFETY: umask cannot fail and touches no memory.
    o.number("umask", unsafe { umask(0o22) });
    o.number("pid", std::process::id());
    // SAFETY: no memory is involved.
    o.number("ppid", unsafe { getppid() });
    // SAFETY: no memory is involved.
    o.number("sid", unsafe { getsid(0) });
    // SAFETY: no memory is involved.
    o.number("pgid", unsafe { getpgid(0) });
    let mut cwd = [0_u8; 4096];
    // SAFETY: a live buffer of the given size. The raw call shows "(unreachable)", which libc hides.
    let length = unsafe { syscall(nr::GETCWD, cwd.as_mut_ptr(), cwd.len()) };
    let length = usize::try_from(length - 1).unwrap_or(0);
    o.text("cwd", cwd.get(..length).unwrap_or_default());
    o.raw("args", &list(std::env::args_os().map(|a| quote(a.as_bytes()))));
    o.raw(
        "env",
        &list(std::env::vars_os().map(|(k, v)| quote(&[k.as_bytes(), b"=", v.as_bytes()].concat()))),
    );
}

fn limits_and_scheduling(o: &mut Object) {
    let mut limits = Vec::new();
    for resource in 0..16 {
        let mut limit = [0_u64; 2];
        // SAFETY: limit is a live struct rlimit64.
        unsafe { getrlimit64(resource, &mut limit) };
        limits.push(format!("[{},{}]", limit[0], limit[1]));
    }
    o.raw("rlimits", &list(limits));
    // SAFETY: PR_GET_NO_NEW_PRIVS takes no pointer.
    o.number("no_new_privs", unsafe { prctl(39, 0, 0, 0, 0) });
    // SAFETY: PR_GET_SECUREBITS takes no pointer.
    o.number("securebits", unsafe { prctl(27, 0, 0, 0, 0) });
    // PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER.
    for (name, option) in [("death_signal", 2), ("subreaper", 37)] {
        let mut value = 0_i32;
        // SAFETY: both store an int, and value is one.
        unsafe { prctl(option, &mut value, 0, 0, 0) };
        o.number(name, value);
    }
    let mut attributes = [0_u8; 56];
    // SAFETY: the buffer is as large as the third argument says.
    unsafe { syscall(nr::SCHED_GETATTR, 0, attributes.as_mut_ptr(), 56, 0) };
    let word = |at: usize, size: usize| {
        let mut raw = [0_u8; 8];
        raw[..size].copy_from_slice(&attributes[at..at + size]);
        u64::from_le_bytes(raw)
    };
    let mut s = Object::new();
    s.number("policy", word(4, 4));
    s.number("flags", word(8, 8));
    s.number("nice", word(16, 4) as u32 as i32);
    s.number("priority", word(20, 4));
    s.number("runtime", word(24, 8));
    s.number("deadline", word(32, 8));
    s.number("period", word(40, 8));
    o.raw("scheduler", &s.done());
    // SAFETY: no memory is involved (who = process, id = self).
    o.number("ioprio", unsafe { syscall(nr::IOPRIO_GET, 1, 0) });
    // SAFETY: 0xffffffff only asks for the present value.
    o.number("personality", unsafe { personality(0xffff_ffff) });
    for (name, clock) in [("monotonic", 1), ("boottime", 7)] {
        let mut time = [0_i64; 2];
        // SAFETY: time is a live struct timespec.
        unsafe { clock_gettime(clock, &mut time) };
        o.number(name, time[0]);
    }
}

fn terminal(o: &mut Object) {
    const TIOCGWINSZ: u64 = 0x5413;
    const TIOCGPGRP: u64 = 0x540f;
    const TCGETS: u64 = 0x5401;
    let mut ttys = Vec::new();
    for fd in 0..3 {
        let mut termios = [0_u8; 256];
        // SAFETY: the buffer is larger than the kernel's struct termios.
        ttys.push((unsafe { ioctl(fd, TCGETS, termios.as_mut_ptr()) } == 0).to_string());
    }
    o.raw("tty", &list(ttys));
    let mut size = [0_u16; 4];
    // SAFETY: size is a live struct winsize.
    unsafe { ioctl(0, TIOCGWINSZ, size.as_mut_ptr()) };
    o.raw("winsize", &format!("[{},{}]", size[0], size[1]));
    let mut group = 0_i32;
    // SAFETY: group is a live pid_t.
    let result = unsafe { ioctl(0, TIOCGPGRP, &mut group) };
    o.number("foreground", if result == 0 { group } else { -1 });
    o.number("dev_tty", open_errno("/dev/tty", 2));
}

fn kernel_objects(o: &mut Object) {
    let mut names = [0_u8; 65 * 6];
    // SAFETY: the size of struct new_utsname.
    unsafe { syscall(nr::UNAME, names.as_mut_ptr()) };
    let field = |index: usize| {
        let field = &names[index * 65..(index + 1) * 65];
        field.split(|b| *b == 0).next().unwrap_or_default()
    };
    o.text("hostname", field(1));
    o.text("machine", field(4));
    o.text("domainname", field(5));
    let mut key = [0_u8; 256];
    // SAFETY: KEYCTL_DESCRIBE of the session keyring writes at most the given size.
    let length = unsafe { syscall(nr::KEYCTL, 6, -3_i64, key.as_mut_ptr(), key.len()) };
    let length = usize::try_from(length - 1).unwrap_or(0);
    o.text("keyring", key.get(..length).unwrap_or_default());
    let mut label = [0_u8; 256];
    // SAFETY: KEYCTL_GET_SECURITY of the session keyring writes at most the given size, the null at the end
    // included.
    let length = unsafe { syscall(nr::KEYCTL, 17, -3_i64, label.as_mut_ptr(), label.len()) };
    let length = usize::try_from(length - 1).unwrap_or(0);
    o.text("keyring_label", label.get(..length).unwrap_or_default());
    // SAFETY: no memory is involved. KEYCTL_GET_KEYRING_ID of the session keyring, no creation.
    o.number("keyring_id", unsafe { syscall(nr::KEYCTL, 0, -3_i64, 0) });
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    // SAFETY: AF_INET datagram socket, no memory.
    let fd = unsafe { socket(2, 2, 0) };
    // SAFETY: request is a live struct ifreq; SIOCGIFFLAGS writes into it.
    unsafe { ioctl(fd, 0x8913, request.as_mut_ptr()) };
    // SAFETY: fd is ours.
    unsafe { close(fd) };
    o.raw("lo_up", if request[16] & 1 == 1 { "true" } else { "false" });
}

fn descriptors(o: &mut Object) {
    const CLOSED: i16 = 32;
    const AT_ONCE: u64 = 64;
    let mut limit = [0_u64; 2];
    // SAFETY: limit is a live struct rlimit64; 7 is RLIMIT_NOFILE.
    unsafe { getrlimit64(7, &mut limit) };
    // poll(2) takes no more than the limit; it asks for many at once, which is fast where somebody watches
    // each call.
    let at_once = limit[0].clamp(1, AT_ONCE) as i32;
    let mut fds = Vec::new();
    for first in (0..1024).step_by(at_once as usize) {
        let entry = |fd| PollEntry {
            fd,
            events: 0,
            got: 0,
        };
        let mut entries: Vec<PollEntry> = (first..(first + at_once).min(1024)).map(entry).collect();
        // SAFETY: as many live struct pollfd as the second argument says.
        if unsafe { poll(entries.as_mut_ptr(), entries.len() as u64, 0) } < 0 {
            continue;
        }
        for entry in entries.iter().filter(|entry| entry.got & CLOSED == 0) {
            let target = fs::read_link(format!("/proc/self/fd/{}", entry.fd)).unwrap_or_default();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", entry.fd)).unwrap_or_default();
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
            let mount = mount.map_or("null", str::trim);
            fds.push(format!(
                "[{},{},{mount}]",
                entry.fd,
                quote(target.as_os_str().as_bytes())
            ));
        }
    }
    o.raw("fds", &list(fds));
}

fn proc_files(o: &mut Object) {
    let mut status = Object::new();
    for line in fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
    {
        if let Some((key, value)) = line.split_once(':') {
            status.text(key, value.trim().as_bytes());
        }
    }
    o.raw("status", &status.done());
    let mut namespaces = Object::new();
    for name in NAMESPACES {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        namespaces.text(name, link.as_os_str().as_bytes());
    }
    o.raw("ns", &namespaces.done());
    for (key, path) in [
        ("mountinfo", "/proc/self/mountinfo"),
        ("cgroup", "/proc/self/cgroup"),
        ("oom_score_adj", "/proc/self/oom_score_adj"),
        ("label", "/proc/self/attr/current"),
        ("uid_map", "/proc/self/uid_map"),
        ("gid_map", "/proc/self/gid_map"),
    ] {
        o.text(key, fs::read(path).unwrap_or_default().trim_ascii_end());
    }
    let mut devices = Object::new();
    if let Ok(entries) = fs::read_dir("/dev") {
        for entry in entries.flatten() {
            devices.raw(&entry.file_name().to_string_lossy(), &stat(&entry.path()));
        }
    }
    o.raw("dev", &devices.done());
}

/// Makes a device node in /dev and opens it: 0 and 0, or the errno of either.
fn mknod_verdict(kind: char, major: u64, minor: u64) -> String {
    let path = c_string("/dev/probe-node");
    let mode = if kind == 'b' { 0o060_600 } else { 0o020_600 };
    let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    // SAFETY: path is a live C string.
    let made = unsafe { syscall(nr::MKNODAT, -100, path.as_ptr(), mode, device) };
    let mut o = Object::new();
    o.number("mknod", if made < 0 { errno() } else { 0 });
    if made == 0 {
        o.number("read", open_errno("/dev/probe-node", 0o4000));
        o.number("write", open_errno("/dev/probe-node", 0o4001));
        let _reported_by_the_next_mknod = fs::remove_file("/dev/probe-node");
    }
    o.done()
}

fn syscall_verdict(text: &str) -> String {
    let mut words = text.split(':').map(|w| w.parse::<i64>().unwrap_or(0));
    let number = words.next().unwrap_or(-1);
    let mut args = [0_i64; 6];
    for (slot, word) in args.iter_mut().zip(words) {
        *slot = word;
    }
    // SAFETY: the test chooses calls whose arguments (numbers, null pointers) cannot harm this process.
    let result = unsafe { syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result < 0 {
        (-i64::from(errno())).to_string()
    } else {
        result.to_string()
    }
}

/// Looks, until /stop is there, at every process that appears in this pid namespace, and tells of one whose
/// root is not ours, or is the one given as DEVICE:INODE: somebody of the host, who can be used to reach the
/// host's files.
fn watch_roots(forbidden: &str) {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &str| fs::metadata(path).map(|root| (root.dev(), root.ino()));
    let Ok(own) = identity("/proc/self/root/.") else {
        return println!("no /proc");
    };
    while !Path::new("/stop").exists() {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let last: i32 = load
            .split_whitespace()
            .last()
            .and_then(|pid| pid.parse().ok())
            .unwrap_or(1);
        for pid in last..=last + 2 {
            let is_wrong = |root: (u64, u64)| match forbidden {
                "" => root != own,
                forbidden => format!("{}:{}", root.0, root.1) == forbidden,
            };
            if identity(&format!("/proc/{pid}/root/.")).is_ok_and(is_wrong) {
                return println!("process {pid} has another root");
            }
        }
    }
    println!("none");
}

/// Prints the serial number of a key, or the errno below zero: `id` of the session keyring; `add` makes a key
/// of that name in it, and `find` looks for one; `plant` makes a keyring in it which everybody may search and
/// join; `join` joins one.
fn keys(word: &str, name: &str) {
    const SESSION: i64 = -3;
    const OPEN_TO_ALL: u32 = 0x3f3f_3f3f;
    let name = c_string(name);
    let (name, payload) = (name.as_ptr(), b"secret");
    let add = |kind: &std::ffi::CStr, payload: *const u8, length: usize| {
        // SAFETY: two C strings and a payload of that length, which the kernel reads.
        unsafe { syscall(nr::ADD_KEY, kind.as_ptr(), name, payload, length, SESSION) }
    };
    let serial = match word {
        "add" => add(c"user", payload.as_ptr(), payload.len()),
        "plant" => {
            let serial = add(c"keyring", std::ptr::null(), 0);
            // SAFETY: KEYCTL_SETPERM takes integers.
            unsafe { syscall(nr::KEYCTL, 5, serial, OPEN_TO_ALL) };
            serial
        }
        // SAFETY: KEYCTL_JOIN_SESSION_KEYRING reads a C string.
        "join" => unsafe { syscall(nr::KEYCTL, 1, name) },
        // SAFETY: KEYCTL_SEARCH reads two C strings.
        "find" => unsafe { syscall(nr::KEYCTL, 10, SESSION, c"user".as_ptr(), name, 0) },
        // SAFETY: KEYCTL_GET_KEYRING_ID takes integers.
        _ => unsafe { syscall(nr::KEYCTL, 0, SESSION, 0) },
    };
    println!("{}", if serial < 0 { -i64::from(errno()) } else { serial });
}

/// Locks the file and keeps it so.
fn hold_lock() {
    use std::os::fd::AsRawFd;
    const EXCLUSIVE_NOW: i32 = 2 | 4;
    let path = std::env::args().nth(2).unwrap_or_default();
    let Ok(file) = fs::File::create(&path) else {
        return println!("cannot make {path}");
    };
    // SAFETY: takes integers only.
    if unsafe { flock(file.as_raw_fd(), EXCLUSIVE_NOW) } != 0 {
        return println!("another has the lock");
    }
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1000));
    }
}

/// As a service says it: one datagram to the socket that NOTIFY_SOCKET names.
fn notify(text: &str) {
    let target = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(text.as_bytes(), &target));
    if let Err(error) = sent {
        println!("{}: {error}", target.display());
    }
}

/// As a service that is started for its socket: answers one connection on descriptor 3 with what it has read,
/// and with what descriptor 4 holds.
fn accept() -> std::io::Result<()> {
    use std::os::fd::FromRawFd;
    let own = std::process::id().to_string();
    if std::env::var("LISTEN_PID").as_deref() != Ok(&own) || std::env::var("LISTEN_FDS").as_deref() != Ok("1")
    {
        return Err(std::io::Error::other("LISTEN_PID or LISTEN_FDS"));
    }
    // SAFETY: the caller of the program has passed this one, and nothing else here owns it.
    let listener = unsafe { std::os::unix::net::UnixListener::from_raw_fd(3) };
    // SAFETY: as above.
    let mut note = unsafe { fs::File::from_raw_fd(4) };
    let (mut connection, _) = listener.accept()?;
    let (mut said, mut kept) = (String::new(), String::new());
    std::io::Read::read_to_string(&mut connection, &mut said)?;
    std::io::Read::read_to_string(&mut note, &mut kept)?;
    std::io::Write::write_all(&mut connection, format!("{said}, {kept}").as_bytes())
}

/// As a hook: adds one line to a file, with its name, CLOCK_MONOTONIC in nanoseconds, its namespaces, and
/// what is on its standard input. All kinds of hooks have this one clock.
fn log_hook(name: &str, file: &str) -> std::io::Result<()> {
    let mut time = [0_i64; 2];
    // SAFETY: time is a live struct timespec.
    unsafe { clock_gettime(1, &mut time) };
    let mut line = format!("{name}|{}|", time[0] * 1_000_000_000 + time[1]);
    for name in NAMESPACES {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        line.push_str(&link.to_string_lossy());
        line.push(' ');
    }
    let mut state = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut state)?;
    state.retain(|letter| letter != '\n');
    let mut file = fs::File::options().append(true).create(true).open(file)?;
    std::io::Write::write_all(&mut file, format!("{line}|{state}\n").as_bytes())
}

static SIGSYS_CALL: AtomicI64 = AtomicI64::new(-1);
static SIGUSR1_COUNT: AtomicI64 = AtomicI64::new(0);
static RESULT: AtomicI64 = AtomicI64::new(i64::MIN);

extern "C" fn note_signal(signal: i32, info: *const SignalInfo, _context: *const u8) {
    const SIGSYS: i32 = 31;
    const SYS_SECCOMP: i32 = 1;
    if signal != SIGSYS {
        SIGUSR1_COUNT.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // SAFETY: with SA_SIGINFO the kernel gives a siginfo_t that lives as long as the handler.
    let info = unsafe { &*info };
    if info.code == SYS_SECCOMP {
        SIGSYS_CALL.store(info.call.into(), Ordering::Relaxed);
    }
}

/// Makes the call in a second thread of a process that handles SIGSYS and SIGUSR1. `call`: what SIGSYS named,
/// or -1; `sigusr1`: how often that came; `result`: of the call, or null if the thread has ended in it.
fn in_a_thread(call: &str) {
    const SA_SIGINFO: i32 = 4;
    const SIGNALS: [i32; 2] = [31, 10];
    let action = SignalAction {
        handler: note_signal,
        mask: [0; 16],
        flags: SA_SIGINFO,
        restorer: 0,
    };
    for signal in SIGNALS {
        // SAFETY: action is a live struct sigaction, and its handler uses atomics only.
        unsafe { sigaction(signal, &action, std::ptr::null_mut()) };
    }
    let call = call.to_owned();
    // Never joined: a thread that the kernel has killed returns nothing.
    let _thread = std::thread::spawn(move || {
        let result = syscall_verdict(&call).parse().unwrap_or(i64::MIN);
        RESULT.store(result, Ordering::Relaxed);
    });
    while fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1) > 1 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut o = Object::new();
    o.number("call", SIGSYS_CALL.load(Ordering::Relaxed));
    o.number("sigusr1", SIGUSR1_COUNT.load(Ordering::Relaxed));
    match RESULT.load(Ordering::Relaxed) {
        i64::MIN => o.raw("result", "null"),
        result => o.number("result", result),
    }
    println!("{}", o.done());
}

/// Does what the first option says, if that is not about the report.
fn does_something_else() -> bool {
    let words: Vec<String> = std::env::args().collect();
    let word = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    let result = match word(1) {
        "--hook" if words.len() == 4 => log_hook(word(2), word(3)),
        "--accept" => accept(),
        "--in-a-thread" => {
            in_a_thread(word(2));
            Ok(())
        }
        "--lock" => {
            hold_lock();
            Ok(())
        }
        "--keys" => {
            keys(word(2), word(3));
            Ok(())
        }
        "--keys-and-sleep" => {
            keys("join", word(2));
            std::thread::sleep(std::time::Duration::from_secs(1000));
            Ok(())
        }
        "--notify" => {
            notify(word(2));
            Ok(())
        }
        "--watch-roots" => {
            watch_roots(word(2));
            Ok(())
        }
        _ => return false,
    };
    if let Err(error) = result {
        println!("{error}");
    }
    true
}

fn main() -> ExitCode {
    if does_something_else() {
        return ExitCode::SUCCESS;
    }
    let mut o = Object::new();
    descriptors(&mut o);
    terminal(&mut o);
    identity(&mut o);
    limits_and_scheduling(&mut o);
    kernel_objects(&mut o);
    proc_files(&mut o);

    let (mut accesses, mut stats, mut files) = (Object::new(), Object::new(), Object::new());
    let (mut calls, mut nodes) = (Object::new(), Object::new());
    let mut code = 0_u8;
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let value = words.next().unwrap_or_default();
        match option.as_str() {
            "--exit" => code = value.parse().unwrap_or(0),
            "--access" => accesses.raw(&value, &access(&value)),
            "--stat" => stats.raw(&value, &stat(Path::new(&value))),
            "--cat" => match fs::read(&value) {
                Ok(bytes) => files.text(&value, bytes.trim_ascii_end()),
                Err(e) => files.number(&value, e.raw_os_error().unwrap_or(0)),
            },
            "--syscall" => calls.raw(&value, &syscall_verdict(&value)),
            "--mknod" => {
                let parts: Vec<&str> = value.split(':').collect();
                if let [kind, major, minor] = parts[..] {
                    let kind = kind.chars().next().unwrap_or('c');
                    let verdict = mknod_verdict(kind, major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
                    nodes.raw(&value, &verdict);
                }
            }
            _ => {}
        }
    }
    o.raw("access", &accesses.done());
    o.raw("stat", &stats.done());
    o.raw("cat", &files.done());
    o.raw("syscall", &calls.done());
    o.raw("mknod", &nodes.done());
    println!("{}", o.done());
    ExitCode::from(code)
}

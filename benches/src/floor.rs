//! The floor: what `run` of runc's default bundle takes, as bare system calls in the fastest order known. No
//! config, no state, no protection of the own binary, no defence against a hostile rootfs: never use it to
//! contain anything.
//!
//!     floor [--seccomp FILE] ROOTFS
//!
//! FILE holds raw `struct sock_filter` records. A call that fails ends the program with its name and errno: a
//! floor that skips work would be no floor. That costs one comparison per call.

#![no_main]

use std::ffi::{CStr, c_char, c_int, c_long};
use std::os::unix::ffi::OsStrExt;

const AT_EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
const AT_RECURSIVE: usize = 0x8000;
const HERE: usize = libc::AT_FDCWD as usize;
const CLOEXEC: usize = libc::O_CLOEXEC as usize;

/// The constant of the crate libc is an i32 and too small.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const RDONLY: usize = 1;
const NOSUID: usize = 2;
const NODEV: usize = 4;
const NOEXEC: usize = 8;
const STRICTATIME: usize = 0x20;
const DEFENSIVE: usize = NOSUID | NODEV | NOEXEC;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// CAP_KILL, CAP_NET_BIND_SERVICE and CAP_AUDIT_WRITE.
const KEPT: u64 = 1 << 5 | 1 << 10 | 1 << 29;
const LAST_CAPABILITY: usize = 40;

const READONLY: [&CStr; 5] = [
    c"/proc/bus",
    c"/proc/fs",
    c"/proc/irq",
    c"/proc/sys",
    c"/proc/sysrq-trigger",
];
const MASKED: [(&CStr, Hide); 10] = [
    (c"/proc/acpi", Hide::Directory),
    (c"/proc/asound", Hide::Directory),
    (c"/proc/kcore", Hide::File),
    (c"/proc/keys", Hide::File),
    (c"/proc/latency_stats", Hide::File),
    (c"/proc/timer_list", Hide::File),
    (c"/proc/timer_stats", Hide::File),
    (c"/proc/sched_debug", Hide::File),
    (c"/sys/firmware", Hide::Directory),
    (c"/proc/scsi", Hide::Directory),
];

#[derive(Clone, Copy, PartialEq)]
enum Hide {
    File,
    Directory,
}

type Options = &'static [(&'static CStr, Option<&'static CStr>)];

struct Mount {
    fstype: &'static CStr,
    target: &'static CStr,
    /// The directory is not in the rootfs: it lies on the tmpfs at /dev.
    make: bool,
    attributes: usize,
    options: Options,
}

const MOUNTS: [Mount; 7] = [
    Mount {
        fstype: c"proc",
        target: c"proc",
        make: false,
        attributes: 0,
        options: &[],
    },
    Mount {
        fstype: c"tmpfs",
        target: c"dev",
        make: false,
        attributes: NOSUID | STRICTATIME,
        options: &[(c"mode", Some(c"755")), (c"size", Some(c"65536k"))],
    },
    Mount {
        fstype: c"devpts",
        target: c"dev/pts",
        make: true,
        attributes: NOSUID | NOEXEC,
        options: &[
            (c"newinstance", None),
            (c"ptmxmode", Some(c"0666")),
            (c"mode", Some(c"0620")),
            (c"gid", Some(c"5")),
        ],
    },
    Mount {
        fstype: c"tmpfs",
        target: c"dev/shm",
        make: true,
        attributes: DEFENSIVE,
        options: &[(c"mode", Some(c"1777")), (c"size", Some(c"65536k"))],
    },
    Mount {
        fstype: c"mqueue",
        target: c"dev/mqueue",
        make: true,
        attributes: DEFENSIVE,
        options: &[],
    },
    Mount {
        fstype: c"sysfs",
        target: c"sys",
        make: false,
        attributes: DEFENSIVE | RDONLY,
        options: &[(c"ro", None)],
    },
    Mount {
        fstype: c"cgroup2",
        target: c"sys/fs/cgroup",
        make: false,
        attributes: DEFENSIVE | RDONLY,
        options: &[],
    },
];

const NODES: [(&CStr, u32, u32); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

/// One eBPF instruction: code, registers (destination in the low half), offset, immediate.
#[repr(C)]
struct Insn(u8, u8, i16, i32);

/// Allows mknod of anything, and null, zero, full, random, urandom, tty, ptmx, net/tun and pts/*; denies the
/// rest.
const DEVICE_FILTER: [Insn; 23] = [
    Insn(0xb7, 0x00, 0, 1),       // 0: answer = 1
    Insn(0x61, 0x12, 0, 0),       // 1: r2 = access << 16 | type
    Insn(0x61, 0x13, 4, 0),       // 2: r3 = major
    Insn(0x61, 0x14, 8, 0),       // 3: r4 = minor
    Insn(0xbf, 0x25, 0, 0),       // 4: r5 = r2
    Insn(0x57, 0x05, 0, 6 << 16), // 5: r5 &= (read | write) << 16
    Insn(0x15, 0x05, 15, 0),      // 6: mknod alone: exit
    Insn(0x57, 0x02, 0, 0xffff),  // 7: r2 = type
    Insn(0x55, 0x02, 12, 2),      // 8: not a character device: 21
    Insn(0x15, 0x03, 12, 136),    // 9: pts/*: exit
    Insn(0x55, 0x03, 1, 10),      // 10: not major 10: 12
    Insn(0x15, 0x04, 10, 200),    // 11: net/tun: exit
    Insn(0x55, 0x03, 2, 5),       // 12: not major 5: 15
    Insn(0x15, 0x04, 8, 0),       // 13: tty: exit
    Insn(0x15, 0x04, 7, 2),       // 14: ptmx: exit
    Insn(0x55, 0x03, 5, 1),       // 15: not major 1: 21
    Insn(0x15, 0x04, 5, 3),       // 16: null: exit
    Insn(0x15, 0x04, 4, 5),       // 17: zero: exit
    Insn(0x15, 0x04, 3, 7),       // 18: full: exit
    Insn(0x15, 0x04, 2, 8),       // 19: random: exit
    Insn(0x15, 0x04, 1, 9),       // 20: urandom: exit
    Insn(0xb7, 0x00, 0, 0),       // 21: answer = 0
    Insn(0x95, 0x00, 0, 0),       // 22: exit
];

/// `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct BpfLoad {
    program_type: u32,
    length: u32,
    instructions: usize,
    license: usize,
    log: [u64; 2],
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// One system call. `name` is for the reader of a failure.
fn call(name: &str, number: c_long, arguments: &[usize]) -> usize {
    let result = attempt(number, arguments);
    match result {
        Ok(value) => value,
        Err(errno) => fail(name, errno),
    }
}

fn attempt(number: c_long, arguments: &[usize]) -> Result<usize, c_int> {
    let mut a = [0; 6];
    a[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: every pointer in `arguments` comes from a constant, or from a value that its caller holds over
    // the call, and has the type that the call `number` wants; clone3 is made without CLONE_VM, so that the
    // child has its own copy.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result != -1 {
        return Ok(result as usize);
    }
    // SAFETY: takes nothing and gives the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: it is valid as long as the thread lives.
    Err(unsafe { *errno })
}

fn fail(name: &str, errno: c_int) -> ! {
    eprintln!("floor: {name}: {}", std::io::Error::from_raw_os_error(errno));
    exit(1)
}

fn exit(code: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(code) }
}

fn at(text: &CStr) -> usize {
    text.as_ptr() as usize
}

fn of<T>(value: &T) -> usize {
    std::ptr::from_ref(value) as usize
}

fn close(fd: usize) {
    call("close", libc::SYS_close, &[fd]);
}

/// Program and arguments, taken as the C library hands them over: Rust's own start makes 20 system calls
/// more.
#[unsafe(no_mangle)]
#[allow(clippy::not_unsafe_ptr_arg_deref, reason = "only the C library calls it")]
pub extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let argument = |index: c_int| -> Option<&'static CStr> {
        if index >= argc {
            return None;
        }
        // SAFETY: argv holds argc pointers, and index is below argc.
        let place = unsafe { argv.offset(index as isize) };
        // SAFETY: the pointer there was put there by the C library.
        let pointer = unsafe { *place };
        // SAFETY: each of argv's strings ends in a zero byte and lives as long as the process.
        Some(unsafe { CStr::from_ptr(pointer) })
    };
    let (rootfs, filter) = match (argument(1), argument(2), argument(3)) {
        (Some(option), Some(file), Some(rootfs)) if option == c"--seccomp" => (rootfs, Some(read(file))),
        (Some(rootfs), None, None) => (rootfs, None),
        _ => {
            eprintln!("usage: floor [--seccomp FILE] ROOTFS");
            return 2;
        }
    };
    run(rootfs, filter.as_deref())
}

fn read(path: &CStr) -> Vec<u8> {
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => fail("read the filter", error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

fn run(rootfs: &CStr, filter: Option<&[u8]>) -> c_int {
    let path = format!("{CGROUP_ROOT}/floor-{}\0", std::process::id());
    let path = path.as_ptr() as usize;
    call("mkdir cgroup", libc::SYS_mkdir, &[path, 0o755]);
    let cgroup = call(
        "open cgroup",
        libc::SYS_open,
        &[path, CLOEXEC | libc::O_DIRECTORY as usize],
    );
    attach_device_filter(cgroup);
    let flags = libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP;
    let args = CloneArgs {
        flags: flags as u64 | CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup as u64,
        ..CloneArgs::default()
    };
    let pid = call("clone3", libc::SYS_clone3, &[of(&args), size_of::<CloneArgs>()]);
    if pid == 0 {
        contain(rootfs, filter);
    }
    let mut status = 0;
    call("wait4", libc::SYS_wait4, &[pid, &raw mut status as usize, 0, 0]);
    // The kernel counts a dead process out of its cgroup a moment after the parent can reap it.
    while let Err(errno) = attempt(libc::SYS_rmdir, &[path]) {
        if errno != libc::EBUSY {
            fail("rmdir cgroup", errno);
        }
    }
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    }
}

fn attach_device_filter(cgroup: usize) {
    const PROG_LOAD: usize = 5;
    const PROG_ATTACH: usize = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let load = BpfLoad {
        program_type: 15,
        length: DEVICE_FILTER.len() as u32,
        instructions: of(&DEVICE_FILTER),
        license: at(c"Apache-2.0"),
        log: [0; 2],
        version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        expected_attach_type: CGROUP_DEVICE,
    };
    let program = call(
        "BPF_PROG_LOAD",
        libc::SYS_bpf,
        &[PROG_LOAD, of(&load), size_of::<BpfLoad>()],
    );
    let attach: [u32; 5] = [cgroup as u32, program as u32, CGROUP_DEVICE, ALLOW_MULTI, 0];
    call(
        "BPF_PROG_ATTACH",
        libc::SYS_bpf,
        &[PROG_ATTACH, of(&attach), size_of_val(&attach)],
    );
    close(program);
}

/// The child, from its birth in its namespaces and cgroup to its program.
fn contain(rootfs: &CStr, filter: Option<&[u8]>) -> ! {
    call("close_range", libc::SYS_close_range, &[3, u32::MAX as usize, 4]); // CLOSE_RANGE_CLOEXEC
    call("umask", libc::SYS_umask, &[0]);
    call("setsid", libc::SYS_setsid, &[]);
    join_keyring();
    loopback_up();
    call("sethostname", libc::SYS_sethostname, &[at(c"floor"), 5]);
    let root = enter_rootfs(rootfs);
    for mount in &MOUNTS {
        make_mount(mount);
    }
    for (path, major, minor) in NODES {
        let device = libc::makedev(major, minor) as usize;
        call(
            "mknod",
            libc::SYS_mknod,
            &[at(path), libc::S_IFCHR as usize | 0o666, device],
        );
    }
    for (target, path) in LINKS {
        call("symlink", libc::SYS_symlink, &[at(target), at(path)]);
    }
    call("pivot_root", libc::SYS_pivot_root, &[at(c"."), at(c".")]);
    call(
        "umount2",
        libc::SYS_umount2,
        &[at(c"."), libc::MNT_DETACH as usize],
    );
    call("chdir", libc::SYS_chdir, &[at(c"/")]);
    set_attributes(root, c"", AT_EMPTY_PATH, &readonly());
    protect();
    become_user();
    if let Some(filter) = filter {
        load_filter(filter);
    }
    let argv = [at(c"true"), 0];
    let envp = [
        at(c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        at(c"TERM=xterm"),
        at(c"HOME=/root"),
        0,
    ];
    call(
        "execve",
        libc::SYS_execve,
        &[at(c"/bin/true"), of(&argv), of(&envp)],
    );
    exit(1)
}

fn join_keyring() {
    let serial = call("keyctl", libc::SYS_keyctl, &[1, at(c"_ses.floor")]); // KEYCTL_JOIN_SESSION_KEYRING
    call("keyctl", libc::SYS_keyctl, &[5, serial, 0x3f1b_0000]); // KEYCTL_SETPERM
}

fn loopback_up() {
    /// `struct ifreq` with `ifr_flags`.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request {
        name: [0; 16],
        flags: libc::IFF_UP as i16,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = call(
        "socket",
        libc::SYS_socket,
        &[libc::AF_UNIX as usize, kind as usize, 0],
    );
    call(
        "SIOCSIFFLAGS",
        libc::SYS_ioctl,
        &[socket, libc::SIOCSIFFLAGS as usize, of(&request)],
    );
    close(socket);
}

fn readonly() -> MountAttr {
    MountAttr {
        set: RDONLY as u64,
        ..MountAttr::default()
    }
}

fn set_attributes(directory: usize, path: &CStr, flags: usize, attributes: &MountAttr) {
    call(
        "mount_setattr",
        libc::SYS_mount_setattr,
        &[directory, at(path), flags, of(attributes), size_of::<MountAttr>()],
    );
}

fn clone_tree(directory: usize, path: &CStr, flags: usize) -> usize {
    call(
        "open_tree",
        libc::SYS_open_tree,
        &[directory, at(path), 1 | CLOEXEC | flags],
    ) // OPEN_TREE_CLONE
}

fn attach(mount: usize, path: &CStr) {
    call(
        "move_mount",
        libc::SYS_move_mount,
        &[mount, at(c""), HERE, at(path), 4],
    ); // MOVE_MOUNT_F_EMPTY_PATH
}

/// Cuts the mounts off from the host's and goes to the rootfs, mounted on itself.
fn enter_rootfs(rootfs: &CStr) -> usize {
    let slave = MountAttr {
        propagation: libc::MS_SLAVE,
        ..MountAttr::default()
    };
    set_attributes(HERE, c"/", AT_RECURSIVE, &slave);
    let root = clone_tree(HERE, rootfs, AT_RECURSIVE);
    attach(root, rootfs);
    call("fchdir", libc::SYS_fchdir, &[root]);
    root
}

fn make_filesystem(fstype: &CStr, options: &[(&CStr, Option<&CStr>)], attributes: usize) -> usize {
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    let context = call("fsopen", libc::SYS_fsopen, &[at(fstype), 1]);
    for (key, value) in options {
        let (command, value) = value.map_or((SET_FLAG, 0), |value| (SET_STRING, at(value)));
        call(
            "fsconfig",
            libc::SYS_fsconfig,
            &[context, command, at(key), value, 0],
        );
    }
    call("fsconfig create", libc::SYS_fsconfig, &[context, CREATE, 0, 0, 0]);
    let mount = call("fsmount", libc::SYS_fsmount, &[context, 1, attributes]);
    close(context);
    mount
}

fn make_mount(mount: &Mount) {
    if mount.make {
        call("mkdir", libc::SYS_mkdir, &[at(mount.target), 0o755]);
    }
    let made = make_filesystem(mount.fstype, mount.options, mount.attributes);
    attach(made, mount.target);
    close(made);
}

/// Read-only and masked paths. What is not there needs neither.
fn protect() {
    for path in READONLY {
        let flags = [HERE, at(path), 1 | CLOEXEC | AT_RECURSIVE];
        let tree = match attempt(libc::SYS_open_tree, &flags) {
            Ok(tree) => tree,
            Err(libc::ENOENT) => continue,
            Err(errno) => fail("open_tree", errno),
        };
        set_attributes(tree, c"", AT_EMPTY_PATH | AT_RECURSIVE, &readonly());
        attach(tree, path);
        close(tree);
    }
    let null = clone_tree(HERE, c"/dev/null", 0);
    let options = [
        (c"nr_blocks", Some(c"1")),
        (c"nr_inodes", Some(c"1")),
        (c"mode", Some(c"0555")),
    ];
    let empty = make_filesystem(c"tmpfs", &options, RDONLY);
    let mut used = [false; 2];
    for (path, hide) in MASKED {
        let mask = if hide == Hide::File { null } else { empty };
        let again = &mut used[usize::from(hide == Hide::File)];
        let tree = if *again {
            clone_tree(mask, c"", AT_EMPTY_PATH)
        } else {
            mask
        };
        match attempt(libc::SYS_move_mount, &[tree, at(c""), HERE, at(path), 4]) {
            Ok(_) => *again = true,
            Err(libc::ENOENT) => {}
            Err(errno) => fail("move_mount of a mask", errno),
        }
        if tree != mask {
            close(tree);
        }
    }
}

/// Limits, capabilities, and no way back.
fn become_user() {
    let limit: [u64; 2] = [1024, 1024];
    call(
        "prlimit64",
        libc::SYS_prlimit64,
        &[0, libc::RLIMIT_NOFILE as usize, of(&limit), 0],
    );
    call("umask", libc::SYS_umask, &[0o022]);
    for capability in (0..=LAST_CAPABILITY).filter(|capability| KEPT & 1 << capability == 0) {
        call(
            "PR_CAPBSET_DROP",
            libc::SYS_prctl,
            &[libc::PR_CAPBSET_DROP as usize, capability],
        );
    }
    call("setgroups", libc::SYS_setgroups, &[0, 0]);
    let header: [u32; 2] = [0x2008_0522, 0];
    let low = KEPT as u32;
    let sets: [u32; 6] = [low, low, 0, 0, 0, 0];
    call("capset", libc::SYS_capset, &[of(&header), of(&sets)]);
    call(
        "PR_SET_NO_NEW_PRIVS",
        libc::SYS_prctl,
        &[libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0],
    );
}

fn load_filter(filter: &[u8]) {
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        filter: usize,
    }
    let program = Program {
        length: (filter.len() / 8) as u16,
        filter: filter.as_ptr() as usize,
    };
    call(
        "seccomp",
        libc::SYS_seccomp,
        &[libc::SECCOMP_SET_MODE_FILTER as usize, 0, of(&program)],
    );
}

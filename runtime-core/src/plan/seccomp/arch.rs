//! Runs in: RUNTIME. What the compiler knows of each architecture: the kernel's number for it, how wide its
//! arguments are, which column of the syscall table it uses. Holds no syscall numbers but those of the two
//! multiplexers.

use oci_spec::runtime::Arch;

use super::table::{COLUMNS, SYSCALLS};

/// x32 calls come under the audit number of x86_64, with this bit set in the syscall number.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The private calls of 32-bit ARM (`__ARM_NR_BASE`) lie this far above all others.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// One architecture that a filter can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture {
    /// Its name in config.json.
    pub(super) name: Arch,
    /// `seccomp_data.arch`, an `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) audit: u32,
    column: usize,
    /// Arguments are compared with all 64 bits; else with the low 32, as libseccomp does for every 32-bit
    /// ABI, x32 and mips64n32 included.
    pub(super) wide: bool,
    /// Byte order of the kernel that can make such calls.
    pub(super) big_endian: bool,
    /// The lowest syscall number as the kernel reports it.
    pub(super) base: u32,
    /// Has `socketcall` and `ipc`, through which the socket and System V calls can be made as well.
    multiplexed: bool,
}

const BIG: bool = true;
const LITTLE: bool = false;
const WIDE: bool = true;
const NARROW: bool = false;
const MULTIPLEXED: bool = true;
const DIRECT: bool = false;

const fn architecture(
    name: Arch,
    column: usize,
    wide: bool,
    big_endian: bool,
    multiplexed: bool,
) -> Architecture {
    Architecture {
        name,
        audit: if matches!(name, Arch::ScmpArchX32) {
            Arch::ScmpArchX86_64 as u32
        } else {
            name as u32
        },
        column,
        wide,
        big_endian,
        base: match name {
            Arch::ScmpArchX32 => X32_BIT,
            Arch::ScmpArchMips | Arch::ScmpArchMipsel => 4000,
            Arch::ScmpArchMips64 | Arch::ScmpArchMipsel64 => 5000,
            Arch::ScmpArchMips64n32 | Arch::ScmpArchMipsel64n32 => 6000,
            _ => 0,
        },
        multiplexed,
    }
}

/// All architectures of which the syscall numbers are known. The second value is the column in `table.rs`.
static ARCHITECTURES: [Architecture; 18] = [
    architecture(Arch::ScmpArchX86, 0, NARROW, LITTLE, MULTIPLEXED),
    architecture(Arch::ScmpArchX86_64, 1, WIDE, LITTLE, DIRECT),
    architecture(Arch::ScmpArchX32, 2, NARROW, LITTLE, DIRECT),
    architecture(Arch::ScmpArchArm, 3, NARROW, LITTLE, DIRECT),
    architecture(Arch::ScmpArchAarch64, 4, WIDE, LITTLE, DIRECT),
    architecture(Arch::ScmpArchMips, 5, NARROW, BIG, MULTIPLEXED),
    architecture(Arch::ScmpArchMipsel, 5, NARROW, LITTLE, MULTIPLEXED),
    architecture(Arch::ScmpArchMips64, 6, WIDE, BIG, DIRECT),
    architecture(Arch::ScmpArchMipsel64, 6, WIDE, LITTLE, DIRECT),
    architecture(Arch::ScmpArchMips64n32, 7, NARROW, BIG, DIRECT),
    architecture(Arch::ScmpArchMipsel64n32, 7, NARROW, LITTLE, DIRECT),
    architecture(Arch::ScmpArchPpc, 8, NARROW, BIG, MULTIPLEXED),
    architecture(Arch::ScmpArchPpc64, 9, WIDE, BIG, MULTIPLEXED),
    architecture(Arch::ScmpArchPpc64le, 9, WIDE, LITTLE, MULTIPLEXED),
    architecture(Arch::ScmpArchRiscv64, 10, WIDE, LITTLE, DIRECT),
    architecture(Arch::ScmpArchS390, 11, NARROW, BIG, MULTIPLEXED),
    architecture(Arch::ScmpArchS390x, 12, WIDE, BIG, MULTIPLEXED),
    architecture(Arch::ScmpArchLoongarch64, 13, WIDE, LITTLE, DIRECT),
];
const _: () = assert!(COLUMNS == 14);

/// The architecture of that name; `None` for `SCMP_ARCH_NATIVE` and for those that no supported kernel runs
/// (PA-RISC, m68k, SuperH).
pub(super) fn of(name: Arch) -> Option<&'static Architecture> {
    ARCHITECTURES
        .iter()
        .find(|architecture| architecture.name == name)
}

/// The architecture whose ELF files have this `e_machine`, width and byte order: an `AUDIT_ARCH_*` is made of
/// them.
pub(crate) fn architecture_of_elf(machine: u16, wide: bool, big_endian: bool) -> Option<Arch> {
    let found = ARCHITECTURES
        .iter()
        .find(|known| known.audit as u16 == machine && known.wide == wide && known.big_endian == big_endian);
    found.map(|known| known.name)
}

/// The name as people write it: `x86_64`, not `SCMP_ARCH_X86_64`.
pub(crate) fn short_name(name: Arch) -> String {
    name.to_string().replace("SCMP_ARCH_", "").to_lowercase()
}

/// The names of all, in alphabetical order.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<_> = ARCHITECTURES.iter().map(|known| known.name.to_string()).collect();
    names.sort_unstable();
    names
}

/// The architecture that this program was built for.
pub(crate) const NATIVE: Arch = if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
    Arch::ScmpArchX32
} else if cfg!(target_arch = "x86_64") {
    Arch::ScmpArchX86_64
} else if cfg!(target_arch = "x86") {
    Arch::ScmpArchX86
} else if cfg!(target_arch = "aarch64") {
    Arch::ScmpArchAarch64
} else if cfg!(target_arch = "arm") {
    Arch::ScmpArchArm
} else if cfg!(target_arch = "riscv64") {
    Arch::ScmpArchRiscv64
} else if cfg!(target_arch = "loongarch64") {
    Arch::ScmpArchLoongarch64
} else if cfg!(target_arch = "s390x") {
    Arch::ScmpArchS390x
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Arch::ScmpArchPpc64le
} else if cfg!(target_arch = "powerpc64") {
    Arch::ScmpArchPpc64
} else {
    // compile() answers "unsupported" for it.
    Arch::ScmpArchNative
};

/// A syscall name that the table has, and all that is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syscall(usize);

impl Syscall {
    /// Looks the name up; `None` if no architecture has such a call.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes()) as usize % SLOTS;
        loop {
            let row = match INDEX[slot] {
                EMPTY => return None,
                row => row as usize,
            };
            if SYSCALLS[row].0 == name {
                return Some(Self(row));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Its number as the kernel reports it for that architecture.
    pub(super) fn number(self, architecture: &Architecture) -> Option<u32> {
        let number = u32::try_from(SYSCALLS[self.0].1[architecture.column]).ok()?;
        // The table holds x32 numbers without the bit.
        Some(if architecture.base == X32_BIT {
            number | X32_BIT
        } else {
            number
        })
    }

    /// The multiplexer's syscall number, and the first argument that selects this call there (`linux/net.h`,
    /// `linux/ipc.h`).
    pub(super) fn multiplexed(self, architecture: &Architecture) -> Option<(u32, u32)> {
        if !architecture.multiplexed {
            return None;
        }
        let selector = u32::from(SELECTORS[self.0]);
        match selector {
            0 => None,
            1..=IPC_OFFSET => Some((architecture.base + 102, selector)),
            _ => Some((architecture.base + 117, selector - IPC_OFFSET)),
        }
    }
}

const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;
const _: () = assert!(SYSCALLS.len() * 2 < SLOTS);

/// Open addressing over [`SYSCALLS`], built by the compiler of this crate: one hash and one string comparison
/// a name.
static INDEX: [u16; SLOTS] = index();

const fn index() -> [u16; SLOTS] {
    let mut slots = [EMPTY; SLOTS];
    let mut row = 0;
    while row < SYSCALLS.len() {
        let mut slot = hash(SYSCALLS[row].0.as_bytes()) as usize % SLOTS;
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = row as u16;
        row += 1;
    }
    slots
}

/// FNV-1a, folded: the low bits alone spread badly for short names.
const fn hash(name: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash ^ (hash >> 15)
}

/// `linux/net.h`: SYS_SOCKET is 1, and so on.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
/// `linux/ipc.h`: SEMOP is 1, and so on.
const IPC: [(&str, u8); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
const IPC_OFFSET: u32 = 100;

/// For each row of [`SYSCALLS`]: 0, or the selector for `socketcall`, or that for `ipc` plus [`IPC_OFFSET`].
static SELECTORS: [u8; SYSCALLS.len()] = selectors();

const fn selectors() -> [u8; SYSCALLS.len()] {
    let mut selectors = [0; SYSCALLS.len()];
    let mut at = 0;
    while at < SOCKETCALL.len() {
        selectors[row_of(SOCKETCALL[at])] = at as u8 + 1;
        at += 1;
    }
    at = 0;
    while at < IPC.len() {
        selectors[row_of(IPC[at].0)] = IPC[at].1 + IPC_OFFSET as u8;
        at += 1;
    }
    selectors
}

const fn row_of(name: &str) -> usize {
    let mut row = 0;
    while !same(SYSCALLS[row].0.as_bytes(), name.as_bytes()) {
        row += 1;
    }
    row
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_found_and_no_other() {
        for (name, _) in &SYSCALLS {
            assert_eq!(Syscall::named(name).map(|call| SYSCALLS[call.0].0), Some(*name));
        }
        assert!(Syscall::named("no_such_call").is_none());
        assert!(Syscall::named("").is_none());
    }

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        let number = |name, arch| Syscall::named(name).unwrap().number(of(arch).unwrap());
        assert_eq!(number("read", Arch::ScmpArchX86_64), Some(0));
        assert_eq!(number("execve", Arch::ScmpArchX86_64), Some(59));
        assert_eq!(number("execve", Arch::ScmpArchX86), Some(11));
        assert_eq!(number("execve", Arch::ScmpArchX32), Some(X32_BIT + 520));
        assert_eq!(number("mmap2", Arch::ScmpArchX86_64), None);
        assert_eq!(number("clone3", Arch::ScmpArchAarch64), Some(435));
        assert_eq!(number("clone3", Arch::ScmpArchMips64n32), Some(6435));
        assert_eq!(number("mseal", Arch::ScmpArchX86_64), Some(462));
        assert_eq!(number("memfd_secret", Arch::ScmpArchLoongarch64), None);
    }

    #[test]
    fn multiplexers_exist_only_where_the_kernel_has_them() {
        let socket = Syscall::named("socket").unwrap();
        assert_eq!(socket.multiplexed(of(Arch::ScmpArchX86).unwrap()), Some((102, 1)));
        assert_eq!(socket.multiplexed(of(Arch::ScmpArchX86_64).unwrap()), None);
        let shmctl = Syscall::named("shmctl").unwrap();
        assert_eq!(
            shmctl.multiplexed(of(Arch::ScmpArchMipsel).unwrap()),
            Some((4117, 24))
        );
    }
}

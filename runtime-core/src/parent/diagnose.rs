//! Runs in: RUNTIME. Why could a program not be executed? Looks at the file in the container's root, which belongs to
//! an attacker: paths are resolved inside it (crate pathrs), and only regular files are read, a few hundred bytes each.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pathrs::Root;
use pathrs::flags::OpenFlags;
use rustix::io::Errno;

/// The kernel reads this much of a script's first line (BINPRM_BUF_SIZE).
const HEAD: usize = 256;

/// The likely cause, in words. `None` if nothing stands out; a file that cannot be read explains nothing.
pub(super) fn program(pid: i32, path: &Path, errno: Errno) -> Option<String> {
    if !matches!(
        errno,
        Errno::NOENT | Errno::NOEXEC | Errno::ACCESS | Errno::NOTDIR
    ) {
        return None;
    }
    let root = Root::open(format!("/proc/{pid}/root")).ok()?;
    let head = read_head(&root, path)?;
    match errno {
        Errno::ACCESS => {
            Some("the mount is noexec, or a directory on the way is closed to the user".to_owned())
        }
        _ if head.starts_with(b"#!") => script(&root, &head),
        _ if head.starts_with(b"\x7fELF") => elf(&root, path, &head, errno),
        Errno::NOEXEC if head.is_empty() => Some("the file is empty".to_owned()),
        Errno::NOEXEC => Some("neither a program for this machine nor a script with a #! line".to_owned()),
        _ => None,
    }
}

fn open(root: &Root, path: &Path) -> Option<File> {
    let handle = root.resolve(path).ok()?;
    let is_file = File::from(OwnedFd::from(handle.try_clone().ok()?))
        .metadata()
        .ok()?
        .is_file();
    // Opening a fifo or a device could block, or do something.
    if !is_file {
        return None;
    }
    handle.reopen(OpenFlags::O_RDONLY | OpenFlags::O_NOCTTY).ok()
}

fn read_head(root: &Root, path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    open(root, path)?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

fn exists(root: &Root, path: &Path) -> bool {
    root.resolve(path).is_ok()
}

fn script(root: &Root, head: &[u8]) -> Option<String> {
    let line = head.get(2..)?.split(|byte| *byte == b'\n').next()?;
    let has_carriage_return = line.ends_with(b"\r");
    let text = String::from_utf8_lossy(line);
    let interpreter = text.split([' ', '\t', '\r']).find(|word| !word.is_empty())?;
    if has_carriage_return {
        return Some(format!(
            "the #! line of the script ends with a carriage return, so {:?} is looked for; convert the line endings",
            format!("{interpreter}\r")
        ));
    }
    (!exists(root, Path::new(interpreter)))
        .then(|| format!("the interpreter of the script, {interpreter}, is missing in the container"))
}

fn elf(root: &Root, path: &Path, head: &[u8], errno: Errno) -> Option<String> {
    let machine = u16::from_le_bytes([*head.get(18)?, *head.get(19)?]);
    if errno == Errno::NOEXEC {
        return Some(match machine_name(machine) {
            Some(name) if name != std::env::consts::ARCH => {
                format!(
                    "the program is for {name}, this machine is {}",
                    std::env::consts::ARCH
                )
            }
            Some(_) => "the ELF file is damaged".to_owned(),
            None => format!(
                "the program is for machine type {machine}, this machine is {}",
                std::env::consts::ARCH
            ),
        });
    }
    let interpreter = elf_interpreter(&open(root, path)?, head)?;
    (!exists(root, &interpreter)).then(|| {
        format!(
            "the ELF interpreter (dynamic loader) {} is missing in the container; is the program for another libc?",
            interpreter.display()
        )
    })
}

fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        3 => "x86",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return None,
    })
}

/// PT_INTERP of a little-endian ELF file of 64 or 32 bits.
fn elf_interpreter(file: &File, head: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::FileExt;
    const PT_INTERP: u32 = 3;
    let is_64 = *head.get(4)? == 2;
    let number = |bytes: &[u8], at: usize, size: usize| -> Option<u64> {
        Some(
            bytes
                .get(at..at + size)?
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    let (table, entry_size, entries) = if is_64 {
        (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?)
    } else {
        (number(head, 28, 4)?, number(head, 42, 2)?, number(head, 44, 2)?)
    };
    for entry in 0..entries.min(64) {
        let mut header = [0; 56];
        let length = if is_64 { 56 } else { 32 };
        let at = table.checked_add(entry.checked_mul(entry_size)?)?;
        file.read_exact_at(header.get_mut(..length)?, at).ok()?;
        if number(&header, 0, 4)? != u64::from(PT_INTERP) {
            continue;
        }
        let (offset, size) = if is_64 {
            (number(&header, 8, 8)?, number(&header, 32, 8)?)
        } else {
            (number(&header, 4, 4)?, number(&header, 16, 4)?)
        };
        let mut name = vec![0; usize::try_from(size.min(4096)).ok()?];
        file.read_exact_at(&mut name, offset).ok()?;
        name.truncate(name.iter().position(|byte| *byte == 0)?);
        return Some(std::ffi::OsString::from_vec(name).into());
    }
    None
}

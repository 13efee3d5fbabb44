//! Runs in: RUNTIME. Why could a program not be executed? Looks at the file in the container's root, which
//! belongs to an attacker: paths are resolved inside it (crate pathrs), and only regular files are read, a
//! few hundred bytes each.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pathrs::Root;
use pathrs::flags::OpenFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::plan::seccomp;

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
    // Opened here: pathrs follows no link, and that is what this is.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
    let root = Root::from_fd(root);
    explain(&open(&root, path)?, errno, |path| root.resolve(path).is_ok())
}

/// What the file itself says. `exists` is asked for the file that it names, in the container.
pub(crate) fn explain(file: &File, errno: Errno, exists: impl Fn(&Path) -> bool) -> Option<String> {
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    match errno {
        Errno::ACCESS => {
            Some("the mount is noexec, or a directory on the way is closed to the user".to_owned())
        }
        _ if head.starts_with(b"#!") => script(&head, exists),
        _ if head.starts_with(b"\x7fELF") => elf(file, &head, errno, exists),
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

fn script(head: &[u8], exists: impl Fn(&Path) -> bool) -> Option<String> {
    let line = head.get(2..)?.split(|byte| *byte == b'\n').next()?;
    // As `load_script` of fs/binfmt_script.c: a null byte ends the line, a carriage return does not end the
    // word.
    let text = String::from_utf8_lossy(line.split(|byte| *byte == 0).next()?);
    let interpreter = text.split([' ', '\t']).find(|word| !word.is_empty())?;
    if interpreter.ends_with('\r') {
        return Some(format!(
            "the #! line of the script ends with a carriage return, so {interpreter:?} is looked for; convert the line endings"
        ));
    }
    (!exists(Path::new(interpreter)))
        .then(|| format!("the interpreter of the script, {interpreter}, is missing in the container"))
}

fn elf(file: &File, head: &[u8], errno: Errno, exists: impl Fn(&Path) -> bool) -> Option<String> {
    /// EI_DATA: its numbers begin with the high byte.
    const BIG_ENDIAN: u8 = 2;
    let is_big = *head.get(5)? == BIG_ENDIAN;
    let machine = [*head.get(18)?, *head.get(19)?];
    let machine = match is_big {
        true => u16::from_be_bytes(machine),
        false => u16::from_le_bytes(machine),
    };
    if errno == Errno::NOEXEC {
        let name = match seccomp::architecture_of_elf(machine, is_64(head)?, is_big) {
            Some(name) if name == seccomp::NATIVE => return Some("the ELF file is damaged".to_owned()),
            Some(name) => seccomp::short_name(name),
            None => format!("machine type {machine}"),
        };
        return Some(format!(
            "the program is for {name}, this machine is {}",
            std::env::consts::ARCH
        ));
    }
    // The kernel of this machine, which is little-endian, has not read its headers either.
    if is_big {
        return None;
    }
    let interpreter = elf_interpreter(file, head)?;
    (!exists(&interpreter)).then(|| {
        format!(
            "the ELF interpreter (dynamic loader) {} is missing in the container; is the program for another libc?",
            interpreter.display()
        )
    })
}

/// EI_CLASS of a file of which that much is there.
fn is_64(head: &[u8]) -> Option<bool> {
    Some(*head.get(4)? == 2)
}

/// PT_INTERP of a little-endian ELF file of 64 or 32 bits.
fn elf_interpreter(file: &File, head: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::FileExt;
    const PT_INTERP: u32 = 3;
    let is_64 = is_64(head)?;
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

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn said(program: &[u8], errno: Errno) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(program).unwrap();
        file.rewind().unwrap();
        explain(&file, errno, |_| false)
    }

    #[test]
    fn a_carriage_return_is_blamed_only_where_the_kernel_takes_it_for_the_interpreters() {
        let missing =
            |name: &str| format!("the interpreter of the script, {name}, is missing in the container");
        let cases: [(&[u8], String); 5] = [
            (b"#! /bin/sh\necho", missing("/bin/sh")),
            (b"#!/opt/x -e\r\necho", missing("/opt/x")),
            (b"#!\t/opt/x\0y\necho", missing("/opt/x")),
            (
                b"#!/bin/sh\r\necho",
                "the #! line of the script ends with a carriage return, so \"/bin/sh\\r\" is looked for; convert the \
                 line endings"
                    .to_owned(),
            ),
            (b"#!/opt/a\rb\n", missing("/opt/a\rb")),
        ];
        for (program, text) in cases {
            assert_eq!(said(program, Errno::NOENT), Some(text));
        }
        assert_eq!(said(b"#! \t\n", Errno::NOENT), None);
    }

    #[test]
    fn a_program_for_a_machine_of_the_other_order_of_bytes_is_named() {
        let mut program = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02".to_vec();
        for (machine, name) in [(22_u16, "s390x"), (21, "ppc64"), (4711, "machine type 4711")] {
            program.truncate(18);
            program.extend(machine.to_be_bytes());
            program.resize(64, 0);
            let text = format!(
                "the program is for {name}, this machine is {}",
                std::env::consts::ARCH
            );
            assert_eq!(said(&program, Errno::NOEXEC), Some(text));
            // Its headers are not read as if they were of this machine.
            assert_eq!(said(&program, Errno::NOENT), None);
        }
    }
}

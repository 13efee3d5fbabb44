//! Any bytes as a program of an image that could not be executed: what is said of a `#!` line and of an ELF
//! file is what the kernel reads there, and never an empty or endless text.
#![no_main]

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use onggi_fuzz::file_of;
use runtime_core::unstable::Errno;
use runtime_core::unstable::explain_program;

fuzz_target!(|program: &[u8]| {
    for errno in [Errno::NOENT, Errno::NOEXEC, Errno::ACCESS, Errno::NOTDIR] {
        let asked = RefCell::new(Vec::<PathBuf>::new());
        let ask = |path: &Path| {
            asked.borrow_mut().push(path.to_owned());
            false
        };
        let said = explain_program(&file_of(program), errno, ask);
        let asked: Vec<PathBuf> = asked.into_inner();
        assert!(
            said.as_ref()
                .is_none_or(|said| !said.is_empty() && said.len() < 64 << 10)
        );
        assert!(asked.len() <= 1);
        if errno == Errno::NOENT {
            let named = interpreter_of_script(program).or_else(|| interpreter_of_elf(program));
            // Of a name with a carriage return it is known without a look why it is not there.
            match asked.first().map(|path| path.as_os_str().as_bytes()) {
                Some(asked) => assert_eq!(Some(lossy(asked)), named.map(|named| lossy(&named))),
                None => assert!(named.is_none_or(|named| named.ends_with(b"\r")), "{said:?}"),
            }
        }
        // There, it is not what is missing.
        let said = explain_program(&file_of(program), errno, |_| true);
        assert!(said.is_none_or(|said| !said.contains("is missing")));
    }
});

/// A `#!` line is shown as text.
fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// `load_script` of the kernel (fs/binfmt_script.c): the first word of the first line, of 256 bytes.
fn interpreter_of_script(program: &[u8]) -> Option<Vec<u8>> {
    let head = &program[..program.len().min(256)];
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let text = line.split(|byte| *byte == 0).next()?;
    let mut words = text.split(|byte| matches!(byte, b' ' | b'\t'));
    words.find(|word| !word.is_empty()).map(<[u8]>::to_vec)
}

/// `load_elf_binary` of the kernel (fs/binfmt_elf.c): PT_INTERP of the program headers.
fn interpreter_of_elf(program: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize, size: usize| -> Option<u64> {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(program.get(at..at.checked_add(size)?)?);
        Some(u64::from_le_bytes(wide))
    };
    // Of the other order of bytes it is no program of this machine.
    if !program.starts_with(b"\x7fELF") || program.get(5) == Some(&2) {
        return None;
    }
    let is_64 = *program.get(4)? == 2;
    // Only what is within the head of 256 bytes is taken for a header.
    program.get(if is_64 { 57 } else { 45 })?;
    let (table, size, count) = match is_64 {
        true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
        false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
    };
    for entry in 0..count.min(64) {
        let at = usize::try_from(table.checked_add(entry * size)?).ok()?;
        program.get(at..at.checked_add(if is_64 { 56 } else { 32 })?)?;
        if number(at, 4)? != 3 {
            continue;
        }
        let (offset, length) = match is_64 {
            true => (number(at + 8, 8)?, number(at + 32, 8)?),
            false => (number(at + 4, 4)?, number(at + 16, 4)?),
        };
        let offset = usize::try_from(offset).ok()?;
        let length = usize::try_from(length.min(4096)).ok()?;
        let name = program.get(offset..offset.checked_add(length)?)?;
        let end = name.iter().position(|byte| *byte == 0)?;
        return Some(name[..end].to_vec());
    }
    None
}

//! Runs in: SUITE. A machine for a person: a shell, or one command, on the terminal.

use super::{Kernel, Kind, archive::name_of, base_archive, boot, image::Images};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Boots the machine with `files` in /payload, runs `command` in it (without one, a shell), and returns its
/// status.
pub(crate) fn shell(
    kind: Kind,
    kernel: Kernel,
    files: &[PathBuf],
    command: Option<&str>,
) -> io::Result<ExitCode> {
    let images = Images::ready(kernel, &[kind], false)?.for_kind(kind);
    let dir = PathBuf::from(format!("/tmp/spec-tests-shell-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let result = boot_and_wait(kind, &images, &dir, files, command);
    let removed = fs::remove_dir_all(&dir);
    let status = result?;
    removed?;
    Ok(match status.map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        // The machine ended without a word.
        Some(Err(_)) | None => ExitCode::from(125),
    })
}

fn boot_and_wait(
    kind: Kind,
    images: &Images,
    dir: &Path,
    files: &[PathBuf],
    command: Option<&str>,
) -> io::Result<Option<i32>> {
    let mut archive = base_archive(kind, images)?;
    for file in files {
        archive.program(file, Path::new("payload").join(name_of(file)?))?;
    }
    // A shell of a person has job control, so it needs a session with a controlling terminal.
    let shell = "cd /payload\necho 'exit or Ctrl-A X ends the machine; files are in /payload'\n\
                 exec busybox setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1";
    let text = match command {
        Some(line) => format!("cd /payload\n{line}\n"),
        None => format!("{shell}\n"),
    };
    archive.data("payload/command", 0o644, text.as_bytes())?;
    boot::Machine::new(kind, images, dir, archive)?.interact()
}

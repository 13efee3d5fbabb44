//! Runs in: INIT and EXEC. What of the environment only the container knows: HOME from its /etc/passwd, and
//! our pid.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::ProcessArgs;
use runtime_sys::{self as sys, fs};

/// Adds HOME, where there is room prepared for it.
pub(crate) fn add_home(root: BorrowedFd<'_>, args: &mut ProcessArgs<'_>) -> sys::Result<()> {
    let home = core::mem::take(&mut args.home);
    if let Some(home) = home_entry(root, args.credentials.uid, home)? {
        args.envp.push(home);
    }
    Ok(())
}

/// Adds LISTEN_PID, where there is room prepared for it. By the process that becomes the program:
/// sd_listen_fds(3) compares.
pub(crate) fn add_listen_pid(args: &mut ProcessArgs<'_>) {
    let room = core::mem::take(&mut args.listen_pid);
    if room.is_empty() {
        return;
    }
    let pid = rustix::process::getpid().as_raw_pid();
    if let Some(entry) = listen_pid_entry(pid, room) {
        args.envp.push(entry);
    }
}

fn listen_pid_entry(pid: i32, room: &mut [u8]) -> Option<&CStr> {
    let mut digits = [0; 12];
    let digits = decimal(pid as u64, &mut digits);
    entry(b"LISTEN_PID=", digits, room)
}

/// "HOME=..." of the user, "/" if it is in no readable /etc/passwd; `None` if no room was prepared.
fn home_entry<'a>(root: BorrowedFd<'_>, uid: u32, room: &'a mut [u8]) -> sys::Result<Option<&'a CStr>> {
    if room.is_empty() {
        return Ok(None);
    }
    let mut line = [0u8; 1024];
    let home = match find_home(root, uid, &mut line) {
        Err(error) if is_of_the_image(error.errno) => None,
        other => other?,
    };
    let home = home.filter(|home| !home.is_empty()).unwrap_or(b"/");
    Ok(entry(b"HOME=", home, room))
}

/// What an image can bring about: without /etc/passwd, or with one that cannot be read, it has no home
/// directories. Any other failure is one of the host, and the program must not run with another HOME for it.
fn is_of_the_image(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
    )
}

fn entry<'a>(name: &[u8], value: &[u8], room: &'a mut [u8]) -> Option<&'a CStr> {
    let end = name.len() + value.len();
    room.get_mut(..name.len())?.copy_from_slice(name);
    room.get_mut(name.len()..end)?.copy_from_slice(value);
    *room.get_mut(end)? = 0;
    CStr::from_bytes_until_nul(room).ok()
}

/// More than any real /etc/passwd has, in bytes; an image may bring a sparse one of terabytes.
const MOST: usize = 1 << 20;

fn find_home<'a>(root: BorrowedFd<'_>, uid: u32, line: &'a mut [u8; 1024]) -> sys::Result<Option<&'a [u8]>> {
    // Without O_NONBLOCK a fifo of that name would hold us for ever; a regular file is what we read.
    let file = fs::open_in_root(
        root,
        c"etc/passwd",
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    )?;
    if fs::fstat(file.as_fd())?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(None);
    }
    home_in(file.as_fd(), uid, line)
}

/// Reads a passwd(5) line by line. Longer lines than the buffer are passed over.
pub(crate) fn home_in<'a>(
    file: BorrowedFd<'_>,
    uid: u32,
    line: &'a mut [u8; 1024],
) -> sys::Result<Option<&'a [u8]>> {
    let mut chunk = [0u8; 1024];
    let mut seen = 0;
    let (mut length, mut skip) = (0, false);
    loop {
        let got = fs::read(file, &mut chunk)?;
        seen += got;
        let ended = got == 0 || seen > MOST;
        let bytes = if ended {
            b"\n"
        } else {
            chunk.get(..got).unwrap_or_default()
        };
        for byte in bytes {
            if *byte != b'\n' {
                match line.get_mut(length) {
                    Some(slot) => *slot = *byte,
                    None => skip = true,
                }
                length += usize::from(!skip);
                continue;
            }
            let found = !skip && home_of_line(line.get(..length).unwrap_or_default(), uid).is_some();
            if found {
                return Ok(home_of_line(line.get(..length).unwrap_or_default(), uid));
            }
            (length, skip) = (0, false);
        }
        if ended {
            return Ok(None);
        }
    }
}

/// The sixth field of a line of passwd(5), if the third is `uid`.
fn home_of_line(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|byte| *byte == b':');
    let third = fields.nth(2)?;
    let mut digits = [0; 12];
    if third != decimal(u64::from(uid), &mut digits) {
        return None;
    }
    fields.nth(2)
}

/// `number` in decimal, at the end of `room`.
pub(crate) fn decimal(mut number: u64, room: &mut [u8; 12]) -> &[u8] {
    let mut start = room.len();
    for (place, slot) in room.iter_mut().enumerate().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        start = place;
        if number == 0 {
            break;
        }
    }
    room.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_decimal() {
        let mut room = [0; 12];
        assert_eq!(decimal(0, &mut room), b"0");
        assert_eq!(decimal(4_294_967_295, &mut room), b"4294967295");
    }

    #[test]
    fn the_home_is_the_sixth_field_of_the_line_with_the_uid() {
        assert_eq!(
            home_of_line(b"joe:x:1000:100:Joe:/home/joe:/bin/sh", 1000),
            Some(&b"/home/joe"[..])
        );
        assert_eq!(home_of_line(b"joe:x:1000:100:Joe:/home/joe:/bin/sh", 100), None);
        assert_eq!(home_of_line(b"joe:x:1000", 1000), None);
        assert_eq!(home_of_line(b"", 0), None);
    }

    #[test]
    fn only_what_an_image_can_bring_about_means_no_home() {
        for errno in [
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::LOOP,
            Errno::ACCESS,
            Errno::NXIO,
        ] {
            assert!(is_of_the_image(errno), "{errno:?}");
        }
        for errno in [
            Errno::IO,
            Errno::NOMEM,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOSYS,
            Errno::AGAIN,
        ] {
            assert!(!is_of_the_image(errno), "{errno:?}");
        }
    }

    #[test]
    fn an_entry_that_does_not_fit_is_left_out() {
        let mut room = [0; 8];
        assert_eq!(entry(b"HOME=", b"/a", &mut room), Some(c"HOME=/a"));
        assert_eq!(entry(b"HOME=", b"/ab", &mut room), None);
    }
}

//! Runs in: SHIM, the process that stays, first of all. Until `execve` a container's process has this program
//! as `/proc/PID/exe`, and an image may name `/proc/self/exe` as its program (CVE-2019-5736): so it runs from
//! a copy of its mount that is read-only, and in no mount namespace.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use runtime_sys::mount::{ATTR_RDONLY, MountAttr, mount_setattr};
use runtime_sys::process::{ExecVector, execveat};
use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::failure::{Failure, Result};

const PROGRAM: &str = "/proc/self/exe";

/// Returns if this process runs from such a copy; otherwise executes itself again from one. Arguments,
/// environment, process id and open files stay as they are.
///
/// # Errors
/// The copy cannot be had: then no container may be started.
pub(crate) fn protect() -> Result<()> {
    if is_protected()? {
        // execveat leaves the number of a file descriptor as the name that ps shows.
        return rustix::thread::set_name(c"containerd-shim").map_err(failed);
    }
    let copy = copy()?;
    let words = std::env::args_os().map(|word| c_string(word.into_vec()));
    let words = words.collect::<Result<Vec<_>>>()?;
    let variables =
        std::env::vars_os().map(|(name, value)| c_string([name.into_vec(), value.into_vec()].join(&b'=')));
    let variables = variables.collect::<Result<Vec<_>>>()?;
    let mut room_of_words = vec![std::ptr::null(); words.len() + 1];
    let mut room_of_variables = vec![std::ptr::null(); variables.len() + 1];
    let words = ExecVector::new(&mut room_of_words, &words);
    let variables = ExecVector::new(&mut room_of_variables, &variables);
    Err(failed(execveat(copy.as_fd(), &words, &variables).errno))
}

/// The root of a mount that is in no namespace has no other name, and no attached file can be called so.
fn is_protected() -> Result<bool> {
    let path = rustix::fs::readlink(PROGRAM, Vec::new()).map_err(failed)?;
    if path.as_bytes() != b"/" {
        return Ok(false);
    }
    let mount = rustix::fs::statvfs(PROGRAM).map_err(failed)?;
    Ok(mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn copy() -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, PROGRAM, flags).map_err(failed)?;
    let read_only = MountAttr {
        set: ATTR_RDONLY,
        ..MountAttr::default()
    };
    mount_setattr(mount.as_fd(), &read_only, false).map_err(|error| failed(error.errno))?;
    Ok(mount)
}

fn c_string(bytes: Vec<u8>) -> Result<CString> {
    CString::new(bytes).map_err(|_| Failure::invalid("an argument or a variable with a zero byte"))
}

fn failed(errno: Errno) -> Failure {
    Failure::io("protect the program from containers", PROGRAM, errno)
}

//! Runs in: SUITE. Labels of SELinux: of files, processes and keys, as the kernel says them.

use crate::outcome::{Check, fail};
use std::{
    ffi::{CStr, CString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

const ATTRIBUTE: &CStr = c"security.selinux";

/// The label of a file.
pub(crate) fn label_of(path: &Path) -> Check<String> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut value = [0_u8; 256];
    // SAFETY: both names are C strings, and the call writes at most the given size.
    let size = unsafe {
        libc::lgetxattr(
            name.as_ptr(),
            ATTRIBUTE.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match usize::try_from(size) {
        Ok(size) => Ok(text(value.get(..size).unwrap_or_default())),
        Err(_) => fail(format!(
            "label of {}: {}",
            path.display(),
            io::Error::last_os_error()
        )),
    }
}

/// The kernel ends a label with NUL, and sometimes with a line's end.
pub(crate) fn text(label: &[u8]) -> String {
    String::from_utf8_lossy(label)
        .trim_end_matches(['\0', '\n'])
        .to_owned()
}

/// Labels a file, or a folder with all that is in it.
pub(crate) fn relabel(path: &Path, label: &str) -> Check {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both names are C strings, and the call reads the given size of the label.
    let done = unsafe {
        libc::lsetxattr(
            name.as_ptr(),
            ATTRIBUTE.as_ptr(),
            label.as_ptr().cast(),
            label.len(),
            0,
        )
    };
    if done != 0 {
        return fail(format!(
            "label {}: {}",
            path.display(),
            io::Error::last_os_error()
        ));
    }
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            relabel(&entry?.path(), label)?;
        }
    }
    Ok(())
}

/// The label of a process: its number, or `self`.
pub(crate) fn label_of_process(pid: &str) -> Check<String> {
    Ok(text(&fs::read(format!("/proc/{pid}/attr/current"))?))
}

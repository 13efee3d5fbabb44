//! Runs in: RUNTIME. Protects the binary on the host from the container (CVE-2019-5736): makes the process
//! run from a copy of the binary's mount that is read-only and in no mount namespace, or from a sealed memfd
//! where the kernel refuses that. It does not hide the binary: the container may read it.
//!
//! The mount stays detached on purpose. Attaching it anywhere would make systemd, and everything else that
//! watches mountinfo, read the whole table again for each container.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use runtime_core::{Error, ErrorKind, Result};
use runtime_sys::arguments::Arguments;
use runtime_sys::mount::{ATTR_RDONLY, MountAttr, mount_setattr};
use runtime_sys::process::{ExecVector, execveat};
use rustix::fs::{self, CWD, MemfdFlags, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

const OWN_EXECUTABLE: &str = "/proc/self/exe";
const MEMFD_NAME: &str = "onggi";

/// Returns if this process already runs from a sealed executable; otherwise executes itself again from one.
///
/// Arguments, environment, process id and open file descriptors stay as they are.
///
/// # Errors
/// Neither a detached mount nor a sealed memfd can be had: then nothing may be started that could reach the
/// binary.
pub(crate) fn ensure(arguments: Arguments) -> Result<()> {
    if is_sealed()? {
        // execveat leaves the number of a file descriptor as the name that ps shows.
        return rustix::thread::set_name(c"onggi").map_err(|e| failed("prctl(PR_SET_NAME)", e));
    }
    let argv: Vec<CString> = arguments.map(CStr::to_owned).collect();
    let executable = match detached_mount() {
        Ok(mount) => mount,
        Err(refused) => sealed_memfd().map_err(|e| e.and(refused))?,
    };
    let envp = own_environment()?;
    let mut argv_room = vec![std::ptr::null(); argv.len() + 1];
    let mut envp_room = vec![std::ptr::null(); envp.len() + 1];
    let argv = ExecVector::new(&mut argv_room, &argv);
    let envp = ExecVector::new(&mut envp_room, &envp);
    Err(failed(
        "execveat",
        execveat(executable.as_fd(), &argv, &envp).errno,
    ))
}

/// Whether the kernel says so: this is asked of the running executable itself, so no variable or argument can
/// fake it.
fn is_sealed() -> Result<bool> {
    let path = fs::readlink(OWN_EXECUTABLE, Vec::new()).map_err(|e| failed("readlink", e))?;
    // The root of a mount that is in no namespace has no other name, and no attached file can be called so.
    if path.as_bytes() == b"/" {
        let mount = fs::statvfs(OWN_EXECUTABLE).map_err(|e| failed("statfs", e))?;
        return Ok(mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    }
    if !path.as_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let memfd = fs::open(
        OWN_EXECUTABLE,
        OFlags::RDONLY | OFlags::CLOEXEC,
        fs::Mode::empty(),
    )
    .map_err(|e| failed("open", e))?;
    // A file in a directory that happens to be called "memfd:" has no seals: EINVAL.
    Ok(fs::fcntl_get_seals(&memfd).is_ok_and(|seals| seals.contains(all_seals())))
}

fn detached_mount() -> Result<OwnedFd> {
    let mount = rustix::mount::open_tree(
        CWD,
        OWN_EXECUTABLE,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(|e| failed("open_tree", e))?;
    let readonly = MountAttr {
        set: ATTR_RDONLY,
        ..MountAttr::default()
    };
    mount_setattr(mount.as_fd(), &readonly, false).map_err(|e| failed("mount_setattr", e.errno))?;
    Ok(mount)
}

fn sealed_memfd() -> Result<OwnedFd> {
    let source =
        File::open(OWN_EXECUTABLE).map_err(|e| Error::os("open", e).doing("seal the own executable"))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match fs::memfd_create(MEMFD_NAME, flags | MemfdFlags::EXEC) {
        // Linux before 6.3 does not know the flag, and gives the permission without it.
        Err(Errno::INVAL) => fs::memfd_create(MEMFD_NAME, flags),
        other => other,
    }
    .map_err(|e| failed("memfd_create", e))?;
    let size = fs::fstat(&source).map_err(|e| failed("fstat", e))?.st_size;
    let mut left = usize::try_from(size).map_err(|_| failed("fstat", Errno::FBIG))?;
    while left > 0 {
        match fs::sendfile(&memfd, &source, None, left).map_err(|e| failed("sendfile", e))? {
            0 => return Err(failed("sendfile", Errno::IO)),
            copied => left = left.saturating_sub(copied),
        }
    }
    fs::fcntl_add_seals(&memfd, all_seals()).map_err(|e| failed("fcntl(F_ADD_SEALS)", e))?;
    Ok(memfd)
}

fn all_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

fn own_environment() -> Result<Vec<CString>> {
    std::env::vars_os()
        .map(|(name, value)| {
            CString::new([name.into_vec(), value.into_vec()].join(&b'='))
                .map_err(|_| Error::new(ErrorKind::Internal, "the environment holds a zero byte"))
        })
        .collect()
}

fn failed(call: &'static str, errno: Errno) -> Error {
    Error::os(call, errno)
        .with_path(OWN_EXECUTABLE)
        .doing("seal the own executable")
}

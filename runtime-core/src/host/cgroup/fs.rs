//! Runs in: RUNTIME. The driver that makes cgroups itself, in the file system (`cgroupfs` to the engines): creates
//! the directories and hands the controllers down to them. What happens inside a cgroup is `directory.rs`.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::Controllers;
use super::directory::{Cgroup, has_word, read_file, write_file};
use super::root::{CgroupRoot, join};
use crate::{Errno, Error, ErrorKind, Result};

const FIELD: &str = "linux.cgroupsPath";

/// The directories that [`create`] has made, relative to the root, outermost first.
pub(super) type Made = Vec<PathBuf>;

/// Creates the cgroup at `below_root`, with all that is missing above it, and enables the controllers on the way.
/// On failure the directories made here are removed again.
///
/// # Errors
/// A cgroup is already there and has processes or is frozen; a directory cannot be made; a needed controller cannot
/// be enabled because a cgroup above has processes of its own.
pub(super) fn create(
    root: &CgroupRoot,
    below_root: &Path,
    needed: &[&str],
    controllers: Controllers,
) -> Result<(Cgroup, Made)> {
    let mut made = Made::new();
    let created = make_directories(root, below_root, &mut made)
        .and_then(|()| open(root, below_root, &made))
        .and_then(|cgroup| {
            hand_down(root, below_root, &cgroup, needed, controllers)?;
            Ok(cgroup)
        });
    match created {
        Ok(cgroup) => Ok((cgroup, made)),
        Err(error) => Err(undo(root, &made, error.doing("create the cgroup"))),
    }
}

/// Removes what [`create`] has made, after a failure. Returns that failure, with what went wrong here behind it.
pub(super) fn undo(root: &CgroupRoot, made: &[PathBuf], failure: Error) -> Error {
    made.iter().rev().fold(failure, |failure, directory| {
        match rustix::fs::unlinkat(root.dir(), directory, AtFlags::REMOVEDIR) {
            // Busy: another container has moved in below meanwhile, so it is no longer only ours.
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => failure,
            Err(errno) => failure.and(Error::os("unlinkat", errno).path(join(root.path(), directory))),
        }
    })
}

/// Makes the cgroup, and on the way up what it turns out to need; `made` lists what was not there before.
fn make_directories(root: &CgroupRoot, below_root: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    // Most often all but the last is there: one system call instead of one for each component.
    match make_directory(root, below_root, made) {
        Err(error) if error.errno() == Some(Errno::NOENT) => {}
        result => return result,
    }
    let mut prefix = PathBuf::new();
    for component in below_root.components() {
        prefix.push(component);
        make_directory(root, &prefix, made)?;
    }
    Ok(())
}

fn make_directory(root: &CgroupRoot, path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    match rustix::fs::mkdirat(root.dir(), path, Mode::from_raw_mode(0o755)) {
        Ok(()) => made.push(path.to_owned()),
        Err(Errno::EXIST) => {}
        Err(errno) => {
            let error = Error::os("mkdirat", errno)
                .field(FIELD)
                .path(join(root.path(), path));
            return Err(match errno {
                Errno::ROFS => error.hint("the cgroup tree is mounted read-only"),
                Errno::ACCESS | Errno::PERM => error
                    .with_kind(ErrorKind::Denied)
                    .hint("needs root, or a cgroup that was delegated to this user"),
                Errno::AGAIN => {
                    error.hint("cgroup.max.depth or cgroup.max.descendants of a cgroup above is reached")
                }
                _ => error,
            });
        }
    }
    Ok(())
}

/// Opens the cgroup and refuses one that is in use.
fn open(root: &CgroupRoot, below_root: &Path, made: &[PathBuf]) -> Result<Cgroup> {
    let path = join(root.path(), below_root);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(root.dir(), below_root, flags, Mode::empty())
        .map_err(|errno| Error::os("openat", errno).field(FIELD).path(&path))?;
    let is_new = made.last().is_some_and(|last| last == below_root);
    let cgroup = Cgroup::new(path, dir, is_new);
    let refused = |message: String| {
        Err(Error::new(ErrorKind::WrongStatus, message)
            .field(FIELD)
            .path(cgroup.path()))
    };
    // Not the list of processes: that leaves out those outside of the runtime's pid namespace.
    if !is_new && cgroup.is_populated()? {
        let processes = cgroup.processes()?.len();
        return refused(format!(
            "container's cgroup is not empty: {processes} process(es) found"
        ));
    }
    // A cgroup that was there before us, this one or one above, may be frozen; then the container would never come up
    // and `create` wait for ever. The root cannot be frozen.
    let depth = below_root.components().count();
    if made.len() < depth && (depth > 1 || !is_new) && cgroup.is_effectively_frozen()? {
        return refused("container's cgroup unexpectedly frozen".to_owned());
    }
    Ok(cgroup)
}

/// Makes controllers available in the cgroup, by enabling them in every cgroup above it from the root down.
/// Controllers that the root does not have are left out: whether that matters shows when a limit is written.
pub(super) fn hand_down(
    root: &CgroupRoot,
    below_root: &Path,
    cgroup: &Cgroup,
    needed: &[&str],
    controllers: Controllers,
) -> Result<()> {
    if needed.is_empty() && controllers == Controllers::Needed {
        return Ok(());
    }
    let list = |dir, path: &Path| {
        read_file(dir, "cgroup.controllers")
            .map_err(|errno| Error::os("read", errno).path(path.join("cgroup.controllers")))
    };
    let present = list(cgroup.dir(), cgroup.path())?;
    let all_present = needed.iter().all(|name| has_word(&present, name));
    if all_present && controllers == Controllers::Needed {
        return Ok(());
    }
    let available = list(root.dir(), root.path())?;
    for name in available
        .split(u8::is_ascii_whitespace)
        .filter_map(|name| std::str::from_utf8(name).ok())
    {
        let is_needed = needed.contains(&name);
        if name.is_empty() || has_word(&present, name) || !(is_needed || controllers == Controllers::Every) {
            continue;
        }
        match enable(root, below_root, name) {
            Err(error) if is_needed => return Err(error),
            // Only statistics depend on it, and cgroups with processes of their own are common on desktops.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Enables one controller. One write for each, since the kernel refuses several together without telling which.
fn enable(root: &CgroupRoot, below_root: &Path, controller: &str) -> Result<()> {
    let value = format!("+{controller}");
    let mut prefix = PathBuf::new();
    for component in below_root.components() {
        let file = prefix.join("cgroup.subtree_control");
        let written = write_file(root.dir(), &file, value.as_bytes());
        if matches!(written, Err(Errno::ACCESS | Errno::PERM)) && is_enabled(root, &file, controller) {
            // Above what was delegated to this user, and done already by whoever delegated it.
            prefix.push(component);
            continue;
        }
        written.map_err(|errno| {
            let error = Error::os("write", errno)
                .path(join(root.path(), &file))
                .doing(format!("enable the controller {controller}"));
            explain_refusal(error, errno)
        })?;
        prefix.push(component);
    }
    Ok(())
}

fn is_enabled(root: &CgroupRoot, file: &Path, controller: &str) -> bool {
    file.to_str()
        .is_some_and(|file| read_file(root.dir(), file).is_ok_and(|list| has_word(&list, controller)))
}

/// Why a cgroup would not hand controllers down.
fn explain_refusal(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::BUSY => error.field(FIELD).hint(
            "this cgroup has processes of its own, so it cannot hand controllers down; choose a linux.cgroupsPath \
             below a cgroup without processes",
        ),
        Errno::OPNOTSUPP => error.field(FIELD).hint("this cgroup is threaded and cannot have this controller"),
        Errno::PERM | Errno::ACCESS => error.with_kind(ErrorKind::Denied),
        Errno::NOENT => error.hint("a cgroup above was not given the controller"),
        _ => error,
    }
}

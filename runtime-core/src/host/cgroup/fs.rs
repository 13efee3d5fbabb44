//! Runs in: RUNTIME. The driver that makes cgroups itself, in the file system (`cgroupfs` to the engines):
//! creates the directories and hands the controllers down to them. What happens inside a cgroup is
//! `directory.rs`.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::directory::Cgroup;
use super::files::{read_file, write_file};
use super::root::{CgroupRoot, join};
use super::walk;
use crate::error::{CallResult, ErrorResult};
use crate::plan::cgroup::Controllers;
use crate::{Errno, Error, ErrorKind, Result};

const FIELD: &str = "linux.cgroupsPath";

/// The directories that [`make`] has made, relative to the root, outermost first.
pub(super) type Made = Vec<PathBuf>;

/// Makes the cgroup at `below_root`, with all that is missing above it. On failure the directories made here
/// are removed again.
///
/// # Errors
/// A cgroup is already there and has processes, is frozen, or is refused by `refuse`; a directory cannot be
/// made.
pub(super) fn make(
    root: &CgroupRoot,
    below_root: &Path,
    refuse: impl FnOnce(&Cgroup) -> Result<()>,
) -> Result<(Cgroup, Made)> {
    let mut made = Made::new();
    let opened = make_directories(root, below_root, &mut made)
        .and_then(|()| open(root, below_root, &made))
        .and_then(|cgroup| match cgroup.was_there() {
            true => refuse(&cgroup).and_then(|()| take_over(root, below_root, cgroup, &mut made)),
            false => Ok(cgroup),
        });
    match opened {
        Ok(cgroup) => Ok((cgroup, made)),
        Err(error) => Err(undo(root, &made, error.doing("create the cgroup"))),
    }
}

/// Puts a new cgroup in the place of one that a container has left, so that whatever remembers that one does
/// not take the new container's for it. One that somebody has prepared is used as it is.
fn take_over(root: &CgroupRoot, below_root: &Path, cgroup: Cgroup, made: &mut Made) -> Result<Cgroup> {
    if !cgroup.is_marked()? {
        return Ok(cgroup);
    }
    walk::remove_below(cgroup.dir())?;
    match rustix::fs::unlinkat(root.dir(), below_root, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        // In use after all, or delegated to this user without the one above: then `delete` could not remove
        // it either.
        Err(errno) => {
            log::debug!(
                "the cgroup {} is used again: rmdir: {errno}",
                cgroup.path().display()
            );
            return Ok(cgroup);
        }
    }
    make_directory(root, below_root, made)?;
    open(root, below_root, made)
}

/// Removes what [`make`] has made, after a failure. Returns that failure, with what went wrong here after it.
pub(super) fn undo(root: &CgroupRoot, made: &[PathBuf], failure: Error) -> Error {
    made.iter().rev().fold(failure, |failure, directory| {
        match rustix::fs::unlinkat(root.dir(), directory, AtFlags::REMOVEDIR) {
            // Busy: another container has moved in below meanwhile, so it is no longer only ours.
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => failure,
            Err(errno) => failure.and(Error::os("unlinkat", errno).with_path(join(root.path(), directory))),
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
                .with_field(FIELD)
                .with_path(join(root.path(), path));
            return Err(match errno {
                Errno::ROFS => error.with_hint("the cgroup tree is mounted read-only"),
                Errno::ACCESS | Errno::PERM => error
                    .with_kind(ErrorKind::Denied)
                    .with_hint("needs root, or a cgroup that was delegated to this user"),
                Errno::AGAIN => {
                    error.with_hint("cgroup.max.depth or cgroup.max.descendants of a cgroup above is reached")
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
        .call("openat")
        .field(FIELD)
        .path(&path)?;
    let is_new = made.last().is_some_and(|last| last == below_root);
    let cgroup = Cgroup::new(path, dir, is_new);
    let refused = |message: String| {
        Err(Error::new(ErrorKind::WrongStatus, message)
            .with_field(FIELD)
            .with_path(cgroup.path()))
    };
    // Not the list of processes: that leaves out those outside of the runtime's pid namespace.
    if !is_new && cgroup.is_populated()? {
        let processes = cgroup.processes()?.len();
        return refused(format!(
            "container's cgroup is not empty: {processes} process(es) found"
        ));
    }
    // A cgroup that was there before us, this one or one above, may be frozen; then the container would never
    // come up and `create` wait for ever. The root cannot be frozen.
    let depth = below_root.components().count();
    if made.len() < depth && (depth > 1 || !is_new) && cgroup.is_effectively_frozen()? {
        return Err(is_frozen(cgroup.path()));
    }
    Ok(cgroup)
}

/// The refusal of a cgroup in which nothing runs.
pub(super) fn is_frozen(path: &Path) -> Error {
    Error::new(ErrorKind::WrongStatus, "container's cgroup unexpectedly frozen")
        .with_field(FIELD)
        .with_path(path)
}

/// Makes controllers available in the cgroup, by enabling them in the cgroups above it, from the nearest one
/// that has them downwards. Controllers that the root does not have are left out: whether that matters shows
/// when a limit is written.
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
    let present = controllers_of(cgroup.dir(), cgroup.path(), Path::new("."))?;
    if controllers == Controllers::Needed && needed.iter().all(|name| has(&present, name)) {
        return Ok(());
    }
    let mut missing = controllers_of(root.dir(), root.path(), Path::new("."))?;
    missing.retain(|name| {
        !has(&present, name) && (controllers == Controllers::Every || needed.contains(&name.as_str()))
    });
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.clone();
    let mut refused = None;
    for level in levels_to_enable(root, below_root, &missing)? {
        match enable(root, &level, &missing, needed) {
            Ok(enabled) => missing = enabled,
            // Above what was delegated to this user, and done already by whoever delegated it, or never to be
            // done.
            Err(error) if error.kind() == ErrorKind::Denied => refused = Some(error),
            Err(error) if needed.iter().any(|name| has(&missing, name)) => {
                return Err(error.doing(format!("enable the controllers {}", missing.join(", "))));
            }
            // Only statistics depend on them, and cgroups with processes of their own are common on desktops.
            Err(error) => {
                log::debug!("no statistics of {}: {error}", missing.join(", "));
                break;
            }
        }
        if missing.is_empty() {
            break;
        }
    }
    let present = controllers_of(cgroup.dir(), cgroup.path(), Path::new("."))?;
    let mut absent = wanted.iter().filter(|name| !has(&present, name)).peekable();
    if absent.peek().is_some() {
        join_threaded_subtree(cgroup, needed)?;
    }
    match (absent.find(|name| needed.contains(&name.as_str())), refused) {
        (Some(name), Some(error)) => Err(error.doing(format!("enable the controller {name}"))),
        // What the limit's own file says is as good: that it is not there, and why.
        _ => Ok(()),
    }
}

const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// Controllers that also work in a threaded cgroup (kernel, cgroup-v2.rst, Threads).
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];

/// The cgroups, outermost first, that have to hand `missing` down. Those above the nearest one that has all
/// of it are left alone: for the owner of a delegated subtree they are not writable.
fn levels_to_enable(root: &CgroupRoot, below_root: &Path, missing: &[String]) -> Result<Vec<PathBuf>> {
    let mut levels = Vec::new();
    for level in below_root.ancestors().skip(1) {
        let level = if level.as_os_str().is_empty() {
            Path::new(".")
        } else {
            level
        };
        levels.push(level.to_owned());
        let available = controllers_of(root.dir(), root.path(), level)?;
        if missing.iter().all(|name| has(&available, name)) {
            break;
        }
    }
    levels.reverse();
    Ok(levels)
}

/// Hands those of `missing` down that the cgroup at `level` has; returns them. What is in `needed` must not
/// fail.
fn enable(root: &CgroupRoot, level: &Path, missing: &[String], needed: &[&str]) -> Result<Vec<String>> {
    let available = controllers_of(root.dir(), root.path(), level)?;
    let mut wanted: Vec<String> = missing
        .iter()
        .filter(|name| has(&available, name))
        .cloned()
        .collect();
    let file = level.join(SUBTREE_CONTROL);
    let failed = |errno| {
        explain_refusal(
            Error::os("write", errno).with_path(join(root.path(), &file)),
            errno,
        )
    };
    let works_threaded = |name: &str| THREADED.contains(&name);
    // The kernel would take controllers for threads alone in a cgroup with processes, and make it a threaded
    // domain for good: then the cgroups below could hold no process that is not in it already.
    let only_threaded = wanted.iter().all(|name| works_threaded(name));
    if only_threaded && level != Path::new(".") && would_become_threaded(root, level)? {
        return Err(failed(Errno::BUSY));
    }
    let errno = match write_enabled(root, &file, &wanted) {
        Ok(()) => return Ok(wanted),
        Err(errno @ (Errno::BUSY | Errno::PERM | Errno::ACCESS | Errno::ROFS)) => return Err(failed(errno)),
        Err(errno) => errno,
    };
    // In a threaded subtree some are refused always, and a single one may be (cpu, while there are realtime
    // processes outside of the root).
    let is_needed = |name: &String| needed.contains(&name.as_str());
    if errno == Errno::OPNOTSUPP {
        if wanted.iter().any(|name| is_needed(name) && !works_threaded(name)) {
            return Err(failed(errno));
        }
        wanted.retain(|name| works_threaded(name));
    }
    let mut enabled = Vec::new();
    for name in wanted {
        match write_enabled(root, &file, std::slice::from_ref(&name)) {
            Ok(()) => enabled.push(name),
            Err(errno) if is_needed(&name) => return Err(failed(errno)),
            Err(errno) => log::debug!("no statistics of {name}: {}", failed(errno)),
        }
    }
    Ok(enabled)
}

fn write_enabled(root: &CgroupRoot, file: &Path, names: &[String]) -> rustix::io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let value = format!("+{}", names.join(" +"));
    write_file(root.dir(), file, value.as_bytes())
}

/// Whether the cgroup is no threaded one yet, and has processes of its own.
fn would_become_threaded(root: &CgroupRoot, level: &Path) -> Result<bool> {
    let read = |name| {
        let file = level.join(name);
        read_file(root.dir(), &file)
            .map_err(|errno| Error::os("read", errno).with_path(join(root.path(), &file)))
    };
    Ok(read("cgroup.type")?.trim_ascii() == b"domain" && !read("cgroup.procs")?.is_empty())
}

/// The controllers that a cgroup has, and so may hand down.
fn controllers_of(dir: BorrowedFd<'_>, path: &Path, below: &Path) -> Result<Vec<String>> {
    let file = below.join("cgroup.controllers");
    let text =
        read_file(dir, &file).map_err(|errno| Error::os("read", errno).with_path(join(path, &file)))?;
    let names = String::from_utf8_lossy(&text);
    Ok(names.split_ascii_whitespace().map(str::to_owned).collect())
}

fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|present| present == name)
}

/// In a threaded subtree a new cgroup can hold processes only once it is threaded itself.
fn join_threaded_subtree(cgroup: &Cgroup, needed: &[&str]) -> Result<()> {
    let os = |call, errno| {
        Error::os(call, errno)
            .with_field(FIELD)
            .with_path(cgroup.path().join("cgroup.type"))
    };
    let kind = read_file(cgroup.dir(), "cgroup.type").map_err(|errno| os("read", errno))?;
    let kind = String::from_utf8_lossy(kind.trim_ascii()).into_owned();
    if !matches!(kind.as_str(), "domain invalid" | "threaded" | "domain threaded") {
        return Ok(());
    }
    if let Some(name) = needed.iter().find(|name| !THREADED.contains(name)) {
        let message = format!(
            "cannot enter cgroupv2 {:?} with domain controllers -- it is in {kind} mode",
            cgroup.path().display().to_string()
        );
        return Err(Error::new(ErrorKind::Unsupported, message)
            .with_field(FIELD)
            .with_hint(format!(
                "{name} does not work in a threaded subtree; choose a linux.cgroupsPath outside of it"
            )));
    }
    if kind != "domain invalid" {
        return Ok(());
    }
    write_file(cgroup.dir(), "cgroup.type", b"threaded").map_err(|errno| os("write", errno))
}

/// Why a cgroup would not hand controllers down.
fn explain_refusal(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::BUSY => error.with_field(FIELD).with_hint(
            "this cgroup has processes of its own, so it cannot hand controllers down; choose a linux.cgroupsPath \
             below a cgroup without processes",
        ),
        Errno::OPNOTSUPP => error.with_field(FIELD).with_hint("this cgroup is threaded and cannot have this controller"),
        Errno::PERM | Errno::ACCESS => error
            .with_kind(ErrorKind::Denied)
            .with_hint("the controller was not delegated to this user: see Delegate= in systemd.resource-control(5)"),
        Errno::ROFS => error.with_hint("the cgroup tree is mounted read-only"),
        Errno::NOENT => error.with_hint("a cgroup above was not given the controller"),
        _ => error,
    }
}

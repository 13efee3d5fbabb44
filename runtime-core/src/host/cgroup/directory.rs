//! Runs in: RUNTIME. One existing cgroup: its processes, freezing, killing, removing, its device filter. The
//! same for every driver, since all of it is files of the cgroup's directory. Making one is the driver's part
//! (`fs.rs`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::process::Pid;

use super::files::{READ, listed, number_of, read_file, value_of, write_file};
use super::root::{CgroupRoot, join};
use super::{bpf, membership, walk};
use crate::cancel::Freezer;
use crate::error::{CallResult, ErrorResult};
use crate::plan::cgroup::{BpfInsn, contained, leaves};
use crate::{Errno, Error, ErrorKind, Result};

/// How long [`Cgroup::freeze`] waits. A process that sleeps uninterruptibly in the kernel (on a dead network
/// file system, say) freezes only when it wakes up.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup of version 2, open. The path is the host's; what is below it belongs to the container and is not
/// trusted.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
    /// Just made by this process: nothing can be in it or attached to it yet.
    is_new: bool,
}

impl Cgroup {
    pub(super) fn new(path: PathBuf, dir: OwnedFd, is_new: bool) -> Self {
        Self { path, dir, is_new }
    }

    /// Opens the cgroup at an absolute path, as it is kept in the state. `None` if there is none (any more),
    /// or if the path leads out of the tree: another user may have written it, and other file systems can
    /// keep a call waiting for ever.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let dir = CgroupRoot::find()?.open_below(path)?;
        Ok(dir.map(|dir| Self::new(path.to_owned(), dir, false)))
    }

    /// Opens the cgroup that a process is in: for `exec`, where the container's init has moved itself and its
    /// siblings into a sub-cgroup, so that the container's own cgroup accepts no processes.
    ///
    /// # Errors
    /// No such process, or it is outside of the runtime's cgroup namespace.
    pub(crate) fn of_process(pid: Pid) -> Result<Self> {
        let below_root = membership::of_process(Some(pid))?;
        let path = join(CgroupRoot::find()?.path(), &below_root);
        Self::open(&path)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the cgroup of the process is gone")
                .with_path(path)
                .doing("open the cgroup of a process")
        })
    }

    /// Opens a sub-cgroup that must exist; `/` is this cgroup. `untrusted` cannot lead out of it.
    ///
    /// # Errors
    /// It does not exist, or the path has a `..` that leaves this cgroup.
    pub(crate) fn sub(&self, untrusted: &Path) -> Result<Self> {
        if leaves(untrusted) {
            let message = "bad sub cgroup path: it leads out of the container's cgroup";
            return Err(Error::new(ErrorKind::Invalid, message).with_path(untrusted));
        }
        let mut below = contained(untrusted)?;
        if below.as_os_str().is_empty() {
            below.push(".");
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = join(&self.path, &below);
        match rustix::fs::openat2(&self.dir, &below, flags, Mode::empty(), resolve) {
            Ok(dir) => Ok(Self::new(path, dir, false)),
            // The words of runc, which its tests look for.
            Err(errno) => Err(
                Error::os(format!("openat2 {}/cgroup.procs", path.display()), errno)
                    .doing("error adding pid to cgroups"),
            ),
        }
    }

    /// Makes a sub-cgroup, with those between, unless it is there. `below` is from config.json and cannot
    /// lead out of it; nobody but the runtime has been in here yet.
    pub(super) fn make_below(&self, below: &Path) -> Result<Self> {
        let mut prefix = PathBuf::new();
        for component in contained(below)?.components() {
            prefix.push(component);
            match rustix::fs::mkdirat(&self.dir, &prefix, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::os("mkdirat", errno).with_path(join(&self.path, &prefix))),
            }
        }
        self.sub(below)
    }

    /// The absolute path on the host, which every later command finds the cgroup by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, for `CLONE_INTO_CGROUP`.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Moves a process in, with all its threads. `clone3` with `CLONE_INTO_CGROUP` is cheaper for a new one.
    ///
    /// # Errors
    /// See [`Cgroup::explain_entry`].
    pub(crate) fn add_process(&self, pid: Pid) -> Result<()> {
        write_file(
            self.dir(),
            "cgroup.procs",
            pid.as_raw_nonzero().to_string().as_bytes(),
        )
        .map_err(|errno| {
            self.explain_entry("write", errno)
                .doing(format!("move process {pid:?} into the cgroup"))
        })
    }

    /// What it means that `call` (`clone3`, or a write to cgroup.procs) could not put a process into this
    /// cgroup.
    pub(crate) fn explain_entry(&self, call: &'static str, errno: Errno) -> Error {
        let error = Error::os(call, errno).with_path(&self.path);
        match errno {
            Errno::BUSY => {
                error.with_hint("the cgroup hands controllers down to sub-cgroups, so it can hold no processes")
            }
            Errno::OPNOTSUPP => {
                error.with_hint("the cgroup is in or below a threaded cgroup: see its cgroup.type")
            }
            Errno::NOENT | Errno::NODEV => error.with_hint("the cgroup was removed meanwhile"),
            Errno::AGAIN => error.with_hint("a limit on the number of processes, pids.max, is reached"),
            Errno::PERM | Errno::ACCESS => error.with_kind(ErrorKind::Denied).with_hint(
                "a process may only be moved by who may write to cgroup.procs of the nearest cgroup above both places: \
                 start the runtime inside of the delegated cgroup, as in: systemd-run --user --scope -p Delegate=yes",
            ),
            _ => error,
        }
    }

    /// All processes in the cgroup and below it, ascending, by their ids in the runtime's pid namespace. In a
    /// cgroup that is itself threaded these are the ids of threads.
    ///
    /// # Errors
    /// A file or directory cannot be read. That the cgroup is gone is no error: it has no processes.
    pub(crate) fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        let failed = |error: Error| error.doing(format!("list the processes of {}", self.path.display()));
        let top = match read_file(self.dir(), "cgroup.procs") {
            // In a threaded cgroup only the threads can be read.
            Err(Errno::OPNOTSUPP) => read_file(self.dir(), "cgroup.threads"),
            other => other,
        };
        add_pids(&mut pids, top).map_err(failed)?;
        let enter = |visited: walk::Visited<'_>| match read_file(visited.dir, "cgroup.procs") {
            // Threaded: the nearest domain cgroup above lists the processes of its whole threaded subtree.
            Err(Errno::OPNOTSUPP) => Ok(()),
            text => add_pids(&mut pids, text),
        };
        match walk::below(self.dir(), enter, |_, _| Ok(()), Err) {
            // A sub-cgroup of a subordinate id, closed to this ordinary user.
            Err(error) if error.errno() == Some(Errno::ACCESS) => pids.extend(self.listed_by_procfs()?),
            walked => walked.map_err(failed)?,
        }
        pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        pids.dedup(); // a process that moved during the walk was seen twice
        Ok(pids)
    }

    /// The processes of this cgroup alone, without those below it.
    ///
    /// # Errors
    /// As [`Cgroup::processes`].
    pub(crate) fn own_processes(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        add_pids(&mut pids, read_file(self.dir(), "cgroup.procs"))
            .map_err(|error| error.doing(format!("list the processes of {}", self.path.display())))?;
        Ok(pids)
    }

    /// The processes whose place, as procfs tells it to everybody, is this cgroup or below it.
    fn listed_by_procfs(&self) -> Result<Vec<Pid>> {
        let root = CgroupRoot::find()?;
        let below_root = self.path.strip_prefix(root.path()).unwrap_or(&self.path);
        let entries = std::fs::read_dir("/proc").call("read").path("/proc")?;
        let pids = entries
            .flatten() // one that has ended meanwhile
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw);
        Ok(pids
            .filter(|pid| membership::of_process(Some(*pid)).is_ok_and(|place| place.starts_with(below_root)))
            .collect())
    }

    /// Whether any process is in the cgroup or below it. Two system calls besides open and close.
    ///
    /// # Errors
    /// The file cannot be read. A cgroup that is gone is not populated.
    pub(crate) fn is_populated(&self) -> Result<bool> {
        match read_file(self.dir(), "cgroup.events") {
            Ok(text) => Ok(value_of(&text, "populated") == Some(b"1")),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(Error::os("read", errno).with_path(self.path.join("cgroup.events"))),
        }
    }

    /// Whether the container is paused: what [`Cgroup::freeze`] and [`Cgroup::thaw`] last asked for. A frozen
    /// cgroup above does not count.
    ///
    /// # Errors
    /// The file cannot be read. A cgroup that is gone is not frozen.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match read_file(self.dir(), "cgroup.freeze") {
            Ok(text) => Ok(text.trim_ascii() == b"1"),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(Error::os("read", errno).with_path(self.path.join("cgroup.freeze"))),
        }
    }

    /// Whether nothing in the cgroup runs, be it because of itself or of a cgroup above.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn is_effectively_frozen(&self) -> Result<bool> {
        match read_file(self.dir(), "cgroup.events") {
            Ok(text) => Ok(value_of(&text, "frozen") == Some(b"1")),
            Err(errno) => Err(Error::os("read", errno).with_path(self.path.join("cgroup.events"))),
        }
    }

    /// What tells somebody who waits for a process in here that none of them runs.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn freezer(&self) -> Result<Freezer> {
        let path = || self.path.join("cgroup.events");
        rustix::fs::openat(&self.dir, "cgroup.events", READ, Mode::empty())
            .map(|events| Freezer {
                events,
                path: self.path.clone(),
            })
            .map_err(|errno| Error::os("openat", errno).with_path(path()))
    }

    /// Stops all processes in the cgroup and below it, and returns once they have stopped. If they do not
    /// within ten seconds they run again.
    ///
    /// # Errors
    /// The kernel refused, or the time was up.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.write("cgroup.freeze", b"1", "freeze the cgroup")?;
        let result = self.wait_for("frozen", b"1", Instant::now() + FREEZE_PATIENCE);
        if let Ok(true) = result {
            return Ok(());
        }
        let error = match result {
            Err(error) => error,
            Ok(_) => Error::new(ErrorKind::Os, "the processes did not stop within 10 seconds")
                .with_path(&self.path),
        };
        let error = error.doing("freeze the cgroup");
        match self.thaw() {
            Ok(()) => Err(error),
            Err(other) => Err(error.and(other)),
        }
    }

    /// Lets the processes run again. They may still be stopped by a frozen cgroup above.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.write("cgroup.freeze", b"0", "thaw the cgroup")
    }

    /// Sends SIGKILL to every process in the cgroup and below it, at once and with no way to fork out of it;
    /// also to frozen ones. Returns before they are gone. A cgroup that is gone has no processes: no error.
    ///
    /// # Errors
    /// The kernel refused; in a threaded cgroup it always does.
    pub(crate) fn kill(&self) -> Result<()> {
        match write_file(self.dir(), "cgroup.kill", b"1") {
            Ok(()) | Err(Errno::NODEV) => Ok(()),
            Err(Errno::NOENT) if !self.exists()? => Ok(()),
            Err(errno) => Err(self
                .explain_entry("write", errno)
                .doing("kill the processes of the cgroup")),
        }
    }

    /// Kills all that is below it but `spared` (absolute paths, all below it). In the cgroups above a spared
    /// one, this one among them, the kernel has no such way; they are returned, and what is in them is the
    /// caller's to kill.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn kill_around(&self, spared: &[PathBuf]) -> Result<Vec<Self>> {
        let failed = |error: Error| {
            error
                .with_path(&self.path)
                .doing("kill the processes of the cgroup")
        };
        let own = walk::open(self.dir(), c".").map_err(failed)?;
        let mut above = vec![Self::new(self.path.clone(), own, false)];
        let mut next = 0;
        while let Some(parent) = above.get(next) {
            next += 1;
            let mut found = Vec::new();
            for name in walk::children(parent.dir()).map_err(failed)? {
                let path = parent.path.join(OsStr::from_bytes(name.to_bytes()));
                if spared.contains(&path) {
                    continue;
                }
                let dir = match walk::open(parent.dir(), &name) {
                    Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                    dir => dir.map_err(failed)?,
                };
                let cgroup = Self::new(path, dir, false);
                match spared.iter().any(|spared| spared.starts_with(&cgroup.path)) {
                    true => found.push(cgroup),
                    false => cgroup.kill()?,
                }
            }
            above.extend(found);
        }
        Ok(above)
    }

    /// Whether it was there before this process came to it: somebody else may know it, too.
    pub(crate) fn was_there(&self) -> bool {
        !self.is_new
    }

    /// How many processes of the cgroup, and below it, the kernel has killed because memory ran out. `None`
    /// if their memory is not accounted, or the cgroup is gone.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn oom_kills(&self) -> Result<Option<u64>> {
        match read_file(self.dir(), "memory.events") {
            Ok(text) => Ok(number_of(&text, "oom_kill")),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::os("read", errno).with_path(self.path.join("memory.events"))),
        }
    }

    /// Says that nothing has been attached to it yet, since whoever made it has made it just now.
    pub(super) fn with_nothing_attached(self) -> Self {
        Self { is_new: true, ..self }
    }

    /// Whether it has not been removed since it was opened.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn exists(&self) -> Result<bool> {
        match rustix::fs::statat(&self.dir, "cgroup.procs", AtFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(Error::os("fstatat", errno).with_path(self.path.join("cgroup.procs"))),
        }
    }

    /// Removes the cgroup with all sub-cgroups. Waits up to `patience` for processes that are dying, kills
    /// none. A cgroup that is gone already is no error. Cgroups above it stay, also those made for it, as
    /// with runc.
    ///
    /// # Errors
    /// Processes are left in it after `patience`; the error says how many.
    pub(crate) fn remove(&self, patience: Duration) -> Result<()> {
        let failed = |error: Error| error.with_path(&self.path).doing("remove the cgroup");
        let deadline = Instant::now() + patience;
        if self.remove_directory().map_err(failed)? {
            return Ok(());
        }
        let mut was_empty = false;
        loop {
            if was_empty {
                std::thread::sleep(Duration::from_millis(1)); // busy for another reason than processes: do not spin
            }
            walk::remove_below(self.dir()).map_err(failed)?;
            if self.remove_directory().map_err(failed)? {
                return Ok(());
            }
            // Somebody else has removed it; what is at its path is not ours.
            if !self.exists()? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let count = self.processes()?.len();
                let error = Error::os("rmdir", Errno::BUSY);
                return Err(failed(
                    error.with_hint(format!("{count} process(es) are still in it")),
                ));
            }
            // Not only until the event: sub-cgroups without processes, made meanwhile, are busy too.
            let round = (Instant::now() + Duration::from_millis(50)).min(deadline);
            was_empty = self.wait_for("populated", b"0", round).map_err(failed)?;
        }
    }

    /// False if the cgroup is busy.
    fn remove_directory(&self) -> Result<bool> {
        match rustix::fs::unlinkat(rustix::fs::CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(errno) => Err(Error::os("rmdir", errno)),
        }
    }

    /// Puts the device filter in force, in place of any older one, without a moment in which neither is.
    ///
    /// # Errors
    /// The privilege is missing, or the kernel refused the program.
    pub(crate) fn set_device_filter(&self, program: &[BpfInsn]) -> Result<()> {
        self.filtered(bpf::DeviceProgram::load(program)?.replace(self.dir()))
    }

    /// [`Cgroup::set_device_filter`] of a cgroup just made: there is no older filter to look for.
    pub(super) fn set_first_device_filter(&self, program: &[BpfInsn]) -> Result<()> {
        if !self.is_new {
            return self.set_device_filter(program);
        }
        self.filtered(bpf::DeviceProgram::load(program)?.attach(self.dir()))
    }

    fn filtered(&self, result: Result<()>) -> Result<()> {
        result.path(&self.path)
    }

    /// Gives the cgroup to a user, who then may make sub-cgroups, move processes among them and hand
    /// controllers down, but not change the limits of the cgroup itself. For containers with a cgroup
    /// namespace of their own and a writable cgroup mount; `uid` is the host's id of `process.user`
    /// (runtime-spec, config-linux, cgroup ownership).
    ///
    /// # Errors
    /// The owner cannot be changed.
    pub(crate) fn delegate(&self, uid: rustix::fs::Uid) -> Result<()> {
        const LIST: &str = "/sys/kernel/cgroup/delegate";
        let failed = |error: Error| error.doing("delegate the cgroup");
        let list = match std::fs::read_to_string(LIST) {
            // No sysfs here: what every kernel since 4.15 has in it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "cgroup.procs\ncgroup.threads\ncgroup.subtree_control".to_owned()
            }
            list => list.map_err(|error| failed(Error::os("read", error).with_path(LIST)))?,
        };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        for file in std::iter::once(".").chain(list.lines()) {
            match rustix::fs::chownat(&self.dir, file, Some(uid), None, nofollow) {
                // The kernel's list holds files of controllers that are not enabled here.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(failed(
                        Error::os("fchownat", errno).with_path(self.path.join(file)),
                    ));
                }
            }
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &[u8], doing: &'static str) -> Result<()> {
        write_file(self.dir(), file, value).map_err(|errno| {
            Error::os("write", errno)
                .with_path(self.path.join(file))
                .doing(doing)
        })
    }

    /// Waits until `cgroup.events` has the value for the key; false if it has not by the deadline. A cgroup
    /// that is gone has every value.
    fn wait_for(&self, key: &str, wanted: &[u8], deadline: Instant) -> Result<bool> {
        let failed =
            |call: &'static str, errno| Error::os(call, errno).with_path(self.path.join("cgroup.events"));
        let events = match rustix::fs::openat(&self.dir, "cgroup.events", READ, Mode::empty()) {
            Ok(events) => events,
            Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
            Err(errno) => return Err(failed("openat", errno)),
        };
        // The kernel holds back a notification that follows another within 10 ms, so the first waits are
        // shorter.
        let mut pause = Duration::from_millis(1);
        loop {
            let mut text = [0; 256];
            let length = match rustix::io::pread(&events, &mut text, 0) {
                Ok(length) => length,
                Err(Errno::NODEV) => return Ok(true),
                Err(errno) => return Err(failed("pread", errno)),
            };
            if value_of(&text[..length], key) == Some(wanted) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(pause.min(left).subsec_nanos()),
            };
            pause = (pause * 2).min(Duration::from_millis(500));
            match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("poll", errno)),
            }
        }
    }
}

fn add_pids(pids: &mut Vec<Pid>, text: rustix::io::Result<Vec<u8>>) -> Result<()> {
    let text = match text {
        Ok(text) => text,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()), // the cgroup was removed, so it had no processes
        Err(errno) => return Err(Error::os("read", errno).with_path("cgroup.procs")),
    };
    pids.extend(listed(&text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_lists_skip_processes_without_an_id() {
        let mut pids = Vec::new();
        add_pids(&mut pids, Ok(b"12\n0\n7\n".to_vec())).unwrap();
        add_pids(&mut pids, Err(Errno::NODEV)).unwrap();
        assert_eq!(
            pids.iter()
                .map(|pid| pid.as_raw_nonzero().get())
                .collect::<Vec<_>>(),
            [12, 7]
        );
        assert!(add_pids(&mut pids, Err(Errno::ACCESS)).is_err());
    }
}

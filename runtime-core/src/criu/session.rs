//! Runs in: RUNTIME. One job of criu from start to end: its options, the conversation, and what a failure is
//! made into.

use runtime_sys::namespace::Kinds;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use super::connection::{Connection, Event, request};
use super::images::{Directories, Directory};
use super::log::reason;
use super::options::{CriuOptions, ManageCgroups, NetworkLock};
use super::process::{self, Start};
use super::program::{config_file, has_iptables};
use super::rpc::{CgroupMode, Features, Kind, NetworkLock as Lock, Notification, Options, Request, Response};
use crate::cancel::Freezer;
use crate::error::{CallResult, ErrorResult, told_errno};
use crate::host::process::Stat;
use crate::host::state::Record;
use crate::parent::child::{Launched, pid_of};
use crate::plan::HostFacts;
use crate::{Cancel, Error, ErrorKind, Result};

/// RUNTIME's part in what criu does.
pub(crate) trait Attendant {
    /// Something has happened; criu waits. An error makes it undo what it has done.
    fn attend(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<()>;

    /// The container's first process, once criu has told which it is.
    fn init(&self) -> Option<&Launched> {
        None
    }
}

/// How often is looked whether a restore stands still.
const TICK: Duration = Duration::from_millis(500);

/// How many looks in a row have to say so.
const LOOKS: u32 = 10;

/// A criu process that waits for requests.
#[derive(Debug)]
pub(crate) struct Session {
    process: Launched,
    connection: Connection,
    log: Log,
    cancel: Cancel,
    version: (i32, i32),
}

impl Session {
    /// Starts criu, which will write what it does into this log.
    pub(crate) fn open(start: &Start<'_>, log: &'static str, cancel: Cancel) -> Result<Self> {
        start.directories.clear_work(log)?;
        let log = Log::new(start.directories.work(), log)?;
        let (process, connection) = process::start(start)?;
        let version = connection.check_version()?;
        log::debug!("criu {}.{}", version.major, version.minor);
        Ok(Self {
            process,
            connection,
            log,
            cancel,
            version: (version.major, version.minor),
        })
    }

    /// criu's pid.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid
    }

    /// criu is in this cgroup, which somebody may freeze while it restores.
    pub(crate) fn give_up_when_frozen(&mut self, cgroup: Option<Freezer>) {
        self.cancel = self.cancel.or_when_frozen(cgroup);
    }

    /// Its version, without the last number.
    pub(crate) fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Refuses what this criu cannot do on this kernel.
    pub(crate) fn need(&self, wanted: Features) -> Result<()> {
        let there = self.connection.check_features(wanted)?;
        let missing = |wanted: Option<bool>, there: Option<bool>| wanted == Some(true) && there != Some(true);
        let text = match there {
            _ if missing(wanted.mem_track, there.mem_track) => {
                "criu cannot track changes of memory on this kernel (CONFIG_MEM_SOFT_DIRTY), which a pre-dump needs"
            }
            _ if missing(wanted.lazy_pages, there.lazy_pages) => {
                "criu cannot restore memory lazily on this kernel (CONFIG_USERFAULTFD)"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// Has the job done.
    pub(crate) fn run(self, kind: Kind, options: Options, attendant: &mut dyn Attendant) -> Result<Response> {
        let request = Request {
            options: Some(options),
            ..request(kind)
        };
        self.connection.send(&request)?;
        let mut refused = None;
        let answer = loop {
            // On the way out of here criu is killed.
            self.wait(attendant.init())?;
            let (notification, fd) = match self.connection.receive() {
                Ok(Event::Notification(notification, fd)) => (notification, fd),
                Ok(Event::Done(response)) => break Ok(response),
                Err(error) => break Err(error),
            };
            log::debug!("criu: {}", notification.script());
            let attended = match refused {
                None => attendant.attend(&notification, fd),
                // It is undoing everything; what it tells about that is not for us.
                Some(_) => Ok(()),
            };
            let goes_on = attended.is_ok() && refused.is_none();
            refused = refused.or(attended.err());
            self.connection.acknowledge(goes_on)?;
        };
        // It ends by itself now, after the last clean-up; a failure of that is told by its answer.
        drop(self.connection);
        let ended = process::finish(self.process);
        match (refused, answer) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(explain(error, &self.log)),
            (None, Ok(response)) if !response.success => Err(explain(failure(&response), &self.log)),
            (None, Ok(response)) => ended
                .map(|()| response)
                .map_err(|error| explain(error, &self.log)),
        }
    }

    /// Waits for criu's next word.
    ///
    /// When a restore fails late criu kills the container's first process and waits for it. The kernel lets
    /// that end only after all others of its pid namespace have been reaped, which criu, who traces them,
    /// does not do: both wait for ever.
    fn wait(&self, init: Option<&Launched>) -> Result<()> {
        let Some(init) = init else {
            return self.cancel.wait_readable(self.connection.as_fd());
        };
        let pid = pid_of(init.pid)?;
        let (mut looks, mut frozen) = (0, None);
        while !self
            .cancel
            .wait_readable_for(self.connection.as_fd(), Some(TICK))?
        {
            self.cancel.check_frozen(&mut frozen)?;
            // We have not reaped it, so the pid is still its own.
            let is_ending = Stat::read(pid)?.is_some_and(Stat::is_ending);
            looks = if is_ending { looks + 1 } else { 0 };
            if looks == LOOKS {
                let error = Error::new(
                    ErrorKind::Os,
                    "criu failed, and waits for processes that wait for it",
                );
                return Err(explain(error, &self.log));
            }
        }
        Ok(())
    }
}

fn failure(response: &Response) -> Error {
    let error = Error::new(ErrorKind::Os, "criu failed");
    match response.errno.and_then(told_errno) {
        // Where criu knows a reason.
        Some(errno) => Error::os("criu", errno),
        None => error,
    }
}

/// Where criu writes what it does.
#[derive(Debug)]
struct Log {
    directory: OwnedFd,
    name: &'static str,
    path: PathBuf,
}

impl Log {
    fn new(directory: &Directory, name: &'static str) -> Result<Self> {
        let path = directory.file(name);
        let copy = directory.fd.try_clone();
        Ok(Self {
            directory: copy.call("fcntl").path(&path)?,
            name,
            path,
        })
    }
}

/// With the log, and what is in it.
fn explain(error: Error, log: &Log) -> Error {
    match reason(log.directory.as_fd(), log.name) {
        Some(line) => error.with_hint(line).with_path(&log.path),
        None => error.with_path(&log.path),
    }
}

/// criu does its work with nearly every privilege there is.
pub(crate) fn need_root(facts: &HostFacts) -> Result<()> {
    if facts.is_rootless {
        let text = "checkpoint and restore need root: criu does not work for ordinary users";
        return Err(Error::new(ErrorKind::Denied, text));
    }
    Ok(())
}

/// The options that dump and restore have in common.
pub(crate) fn common_options(
    options: &CriuOptions,
    directories: &Directories,
    record: &Record,
    (version, shares_network): ((i32, i32), bool),
) -> Result<Options> {
    /// The oldest criu that can do without locking the network.
    const KNOWS_SKIP: (i32, i32) = (3, 18);

    let mode = match options.manage_cgroups {
        ManageCgroups::Soft => CgroupMode::Soft,
        ManageCgroups::Full => CgroupMode::Full,
        ManageCgroups::Strict => CgroupMode::Strict,
        ManageCgroups::Ignore => CgroupMode::Ignore,
    };
    // Others are in a namespace by path, and a lock would stay there: criu takes it away only at a restore,
    // and then fails because it is there already. What it is for is connections, which go with
    // `tcp_established` only.
    let is_needless = shares_network && !options.tcp_established && version >= KNOWS_SKIP;
    let lock = match options.network_lock {
        NetworkLock::Default if is_needless => Some(Lock::Skip),
        // criu's own default, which it does not give up where the program for it is missing.
        NetworkLock::Default if has_iptables() => None,
        NetworkLock::Default => Some(Lock::Nftables),
        NetworkLock::Iptables => Some(Lock::Iptables),
        NetworkLock::Nftables => Some(Lock::Nftables),
        NetworkLock::Skip => Some(Lock::Skip),
    };
    let annotation = record.annotations.get("org.criu.config").map(String::as_str);
    Ok(Options {
        images_dir_fd: directories.images_number(),
        work_dir_fd: directories.work_number(),
        log_level: Some(4),
        notify_scripts: Some(true),
        tcp_established: Some(options.tcp_established),
        ext_unix_sk: Some(options.external_unix_sockets),
        shell_job: Some(options.shell_job),
        file_locks: Some(options.file_locks),
        auto_dedup: Some(options.auto_dedup),
        lazy_pages: Some(options.lazy_pages),
        orphan_pts_master: Some(true),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(mode.into()),
        network_lock: lock.map(Into::into),
        config_file: config_file(annotation)?,
        // What a network looks like is the business of whoever made it, at a restore as at `create`.
        empty_ns: Some(Kinds::NETWORK.bits()),
        ..Options::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_criu_that_is_no_errno_is_no_reason() {
        let text = |errno| {
            let response = Response {
                errno,
                ..Response::default()
            };
            failure(&response).to_string()
        };
        assert_eq!(text(Some(22)), "criu: invalid argument");
        for errno in [None, Some(0), Some(-22), Some(4096), Some(i32::MAX)] {
            assert_eq!(text(errno), "criu failed", "{errno:?}");
        }
    }
}

//! Runs in: SUITE. Namespaces, and network devices in them.

pub(crate) mod kinds;
pub(crate) mod net_devices;
pub(crate) mod owners;

use crate::{
    case::Case,
    children,
    need::Need,
    outcome::{Check, Stop, fail},
    runner::{self, Live},
};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::Signal,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    process::Command,
    thread,
};

pub(crate) fn mapping(container: u32, host: u32, size: u32) -> Value {
    json!({"containerID": container, "hostID": host, "size": size})
}

/// Gives the container a new user namespace with these ranges, for uids and gids alike.
pub(crate) fn user_namespace(c: &mut Case, ranges: &[Value]) {
    c.join_namespace("user", None);
    c.linux().uid_mappings(ranges);
    c.linux().gid_mappings(ranges);
}

/// Runs a test on a thread that has left the host's network; what it starts is born there too.
pub(crate) fn in_own_network<T: Send>(
    c: &mut Case,
    test: impl FnOnce(&mut Case) -> Check<T> + Send,
) -> Check<T> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        match ip(c, "link add type veth") {
            Err(_) => Err(Stop::Unsupported("the kernel has no veth devices".into())),
            Ok(()) => test(c),
        }
    })
}

pub(crate) fn on_a_thread<T: Send>(body: impl FnOnce() -> Check<T> + Send) -> Check<T> {
    thread::scope(|scope| {
        let body = scope.spawn(body);
        body.join()
            .unwrap_or_else(|_| fail("the thread of the test ended"))
    })
}

/// `ip` in the network namespace of this thread.
pub(crate) fn ip(c: &Case, words: &str) -> Check {
    let mut command = Command::new("/bin/busybox");
    command.arg("ip").args(words.split(' '));
    runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    Ok(())
}

/// A second network namespace, there as long as this is.
pub(crate) struct Network(File);

impl Network {
    pub(crate) fn new() -> Check<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self(File::open("/proc/thread-self/ns/net")?))
        })
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn inside<T: Send>(&self, body: impl FnOnce() -> Check<T> + Send) -> Check<T> {
        on_a_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            body()
        })
    }
}

/// unshare(1) with every kind of namespace: that of util-linux, not busybox's. lsns comes with it.
pub(crate) const UNSHARE: &[Need] = &[Need::Program("lsns")];

/// A process with new namespaces of every kind; it ends with the value.
pub(crate) struct Holder(Live);

impl Holder {
    /// `ids`: with a user namespace, which owns the others, and these ids.
    pub(crate) fn start(c: &Case, ids: Option<u32>) -> Check<Self> {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["-n", "-i", "-u", "-C", "-T", "-p", "--fork", "--kill-child"]);
        command.args(["-m", "--propagation", "private"]);
        if ids.is_some() {
            command.arg("-U");
        }
        command.args(["sleep", "1000"]);
        let holder = Self(runner::start(&mut command, &c.dir)?);
        let own = fs::read_link("/proc/self/ns/pid")?;
        // There is none before its first process.
        let theirs = || fs::read_link(holder.path("pid"));
        c.wait_until("a pid namespace", || {
            Ok(theirs().is_ok_and(|theirs| theirs != own))
        })?;
        if let Some(first) = ids {
            for map in ["uid_map", "gid_map"] {
                fs::write(
                    format!("/proc/{}/{map}", holder.0.pid),
                    format!("0 {first} 65536"),
                )?;
            }
        }
        Ok(holder)
    }

    pub(crate) fn path(&self, kind: &str) -> String {
        let name = match kind {
            "pid" => "pid_for_children",
            "time" => "time_for_children",
            other => name_of(other),
        };
        format!("/proc/{}/ns/{name}", self.0.pid)
    }

    fn link(&self, kind: &str) -> Check<String> {
        Ok(fs::read_link(self.path(kind))?.to_string_lossy().into_owned())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        children::signal(self.0.pid, Signal::SIGKILL);
    }
}

pub(crate) fn name_of(kind: &str) -> &str {
    match kind {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    }
}

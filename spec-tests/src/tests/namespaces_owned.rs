//! config-linux.md, namespaces: "the runtime MUST place the container process in the namespace associated with that path",
//! whichever user namespace owns it, and whichever the container is in.

use crate::{
    case::Case,
    children,
    need::Need,
    outcome::{Check, ensure, same},
    runner::{self, Live},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, process::Command};

/// Who owns the namespace that is given by path.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Host,
    /// A user namespace that is not the container's.
    Other,
    /// The user namespace that the container joins, by another path.
    Own,
}

/// The container's user namespace.
#[derive(Clone, Copy, PartialEq)]
enum User {
    Hosts,
    New,
    Joined,
}

macro_rules! each_kind {
    ($($kind:literal)*) => { tests! { @list $(
        (concat!("namespaces/owned_by_host_", $kind), [UNSHARE], |c| place(c, $kind, Owner::Host, User::Hosts)),
        (concat!("namespaces/owned_by_host_", $kind, "_new_user"), [UNSHARE], |c| place(c, $kind, Owner::Host, User::New)),
        (concat!("namespaces/owned_by_host_", $kind, "_joined_user"), [UNSHARE], |c| place(c, $kind, Owner::Host, User::Joined)),
        (concat!("namespaces/owned_by_other_", $kind), [UNSHARE], |c| place(c, $kind, Owner::Other, User::Hosts)),
        (concat!("namespaces/owned_by_other_", $kind, "_new_user"), [UNSHARE], |c| place(c, $kind, Owner::Other, User::New)),
        (concat!("namespaces/owned_by_other_", $kind, "_joined_user"), [UNSHARE], |c| place(c, $kind, Owner::Other, User::Joined)),
        (concat!("namespaces/owned_by_own_", $kind, "_joined_user"), [UNSHARE], |c| place(c, $kind, Owner::Own, User::Joined)),
    )* } };
}

/// unshare(1) with every kind of namespace: that of util-linux, not busybox's. lsns comes with it.
pub(super) const UNSHARE: &[Need] = &[Need::Program("lsns")];

each_kind!("network" "ipc" "uts" "cgroup" "time" "mount" "pid");

const IDS: u32 = 100_000;
const IDS_OF_OTHER: u32 = 300_000;

/// A process with new namespaces of every kind; it ends with the value.
pub(super) struct Holder(Live);

impl Holder {
    /// `ids`: with a user namespace, which owns the others, and these ids.
    pub(super) fn start(c: &Case, ids: Option<u32>) -> Check<Self> {
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

    pub(super) fn path(&self, kind: &str) -> String {
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

fn name_of(kind: &str) -> &str {
    match kind {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    }
}

fn place(c: &mut Case, kind: &str, owner: Owner, user: User) -> Check {
    let other = match owner {
        Owner::Host => Some(Holder::start(c, None)?),
        Owner::Other => Some(Holder::start(c, Some(IDS_OF_OTHER))?),
        Owner::Own => None,
    };
    let own = match user {
        User::Joined => Some(Holder::start(c, Some(IDS))?),
        User::Hosts | User::New => None,
    };
    if user != User::Hosts {
        c.map_ids(IDS)?;
    }
    if let Some(own) = &own {
        c.join_namespace("user", Some(&own.path("user")));
    }
    let Some(holder) = other.as_ref().or(own.as_ref()) else {
        return Ok(());
    };
    c.join_namespace(kind, Some(&holder.path(kind)));
    leave_to_the_owner(c, kind, owner, user);
    if kind == "mount" && user != User::Hosts && owner != Owner::Own {
        // Nobody in the container's user namespace may mount there (mount_namespaces(7)).
        c.create()?.refused()?;
        return c.nothing_left();
    }
    c.start_sleeper()?;
    let init = format!("/proc/{}/ns/{}", c.pid()?, name_of(kind));
    same(
        "of init",
        holder.link(kind)?,
        fs::read_link(init)?.to_string_lossy().into_owned(),
    )?;
    let report = c.exec_probe(&[], &[])?;
    is_placed(&report, kind, holder, own.as_ref(), user)?;
    c.delete()?;
    c.nothing_left()
}

fn is_placed(report: &Value, kind: &str, holder: &Holder, own: Option<&Holder>, user: User) -> Check {
    let seen = |name: &str| report["ns"][name].as_str().unwrap_or_default().to_owned();
    same(kind, holder.link(kind)?, seen(name_of(kind)))?;
    let host = fs::read_link("/proc/self/ns/user")?
        .to_string_lossy()
        .into_owned();
    match (own, user) {
        (Some(own), _) => same("user", own.link("user")?, seen("user"))?,
        (None, User::Hosts) => same("user", host, seen("user"))?,
        (None, _) => ensure!(seen("user") != host, "user: wish a new one, reality the host's"),
    }
    if user != User::Hosts {
        let map = report["uid_map"].as_str().unwrap_or_default();
        let words: Vec<_> = map.split_whitespace().collect();
        same("uid_map", vec!["0", "100000", "65536"], words)?;
    }
    same("uids", json!([0, 0, 0]), report["uids"].clone())
}

/// What a container may do only with rights over the namespace: its name, and file systems that show it.
fn leave_to_the_owner(c: &mut Case, kind: &str, owner: Owner, user: User) {
    if kind == "uts"
        && let Some(config) = c.config.as_object_mut()
    {
        config.remove("hostname");
    }
    let shown = match kind {
        _ if user == User::Hosts || owner == Owner::Own => return,
        "network" => "/sys",
        "ipc" => "/dev/mqueue",
        "pid" => "/proc",
        _ => return,
    };
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != shown);
    }
    // As Podman does it.
    if shown == "/proc" {
        c.mount(json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}));
    }
}

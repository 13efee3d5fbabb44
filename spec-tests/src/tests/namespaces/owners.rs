//! config-linux.md, namespaces: "the runtime MUST place the container process in the namespace associated
//! with that path", whichever user namespace owns it, and whichever the container is in.

use super::{Holder, UNSHARE, name_of};
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, ensure, same},
    seen::Report,
};
use std::fs;

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

each_kind!("network" "ipc" "uts" "cgroup" "time" "mount" "pid");

const IDS: u32 = 100_000;
const IDS_OF_OTHER: u32 = 300_000;

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

fn is_placed(report: &Report, kind: &str, holder: &Holder, own: Option<&Holder>, user: User) -> Check {
    let seen = |name: &str| report.ns[name].as_str().to_owned();
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
        let map = report.uid_map.as_str();
        let words: Vec<_> = map.split_whitespace().collect();
        same("uid_map", vec!["0", "100000", "65536"], words)?;
    }
    same("uids", [0, 0, 0], report.uids)
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
        c.mount(Mount::bind("/proc", "/proc").options(["rbind"]));
    }
}

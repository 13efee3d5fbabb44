//! Runs in: SUITE. The runtime run by an ordinary user.

pub(crate) mod other_topics;
pub(crate) mod users;

use crate::{
    case::Case,
    need::Need,
    outcome::{Check, fail},
    user::{COUNT, FIRST, UID, User},
};
use serde_json::{Value, json};

pub(crate) const RANGES: &[Need] = &[
    Need::Program("newuidmap"),
    Need::Program("setpriv"),
    Need::Program("unshare"),
];

/// The case is the user's from here on, with a config.json that asks for nothing that needs root.
pub(crate) fn ordinary_user(c: &mut Case) -> Check {
    c.user = Some(User::new(c.host, &c.dir)?);
    c.join_namespace("user", None);
    map(c, &json!([{"containerID": 0, "hostID": UID, "size": 1}]));
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
        linux.remove("resources");
    }
    for entry in c.config["mounts"].as_array_mut().into_iter().flatten() {
        if let Some(options) = entry["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
    Ok(())
}

pub(crate) fn map(c: &mut Case, ranges: &Value) {
    c.linux().uid_mappings(ranges.clone());
    c.linux().gid_mappings(ranges.clone());
}

pub(crate) fn user_with_ranges(c: &mut Case) -> Check {
    ordinary_user(c)?;
    user(c)?.with_ranges()?;
    map(
        c,
        &json!([
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": FIRST, "size": COUNT}
        ]),
    );
    Ok(())
}

pub(crate) fn user(c: &mut Case) -> Check<&mut User> {
    match &mut c.user {
        Some(user) => Ok(user),
        None => fail("the test has no user yet"),
    }
}

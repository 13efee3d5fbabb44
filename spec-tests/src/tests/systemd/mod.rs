//! Runs in: SUITE. The systemd driver.

pub(crate) mod agreement;
pub(crate) mod limits;
pub(crate) mod units;

use crate::{
    case::Case,
    need::Need,
    outcome::{Check, ensure, same},
    runner::{self, Run},
};
use serde_json::json;
use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

pub(crate) const SYSTEMD: &[Need] = &[Need::Systemd];

/// Runs the runtime with the driver's flag in front of the command.
pub(crate) fn with_systemd<S: AsRef<std::ffi::OsStr>>(c: &Case, args: &[S]) -> Check<Run> {
    runner::start(c.command().arg("--systemd-cgroup").args(args), &c.dir)?.finish()
}

pub(crate) fn create(c: &Case) -> Check<Run> {
    with_systemd(c, &c.bundle_args("create", &[], &c.id)?)
}

/// A sleeping container in `system.slice/st-ID.scope`.
pub(crate) fn start_sleeper(c: &mut Case) -> Check {
    use_scope(c);
    c.args(&["/bin/sleep", "1000"]);
    create(c)?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    Ok(())
}

pub(crate) fn use_scope(c: &mut Case) {
    c.config["linux"]["cgroupsPath"] = json!(format!("system.slice:st:{}", c.id));
}

pub(crate) fn unit(c: &Case) -> String {
    format!("st-{}.scope", c.id)
}

pub(crate) fn cgroup(c: &Case) -> PathBuf {
    c.host.cgroup2.join("system.slice").join(unit(c))
}

pub(crate) fn file(c: &Case, name: &str) -> Check<String> {
    Ok(fs::read_to_string(cgroup(c).join(name))?.trim().to_owned())
}

pub(crate) fn command(c: &Case, words: &[&str]) -> Check<Run> {
    let (program, args) = words.split_first().unwrap_or((&"true", &[]));
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()
}

pub(crate) fn systemctl(c: &Case, args: &[&str]) -> Check<Run> {
    // A reload reads all units again, which takes long in an emulated machine.
    let mut command = Command::new("systemctl");
    command.args(args).stdin(Stdio::null());
    runner::start(&mut command, &c.dir)?
        .finish_within(Duration::from_secs(90))?
        .ok()
}

/// Properties of a unit, as text.
pub(crate) fn show(c: &Case, unit: &str) -> Check<HashMap<String, String>> {
    let run = systemctl(c, &["show", unit])?;
    let pairs = run.stdout.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

pub(crate) fn has(properties: &HashMap<String, String>, wishes: &[(&str, &str)]) -> Check {
    for (name, wish) in wishes {
        same(name, Some(*wish), properties.get(*name).map(String::as_str))?;
    }
    Ok(())
}

/// No unit whose name has the container's id in it may be loaded, also none that has failed.
pub(crate) fn no_unit_left(c: &Case) -> Check {
    let pattern = format!("*{}.scope", c.id);
    let list = systemctl(c, &["list-units", "--all", "--no-legend", "--plain", &pattern])?;
    same("units left", "", list.stdout.trim())?;
    ensure!(!cgroup(c).exists(), "{} is still there", cgroup(c).display());
    c.nothing_left()
}

/// The node by which systemd names a disk.
pub(crate) fn node(disk: (u64, u64)) -> Check<String> {
    let uevent = fs::read_to_string(format!("/sys/dev/block/{}:{}/uevent", disk.0, disk.1))?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    Ok(format!("/dev/{}", name.unwrap_or_default()))
}

/// systemd may name the disk as it was told, or by its node.
pub(crate) fn names_disk(shown: &HashMap<String, String>, key: &str, disk: (u64, u64), value: &str) -> Check {
    let text = shown.get(key).map_or("", String::as_str);
    let wishes = [
        format!("{} {value}", node(disk)?),
        format!("/dev/block/{}:{} {value}", disk.0, disk.1),
    ];
    ensure!(
        wishes.iter().any(|wish| text.contains(wish)),
        "{key}: wish {wishes:?}, reality {text:?}"
    );
    Ok(())
}

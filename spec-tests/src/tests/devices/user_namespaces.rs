//! config-linux.md, Devices, in containers with a user namespace, which may make no node that can be used.

use super::{check_directory, check_ptmx};
use crate::{
    case::Case,
    config::{Device, DeviceRule},
    faults::where_forbidden,
    outcome::{Check, ensure, same},
    seen::{Access, Report},
    tests::namespaces::{Holder, UNSHARE},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

tests! {
    devices/user_namespace_mode_and_owner,
    devices/user_namespace_ids_that_are_not_mapped,
    devices/user_namespace_node_that_the_host_has_not,
    devices/user_namespace_node_can_be_used,
    devices/user_namespace_all_that_the_host_has,
    devices/user_namespace_bound_without_programs,
    devices/user_namespace_node_that_the_rootfs_has,
    devices/user_namespace_nothing_else_is_mounted,
    devices/ptmx_is_the_containers_own,
    devices/user_namespace_ptmx_is_the_containers_own,
    devices/entry_on_a_directory_is_left_out,
    devices/user_namespace_entry_on_a_directory_is_left_out,
    devices/hosts_node_where_mknod_is_forbidden,
    devices/user_namespace_hosts_node_where_mknod_is_forbidden,
}

tests! {
    devices/joined_user_namespace_mode_and_owner: UNSHARE,
    devices/joined_user_namespace_all_that_the_host_has: UNSHARE,
}

const IDS: u32 = 100_000;

/// Type, number, mode and owner of a file, of the probe's `--stat`.
fn node(report: &Report, path: &str) -> Value {
    let stat = &report.stat[path];
    json!([stat.kind, stat.major, stat.minor, stat.mode, stat.uid, stat.gid])
}

/// The container's user namespace is that of a process that has mapped these ids.
fn join(c: &mut Case) -> Check<Holder> {
    let holder = Holder::start(c, Some(IDS))?;
    c.map_ids(IDS)?;
    c.join_namespace("user", Some(&holder.path("user")));
    Ok(holder)
}

fn check_mode_and_owner(c: &mut Case) -> Check {
    c.linux().devices([
        Device::new()
            .path("/dev/loop-control")
            .kind("c")
            .major(10)
            .minor(237)
            .file_mode(0o640)
            .uid(1)
            .gid(2),
        Device::new()
            .path("/dev/zero")
            .kind("c")
            .major(1)
            .minor(5)
            .file_mode(0o600)
            .uid(3)
            .gid(3),
        Device::new().path("/dev/plain").kind("c").major(1).minor(3),
        Device::new()
            .path("/dev/block/8:300")
            .kind("b")
            .major(8)
            .minor(300)
            .file_mode(0o606)
            .uid(65535)
            .gid(0),
        Device::new()
            .path("/dev/fifo")
            .kind("p")
            .file_mode(0o622)
            .uid(4)
            .gid(5),
    ]);
    let wish = json!([
        ["/dev/loop-control", ["char", 10, 237, 0o640, 1, 2]],
        ["/dev/zero", ["char", 1, 5, 0o600, 3, 3]],
        ["/dev/plain", ["char", 1, 3, 0o666, 0, 0]],
        ["/dev/block/8:300", ["block", 8, 300, 0o606, 65535, 0]],
        ["/dev/fifo", ["fifo", 0, 0, 0o622, 4, 5]]
    ]);
    let paths = [
        "/dev/loop-control",
        "/dev/zero",
        "/dev/plain",
        "/dev/block/8:300",
        "/dev/fifo",
    ];
    let options: Vec<&str> = paths.iter().flat_map(|path| ["--stat", path]).collect();
    let report = c.probe(&options)?;
    let reality: Vec<Value> = paths
        .iter()
        .map(|path| json!([path, node(&report, path)]))
        .collect();
    same("type, number, mode and owner", wish, json!(reality))
}

fn user_namespace_mode_and_owner(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    check_mode_and_owner(c)
}

fn joined_user_namespace_mode_and_owner(c: &mut Case) -> Check {
    let _holder = join(c)?;
    check_mode_and_owner(c)
}

/// They are nobody's, and not root's.
fn user_namespace_ids_that_are_not_mapped(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    c.linux().devices([
        Device::new()
            .path("/dev/a")
            .kind("c")
            .major(1)
            .minor(3)
            .file_mode(0o660)
            .uid(70000)
            .gid(0),
        Device::new()
            .path("/dev/b")
            .kind("c")
            .major(1)
            .minor(3)
            .file_mode(0o660)
            .uid(0)
            .gid(4_000_000_000_u32),
    ]);
    let report = c.probe(&["--stat", "/dev/a", "--stat", "/dev/b"])?;
    same(
        "/dev/a",
        json!(["char", 1, 3, 0o660, 65534, 0]),
        node(&report, "/dev/a"),
    )?;
    same(
        "/dev/b",
        json!(["char", 1, 3, 0o660, 0, 65534]),
        node(&report, "/dev/b"),
    )
}

fn user_namespace_node_that_the_host_has_not(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    c.linux().devices([Device::new()
        .path("/dev/of/its/own")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    let report = c.probe(&["--stat", "/dev/of/its/own", "--access", "/dev/of/its/own"])?;
    same(
        "/dev/of/its/own",
        json!(["char", 1, 3, 0o666, 0, 0]),
        node(&report, "/dev/of/its/own"),
    )?;
    same("its use", Access::new(0, 0), report.access["/dev/of/its/own"])
}

/// The node is alive, its mode counts, and so does the device filter.
fn user_namespace_node_can_be_used(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    c.linux().devices([
        Device::new()
            .path("/dev/open")
            .kind("c")
            .major(10)
            .minor(237)
            .file_mode(0o600),
        Device::new()
            .path("/dev/closed")
            .kind("c")
            .major(10)
            .minor(237)
            .file_mode(0o600)
            .uid(5),
    ]);
    let rule = |access: &str| {
        json!([{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": access}])
    };
    c.resources().clear().devices(rule("rwm"));
    let options = ["--access", "/dev/open", "--access", "/dev/closed"];
    let report = c.probe(&options)?;
    same("allowed", Access::new(0, 0), report.access["/dev/open"])?;
    same(
        "closed",
        Access::new(EACCES, EACCES),
        report.access["/dev/closed"],
    )?;
    c.resources().clear().devices(rule("m"));
    let report = c.probe(&options)?;
    same(
        "not allowed",
        Access::new(EPERM, EPERM),
        report.access["/dev/open"],
    )?;
    same(
        "closed",
        Access::new(EACCES, EACCES),
        report.access["/dev/closed"],
    )
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// The list that engines make for privileged containers: all nodes below /dev but the console and what is in
/// these directories.
fn devices_of_host(directory: &str, into: &mut Vec<Value>) -> Check {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{directory}/{name}");
        let metadata = fs::symlink_metadata(&path)?;
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => {
                if !["pts", "shm", "fd", "mqueue"].contains(&&*name) {
                    devices_of_host(&path, into)?;
                }
                continue;
            }
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => continue,
        };
        if name == "console" {
            continue;
        }
        let number = metadata.rdev();
        into.push(json!({"path": path, "type": kind, "major": nix::sys::stat::major(number),
            "minor": nix::sys::stat::minor(number), "fileMode": metadata.mode() & 0o777, "uid": metadata.uid(),
            "gid": metadata.gid()}));
    }
    Ok(())
}

fn user_namespace_all_that_the_host_has(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    check_all_of_the_host(c)
}

fn joined_user_namespace_all_that_the_host_has(c: &mut Case) -> Check {
    let _holder = join(c)?;
    check_all_of_the_host(c)
}

fn check_all_of_the_host(c: &mut Case) -> Check {
    let mut devices = Vec::new();
    devices_of_host("/dev", &mut devices)?;
    devices.push(json!({"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666, "uid": 0, "gid": 5}));
    c.linux().devices(&devices);
    c.resources()
        .clear()
        .devices([DeviceRule::new().allow(true).access("rwm")]);
    devices.retain(|device| device["path"] != "/dev/ptmx");
    ensure!(devices.len() > 5, "the host's /dev has no nodes: {devices:?}");
    let paths: Vec<&str> = devices
        .iter()
        .filter_map(|device| device["path"].as_str())
        .collect();
    let options: Vec<&str> = paths.iter().flat_map(|path| ["--stat", path]).collect();
    let report = c.probe(&options)?;
    for device in &devices {
        let path = device["path"].as_str().unwrap_or_default();
        let kind = if device["type"] == "c" { "char" } else { "block" };
        let of = |key: &str| device[key].clone();
        same(
            path,
            json!([
                kind,
                of("major"),
                of("minor"),
                of("fileMode"),
                of("uid"),
                of("gid")
            ]),
            node(&report, path),
        )?;
    }
    Ok(())
}

/// The lines of mountinfo that are at or below /dev/NAME: place and options of the mount.
fn mounts_at(c: &mut Case, names: &[&str]) -> Check<Vec<(String, String)>> {
    let text = c.sh("cat /proc/self/mountinfo")?;
    let mut found = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let (Some(place), Some(options)) = (fields.get(4), fields.get(5))
            && names.contains(place)
        {
            found.push(((*place).to_owned(), (*options).to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn user_namespace_bound_without_programs(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    c.linux().devices([Device::new()
        .path("/dev/of_config")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    let places = ["/dev/null", "/dev/of_config", "/dev/tty", "/dev/zero"];
    let mounts = mounts_at(c, &places)?;
    same(
        "places",
        places.to_vec(),
        mounts.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(),
    )?;
    for (place, options) in &mounts {
        let options: Vec<&str> = options.split(',').collect();
        ensure!(
            options.contains(&"nosuid") && options.contains(&"noexec") && !options.contains(&"nodev"),
            "{place} is mounted {options:?}"
        );
    }
    Ok(())
}

/// Without a tmpfs on /dev: what the image has at the place is covered.
fn user_namespace_node_that_the_rootfs_has(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|mount| {
            !mount["destination"]
                .as_str()
                .unwrap_or_default()
                .starts_with("/dev")
        });
    }
    fs::create_dir_all(c.rootfs("/dev"))?;
    nix::unistd::chown(&c.rootfs("/dev"), Some(IDS.into()), Some(IDS.into()))?;
    let null = c.rootfs("/dev/null");
    nix::sys::stat::mknod(
        &null,
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o600),
        nix::sys::stat::makedev(1, 3),
    )?;
    c.linux().devices([Device::new()
        .path("/dev/null")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o646)
        .uid(7)
        .gid(8)]);
    let report = c.probe(&["--stat", "/dev/null", "--access", "/dev/null"])?;
    same(
        "/dev/null",
        json!(["char", 1, 3, 0o646, 7, 8]),
        node(&report, "/dev/null"),
    )?;
    let found = fs::symlink_metadata(&null)?;
    same("mode in the rootfs", 0o600, found.mode() & 0o7777)
}

fn user_namespace_nothing_else_is_mounted(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    let before = c.sh("cut -d' ' -f5 /proc/self/mountinfo")?;
    c.linux().devices([Device::new()
        .path("/dev/of_config")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    let after = c.sh("cut -d' ' -f5 /proc/self/mountinfo")?;
    let mut before: Vec<&str> = before.lines().chain(["/dev/of_config"]).collect();
    let mut after: Vec<&str> = after.lines().collect();
    before.sort_unstable();
    after.sort_unstable();
    same("mount points", before, after)
}

fn ptmx_is_the_containers_own(c: &mut Case) -> Check {
    check_ptmx(c)
}

fn user_namespace_ptmx_is_the_containers_own(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    check_ptmx(c)
}

fn entry_on_a_directory_is_left_out(c: &mut Case) -> Check {
    check_directory(c)
}

fn user_namespace_entry_on_a_directory_is_left_out(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    check_directory(c)
}

/// By a device cgroup, a seccomp filter or a security module that the runtime itself is under.
fn check_forbidden(c: &mut Case) -> Check {
    let rules = c.config["linux"]["resources"]["devices"].take();
    c.linux().devices([
        Device::new()
            .path("/dev/loop-control")
            .kind("c")
            .major(10)
            .minor(237)
            .file_mode(0o666),
        Device::new()
            .path("/dev/shm")
            .kind("c")
            .major(1)
            .minor(3)
            .file_mode(0o666),
    ]);
    c.resources()
        .devices([DeviceRule::new().allow(true).access("rwm")]);
    let options = [
        "--access",
        "/dev/null",
        "--access",
        "/dev/zero",
        "--stat",
        "/dev/null",
        "--stat",
        "/dev/loop-control",
        "--stat",
        "/dev/shm",
    ];
    let report = where_forbidden(&[libc::SYS_mknod, libc::SYS_mknodat], || c.probe(&options))?;
    for path in ["/dev/null", "/dev/zero"] {
        same(path, Access::new(0, 0), report.access[path])?;
    }
    let reality: Vec<Value> = ["/dev/null", "/dev/loop-control"]
        .iter()
        .map(|path| json!(node(&report, path).as_array().map(|of| of[..3].to_vec())))
        .collect();
    same(
        "nodes",
        json!([["char", 1, 3], ["char", 10, 237]]),
        json!(reality),
    )?;
    same("/dev/shm", "dir", report.stat["/dev/shm"].kind.as_str())?;
    // What the host has not is an error that names the device and the call that was refused.
    c.resources().devices(rules);
    c.linux().devices([Device::new()
        .path("/dev/of/its/own")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    let run = where_forbidden(&[libc::SYS_mknod, libc::SYS_mknodat], || c.run())?;
    run.refused_with("of/its/own")?;
    c.nothing_left()
}

fn hosts_node_where_mknod_is_forbidden(c: &mut Case) -> Check {
    check_forbidden(c)
}

fn user_namespace_hosts_node_where_mknod_is_forbidden(c: &mut Case) -> Check {
    c.map_ids(IDS)?;
    check_forbidden(c)
}

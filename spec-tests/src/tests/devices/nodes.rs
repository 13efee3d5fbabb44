//! config-linux.md: default devices, configured devices, the device filter.

use crate::{
    case::Case,
    config::Device,
    outcome::{Check, ensure, same},
    seen::{Access, Node, Report},
};
use serde_json::{Value, json};
use std::fs;

tests! {
    devices/default_nodes,
    devices/default_nodes_can_be_used,
    devices/fd_links_and_ptmx,
    devices/configured_char_block_fifo,
    devices/configured_entry_overrides_a_default,
    devices/configured_outside_of_dev,
    devices/existing_file_of_another_kind_is_refused,
    devices/access_denied_by_default_rule,
    devices/access_denied_without_any_rule,
    devices/access_allowed_by_rule,
    devices/access_rule_with_wildcards,
    devices/access_later_rule_wins,
    devices/access_of_unknown_letters_is_none,
    devices/access_denied_by_unknown_letters_is_all,
    devices/mknod_of_any_device_is_allowed,
    devices/dev_bind_mounted_from_host_gets_no_nodes,
}

const EPERM: i32 = 1;

fn node(report: &Report, name: &str) -> (String, u64, u64, u64) {
    let node = &report.dev[name];
    (
        node.kind.clone(),
        node.major.unwrap_or(u64::MAX),
        node.minor.unwrap_or(u64::MAX),
        node.mode.map_or(u64::MAX, u64::from),
    )
}

fn default_nodes(c: &mut Case) -> Check {
    let report = c.probe(&[])?;
    let wish = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    for (name, major, minor) in wish {
        same(
            name,
            ("char".to_owned(), major, minor, 0o666),
            node(&report, name),
        )?;
        same("owner", Some(0), report.dev[name].uid)?;
    }
    ensure!(
        report.dev["console"].kind.is_empty(),
        "/dev/console without a terminal: {:?}",
        report.dev["console"]
    );
    Ok(())
}

fn default_nodes_can_be_used(c: &mut Case) -> Check {
    let report = c.probe(&[
        "--access",
        "/dev/null",
        "--access",
        "/dev/zero",
        "--access",
        "/dev/full",
        "--access",
        "/dev/random",
        "--access",
        "/dev/urandom",
        "--access",
        "/dev/ptmx",
    ])?;
    for (path, verdict) in report.access.iter() {
        same(path, Access::new(0, 0), *verdict)?;
    }
    Ok(())
}

fn fd_links_and_ptmx(c: &mut Case) -> Check {
    let report = c.probe(&[])?;
    let wish = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in wish {
        same(
            name,
            target,
            report.dev[name].target.as_deref().unwrap_or("missing"),
        )?;
    }
    let ptmx = report.dev["ptmx"].target.as_deref().unwrap_or("missing");
    ensure!(
        ["pts/ptmx", "/dev/pts/ptmx"].contains(&ptmx),
        "ptmx: wish a link to pts/ptmx, reality {ptmx}"
    );
    Ok(())
}

fn configured_char_block_fifo(c: &mut Case) -> Check {
    c.linux().devices([
        Device::new()
            .path("/dev/char")
            .kind("c")
            .major(10)
            .minor(229)
            .file_mode(0o640)
            .uid(1)
            .gid(2),
        Device::new()
            .path("/dev/unbuffered")
            .kind("u")
            .major(10)
            .minor(229)
            .file_mode(0o600),
        Device::new()
            .path("/dev/block")
            .kind("b")
            .major(8)
            .minor(300)
            .file_mode(0o606),
        Device::new().path("/dev/fifo").kind("p").file_mode(0o622),
        Device::new()
            .path("/dev/deep/er/node")
            .kind("c")
            .major(1)
            .minor(3)
            .file_mode(0o666),
    ]);
    let report = c.probe(&["--stat", "/dev/deep/er/node"])?;
    same("char", ("char".to_owned(), 10, 229, 0o640), node(&report, "char"))?;
    same(
        "owner of char",
        (Some(1), Some(2)),
        (report.dev["char"].uid, report.dev["char"].gid),
    )?;
    same(
        "unbuffered",
        ("char".to_owned(), 10, 229, 0o600),
        node(&report, "unbuffered"),
    )?;
    same(
        "block",
        ("block".to_owned(), 8, 300, 0o606),
        node(&report, "block"),
    )?;
    let fifo = node(&report, "fifo");
    same("fifo", ("fifo", 0o622), (fifo.0.as_str(), fifo.3))?;
    same(
        "deep node",
        "char",
        report.stat["/dev/deep/er/node"].kind.as_str(),
    )
}

fn configured_entry_overrides_a_default(c: &mut Case) -> Check {
    c.linux().devices([Device::new()
        .path("/dev/zero")
        .kind("c")
        .major(1)
        .minor(5)
        .file_mode(0o600)
        .uid(3)
        .gid(3)]);
    let report = c.probe(&[])?;
    same("zero", ("char".to_owned(), 1, 5, 0o600), node(&report, "zero"))?;
    same("owner", Some(3), report.dev["zero"].uid)
}

fn configured_outside_of_dev(c: &mut Case) -> Check {
    c.linux().devices([Device::new()
        .path("/tmp/node")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    let report = c.probe(&["--stat", "/tmp/node"])?;
    same("type", "char", report.stat["/tmp/node"].kind.as_str())
}

fn existing_file_of_another_kind_is_refused(c: &mut Case) -> Check {
    fs::write(c.rootfs("/tmp/node"), "a file")?;
    c.linux()
        .devices([Device::new().path("/tmp/node").kind("c").major(1).minor(3)]);
    c.create()?.wants(1)?.refused_with("/tmp/node")?;
    same(
        "the file",
        "a file",
        fs::read_to_string(c.rootfs("/tmp/node"))?.as_str(),
    )?;
    c.nothing_left()
}

/// Lets the container make nodes: CAP_MKNOD, and device rules as given.
fn with_mknod(c: &mut Case, rules: Value) {
    c.grant(&["CAP_MKNOD"]);
    c.config["linux"]["resources"] = if rules.is_null() {
        json!({})
    } else {
        json!({"devices": rules})
    };
}

// c 10:237 is /dev/loop-control: no capability is needed to open it, and opening has no effect.
fn access_denied_by_default_rule(c: &mut Case) -> Check {
    with_mknod(c, json!([{"allow": false, "access": "rwm"}]));
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same("c 10:237", Node::new(0, EPERM, EPERM), report.mknod["c:10:237"])
}

fn access_denied_without_any_rule(c: &mut Case) -> Check {
    with_mknod(c, Value::Null);
    let report = c.probe(&["--mknod", "c:10:237", "--mknod", "b:7:0"])?;
    same("c 10:237", Node::new(0, EPERM, EPERM), report.mknod["c:10:237"])?;
    same("b 7:0", Node::new(0, EPERM, EPERM), report.mknod["b:7:0"])
}

fn access_allowed_by_rule(c: &mut Case) -> Check {
    with_mknod(
        c,
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "r"}
        ]),
    );
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same(
        "c 10:237, only reading allowed",
        Node::new(0, 0, EPERM),
        report.mknod["c:10:237"],
    )
}

fn access_rule_with_wildcards(c: &mut Case) -> Check {
    with_mknod(
        c,
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "access": "w"}
        ]),
    );
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same(
        "c 10:*, only writing allowed",
        Node::new(0, EPERM, 0),
        report.mknod["c:10:237"],
    )?;
    with_mknod(c, json!([{"allow": true, "type": "a", "access": "rwm"}]));
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same("a *:*", Node::new(0, 0, 0), report.mknod["c:10:237"])
}

fn access_later_rule_wins(c: &mut Case) -> Check {
    with_mknod(
        c,
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rw"},
            {"allow": false, "type": "c", "major": 10, "minor": 237, "access": "w"}
        ]),
    );
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same("c 10:237", Node::new(0, 0, EPERM), report.mknod["c:10:237"])
}

/// CDI files say `none` for a device that is to be there, but not to be opened yet.
fn access_of_unknown_letters_is_none(c: &mut Case) -> Check {
    for (access, read, write) in [("none", EPERM, EPERM), ("rx", 0, EPERM), ("R, w", EPERM, 0)] {
        with_mknod(
            c,
            json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 237, "access": access}
            ]),
        );
        let report = c.probe(&["--mknod", "c:10:237"])?;
        same(access, Node::new(0, read, write), report.mknod["c:10:237"])?;
    }
    Ok(())
}

/// Nobody knows what else it was to deny. runc's own suite has `rwa`.
fn access_denied_by_unknown_letters_is_all(c: &mut Case) -> Check {
    for access in ["RWM", "rx", "all", "rwa"] {
        let deny = json!({"allow": false, "type": "c", "major": 10, "minor": 237, "access": access});
        with_mknod(c, json!([{"allow": true, "access": "rwm"}, deny]));
        let report = c.probe(&["--mknod", "c:10:237"])?;
        same(access, Node::new(0, EPERM, EPERM), report.mknod["c:10:237"])?;
    }
    Ok(())
}

fn mknod_of_any_device_is_allowed(c: &mut Case) -> Check {
    with_mknod(c, json!([{"allow": false, "access": "rwm"}]));
    let report = c.probe(&["--mknod", "b:8:0", "--mknod", "c:1:3"])?;
    same("b 8:0", Some(0), report.mknod["b:8:0"].mknod)?;
    same("c 1:3 (null)", Node::new(0, 0, 0), report.mknod["c:1:3"])
}

fn dev_bind_mounted_from_host_gets_no_nodes(c: &mut Case) -> Check {
    let source = c.dir.join("dev");
    fs::create_dir(&source)?;
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|m| !m["destination"].as_str().unwrap_or_default().starts_with("/dev"));
        mounts.push(
            json!({"destination": "/dev", "source": source.to_string_lossy(), "options": ["rbind", "rw"]}),
        );
    }
    c.run()?;
    let made: Vec<_> = fs::read_dir(&source)?.flatten().map(|e| e.file_name()).collect();
    // A bind-mounted /dev is the caller's: runc, and engines with `--privileged`, rely on its being left
    // alone.
    ensure!(
        made.is_empty(),
        "wish: nothing is made in a bind-mounted /dev, reality: {made:?}"
    );
    Ok(())
}

//! config-linux.md: default devices, configured devices, the device filter.

use crate::{
    case::Case,
    outcome::{Check, ensure, same},
    suite::Test,
};
use serde_json::{Value, json};
use std::fs;

pub(crate) const TESTS: &[Test] = &[
    ("devices/default_nodes", default_nodes),
    ("devices/default_nodes_can_be_used", default_nodes_can_be_used),
    ("devices/fd_links_and_ptmx", fd_links),
    ("devices/configured_char_block_fifo", configured),
    (
        "devices/configured_entry_overrides_a_default",
        configured_overrides_default,
    ),
    ("devices/configured_outside_of_dev", configured_outside_of_dev),
    (
        "devices/existing_file_of_another_kind_is_refused",
        existing_mismatch,
    ),
    ("devices/access_denied_by_default_rule", denied_by_rule),
    ("devices/access_denied_without_any_rule", denied_without_rule),
    ("devices/access_allowed_by_rule", allowed_by_rule),
    ("devices/access_rule_with_wildcards", wildcards),
    ("devices/access_later_rule_wins", later_rule_wins),
    ("devices/access_of_unknown_letters_is_none", unknown_letters),
    ("devices/access_denied_by_unknown_letters_is_all", unknown_denied),
    ("devices/mknod_of_any_device_is_allowed", mknod_allowed),
    (
        "devices/dev_bind_mounted_from_host_gets_no_nodes",
        bind_mounted_dev,
    ),
];

const EPERM: i32 = 1;

fn node(report: &Value, name: &str) -> (String, u64, u64, u64) {
    let n = &report["dev"][name];
    let number = |key: &str| n[key].as_u64().unwrap_or(u64::MAX);
    (
        n["type"].as_str().unwrap_or("missing").to_owned(),
        number("major"),
        number("minor"),
        number("mode"),
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
        same("owner", json!(0), report["dev"][name]["uid"].clone())?;
    }
    ensure!(
        report["dev"]["console"].is_null(),
        "/dev/console without a terminal: {}",
        report["dev"]["console"]
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
    for (path, verdict) in report["access"].as_object().into_iter().flatten() {
        same(path, json!({"read": 0, "write": 0}), verdict.clone())?;
    }
    Ok(())
}

fn fd_links(c: &mut Case) -> Check {
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
            report["dev"][name]["target"].as_str().unwrap_or("missing"),
        )?;
    }
    let ptmx = report["dev"]["ptmx"]["target"].as_str().unwrap_or("missing");
    ensure!(
        ["pts/ptmx", "/dev/pts/ptmx"].contains(&ptmx),
        "ptmx: wish a link to pts/ptmx, reality {ptmx}"
    );
    Ok(())
}

fn configured(c: &mut Case) -> Check {
    c.config["linux"]["devices"] = json!([
        {"path": "/dev/char", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 1, "gid": 2},
        {"path": "/dev/unbuffered", "type": "u", "major": 10, "minor": 229, "fileMode": 0o600},
        {"path": "/dev/block", "type": "b", "major": 8, "minor": 300, "fileMode": 0o606},
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o622},
        {"path": "/dev/deep/er/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
    ]);
    let report = c.probe(&["--stat", "/dev/deep/er/node"])?;
    same("char", ("char".to_owned(), 10, 229, 0o640), node(&report, "char"))?;
    same(
        "owner of char",
        (json!(1), json!(2)),
        (
            report["dev"]["char"]["uid"].clone(),
            report["dev"]["char"]["gid"].clone(),
        ),
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
        report["stat"]["/dev/deep/er/node"]["type"]
            .as_str()
            .unwrap_or("missing"),
    )
}

fn configured_overrides_default(c: &mut Case) -> Check {
    c.config["linux"]["devices"] = json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 3, "gid": 3}]);
    let report = c.probe(&[])?;
    same("zero", ("char".to_owned(), 1, 5, 0o600), node(&report, "zero"))?;
    same("owner", json!(3), report["dev"]["zero"]["uid"].clone())
}

fn configured_outside_of_dev(c: &mut Case) -> Check {
    c.config["linux"]["devices"] =
        json!([{"path": "/tmp/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    let report = c.probe(&["--stat", "/tmp/node"])?;
    same(
        "type",
        "char",
        report["stat"]["/tmp/node"]["type"].as_str().unwrap_or("missing"),
    )
}

fn existing_mismatch(c: &mut Case) -> Check {
    fs::write(c.rootfs("/tmp/node"), "a file")?;
    c.config["linux"]["devices"] = json!([{"path": "/tmp/node", "type": "c", "major": 1, "minor": 3}]);
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
fn denied_by_rule(c: &mut Case) -> Check {
    with_mknod(c, json!([{"allow": false, "access": "rwm"}]));
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same(
        "c 10:237",
        json!({"mknod": 0, "read": EPERM, "write": EPERM}),
        report["mknod"]["c:10:237"].clone(),
    )
}

fn denied_without_rule(c: &mut Case) -> Check {
    with_mknod(c, Value::Null);
    let report = c.probe(&["--mknod", "c:10:237", "--mknod", "b:7:0"])?;
    same(
        "c 10:237",
        json!({"mknod": 0, "read": EPERM, "write": EPERM}),
        report["mknod"]["c:10:237"].clone(),
    )?;
    same(
        "b 7:0",
        json!({"mknod": 0, "read": EPERM, "write": EPERM}),
        report["mknod"]["b:7:0"].clone(),
    )
}

fn allowed_by_rule(c: &mut Case) -> Check {
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
        json!({"mknod": 0, "read": 0, "write": EPERM}),
        report["mknod"]["c:10:237"].clone(),
    )
}

fn wildcards(c: &mut Case) -> Check {
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
        json!({"mknod": 0, "read": EPERM, "write": 0}),
        report["mknod"]["c:10:237"].clone(),
    )?;
    with_mknod(c, json!([{"allow": true, "type": "a", "access": "rwm"}]));
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same(
        "a *:*",
        json!({"mknod": 0, "read": 0, "write": 0}),
        report["mknod"]["c:10:237"].clone(),
    )
}

fn later_rule_wins(c: &mut Case) -> Check {
    with_mknod(
        c,
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rw"},
            {"allow": false, "type": "c", "major": 10, "minor": 237, "access": "w"}
        ]),
    );
    let report = c.probe(&["--mknod", "c:10:237"])?;
    same(
        "c 10:237",
        json!({"mknod": 0, "read": 0, "write": EPERM}),
        report["mknod"]["c:10:237"].clone(),
    )
}

/// CDI files say `none` for a device that is to be there, but not to be opened yet.
fn unknown_letters(c: &mut Case) -> Check {
    for (access, read, write) in [("none", EPERM, EPERM), ("rx", 0, EPERM), ("R, w", EPERM, 0)] {
        with_mknod(
            c,
            json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 237, "access": access}
            ]),
        );
        let report = c.probe(&["--mknod", "c:10:237"])?;
        same(
            access,
            json!({"mknod": 0, "read": read, "write": write}),
            report["mknod"]["c:10:237"].clone(),
        )?;
    }
    Ok(())
}

/// Nobody knows what else it was to deny. runc's own suite has `rwa`.
fn unknown_denied(c: &mut Case) -> Check {
    for access in ["RWM", "rx", "all", "rwa"] {
        let deny = json!({"allow": false, "type": "c", "major": 10, "minor": 237, "access": access});
        with_mknod(c, json!([{"allow": true, "access": "rwm"}, deny]));
        let report = c.probe(&["--mknod", "c:10:237"])?;
        same(
            access,
            json!({"mknod": 0, "read": EPERM, "write": EPERM}),
            report["mknod"]["c:10:237"].clone(),
        )?;
    }
    Ok(())
}

fn mknod_allowed(c: &mut Case) -> Check {
    with_mknod(c, json!([{"allow": false, "access": "rwm"}]));
    let report = c.probe(&["--mknod", "b:8:0", "--mknod", "c:1:3"])?;
    same("b 8:0", json!(0), report["mknod"]["b:8:0"]["mknod"].clone())?;
    same(
        "c 1:3 (null)",
        json!({"mknod": 0, "read": 0, "write": 0}),
        report["mknod"]["c:1:3"].clone(),
    )
}

fn bind_mounted_dev(c: &mut Case) -> Check {
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
    // A bind-mounted /dev is the caller's: runc, and engines with `--privileged`, rely on its being left alone.
    ensure!(
        made.is_empty(),
        "wish: nothing is made in a bind-mounted /dev, reality: {made:?}"
    );
    Ok(())
}

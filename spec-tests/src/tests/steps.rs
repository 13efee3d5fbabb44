//! Runs in: SUITE. A creation can fail at any of its steps; whichever it is, nothing may be left behind. Each line of the
//! table breaks one step by a value of config.json that only the kernel, or the rootfs, can find wrong.

use crate::{
    case::Case,
    outcome::{Check, ensure},
    suite::Test,
};
use serde_json::{Value, json};
use std::fs;

pub(super) const TESTS: &[Test] = &[("steps/each_failure_leaves_nothing", each_failure)];

type Break = fn(&mut Case) -> Check;

/// The step, in the order in which they are taken, and what breaks it.
const TABLE: &[(&str, Break)] = &[
    ("join a namespace", |c| {
        c.join_namespace("network", Some("/proc/self/status"));
        Ok(())
    }),
    ("become root", |c| {
        mapped(c, 1);
        Ok(())
    }),
    ("time offsets", |c| {
        c.join_namespace("time", None);
        c.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": -9_000_000_000_i64}});
        Ok(())
    }),
    ("place of a mount", |c| {
        fs::write(c.rootfs("/file"), "")?;
        c.mount(json!({"destination": "/file/below", "type": "tmpfs", "source": "t"}));
        Ok(())
    }),
    ("file system", |c| {
        c.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "t", "options": ["size=wrong"]}));
        Ok(())
    }),
    ("copy up", |c| {
        fs::write(c.rootfs("/var/large"), vec![1; 100_000])?;
        c.mount(json!({
            "destination": "/var", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "size=4k"]
        }));
        Ok(())
    }),
    ("attach a mount", |c| {
        fs::write(c.rootfs("/file"), "")?;
        let source = c.dir.join("folder").to_string_lossy().into_owned();
        fs::create_dir_all(&source)?;
        c.mount(json!({"destination": "/file", "type": "bind", "source": source, "options": ["bind"]}));
        Ok(())
    }),
    ("device", |c| {
        fs::write(c.rootfs("/file"), "")?;
        c.config["linux"]["devices"] = json!([{"path": "/file", "type": "c", "major": 1, "minor": 3}]);
        Ok(())
    }),
    ("prestart hook", |c| hook(c, "prestart")),
    ("createRuntime hook", |c| hook(c, "createRuntime")),
    ("createContainer hook", |c| hook(c, "createContainer")),
    ("working directory", |c| {
        fs::write(c.rootfs("/file"), "")?;
        c.config["process"]["cwd"] = json!("/file/below");
        Ok(())
    }),
    ("sysctl", |c| {
        c.config["linux"]["sysctl"] = json!({"net.core.somaxconn": "many"});
        Ok(())
    }),
    ("groups", |c| {
        mapped(c, 0);
        c.config["process"]["user"]["additionalGids"] = json!([70_000]);
        Ok(())
    }),
    ("user", |c| {
        mapped(c, 0);
        c.config["process"]["user"] = json!({"uid": 70_000, "gid": 0});
        Ok(())
    }),
    ("program", |c| {
        c.args(&["/bin/nosuch"]);
        Ok(())
    }),
];

fn mapped(c: &mut Case, first: u32) {
    c.join_namespace("user", None);
    let mapping = json!([{"containerID": first, "hostID": 100_000, "size": 1000}]);
    c.config["linux"]["uidMappings"] = mapping.clone();
    c.config["linux"]["gidMappings"] = mapping;
}

fn hook(c: &mut Case, kind: &str) -> Check {
    c.config["hooks"] = json!({kind: [{"path": "/bin/false"}]});
    Ok(())
}

fn each_failure(c: &mut Case) -> Check {
    let config: Value = c.config.clone();
    let mut wrong = Vec::new();
    for (step, break_it) in TABLE {
        c.config = config.clone();
        break_it(c)?;
        let run = c.create()?;
        if run.code() == 0 {
            wrong.push(format!("{step}: create succeeds"));
            c.delete()?;
        }
        wrong.extend(c.leftovers().iter().map(|left| format!("{step}: {left}")));
        // So that the next line is not about this one.
        let _not_there = fs::remove_dir(c.cgroup());
    }
    ensure!(wrong.is_empty(), "left behind:\n    {}", wrong.join("\n    "));
    Ok(())
}

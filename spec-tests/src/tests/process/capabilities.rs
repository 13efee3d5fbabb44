//! Runs in: SUITE. config.md, process.capabilities.

use crate::{
    case::Case,
    outcome::{Check, contains, same},
    seen::Report,
};
use serde_json::{Value, json};
use std::fs;

tests! {
    process/capabilities_five_sets,
    process/capabilities_none,
    process/capabilities_missing,
    process/capabilities_all,
    process/capabilities_ambient_for_a_user,
    process/capabilities_without_ambient_for_a_user,
    process/capabilities_ambient_that_cannot_be_is_a_warning,
    process/capabilities_unknown_name_is_ignored,
}

fn cap_bits(names: &[&str]) -> String {
    let number = |name: &str| match name {
        "CAP_CHOWN" => 0,
        "CAP_KILL" => 5,
        "CAP_SETUID" => 7,
        "CAP_NET_BIND_SERVICE" => 10,
        "CAP_NET_RAW" => 13,
        _ => 63,
    };
    format!(
        "{:016x}",
        names.iter().fold(0_u64, |bits, name| bits | (1 << number(name)))
    )
}

fn same_caps(report: &Report, field: &str, names: &[&str]) -> Check {
    same(field, cap_bits(names).as_str(), report.status[field].as_str())
}

fn capabilities_five_sets(c: &mut Case) -> Check {
    c.process()
        .capabilities()
        .clear()
        .bounding(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"])
        .permitted(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])
        .effective(["CAP_CHOWN", "CAP_KILL"])
        .inheritable(["CAP_CHOWN", "CAP_KILL"])
        .ambient(["CAP_CHOWN"]);
    let report = c.probe(&[])?;
    same_caps(
        &report,
        "CapBnd",
        &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
    )?;
    same_caps(&report, "CapInh", &["CAP_CHOWN", "CAP_KILL"])?;
    same_caps(&report, "CapAmb", &["CAP_CHOWN"])?;
    // execve by root would make these two the bounding set; noNewPrivileges keeps them within the permitted
    // set.
    for field in ["CapPrm", "CapEff"] {
        same_caps(&report, field, &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])?;
    }
    Ok(())
}

fn capabilities_none(c: &mut Case) -> Check {
    c.process()
        .capabilities()
        .clear()
        .bounding(json!([]))
        .effective(json!([]))
        .permitted(json!([]))
        .inheritable(json!([]))
        .ambient(json!([]));
    let report = c.probe(&[])?;
    for field in ["CapBnd", "CapInh", "CapPrm", "CapEff", "CapAmb"] {
        same_caps(&report, field, &[])?;
    }
    Ok(())
}

/// What is not mentioned is not given: to init, to exec, to a process of a file, and beside what exec adds.
fn capabilities_missing(c: &mut Case) -> Check {
    const SETS: [&str; 5] = ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"];
    let none = |what: &str, report: &Report| {
        SETS.iter().try_for_each(|set| {
            let bits = report.status[set].as_str();
            same(&format!("{set} of {what}"), "0000000000000000", bits)
        })
    };
    for user in [0, 1000] {
        c.process().user().clear().uid(user).gid(user);
        for missing in [None, Some(Value::Null), Some(json!({}))] {
            if let Some(process) = c.config["process"].as_object_mut() {
                process.remove("capabilities");
            }
            if let Some(value) = &missing {
                c.config["process"]["capabilities"] = value.clone();
            }
            let what = |of: &str| format!("{of}, user {user}, capabilities {missing:?}");
            none(&what("init"), &c.probe(&[])?)?;
            c.delete()?;
            c.start_sleeper()?;
            none(&what("exec"), &c.exec_probe(&[], &[])?)?;
            let file = c.dir.join("process.json");
            let process = json!({"args": ["/bin/probe"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": user, "gid": user}});
            fs::write(&file, process.to_string())?;
            let words = ["exec", "--process", &file.to_string_lossy(), &c.id];
            none(&what("a process of a file"), &c.rt(&words)?.ok()?.seen()?)?;
            c.delete()?;
        }
    }
    c.process().user().clear().uid(0).gid(0);
    c.start_sleeper()?;
    let report = c.exec_probe(&["--cap", "CAP_NET_RAW"], &[])?;
    for (set, bits) in [
        ("CapBnd", "2000"),
        ("CapEff", "2000"),
        ("CapPrm", "2000"),
        ("CapInh", "0"),
        ("CapAmb", "0"),
    ] {
        same(
            &format!("{set} of exec --cap"),
            format!("{bits:0>16}").as_str(),
            report.status[set].as_str(),
        )?;
    }
    Ok(())
}

fn capabilities_all(c: &mut Case) -> Check {
    let names = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ];
    for set in ["bounding", "effective", "permitted"] {
        c.config["process"]["capabilities"][set] = json!(names.as_slice());
    }
    // What the caller lacks cannot be given: the spec wants a warning, not an error.
    let own = fs::read_to_string("/proc/self/status")?;
    let own = own
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .unwrap_or_default()
        .trim();
    same("CapBnd", own, c.probe(&[])?.status["CapBnd"].as_str())
}

fn capabilities_ambient_for_a_user(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    let caps = json!(["CAP_NET_BIND_SERVICE", "CAP_KILL"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(&caps)
        .inheritable(caps)
        .ambient(["CAP_NET_BIND_SERVICE"]);
    let report = c.probe(&[])?;
    for field in ["CapAmb", "CapPrm", "CapEff"] {
        same_caps(&report, field, &["CAP_NET_BIND_SERVICE"])?;
    }
    same_caps(&report, "CapBnd", &["CAP_NET_BIND_SERVICE", "CAP_KILL"])
}

fn capabilities_without_ambient_for_a_user(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    let caps = json!(["CAP_KILL"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(caps);
    let report = c.probe(&[])?;
    for field in ["CapAmb", "CapPrm", "CapEff", "CapInh"] {
        same_caps(&report, field, &[])?;
    }
    same_caps(&report, "CapBnd", &["CAP_KILL"])
}

/// Each by its name, since it is easily forgotten that they have to be inheritable and permitted, too.
fn capabilities_ambient_that_cannot_be_is_a_warning(c: &mut Case) -> Check {
    let own = json!(["CAP_CHOWN", "CAP_KILL"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"])
        .effective(&own)
        .permitted(own)
        .inheritable(["CAP_KILL", "CAP_SETUID"])
        .ambient(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"]);
    c.args(&["/bin/probe"]);
    let run = c.run()?.ok()?;
    same_caps(&run.seen()?, "CapAmb", &["CAP_KILL"])?;
    let warnings: Vec<_> = run.stderr.lines().collect();
    same("warnings", 2, warnings.len())?;
    for (line, name) in warnings.iter().zip(["CAP_CHOWN", "CAP_SETUID"]) {
        contains("warning", line, "level=warning")?;
        contains(
            "warning",
            line,
            &format!("can't raise ambient capability {name}: "),
        )?;
    }
    c.nothing_left()?;
    c.args(&["/bin/sleep", "1000"]);
    c.run_with(&["--detach"])?.ok()?;
    let exec = c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    contains("exec", &exec.stderr, "can't raise ambient capability CAP_CHOWN: ")
}

fn capabilities_unknown_name_is_ignored(c: &mut Case) -> Check {
    // config.md: a value the runtime cannot map should not be an error.
    let caps = json!(["CAP_KILL", "CAP_FROM_THE_FUTURE"]);
    c.process()
        .capabilities()
        .clear()
        .bounding(&caps)
        .effective(&caps)
        .permitted(caps);
    same_caps(&c.probe(&[])?, "CapBnd", &["CAP_KILL"])?;
    // And a warning, which somebody has to see: by default, on standard error.
    c.args(&["/bin/true"]);
    let run = c.run()?.ok()?;
    contains("stderr", &run.stderr, "level=warning")?;
    contains("stderr", &run.stderr, "CAP_FROM_THE_FUTURE")
}

//! What a program sees that has to be the same whenever it runs: the probe's report without what the kernel numbers anew
//! each time.

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::fs;

/// Of these the value itself counts.
const PLAIN: &[&str] = &[
    "tty",
    "winsize",
    "dev_tty",
    "uids",
    "gids",
    "groups",
    "umask",
    "cwd",
    "args",
    "env",
    "rlimits",
    "no_new_privs",
    "scheduler",
    "ioprio",
    "personality",
    "hostname",
    "machine",
    "domainname",
    "lo_up",
    "cgroup",
    "oom_score_adj",
    "label",
    "uid_map",
    "gid_map",
    "dev",
    "access",
    "stat",
    "cat",
    "syscall",
    "mknod",
];

/// As above, in /proc/self/status.
const STATUS: &[&str] = &[
    "Uid",
    "Gid",
    "Groups",
    "Umask",
    "SigBlk",
    "SigIgn",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Threads",
    "TracerPid",
    "Cpus_allowed_list",
    "Mems_allowed_list",
];

/// What the report says of capabilities, mounts, namespaces, limits and so on.
pub(super) fn of_report(report: &Value) -> Value {
    let mut view = serde_json::Map::new();
    for name in PLAIN {
        view.insert((*name).to_owned(), report[name].clone());
    }
    for name in STATUS {
        view.insert(format!("status {name}"), report["status"][name].clone());
    }
    view.insert("keyring".into(), json!(keyring(text(&report["keyring"]))));
    let number = |name: &str| report[name].as_i64().unwrap_or(-1);
    let pid = number("pid");
    view.insert("leads its session".into(), json!(number("sid") == pid));
    view.insert("leads its group".into(), json!(number("pgid") == pid));
    view.insert("in the foreground".into(), json!(number("foreground") == pid));
    view.insert("first of its namespace".into(), json!(pid == 1));
    for (name, namespace) in report["ns"].as_object().into_iter().flatten() {
        let link = fs::read_link(format!("/proc/thread-self/ns/{name}")).unwrap_or_default();
        let kind = match namespace.as_str() {
            Some(text) if text == link.to_string_lossy() => "the caller's",
            Some(text) if text.starts_with(name.as_str()) => "another",
            _ => "none",
        };
        view.insert(format!("namespace {name}"), json!(kind));
    }
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec());
    view.insert(
        "monotonic, beside ours".into(),
        json!((number("monotonic") - now + 50).div_euclid(100)),
    );
    let mounts: Vec<String> = text(&report["mountinfo"]).lines().map(mount).collect();
    view.insert("mounts".into(), json!(mounts));
    let files: Vec<Value> = report["fds"]
        .as_array()
        .into_iter()
        .flatten()
        .map(descriptor)
        .collect();
    view.insert("descriptors".into(), json!(files));
    Value::Object(view)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A keyring without what keeps others from guessing its name: the last part, if that is so many hexadecimal digits.
fn keyring(described: &str) -> &str {
    match described.rsplit_once('.') {
        Some((name, secret)) if secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            name
        }
        _ => described,
    }
}

/// A line of mountinfo without its own number, that of its parent, that of an unnamed device, and those of peer groups.
fn mount(line: &str) -> String {
    let words = line.split(' ').skip(2).map(|word| match word.split_once(':') {
        Some(("0", _)) => "0:",
        Some((tag @ ("shared" | "master" | "propagate_from"), _)) => tag,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `[3,"pipe:[123]"]` without the number of the object, and without that of a file of the suite's.
fn descriptor(entry: &Value) -> Value {
    let target = text(&entry[1]);
    let end = |letter: char| letter.is_ascii_digit() || letter == '[' || letter == ']';
    json!([entry[0], target.trim_end_matches(end)])
}

/// Where two views differ: the wish and the reality of each.
pub(super) fn differences(wish: &Value, reality: &Value) -> Vec<String> {
    let (Some(wish), Some(reality)) = (wish.as_object(), reality.as_object()) else {
        return match wish == reality {
            true => Vec::new(),
            false => vec![format!("wish {wish}, reality {reality}")],
        };
    };
    let mut found = Vec::new();
    for (name, one) in wish {
        let other = reality.get(name).unwrap_or(&Value::Null);
        if one == other {
            continue;
        }
        let lines = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
        if one.is_array() && other.is_array() && !one.to_string().starts_with("[[") {
            let (one, other) = (lines(one), lines(other));
            let only = |these: &[Value], those: &[Value]| -> Vec<Value> {
                these
                    .iter()
                    .filter(|line| !those.contains(line))
                    .cloned()
                    .collect()
            };
            let (missing, more) = (only(&one, &other), only(&other, &one));
            found.push(format!(
                "{name}: missing {}, more {}",
                json!(missing),
                json!(more)
            ));
        } else {
            found.push(format!("{name}: wish {one}, reality {other}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_kernel_do_not_count() {
        assert_eq!(
            mount("36 35 0:44 / /mnt rw,nosuid shared:9 master:1 - tmpfs t rw"),
            "0: / /mnt rw,nosuid shared master - tmpfs t rw"
        );
        assert_eq!(
            mount("36 35 254:0 /a /b ro - ext4 /dev/vda rw"),
            "254:0 /a /b ro - ext4 /dev/vda rw"
        );
        assert_eq!(descriptor(&json!([3, "pipe:[77]"])), json!([3, "pipe:"]));
        assert_eq!(
            descriptor(&json!([1, "/tmp/x/out-17"])),
            json!([1, "/tmp/x/out-"])
        );
    }

    #[test]
    fn differences_name_what_differs() {
        let found = differences(&json!({"a": 1, "b": ["x", "y"]}), &json!({"a": 2, "b": ["y"]}));
        assert_eq!(found, ["a: wish 1, reality 2", "b: missing [\"x\"], more []"]);
    }
}

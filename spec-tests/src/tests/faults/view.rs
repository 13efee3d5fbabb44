//! What a program sees that has to be the same whenever it runs: the probe's report without what the kernel
//! numbers anew each time.

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
    let keyring = text(&report["keyring"]);
    let keyring = match secret_of(keyring) {
        Some(secret) => format!("{} and 128 secret bits", keyring.trim_end_matches(secret)),
        None => keyring.to_owned(),
    };
    view.insert("keyring".into(), json!(keyring));
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
    let mountinfo = text(&report["mountinfo"]);
    let mounts: Vec<String> = mountinfo.lines().map(mount).collect();
    view.insert("mounts".into(), json!(mounts));
    let files: Vec<Value> = report["fds"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| descriptor(entry, mountinfo))
        .collect();
    view.insert("descriptors".into(), json!(files));
    Value::Object(view)
}

/// What nobody can guess at the end of a session keyring's description: `.` and 32 small hexadecimal digits,
/// new for every container. Not every runtime has it.
pub(super) fn secret_of(keyring: &str) -> Option<&str> {
    let (_, secret) = keyring.rsplit_once('.')?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (secret.len() == 32 && secret.bytes().all(is_digit)).then_some(secret)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A line of mountinfo without its own number, that of its parent, that of an unnamed device, and those of
/// peer groups.
fn mount(line: &str) -> String {
    let words = line.split(' ').skip(2).map(|word| match word.split_once(':') {
        Some(("0", _)) => "0:",
        Some((tag @ ("shared" | "master" | "propagate_from"), _)) => tag,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `[3,"pipe:[123]",14]` without the number of the object, and without that of a file of the suite's; and
/// whether it is on a mount of the container, not the number of that.
fn descriptor(entry: &Value, mountinfo: &str) -> Value {
    let target = text(&entry[1]);
    let end = |letter: char| letter.is_ascii_digit() || letter == '[' || letter == ']';
    let number = entry[2].to_string();
    let is_inside = mountinfo
        .lines()
        .any(|line| line.split(' ').next() == Some(&number));
    let place = if is_inside {
        "of the container"
    } else {
        "from outside"
    };
    json!([entry[0], target.trim_end_matches(end), place])
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
    for (name, other) in reality {
        if !wish.contains_key(name) {
            found.push(format!("{name}: wish none, reality {other}"));
        }
    }
    for (name, one) in wish {
        let other = reality.get(name).unwrap_or(&Value::Null);
        if one == other {
            continue;
        }
        if one.is_object() && other.is_object() {
            let parts = differences(one, other);
            found.extend(parts.iter().map(|part| format!("{name}, {part}")));
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
        let mounts = "36 35 0:44 / / rw - tmpfs t rw\n";
        assert_eq!(
            descriptor(&json!([3, "pipe:[77]", 14]), mounts),
            json!([3, "pipe:", "from outside"])
        );
        assert_eq!(
            descriptor(&json!([1, "/tmp/x/out-17", 36]), mounts),
            json!([1, "/tmp/x/out-", "of the container"])
        );
    }

    #[test]
    fn only_a_whole_secret_does_not_count() {
        let keyring = |name: &str| {
            of_report(&json!({"keyring": format!("keyring;0;0;3f080000;{name}")}))["keyring"].clone()
        };
        let secret = "197c05a69390b30d3fb2170b244522a4";
        assert_eq!(
            keyring(&format!("_ses.c1.{secret}")),
            "keyring;0;0;3f080000;_ses.c1. and 128 secret bits"
        );
        for other in [
            "_ses.c1",
            "c1",
            &format!("_ses.c1.{}", &secret[1..]),
            &format!("_ses.c1.{}", secret.to_uppercase()),
        ] {
            assert_eq!(keyring(other), format!("keyring;0;0;3f080000;{other}"));
        }
    }

    #[test]
    fn differences_name_what_differs() {
        let found = differences(&json!({"a": 1, "b": ["x", "y"]}), &json!({"a": 2, "b": ["y"]}));
        assert_eq!(found, ["a: wish 1, reality 2", "b: missing [\"x\"], more []"]);
        let found = differences(
            &json!({"dev": {"a": {"mode": 1}, "b": 2}}),
            &json!({"dev": {"a": {"mode": 3}, "c": 4}}),
        );
        let wish = [
            "dev, c: wish none, reality 4",
            "dev, a, mode: wish 1, reality 3",
            "dev, b: wish 2, reality null",
        ];
        assert_eq!(found, wish);
    }
}

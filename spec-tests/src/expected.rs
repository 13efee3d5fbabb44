//! Runs in: SUITE. The known failures of peers: `expected/NAME.txt`, one `test/name: reason` a line, `#`
//! comments, `!memlock-shim` (see shim/memlock.rs), `!iptables-shim` (see `Host::use_iptables_shim`) and
//! `!may-leave-empty-cgroups`: a race of every `delete`, so no test can be named. A leading `~` marks a race
//! of the peer: it may fail and may pass. onggi has no such list.

use std::{collections::BTreeMap, io, path::Path};

/// A peer's list.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Test name to what is known.
    pub(crate) failures: BTreeMap<String, Known>,
    /// Whether the peer needs the shim on a host without CAP_SYS_RESOURCE.
    pub(crate) memlock_shim: bool,
    /// Whether the peer lets criu use iptables also where there is none.
    pub(crate) iptables_shim: bool,
    /// Whether the peer may leave the cgroup of a container, without processes in it.
    pub(crate) may_leave_cgroups: bool,
}

/// A known failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) reason: String,
    /// It depends on timing whether the peer fails.
    pub(crate) sometimes: bool,
}

/// The list that belongs to the runtime of this name.
pub(crate) fn for_runtime(name: &str) -> Result<Expected, String> {
    match name {
        "runc" => parse(include_str!("../expected/runc.txt")),
        "crun" => parse(include_str!("../expected/crun.txt")),
        _ => Ok(Expected::default()),
    }
}

/// A list from a file of the user.
pub(crate) fn from_file(path: &Path) -> io::Result<Expected> {
    parse(&std::fs::read_to_string(path)?).map_err(io::Error::other)
}

fn parse(text: &str) -> Result<Expected, String> {
    let mut expected = Expected::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "!memlock-shim" {
            expected.memlock_shim = true;
            continue;
        }
        if line == "!iptables-shim" {
            expected.iptables_shim = true;
            continue;
        }
        if line == "!may-leave-empty-cgroups" {
            expected.may_leave_cgroups = true;
            continue;
        }
        let Some((name, reason)) = line.split_once(": ") else {
            return Err(format!(
                "expected list, line {}: not `test/name: reason`",
                number + 1
            ));
        };
        let (name, sometimes) = match name.strip_prefix('~') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let known = Known {
            reason: reason.trim().to_owned(),
            sometimes,
        };
        if expected.failures.insert(name.to_owned(), known).is_some() {
            return Err(format!(
                "expected list, line {}: {name} is there twice",
                number + 1
            ));
        }
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::{Known, parse};

    #[test]
    fn a_line_is_a_name_and_a_reason() {
        let list = parse("# note\n!memlock-shim\na/b: because\n~a/c: race\n").unwrap_or_default();
        assert!(list.memlock_shim);
        let known = |reason: &str, sometimes| Known {
            reason: reason.to_owned(),
            sometimes,
        };
        assert_eq!(list.failures.get("a/b"), Some(&known("because", false)));
        assert_eq!(list.failures.get("a/c"), Some(&known("race", true)));
    }

    /// Git merges the lists by union, which may leave a test in them twice.
    #[test]
    fn the_lists_of_the_peers_can_be_read_and_name_tests() {
        for name in ["runc", "crun"] {
            let list = super::for_runtime(name);
            assert!(list.is_ok(), "{name}: {list:?}");
            let tests = crate::tests::all();
            let list = list.unwrap_or_default();
            for known in list.failures.keys() {
                assert!(tests.iter().any(|test| test.0 == known), "{name}: {known}");
            }
        }
    }

    #[test]
    fn a_line_without_reason_or_twice_is_refused() {
        assert!(parse("a/b\n").is_err());
        assert!(parse("a/b: x\na/b: y\n").is_err());
    }
}

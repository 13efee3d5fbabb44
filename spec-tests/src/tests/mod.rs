//! Runs in: SUITE. The tests. A file lists its own with [`tests!`], and is known by its `mod` line.

use crate::{case::Case, need::Need, outcome::Check};

/// A test: its name, what it needs that not every place has, and its body.
pub(crate) type Test = (&'static str, &'static [Need], fn(&mut Case) -> Check);

/// The tests that one `tests!` lists.
struct Listed {
    file: &'static str,
    tests: &'static [Test],
}

inventory::collect!(Listed);

/// Makes tests known, a line each: `topic/name` is the function `name`. What it needs (a slice of [`Need`]) follows a colon;
/// a body that is not that function, `=>`. A name that is not one of Rust stands in quotation marks, with its body.
macro_rules! tests {
    ($($topic:ident/$name:ident $(: $needs:expr)? $(=> $body:expr)?,)+) => {
        tests!(@list $((concat!(stringify!($topic), "/", stringify!($name)), [$($needs)?], tests!(@body $name $($body)?)),)+);
    };
    ($($name:literal $(: $needs:expr)? => $body:expr,)+) => {
        tests!(@list $(($name, [$($needs)?], $body),)+);
    };
    (@list $(($name:expr, $needs:tt, $body:expr),)+) => {
        inventory::submit! {
            $crate::tests::Listed { file: file!(), tests: &[$(($name, tests!(@needs $needs), $body),)+] }
        }
    };
    (@body $name:ident) => { $name };
    (@body $name:ident $body:expr) => { $body };
    (@needs []) => { &[] };
    (@needs [$needs:expr]) => {{
        #[allow(unused_imports, reason = "a list of needs may also be a constant of the file")]
        use $crate::need::Need::*;
        const OF_THE_TEST: &[$crate::need::Need] = $needs;
        OF_THE_TEST
    }};
}

mod annotations;
mod bad_input;
mod called_runc;
mod cgroup_identity;
mod cgroup_tree;
mod cgroups;
mod checkpoint;
mod checkpoint_flags;
mod checkpoint_paths;
mod checkpoint_surroundings;
mod cli;
mod crash;
mod created_signals;
mod dev_links;
mod devices;
mod devices_of_users;
mod engine;
mod events;
mod exec;
mod exec_file;
mod exec_options;
mod faults;
mod forgotten;
mod fuse;
mod hooks;
mod host_mounts;
mod hostile_places;
mod hung_peers;
mod inherited;
mod intel_rdt;
mod interrupt;
mod lifecycle;
mod logs;
mod many;
mod migration;
mod mount_links;
mod mount_options;
mod mounts;
mod mounts_in_order;
mod mounts_later;
mod namespaces;
mod namespaces_owned;
mod net_devices;
mod notify;
mod people;
mod process;
mod random;
mod recorded;
mod resources;
mod rootless;
mod rootless_more;
mod roots;
mod run;
pub(crate) mod runtime_tools;
mod schema_examples;
mod seccomp;
mod seccomp_actions;
mod seccomp_notify;
mod security;
mod selinux;
mod selinux_mounts;
mod signals;
mod spec;
mod spec_keys;
mod spec_rules;
mod spec_values;
mod steps;
mod systemd;
mod systemd_agrees;
mod systemd_limits;
mod terminal;
mod traced;
mod update;

pub(crate) use faults::{print_counts as print_counts_of_faults, without_any as without_any_fault};

/// Every test, in the order of the files; those with needs last.
pub(crate) fn all() -> Vec<Test> {
    let mut files: Vec<&Listed> = inventory::iter::<Listed>.into_iter().collect();
    files.sort_by_key(|listed| listed.file);
    let (needy, everywhere): (Vec<Test>, Vec<Test>) = files
        .iter()
        .flat_map(|listed| listed.tests)
        .partition(|(_, needs, _)| !needs.is_empty());
    [everywhere, needy].concat()
}

#[cfg(test)]
mod unit {
    use super::{Listed, Test, all};
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    fn files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if fs::read_to_string(&path)
                .unwrap()
                .lines()
                .any(|line| line == "tests! {")
            {
                found.insert(path);
            }
        }
    }

    /// A linker that drops what nobody refers to would take tests away without a word.
    #[test]
    fn every_file_with_tests_is_known() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut with_tests = BTreeSet::new();
        files(&root.join("src/tests"), &mut with_tests);
        let workspace = root.parent().unwrap();
        let known: BTreeSet<PathBuf> = inventory::iter::<Listed>
            .into_iter()
            .map(|listed| workspace.join(listed.file))
            .collect();
        let missing: Vec<_> = with_tests.difference(&known).collect();
        assert!(
            missing.is_empty() && with_tests.len() > 50,
            "{missing:?} of {}",
            with_tests.len()
        );
    }

    #[test]
    fn names_are_unique() {
        let all: Vec<Test> = all();
        let names: BTreeSet<&str> = all.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(names.len(), all.len());
    }
}

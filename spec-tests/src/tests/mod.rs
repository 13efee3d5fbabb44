//! Runs in: SUITE. The tests. A file lists its own with `tests!`, and is known by its `mod` line.

use crate::{case::Case, need::Need, outcome::Check};

/// A test: its name, what it needs that not every place has, and its body.
pub(crate) type Test = (&'static str, &'static [Need], fn(&mut Case) -> Check);

/// The tests that one `tests!` lists.
struct Listed {
    file: &'static str,
    tests: &'static [Test],
}

inventory::collect!(Listed);

/// Makes tests known, a line each: `topic/name` is the function `name`. What it needs (a slice of [`Need`])
/// follows a colon; a body that is not that function, `=>`. A name that is not one of Rust stands in
/// quotation marks, with its body.
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

mod cgroups;
mod checkpoint;
mod cli;
mod devices;
pub(crate) mod engines;
mod exec;
mod faults;
mod fuse;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod random;
mod rootless;
mod seccomp;
mod security;
mod selinux;
mod signals;
mod spec;
mod systemd;

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

//! Runs in: SUITE. The validation programs of the OCI's runtime-tools, one test each, in a machine that
//! brings them along. They speak TAP. What they have wrong is in `expected/runtime-tools.txt`; everything
//! else that they report is the runtime's failure.

use crate::{
    case::Case,
    need::{Need, VALIDATION_PROGRAMS},
    outcome::{Check, ensure, fail},
    runner,
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// `program | part of what it reports | why that is wrong`, a line each.
const WRONG: &str = include_str!("../../../expected/runtime-tools.txt");

/// They wait by the second, in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(150);

const NEEDS: &[Need] = &[Need::ValidationPrograms];

macro_rules! programs {
    ($($name:ident)*) => {
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];
        tests! {
            runtime_tools/all_are_run: NEEDS,
            $(runtime_tools/$name: NEEDS => |c| program(c, stringify!($name)),)*
        }
    };
}

programs! {
    config_updates_without_affect create default delete delete_only_create_resources delete_resources hooks hooks_stdin hostname
    kill kill_no_effect killsig linux_cgroups_blkio linux_cgroups_cpus linux_cgroups_devices linux_cgroups_hugetlb
    linux_cgroups_memory linux_cgroups_network linux_cgroups_pids linux_cgroups_relative_blkio linux_cgroups_relative_cpus
    linux_cgroups_relative_devices linux_cgroups_relative_hugetlb linux_cgroups_relative_memory linux_cgroups_relative_network
    linux_cgroups_relative_pids linux_devices linux_masked_paths linux_mount_label linux_ns_itype linux_ns_nopath linux_ns_path
    linux_ns_path_type linux_process_apparmor_profile linux_readonly_paths linux_rootfs_propagation linux_seccomp linux_sysctl
    linux_uid_mappings misc_props mounts pidfile poststart poststart_fail poststop poststop_fail prestart prestart_fail process
    process_capabilities process_capabilities_fail process_oom_score_adj process_rlimits process_rlimits_fail process_user
    root_readonly_true start state
}

fn all_are_run(_: &mut Case) -> Check {
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(VALIDATION_PROGRAMS)? {
        there.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    for other in ["runtimetest", "rootfs-amd64.tar.gz", "lost+found"] {
        there.remove(other);
    }
    let ours: BTreeSet<String> = PROGRAMS.iter().map(|name| (*name).to_owned()).collect();
    ensure!(
        there == ours,
        "not the same: {:?}",
        there.symmetric_difference(&ours)
    );
    Ok(())
}

fn program(c: &mut Case, name: &str) -> Check {
    // Several make cgroups of the same name.
    static CGROUPS: Mutex<()> = Mutex::new(());
    let _alone = name
        .starts_with("linux_cgroups")
        .then(|| CGROUPS.lock().unwrap_or_else(PoisonError::into_inner));
    let report = with_patience(|| once(c, name))?;
    match report.is_empty() {
        true => Ok(()),
        false => fail(report.join("\n    ")),
    }
}

/// They wait for ten seconds at most: on a busy machine that says nothing of the runtime, so three runs of
/// them have to.
fn with_patience(mut once: impl FnMut() -> Check<Vec<String>>) -> Check<Vec<String>> {
    const TRIES: usize = 3;
    let mut report = once()?;
    for _ in 1..TRIES {
        // `WaitingForStatus` of their library.
        if !report.iter().any(|line| line.contains("timeout in waiting")) {
            break;
        }
        report = once()?;
    }
    Ok(report)
}

/// One run: what is wrong with the runtime, and the whole report after it.
fn once(c: &Case, name: &str) -> Check<Vec<String>> {
    let runtime = wrapper(c)?;
    let mut command = Command::new(Path::new(VALIDATION_PROGRAMS).join(name));
    command
        .current_dir(VALIDATION_PROGRAMS)
        .env("RUNTIME", runtime)
        .env("TMPDIR", &c.dir)
        .stdin(Stdio::null());
    let run = runner::start(&mut command, &c.dir)?.finish_within(PATIENCE)?;
    // When it fails, it leaves its containers to others.
    let _not_its_matter = c.close();
    let mut failures = failures(&run.stdout);
    if run.code() != 0 {
        failures.push(format!("the program ends with {}", run.code()));
    }
    let excused = |failure: &String| excuses(name).any(|part| failure.contains(part));
    failures.retain(|failure| !excused(failure));
    if !failures.is_empty() {
        failures.push(format!("stdout: {}", run.stdout));
        failures.push(format!("stderr: {}", run.stderr));
    }
    Ok(failures)
}

/// A program takes one word for the runtime; the state goes where the suite looks for what is left.
fn wrapper(c: &Case) -> Check<std::path::PathBuf> {
    let path = c.dir.join("runtime");
    let command = c.command();
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What a report in TAP says of tests that did not pass.
fn failures(report: &str) -> Vec<String> {
    report
        .lines()
        .filter_map(|line| line.strip_prefix("not ok "))
        .filter(|line| !line.contains("# TODO"))
        .map(str::to_owned)
        .collect()
}

/// What this program has wrong.
fn excuses(program: &str) -> impl Iterator<Item = &'static str> {
    wrong()
        .filter(move |(name, _, _)| *name == program)
        .map(|(_, part, _)| part)
}

/// The programs.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().copied()
}

/// The lines of [`WRONG`]: program, part of its report, reason.
pub(crate) fn wrong() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    WRONG
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.splitn(3, " | ");
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
}

#[cfg(test)]
mod tests {
    use super::{PROGRAMS, WRONG, failures, with_patience, wrong};
    use crate::outcome::Check;

    /// What comes of runs that report this, one after the other, and how many there were.
    fn outcome(runs: &[&[&str]]) -> (Vec<String>, usize) {
        let mut done = 0;
        let once = || -> Check<Vec<String>> {
            let report = runs.get(done).expect("one run too many");
            done += 1;
            Ok(report.iter().map(|line| (*line).to_owned()).collect())
        };
        let report = with_patience(once).expect("no run ends in an error");
        (report, done)
    }

    #[test]
    fn only_their_own_time_out_is_tried_again() {
        const LATE: &[&str] = &["1 - timeout in waiting for the container status", "stdout: "];
        const WRONG: &[&str] = &["1 - rootfs propagation"];
        assert_eq!(outcome(&[&[]]), (vec![], 1));
        assert_eq!(outcome(&[WRONG]).1, 1, "a fault is not given a second chance");
        assert_eq!(outcome(&[LATE, &[]]), (vec![], 2));
        assert_eq!(outcome(&[LATE, WRONG]).1, 2);
        let (report, runs) = outcome(&[LATE, LATE, LATE]);
        assert_eq!((report.len(), runs), (LATE.len(), 3), "the third time it counts");
    }

    #[test]
    fn what_is_to_be_done_does_not_count() {
        let report = "TAP version 13\nok 1 - a\nnot ok 2 - b\nnot ok 3 # TODO c\n# not ok\n1..3\n";
        assert_eq!(failures(report), ["2 - b"]);
    }

    #[test]
    fn each_line_names_a_program_and_gives_a_reason() {
        let lines = WRONG
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .count();
        assert_eq!(wrong().count(), lines, "a line without three fields");
        for (program, part, reason) in wrong() {
            assert!(PROGRAMS.contains(&program), "{program}");
            assert!(!part.is_empty() && reason.len() > 10, "{program}: {part}");
        }
    }
}

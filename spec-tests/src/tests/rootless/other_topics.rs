//! Runs in: SUITE. What other topics try as root, for an ordinary user with subordinate ids, whose ids
//! newuidmap writes.

use crate::{
    case::Case,
    outcome::{Check, same},
    runner::{self, Run},
    tests::{
        devices as devices_of_users,
        lifecycle::hooks,
        mounts::{options as mount_options, order as mounts_in_order},
        process::{self, terminal},
        security::roots,
        spec::keys as spec_keys,
    },
};
use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

tests! {
    rootless/preserve_fds_with_gaps: crate::tests::rootless::RANGES => |c| by_user(c, preserve_fds),
    rootless/exec_cwd_that_is_missing: crate::tests::rootless::RANGES => |c| by_user(c, roots::cwd_that_is_missing),
    rootless/source_made_by_an_earlier_mount: crate::tests::rootless::RANGES => |c| by_user(c, mounts_in_order::source_made_by_an_earlier_mount),
    rootless/source_covered_by_an_earlier_mount: crate::tests::rootless::RANGES => |c| by_user(c, mounts_in_order::source_covered_by_an_earlier_mount),
    rootless/below_a_read_only_bind: crate::tests::rootless::RANGES => |c| by_user(c, mounts_in_order::below_a_read_only_bind),
    rootless/tmpfs_has_the_mode_of_its_place: crate::tests::rootless::RANGES => |c| by_user(c, mount_options::tmpfs_has_the_mode_of_its_place),
    rootless/readonly_tmpfs_with_tmpcopyup: crate::tests::rootless::RANGES => |c| by_user(c, mount_options::readonly_tmpfs_with_tmpcopyup),
    rootless/several_options_in_one_string: crate::tests::rootless::RANGES => |c| by_user(c, mount_options::several_options_in_one_string),
    rootless/masked_twice_is_mounted_once: crate::tests::rootless::RANGES => |c| by_user(c, mount_options::masked_twice_is_mounted_once),
    rootless/entry_on_a_directory_is_left_out: crate::tests::rootless::RANGES => |c| by_user(c, devices_of_users::check_directory),
    rootless/ptmx_is_the_containers_own: crate::tests::rootless::RANGES => |c| by_user(c, devices_of_users::check_ptmx),
    rootless/keys_in_another_case: crate::tests::rootless::RANGES => |c| by_user(c, spec_keys::config_json),
    rootless/newlines_in_the_foreground_are_plain: crate::tests::rootless::RANGES => |c| by_user(c, terminal::newlines_in_the_foreground_are_plain),
    rootless/output_files_of_annotations: crate::tests::rootless::RANGES => |c| by_user(c, hooks::output_files_of_annotations),
    rootless/hooks_run_in_the_bundle: crate::tests::rootless::RANGES => |c| by_user(c, hooks::run_in_the_bundle),
}

fn by_user(c: &mut Case, test: fn(&mut Case) -> Check) -> Check {
    crate::tests::rootless::user_with_ranges(c)?;
    if let Some(user) = &mut c.user {
        user.owns_all = true;
    }
    test(c)
}

fn preserve_fds(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let run = with_fds(c, &c.bundle_args("run", &["--preserve-fds", "6"], &c.id)?)?;
    same(
        "run",
        vec![0, 1, 2, 4, 8],
        process::fd_numbers(&run.ok()?.seen()?),
    )?;
    c.start_sleeper()?;
    let words = ["exec", "--preserve-fds", "6", &c.id, "/bin/probe"].map(OsString::from);
    let run = with_fds(c, &words)?;
    same(
        "exec",
        vec![0, 1, 2, 4, 8],
        process::fd_numbers(&run.ok()?.seen()?),
    )
}

/// The runtime with these descriptors open, of which the last is not passed on.
fn with_fds(c: &Case, words: &[OsString]) -> Check<Run> {
    let own = c.command();
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            "exec 4</dev/null 8</dev/null 9</dev/null; exec \"$@\"",
            "sh",
        ])
        .arg(own.get_program())
        .args(own.get_args())
        .args(words)
        .env_clear()
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(&c.dir)
        .stdin(Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()
}

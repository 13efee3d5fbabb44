//! Runs in: SUITE. Errors for people: what somebody does wrong, or what the machine lacks, is told with what
//! to do next. The words are each runtime's own; where a test looks for some, they are those that a person
//! would search for.

use crate::{
    case::Case,
    faults,
    outcome::{Check, Stop, contains, ensure, same},
    runner::{self, Run},
    user::{FIRST, UID, User},
};
use serde_json::json;
use std::process::{Command, Stdio};

tests! {
    people/no_argument_lists_the_commands,
    people/a_wrong_command_is_told_the_nearest,
    people/a_wrong_flag_is_named_with_the_help,
    people/no_bundle,
    people/no_such_container,
    people/not_root_wants_a_user_namespace,
    people/not_root_and_containers_of_root,
    people/no_place_for_state,
    people/a_kernel_that_is_too_old,
    people/old_kernel_and_a_container_that_is_there,
}

tests! {
    people/no_newuidmap: &[Program("newuidmap")],
    people/no_cgroup2: &[Program("unshare")],
}

fn bare(c: &Case, words: &[&str]) -> Check<Run> {
    let mut command = c.host.runtime_command();
    command.args(words).current_dir(&c.dir);
    runner::start(&mut command, &c.dir)?.finish()
}

/// One line on standard error, which holds each of `words`.
fn says(run: Run, words: &[&str]) -> Check {
    let run = run.refused()?;
    words
        .iter()
        .try_for_each(|word| contains("message", &run.stderr, word))
}

fn no_argument_lists_the_commands(c: &mut Case) -> Check {
    let run = bare(c, &[])?.ok()?;
    for word in ["create", "delete", "exec", "run", "state", "--root", "--help"] {
        contains("help", &run.stdout, word)?;
    }
    same("stderr", "", run.stderr.as_str())
}

fn a_wrong_command_is_told_the_nearest(c: &mut Case) -> Check {
    for (wrong, right) in [
        ("crate", "create"),
        ("exce", "exec"),
        ("statt", "state"),
        ("lst", "list"),
        ("dele", "delete"),
        ("resum", "resume"),
        ("frobnicate", "--help"),
    ] {
        let run = bare(c, &[wrong, "x"])?;
        ensure!(run.code() != 0, "{}", run.report());
        contains("message", &run.stderr, wrong)?;
        contains("message", &run.stderr, right)?;
    }
    Ok(())
}

fn a_wrong_flag_is_named_with_the_help(c: &mut Case) -> Check {
    let run = bare(c, &["run", "--detch", "x"])?.wants(1)?;
    contains("message", &run.stderr, "detch")?;
    contains("help", &run.stdout, "detach")
}

fn no_bundle(c: &mut Case) -> Check {
    says(c.rt(&["run", &c.id])?, &["config.json", "spec"])
}

fn no_such_container(c: &mut Case) -> Check {
    let place = c.state_root.to_string_lossy().into_owned();
    for words in [["state", "nobody"], ["start", "nobody"], ["delete", "nobody"]] {
        says(c.rt(&words)?, &["container does not exist", "nobody", &place])?;
    }
    Ok(())
}

fn become_user(c: &mut Case) -> Check {
    c.user = Some(User::new(c.host, &c.dir)?);
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
        linux.remove("resources");
    }
    Ok(())
}

fn not_root_wants_a_user_namespace(c: &mut Case) -> Check {
    become_user(c)?;
    says(c.run()?, &["root", "user namespace", "--rootless"])?;
    c.nothing_left()
}

fn not_root_and_containers_of_root(c: &mut Case) -> Check {
    use std::os::unix::fs::PermissionsExt;
    c.start_sleeper()?;
    std::fs::set_permissions(&c.state_root, std::fs::Permissions::from_mode(0o700))?;
    let user = User::new(c.host, &c.dir.join("home"))?;
    let mut command = user.command();
    command.arg("--root").arg(&c.state_root).args(["state", &c.id]);
    let run = runner::start(command.current_dir("/"), &c.dir)?.finish()?;
    says(run, &["permission denied", &UID.to_string(), "sudo", "--root"])
}

/// XDG_RUNTIME_DIR is absent after su(1), or names what the login manager has taken away.
fn no_place_for_state(c: &mut Case) -> Check {
    become_user(c)?;
    let words = c.bundle_args("run", &[], &c.id)?;
    for place in [None, Some("/nonexistent/run")] {
        let Some(user) = &c.user else { continue };
        let mut command = user.command();
        command.env_remove("XDG_RUNTIME_DIR");
        command.envs(place.map(|place| ("XDG_RUNTIME_DIR", place)));
        command.args(&words).current_dir(&c.dir).stdin(Stdio::null());
        let run = runner::start(&mut command, &c.dir)?.finish()?;
        says(run, &["XDG_RUNTIME_DIR", "--root"])?;
    }
    Ok(())
}

/// Each of these calls is younger than some kernel that is still in use. A runtime may do without; or it says
/// what it needs.
const YOUNG: [(&str, libc::c_long); 9] = [
    ("clone3", libc::SYS_clone3),
    ("openat2", libc::SYS_openat2),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("fsopen", libc::SYS_fsopen),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("close_range", libc::SYS_close_range),
    ("faccessat2", libc::SYS_faccessat2),
    ("pidfd_open", libc::SYS_pidfd_open),
];

fn a_kernel_that_is_too_old(c: &mut Case) -> Check {
    for (name, call) in YOUNG {
        let run = faults::on_a_kernel_without(call, || c.run())?;
        if run.code() != 0 {
            says(run, &["Linux", "5.14"]).map_err(|stop| within(name, stop))?;
        }
        c.nothing_left().map_err(|stop| within(name, stop))?;
    }
    Ok(())
}

fn old_kernel_and_a_container_that_is_there(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for (name, call) in YOUNG {
        for words in [
            vec!["state", &c.id],
            vec!["exec", &c.id, "/bin/true"],
            vec!["list"],
        ] {
            let run = faults::on_a_kernel_without(call, || c.rt(&words))?;
            if run.code() != 0 {
                contains("message", &run.stderr, "5.14").map_err(|stop| within(name, stop))?;
            }
        }
    }
    same("status", "running", c.status()?.as_str())
}

fn within(name: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Fail(text) => Stop::Fail(format!("without {name}: {text}")),
        other => other,
    }
}

fn no_newuidmap(c: &mut Case) -> Check {
    become_user(c)?;
    c.join_namespace("user", None);
    let ranges = json!([
        {"containerID": 0, "hostID": UID, "size": 1},
        {"containerID": 1, "hostID": FIRST, "size": 1000},
    ]);
    c.linux().uid_mappings(ranges.clone());
    c.linux().gid_mappings(ranges);
    if let Some(user) = &mut c.user {
        user.path = "/nonexistent".into();
    }
    says(c.run()?, &["newuidmap", "uidmap", "one id"])?;
    c.nothing_left()
}

/// The host's view without any cgroup2, as on a machine that boots with version 1 alone.
fn no_cgroup2(c: &mut Case) -> Check {
    const TAKE_AWAY: &str = "while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
        mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "/bin/sh", "-c", TAKE_AWAY, "sh"])
        .args(c.host.runtime_words())
        .arg("--root")
        .arg(&c.state_root)
        .args(c.bundle_args("run", &[], &c.id)?)
        .stdin(Stdio::null());
    let run = runner::start(&mut command, &c.dir)?.finish()?;
    says(run, &["cgroup2", "mount", "systemd.unified_cgroup_hierarchy=1"])?;
    c.nothing_left()
}

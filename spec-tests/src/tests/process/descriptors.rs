//! Runs in: SUITE. The descriptors that the program finds: standard input to error, those of the caller,
//! sockets of a service manager.

use super::{fd_numbers, run_with_fds};
use crate::{
    case::Case,
    outcome::{Check, ensure, same},
    runner,
};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
};

tests! {
    process/stdio_only,
    process/preserve_fds,
    process/preserve_fds_with_gaps,
    process/preserve_fds_that_are_not_open,
    process/gaps_of_preserve_fds_are_empty_before_start,
    process/listen_fds_that_are_not_open,
    process/listen_pid_without_pid_namespace,
    process/listen_pid_in_a_joined_pid_namespace,
    process/standard_streams_get_user_and_group,
    process/listen_fds,
    process/listen_fdnames,
}

fn stdio_only(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[3, 5, 9], &[], &[])?.ok()?.seen()?;
    same("fds", vec![0, 1, 2], fd_numbers(&report))
}

fn preserve_fds(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[3, 4, 5, 9], &[], &["--preserve-fds", "2"])?
        .ok()?
        .seen()?;
    same("fds", vec![0, 1, 2, 3, 4], fd_numbers(&report))
}

/// `podman run --preserve-fd 5` says 3 and passes one.
fn preserve_fds_with_gaps(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[4, 8, 9], &[], &["--preserve-fds", "6"])?
        .ok()?
        .seen()?;
    same("fds", vec![0, 1, 2, 4, 8], fd_numbers(&report))
}

fn preserve_fds_that_are_not_open(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    // The shell that opens them has some of its own far up.
    for count in ["3", "2000000000"] {
        let report = run_with_fds(c, &[3], &[], &["--preserve-fds", count])?
            .ok()?
            .seen()?;
        let mut found = fd_numbers(&report);
        found.retain(|number| *number < 10);
        same("fds", vec![0, 1, 2, 3], found)?;
    }
    Ok(())
}

/// What the runtime itself opens gets the lowest numbers: it must not take the place of what is not there. A
/// created container can be looked into by `exec`.
fn gaps_of_preserve_fds_are_empty_before_start(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let log = c.dir.join("log").to_string_lossy().into_owned();
    let script = "exec 9</dev/null; exec \"$@\"";
    let mut words: Vec<OsString> = vec!["-c".into(), script.into(), "sh".into()];
    words.extend(c.host.runtime_words());
    words.extend([
        "--log".into(),
        log.into(),
        "--root".into(),
        c.state_root.clone().into(),
    ]);
    words.extend(c.bundle_args("create", &["--preserve-fds", "7"], &c.id)?);
    let mut command = Command::new("/bin/sh");
    command.args(words).current_dir(&c.dir).stdin(Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", c.pid()?))? {
        let path = entry?.path();
        let number: i32 = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .parse()?;
        let file = fs::read_link(&path)?;
        if number > 2 && !file.to_string_lossy().starts_with("socket:") {
            open.push((number, file));
        }
    }
    same(
        "descriptors that are no sockets",
        vec![(9, "/dev/null".into())],
        open,
    )?;
    c.delete()
}

fn listen_fds_that_are_not_open(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    run_with_fds(c, &[3], &["LISTEN_FDS=2"], &[])?
        .wants(1)?
        .refused()?;
    c.nothing_left()
}

/// sd_listen_fds(3) compares it with getpid(2).
fn check_listen_pid(c: &mut Case) -> Check {
    c.shell("echo $LISTEN_PID $$");
    let run = run_with_fds(c, &[3], &["LISTEN_FDS=1"], &[])?.ok()?;
    let (said, own) = run.stdout.trim().split_once(' ').unwrap_or_default();
    ensure!(own != "1", "it is process 1: the test shows nothing");
    same("LISTEN_PID", own, said)
}

fn listen_pid_without_pid_namespace(c: &mut Case) -> Check {
    c.drop_namespace("pid");
    check_listen_pid(c)
}

fn listen_pid_in_a_joined_pid_namespace(c: &mut Case) -> Check {
    let mut other = Case::new(c.host)?;
    other.start_sleeper()?;
    c.join_namespace("pid", Some(&format!("/proc/{}/ns/pid", other.pid()?)));
    check_listen_pid(c)?;
    other.delete()
}

/// Whoever has only the group in common may open /dev/stdout anew. The group of a pipe or terminal is its own
/// matter.
fn standard_streams_get_user_and_group(c: &mut Case) -> Check {
    for (uid, gid, wish) in [(5, 6, (5, 6)), (0, 6, (0, 6)), (0, 0, (77, 88))] {
        c.args(&["/bin/true"]);
        c.process().user().clear().uid(uid).gid(gid);
        let path = c.dir.join("stdout");
        let file = fs::File::create(&path)?;
        nix::unistd::chown(&path, Some(77.into()), Some(88.into()))?;
        let mut command = c.command();
        command.args(c.bundle_args("create", &[], &c.id)?).stdout(file);
        runner::start_with_own_stdio(&mut command, path.clone(), c.dir.join("none"))?
            .finish()?
            .ok()?;
        let found = fs::metadata(&path)?;
        same("owner", wish, (found.uid(), found.gid()))?;
        c.delete()?;
    }
    Ok(())
}

/// sd_listen_fds(3): names go with the sockets, one each. What the service manager says wins over
/// config.json.
fn listen_fdnames(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    c.process().env(["LISTEN_FDNAMES=of config.json"]);
    for (count, names, wish) in [
        (
            "LISTEN_FDS=2",
            "LISTEN_FDNAMES=http:admin",
            "LISTEN_FDNAMES=http:admin",
        ),
        // Not one each: the whole list would be refused inside.
        (
            "LISTEN_FDS=1",
            "LISTEN_FDNAMES=http:admin",
            "LISTEN_FDNAMES=of config.json",
        ),
    ] {
        let report = run_with_fds(c, &[3, 4], &[count, names], &[])?.ok()?.seen()?;
        let found: Vec<_> = (report.env.iter())
            .filter(|entry| entry.starts_with("LISTEN_FDNAMES="))
            .collect();
        same("names", vec![wish], found)?;
    }
    Ok(())
}

fn listen_fds(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let report = run_with_fds(c, &[3, 4], &["LISTEN_FDS=1"], &["--preserve-fds", "1"])?
        .ok()?
        .seen()?;
    same(
        "fds (LISTEN_FDS count first, then preserved ones)",
        vec![0, 1, 2, 3, 4],
        fd_numbers(&report),
    )?;
    for wish in ["LISTEN_FDS=1", "LISTEN_PID=1"] {
        let env = &report.env;
        ensure!(
            env.iter().any(|entry| entry == wish),
            "wish {wish}, reality {env:?}"
        );
    }
    Ok(())
}

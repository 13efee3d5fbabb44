//! A runtime that is killed half way, and two commands on one id at once.

use crate::{
    case::Case,
    children::{self, Exit},
    config::Hook,
    outcome::{Check, Stop, contains, ensure, same},
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    fs, thread,
    time::{Duration, Instant},
};

tests! {
    crash/create_killed_at_any_point_can_be_deleted,
    crash/run_killed_at_any_point_can_be_deleted,
    crash/start_killed_at_any_point_can_be_deleted,
    crash/exec_killed_leaves_the_container_alone,
    crash/broken_state_file_can_be_deleted,
    crash/two_creates_of_one_id,
    crash/two_starts_of_one_id,
    crash/two_deletes_of_one_id,
    crash/kill_and_delete_at_once,
    crash/state_while_create_runs,
}

const POINTS: u32 = 14;

/// Every process of the container must be gone and the id usable again.
fn cleans_up(c: &mut Case, at: Duration) -> Check {
    let at = |stop: Stop| match stop {
        Stop::Fail(text) => Stop::Fail(format!("killed after {at:?}: {text}")),
        other => other,
    };
    c.rt(&["delete", "--force", &c.id])
        .and_then(|run| run.ok())
        .map_err(at)?;
    // INIT may need a moment to die after its runtime.
    let mut left = c.leftovers();
    for _ in 0..100 {
        if left.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
        left = c.leftovers();
    }
    if !left.is_empty() {
        return Err(at(Stop::Fail(format!(
            "delete --force has left {}",
            left.join("; ")
        ))));
    }
    let marker = c.dir.to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc")?.flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        ensure!(
            !command.contains(&marker),
            "process left: {} {command}",
            entry.path().display()
        );
    }
    c.start_sleeper().map_err(at)?;
    c.delete().map_err(at)
}

/// Kills `command` at many points over the time it takes.
fn killed_at_any_point(
    c: &mut Case,
    prepare: impl Fn(&mut Case) -> Check,
    words: impl Fn(&Case) -> Check<Vec<std::ffi::OsString>>,
) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    prepare(c)?;
    let started = Instant::now();
    c.rt(&words(c)?)?.ok()?;
    let whole = started.elapsed();
    c.delete()?;
    for point in 0..POINTS {
        prepare(c)?;
        c.args(&["/bin/sleep", "1000"]);
        let delay = whole * point / (POINTS - 2);
        let live = c.spawn(&words(c)?)?;
        thread::sleep(delay);
        children::signal(live.pid, Signal::SIGKILL);
        live.finish()?;
        cleans_up(c, delay)?;
    }
    Ok(())
}

fn create_killed_at_any_point_can_be_deleted(c: &mut Case) -> Check {
    killed_at_any_point(c, |_| Ok(()), |c| c.bundle_args("create", &[], &c.id))
}

fn run_killed_at_any_point_can_be_deleted(c: &mut Case) -> Check {
    killed_at_any_point(c, |_| Ok(()), |c| c.bundle_args("run", &["--detach"], &c.id))
}

fn start_killed_at_any_point_can_be_deleted(c: &mut Case) -> Check {
    killed_at_any_point(
        c,
        |c| c.create()?.ok().map(drop),
        |c| Ok(vec!["start".into(), (&c.id).into()]),
    )
}

fn exec_killed_leaves_the_container_alone(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for point in 0..POINTS {
        let live = c.spawn(&["exec", &c.id, "/bin/sleep", "1000"])?;
        thread::sleep(Duration::from_millis(u64::from(point)));
        children::signal(live.pid, Signal::SIGKILL);
        live.finish()?;
        same("status", "running", c.status()?.as_str())?;
        c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    }
    c.delete()?;
    c.nothing_left()
}

fn broken_state_file_can_be_deleted(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let dir = c.state_root.join(&c.id);
    for entry in fs::read_dir(&dir)?.flatten() {
        if entry.file_type()?.is_file() {
            fs::write(entry.path(), "{\"torn")?;
        }
    }
    // The rest of the test is about staying sane: an error, not a crash, and no second container's harm.
    let run = c.rt(&["state", &c.id])?;
    ensure!(
        matches!(run.exit, Exit::Code(code) if code != 0),
        "state of a torn record: {}",
        run.report()
    );
    // What the record named is unknown now; remove the rest by hand as an administrator would.
    let run = c.rt(&["delete", "--force", &c.id])?;
    ensure!(
        matches!(run.exit, Exit::Code(_)),
        "delete of a torn record: {}",
        run.report()
    );
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    for pid in fs::read_to_string(c.cgroup().join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
    {
        let pid = pid.parse()?;
        children::signal(pid, Signal::SIGKILL);
        children::wait_for(pid, Duration::from_secs(5));
    }
    let cgroup = c.cgroup();
    c.wait_until("the cgroup can be removed", || {
        Ok(!cgroup.exists() || fs::remove_dir(&cgroup).is_ok())
    })
}

fn two_creates_of_one_id(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    for round in 0..5 {
        let words = c.bundle_args("create", &[], &c.id)?;
        let (first, second) = (c.spawn(&words)?, c.spawn(&words)?);
        let codes = [first.finish()?, second.finish()?];
        let good = codes.iter().filter(|r| r.code() == 0).count();
        ensure!(
            good == 1,
            "round {round}: wish exactly one success, reality {good}:\n{}\n{}",
            codes[0].report(),
            codes[1].report()
        );
        same("status", "created", c.status()?.as_str())?;
        c.rt(&["start", &c.id])?.ok()?;
        same("status", "running", c.status()?.as_str())?;
        c.delete()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn two_starts_of_one_id(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    for _ in 0..5 {
        c.create()?.ok()?;
        let (first, second) = (c.spawn(&["start", &c.id])?, c.spawn(&["start", &c.id])?);
        let good = [first.finish()?, second.finish()?]
            .iter()
            .filter(|r| r.code() == 0)
            .count();
        same("number of successful starts", 1, good)?;
        same("status", "running", c.status()?.as_str())?;
        c.delete()?;
    }
    Ok(())
}

fn two_deletes_of_one_id(c: &mut Case) -> Check {
    for _ in 0..5 {
        c.start_sleeper()?;
        let (first, second) = (
            c.spawn(&["delete", "--force", &c.id])?,
            c.spawn(&["delete", "--force", &c.id])?,
        );
        let codes = [first.finish()?, second.finish()?];
        ensure!(
            codes.iter().all(|r| r.code() == 0),
            "wish two successes:\n{}\n{}",
            codes[0].report(),
            codes[1].report()
        );
        c.nothing_left()?;
    }
    Ok(())
}

fn kill_and_delete_at_once(c: &mut Case) -> Check {
    for _ in 0..5 {
        c.start_sleeper()?;
        let (kill, delete) = (
            c.spawn(&["kill", &c.id, "KILL"])?,
            c.spawn(&["delete", "--force", &c.id])?,
        );
        kill.finish()?;
        delete.finish()?.ok()?;
        c.nothing_left()?;
    }
    Ok(())
}

/// Callers ask until there is a state, and go on with `start` then. A hook may ask as well.
fn state_while_create_runs(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let in_hook = c.dir.join("state-in-hook");
    let command = c.command();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = format!(
        "cat >/dev/null; {} state {} >{} 2>&1; sleep 0.3",
        words.join(" "),
        c.id,
        in_hook.display()
    );
    c.hooks()
        .create_runtime([Hook::new().path("/bin/sh").args(json!(["sh", "-c", line]))]);
    let live = c.spawn(&c.bundle_args("create", &[], &c.id)?)?;
    loop {
        let run = c.rt(&["state", &c.id])?;
        if run.code() != 0 {
            run.refused_with("does not exist")?;
            continue;
        }
        let status = run.json()?["status"].as_str().unwrap_or_default().to_owned();
        same("the first status that is told", "created", status.as_str())?;
        break;
    }
    c.rt(&["start", &c.id])?.ok()?;
    live.finish()?.ok()?;
    contains(
        "state, in a hook",
        &fs::read_to_string(&in_hook)?,
        "does not exist",
    )?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")
}

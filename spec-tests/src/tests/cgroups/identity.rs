//! A cgroup's path says only where it was: by now another container may have it, one of another state root
//! perhaps. No command on the one may touch the other's processes.

use super::{commands_leave_it_alone, kill_when_there, second_root, within};
use crate::{
    case::Case,
    outcome::{Check, ensure, same},
    tests::cgroups::Neighbour,
};
use serde_json::json;
use std::{fs, path::Path};

tests! {
    cgroup/of_another_root_after_a_stop,
    cgroup/of_another_root_after_a_stop_without_pid_namespace,
    cgroup/of_another_root_is_refused_while_it_runs,
    cgroup/of_another_root_and_a_killed_create,
    cgroup/another_one_in_its_place,
    cgroup/prepared_one_is_used_as_it_is,
}

fn stop_and_take_over(c: &mut Case) -> Check {
    let second = second_root(c)?;
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    ensure!(c.cgroup().exists(), "the cgroup of a stopped container is gone");
    within(c, &second, Case::start_sleeper)?;
    let checked = commands_leave_it_alone(c, &second);
    within(c, &second, |c| c.delete())?;
    checked
}

fn of_another_root_after_a_stop(c: &mut Case) -> Check {
    stop_and_take_over(c)
}

/// Here SIGKILL to init is one to all in the cgroup.
fn of_another_root_after_a_stop_without_pid_namespace(c: &mut Case) -> Check {
    c.drop_namespace("pid");
    stop_and_take_over(c)
}

fn of_another_root_is_refused_while_it_runs(c: &mut Case) -> Check {
    let second = second_root(c)?;
    within(c, &second, Case::start_sleeper)?;
    let checked = c
        .create()
        .and_then(|run| run.wants(1)?.refused_with("cgroup"))
        .and_then(|_| within(c, &second, |c| same("status", "running", c.status()?.as_str())));
    within(c, &second, |c| c.delete())?;
    checked
}

/// What is killed before it could see that the cgroup is in use has a state that names it.
fn of_another_root_and_a_killed_create(c: &mut Case) -> Check {
    const ROUNDS: usize = 25;
    let second = second_root(c)?;
    within(c, &second, Case::start_sleeper)?;
    let pid = within(c, &second, |c| c.pid())?;
    let mut checked = Ok(());
    for _ in 0..ROUNDS {
        let live = c.spawn(&c.bundle_args("create", &[], &c.id)?)?;
        kill_when_there(live, &c.state_root.join(&c.id))?;
        c.delete()?;
        checked = within(c, &second, |c| same("status", "running", c.status()?.as_str()));
        if checked.is_err() {
            break;
        }
    }
    let same_process = within(c, &second, |c| same("process", pid, c.pid().unwrap_or(0)));
    within(c, &second, |c| c.delete())?;
    checked.and(same_process)?;
    c.nothing_left()
}

/// Somebody has moved the processes away, removed the cgroup, and made one of that name for something else.
fn another_one_in_its_place(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let pid = c.pid()?;
    let parent = c.cgroup().parent().map(Path::to_owned).unwrap_or_default();
    let elsewhere = parent.join("elsewhere");
    fs::create_dir(&elsewhere)?;
    fs::write(elsewhere.join("cgroup.procs"), pid.to_string())?;
    fs::remove_dir(c.cgroup())?;
    fs::create_dir(c.cgroup())?;
    let stranger = Neighbour::start()?;
    stranger.enter(&c.cgroup())?;
    let checked = stranger_is_left_alone(c, &stranger, pid);
    drop(stranger);
    c.wait_until("the stranger's end", || {
        Ok(fs::read_to_string(c.cgroup().join("cgroup.procs"))?.is_empty())
    })?;
    fs::remove_dir(c.cgroup())?;
    c.wait_until("the container's end", || Ok(fs::remove_dir(&elsewhere).is_ok()))?;
    checked?;
    c.nothing_left()
}

fn stranger_is_left_alone(c: &Case, stranger: &Neighbour, pid: i32) -> Check {
    c.rt(&["pause", &c.id])?.wants(1)?.refused_with("cgroup")?;
    same(
        "cgroup.freeze",
        "0",
        fs::read_to_string(c.cgroup().join("cgroup.freeze"))?.trim(),
    )?;
    let resources = c.dir.join("resources.json");
    fs::write(
        &resources,
        json!({"unified": {"cgroup.max.depth": "3"}}).to_string(),
    )?;
    c.rt(&["update", "-r", &resources.display().to_string(), &c.id])?
        .wants(1)?
        .refused_with("cgroup")?;
    same("ps", json!([]), c.rt(&["ps", "-f", "json", &c.id])?.ok()?.json()?)?;
    same("status", "running", c.status()?.as_str())?;
    let place = c.rt(&["exec", &c.id, "/bin/cat", "/proc/self/cgroup"])?.ok()?;
    ensure!(
        place.stdout.trim() != "0::/",
        "exec has put its process into the stranger's cgroup"
    );
    c.rt(&["kill", "--all", &c.id, "KILL"])?.ok()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    ensure!(
        stranger.is_alive(),
        "delete has ended a process that is not the container's"
    );
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ensure!(stat.is_empty() || stat.contains(") Z "), "init runs on");
    Ok(())
}

/// By an administrator, with settings made by hand: another directory would not have them.
fn prepared_one_is_used_as_it_is(c: &mut Case) -> Check {
    fs::create_dir_all(c.cgroup())?;
    fs::write(c.cgroup().join("cgroup.max.depth"), "7")?;
    c.start_sleeper()?;
    let depth = fs::read_to_string(c.cgroup().join("cgroup.max.depth"))?;
    same("cgroup.max.depth", "7", depth.trim())?;
    c.delete()?;
    c.nothing_left()
}

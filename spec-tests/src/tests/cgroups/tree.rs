//! config-linux.md `cgroupsPath` and cgroup ownership, and what else may be in the tree: processes, frozen
//! and threaded cgroups, other containers, and cgroups that the container has made itself.

use super::Neighbour;
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, contains, ensure, same},
    tests::cgroups::{file_is, limit, remove_parents},
};
use serde_json::json;
use std::{fs, os::unix::fs::MetadataExt, path::Path};

tests! {
    cgroup/path_relative_is_beside_the_runtimes_own,
    cgroup/frozen_cgroup_is_refused,
    cgroup/frozen_parent_is_refused,
    cgroup/of_a_stopped_container_is_refused,
    cgroup/threaded_one_below_is_removed_too,
    cgroup/threaded_subtree_can_be_used,
    cgroup/below_processes_without_limits,
    cgroup/init_in_a_cgroup_of_its_own_making,
    cgroup/belongs_to_the_user_who_can_write_to_it,
    cgroup/belongs_to_root_if_nobody_can_write_to_it,
    cgroup/ps_table_with_options,
    exec/in_a_cgroup_below,
    exec/in_a_cgroup_outside_is_refused,
    exec/in_a_cgroup_of_one_controller_is_refused,
}

tests! {
    cgroup/below_processes_stays_a_domain: &[Controller("cpu"), Controller("pids")],
}

/// The suite's own cgroup, which is also that of the runtime that it starts.
fn own_cgroup() -> Check<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    Ok(text
        .lines()
        .find_map(|l| l.strip_prefix("0::"))
        .unwrap_or("/")
        .to_owned())
}

/// As runc: a cgroup with processes in it could not hand controllers down to one below.
fn path_relative_is_beside_the_runtimes_own(c: &mut Case) -> Check {
    let absolute = c.config["linux"]["cgroupsPath"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let relative = absolute.trim_start_matches('/').to_owned();
    c.linux().cgroups_path(&relative);
    c.drop_namespace("cgroup");
    c.shell("grep 0:: /proc/self/cgroup");
    let run = c.run()?.ok()?;
    let own = own_cgroup()?;
    let beside = Path::new(&own).parent().unwrap_or(Path::new("/")).join(&relative);
    same(
        "cgroup",
        format!("0::{}", beside.display()).as_str(),
        run.stdout.trim(),
    )?;
    let parent = c.host.cgroup2.join(beside.strip_prefix("/")?);
    ensure!(!parent.exists(), "{} is left", parent.display());
    if let Some(parent) = parent.parent() {
        fs::remove_dir(parent)?;
    }
    Ok(())
}

/// Frozen from the start, the container would never come up.
fn frozen_cgroup_is_refused(c: &mut Case) -> Check {
    fs::create_dir_all(c.cgroup())?;
    fs::write(c.cgroup().join("cgroup.freeze"), "1")?;
    c.create()?
        .wants(1)?
        .refused_with("container's cgroup unexpectedly frozen")?;
    ensure!(c.cgroup().exists(), "the cgroup that was there before is gone");
    fs::write(c.cgroup().join("cgroup.freeze"), "0")?;
    fs::remove_dir(c.cgroup())?;
    c.nothing_left()
}

fn frozen_parent_is_refused(c: &mut Case) -> Check {
    c.set_cgroup_leaf("parent/box");
    let parent = c.cgroup().parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(&parent)?;
    fs::write(parent.join("cgroup.freeze"), "1")?;
    let run = c.create()?;
    fs::write(parent.join("cgroup.freeze"), "0")?;
    run.wants(1)?.refused_with("frozen")?;
    ensure!(!c.cgroup().exists(), "{} is left", c.cgroup().display());
    remove_parents(c)
}

/// Its `delete` would kill the other.
fn of_a_stopped_container_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    let other = format!("{}-other", c.id);
    let run = c
        .rt(&c.bundle_args("create", &[], &other)?)?
        .wants(1)?
        .refused_with("cgroup")?;
    contains("stderr", &run.stderr, &c.id)?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn threaded_one_below_is_removed_too(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let threads = c.cgroup().join("threads");
    fs::create_dir(&threads)?;
    fs::write(threads.join("cgroup.type"), "threaded")?;
    fs::write(threads.join("cgroup.threads"), c.pid()?.to_string())?;
    same(
        "ps",
        json!([c.pid()?]),
        c.rt(&["ps", "-f", "json", &c.id])?.ok()?.json()?,
    )?;
    c.rt(&["pause", &c.id])?.ok()?;
    c.rt(&["resume", &c.id])?.ok()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

/// Below a domain that has become a threaded one, a new cgroup is in no state to hold processes before it is
/// threaded too.
fn threaded_subtree_can_be_used(c: &mut Case) -> Check {
    c.set_cgroup_leaf("parent/box");
    let parent = c.cgroup().parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(parent.join("threads"))?;
    fs::write(parent.join("threads/cgroup.type"), "threaded")?;
    c.start_sleeper()?;
    file_is(c, "cgroup.type", "threaded")?;
    c.delete()?;
    fs::remove_dir(parent.join("threads"))?;
    remove_parents(c)
}

fn below_processes_without_limits(c: &mut Case) -> Check {
    c.set_cgroup_leaf("parent/box");
    let neighbour = Neighbour::above(c)?;
    c.start_sleeper()?;
    let parent = c.cgroup().parent().map(Path::to_owned).unwrap_or_default();
    let kind = fs::read_to_string(parent.join("cgroup.type"))?;
    same("cgroup.type of the cgroup above", "domain", kind.trim())?;
    c.delete()?;
    drop(neighbour);
    remove_parents(c)
}

/// The kernel takes `+cpu` there, and makes the cgroup of the neighbour a threaded one for good.
fn below_processes_stays_a_domain(c: &mut Case) -> Check {
    c.set_cgroup_leaf("parent/box");
    let neighbour = Neighbour::above(c)?;
    *limit(c, "cpu") = json!({"quota": 20000, "period": 100_000});
    c.create()?.wants(1)?.refused_with("cpu")?;
    let parent = c.cgroup().parent().map(Path::to_owned).unwrap_or_default();
    let kind = fs::read_to_string(parent.join("cgroup.type"))?;
    same("cgroup.type of the cgroup above", "domain", kind.trim())?;
    ensure!(!c.cgroup().exists(), "{} is left", c.cgroup().display());
    drop(neighbour);
    remove_parents(c)
}

/// The cgroup tree of the container, writable inside.
fn mount_cgroups(c: &mut Case, access: &str) {
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(json!(["nosuid", "noexec", "nodev", "relatime", access])),
    );
}

/// As systemd does in a container, and any Docker in Docker.
fn init_in_a_cgroup_of_its_own_making(c: &mut Case) -> Check {
    mount_cgroups(c, "rw");
    c.shell(
        "cd /sys/fs/cgroup && mkdir -p init deep/er && echo 1 > init/cgroup.procs && \
         for name in $(cat cgroup.controllers); do echo +$name > cgroup.subtree_control; done; echo done > /done; \
         exec sleep 1000",
    );
    c.run_with(&["--detach"])?.ok()?;
    let done = c.rootfs("/done");
    c.wait_until("init to have moved", || Ok(done.exists()))?;
    ensure!(
        !fs::read_to_string(c.cgroup().join("cgroup.subtree_control"))?
            .trim()
            .is_empty(),
        "the test's container could not hand controllers down"
    );
    let run = c.rt(&["exec", &c.id, "cat", "/proc/self/cgroup"])?.ok()?;
    contains("cgroup of the new process", &run.stdout, "0::/init")?;
    same(
        "ps",
        json!([c.pid()?]),
        c.rt(&["ps", "-f", "json", &c.id])?.ok()?.json()?,
    )?;
    c.rt(&["pause", &c.id])?.ok()?;
    same("status", "paused", c.status()?.as_str())?;
    c.rt(&["resume", &c.id])?.ok()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

fn owners(c: &Case) -> Check<[u32; 4]> {
    let owner = |name: &str| -> Check<u32> { Ok(fs::metadata(c.cgroup().join(name))?.uid()) };
    Ok([
        owner(".")?,
        owner("cgroup.procs")?,
        owner("cgroup.subtree_control")?,
        owner("cgroup.freeze")?,
    ])
}

fn belongs_to_the_user_who_can_write_to_it(c: &mut Case) -> Check {
    mount_cgroups(c, "rw");
    c.process().user().clear().uid(1000).gid(1000);
    c.shell("mkdir /sys/fs/cgroup/mine && echo 1 > /sys/fs/cgroup/mine/cgroup.procs && echo done; exec sleep 1000");
    let run = c.run_with(&["--detach"])?.ok()?;
    same(
        "owners of the cgroup and three files",
        [1000, 1000, 1000, 0],
        owners(c)?,
    )?;
    let output = || Ok(fs::read_to_string(&run.stdout_file)?.trim() == "done");
    c.wait_until("the container to have made a cgroup", output)
}

fn belongs_to_root_if_nobody_can_write_to_it(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    mount_cgroups(c, "ro");
    c.start_sleeper()?;
    same("owners, mounted read-only", [0; 4], owners(c)?)?;
    c.delete()?;
    c.drop_namespace("cgroup");
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.pop();
    }
    c.start_sleeper()?;
    same("owners, in the host's cgroup namespace", [0; 4], owners(c)?)
}

fn ps_table_with_options(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let pid = c.pid()?.to_string();
    // runc's `start` returns before the program is executed.
    let name = format!("/proc/{pid}/comm");
    c.wait_until("the program", || Ok(fs::read_to_string(&name)?.trim() == "sleep"))?;
    for options in [&["-e", "-o", "pid,comm"][..], &[]] {
        let mut words = vec!["ps", &c.id];
        words.extend(options);
        let run = c.rt(&words)?.ok()?;
        let lines: Vec<&str> = run.stdout.lines().collect();
        same("number of lines", 2, lines.len())?;
        contains("header", lines[0], "PID")?;
        contains("line", lines[1], "sleep")?;
        ensure!(
            lines[1].split_whitespace().any(|word| word == pid),
            "no {pid} in {:?}",
            lines[1]
        );
    }
    Ok(())
}

fn in_a_cgroup_below(c: &mut Case) -> Check {
    c.drop_namespace("cgroup");
    c.start_sleeper()?;
    fs::create_dir_all(c.cgroup().join("a/b"))?;
    let path = c.config["linux"]["cgroupsPath"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    for (option, wish) in [("/a/b", "/a/b"), ("a", "/a"), ("/", ""), ("a/../a/b/", "/a/b")] {
        let run = c
            .rt(&["exec", "--cgroup", option, &c.id, "cat", "/proc/self/cgroup"])?
            .ok()?;
        contains("cgroup", &run.stdout, &format!("0::{path}{wish}\n"))?;
    }
    c.rt(&["exec", "--cgroup", "absent", &c.id, "true"])?
        .wants(255)?
        .refused_with("absent")?;
    Ok(())
}

fn in_a_cgroup_outside_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for option in ["..", "../", "/../..", "a/../../b"] {
        c.rt(&["exec", "--cgroup", option, &c.id, "true"])?
            .wants(255)?
            .refused_with("cgroup")?;
    }
    Ok(())
}

/// The form for the many trees of version 1.
fn in_a_cgroup_of_one_controller_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    fs::create_dir_all(c.cgroup().join("a"))?;
    for option in ["cpu:a", "cpu,memory:/a"] {
        c.rt(&["exec", "--cgroup", option, &c.id, "true"])?
            .wants(255)?
            .refused()?;
    }
    Ok(())
}

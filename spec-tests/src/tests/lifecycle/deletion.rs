//! Nothing may be forgotten: whatever fails while a container is deleted, or while a failed creation is
//! undone, a container of which something is left has its record still, and the same command again finishes
//! the job. What has no record any more is found by other marks, or it is said that something may be left.

use crate::{
    case::Case,
    children,
    config::Hook,
    faults,
    outcome::{Check, Stop, contains, ensure, same},
    runner::{self, Run},
    tests::cgroups::{second_root, within},
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

tests! {
    forgotten/damaged_record_of_a_running_container,
    forgotten/damaged_record_of_a_created_container,
    forgotten/damaged_record_of_another_root,
    forgotten/damaged_record_and_nothing_to_go_by,
    forgotten/cgroup_of_a_damaged_record_is_not_taken_over,
    forgotten/delete_with_few_descriptors,
    forgotten/delete_whose_calls_fail,
    forgotten/poststop_hooks_of_a_delete_that_failed,
    forgotten/creation_that_cannot_be_undone,
    forgotten/container_below_outlives_delete,
    forgotten/container_below_outlives_delete_without_pid_namespace,
    forgotten/container_below_outlives_kill,
    forgotten/container_below_of_another_root,
    forgotten/mark_of_a_container_inside,
    forgotten/forged_mark,
}

/// The file in which most runtimes keep what they know of a container; crun's has another name.
fn record(c: &Case) -> PathBuf {
    let dir = c.state_root.join(&c.id);
    let usual = dir.join("state.json");
    match usual.exists() {
        true => usual,
        false => dir.join("status"),
    }
}

const DAMAGES: [&str; 5] = ["missing", "empty", "truncated", "no JSON", "a directory"];

fn damage(record: &Path, how: &str) -> Check {
    let whole = fs::read(record)?;
    fs::remove_file(record)?;
    match how {
        "missing" => {}
        "empty" => fs::write(record, "")?,
        "truncated" => fs::write(record, &whole[..whole.len() / 2])?,
        "no JSON" => fs::write(record, "\u{0}\u{1}what?")?,
        _ => fs::create_dir(record)?,
    }
    Ok(())
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn about(what: &str, check: Check) -> Check {
    check.map_err(|stop| match stop {
        Stop::Fail(text) => Stop::Fail(format!("{what}: {text}")),
        other => other,
    })
}

/// `delete --force` must end what it can find, and can: the container has its own cgroup.
fn ends_damaged(c: &mut Case, pid: i32, how: &str) -> Check {
    damage(&record(c), how)?;
    c.rt(&["state", &c.id])?.refused()?;
    c.rt(&["kill", &c.id, "KILL"])?.refused()?;
    c.rt(&["delete", &c.id])?.refused()?;
    ensure!(
        is_alive(pid),
        "a command that was refused has ended the container"
    );
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    children::wait_for(pid, std::time::Duration::from_secs(10));
    ensure!(!is_alive(pid), "the container's process {pid} runs on");
    c.nothing_left()
}

fn damaged_record_of_a_running_container(c: &mut Case) -> Check {
    for how in DAMAGES {
        c.start_sleeper()?;
        let pid = c.pid()?;
        let checked = about(how, ends_damaged(c, pid, how));
        children::signal(pid, Signal::SIGKILL);
        checked?;
    }
    Ok(())
}

fn damaged_record_of_a_created_container(c: &mut Case) -> Check {
    for how in DAMAGES {
        c.args(&["/bin/sleep", "1000"]);
        c.create()?.ok()?;
        let pid = c.pid()?;
        let checked = about(how, ends_damaged(c, pid, how));
        children::signal(pid, Signal::SIGKILL);
        checked?;
    }
    Ok(())
}

/// A container of the same id in another root is not the one that was damaged.
fn damaged_record_of_another_root(c: &mut Case) -> Check {
    let second = second_root(c)?;
    c.start_sleeper()?;
    let pid = c.pid()?;
    c.set_cgroup_leaf("second");
    let checked = within(c, &second, |c| {
        c.start_sleeper()?;
        let other = c.pid()?;
        damage(&record(c), "empty")?;
        c.rt(&["delete", "--force", &c.id])?.ok()?;
        children::wait_for(other, std::time::Duration::from_secs(10));
        ensure!(!is_alive(other), "the container's process {other} runs on");
        ensure!(!c.cgroup().exists(), "its cgroup is left");
        Ok(())
    });
    let untouched = same("the other root's status", "running", c.status()?.as_str());
    same("the other root's process", pid, c.pid()?)?;
    c.set_cgroup_leaf("ctr");
    c.delete()?;
    checked.and(untouched)?;
    c.nothing_left()
}

/// Its cgroup is gone, and so nobody can know whether a process of it runs elsewhere. That is said once.
fn damaged_record_and_nothing_to_go_by(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let pid = c.pid()?;
    let elsewhere = c.cgroup().with_file_name("elsewhere");
    fs::create_dir(&elsewhere)?;
    fs::write(elsewhere.join("cgroup.procs"), pid.to_string())?;
    fs::remove_dir(c.cgroup())?;
    damage(&record(c), "truncated")?;
    let run = c.rt(&["delete", "--force", &c.id])?;
    children::signal(pid, Signal::SIGKILL);
    children::wait_for(pid, std::time::Duration::from_secs(10));
    c.wait_until("the container's end", || Ok(fs::remove_dir(&elsewhere).is_ok()))?;
    run.wants(1)?.refused_with("may be left")?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

/// Another container may not get the cgroup of one that was only forgotten.
fn cgroup_of_a_damaged_record_is_not_taken_over(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    damage(&record(c), "empty")?;
    let other = format!("{}-other", c.id);
    c.rt(&c.bundle_args("create", &[], &other)?)?
        .wants(1)?
        .refused_with(&c.id)?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

/// After a `delete --force` that failed the container must be there still, in whatever status; after one that
/// succeeded nothing of it. Then the same command finishes the job.
fn finishes(c: &Case, run: &Run, pid: i32) -> Check {
    if run.code() == 0 {
        children::wait_for(pid, std::time::Duration::from_secs(10));
        ensure!(!is_alive(pid), "exit code 0, and process {pid} runs on");
        return c.nothing_left();
    }
    ensure!(
        !run.stderr.trim().is_empty(),
        "no word about the failure: {}",
        run.report()
    );
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    children::wait_for(pid, std::time::Duration::from_secs(10));
    ensure!(
        !is_alive(pid),
        "process {pid} runs on after a second delete; the first: {}",
        run.report()
    );
    let left = c.leftovers();
    ensure!(
        left.is_empty(),
        "left after a second delete: {}; the first: {}",
        left.join("; "),
        run.report()
    );
    Ok(())
}

fn delete_with_few_descriptors(c: &mut Case) -> Check {
    for limit in 3..16 {
        c.start_sleeper()?;
        let pid = c.pid()?;
        let runtime = c.command();
        let mut command = Command::new("/bin/busybox");
        command
            .args(["sh", "-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"])
            .arg(runtime.get_program())
            .args(runtime.get_args())
            .args(["delete", "--force", &c.id])
            .envs(runtime.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let run = runner::start(&mut command, &c.dir)?.finish()?;
        let checked = about(&format!("{limit} descriptors"), finishes(c, &run, pid));
        children::signal(pid, Signal::SIGKILL);
        checked?;
    }
    Ok(())
}

/// Each as on a kernel that lacks it: it fails every time, whatever for.
const CALLS: &[(&str, libc::c_long)] = &[
    ("unlinkat", libc::SYS_unlinkat),
    ("renameat2", libc::SYS_renameat2),
    ("openat2", libc::SYS_openat2),
    ("flock", libc::SYS_flock),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("fgetxattr", libc::SYS_fgetxattr),
    ("statfs", libc::SYS_fstatfs),
    ("poll", libc::SYS_poll),
    ("getdents64", libc::SYS_getdents64),
    ("faccessat2", libc::SYS_faccessat2),
    ("newfstatat", libc::SYS_newfstatat),
    ("pread64", libc::SYS_pread64),
    ("connect", libc::SYS_connect),
];

fn delete_whose_calls_fail(c: &mut Case) -> Check {
    for (name, call) in CALLS {
        for shares_pids in [false, true] {
            c.join_namespace("pid", None);
            if shares_pids {
                c.drop_namespace("pid");
            }
            c.start_sleeper()?;
            let pid = c.pid()?;
            let live = faults::on_a_kernel_without(*call, || c.spawn(&["delete", "--force", &c.id]))?;
            let run = live.finish()?;
            let checked = about(name, finishes(c, &run, pid));
            children::signal(pid, Signal::SIGKILL);
            checked?;
        }
    }
    Ok(())
}

fn poststop_hooks_of_a_delete_that_failed(c: &mut Case) -> Check {
    let log = c.dir.join("poststop");
    let line = format!("echo once >>{}", log.display());
    c.hooks()
        .clear()
        .poststop([Hook::new().path("/bin/sh").args(json!(["sh", "-c", line]))]);
    c.start_sleeper()?;
    let live = faults::on_a_kernel_without(libc::SYS_unlinkat, || c.spawn(&["delete", "--force", &c.id]))?;
    live.finish()?.refused()?;
    ensure!(
        !log.exists(),
        "the hook ran although the container was not deleted"
    );
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    same("runs of the hook", "once\n", fs::read_to_string(&log)?.as_str())?;
    c.nothing_left()
}

/// What a failed creation cannot take back has a record, by which it is found.
fn creation_that_cannot_be_undone(c: &mut Case) -> Check {
    c.args(&["/no/such/program"]);
    let words = c.bundle_args("create", &[], &c.id)?;
    let live = faults::on_a_kernel_without(libc::SYS_unlinkat, || c.spawn(&words))?;
    let run = live.finish()?.refused()?;
    contains("stderr", &run.stderr.to_lowercase(), "no such file or directory")?;
    ensure!(c.cgroup().exists(), "the fault was not met: {}", run.report());
    ensure!(
        c.state_root.join(&c.id).exists(),
        "the cgroup is left, without a record: {}",
        run.report()
    );
    contains("stderr", &run.stderr, "record is kept")?;
    same("status", "creating", c.status()?.as_str())?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

/// A container whose cgroup lies below that of the case's own, by another id.
struct Below {
    id: String,
    pid: i32,
}

impl Below {
    fn start(c: &mut Case) -> Check<Self> {
        let (own, leaf) = (c.id.clone(), "ctr/inner");
        let id = format!("{own}-below");
        c.set_cgroup_leaf(leaf);
        c.id.clone_from(&id);
        let started = c.start_sleeper().and_then(|()| c.pid());
        c.id = own;
        c.set_cgroup_leaf("ctr");
        Ok(Self { id, pid: started? })
    }

    fn is_untouched(&self, c: &Case, after: &Run) -> Check {
        let state = c.state_of(&self.id)?;
        ensure!(
            state["status"] == "running" && state["pid"] == self.pid && is_alive(self.pid),
            "the container below is no more what it was: {state}; after {}",
            after.report()
        );
        Ok(())
    }
}

fn spares_the_one_below(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let pid = c.pid()?;
    let below = Below::start(c)?;
    let run = c.rt(&["delete", "--force", &c.id])?;
    below.is_untouched(c, &run)?;
    let run = run
        .wants(1)?
        .refused_with(&format!("{}/inner", c.cgroup().display()))?;
    contains("stderr", &run.stderr, &below.id)?;
    children::wait_for(pid, std::time::Duration::from_secs(10));
    ensure!(!is_alive(pid), "the container's own process runs on");
    same("status", "stopped", c.status()?.as_str())?;
    c.rt(&["exec", &below.id, "/bin/true"])?.ok()?;
    c.rt(&["delete", "--force", &below.id])?.ok()?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn container_below_outlives_delete(c: &mut Case) -> Check {
    spares_the_one_below(c)
}

fn container_below_outlives_delete_without_pid_namespace(c: &mut Case) -> Check {
    c.drop_namespace("pid");
    spares_the_one_below(c)
}

/// With a pid namespace that it shares, SIGKILL goes to all of its processes.
fn container_below_outlives_kill(c: &mut Case) -> Check {
    for words in [&["kill"][..], &["kill", "--all"]] {
        c.drop_namespace("pid");
        c.shell("sleep 1000 & exec sleep 1000");
        c.create()?.ok()?;
        c.rt(&["start", &c.id])?.ok()?;
        let pid = c.pid()?;
        c.wait_until("a second process", || {
            Ok(fs::read_to_string(c.cgroup().join("cgroup.procs"))?
                .lines()
                .count()
                == 2)
        })?;
        let below = Below::start(c)?;
        let mut words = words.to_vec();
        words.extend([c.id.as_str(), "KILL"]);
        let run = c.rt(&words)?.ok()?;
        children::wait_for(pid, std::time::Duration::from_secs(10));
        c.wait_status("stopped")?;
        c.wait_until("the end of the other process", || {
            Ok(fs::read_to_string(c.cgroup().join("cgroup.procs"))?.is_empty())
        })?;
        below.is_untouched(c, &run)?;
        c.rt(&["delete", "--force", &below.id])?.ok()?;
        c.delete()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn container_below_of_another_root(c: &mut Case) -> Check {
    let second = second_root(c)?;
    for shares_pids in [false, true] {
        c.join_namespace("pid", None);
        if shares_pids {
            c.drop_namespace("pid");
        }
        c.start_sleeper()?;
        let below = within(c, &second, Below::start)?;
        let run = c.rt(&["delete", "--force", &c.id])?;
        within(c, &second, |c| below.is_untouched(c, &run))?;
        run.wants(1)?.refused_with(&below.id)?;
        within(c, &second, |c| {
            c.rt(&["delete", "--force", &below.id])?.ok().map(drop)
        })?;
        c.delete()?;
        c.nothing_left()?;
    }
    Ok(())
}

/// Marks a cgroup as onggi does that of a container; to other runtimes it means nothing.
fn mark(cgroup: &Path, attribute: &str) -> Check {
    let path = CString::new(cgroup.as_os_str().as_bytes())?;
    let name = CString::new(attribute)?;
    let value = b"other, created 2026-01-01T00:00:00.000000000Z, in 1:1";
    // SAFETY: both strings and the value live until the call returns.
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// One more process of the container, in a cgroup below its own that is marked as another's.
fn with_marked_cgroup(c: &mut Case, attribute: &str) -> Check {
    let inner = c.cgroup().join("inner");
    fs::create_dir(&inner)?;
    mark(&inner, attribute)?;
    let file = c.dir.join("pid");
    c.rt(&[
        "exec",
        "-d",
        "--pid-file",
        &file.display().to_string(),
        &c.id,
        "/bin/sleep",
        "1000",
    ])?
    .ok()?;
    let pid: i32 = fs::read_to_string(&file)?.parse()?;
    fs::write(inner.join("cgroup.procs"), pid.to_string())?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    children::wait_for(pid, std::time::Duration::from_secs(10));
    ensure!(!is_alive(pid), "the process in the marked cgroup runs on");
    c.nothing_left()
}

/// A runtime inside a privileged container marks what it makes there; that ends with the container.
fn mark_of_a_container_inside(c: &mut Case) -> Check {
    c.start_sleeper()?;
    with_marked_cgroup(c, "trusted.onggi.container")
}

/// Who owns the container's cgroup can write anything there, and must not outlive the container by it.
fn forged_mark(c: &mut Case) -> Check {
    for shares_pids in [false, true] {
        c.join_namespace("pid", None);
        if shares_pids {
            c.drop_namespace("pid");
        }
        c.start_sleeper()?;
        with_marked_cgroup(c, "user.onggi.container")?;
    }
    Ok(())
}

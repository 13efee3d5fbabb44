//! config-linux.md cgroups, with the controllers that the host has.

use crate::{
    case::Case,
    config::HugepageLimit,
    outcome::{Check, ensure, same},
};
use serde_json::json;
use std::{fs, time::Duration};

tests! {
    cgroup/placed_in_cgroups_path,
    cgroup/parents_are_created,
    cgroup/removed_after_delete,
    cgroup/path_absent,
    cgroup/path_absolute_stays_below_the_mount,
    cgroup/pause_and_resume,
    cgroup/pause_stops_every_process,
    cgroup/pause_of_stopped_is_refused,
    cgroup/resume_of_running_is_refused,
    cgroup/delete_force_of_paused,
    cgroup/kill_of_paused,
    cgroup/delete_force_kills_all_without_pid_namespace,
    cgroup/kill_all,
    cgroup/processes_below_are_removed_too,
    cgroup/nonempty_cgroup_is_refused,
    cgroup/existing_empty_cgroup_is_used,
    cgroup/unified_key_with_slash_is_refused,
    cgroup/create_fails_leaves_parent_alone,
}

tests! {
    cgroup/hugetlb_limit: &[Controller("hugetlb")],
    cgroup/hugetlb_limit_refuses: &[Controller("hugetlb"), Alone],
    cgroup/limit_without_controller_is_an_error: &[NoController("memory")],
}

fn procs(c: &Case) -> Vec<i32> {
    let text = fs::read_to_string(c.cgroup().join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

fn placed_in_cgroups_path(c: &mut Case) -> Check {
    c.start_sleeper()?;
    same("cgroup.procs", vec![c.pid()?], procs(c))
}

fn parents_are_created(c: &mut Case) -> Check {
    c.set_cgroup_leaf("a/b/c");
    c.start_sleeper()?;
    same("cgroup.procs", vec![c.pid()?], procs(c))?;
    c.delete()?;
    ensure!(!c.cgroup().exists(), "{} is still there", c.cgroup().display());
    // The parents belong to nobody; removing or leaving them are both fine, but the test tidies up.
    let parent = c.cgroup().parent().map(ToOwned::to_owned).unwrap_or_default();
    for dir in [Some(parent.as_path()), parent.parent()].into_iter().flatten() {
        if dir.exists() && dir.ends_with("b") || dir.ends_with("a") {
            fs::remove_dir(dir)?;
        }
    }
    Ok(())
}

fn removed_after_delete(c: &mut Case) -> Check {
    c.start_sleeper()?;
    ensure!(c.cgroup().exists(), "no cgroup {}", c.cgroup().display());
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn path_absent(c: &mut Case) -> Check {
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
    c.drop_namespace("cgroup");
    let report = c.probe(&[])?;
    let text = report.cgroup.as_str();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("0::"))
        .unwrap_or_default();
    ensure!(
        line.contains(&c.id),
        "wish a cgroup named after the id {}, reality {line:?}",
        c.id
    );
    let dir = c.host.cgroup2.join(line.trim_start_matches('/'));
    ensure!(!dir.exists(), "{} is left", dir.display());
    Ok(())
}

fn path_absolute_stays_below_the_mount(c: &mut Case) -> Check {
    let inside = format!(
        "/../../../..{}",
        c.config["linux"]["cgroupsPath"].as_str().unwrap_or_default()
    );
    c.linux().cgroups_path(&inside);
    c.args(&["/bin/true"]);
    let run = c.run()?;
    if run.code() != 0 {
        run.refused()?;
    }
    let outside = std::path::Path::new("/").join(inside.trim_start_matches("/../../../.."));
    let escaped = outside.exists();
    if escaped {
        // Only the two empty folders that this test has named.
        fs::remove_dir(&outside)?;
        fs::remove_dir(outside.parent().unwrap_or(&outside))?;
    }
    ensure!(
        !escaped,
        "{} came into being outside of the cgroup tree",
        outside.display()
    );
    c.nothing_left()
}

fn pause_and_resume(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    same("status", "paused", c.status()?.as_str())?;
    c.rt(&["resume", &c.id])?.ok()?;
    same("status", "running", c.status()?.as_str())
}

fn pause_stops_every_process(c: &mut Case) -> Check {
    c.shell("while true; do echo x >> /ticks; usleep 2000; done");
    c.run_with(&["--detach"])?.ok()?;
    let ticks = c.rootfs("/ticks");
    c.wait_until("it runs", || Ok(ticks.exists()))?;
    c.rt(&["pause", &c.id])?.ok()?;
    let size = fs::metadata(&ticks)?.len();
    std::thread::sleep(Duration::from_millis(100));
    same("size of the file while paused", size, fs::metadata(&ticks)?.len())?;
    c.rt(&["resume", &c.id])?.ok()?;
    c.wait_until("it goes on", || Ok(fs::metadata(&ticks)?.len() > size))
}

fn pause_of_stopped_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["pause", &c.id])?
        .wants(1)?
        .refused_with("container not running")?;
    Ok(())
}

fn resume_of_running_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["resume", &c.id])?
        .wants(1)?
        .refused_with("container not paused")?;
    Ok(())
}

fn delete_force_of_paused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

fn kill_of_paused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["pause", &c.id])?.ok()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

/// A container in the host's pid namespace with three more processes.
fn host_pid_family(c: &mut Case) -> Check<Vec<i32>> {
    c.drop_namespace("pid");
    c.shell("sleep 1000 & sleep 1000 & (setsid sleep 1000 &) ; exec sleep 1000");
    c.run_with(&["--detach"])?.ok()?;
    c.wait_until("four processes", || Ok(procs(c).len() == 4))?;
    Ok(procs(c))
}

/// None of these processes may run any more (a zombie does not).
fn all_gone(c: &Case, pids: &[i32]) -> Check {
    for pid in pids {
        c.wait_until(&format!("the end of process {pid}"), || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            Ok(stat.is_empty() || stat.contains(") Z "))
        })?;
    }
    Ok(())
}

fn delete_force_kills_all_without_pid_namespace(c: &mut Case) -> Check {
    let pids = host_pid_family(c)?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    all_gone(c, &pids)?;
    c.nothing_left()
}

fn kill_all(c: &mut Case) -> Check {
    let pids = host_pid_family(c)?;
    // containerd's KillAll after the init of a container with a shared pid namespace has ended.
    c.rt(&["kill", "--all", &c.id, "9"])?.ok()?;
    all_gone(c, &pids)
}

fn processes_below_are_removed_too(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let inner = c.cgroup().join("inner");
    fs::create_dir(&inner)?;
    fs::write(inner.join("cgroup.procs"), c.pid()?.to_string())?;
    same(
        "ps",
        json!([c.pid()?]),
        c.rt(&["ps", "-f", "json", &c.id])?.ok()?.json()?,
    )?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

fn nonempty_cgroup_is_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let other = format!("{}-other", c.id);
    let run = c.rt(&c.bundle_args("create", &[], &other)?)?;
    ensure!(
        run.code() == 1,
        "wish: the cgroup of another container is refused, reality {}",
        run.report()
    );
    run.refused_with("cgroup")?;
    same("the first container", "running", c.status()?.as_str())
}

fn existing_empty_cgroup_is_used(c: &mut Case) -> Check {
    fs::create_dir_all(c.cgroup())?;
    c.start_sleeper()?;
    same("cgroup.procs", vec![c.pid()?], procs(c))
}

fn hugetlb_limit(c: &mut Case) -> Check {
    c.resources()
        .hugepage_limits([HugepageLimit::new().page_size("2MB").limit(4_194_304)]);
    c.start_sleeper()?;
    same(
        "hugetlb.2MB.max",
        "4194304",
        fs::read_to_string(c.cgroup().join("hugetlb.2MB.max"))?.trim(),
    )?;
    same(
        "hugetlb.2MB.rsvd.max",
        "4194304",
        fs::read_to_string(c.cgroup().join("hugetlb.2MB.rsvd.max"))?.trim(),
    )
}

/// The kernel's pool of huge pages, as large as it was again in the end.
struct Pool(String);

impl Pool {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    fn of(pages: u32) -> Check<Self> {
        let pool = Self(fs::read_to_string(Self::FILE)?);
        fs::write(Self::FILE, pages.to_string())?;
        let reality: u32 = fs::read_to_string(Self::FILE)?.trim().parse()?;
        if reality < pages {
            let reason = format!("no memory for a pool of {pages} huge pages");
            return Err(crate::outcome::Stop::Unsupported(reason));
        }
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A pool that stays too large is memory, and nothing of a test.
        let _best_effort = fs::write(Self::FILE, &self.0);
    }
}

/// config-linux.md, Huge page limits: of reservation, so that mmap(2) fails, and not by SIGBUS later on.
fn hugetlb_limit_refuses(c: &mut Case) -> Check {
    const ENOMEM: i64 = 12;
    let _pool = Pool::of(8)?;
    c.resources()
        .hugepage_limits([HugepageLimit::new().page_size("2MB").limit(4_194_304)]);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    // Three pages, in three places so that each call has a name of its own.
    let calls: Vec<String> = [0, 1 << 40, 1 << 41]
        .iter()
        .map(|place: &u64| format!("{}:{place}:{}:3:{flags}:-1:0", libc::SYS_mmap, 2 << 20))
        .collect();
    let options: Vec<&str> = calls.iter().flat_map(|call| ["--syscall", call]).collect();
    let report = c.probe(&options)?;
    let result = |call: &String| report.syscall[call].unwrap_or(0);
    ensure!(
        result(&calls[0]) > 0 && result(&calls[1]) > 0,
        "two pages are within the limit: {:?}",
        report.syscall
    );
    same("the third page", -ENOMEM, result(&calls[2]))
}

fn limit_without_controller_is_an_error(c: &mut Case) -> Check {
    c.resources().memory().clear().limit(64 << 20);
    c.create()?.wants(1)?.refused_with("memory")?;
    c.nothing_left()
}

fn unified_key_with_slash_is_refused(c: &mut Case) -> Check {
    c.resources().unified(json!({"../cgroup.procs": "1"}));
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

fn create_fails_leaves_parent_alone(c: &mut Case) -> Check {
    let parent = c.cgroup().parent().map(ToOwned::to_owned).unwrap_or_default();
    fs::create_dir_all(&parent)?;
    c.document().root().path("no-such-rootfs");
    c.create()?.wants(1)?;
    ensure!(parent.exists(), "the parent cgroup {} is gone", parent.display());
    c.nothing_left()
}

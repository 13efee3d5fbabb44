//! Runs in: SUITE. Cgroups: where a container's is, whose it is, its limits and statistics.

pub(crate) mod events;
pub(crate) mod identity;
pub(crate) mod intel_rdt;
pub(crate) mod limits;
pub(crate) mod placement;
pub(crate) mod tree;
pub(crate) mod update;

use crate::{
    case::{self, Case},
    children,
    outcome::{Check, ensure, same},
    runner::Live,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A file of the container's cgroup, trimmed.
pub(crate) fn file(c: &Case, name: &str) -> Check<String> {
    Ok(fs::read_to_string(c.cgroup().join(name))?.trim().to_owned())
}

pub(crate) fn file_is(c: &Case, name: &str, wish: &str) -> Check {
    same(name, wish, file(c, name)?.as_str())
}

pub(crate) fn limit<'a>(c: &'a mut Case, section: &str) -> &'a mut Value {
    &mut c.config["linux"]["resources"][section]
}

/// Major and minor number of the scratch disk.
pub(crate) fn scratch(disk: &Path) -> Check<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(disk)?.rdev();
    Ok((nix::sys::stat::major(device), nix::sys::stat::minor(device)))
}

pub(crate) fn disk() -> Check<PathBuf> {
    crate::host::Host::scratch_disk().map_or_else(|| crate::outcome::fail("no scratch disk"), Ok)
}

/// Every field that version 2 has a limit for, and the values that the kernel then has. `disk` is the number
/// of a disk.
pub(crate) fn every_field(disk: (u64, u64)) -> Check<(Value, Vec<(&'static str, String)>)> {
    let (major, minor) = disk;
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let resources = json!({
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}],
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20, "checkBeforeUpdate": true},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000, "burst": 10000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 50},
        "blockIO": {"weight": 300, "weightDevice": [{"major": major, "minor": minor, "weight": 500}],
            "throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
            "throttleReadIOPSDevice": rate(30), "throttleWriteIOPSDevice": rate(40)},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "unified": {"memory.high": "50331648"}
    });
    let values = [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("memory.swap.max", "33554432"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "50"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ];
    let mut values: Vec<_> = values.map(|(name, value)| (name, value.to_owned())).into();
    let number = format!("{major}:{minor}");
    values.push((
        "io.max",
        format!("{number} rbps=1048576 wbps=2097152 riops=30 wiops=40"),
    ));
    values.push(weights(disk, 300, 500)?);
    Ok((resources, values))
}

/// The file with the weights of block devices, and what it holds for these of config.json: one for all, and
/// one for the disk. The kernel has weights of single devices only for the scheduler bfq, or else for all by
/// another scale.
pub(crate) fn weights(disk: (u64, u64), all: u64, one: u64) -> Check<(&'static str, String)> {
    let number = format!("{}:{}", disk.0, disk.1);
    let scheduler = format!("/sys/dev/block/{number}/queue/scheduler");
    if fs::read_to_string(&scheduler)?.contains("bfq") {
        fs::write(&scheduler, "bfq")?;
        return Ok(("io.bfq.weight", format!("default {all}\n{number} {one}")));
    }
    let scaled = |weight: u64| 1 + (weight - 10) * 9999 / 990;
    let text = format!("default {}\n{number} {}", scaled(all), scaled(one));
    Ok(("io.weight", text))
}

/// Those above the container's cgroup belong to nobody; a test that made them tidies up.
pub(crate) fn remove_parents(c: &Case) -> Check {
    let cgroup = c.cgroup();
    for dir in cgroup
        .ancestors()
        .skip(1)
        .take_while(|dir| *dir != c.host.cgroup2)
    {
        if dir.exists() {
            case::wait_until("the cgroup above to be empty", || Ok(fs::remove_dir(dir).is_ok()))?;
        }
    }
    Ok(())
}

/// A second state root.
pub(crate) fn second_root(c: &Case) -> Check<PathBuf> {
    let root = c.dir.join("second-root");
    fs::create_dir_all(&root)?;
    Ok(root)
}

/// Runs the body with another state root.
pub(crate) fn within<T>(c: &mut Case, root: &Path, body: impl FnOnce(&mut Case) -> Check<T>) -> Check<T> {
    let before = std::mem::replace(&mut c.state_root, root.to_owned());
    let result = body(c);
    c.state_root = before;
    result
}

/// The second root's container must run on, with the same process, whatever the first root's is told.
pub(crate) fn commands_leave_it_alone(c: &mut Case, second: &Path) -> Check {
    let pid = within(c, second, |c| c.pid())?;
    let id = c.id.clone();
    let processes = c.rt(&["ps", "-f", "json", &id])?;
    ensure!(
        !processes.stdout.contains(&pid.to_string()),
        "ps lists the other container's process: {}",
        processes.report()
    );
    for words in [
        &["kill", "--all", &id, "KILL"][..],
        &["kill", &id, "KILL"],
        &["pause", &id],
        &["delete", &id],
        &["delete", "--force", &id],
    ] {
        let run = c.rt(words)?;
        // A moment, for a signal to do its work.
        thread::sleep(Duration::from_millis(20));
        let status = within(c, second, |c| c.status())?;
        ensure!(
            status == "running",
            "after {words:?} the other root's container is {status}; {}",
            run.report()
        );
    }
    within(c, second, |c| {
        same("process", pid, c.pid()?)?;
        c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
        c.delete()?;
        c.nothing_left()
    })?;
    c.nothing_left()
}

/// Kills a `create` as soon as its id is taken, or lets it be refused.
pub(crate) fn kill_when_there(live: Live, state: &Path) -> Check {
    let end = Instant::now() + Duration::from_millis(30);
    // No sleep: it is a matter of microseconds.
    while !state.exists() && Instant::now() < end {}
    children::signal(live.pid, Signal::SIGKILL);
    live.finish()?;
    Ok(())
}

/// A process that is not the container's: it sleeps until it is dropped.
pub(crate) struct Neighbour(i32);

impl Neighbour {
    pub(crate) fn start() -> Check<Self> {
        let child = children::spawn(Command::new("/bin/sleep").arg("1000"))?;
        Ok(Self(child.id() as i32))
    }

    /// One in the cgroup above the container's.
    fn above(c: &Case) -> Check<Self> {
        let parent = c.cgroup().parent().map(Path::to_owned).unwrap_or_default();
        fs::create_dir_all(&parent)?;
        let neighbour = Self::start()?;
        neighbour.enter(&parent)?;
        Ok(neighbour)
    }

    pub(crate) fn enter(&self, cgroup: &Path) -> Check {
        Ok(fs::write(cgroup.join("cgroup.procs"), self.0.to_string())?)
    }

    pub(crate) fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        children::signal(self.0, Signal::SIGKILL);
        let _gone = children::wait_for(self.0, Duration::from_secs(5));
    }
}

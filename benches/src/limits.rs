//! What limits cost, how small they may be, and many containers at once: any OCI runtimes side by side, in
//! any place with a cgroup2 tree. Builds nothing and needs nothing but static `/bin/busybox` and root, so
//! that it runs in the virtual machine, where every controller is. Prints numbers and asserts nothing. See
//! `docs/benchmarks.md`.
//!
//!     limits cycle|smallest|many [--systemd] [--rounds N] [--containers N] [--disk MAJOR:MINOR] NAME=PATH...
#![allow(
    clippy::disallowed_methods,
    reason = "looks at what is there, does not act on it"
)]

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use benches::table::{self, Line};
use benches::{Outcome, timed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

struct Options {
    what: String,
    rounds: usize,
    containers: usize,
    /// A disk that has limits, too.
    disk: Option<(u64, u64)>,
    engines: Vec<Engine>,
}

struct Engine {
    name: String,
    program: PathBuf,
    root: PathBuf,
    /// cgroups by systemd, in scopes.
    systemd: bool,
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Outcome<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let work = tempfile::Builder::new().prefix("onggi-limits-").tempdir()?;
    let options = options(work.path())?;
    let bundle = Bundle::make(work.path())?;
    match options.what.as_str() {
        "cycle" => cycle(&options, &bundle),
        "smallest" => smallest(&options, &bundle),
        "many" => many(&options, &bundle),
        other => Err(format!("{other}: not cycle, smallest or many").into()),
    }
}

fn options(work: &Path) -> Outcome<Options> {
    let mut words = std::env::args().skip(1);
    let mut options = Options {
        what: words.next().unwrap_or_default(),
        rounds: 20,
        containers: 500,
        disk: None,
        engines: Vec::new(),
    };
    let mut systemd = false;
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_default();
        match word.as_str() {
            "--rounds" => options.rounds = next().parse()?,
            "--containers" => options.containers = next().parse()?,
            "--disk" => {
                let disk = next();
                let (major, minor) = disk.split_once(':').ok_or(format!("{disk}: not MAJOR:MINOR"))?;
                options.disk = Some((major.parse()?, minor.parse()?));
            }
            "--systemd" => systemd = true,
            _ => {
                let (name, program) = word.split_once('=').ok_or(format!("{word}: not NAME=PATH"))?;
                let root = work.join("states").join(name);
                fs::create_dir_all(&root)?;
                options.engines.push(Engine {
                    name: name.to_owned(),
                    program: program.into(),
                    root,
                    systemd,
                });
            }
        }
    }
    match options.engines.is_empty() {
        true => Err("no engine: NAME=PATH".into()),
        false => Ok(options),
    }
}

/// A folder with busybox, whose config.json is written anew for each thing that is measured.
struct Bundle(PathBuf);

impl Bundle {
    fn make(work: &Path) -> Outcome<Self> {
        let bundle = work.join("bundle");
        for folder in ["bin", "proc", "dev", "sys"] {
            fs::create_dir_all(bundle.join("rootfs").join(folder))?;
        }
        fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox"))?;
        for name in ["true", "sleep"] {
            std::os::unix::fs::symlink("busybox", bundle.join("rootfs/bin").join(name))?;
        }
        Ok(Self(bundle))
    }

    fn write(&self, engine: &Engine, id: &str, args: &[&str], resources: &Value) -> Outcome<()> {
        let cgroup = match engine.systemd {
            true => format!("system.slice:limits:{id}"),
            false => format!("/limits/{id}"),
        };
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=65536k"]}],
            "linux": {
                "cgroupsPath": cgroup,
                "resources": resources,
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                    {"type": "mount"}, {"type": "cgroup"}],
            }
        });
        Ok(fs::write(self.0.join("config.json"), config.to_string())?)
    }
}

fn no_limits() -> Value {
    json!({"devices": [{"allow": false, "access": "rwm"}]})
}

/// Every field that a cgroup of version 2 has a file for; those of single disks if there is one.
fn all_limits(disk: Option<(u64, u64)>) -> Value {
    let mut resources = json!({
        "devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}],
        "memory": {"limit": 256 << 20, "swap": 512 << 20, "reservation": 128 << 20},
        "cpu": {"shares": 512, "quota": 90000, "period": 100_000, "burst": 10000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 100},
        "blockIO": {"weight": 300},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "unified": {"memory.high": "200000000"}
    });
    if let Some((major, minor)) = disk {
        let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
        resources["blockIO"] = json!({
            "weight": 300,
            "weightDevice": [{"major": major, "minor": minor, "weight": 500}],
            "throttleReadBpsDevice": rate(1 << 20),
            "throttleWriteBpsDevice": rate(2 << 20),
            "throttleReadIOPSDevice": rate(30),
            "throttleWriteIOPSDevice": rate(40),
        });
    }
    resources
}

impl Engine {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        command.args(words);
        command
    }

    /// Runs it to its end, and returns how long that took; an error if it fails.
    fn timed(&self, words: &[&str], bundle: Option<&Bundle>) -> Outcome<Duration> {
        let mut command = self.command(words);
        if let Some(bundle) = bundle {
            command.current_dir(&bundle.0);
        }
        timed(&mut command, &self.root.with_extension("messages"))
    }
}

/// `create`, `start` and `delete` of a container that ends by itself, without and with limits.
fn cycle(options: &Options, bundle: &Bundle) -> Outcome<()> {
    let count = options.engines.len();
    let mut lines = [
        Line::new("create + start + delete, no limits", "ms", count),
        Line::new("create + start + delete, all limits", "ms", count),
    ];
    const WARM_UP: usize = 2;
    for round in 0..options.rounds + WARM_UP {
        for (line, resources) in [no_limits(), all_limits(options.disk)].iter().enumerate() {
            for turn in 0..count {
                let place = (round + turn) % count;
                let engine = &options.engines[place];
                bundle.write(engine, &engine.name, &["true"], resources)?;
                let taken = one_cycle(engine, bundle)?;
                if round >= WARM_UP {
                    lines[line].samples[place].push(taken.as_secs_f64() * 1000.0);
                }
            }
        }
    }
    println!("{} rounds; cells are median / minimum\n", options.rounds);
    table::print(&lines, &names(options), 0);
    Ok(())
}

fn one_cycle(engine: &Engine, bundle: &Bundle) -> Outcome<Duration> {
    let created = engine.timed(&["create", "--pid-file", "pid", "one"], Some(bundle))?;
    let pid = fs::read_to_string(bundle.0.join("pid"))?.trim().parse()?;
    let pid = Pid::from_raw(pid).ok_or("no pid in the pid file")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let started = engine.timed(&["start", "one"], None)?;
    poll(
        &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )?;
    reap()?;
    Ok(created + started + engine.timed(&["delete", "--force", "one"], None)?)
}

/// Containers end as children of this program.
fn reap() -> Outcome<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The smallest limits under which a container of busybox's `true` runs.
fn smallest(options: &Options, bundle: &Bundle) -> Outcome<()> {
    println!("| smallest | memory.limit, kB | pids.limit |\n|---|---|---|");
    for engine in &options.engines {
        let memory = |kilobytes: u64| {
            let bytes = kilobytes << 10;
            runs(engine, bundle, &json!({"limit": bytes, "swap": bytes}), "memory")
        };
        let pids = |limit: u64| runs(engine, bundle, &json!({"limit": limit}), "pids");
        println!(
            "| {} | {} | {} |",
            engine.name,
            least(memory, 32 << 10, 16)?,
            least(pids, 64, 1)?
        );
    }
    Ok(())
}

/// Three times, since what a process costs depends a little on what is in the page cache, and on which
/// processor.
fn runs(engine: &Engine, bundle: &Bundle, limit: &Value, section: &str) -> Outcome<bool> {
    let mut resources = no_limits();
    resources[section] = limit.clone();
    bundle.write(engine, &engine.name, &["true"], &resources)?;
    for _ in 0..3 {
        if engine.timed(&["run", "one"], Some(bundle)).is_err() {
            engine.timed(&["delete", "--force", "one"], None).ok();
            return Ok(false);
        }
    }
    Ok(true)
}

/// The least number up to `most` for which `works`, to `step`.
fn least(works: impl Fn(u64) -> Outcome<bool>, most: u64, step: u64) -> Outcome<u64> {
    let (mut fails, mut suffices) = (0, most);
    while suffices - fails > step {
        let middle = (fails + suffices).div_ceil(2) / step * step;
        match works(middle)? {
            true => suffices = middle,
            false => fails = middle,
        }
    }
    Ok(suffices)
}

/// What is done while many containers are alive, and how its words begin.
const COMMANDS: [&str; 6] = ["state", "list", "ps", "exec", "kill", "create"];

/// Many containers of each engine alive, and then: what commands take, and what of the runtime stays. The
/// engines take turns, and all their containers are there to the end.
fn many(options: &Options, bundle: &Bundle) -> Outcome<()> {
    let count = options.engines.len();
    for engine in &options.engines {
        for number in 0..options.containers {
            bundle.write(engine, &id(engine, number), &["sleep", "10000"], &no_limits())?;
            engine.timed(&["run", "--detach", &id(engine, number)], Some(bundle))?;
        }
        // What a runtime forks on its way is left to this program, its subreaper.
        reap()?;
    }
    let mut lines = COMMANDS.map(|work| Line::new(work, "ms", count));
    for round in 0..options.rounds {
        for turn in 0..count {
            let place = (round + turn) % count;
            for line in &mut lines {
                let taken = among_many(&options.engines[place], line.work, bundle)?;
                line.samples[place].push(taken.as_secs_f64() * 1000.0);
            }
        }
    }
    println!(
        "{} containers of each alive, {} rounds; cells are median / minimum\n",
        options.containers, options.rounds
    );
    table::print(&lines, &names(options), 0);
    for engine in &options.engines {
        println!(
            "{}: processes that stay: {}; state directory: {} bytes per container",
            engine.name,
            processes_of(engine)?,
            bytes_below(&engine.root)? / options.containers.max(1) as u64
        );
        for number in 0..options.containers {
            engine.timed(&["delete", "--force", &id(engine, number)], None)?;
        }
        reap()?;
    }
    Ok(())
}

fn id(engine: &Engine, number: usize) -> String {
    format!("{}-{number}", engine.name)
}

fn names(options: &Options) -> Vec<&str> {
    let engines = options.engines.iter();
    engines.map(|engine| engine.name.as_str()).collect()
}

/// Asked about the first container; `create` makes one more, which is taken away again. The signal is one
/// that a sleeping program does not mind.
fn among_many(engine: &Engine, work: &str, bundle: &Bundle) -> Outcome<Duration> {
    let first = id(engine, 0);
    match work {
        "list" => engine.timed(&["list"], None),
        "ps" => engine.timed(&["ps", "--format", "json", &first], None),
        "exec" => engine.timed(&["exec", &first, "/bin/true"], None),
        "kill" => engine.timed(&["kill", &first, "CONT"], None),
        "create" => {
            bundle.write(engine, "one", &["true"], &no_limits())?;
            let taken = engine.timed(&["create", "one"], Some(bundle))?;
            engine.timed(&["delete", "--force", "one"], None)?;
            reap()?;
            Ok(taken)
        }
        _ => engine.timed(&["state", &first], None),
    }
}

/// How many processes, zombies apart, have the engine's state directory on their command line.
fn processes_of(engine: &Engine) -> Outcome<usize> {
    let root = engine.root.to_string_lossy();
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let command = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&command).contains(&*root));
    }
    Ok(count)
}

/// What is in the files below a directory: where it is a tmpfs, as /run is, that is memory.
fn bytes_below(directory: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.file_type()? {
            kind if kind.is_dir() => bytes_below(&entry.path())?,
            kind if kind.is_file() => entry.metadata()?.len(),
            _ => 0,
        };
    }
    Ok(bytes)
}

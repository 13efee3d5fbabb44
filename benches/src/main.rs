//! Compares the floor, onggi, and the runtimes that are installed, doing the same work on the same bundle,
//! interleaved in one run. Prints numbers and asserts nothing. See `docs/benchmarks.md`. Runs as root.
#![allow(
    clippy::disallowed_methods,
    reason = "looks at what is there, does not act on it"
)]

mod bundle;
mod engine;
mod options;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use benches::table::{self, Line};
use bundle::Bundles;
use engine::{Engine, Kind};
use options::Options;

pub(crate) use benches::Outcome;

/// Runs before the first that counts: files get into the page cache, the kernel's own caches fill.
const WARM_UP: usize = 3;
const PEAK_ROUNDS: usize = 5;
const COMPILE_ROUNDS: usize = 1000;
const PEERS: [&str; 2] = ["crun", "runc"];
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| bench(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Outcome<()> {
    let (programs, onggi) = build()?;
    enter_pure_cgroup2_view()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let work = tempfile::Builder::new().prefix("onggi-bench-").tempdir()?;
    mount_states(work.path())?;
    let bundles = Bundles::make(work.path(), &onggi)?;
    let engines = find_engines(&programs, &onggi, options, work.path(), &bundles)?;
    let names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    let measured = measure(options, &engines, &bundles, &programs);
    reap_orphans()?;
    umount(&work.path().join(engine::STATES))?;
    let lines = measured?;
    println!("{}", host());
    for engine in &engines {
        let shim = if engine.preload.is_some() {
            " (with the RLIMIT_MEMLOCK shim)"
        } else {
            ""
        };
        println!("{}: {}{shim}", engine.name, engine.version);
    }
    println!("{} rounds; cells are median / minimum\n", options.rounds);
    table::print(&lines, &names, 1);
    if let Some(path) = &options.json {
        let versions: Vec<&str> = engines.iter().map(|engine| engine.version.as_str()).collect();
        let document = serde_json::json!({
            "host": host(),
            "rounds": options.rounds,
            "versions": names.iter().zip(versions).collect::<std::collections::BTreeMap<_, _>>(),
            "lines": table::to_json(&lines, &names),
        });
        fs::write(path, serde_json::to_vec_pretty(&document)?)?;
    }
    Ok(())
}

/// Builds what is measured; the directory of the programs, which is this program's own, and onggi, which is
/// built for a target of its own.
fn build() -> Outcome<(PathBuf, PathBuf)> {
    let own = std::env::current_exe()?;
    let directory = own.parent().ok_or("the own executable has no directory")?;
    if !directory.ends_with("release") {
        return Err("only release builds are worth measuring: cargo run --release -p benches".into());
    }
    let target = Command::new(".ci/target").current_dir(WORKSPACE).output()?;
    let target = String::from_utf8(target.stdout)?.trim().to_owned();
    cargo_build(&["-p", "runtime-cli", "--target", &target])?;
    cargo_build(&["-p", "benches", "--bin", "floor", "--bin", "peak"])?;
    let targets = directory.ancestors().nth(2).ok_or("no directory of targets")?;
    Ok((directory.to_owned(), targets.join(target).join("release/onggi")))
}

fn cargo_build(what: &[&str]) -> Outcome<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release"])
        .args(what)
        .current_dir(WORKSPACE)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo build: {status}").into()),
    }
}

/// A mount namespace of our own with cgroup2 at /sys/fs/cgroup, so that every runtime takes its v2 path on a
/// hybrid host as well. The host's mounts stay as they are.
fn enter_pure_cgroup2_view() -> Outcome<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare (root is needed): {errno}"))?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Ok(());
    }
    Ok(mount(
        Some("cgroup2"),
        "/sys/fs/cgroup",
        Some("cgroup2"),
        MsFlags::empty(),
        NONE,
    )?)
}

/// A tmpfs for the state directories, as /run is on real hosts: on a disk its journal would be measured.
fn mount_states(work: &Path) -> Outcome<()> {
    let states = work.join(engine::STATES);
    fs::create_dir(&states)?;
    Ok(mount(
        Some("tmpfs"),
        &states,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=700"),
    )?)
}

fn find_engines(
    programs: &Path,
    onggi: &Path,
    options: &Options,
    work: &Path,
    bundles: &Bundles,
) -> Outcome<Vec<Engine>> {
    let mut engines = vec![
        Engine::floor(programs.join("floor"), work)?,
        Engine::runtime("onggi", onggi.to_owned(), work)?,
    ];
    for (name, path) in &options.engines {
        engines.push(Engine::runtime(name, path.clone(), work)?);
    }
    for name in PEERS {
        let Some(program) = in_path(name) else {
            eprintln!("{name} is not installed: left out");
            continue;
        };
        let mut engine = Engine::runtime(name, program, work)?;
        if let Err(error) = engine.run(bundles, false) {
            eprintln!("{error}trying again with the RLIMIT_MEMLOCK shim");
            engine.preload = Some(memlock_shim(work)?);
            // What is left of the failed run.
            engine.delete_passing()?;
            engine.run(bundles, false)?;
        }
        engines.push(engine);
    }
    Ok(engines)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// See spec-tests/shim/memlock.rs: without CAP_SYS_RESOURCE crun 1.8 cannot load its device filter.
fn memlock_shim(work: &Path) -> Outcome<PathBuf> {
    let library = work.join("memlock.so");
    let status = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
            "-C",
            "panic=abort",
            "-C",
            "opt-level=1",
            "-o",
        ])
        .arg(&library)
        .arg(format!("{WORKSPACE}/spec-tests/shim/memlock.rs"))
        .status()?;
    if !status.success() {
        return Err(format!("rustc of the shim: {status}").into());
    }
    Ok(library)
}

type Measure = fn(&Engine, &Bundles) -> Outcome<Duration>;

/// The work that is timed, and whether the floor does it.
const WORKS: [(&str, bool, Measure); 5] = [
    ("run", true, |engine, bundles| engine.run(bundles, false)),
    ("run with seccomp", true, |engine, bundles| {
        engine.run(bundles, true)
    }),
    ("create + start + delete", false, Engine::create_start_delete),
    ("exec", false, |engine, _| engine.exec()),
    ("state", false, |engine, _| engine.state()),
];

fn measure(options: &Options, engines: &[Engine], bundles: &Bundles, programs: &Path) -> Outcome<Vec<Line>> {
    let is_runtime = |engine: &&Engine| matches!(engine.kind, Kind::Runtime);
    let mut staying = Vec::new();
    let mut measured = Ok(Vec::new());
    for engine in engines.iter().filter(is_runtime) {
        staying.push(engine);
        if let Err(error) = engine.start_staying(bundles) {
            measured = Err(error);
            break;
        }
    }
    if measured.is_ok() {
        measured = measure_all(options, engines, bundles, programs);
    }
    // All of them, whatever happened: nothing may be left behind on the host.
    for engine in staying {
        if let Err(error) = engine.stop_staying() {
            measured = measured.and(Err(error));
        }
    }
    measured
}

fn measure_all(
    options: &Options,
    engines: &[Engine],
    bundles: &Bundles,
    programs: &Path,
) -> Outcome<Vec<Line>> {
    let mut lines = Vec::new();
    for (work, floor_too, one) in WORKS.into_iter().filter(|(work, ..)| options.wants(work)) {
        let mut line = Line::new(work, "ms", engines.len());
        for round in 0..WARM_UP + options.rounds {
            // Another one goes first each time, so that no engine always follows the same one.
            for place in 0..engines.len() {
                let place = (place + round) % engines.len();
                let engine = &engines[place];
                if matches!(engine.kind, Kind::Floor) && !floor_too {
                    continue;
                }
                let taken = one(engine, bundles)?;
                if round >= WARM_UP {
                    line.samples[place].push(taken.as_secs_f64() * 1e3);
                }
            }
        }
        lines.push(line);
    }
    if options.wants("peak memory of run") {
        let mut line = Line::new("peak memory of run", "MB", engines.len());
        for (engine, samples) in engines.iter().zip(&mut line.samples) {
            for _ in 0..PEAK_ROUNDS {
                samples.push(engine.peak(&programs.join("peak"), bundles)? as f64 / 1e3);
            }
        }
        lines.push(line);
    }
    lines.extend(without_a_process(options, engines.len(), bundles)?);
    Ok(lines)
}

/// Parts of onggi's work, done in this process.
fn without_a_process(options: &Options, engines: usize, bundles: &Bundles) -> Outcome<Vec<Line>> {
    let mut lines = Vec::new();
    let mut add = |name, times: &dyn Fn() -> Outcome<Vec<Duration>>| -> Outcome<()> {
        if options.wants(name) {
            let mut line = Line::new(name, "ms", engines);
            line.samples[1] = times()?.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            lines.push(line);
        }
        Ok(())
    };
    add("seccomp compile", &|| {
        bundle::seccomp_compile_times(COMPILE_ROUNDS)
    })?;
    add("config.json with a profile", &|| {
        bundle::config_times(&bundles.seccomp, COMPILE_ROUNDS)
    })?;
    Ok(lines)
}

/// Containers of `create` become our children when their runtime ends.
pub(crate) fn reap_orphans() -> Outcome<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            other => drop(other?),
        }
    }
}

fn host() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = processors
        .lines()
        .filter(|line| line.starts_with("model name"))
        .collect();
    let model = models
        .first()
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor");
    format!("Linux {}, {} x {model}", kernel.trim(), models.len())
}

//! Runs in: SUITE. Random configurations: legal ones that combine features, each run and compared with what a
//! probe sees inside. `--cases N` and `--seed N` change how many and which; seeds that have failed are run
//! first, for ever.

mod check;
mod config;
mod more;

use crate::{
    bundle::make_rootfs,
    case::Case,
    outcome::{Check, Stop, fail},
    pty::{FdSocket, Master},
    runner,
    seen::Report,
};
use check::Differences;
use config::Wish;
use more::{HOOKS, Place};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

tests! {
    random/configs,
}

/// The first host id of a container with a user namespace.
const BASE: u32 = 100_000;

/// A runtime that differs in so many cases is known well enough.
const ENOUGH: usize = 12;

/// Steps of making a failing configuration smaller.
const SHRINKING: usize = 60;

/// Seeds that have once failed, one a line with a reason after it.
const REGRESSIONS: &str = include_str!("../../../random-regressions.txt");

/// At once: most of a case's time is the kernel's, for its namespaces.
const WORKERS: usize = 4;

fn configs(c: &mut Case) -> Check {
    // An emulated machine takes ten times as long.
    let cases = if c.host.is_emulated() {
        c.host.cases / 10
    } else {
        c.host.cases
    };
    println!("random/configs: --cases {cases} --seed {}", c.host.seed);
    let known = REGRESSIONS
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let new = (0..u64::from(cases)).map(|case| c.host.seed.wrapping_add(case));
    let seeds: Vec<u64> = known.chain(new).collect();
    let has_shrunk = AtomicBool::new(false);
    let host = c.host;
    let results: Vec<Check<Vec<Failure>>> = thread::scope(|scope| {
        let start = |worker: usize| {
            let seeds = seeds.iter().copied().skip(worker).step_by(WORKERS);
            let has_shrunk = &has_shrunk;
            scope.spawn(move || some(&mut Case::new(host)?, seeds, has_shrunk))
        };
        let threads: Vec<_> = (0..WORKERS).map(start).collect();
        let ended = |_| fail("the thread of some cases ended");
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(ended))
            .collect()
    });
    let mut failures = Vec::new();
    for result in results {
        failures.extend(result?);
    }
    report(c, &failures)
}

/// A seed, and what differed.
type Failure = (u64, Differences);

/// The cases of these seeds, one after the other. The first failure of all workers is made smaller.
fn some(c: &mut Case, seeds: impl Iterator<Item = u64>, has_shrunk: &AtomicBool) -> Check<Vec<Failure>> {
    let world = World::new(c)?;
    let mut failures = Vec::new();
    for seed in seeds {
        let mut tree = tree(seed)?;
        let mut found = world.differences(c, &tree.current())?;
        if found.0.is_empty() {
            continue;
        }
        if !has_shrunk.swap(true, Ordering::Relaxed) {
            let smallest = world.shrink(c, &mut tree)?;
            found
                .0
                .push(("the smallest configuration that fails so".into(), smallest));
        }
        failures.push((seed, found));
        if failures.len() == ENOUGH / WORKERS {
            break;
        }
    }
    Ok(failures)
}

fn tree(seed: u64) -> Check<impl ValueTree<Value = Wish>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    config::wish()
        .new_tree(&mut runner)
        .or_else(|reason| fail(format!("no configuration: {reason}")))
}

/// What all cases share.
struct World {
    host: Report,
    source: PathBuf,
    /// A folder that everybody may write to: hooks in a user namespace are nobody to the host.
    open: PathBuf,
    config: Value,
    place: Place,
    /// Namespaces to join, by their names.
    joined: BTreeMap<String, String>,
    _holder: runner::Live,
}

impl World {
    fn new(c: &mut Case) -> Check<Self> {
        let [source, open] = ["source", "open"].map(|name| c.dir.join(name));
        fs::create_dir(&source)?;
        fs::create_dir(&open)?;
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
        let mut probe = Command::new(c.rootfs("/bin/probe"));
        let host = runner::start(&mut probe, &c.dir)?.finish()?.ok()?.seen()?;
        // Of nobody and everybody: each id-mapped mount shows it as somebody else's.
        fs::write(source.join("file"), "")?;
        let mut holder = Command::new("unshare");
        holder.args(["-i", "-u", "-n", "sleep", "100000"]);
        let holder = runner::start(&mut holder, &c.dir)?;
        let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
        let pid = holder.pid.to_string();
        c.wait_until("namespaces to join", || {
            Ok(fs::read_to_string(format!("/proc/{pid}/comm"))?.trim() == "sleep")
        })?;
        let mut joined = BTreeMap::new();
        for name in ["ipc", "uts", "net"] {
            let link = link(&pid, name)?.to_string_lossy().into_owned();
            joined.insert(name.to_owned(), link);
        }
        let controllers = fs::read_to_string(c.host.cgroup2.join("cgroup.controllers"))?;
        let place = Place {
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            has_numa: fs::exists("/proc/self/numa_maps")?,
            joined: holder.pid,
            open: open.to_string_lossy().into_owned(),
        };
        Ok(Self {
            host,
            source,
            open,
            config: c.config.clone(),
            place,
            joined,
            _holder: holder,
        })
    }

    /// Runs one configuration in a rootfs of its own.
    fn differences(&self, c: &mut Case, wish: &Wish) -> Check<Differences> {
        let rootfs = c.bundle.join("rootfs");
        fs::remove_dir_all(&rootfs)?;
        make_rootfs(&c.host.base, &rootfs)?;
        if wish.namespaces.user {
            for place in ["", "root", "tmp", "home", "mnt", "dev", "proc", "sys"] {
                nix::unistd::chown(&rootfs.join(place), Some(BASE.into()), Some(BASE.into()))?;
            }
        }
        c.config = self.config.clone();
        let hook_file = self.open.join("hook-ran");
        wish.write(
            &mut c.config,
            &self.source.to_string_lossy(),
            &hook_file.to_string_lossy(),
            &self.place,
        );
        // Those of a case that has failed half way.
        for name in HOOKS
            .iter()
            .map(|kind| self.open.join(kind))
            .chain([hook_file.clone()])
        {
            let _mostly_not_there = fs::remove_file(name);
        }
        let mut args = vec!["/bin/probe".to_owned()];
        args.extend(check::probe_options(wish, &self.place));
        c.args(&args);
        let inside = match wish.more.terminal {
            Some(_) => in_a_terminal(c)?,
            None => c.run().map(|run| match run.code() {
                0 => run.seen(),
                _ => fail(run.stderr.trim()),
            })?,
        };
        let inside = match inside {
            Ok(inside) => inside,
            Err(Stop::Fail(text) | Stop::Unsupported(text)) => {
                self.clean(c)?;
                return Ok(Differences(vec![("runs at all".to_owned(), text)]));
            }
        };
        let mut found = check::compare(wish, &inside, &self.host);
        wish.more
            .compare(wish, &self.place, &inside, &self.joined, &mut found);
        self.compare_hooks(wish, &hook_file, &mut found);
        if let [first, ..] = c.leftovers().as_slice() {
            found.0.push(("leaves nothing".to_owned(), first.clone()));
            self.clean(c)?;
        }
        Ok(found)
    }

    /// That those of the host have run, and with the annotations in the state that they were told.
    fn compare_hooks(&self, wish: &Wish, create_container: &Path, found: &mut Differences) {
        let of_host = HOOKS.iter().filter(|kind| **kind != "startContainer");
        let rest = of_host.map(|kind| (*kind, self.open.join(kind), wish.more.hooks.contains(kind)));
        let first = ("createContainer", create_container.to_owned(), wish.kernel.hook);
        for (kind, file, wished) in rest.chain([first]) {
            let state = fs::read(&file).ok();
            found.same(&format!("hooks.{kind}"), wished, state.is_some());
            let Some(state) = state else { continue };
            let _it_is_there = fs::remove_file(&file);
            let state: Value = serde_json::from_slice(&state).unwrap_or_default();
            let reality: BTreeMap<String, String> =
                serde_json::from_value(state["annotations"].clone()).unwrap_or_default();
            let wish: BTreeMap<String, String> = wish.kernel.annotations.iter().cloned().collect();
            found.same(&format!("annotations in the state of {kind}"), wish, reality);
        }
    }

    /// What a failed run has left would make the next one fail too.
    fn clean(&self, c: &Case) -> Check {
        let _nothing_to_delete = c.rt(&["delete", "--force", &c.id])?;
        let _not_there = fs::remove_dir(c.cgroup());
        Ok(())
    }

    /// Makes the configuration smaller as long as some of the same fields differ.
    fn shrink(&self, c: &mut Case, tree: &mut impl ValueTree<Value = Wish>) -> Check<String> {
        let fields = |found: &Differences| found.0.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>();
        let wanted = fields(&self.differences(c, &tree.current())?);
        let mut smallest = tree.current();
        for _ in 0..SHRINKING {
            if !tree.simplify() {
                break;
            }
            while fields(&self.differences(c, &tree.current())?).first() != wanted.first() {
                if !tree.complicate() {
                    return Ok(format!("{smallest:?}"));
                }
            }
            smallest = tree.current();
        }
        Ok(format!("{smallest:?}"))
    }
}

/// What the probe has printed on its terminal; the inner error is the container's.
fn in_a_terminal(c: &Case) -> Check<Check<Report>> {
    /// The end of its report.
    const END: &str = "\"mknod\":{}}";
    let path = c.dir.join("console.sock");
    let _of_the_case_before = fs::remove_file(&path);
    let socket = FdSocket::new(path)?;
    let options = ["--detach", "--console-socket", &socket.path_text()];
    let live = c.spawn(&c.bundle_args("run", &options, &c.id)?)?;
    let received = socket.receive();
    let run = live.finish()?;
    let Some(fd) = received.ok().and_then(|mut received| received.fds.pop()) else {
        return Ok(fail(run.stderr.trim()));
    };
    if run.code() != 0 {
        return Ok(fail(run.stderr.trim()));
    }
    let text = Master::new(fd).expect(END)?;
    c.delete()?;
    let start = text.find('{').unwrap_or_default();
    Ok(Ok(serde_json::from_str(text[start..].trim_end())?))
}

/// Groups what was found by field, and keeps the seeds.
fn report(c: &Case, failures: &[Failure]) -> Check {
    if failures.is_empty() {
        return Ok(());
    }
    let mut fields: BTreeMap<&str, (usize, u64, &str)> = BTreeMap::new();
    for (seed, found) in failures {
        for (field, text) in &found.0 {
            fields.entry(field).or_insert((0, *seed, text)).0 += 1;
        }
    }
    let lines: Vec<String> = fields
        .iter()
        .map(|(field, (count, seed, text))| format!("{field} ({count} times, seed {seed}): {text}"))
        .collect();
    keep_seeds(c, failures)?;
    Err(Stop::Fail(lines.join("\n    ")))
}

/// Peers have their lists; a seed that fails on another runtime is run again next time.
fn keep_seeds(c: &Case, failures: &[Failure]) -> Check {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("random-regressions.txt");
    if ["runc", "crun"].contains(&c.host.runtime_name.as_str()) || !file.exists() {
        return Ok(());
    }
    let mut file = fs::File::options().append(true).open(file)?;
    for (seed, found) in failures {
        let known = REGRESSIONS
            .lines()
            .any(|line| line.split_whitespace().next() == Some(&seed.to_string()));
        if let (false, Some((field, _))) = (known, found.0.first()) {
            writeln!(file, "{seed} {field}")?;
        }
    }
    Ok(())
}

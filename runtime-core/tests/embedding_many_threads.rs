//! An embedding program with many threads: some allocate without pause, others run containers. What a child
//! did with a lock that another thread held at `clone3` would hang here, sooner or later. Needs root.
#![allow(
    clippy::disallowed_methods,
    reason = "looks at what is there, does not act on it"
)]

#[path = "support/bundle.rs"]
mod bundle;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bundle::Bundle;
use runtime_core::{CgroupDriver, ContainerId, Runtime, Status};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// One lock for all of the heap, unlike glibc's, whose arenas let threads hardly ever meet. A child that uses
/// the heap while another thread has the lock, in its copy of memory for ever, hangs.
struct OneLock(AtomicBool);

#[global_allocator]
static HEAP: OneLock = OneLock(AtomicBool::new(false));

impl OneLock {
    fn locked<T>(&self, work: impl FnOnce() -> T) -> T {
        while self.0.swap(true, Ordering::Acquire) {
            thread::yield_now();
        }
        let result = work();
        self.0.store(false, Ordering::Release);
        result
    }
}

// SAFETY: both methods pass their arguments on to the system's allocator unchanged.
unsafe impl GlobalAlloc for OneLock {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        self.locked(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        self.locked(|| unsafe { System.dealloc(pointer, layout) });
    }
}

const ALLOCATORS: usize = 8;
const WORKERS: usize = 6;
const CONTAINERS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn containers_run_while_other_threads_allocate() {
    let bundles: Vec<_> = (0..WORKERS).map(|_| Bundle::new()).collect();
    bundles.iter().for_each(Bundle::write);
    let states = tempfile::tempdir().unwrap();
    let before = traces(states.path());
    let done = Arc::new(AtomicUsize::new(0));
    let _watchdog = watchdog(Arc::clone(&done));
    let is_over = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);

    thread::scope(|scope| {
        let (is_over, rounds, done, states) = (&is_over, &rounds, &*done, states.path());
        for seed in 0..ALLOCATORS {
            scope.spawn(move || allocate(seed as u64 + 1, is_over, rounds));
        }
        let workers: Vec<_> = bundles
            .iter()
            .enumerate()
            .map(|(worker, bundle)| scope.spawn(move || work(worker, bundle, states, done)))
            .collect();
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        for worker in ended {
            if let Err(panic) = worker {
                std::panic::resume_unwind(panic);
            }
        }
    });

    assert_eq!(done.load(Ordering::Relaxed), CONTAINERS);
    assert!(
        rounds.load(Ordering::Relaxed) > CONTAINERS,
        "the other threads have hardly run"
    );
    assert_eq!(traces(states.path()), before, "something was left behind");
}

/// One worker's share: create, start, wait for and delete containers, every other one by `run`.
fn work(worker: usize, bundle: &Bundle, states: &Path, done: &AtomicUsize) {
    let runtime = Runtime::new(states, CgroupDriver::Fs);
    for number in 0..CONTAINERS / WORKERS {
        let id = ContainerId::new(format!("{}{worker}-{number}", prefix())).unwrap();
        let process = if number % 2 == 0 {
            runtime.run(&id, bundle.options())
        } else {
            runtime.create(&id, bundle.options()).and_then(|process| {
                assert_eq!(runtime.state(&id)?.status, Status::Created);
                runtime.start(&id).map(|()| process)
            })
        };
        let process = process.unwrap_or_else(|error| panic!("{id:?}: {error}"));
        let status = process.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{id:?}: {status}");
        runtime
            .delete(&id, false)
            .unwrap_or_else(|error| panic!("delete {id:?}: {error}"));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps the allocator's locks busy: vectors of many sizes, maps, strings.
fn allocate(seed: u64, is_over: &AtomicBool, rounds: &AtomicUsize) {
    let mut random = seed;
    let mut kept: HashMap<u64, (Vec<u8>, String)> = HashMap::new();
    while !is_over.load(Ordering::Relaxed) {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let vector = vec![random as u8; (random % 40_000) as usize];
        kept.insert(random % 64, (vector, format!("{random:x}")));
        kept.remove(&(random / 64 % 64));
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the process with a message if the test is not over in time; a hang would otherwise tell nothing.
fn watchdog(done: Arc<AtomicUsize>) -> Sender<()> {
    let (over, wait) = channel::<()>();
    thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let done = done.load(Ordering::Relaxed);
            // The macro's output would be kept by the harness, and end with it.
            let said = writeln!(
                std::io::stderr(),
                "HANG: {done} of {CONTAINERS} containers after {PATIENCE:?}"
            );
            drop(said);
            std::process::abort();
        }
    });
    over
}

fn prefix() -> String {
    format!("embed-threads-{}-", std::process::id())
}

/// What containers could leave behind. Descriptors are of this program; all else is of the host.
#[derive(Debug, PartialEq)]
struct Traces {
    has_children: bool,
    descriptors: usize,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    states: BTreeSet<String>,
}

fn traces(states: &Path) -> Traces {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    Traces {
        has_children: !matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD)),
        descriptors: names(Path::new("/proc/self/fd")).len(),
        mounts: mountinfo
            .lines()
            .filter(|line| line.contains(".tmp"))
            .map(str::to_owned)
            .collect(),
        cgroups: cgroup_directories(),
        // The store's own files begin with "@".
        states: names(states)
            .into_iter()
            .filter(|name| !name.starts_with('@'))
            .collect(),
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// Cgroups with our name, wherever the cgroup2 tree is mounted.
fn cgroup_directories() -> BTreeSet<String> {
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists())
        .expect("THIS TEST NEEDS cgroup v2: no cgroup.procs below /sys/fs/cgroup");
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(directory) = open.pop() {
        assert!(Instant::now() < deadline, "the cgroup tree has no end");
        // Other tests remove theirs while we look.
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && entry.file_name().to_string_lossy().contains(&prefix()) {
                found.insert(entry.path().display().to_string());
            } else if is_directory {
                open.push(entry.path());
            }
        }
    }
    found
}

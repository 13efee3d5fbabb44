//! Runs in: SUITE. Compares the host before and after the run: mounts, cgroups, processes, keys, network
//! namespace links, state roots and temporary folders.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Everything that could have been left behind, as lines of text.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeSet<String>);

/// Looks at the host.
pub(crate) fn snapshot() -> Snapshot {
    let mut lines = BTreeSet::new();
    // Our own mount namespace, and the host's where it is another.
    for (name, file) in [
        ("mount", "/proc/self/mountinfo"),
        ("host mount", "/proc/1/mountinfo"),
    ] {
        for line in read(file).lines() {
            // Field 1 and 2 are numbers that change when anything is remounted.
            let mut text: Vec<&str> = line.split(' ').skip(2).collect();
            if line.contains(" - cgroup2 ") {
                // Options of the one superblock, which criu's own mount of it resets (nsdelegate,
                // memory_recursiveprot).
                text.pop();
            }
            lines.insert(format!("{name}: {}", text.join(" ")));
        }
    }
    cgroups(Path::new("/sys/fs/cgroup"), &mut lines);
    processes(&mut lines);
    keys(&mut lines);
    for dir in [
        "/",
        "/run/netns",
        "/run/runc",
        "/run/crun",
        "/run/onggi",
        "/tmp",
        "/run",
        "/dev",
        "/dev/shm",
        "/dev/mqueue",
    ] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            lines.insert(format!("file: {}", entry.path().display()));
        }
    }
    Snapshot(lines)
}

/// What is in `after` and was not in `before`. Entries that have nothing to do with this run (other users of
/// the machine) are told apart by `ours`.
pub(crate) fn new_lines(before: &Snapshot, after: &Snapshot, ours: impl Fn(&str) -> bool) -> Vec<String> {
    after
        .0
        .difference(&before.0)
        .filter(|l| ours(l))
        .cloned()
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cgroups(dir: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            lines.insert(format!("cgroup: {}", path.display()));
            cgroups(&path, lines);
        }
    }
}

fn processes(lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let parent = read(&format!("/proc/{name}/stat"));
        let parent = parent
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .nth(1)
            .unwrap_or_default();
        lines.insert(format!("process: {name} parent={parent} {}", whereabouts(&name)));
    }
}

/// Of a process: its cgroup, its root and working directory as seen from here, its command line. Empty texts
/// where it has ended since.
pub(crate) fn whereabouts(pid: &str) -> String {
    let file = |name| read(&format!("/proc/{pid}/{name}"));
    let cgroup = file("cgroup");
    let cgroup = cgroup.lines().find(|line| line.starts_with("0::"));
    // The link `root` says "/" of what was pivoted into; the mount that is the root says where it comes from.
    let mounts = file("mountinfo");
    let root = mounts
        .lines()
        .find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, _, _, source, "/", ..] => Some(source),
            _ => None,
        });
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    format!(
        "{} root={} in {}: {}",
        cgroup.unwrap_or_default(),
        root.unwrap_or_default(),
        directory.display(),
        file("cmdline").replace('\0', " ")
    )
}

fn keys(lines: &mut BTreeSet<String>) {
    for line in read("/proc/keys").lines() {
        // serial, flags, usage, time, perm, uid, gid, type, description: usage and time change by themselves.
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [serial, _, _, _, _, uid, gid, rest @ ..] = fields.as_slice() {
            lines.insert(format!("key: {serial} {uid} {gid} {}", rest.join(" ")));
        }
    }
}

//! Runs in: SUITE. One test's own world: folder, bundle, state root, cgroup, ids; with helpers for every
//! command and clean-up that does not depend on how the test ended.

use crate::{
    bundle::{default_config, make_rootfs},
    children,
    config::{Document, Hooks, Linux, Process, Resources},
    host::Host,
    leaks,
    outcome::{Check, Stop, ensure, fail},
    runner::{self, Live, Run},
    seen::Report,
    user::{self, User},
};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::Signal,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One test's world. Dropped, it removes all of it.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) host: &'static Host,
    /// Everything of this test lies below here.
    pub(crate) dir: PathBuf,
    /// Given to the runtime as `--root`.
    pub(crate) state_root: PathBuf,
    pub(crate) bundle: PathBuf,
    /// The usual container id.
    pub(crate) id: String,
    /// Written to config.json by every command that takes a bundle.
    pub(crate) config: Value,
    /// Who runs the runtime, if it is not root.
    pub(crate) user: Option<User>,
    cgroup_parent: String,
}

impl Case {
    pub(crate) fn new(host: &'static Host) -> Check<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("st{}-{number}", std::process::id());
        let dir = host.work.join(format!("c{number}"));
        let bundle = dir.join("bundle");
        fs::create_dir_all(dir.join("state"))?;
        fs::create_dir_all(&bundle)?;
        make_rootfs(&host.base, &bundle.join("rootfs"))?;
        let config = default_config(&format!("/{name}/ctr"));
        Ok(Self {
            host,
            state_root: dir.join("state"),
            bundle,
            id: name.clone(),
            config,
            user: None,
            cgroup_parent: name,
            dir,
        })
    }

    /// A path in the rootfs, as the host sees it.
    pub(crate) fn rootfs(&self, path: &str) -> PathBuf {
        self.bundle.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// The cgroup2 folder of the container `cgroupsPath` names.
    pub(crate) fn cgroup(&self) -> PathBuf {
        self.host
            .cgroup2
            .join(self.cgroups_path().trim_start_matches('/'))
    }

    pub(crate) fn cgroups_path(&self) -> &str {
        self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default()
    }

    /// Gives a second container of this test a cgroup of its own.
    pub(crate) fn set_cgroup_leaf(&mut self, leaf: &str) {
        self.config["linux"]["cgroupsPath"] = json!(format!("/{}/{leaf}", self.cgroup_parent));
    }

    /// The document, by its names.
    pub(crate) fn document(&mut self) -> Document<&mut Value> {
        Document::of(&mut self.config)
    }

    pub(crate) fn process(&mut self) -> Process<&mut Value> {
        self.document().process()
    }

    pub(crate) fn hooks(&mut self) -> Hooks<&mut Value> {
        self.document().hooks()
    }

    pub(crate) fn linux(&mut self) -> Linux<&mut Value> {
        self.document().linux()
    }

    pub(crate) fn resources(&mut self) -> Resources<&mut Value> {
        self.linux().resources()
    }

    pub(crate) fn args<S: AsRef<str>>(&mut self, args: &[S]) -> &mut Self {
        self.config["process"]["args"] = args.iter().map(|a| json!(a.as_ref())).collect();
        self
    }

    /// The container runs this line in `/bin/sh -c`.
    pub(crate) fn shell(&mut self, line: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", line])
    }

    pub(crate) fn mount(&mut self, mount: impl Serialize) -> &mut Self {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.push(json!(mount));
        }
        self
    }

    /// Sets the path of namespace `kind`, adding it if absent.
    pub(crate) fn join_namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Self {
        self.drop_namespace(kind);
        if let Some(list) = self.config["linux"]["namespaces"].as_array_mut() {
            list.push(match path {
                Some(path) => json!({"type": kind, "path": path}),
                None => json!({"type": kind}),
            });
        }
        self
    }

    /// A new user namespace: its 65536 ids are those of the host from `first` on, and its root owns the
    /// rootfs.
    pub(crate) fn map_ids(&mut self, first: u32) -> Check {
        self.join_namespace("user", None);
        for key in ["uidMappings", "gidMappings"] {
            self.config["linux"][key] = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        }
        nix::unistd::chown(&self.rootfs("/"), Some(first.into()), Some(first.into()))?;
        Ok(())
    }

    /// The process has these capabilities, and no others.
    pub(crate) fn grant(&mut self, capabilities: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            self.config["process"]["capabilities"][set] = json!(capabilities);
        }
    }

    /// Shares namespace `kind` with the host.
    pub(crate) fn drop_namespace(&mut self, kind: &str) -> &mut Self {
        if let Some(list) = self.config["linux"]["namespaces"].as_array_mut() {
            list.retain(|n| n["type"] != kind);
        }
        self
    }

    pub(crate) fn write_config(&self) -> Check {
        fs::write(self.bundle.join("config.json"), self.config.to_string())?;
        if self.user.as_ref().is_some_and(|user| user.owns_all) {
            user::give(&self.dir)?;
        }
        Ok(())
    }

    /// The runtime's command line up to and including `--root`.
    pub(crate) fn command(&self) -> Command {
        let mut command = match &self.user {
            None => self.host.runtime_command(),
            Some(user) => user.command(),
        };
        command
            .arg("--root")
            .arg(&self.state_root)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Starts the runtime with these arguments; its output goes to files.
    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Check<Live> {
        runner::start(self.command().args(args), &self.dir)
    }

    /// Runs the runtime with these arguments to its end.
    pub(crate) fn rt<S: AsRef<OsStr>>(&self, args: &[S]) -> Check<Run> {
        self.spawn(args)?.finish()
    }

    /// `create` (or `run`) words for container `id`, config written.
    pub(crate) fn bundle_args(&self, command: &str, options: &[&str], id: &str) -> Check<Vec<OsString>> {
        self.write_config()?;
        let mut words: Vec<OsString> = vec![command.into(), "--bundle".into(), self.bundle.clone().into()];
        words.extend(options.iter().map(OsString::from));
        words.push(id.into());
        Ok(words)
    }

    pub(crate) fn create_with(&self, options: &[&str]) -> Check<Run> {
        self.rt(&self.bundle_args("create", options, &self.id)?)
    }

    pub(crate) fn create(&self) -> Check<Run> {
        self.create_with(&[])
    }

    /// Foreground `run`.
    pub(crate) fn run_with(&self, options: &[&str]) -> Check<Run> {
        self.rt(&self.bundle_args("run", options, &self.id)?)
    }

    pub(crate) fn run(&self) -> Check<Run> {
        self.run_with(&[])
    }

    /// create + start of a container that sleeps until it is killed.
    pub(crate) fn start_sleeper(&mut self) -> Check {
        self.args(&["/bin/sleep", "1000"]);
        self.create()?.ok()?;
        self.rt(&["start", &self.id])?.ok()?;
        Ok(())
    }

    /// Runs the probe as the container's process and returns its report.
    pub(crate) fn probe(&mut self, options: &[&str]) -> Check<Report> {
        self.probe_with(&[], options)
    }

    pub(crate) fn probe_with(&mut self, run_options: &[&str], options: &[&str]) -> Check<Report> {
        let mut args = vec!["/bin/probe"];
        args.extend(options);
        self.args(&args);
        self.run_with(run_options)?.ok()?.seen()
    }

    /// Runs the shell line in the container and returns what it printed, trimmed.
    pub(crate) fn sh(&mut self, line: &str) -> Check<String> {
        self.shell(line);
        Ok(self.run()?.ok()?.stdout.trim().to_owned())
    }

    /// Runs the probe by `exec` with these exec options.
    pub(crate) fn exec_probe(&self, exec_options: &[&str], options: &[&str]) -> Check<Report> {
        let mut words = vec!["exec"];
        words.extend(exec_options);
        words.extend([self.id.as_str(), "/bin/probe"]);
        words.extend(options);
        self.rt(&words)?.ok()?.seen()
    }

    pub(crate) fn state_of(&self, id: &str) -> Check<Value> {
        self.rt(&["state", id])?.ok()?.json()
    }

    pub(crate) fn state(&self) -> Check<Value> {
        self.state_of(&self.id)
    }

    pub(crate) fn status(&self) -> Check<String> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// The host pid of the init process.
    pub(crate) fn pid(&self) -> Check<i32> {
        match self.state()?["pid"].as_i64() {
            Some(pid) if pid > 0 => Ok(pid as i32),
            other => fail(format!("state has no pid of a living process: {other:?}")),
        }
    }

    /// Waits until `state` says `status`.
    pub(crate) fn wait_status(&self, status: &str) -> Check {
        let what = format!("status {status:?}");
        self.wait_until(&what, || Ok(self.status()? == status))
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl FnMut() -> Check<bool>) -> Check {
        wait_until(what, condition)
    }

    pub(crate) fn delete(&self) -> Check {
        self.rt(&["delete", "--force", &self.id])?.ok()?;
        Ok(())
    }

    /// Nothing of the failed or deleted container may be left: state, cgroup, mounts, processes.
    pub(crate) fn nothing_left(&self) -> Check {
        let left = self.leftovers();
        ensure!(
            left.is_empty(),
            "wish:    nothing left behind\n    reality: {}",
            left.join("; ")
        );
        Ok(())
    }

    /// What this test's containers have left, in words.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in self.state_ids() {
            left.push(format!("state root entry {entry:?}"));
        }
        let parent = self.host.cgroup2.join(&self.cgroup_parent);
        for entry in subdirectories(&parent) {
            if !(self.host.may_leave_cgroups && has_no_process(&entry)) {
                left.push(format!("cgroup {}", entry.display()));
            }
        }
        // With the slash, or the folder c1 would have what lies in c10.
        let dir = format!("{}/", self.dir.display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in mounts.lines().filter(|l| l.contains(&dir)) {
            left.push(format!("mount {line}"));
        }
        left
    }

    /// Kills and removes what is in the cgroups of this test, as far as it goes.
    pub(crate) fn remove_cgroups(&self) -> bool {
        let parent = self.host.cgroup2.join(&self.cgroup_parent);
        kill_cgroup(&parent);
        remove_cgroup(&parent)
    }

    /// The mounts below the folder of this test, in the order in which they were made.
    pub(crate) fn mounts_below(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = mounts.lines().filter_map(|l| l.split(' ').nth(4));
        targets
            .filter(|target| Path::new(target).starts_with(&self.dir))
            .map(str::to_owned)
            .collect()
    }

    fn state_ids(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.state_root).into_iter().flatten().flatten();
        // A dot file (lock, cache) belongs to the root, not to a container.
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| !n.starts_with('.'))
            .collect()
    }

    /// Kills every process of this test by what names the test: what runs in a cgroup that the runtime or
    /// systemd has named (systemd then clears its unit away) or in none of its own, hooks, the runtime
    /// itself.
    pub(crate) fn kill_by_mark(&self) {
        let marks = self.marks();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some((pid, name)) = name.to_str().and_then(|name| Some((name.parse().ok()?, name))) else {
                continue;
            };
            let text = leaks::whereabouts(name);
            if marks.iter().any(|mark| names(&text, mark)) {
                children::signal(pid, Signal::SIGKILL);
            }
        }
    }

    /// What the cgroups, keyrings, directories and command lines of this test's processes have in them, and
    /// no other test's.
    pub(crate) fn marks(&self) -> [String; 2] {
        // Two names are enough of the directory: a mount says its path from the root of its own file system.
        let directory: PathBuf = self
            .dir
            .iter()
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        [
            self.cgroup_parent.clone(),
            directory.to_string_lossy().into_owned(),
        ]
    }

    /// Clean-up by the runtime's own means; returns what it could not or did not remove.
    pub(crate) fn close(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for id in self.state_ids() {
            match self.rt(&["delete", "--force", &id]) {
                Ok(run) if run.code() == 0 => {}
                Ok(run) => notes.push(run.report()),
                Err(Stop::Fail(text) | Stop::Unsupported(text)) => notes.push(text),
            }
        }
        notes.extend(self.leftovers());
        notes
    }
}

/// Polls `condition` until it holds, at most 30 s: a machine is slow.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> Check<bool>) -> Check {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition()? {
        ensure!(Instant::now() < end, "waited 30 s in vain for: {what}");
        thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

pub(crate) fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

impl Drop for Case {
    /// By force and without the runtime, so that one bad test does not disturb the next. Errors have nobody
    /// to go to; what survives this shows up in the suite's leak check.
    fn drop(&mut self) {
        if !self.cgroups_path().starts_with('/') {
            self.kill_by_mark();
        }
        // The kernel lets go of a cgroup only when its last process has been switched out: on a busy host,
        // seconds.
        for _ in 0..500 {
            if self.remove_cgroups() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        for target in self.mounts_below().iter().rev() {
            let _shows_in_the_leak_check = umount2(target.as_str(), MntFlags::MNT_DETACH);
        }
        let _shows_in_the_leak_check = fs::remove_dir_all(&self.dir);
    }
}

/// Whether `mark`, which ends with a number, is in `text`, and not a longer number's.
pub(crate) fn names(text: &str, mark: &str) -> bool {
    let mut rests = text.split(mark).skip(1);
    rests.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

fn has_no_process(cgroup: &Path) -> bool {
    let events = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 0")
}

fn kill_cgroup(dir: &Path) {
    for child in subdirectories(dir) {
        kill_cgroup(&child);
    }
    let frozen = dir.join("cgroup.freeze");
    if frozen.exists() {
        let _best_effort = fs::write(frozen, "0");
    }
    for pid in fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
    {
        if let Ok(pid) = pid.parse() {
            children::signal(pid, Signal::SIGKILL);
        }
    }
}

/// True when nothing is left of `dir`.
fn remove_cgroup(dir: &Path) -> bool {
    for child in subdirectories(dir) {
        if !remove_cgroup(&child) {
            return false;
        }
    }
    !dir.exists() || fs::remove_dir(dir).is_ok()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_mark_is_a_whole_number() {
        assert!(names("0::/system.slice/st-st7-2.scope/x", "st7-2"));
        assert!(names("0::/st7-22/st7-2", "st7-2"));
        assert!(!names("0::/system.slice/st-st7-22.scope", "st7-2"));
        assert!(!names("0::/init.scope", "st7-2"));
    }
}

//! Runs in: SUITE. containerd with the runtime at the bottom, driven by `ctr`: the one engine of the suite
//! itself. What the other engines do is in `engines/`.

use crate::{
    case::{Case, wait_until},
    children,
    need::Need,
    outcome::{Check, Stop, contains, ensure, same},
    runner::{self, Live, Run},
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

// A cgroup2 tree that systemd has made, so that the engine takes the place for what it is.
const ENGINE: &[Need] = &[
    Need::Systemd,
    Need::Controller("memory"),
    Need::Program("containerd"),
    Need::Program("ctr"),
];

tests! {
    engine/containerd_with_cgroupfs: ENGINE,
    engine/containerd_with_systemd: ENGINE,
    engine/containerd_finds_a_link_named_runc: ENGINE,
}

const IMAGE: &str = "docker.io/library/spec-tests:latest";

/// A containerd of the test's own, in a mount namespace whose /run is empty: one that the host has does not
/// notice.
#[derive(Debug)]
struct Containerd<'a> {
    case: &'a Case,
    daemon: Live,
    options: Vec<String>,
}

impl<'a> Containerd<'a> {
    /// `options` are those of `ctr run`; `path` is where containerd and its shims look for programs.
    fn start(case: &'a Case, options: Vec<String>, path: &str) -> Check<Self> {
        let dir = case.dir.join("containerd");
        fs::create_dir(&dir)?;
        let config = format!(
            "version = 2\nroot = {:?}\nstate = \"/run/containerd\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n\
             [grpc]\naddress = {:?}\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            dir.join("root"),
            socket(case),
            dir.join("opt")
        );
        fs::write(dir.join("config.toml"), config)?;
        // The runtime asks systemd for units; nothing else of /run is needed.
        let script = "mount -t tmpfs -o mode=0755 tmpfs \"$1/run\" && for name in systemd dbus; do
                mkdir \"$1/run/$name\" && mount --rbind \"/run/$name\" \"$1/run/$name\" || exit 1
            done && mount -n --move \"$1/run\" /run && exec containerd --config \"$1/config.toml\" 2>&1";
        fs::create_dir(dir.join("run"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.arg(&dir).env("PATH", path).stdin(Stdio::null());
        let daemon = runner::start(&mut command, &case.dir)?;
        let containerd = Self {
            case,
            daemon,
            options,
        };
        wait_until("containerd's answer", || {
            Ok(socket(case).exists() && containerd.ctr(&["version"])?.code() == 0)
        })
        .map_err(|stop| containerd.explain(stop))?;
        Ok(containerd)
    }

    /// With what containerd has said last.
    fn explain(&self, stop: Stop) -> Stop {
        let log = self.daemon.output();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n      ");
        match stop {
            Stop::Fail(text) => Stop::Fail(format!("{text}\n    containerd: {tail}")),
            unsupported => unsupported,
        }
    }

    /// `ctr` in containerd's own mount namespace.
    fn ctr<S: AsRef<str>>(&self, words: &[S]) -> Check<Run> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.daemon.pid))
            .args(["ctr", "--namespace", &self.case.id, "--address"])
            .arg(socket(self.case))
            .args(words.iter().map(AsRef::as_ref))
            .env("PATH", crate::host::PATH)
            .stdin(Stdio::null());
        runner::start(&mut command, &self.case.dir)?.finish()
    }

    /// `ctr run` of this shell line in container `name`.
    fn run(&self, option: &str, name: &str, line: &str) -> Check<Run> {
        let mut words: Vec<&str> = vec!["run", option];
        words.extend(self.options.iter().map(String::as_str));
        words.extend([IMAGE, name, "/bin/sh", "-c", line]);
        self.ctr(&words)
    }

    /// The image of the test's rootfs, as `docker save` would have written it.
    fn import_image(&self) -> Check {
        let dir = self.case.dir.join("image");
        fs::create_dir(&dir)?;
        let tar = |from: &Path, to: &Path| {
            let mut command = Command::new("tar");
            command.arg("-C").arg(from).arg("-cf").arg(to).arg(".");
            runner::start(&mut command, &self.case.dir)?.finish()?.ok()
        };
        let layer = dir.join("layer.tar");
        tar(&self.case.bundle.join("rootfs"), &layer)?;
        let mut command = Command::new("sha256sum");
        let sum = runner::start(command.arg(&layer), &self.case.dir)?
            .finish()?
            .ok()?;
        let sum = sum.stdout.split(' ').next().unwrap_or_default().to_owned();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
        fs::write(dir.join("config.json"), config.to_string())?;
        fs::write(dir.join("manifest.json"), manifest.to_string())?;
        let archive = self.case.dir.join("image.tar");
        tar(&dir, &archive)?;
        let text = archive.to_string_lossy();
        self.ctr(&["image", "import", &text])?.ok()?;
        Ok(())
    }

    /// The pid of a task, as containerd has it.
    fn pid(&self, name: &str) -> Check<String> {
        let list = self.ctr(&["task", "ls"])?.ok()?.stdout;
        let mut lines = list.lines().map(str::split_whitespace);
        let pid = lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next())?);
        Ok(pid.unwrap_or_default().to_owned())
    }

    /// The runtime itself, by its own path, on the state that it has with this containerd.
    fn runtime(&self, words: &[&str]) -> Check<Run> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.daemon.pid))
            .arg(&self.case.host.runtime)
            .arg("--root")
            .arg(Path::new("/run/containerd/runc").join(&self.case.id))
            .args(words)
            .env("PATH", crate::host::PATH)
            .stdin(Stdio::null());
        runner::start(&mut command, &self.case.dir)?.finish()
    }

    /// The container that ended and the one that was killed have left nothing, in containerd's view either.
    fn nothing_left(&self) -> Check {
        let view = PathBuf::from(format!("/proc/{}", self.daemon.pid));
        wait_until("the end of the shims", || Ok(shims(self.case).is_empty()))?;
        let state = view.join("root/run/containerd/runc").join(&self.case.id);
        let states: Vec<_> = fs::read_dir(state)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        ensure!(states.is_empty(), "state of the runtime is left: {states:?}");
        let mounts = fs::read_to_string(view.join("mountinfo"))?;
        let mounts: Vec<_> = mounts.lines().filter(|l| l.contains("/rootfs")).collect();
        ensure!(mounts.is_empty(), "mounts are left: {mounts:?}");
        self.case.nothing_left()
    }
}

impl Drop for Containerd<'_> {
    /// What a failed test leaves: containers, then shims, which containerd does not take along.
    fn drop(&mut self) {
        self.case.kill_by_mark();
        for pid in shims(self.case) {
            children::signal(pid, Signal::SIGKILL);
        }
        children::signal(self.daemon.pid, Signal::SIGTERM);
        let _ended_or_killed_when_dropped = children::wait_for(self.daemon.pid, Duration::from_secs(10));
    }
}

fn socket(case: &Case) -> PathBuf {
    case.dir.join("containerd.sock")
}

/// Shims of this test: they have the address of its containerd on their command line.
fn shims(case: &Case) -> Vec<i32> {
    let mark = socket(case).to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            // Gone since, or a kernel thread: no text.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("containerd-shim") && line.contains(&mark)
        })
        .collect()
}

fn containerd_with_cgroupfs(c: &mut Case) -> Check {
    let options = vec!["--cgroup".to_owned(), c.cgroups_path().to_owned()];
    with_containerd(c, options)
}

fn containerd_with_systemd(c: &mut Case) -> Check {
    c.config["linux"]["cgroupsPath"] = json!(format!("system.slice:st:{}", c.id));
    let options = ["--runc-systemd-cgroup", "--cgroup", c.cgroups_path()];
    let options = options.map(str::to_owned).to_vec();
    let unit = format!("st-{}.scope", c.id);
    with_containerd(c, options)?;
    let cgroup = c.host.cgroup2.join("system.slice").join(unit);
    wait_until("the end of the scope", || Ok(!cgroup.exists()))
}

fn with_containerd(c: &Case, mut options: Vec<String>) -> Check {
    options.extend([
        "--runc-binary".to_owned(),
        c.host.runtime.to_string_lossy().into_owned(),
    ]);
    let containerd = Containerd::start(c, options, crate::host::PATH)?;
    life(&containerd).map_err(|stop| containerd.explain(stop))
}

/// How an engine that lets nobody choose gets another runtime: a link in front of the real runc. A runtime
/// does not know the containers of another, so its state tells which one it was.
fn containerd_finds_a_link_named_runc(c: &mut Case) -> Check {
    let links = c.dir.join("links");
    fs::create_dir(&links)?;
    std::os::unix::fs::symlink(&c.host.runtime, links.join("runc"))?;
    let options = vec!["--cgroup".to_owned(), c.cgroups_path().to_owned()];
    let path = format!("{}:{}", links.display(), crate::host::PATH);
    let containerd = Containerd::start(c, options, &path)?;
    linked_life(&containerd).map_err(|stop| containerd.explain(stop))
}

fn linked_life(containerd: &Containerd<'_>) -> Check {
    containerd.import_image()?;
    containerd
        .run("--detach", "stays", "while :; do sleep 0.1; done")?
        .ok()?;
    let state = containerd.runtime(&["state", "stays"])?.ok()?;
    contains("state of the runtime under test", &state.stdout, "running")?;
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "stays"])?
        .ok()?;
    wait_until("the end of the task", || {
        Ok(containerd.ctr(&["task", "ls"])?.ok()?.stdout.contains("STOPPED"))
    })?;
    let run = containerd.ctr(&["task", "rm", "stays"])?.ok()?;
    contains("standard error of ctr task rm", &run.stderr, "exit code 137")?;
    containerd.ctr(&["container", "rm", "stays"])?.ok()?;
    containerd.nothing_left()
}

fn life(containerd: &Containerd<'_>) -> Check {
    containerd.import_image()?;
    let run = containerd
        .run("--rm", "ends", "echo out; echo err >&2; exit 3")?
        .wants(3)?;
    same("standard output of ctr run", "out\n", run.stdout.as_str())?;
    contains("standard error of ctr run", &run.stderr, "err")?;
    let run = containerd.run("--rm", "fails", "exec /no/such/program")?;
    same("exit code of a shell without its program", 127, run.code())?;

    containerd
        .run(
            "--detach",
            "stays",
            "trap 'exit 7' TERM; while :; do sleep 0.1; done",
        )?
        .ok()?;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", containerd.pid("stays")?))?;
    contains("cgroup of the container", &cgroup, &containerd.case.id)?;
    let exec = |id: &str, line: &str| {
        containerd.ctr(&["task", "exec", "--exec-id", id, "stays", "/bin/sh", "-c", line])
    };
    let run = exec("first", "echo inside; cat /proc/1/cmdline; exit 9")?.wants(9)?;
    contains(
        "standard output of ctr task exec",
        &run.stdout,
        "inside\n/bin/sh\0-c\0trap",
    )?;
    exec("second", "true")?.ok()?;
    containerd.ctr(&["task", "kill", "stays"])?.ok()?;
    wait_until("the end of the task", || {
        Ok(containerd.ctr(&["task", "ls"])?.ok()?.stdout.contains("STOPPED"))
    })?;
    let run = containerd.ctr(&["task", "rm", "stays"])?.ok()?;
    contains("standard error of ctr task rm", &run.stderr, "exit code 7")?;
    containerd.ctr(&["container", "rm", "stays"])?.ok()?;
    containerd.nothing_left()
}

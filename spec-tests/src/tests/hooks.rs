//! config.md hooks: all six, where they run, what they get on stdin, and what their failure does.

use crate::{
    case::Case,
    outcome::{Check, ensure, fail, same},
    suite::Test,
    tests::process::run_with_fds,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) const TESTS: &[Test] = &[
    ("hooks/order", order),
    ("hooks/several_of_one_kind_in_order", several),
    ("hooks/state_on_stdin", state_on_stdin),
    ("hooks/namespaces", namespaces),
    (
        "hooks/create_container_sees_mounts_and_host_paths",
        create_container_view,
    ),
    ("hooks/runtime_hooks_see_the_environment", runtime_hooks_view),
    ("hooks/start_container_runs_from_the_rootfs", start_container_view),
    ("hooks/args_and_env", args_and_env),
    ("hooks/prestart_failure_aborts_create", prestart_failure),
    (
        "hooks/create_runtime_failure_aborts_create",
        create_runtime_failure,
    ),
    (
        "hooks/create_container_failure_aborts_create",
        create_container_failure,
    ),
    (
        "hooks/start_container_failure_aborts_start",
        start_container_failure,
    ),
    ("hooks/poststart_failure_stops_the_container", poststart_failure),
    ("hooks/poststop_failure_does_not_stop_delete", poststop_failure),
    ("hooks/missing_program_is_an_error", missing_program),
    ("hooks/relative_path_is_refused", relative_path),
    ("hooks/timeout_kills", timeout_kills),
    ("hooks/timeout_that_is_not_reached", timeout_not_reached),
    (
        "hooks/stdout_does_not_mix_with_the_containers",
        stdout_does_not_mix,
    ),
    ("hooks/run_runs_all_of_them", run_runs_all),
    ("hooks/inherit_none_of_the_callers_files", inherit_none),
];

const HOST_HOOKS: [&str; 5] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "poststart",
    "poststop",
];

fn log(c: &Case) -> PathBuf {
    c.dir.join("hooks.log")
}

/// A host script that logs its name, time, mount and uts namespace and its stdin, one line.
fn logging_script(c: &Case) -> Check<String> {
    let script = c.dir.join("hook.sh");
    let log = log(c);
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nstate=$(tr -d '\\n\\t')\nprintf '%s|%s|%s|%s|%s\\n' \"$1\" \"$(date +%s%N)\" \
         \"$(readlink /proc/self/ns/mnt)\" \"$(readlink /proc/self/ns/uts)\" \"$state\" >> {}\n",
            log.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script.to_string_lossy().into_owned())
}

fn hook(path: &str, args: &[&str]) -> Value {
    let mut all = vec![path];
    all.extend(args);
    json!({"path": path, "args": all, "env": ["PATH=/usr/bin:/bin"]})
}

/// All six hooks write to the log; startContainer to /hooks.log in the rootfs, which the program does too.
fn all_hooks(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    for kind in HOST_HOOKS {
        c.config["hooks"][kind] = json!([hook(&script, &[kind])]);
    }
    c.config["hooks"]["startContainer"] = json!([hook(
        "/bin/sh",
        &[
            "-c",
            "printf 'startContainer|%s|%s|%s|%s\\n' $(date +%s) $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) \"$(tr -d '\\n\\t')\" >> /hooks.log"
        ]
    )]);
    c.shell("echo program >> /hooks.log; exec sleep 1000");
    Ok(())
}

/// What the caller has left open, an engine's lock say, is not for them.
fn inherit_none(c: &mut Case) -> Check {
    let log = log(c);
    for kind in HOST_HOOKS {
        let line = format!(
            "cat > /dev/null; for fd in 8 9; do test ! -e /proc/self/fd/$fd || echo {kind} has $fd >> {0}; done; echo {kind} ran >> {0}",
            log.display()
        );
        c.config["hooks"][kind] = json!([hook("/bin/sh", &["-c", &line])]);
    }
    c.args(&["/bin/true"]);
    run_with_fds(c, &[3, 4, 8, 9], &[], &["--preserve-fds", "2"])?.ok()?;
    let seen = fs::read_to_string(log)?;
    ensure!(!seen.contains("has"), "{seen}");
    same("hooks that ran", HOST_HOOKS.len(), seen.lines().count())
}

/// One logged hook.
#[derive(Debug)]
struct Entry {
    name: String,
    mnt: String,
    uts: String,
    state: Value,
}

fn entries(c: &Case) -> Check<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in [log(c), c.rootfs("/hooks.log")] {
        for line in fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .filter(|l| l.contains('|'))
        {
            let fields: Vec<&str> = line.splitn(5, '|').collect();
            let [name, _time, mnt, uts, state] = fields[..] else {
                return fail(format!("log line: {line}"));
            };
            entries.push(Entry {
                name: name.to_owned(),
                mnt: mnt.to_owned(),
                uts: uts.to_owned(),
                state: serde_json::from_str(state).unwrap_or(Value::String(state.to_owned())),
            });
        }
    }
    Ok(entries)
}

fn names(c: &Case) -> Check<Vec<String>> {
    let text = fs::read_to_string(log(c)).unwrap_or_default();
    Ok(text
        .lines()
        .map(|l| l.split('|').next().unwrap_or_default().to_owned())
        .collect())
}

fn entry<'a>(entries: &'a [Entry], name: &str) -> Check<&'a Entry> {
    match entries.iter().find(|e| e.name == name) {
        Some(entry) => Ok(entry),
        None => fail(format!("{name} was not run; only {entries:?}")),
    }
}

fn order(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.create()?.ok()?;
    same(
        "after create",
        vec!["prestart", "createRuntime", "createContainer"],
        names(c)?,
    )?;
    ensure!(!c.rootfs("/hooks.log").exists(), "startContainer ran at create");
    c.rt(&["start", &c.id])?.ok()?;
    same(
        "after start",
        vec!["prestart", "createRuntime", "createContainer", "poststart"],
        names(c)?,
    )?;
    c.wait_until("the program has run", || {
        Ok(fs::read_to_string(c.rootfs("/hooks.log"))
            .unwrap_or_default()
            .contains("program"))
    })?;
    let inside = fs::read_to_string(c.rootfs("/hooks.log"))?;
    let inside: Vec<&str> = inside
        .lines()
        .map(|l| l.split('|').next().unwrap_or_default())
        .collect();
    same("in the container", vec!["startContainer", "program"], inside)?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    same("poststop before delete", 4, names(c)?.len())?;
    c.rt(&["delete", &c.id])?.ok()?;
    same(
        "after delete",
        Some("poststop"),
        names(c)?.last().map(String::as_str),
    )
}

fn several(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    c.config["hooks"]["createRuntime"] = (0..4).map(|n| hook(&script, &[&format!("hook{n}")])).collect();
    c.run()?.ok()?;
    same("order", vec!["hook0", "hook1", "hook2", "hook3"], names(c)?)
}

fn state_on_stdin(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.config["annotations"] = json!({"com.example": "x"});
    c.create()?.ok()?;
    let pid = c.pid()?;
    c.rt(&["start", &c.id])?.ok()?;
    let inside = c.rootfs("/hooks.log");
    c.wait_until("the program has run", || {
        Ok(fs::read_to_string(&inside)
            .unwrap_or_default()
            .contains("program"))
    })?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    let entries = entries(c)?;
    let wish = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (name, status) in wish {
        let state = &entry(&entries, name)?.state;
        same(
            &format!("{name}: status"),
            status,
            state["status"].as_str().unwrap_or_default(),
        )?;
        same(
            &format!("{name}: id"),
            c.id.as_str(),
            state["id"].as_str().unwrap_or_default(),
        )?;
        same(
            &format!("{name}: bundle"),
            c.bundle.to_str(),
            state["bundle"].as_str(),
        )?;
        same(
            &format!("{name}: annotations"),
            json!({"com.example": "x"}),
            state["annotations"].clone(),
        )?;
        let version = state["ociVersion"].as_str().unwrap_or_default();
        ensure!(version.starts_with("1."), "{name}: ociVersion {version:?}");
        match name {
            "prestart" | "createRuntime" | "poststart" => {
                same(&format!("{name}: pid"), json!(pid), state["pid"].clone())?
            }
            "poststop" => ensure!(
                state["pid"].as_i64().unwrap_or(0) == 0,
                "poststop: pid {}",
                state["pid"]
            ),
            _ => {}
        }
    }
    Ok(())
}

fn namespaces(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.create()?.ok()?;
    let pid = c.pid()?;
    let link = |who: &str, name: &str| -> Check<String> {
        Ok(fs::read_link(format!("/proc/{who}/ns/{name}"))?
            .to_string_lossy()
            .into_owned())
    };
    let (host, host_uts) = (link("self", "mnt")?, link("self", "uts")?);
    let (container, container_uts) = (link(&pid.to_string(), "mnt")?, link(&pid.to_string(), "uts")?);
    c.rt(&["start", &c.id])?.ok()?;
    let inside = c.rootfs("/hooks.log");
    c.wait_until("the program has run", || {
        Ok(fs::read_to_string(&inside)
            .unwrap_or_default()
            .contains("program"))
    })?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    let entries = entries(c)?;
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        let e = entry(&entries, name)?;
        same(
            name,
            (host.as_str(), host_uts.as_str()),
            (e.mnt.as_str(), e.uts.as_str()),
        )?;
    }
    for name in ["createContainer", "startContainer"] {
        let e = entry(&entries, name)?;
        same(
            name,
            (container.as_str(), container_uts.as_str()),
            (e.mnt.as_str(), e.uts.as_str()),
        )?;
    }
    Ok(())
}

fn create_container_view(c: &mut Case) -> Check {
    // Before pivot_root: the container's mounts exist below the rootfs's host path, and the host's paths still work.
    let out = c.dir.join("view");
    let line = format!(
        "grep -c ' {}/proc ' /proc/self/mountinfo > {}",
        c.rootfs("/").to_string_lossy().trim_end_matches('/'),
        out.display()
    );
    c.config["hooks"]["createContainer"] = json!([hook("/bin/sh", &["-c", &line])]);
    c.run()?.ok()?;
    same("mounts at ROOTFS/proc", "1", fs::read_to_string(out)?.trim())
}

fn start_container_view(c: &mut Case) -> Check {
    let line = "{ id -u; pwd; ls -d /etc/passwd; hostname; } > /view 2>&1";
    c.config["hooks"]["startContainer"] = json!([hook("/bin/sh", &["-c", line])]);
    c.run()?.ok()?;
    let text = fs::read_to_string(c.rootfs("/view"))?;
    for wish in ["/etc/passwd", "spec-test"] {
        ensure!(
            text.lines().any(|l| l == wish),
            "wish the line {wish:?}, reality {text:?}"
        );
    }
    Ok(())
}

fn args_and_env(c: &mut Case) -> Check {
    let out = c.dir.join("out");
    let line = format!(
        "{{ echo \"$0\" \"$1\"; env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_=; }} > {}",
        out.display()
    );
    c.config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["any name", "-c", line, "zero", "one two"], "env": ["K=v", "E="]}]);
    c.run()?.ok()?;
    let text = fs::read_to_string(out)?;
    let mut lines: Vec<&str> = text.lines().collect();
    same("args", Some("zero one two"), lines.first().copied())?;
    lines.remove(0);
    lines.sort_unstable();
    same("env is exactly the hook's", vec!["E=", "K=v"], lines)
}

fn failing(c: &mut Case, kind: &str) {
    c.config["hooks"][kind] = json!([hook("/bin/sh", &["-c", "echo the reason >&2; exit 3"])]);
}

fn aborts_create(c: &mut Case, kind: &str) -> Check {
    failing(c, kind);
    let marker = c.rootfs("/ran");
    c.shell("touch /ran");
    let run = c.create()?;
    same("exit code of create", 1, run.code())?;
    run.refused_with(kind)?;
    c.nothing_left()?;
    c.run()?.wants(1)?.refused()?;
    ensure!(!marker.exists(), "the program ran although {kind} failed");
    c.nothing_left()
}

/// The namespaces are there, with their names and mounts, and the root is still the host's.
fn runtime_hooks_view(c: &mut Case) -> Check {
    let rootfs = c.rootfs("/");
    let rootfs = rootfs.to_string_lossy();
    let rootfs = rootfs.trim_end_matches('/');
    for kind in ["prestart", "createRuntime"] {
        let out = c.dir.join(kind);
        let line = format!(
            "pid=$(tr -d ' \\n\\t' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
             {{ readlink /proc/$pid/ns/uts /proc/$pid/ns/net; readlink /proc/$pid/root; cat /proc/$pid/mountinfo; }} > {}",
            out.display()
        );
        c.config["hooks"][kind] = json!([hook("/bin/sh", &["-c", &line])]);
    }
    let own: Vec<PathBuf> = ["uts", "net"]
        .iter()
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")))
        .collect::<Result<_, _>>()?;
    c.run()?.ok()?;
    for kind in ["prestart", "createRuntime"] {
        let text = fs::read_to_string(c.dir.join(kind))?;
        let lines: Vec<&str> = text.lines().collect();
        let [uts, net, root, mounts @ ..] = lines.as_slice() else {
            return fail(format!("{kind} saw {text:?}"));
        };
        ensure!(
            Path::new(uts) != own[0] && Path::new(net) != own[1],
            "{kind}: the namespaces are still the host's: {uts} {net}"
        );
        same(&format!("root that {kind} saw"), "/", *root)?;
        let point = format!("{rootfs}/dev/shm");
        ensure!(
            mounts.iter().any(|line| line.contains(&point)),
            "{kind}: no mount at {point} in\n{text}"
        );
    }
    Ok(())
}

fn prestart_failure(c: &mut Case) -> Check {
    aborts_create(c, "prestart")
}

fn create_runtime_failure(c: &mut Case) -> Check {
    aborts_create(c, "createRuntime")
}

fn create_container_failure(c: &mut Case) -> Check {
    aborts_create(c, "createContainer")
}

fn start_container_failure(c: &mut Case) -> Check {
    failing(c, "startContainer");
    let marker = c.rootfs("/ran");
    c.shell("touch /ran");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?
        .wants(1)?
        .refused_with("startContainer")?;
    ensure!(!marker.exists(), "the program ran although startContainer failed");
    c.wait_until("the container has ended", || {
        Ok(c.rt(&["state", &c.id])?.code() != 0 || c.status()? == "stopped")
    })?;
    c.delete()?;
    c.nothing_left()
}

fn poststart_failure(c: &mut Case) -> Check {
    failing(c, "poststart");
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.wants(1)?.refused_with("poststart")?;
    c.wait_until("the container has ended", || {
        Ok(c.rt(&["state", &c.id])?.code() != 0 || c.status()? == "stopped")
    })
}

fn poststop_failure(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    c.config["hooks"]["poststop"] = json!([hook("/bin/false", &[]), hook(&script, &["second"])]);
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    same("the other poststop hooks", vec!["second"], names(c)?)?;
    c.nothing_left()
}

fn missing_program(c: &mut Case) -> Check {
    c.config["hooks"]["createRuntime"] = json!([{"path": "/no/such/hook"}]);
    c.create()?.wants(1)?.refused_with("/no/such/hook")?;
    c.nothing_left()
}

fn relative_path(c: &mut Case) -> Check {
    c.config["hooks"]["createRuntime"] = json!([{"path": "bin/true"}]);
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

fn timeout_kills(c: &mut Case) -> Check {
    for kind in ["createRuntime", "createContainer"] {
        c.config["hooks"] = json!({kind: [{"path": "/bin/sleep", "args": ["sleep", "600"], "timeout": 1}]});
        let started = Instant::now();
        c.create()?.wants(1)?.refused()?;
        let took = started.elapsed();
        ensure!(
            (Duration::from_millis(900)..Duration::from_secs(8)).contains(&took),
            "{kind}: wish ~1 s, reality {took:?}"
        );
        c.nothing_left()?;
    }
    Ok(())
}

fn timeout_not_reached(c: &mut Case) -> Check {
    c.config["hooks"]["createRuntime"] = json!([{"path": "/bin/true", "timeout": 600}]);
    let started = Instant::now();
    c.run()?.ok()?;
    ensure!(
        started.elapsed() < Duration::from_secs(5),
        "the time-out was waited for: {:?}",
        started.elapsed()
    );
    Ok(())
}

fn stdout_does_not_mix(c: &mut Case) -> Check {
    c.config["hooks"]["createRuntime"] = json!([hook("/bin/sh", &["-c", "echo from the hook"])]);
    c.args(&["/bin/echo", "from the container"]);
    same(
        "stdout of run",
        "from the container\n",
        c.run()?.ok()?.stdout.as_str(),
    )
}

fn run_runs_all(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.shell("echo program >> /hooks.log");
    c.run()?.ok()?;
    same("hooks on the host", HOST_HOOKS.to_vec(), names(c)?)?;
    c.nothing_left()
}

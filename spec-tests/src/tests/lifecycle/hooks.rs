//! config.md hooks: all six, where they run, what they get on stdin, and what their failure does.

use crate::{
    case::Case,
    config::{Hook, Mount},
    outcome::{Check, contains, ensure, fail, same},
    tests::process::run_with_fds,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

tests! {
    hooks/run_in_the_bundle,
    hooks/output_is_quoted_as_it_is,
    hooks/order,
    hooks/several_of_one_kind_in_order,
    hooks/state_on_stdin,
    hooks/namespaces,
    hooks/namespaces_user_and_time,
    hooks/create_container_sees_mounts_and_host_paths,
    hooks/runtime_hooks_see_the_environment,
    hooks/start_container_runs_from_the_rootfs,
    hooks/args_and_env,
    hooks/prestart_failure_aborts_create,
    hooks/create_runtime_failure_aborts_create,
    hooks/create_container_failure_aborts_create,
    hooks/start_container_failure_aborts_start,
    hooks/poststart_failure_stops_the_container,
    hooks/poststop_failure_does_not_stop_delete,
    hooks/missing_program_is_an_error,
    hooks/relative_path_is_refused,
    hooks/timeout_kills,
    hooks/timeout_that_is_not_reached,
    hooks/first_failure_ends_the_rest,
    hooks/ended_by_a_signal_is_a_failure,
    hooks/stdout_does_not_mix_with_the_containers,
    hooks/run_runs_all_of_them,
    hooks/inherit_none_of_the_callers_files,
    hooks/failure_runs_poststop,
    hooks/later_failure_runs_poststop,
    hooks/pid_is_that_of_the_hooks_namespace,
    hooks/poststop_failure_is_a_warning,
    hooks/poststart_sees_the_program,
    hooks/poststop_comes_after_the_deletion,
    hooks/poststart_failure_runs_poststop,
    hooks/output_files_of_annotations,
    hooks/output_files_that_cannot_be_opened,
    hooks/ended_by_a_signal_says_its_name,
    hooks/output_of_one_stream_only,
    hooks/create_container_sees_the_mounts,
}

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

/// A host script that logs its name.
fn logging_script(c: &Case) -> Check<String> {
    let script = c.dir.join("hook.sh");
    let text = format!(
        "#!/bin/sh\ncat > /dev/null\necho \"$1\" >> {}\n",
        log(c).display()
    );
    fs::write(&script, text)?;
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
    let (probe, log) = (c.rootfs("/bin/probe"), log(c));
    let (probe, log) = (probe.to_string_lossy(), log.to_string_lossy());
    for kind in HOST_HOOKS {
        c.config["hooks"][kind] = json!([hook(&probe, &["--hook", kind, &log])]);
    }
    let inside = hook("/bin/probe", &["--hook", "startContainer", "/hooks.log"]);
    c.hooks().start_container(json!([inside]));
    c.shell("/bin/probe --hook program /hooks.log; exec sleep 1000");
    Ok(())
}

/// What the caller has left open, an engine's lock say, is not for them.
fn inherit_none_of_the_callers_files(c: &mut Case) -> Check {
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
    /// CLOCK_MONOTONIC in nanoseconds.
    time: u64,
    /// The links of all eight, sorted by name.
    namespaces: String,
    state: Value,
}

fn entries(c: &Case) -> Check<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in [log(c), c.rootfs("/hooks.log")] {
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.splitn(4, '|').collect();
            let [name, time, namespaces, state] = fields[..] else {
                return fail(format!("log line: {line}"));
            };
            entries.push(Entry {
                name: name.to_owned(),
                time: time.parse()?,
                namespaces: namespaces.trim().to_owned(),
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
    )?;
    let entries = entries(c)?;
    let in_order = |names: &[&str]| -> Check {
        let mut earlier = 0;
        for name in names {
            let time = entry(&entries, name)?.time;
            ensure!(
                time > earlier,
                "{name} at {time}: wish after all before it in {names:?}, reality not after {earlier}"
            );
            earlier = time;
        }
        Ok(())
    };
    in_order(&[
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ])?;
    // The program may be slow to say that it has begun, and poststart does not wait for that.
    in_order(&["startContainer", "program", "poststop"])
}

fn several_of_one_kind_in_order(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    c.config["hooks"]["createRuntime"] = (0..4).map(|n| hook(&script, &[&format!("hook{n}")])).collect();
    c.run()?.ok()?;
    same("order", vec!["hook0", "hook1", "hook2", "hook3"], names(c)?)
}

fn program_has_run(c: &Case) -> Check {
    let inside = c.rootfs("/hooks.log");
    c.wait_until("the program has run", || {
        Ok(fs::read_to_string(&inside)
            .unwrap_or_default()
            .contains("program"))
    })
}

fn state_on_stdin(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.document().annotations(json!({"com.example": "x"}));
    c.create()?.ok()?;
    let pid = c.pid()?;
    c.rt(&["start", &c.id])?.ok()?;
    program_has_run(c)?;
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

/// All eight links of a process, as an entry has them.
fn links(pid: &str) -> Check<String> {
    let links: Vec<String> = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
        .iter()
        .map(|name| {
            Ok(fs::read_link(format!("/proc/{pid}/ns/{name}"))?
                .to_string_lossy()
                .into_owned())
        })
        .collect::<Check<_>>()?;
    Ok(links.join(" "))
}

fn namespaces(c: &mut Case) -> Check {
    each_hook_is_where_it_belongs(c)
}

/// The two kinds that the usual container has not.
fn namespaces_user_and_time(c: &mut Case) -> Check {
    for kind in ["user", "time"] {
        c.join_namespace(kind, None);
    }
    for key in ["uidMappings", "gidMappings"] {
        c.config["linux"][key] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    }
    each_hook_is_where_it_belongs(c)
}

fn each_hook_is_where_it_belongs(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    program_has_run(c)?;
    let (host, container) = (links("self")?, links(&c.pid()?.to_string())?);
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    let entries = entries(c)?;
    for (kind, wish) in [
        ("prestart", &host),
        ("createRuntime", &host),
        ("createContainer", &container),
        ("startContainer", &container),
        ("poststart", &host),
        ("poststop", &host),
    ] {
        same(kind, wish, &entry(&entries, kind)?.namespaces)?;
    }
    Ok(())
}

fn create_container_sees_mounts_and_host_paths(c: &mut Case) -> Check {
    // Before pivot_root: the container's mounts exist below the rootfs's host path, and the host's paths
    // still work.
    let out = c.dir.join("view");
    let line = format!(
        "grep -c ' {}/proc ' /proc/self/mountinfo > {}",
        c.rootfs("/").to_string_lossy().trim_end_matches('/'),
        out.display()
    );
    c.hooks()
        .create_container(json!([hook("/bin/sh", &["-c", &line])]));
    c.run()?.ok()?;
    same("mounts at ROOTFS/proc", "1", fs::read_to_string(out)?.trim())
}

fn start_container_runs_from_the_rootfs(c: &mut Case) -> Check {
    let line = "{ id -u; pwd; ls -d /etc/passwd; hostname; } > /view 2>&1";
    c.hooks().start_container(json!([hook("/bin/sh", &["-c", line])]));
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
    c.hooks().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!(["any name", "-c", line, "zero", "one two"]))
        .env(["K=v", "E="])]);
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
fn runtime_hooks_see_the_environment(c: &mut Case) -> Check {
    let rootfs = c.rootfs("/");
    let rootfs = rootfs.to_string_lossy();
    let rootfs = rootfs.trim_end_matches('/');
    for kind in ["prestart", "createRuntime"] {
        let out = c.dir.join(kind);
        let line = format!(
            "pid=$(tr -d ' \\n\\t' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
             {{ for link in ns/uts ns/net root; do readlink /proc/$pid/$link; done; cat /proc/$pid/mountinfo; }} > {}",
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

fn prestart_failure_aborts_create(c: &mut Case) -> Check {
    aborts_create(c, "prestart")
}

fn create_runtime_failure_aborts_create(c: &mut Case) -> Check {
    aborts_create(c, "createRuntime")
}

fn create_container_failure_aborts_create(c: &mut Case) -> Check {
    aborts_create(c, "createContainer")
}

fn start_container_failure_aborts_start(c: &mut Case) -> Check {
    failing(c, "startContainer");
    let marker = c.rootfs("/ran");
    c.shell("touch /ran");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?
        .wants(1)?
        .refused_with("startContainer")?;
    ensure!(!marker.exists(), "the program ran although startContainer failed");
    destroyed(c)
}

/// runtime.md, Lifecycle 8, 9 and 12: after a hook that fails the container is destroyed.
fn destroyed(c: &Case) -> Check {
    c.rt(&["state", &c.id])?.refused_with("does not exist")?;
    c.nothing_left()
}

fn poststart_failure_stops_the_container(c: &mut Case) -> Check {
    failing(c, "poststart");
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.wants(1)?.refused_with("poststart")?;
    destroyed(c)
}

fn poststop_failure_does_not_stop_delete(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    c.hooks()
        .poststop(json!([hook("/bin/false", &[]), hook(&script, &["second"])]));
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    same("the other poststop hooks", vec!["second"], names(c)?)?;
    c.nothing_left()
}

fn missing_program_is_an_error(c: &mut Case) -> Check {
    c.hooks().create_runtime([Hook::new().path("/no/such/hook")]);
    c.create()?.wants(1)?.refused_with("/no/such/hook")?;
    c.nothing_left()
}

fn relative_path_is_refused(c: &mut Case) -> Check {
    c.hooks().create_runtime([Hook::new().path("bin/true")]);
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

fn timeout_kills(c: &mut Case) -> Check {
    let about_a_second = |kind: &str, started: Instant| -> Check {
        let took = started.elapsed();
        let is_right = (Duration::from_millis(900)..Duration::from_secs(8)).contains(&took);
        ensure!(is_right, "{kind}: wish ~1 s, reality {took:?}");
        Ok(())
    };
    let hangs = |kind: &str| json!({kind: [{"path": "/bin/sleep", "args": ["sleep", "600"], "timeout": 1}]});
    for kind in ["prestart", "createRuntime", "createContainer"] {
        c.config["hooks"] = hangs(kind);
        let started = Instant::now();
        c.create()?.wants(1)?.refused_with(kind)?;
        about_a_second(kind, started)?;
        c.nothing_left()?;
    }
    for kind in ["startContainer", "poststart", "poststop"] {
        c.config["hooks"] = hangs(kind);
        c.args(&["/bin/sleep", "1000"]);
        c.create()?.ok()?;
        let mut started = Instant::now();
        let start = c.rt(&["start", &c.id])?;
        if kind == "poststop" {
            start.ok()?;
            started = Instant::now();
            c.delete()?;
            about_a_second(kind, started)?;
        } else {
            start.wants(1)?.refused_with(kind)?;
            about_a_second(kind, started)?;
            destroyed(c)?;
        }
        c.nothing_left()?;
    }
    Ok(())
}

/// Hooks that end `create`, and those that end `start`, in the order in which they run.
const AT_CREATE: [&str; 3] = ["prestart", "createRuntime", "createContainer"];
const AT_START: [&str; 2] = ["startContainer", "poststart"];

/// runtime.md, Lifecycle 3 to 9: the first that fails ends it all, and what is left is step 13.
fn first_failure_ends_the_rest(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    // Where the one of the rootfs writes to is what the program writes to as well.
    let inside = |name: &str| hook("/bin/sh", &["-c", &format!("echo {name} >> /hooks.log")]);
    for (at, kind) in AT_CREATE.iter().chain(&AT_START).enumerate() {
        c.hooks().clear();
        for later in AT_CREATE.iter().chain(&AT_START).skip(at + 1) {
            c.config["hooks"][later] = match *later {
                "startContainer" => json!([inside(later)]),
                _ => json!([hook(&script, &[later])]),
            };
        }
        let second = match *kind {
            "startContainer" => inside("second"),
            _ => hook(&script, &["second"]),
        };
        c.config["hooks"][kind] = json!([hook("/bin/false", &[]), second]);
        c.shell("exec sleep 1000");
        if AT_CREATE.contains(kind) {
            c.create()?.wants(1)?.refused_with(kind)?;
        } else {
            c.create()?.ok()?;
            c.rt(&["start", &c.id])?.wants(1)?.refused_with(kind)?;
            destroyed(c)?;
        }
        c.nothing_left()?;
        for file in [log(c), c.rootfs("/hooks.log")] {
            let ran = fs::read_to_string(file).unwrap_or_default();
            same(&format!("what ran after the failure of {kind}"), "", ran.as_str())?;
        }
    }
    Ok(())
}

/// As by another exit status than 0.
fn ended_by_a_signal_is_a_failure(c: &mut Case) -> Check {
    let dies = |kind: &str| json!({kind: [hook("/bin/sh", &["-c", "kill -9 $$"])]});
    for kind in AT_CREATE {
        c.config["hooks"] = dies(kind);
        c.create()?.wants(1)?.refused_with(kind)?;
        c.nothing_left()?;
    }
    for kind in AT_START {
        c.config["hooks"] = dies(kind);
        c.args(&["/bin/sleep", "1000"]);
        c.create()?.ok()?;
        c.rt(&["start", &c.id])?.wants(1)?.refused_with(kind)?;
        destroyed(c)?;
    }
    c.config["hooks"] = dies("poststop");
    c.start_sleeper()?;
    c.delete()?;
    c.nothing_left()
}

fn timeout_that_is_not_reached(c: &mut Case) -> Check {
    c.hooks()
        .create_runtime([Hook::new().path("/bin/true").timeout(600)]);
    let started = Instant::now();
    c.run()?.ok()?;
    ensure!(
        started.elapsed() < Duration::from_secs(5),
        "the time-out was waited for: {:?}",
        started.elapsed()
    );
    Ok(())
}

fn stdout_does_not_mix_with_the_containers(c: &mut Case) -> Check {
    c.hooks()
        .create_runtime(json!([hook("/bin/sh", &["-c", "echo from the hook"])]));
    c.args(&["/bin/echo", "from the container"]);
    same(
        "stdout of run",
        "from the container\n",
        c.run()?.ok()?.stdout.as_str(),
    )
}

fn run_runs_all_of_them(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.shell("echo program >> /hooks.log");
    c.run()?.ok()?;
    same("hooks on the host", HOST_HOOKS.to_vec(), names(c)?)?;
    c.nothing_left()
}

/// runtime.md, Lifecycle 3 to 9: after a hook that fails comes step 12, and then 13.
fn failure_runs_poststop(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    for kind in ["prestart", "createRuntime", "createContainer"] {
        c.hooks().clear().poststop(json!([hook(&script, &["poststop"])]));
        failing(c, kind);
        c.create()?.refused()?;
        same(
            &format!("hooks after a failed {kind}"),
            vec!["poststop"],
            names(c)?,
        )?;
        c.nothing_left()?;
        fs::remove_file(log(c))?;
    }
    for kind in ["startContainer", "poststart"] {
        c.hooks().clear().poststop(json!([hook(&script, &["poststop"])]));
        failing(c, kind);
        c.args(&["/bin/sleep", "2"]);
        c.create()?.ok()?;
        // `start` may be over before the hook inside is. The last steps may be left to the caller.
        let _fails_now_or_later = c.rt(&["start", &c.id])?;
        c.delete()?;
        same(
            &format!("hooks after a failed {kind}"),
            vec!["poststop"],
            names(c)?,
        )?;
        fs::remove_file(log(c))?;
        let _fails_too = c.run()?;
        same(
            &format!("hooks after `run` with a failed {kind}"),
            vec!["poststop"],
            names(c)?,
        )?;
        c.nothing_left()?;
        fs::remove_file(log(c))?;
    }
    Ok(())
}

/// What createRuntime has done can be taken back, if create fails later on.
fn later_failure_runs_poststop(c: &mut Case) -> Check {
    let script = logging_script(c)?;
    c.hooks()
        .clear()
        .create_runtime(json!([hook(&script, &["createRuntime"])]))
        .poststop(json!([hook(&script, &["poststop"])]));
    c.args(&["/bin/no-such-program"]);
    c.run()?.refused()?;
    same("hooks", vec!["createRuntime", "poststop"], names(c)?)?;
    c.nothing_left()
}

/// runtime.md, State: the pid is that of the namespace in which the hook runs.
fn pid_is_that_of_the_hooks_namespace(c: &mut Case) -> Check {
    all_hooks(c)?;
    c.create()?.ok()?;
    let pid = c.pid()?;
    c.rt(&["start", &c.id])?.ok()?;
    program_has_run(c)?;
    c.delete()?;
    let entries = entries(c)?;
    for (name, wish) in [
        ("prestart", pid),
        ("createRuntime", pid),
        ("createContainer", 1),
        ("startContainer", 1),
        ("poststart", pid),
    ] {
        same(
            &format!("{name}: pid"),
            json!(wish),
            entry(&entries, name)?.state["pid"].clone(),
        )?;
    }
    Ok(())
}

/// runtime.md, Warnings: where it is to be seen is the runtime's choice; that nobody sees it is not a
/// warning.
fn poststop_failure_is_a_warning(c: &mut Case) -> Check {
    c.hooks().poststop(json!([hook("/bin/false", &[])]));
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let run = c.rt(&["delete", &c.id])?.ok()?;
    ensure!(
        !run.stderr.is_empty(),
        "delete says nothing of the hook that failed"
    );
    c.nothing_left()
}

/// The pid of the state on standard input, for a hook that is a shell.
const PID_OF_STATE: &str = "pid=$(tr -d ' \\n\\t' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')";

fn poststart_sees_the_program(c: &mut Case) -> Check {
    let out = c.dir.join("seen");
    let line = format!(
        "{PID_OF_STATE}; tr '\\0' ' ' < /proc/$pid/cmdline > {}",
        out.display()
    );
    c.hooks().poststart(json!([hook("/bin/sh", &["-c", &line])]));
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    same("program", "/bin/sleep 1000 ", fs::read_to_string(&out)?.as_str())?;
    c.delete()?;
    fs::remove_file(&out)?;
    c.run_with(&["--detach"])?.ok()?;
    same(
        "program of `run`",
        "/bin/sleep 1000 ",
        fs::read_to_string(out)?.as_str(),
    )
}

/// Those that the runtime itself runs while it makes the container: their relative paths are the bundle's.
pub(crate) fn run_in_the_bundle(c: &mut Case) -> Check {
    let mut wish = String::new();
    for kind in ["prestart", "createRuntime"] {
        let file = c.dir.join("where");
        let line = format!("echo {kind} $PWD >>{}", file.display());
        c.config["hooks"][kind] = json!([hook("/bin/sh", &["-c", &line])]);
        wish += &format!("{kind} {}\n", c.bundle.display());
    }
    c.args(&["/bin/true"]);
    c.run()?.ok()?;
    same("where hooks ran", wish, fs::read_to_string(c.dir.join("where"))?)
}

/// Quotes and letters of other languages; only control characters are escaped.
fn output_is_quoted_as_it_is(c: &mut Case) -> Check {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        c.hooks().clear();
        let line = "printf \"can't open '/x': für \\\\ \\033[1m\" >&2; exit 3";
        c.config["hooks"][kind] = json!([hook("/bin/sh", &["-c", line])]);
        c.args(&["/bin/true"]);
        let run = c.run()?.refused()?;
        contains(&format!("stderr of {kind}"), &run.stderr, "can't open '/x': für")?;
        ensure!(
            !run.stderr.contains('\u{1b}'),
            "{kind}: an escape sequence: {:?}",
            run.stderr
        );
    }
    Ok(())
}

fn poststop_comes_after_the_deletion(c: &mut Case) -> Check {
    let out = c.dir.join("seen");
    let cgroup = c.cgroup();
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let pid = c.pid()?;
    c.delete()?;
    // The same container once more, now that its places are known.
    let line = format!(
        "{{ test -e {} && echo cgroup; ls {}; }} > {} 2>&1; true",
        cgroup.display(),
        c.state_root.display(),
        out.display()
    );
    c.hooks().poststop(json!([hook("/bin/sh", &["-c", &line])]));
    c.create()?.ok()?;
    ensure!(c.pid()? != pid, "the first container lives");
    c.delete()?;
    same(
        "what poststop finds of the container",
        "",
        fs::read_to_string(out)?.as_str(),
    )
}

/// The container is gone by then, as after every deletion.
fn poststart_failure_runs_poststop(c: &mut Case) -> Check {
    failing(c, "poststart");
    let script = logging_script(c)?;
    c.hooks().poststop(json!([hook(&script, &["poststop"])]));
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.wants(1)?.refused_with("poststart")?;
    same("hooks that ran after it", vec!["poststop"], names(c)?)?;
    destroyed(c)
}

/// crun's annotations: what hooks print goes to files, after what is there already.
pub(crate) fn output_files_of_annotations(c: &mut Case) -> Check {
    let (out, err) = (c.dir.join("hooks.out"), c.bundle.join("hooks.err"));
    fs::write(&out, "before\n")?;
    // A relative name is one in the bundle.
    c.document()
        .annotations(json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": "hooks.err"}));
    let all = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    for kind in all {
        let line = format!("cat >/dev/null; echo {kind}; echo error of {kind} >&2");
        c.config["hooks"][kind] = json!([hook("/bin/sh", &["-c", &line])]);
    }
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let fds: Vec<_> = fs::read_dir(format!("/proc/{}/fd", c.pid()?))?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    c.rt(&["start", &c.id])?.ok()?;
    let running: Vec<_> = fs::read_dir(format!("/proc/{}/fd", c.pid()?))?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    ensure!(
        !running.contains(&out),
        "the program has the file: {running:?}, before {fds:?}"
    );
    c.delete()?;
    same(
        "standard output",
        format!("before\n{}\n", all.join("\n")),
        fs::read_to_string(&out)?,
    )?;
    let errors = all.map(|kind| format!("error of {kind}\n")).concat();
    same("standard error", errors, fs::read_to_string(&err)?)?;
    // A failure is told as ever, without what went to the files.
    c.hooks()
        .clear()
        .create_container(json!([hook("/bin/sh", &["-c", "echo last; exit 4"])]));
    c.create()?.wants(1)?.refused_with("createContainer")?;
    ensure!(
        fs::read_to_string(&out)?.ends_with("last\n"),
        "not written: {:?}",
        fs::read_to_string(&out)?
    );
    c.nothing_left()
}

fn output_files_that_cannot_be_opened(c: &mut Case) -> Check {
    c.document()
        .annotations(json!({"run.oci.hooks.stderr": "/no/such/place/file"}));
    for kind in AT_CREATE {
        c.config["hooks"] = json!({kind: [hook("/bin/true", &[])]});
        c.create()?.wants(1)?.refused_with("/no/such/place/file")?;
        c.nothing_left()?;
    }
    // Without a hook nobody needs it.
    c.hooks().clear();
    c.args(&["/bin/true"]);
    c.run()?.ok()?;
    c.nothing_left()
}

fn output_of_one_stream_only(c: &mut Case) -> Check {
    let out = c.dir.join("hooks.out");
    c.document().annotations(json!({"run.oci.hooks.stdout": out}));
    for kind in AT_CREATE {
        let line = format!("cat >/dev/null; echo to the file {kind}; echo to the error {kind} >&2; exit 5");
        c.config["hooks"] = json!({kind: [hook("/bin/sh", &["-c", &line])]});
        let run = c
            .create()?
            .wants(1)?
            .refused_with(&format!("to the error {kind}"))?;
        ensure!(
            !run.stderr.contains("to the file"),
            "quoted although it went to the file: {}",
            run.stderr
        );
        same(
            "the file",
            format!("to the file {kind}\n"),
            fs::read_to_string(&out)?,
        )?;
        fs::remove_file(&out)?;
        c.nothing_left()?;
    }
    Ok(())
}

/// config.md, createContainer: the mounts are there, below the rootfs, and the host's programs can still be
/// reached.
fn create_container_sees_the_mounts(c: &mut Case) -> Check {
    let seen = c.dir.join("seen");
    fs::create_dir(c.dir.join("source"))?;
    fs::write(c.dir.join("source/file"), "")?;
    c.mount(Mount::bind("/bound", c.dir.join("source")).options(["bind"]));
    let root = c.rootfs("/");
    let line = format!(
        "cat >/dev/null; cd {root}; for f in bound/file dev/null dev/pts/ptmx proc/self/status; do test -e $f && echo $f >>{seen}; done",
        root = root.display(),
        seen = seen.display()
    );
    c.hooks()
        .create_container(json!([hook("/bin/sh", &["-c", &line])]));
    c.args(&["/bin/true"]);
    c.run()?.ok()?;
    let wish = "bound/file\ndev/null\ndev/pts/ptmx\nproc/self/status\n".to_owned();
    same("what the hook saw", wish, fs::read_to_string(&seen)?)
}

fn ended_by_a_signal_says_its_name(c: &mut Case) -> Check {
    for (signal, name) in [
        ("SYS", "bad system call"),
        ("SEGV", "segmentation fault"),
        ("40", "signal 40"),
    ] {
        for kind in AT_CREATE.iter().chain(&AT_START) {
            let line = format!("kill -{signal} $$");
            c.config["hooks"] = json!({(*kind): [hook("/bin/sh", &["-c", &line])]});
            c.run()?
                .refused_with(&format!("{kind} hook #0: signal: {name}"))?;
            c.nothing_left()?;
        }
    }
    Ok(())
}

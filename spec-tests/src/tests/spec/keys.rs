//! Runs in: SUITE. Keys that differ in case from those of the specification. Go's encoding/json takes them,
//! so that tools and people have written them for runc; what is dropped in silence may be what confines a
//! container.

use crate::{
    case::Case,
    config::Rlimit,
    outcome::{Check, contains, ensure, same},
};
use serde_json::{Value, json};
use std::fs;

tests! {
    spec/keys_in_another_case => config_json,
    spec/keys_given_twice,
    exec/process_file_with_keys_in_another_case,
    spec/keys_in_another_case_are_warned_of,
    update/keys_in_another_case_are_judged,
}

tests! {
    update/keys_in_another_case: &[Controller("pids")] => update_file,
}

/// Gives the entry `key` of an object the key `other`.
fn rename(object: &mut Value, key: &str, other: &str) {
    let entry = object.as_object_mut().and_then(|object| object.remove(key));
    object[other] = entry.unwrap_or_default();
}

/// What the sleeper of these tests is given by keys that are not those of the specification.
fn spell_otherwise(c: &mut Case) {
    let process = &mut c.config["process"];
    process["NoNewPrivileges"] = json!(true);
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "HARD": 77, "soft": 66}]);
    rename(process, "args", "Args");
    rename(process, "rlimits", "RLimits");
    // The long s, which is an s to Unicode.
    rename(&mut c.config, "hostname", "ho\u{17f}tname");
    rename(&mut c.config, "mounts", "Mounts");
}

pub(crate) fn config_json(c: &mut Case) -> Check {
    c.shell("grep NoNewPrivs /proc/self/status; ulimit -n; ulimit -Hn; hostname");
    spell_otherwise(c);
    same(
        "what the process has",
        "NoNewPrivs:\t1\n66\n77\nspec-test\n",
        c.run()?.ok()?.stdout.as_str(),
    )
}

/// Go reads the later value into what the earlier one has left.
fn keys_given_twice(c: &mut Case) -> Check {
    c.shell("grep NoNewPrivs /proc/self/status; ulimit -n; ulimit -Hn; hostname");
    c.process()
        .rlimits([Rlimit::new().kind("RLIMIT_NOFILE").hard(77).soft(66)]);
    c.write_config()?;
    let file = c.bundle.join("config.json");
    let text = fs::read_to_string(&file)?;
    let open = text.trim_end().strip_suffix('}').unwrap_or_default();
    let later = r#", "Process": {"noNewPrivileges": true, "Rlimits": [{"soft": 55}]}, "HostName": "later"}"#;
    fs::write(&file, open.to_owned() + later)?;
    let run = c.rt(&["run", "--bundle", "bundle", &c.id])?.ok()?;
    same(
        "what the process has",
        "NoNewPrivs:\t1\n55\n77\nlater\n",
        run.stdout.as_str(),
    )
}

/// The words of the warnings on standard error.
fn warnings(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.split_once("level=warning msg="))
        .map(|(_, message)| message)
        .collect()
}

fn process_file_with_keys_in_another_case(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let file = c.dir.join("process.json");
    let words = ["/bin/sh", "-c", "ulimit -n; pwd; id -u"];
    let process = json!({"ARGS": words, "Cwd": "/tmp", "User": {"UID": 5, "gid": 0}, "env": ["PATH=/bin"],
        "RLimits": [{"type": "RLIMIT_NOFILE", "hard": 77, "soft": 66}]});
    fs::write(&file, process.to_string())?;
    let run = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .ok()?;
    same("what the process has", "66\n/tmp\n5\n", run.stdout.as_str())
}

fn keys_in_another_case_are_warned_of(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    spell_otherwise(c);
    let run = c.create()?.ok()?;
    let taken = |field: &str, key: &str| {
        json!(format!(
            "{field}: taken from the key \"{key}\", which differs in case"
        ))
    };
    let wish = [
        taken("mounts", "Mounts"),
        taken("hostname", "ho\u{17f}tname"),
        taken("process.args", "Args"),
        taken("process.noNewPrivileges", "NoNewPrivileges"),
        taken("process.rlimits", "RLimits"),
        taken("process.rlimits[0].hard", "HARD"),
    ];
    let mut wish: Vec<String> = wish.iter().map(ToString::to_string).collect();
    let mut reality = warnings(&run.stderr);
    wish.sort();
    reality.sort_unstable();
    same(
        "warnings",
        wish.iter().map(String::as_str).collect::<Vec<_>>(),
        reality,
    )?;
    // It has been said.
    c.rt(&["start", &c.id])?.ok()?;
    let run = c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    same("standard error of exec", "", run.stderr.as_str())
}

fn update(c: &Case, resources: &Value) -> Check<crate::runner::Run> {
    let path = c.dir.join("resources.json");
    fs::write(&path, resources.to_string())?;
    c.rt(&["update", "--resources", &path.to_string_lossy(), &c.id])
}

fn keys_in_another_case_are_judged(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = update(c, &json!({"BlockIO": {"Weight": "heavy"}}))?;
    ensure!(run.code() != 0, "a weight that is no number is taken");
    contains("standard error", &run.stderr.to_lowercase(), "blockio.weight")
}

fn update_file(c: &mut Case) -> Check {
    c.start_sleeper()?;
    update(c, &json!({"PIDs": {"Limit": 55}}))?.ok()?;
    let limit = fs::read_to_string(c.cgroup().join("pids.max"))?;
    same("pids.max", "55", limit.trim())
}

//! What runc has printed, in `fixtures/runc`, against what the runtime under test prints for the same
//! commands: keys, their order, JSON types, indentation, columns. Values are other tests' business.

mod ordered;

use crate::{
    case::Case,
    outcome::{Check, Stop, contains, ensure, fail, same},
    runner::{self, NO_MEMORY_CONTROLLER},
    tests::cgroups::limit,
};
use ordered::{Ordered, Rule};
use serde_json::json;
use std::{ffi::OsStr, fs};

tests! {
    recorded/state,
    recorded/list_of_nothing,
    recorded/list,
    recorded/ps_json,
    recorded/features,
    recorded/version,
    recorded/spec,
    recorded/log_lines,
}

tests! {
    recorded/events_stats: &[ Controller("memory"), Controller("pids"), Controller("cpu"), Controller("io"), Controller("hugetlb"), Path("/proc/pressure/memory"), ],
}

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../fixtures/runc/", $name))
    };
}

/// Where a runtime may differ from the recording, and why.
const RULES: &[(&str, Rule)] = &[
    // Made by the container's author.
    ("/annotations", Rule::AnyNames),
    ("[]/annotations", Rule::AnyNames),
    // Named by the kernel: sizes of pages, lines of memory.stat.
    ("/data/hugetlb", Rule::AnyNames),
    ("/data/memory/raw", Rule::AnyNames),
    // Go leaves out what is zero or empty, which depends on the moment.
    ("/data/cpu/throttling/periods", Rule::MayLack),
    ("/data/cpu/throttling/throttledPeriods", Rule::MayLack),
    ("/data/cpu/throttling/throttledTime", Rule::MayLack),
    ("/data/cpu/usage/kernel", Rule::MayLack),
    ("/data/memory/cache", Rule::MayLack),
    ("/data/memory/swap/usage", Rule::MayLack),
    ("/data/memory/swap/max", Rule::MayHave),
    // Names of runc's, which fills them on cgroup v1 only.
    ("/data/cpuset/cpus", Rule::MayHave),
    ("/data/cpuset/mems", Rule::MayHave),
    // Newer than the specification of the recording (1.2.1): runc prints them since 1.4.
    ("/linux/intelRdt/schemata", Rule::MayHave),
    ("/linux/intelRdt/monitoring", Rule::MayHave),
    ("/linux/memoryPolicy", Rule::MayHave),
    ("/linux/netDevices", Rule::MayHave),
];

fn ordered(what: &str, text: &str) -> Check<Ordered> {
    serde_json::from_str(text).map_err(|e| Stop::Fail(format!("{what} is not JSON ({e}): {text}")))
}

/// The JSON document `reality` must be like the recorded one, in everything but values.
fn alike(what: &str, recorded: &str, reality: &str) -> Check {
    let wish = ordered("the recording", recorded)?;
    let real = ordered(what, reality)?;
    let differences = wish.differences(&real, RULES);
    ensure!(
        differences.is_empty(),
        "{what} differs from runc's:\n    {}\n    reality: {:.1500}",
        differences.join("\n    "),
        reality
    );
    let layout = ordered::Layout::of(recorded);
    same(
        "the recording as it is laid out here",
        layout.print(&wish)?,
        recorded.to_owned(),
    )?;
    same(
        &format!("layout of {what}"),
        layout.print(&real)?,
        reality.to_owned(),
    )
}

/// Every text of the array at `path` of the recording must be in that of `reality`: what runc can do.
fn has_all(recorded: &str, reality: &str, path: &str) -> Check {
    let read = |text: &str| -> Check<Vec<String>> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let array = value.pointer(path).and_then(|array| array.as_array().cloned());
        let texts = array.into_iter().flatten();
        Ok(texts
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect())
    };
    let (wish, real) = (read(recorded)?, read(reality)?);
    ensure!(!wish.is_empty(), "the recording has nothing at {path}");
    let missing: Vec<_> = wish.iter().filter(|text| !real.contains(text)).collect();
    ensure!(missing.is_empty(), "{path} lacks {missing:?}");
    Ok(())
}

/// A table as Go's tabwriter sets it: at least 12 wide, 3 of space, nothing after the last column.
fn laid_out(table: &str) -> String {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            let cells = line.split("   ").map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect()
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        (cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 3).max(12)
    };
    let line = |row: &Vec<&str>| {
        let last = row.len().saturating_sub(1);
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = if column == last { 0 } else { width(column) };
            format!("{cell:width$}")
        });
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

fn same_table(recorded: &str, reality: &str) -> Check {
    same(
        "the recorded table, laid out here",
        laid_out(recorded),
        recorded.to_owned(),
    )?;
    same("columns", laid_out(reality), reality.to_owned())?;
    let head = |table: &str| -> Vec<String> {
        let line = table.lines().next().unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    same("head of the table", head(recorded), head(reality))?;
    same("lines", recorded.lines().count(), reality.lines().count())
}

/// The runtime without `--root`, in the test's folder.
fn bare<S: AsRef<OsStr>>(c: &Case, words: &[S]) -> Check<runner::Run> {
    let mut command = c.host.runtime_command();
    command.args(words).current_dir(&c.dir);
    runner::start(&mut command, &c.dir)?.finish()
}

fn state(c: &mut Case) -> Check {
    c.document().annotations(json!({"b": "2", "a": "1"}));
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let print = |c: &Case| Ok::<_, Stop>(c.rt(&["state", &c.id])?.ok()?.stdout);
    alike("state of created", recorded!("state-created.json"), &print(c)?)?;
    c.rt(&["start", &c.id])?.ok()?;
    alike("state of running", recorded!("state.json"), &print(c)?)?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    let stopped = print(c)?;
    alike("state of stopped", recorded!("state-stopped.json"), &stopped)?;
    contains("pid of stopped", &stopped, "  \"pid\": 0,\n")?;
    contains(
        "order of annotations",
        &stopped,
        "\"a\": \"1\",\n    \"b\": \"2\"\n",
    )
}

fn list_of_nothing(c: &mut Case) -> Check {
    let print = |words: &[&str]| Ok::<_, Stop>(c.rt(words)?.ok()?.stdout);
    same("table", recorded!("list-empty.txt"), &*print(&["list"])?)?;
    let json = print(&["list", "--format", "json"])?;
    same("JSON", recorded!("list-empty.json"), &*json)?;
    same(
        "ids",
        recorded!("list-empty-quiet.txt"),
        &*print(&["list", "--quiet"])?,
    )
}

fn list(c: &mut Case) -> Check {
    c.document().annotations(json!({"b": "2", "a": "1"}));
    c.set_cgroup_leaf("a");
    c.args(&["/bin/sleep", "1000"]);
    c.rt(&c.bundle_args("create", &[], "first")?)?.ok()?;
    c.rt(&["start", "first"])?.ok()?;
    if let Some(config) = c.config.as_object_mut() {
        config.remove("annotations");
    }
    c.set_cgroup_leaf("b");
    c.rt(&c.bundle_args("create", &[], "the-second-container")?)?
        .ok()?;
    same_table(recorded!("list.txt"), &c.rt(&["list"])?.ok()?.stdout)?;
    let json = c.rt(&["list", "--format", "json"])?.ok()?.stdout;
    alike("list", recorded!("list.json"), &json)?;
    same(
        "ids",
        recorded!("list-quiet.txt"),
        &*c.rt(&["list", "--quiet"])?.ok()?.stdout,
    )
}

fn ps_json(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let pids = c.rt(&["ps", "--format", "json", &c.id])?.ok()?.stdout;
    alike("ps", recorded!("ps.json"), &pids)
}

fn events_stats(c: &mut Case) -> Check {
    *limit(c, "memory") = json!({"limit": 64 << 20, "swap": 64 << 20});
    *limit(c, "pids") = json!({"limit": 50});
    *limit(c, "cpu") = json!({"quota": 50000, "period": 100_000});
    c.start_sleeper()?;
    let event = c.rt(&["events", "--stats", &c.id])?.ok()?.stdout;
    alike("statistics", recorded!("events-stats.json"), &event)
}

fn features(c: &mut Case) -> Check {
    let (wish, real) = (recorded!("features.json"), bare(c, &["features"])?.ok()?.stdout);
    alike("features", wish, &real)?;
    for path in [
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
        "/linux/seccomp/archs",
        "/linux/seccomp/knownFlags",
        "/linux/seccomp/supportedFlags",
        "/potentiallyUnsafeConfigAnnotations",
    ] {
        has_all(wish, &real, path)?;
    }
    Ok(())
}

/// runc's lines about Go and libseccomp are of those that are made with them.
fn version(c: &mut Case) -> Check {
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split(": ").next().unwrap_or(line));
        lines
            .filter(|name| !["go", "libseccomp"].contains(name))
            .skip(1)
            .map(str::to_owned)
            .collect()
    };
    for flag in ["--version", "-v"] {
        let real = bare(c, &[flag])?.ok()?.stdout;
        let (wish, real) = (recorded!("version.txt"), real.as_str());
        same("lines after the first", names(wish), names(real))?;
        let first = |text: &str| -> Vec<String> {
            let words = text.lines().next().unwrap_or_default().split(' ');
            words.map(str::to_owned).collect()
        };
        same("words of line 1", first(wish).len(), first(real).len())?;
        same("word 2 of line 1", first(wish).get(1), first(real).get(1))?;
        ensure!(real.ends_with('\n') && wish.ends_with('\n'), "{real:?}");
    }
    Ok(())
}

fn spec(c: &mut Case) -> Check {
    for (wish, flags) in [
        (recorded!("spec.json"), &["spec"][..]),
        (recorded!("spec-rootless.json"), &["spec", "--rootless"]),
    ] {
        bare(c, flags)?.ok()?;
        let file = c.dir.join("config.json");
        let real = fs::read_to_string(&file)?;
        // A file that people edit may end with a newline.
        alike("config.json", wish, real.trim_end_matches('\n'))?;
        for path in ["/process/args", "/process/env", "/process/capabilities/bounding"] {
            has_all(wish, &real, path)?;
        }
        has_all(wish, &real, "/linux/maskedPaths")?;
        has_all(wish, &real, "/linux/readonlyPaths")?;
        fs::remove_file(file)?;
    }
    Ok(())
}

/// A line of the text log without what stands between quotes.
fn bones(line: &str) -> String {
    let line = line.replace("\\\"", "");
    let parts = line.split('"').step_by(2);
    parts.collect::<Vec<_>>().join("\"\"")
}

fn log_lines(c: &mut Case) -> Check {
    c.args(&["/no/such/program"]);
    let run = c.bundle_args("run", &[], &c.id)?;
    let failures: [(&[_], &str, &str); 2] = [
        (
            &["state".into(), "nobody".into()],
            recorded!("stderr-of-state.txt"),
            "container does not exist",
        ),
        (
            &run,
            recorded!("stderr-of-run.txt"),
            "exec: \"/no/such/program\": stat /no/such/program: no such file or directory",
        ),
    ];
    for (number, (words, stderr, text)) in failures.into_iter().enumerate() {
        let nth = |lines: &'static str| lines.lines().nth(number).unwrap_or_default();
        let json = logged(c, words, "json", text)?;
        alike("line of the log", nth(recorded!("log.json")), json.trim_end())?;
        let line = logged(c, words, "text", text)?;
        same(
            "line of the text log",
            bones(nth(recorded!("log.txt"))),
            bones(line.trim_end()),
        )?;
        contains("the recorded message", stderr, text)?;
        ensure!(
            json.ends_with("\"}\n") && line.ends_with("\"\n"),
            "{json:?} {line:?}"
        );
    }
    c.nothing_left()
}

/// The one line that the log got. Its message is what is on standard error, as in the recording.
fn logged<S: AsRef<OsStr>>(c: &Case, words: &[S], format: &str, text: &str) -> Check<String> {
    let log = c.dir.join("the.log");
    let mut command = c.command();
    command.arg("--log").arg(&log).args(["--log-format", format]);
    let run = runner::start(command.args(words), &c.dir)?
        .finish()?
        .wants(1)?
        .refused_with(text)?;
    let lines = fs::read_to_string(&log)?;
    let lines = lines.lines().filter(|line| !line.contains(NO_MEMORY_CONTROLLER));
    let line = lines.map(|line| format!("{line}\n")).collect::<String>();
    fs::remove_file(&log)?;
    let quoted = json!(run.stderr.trim_end()).to_string();
    let end = match format {
        "json" => format!("\"msg\":{quoted},\"time\":"),
        _ => format!(" level=error msg={quoted}\n"),
    };
    match line.contains(&end) {
        true => Ok(line),
        false => fail(format!("wish: a line with {end:?}, reality {line:?}")),
    }
}

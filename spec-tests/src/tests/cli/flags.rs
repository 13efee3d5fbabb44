//! The command line as engines write it and read it: spellings of flags, usage errors, what is printed.

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, same},
    runner::{self, Run},
};
use serde_json::Value;
use serde_json::json;
use std::{ffi::OsStr, fs, time::Duration};

tests! {
    cli/one_dash_or_two_space_or_equals_sign,
    cli/switch_with_a_value,
    cli/the_last_value_counts,
    cli/two_dashes_end_the_flags,
    cli/value_that_is_a_lone_dash,
    cli/words_of_exec_are_left_alone,
    cli/flag_needs_an_argument,
    cli/flag_not_defined,
    cli/global_flag_not_defined,
    cli/value_of_the_wrong_type,
    cli/wrong_number_of_words,
    cli/unknown_command_is_code_3,
    cli/no_command_is_help,
    cli/help_of_every_command,
    cli/rootless_is_accepted,
    cli/empty_signal_is_term,
    cli/kill_by_number_zero_and_real_time,
    cli/kill_real_time_by_name,
    cli/kill_all_reaches_every_process,
    cli/kill_all_of_stopped,
    cli/kill_and_delete_by_regex,
    cli/cgroup_manager,
    cli/root_of_the_file_system_is_refused,
    cli/list_of_a_missing_root,
    cli/list_and_state_agree,
    cli/list_table_columns,
    cli/format_unknown,
    cli/state_is_indented_by_two,
    cli/spec_is_indented_by_tabs,
    cli/spec_rootless,
    cli/config_flag,
    cli/log_level_and_file_prefix,
}

/// The runtime without `--root` or anything else.
fn bare<S: AsRef<OsStr>>(c: &Case, words: &[S]) -> Check<Run> {
    let mut command = c.host.runtime_command();
    command.args(words).current_dir(&c.dir);
    runner::start(&mut command, &c.dir)?.finish()
}

/// A usage error: help on standard output, one line on standard error, exit code 1.
fn usage_error(run: Run, message: &str) -> Check {
    let run = run.wants(1)?.refused_with(message)?;
    contains("stdout", &run.stdout, "Incorrect Usage")
}

fn one_dash_or_two_space_or_equals_sign(c: &mut Case) -> Check {
    c.shell("exit 7");
    c.write_config()?;
    let (id, bundle) = (c.id.clone(), c.bundle.to_string_lossy().into_owned());
    let joined = |flag: &str| format!("{flag}={bundle}");
    for words in [
        vec!["run", "-bundle", &bundle, &id],
        vec!["run", "--bundle", &bundle, "-no-subreaper", &id],
        vec!["run", &joined("-bundle"), &id],
        vec!["run", &joined("--bundle"), "--no-subreaper", &id],
        vec!["run", &joined("-b"), &id],
        vec!["run", "-b", &bundle, &id],
        vec!["run", &id, "-b", &bundle],
    ] {
        c.rt(&words)?.wants(7)?;
    }
    c.nothing_left()
}

fn switch_with_a_value(c: &mut Case) -> Check {
    c.shell("exit 7");
    // Detached, it would be 0.
    c.run_with(&["--detach=false"])?.wants(7)?;
    c.run_with(&["-d=false", "--keep=false"])?.wants(7)?;
    c.nothing_left()?;
    c.run_with(&["--detach=true"])?.wants(0)?;
    c.wait_status("stopped")
}

fn the_last_value_counts(c: &mut Case) -> Check {
    c.shell("exit 7");
    let words = ["--bundle", "/nonexistent", "--detach", "--detach=false"];
    let mut words: Vec<&str> = ["run"].into_iter().chain(words).collect();
    let (bundle, id) = (c.bundle.to_string_lossy().into_owned(), c.id.clone());
    words.extend(["--bundle", &bundle, &id]);
    c.write_config()?;
    c.rt(&words)?.wants(7)?;
    Ok(())
}

fn two_dashes_end_the_flags(c: &mut Case) -> Check {
    c.rt(&["state", "--", "--bogus"])?.wants(1)?.refused()?;
    c.shell("exit 7");
    c.write_config()?;
    let bundle = c.bundle.to_string_lossy().into_owned();
    c.rt(&["run", "--bundle", &bundle, "--", &c.id])?.wants(7)?;
    Ok(())
}

fn value_that_is_a_lone_dash(c: &mut Case) -> Check {
    // Taken as the value, not as the next flag or as a word.
    c.rt(&["list", "--format", "-"])?
        .wants(1)?
        .refused_with("format")?;
    fs::create_dir(c.dir.join("-"))?;
    c.rt(&["spec", "--bundle", "-"])?.ok()?;
    ensure!(
        c.dir.join("-/config.json").exists(),
        "no config.json in the folder called -"
    );
    Ok(())
}

fn words_of_exec_are_left_alone(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = c
        .rt(&["exec", &c.id, "/bin/echo", "-d", "--tty", "--", "-x=1", "-"])?
        .ok()?;
    same("echoed", "-d --tty -- -x=1 -\n", &*run.stdout)
}

fn flag_needs_an_argument(c: &mut Case) -> Check {
    for words in [
        ["create", "--bundle"],
        ["restore", "--lsm-mount-context"],
        ["exec", "-e"],
        ["update", "--resources"],
    ] {
        // CRI-O and Podman look for these words in the answer of `restore` to learn whether it knows the
        // flag.
        usage_error(
            bare(c, &words)?,
            &format!("flag needs an argument: -{}", words[1].trim_start_matches('-')),
        )?;
    }
    Ok(())
}

fn flag_not_defined(c: &mut Case) -> Check {
    for words in [
        &["state", "--bogus", "x"][..],
        &["run", "-bogus=1", "x"],
        &["exec", "--bogus", "x", "ls"],
    ] {
        usage_error(bare(c, words)?, "flag provided but not defined: -bogus")?;
    }
    Ok(())
}

fn global_flag_not_defined(c: &mut Case) -> Check {
    usage_error(
        bare(c, &["--bogus", "list"])?,
        "flag provided but not defined: -bogus",
    )
}

fn value_of_the_wrong_type(c: &mut Case) -> Check {
    usage_error(bare(c, &["exec", "--preserve-fds", "many", "x", "ls"])?, "many")?;
    usage_error(bare(c, &["kill", "--all=perhaps", "x"])?, "perhaps")
}

fn wrong_number_of_words(c: &mut Case) -> Check {
    for (words, wish) in [
        (&["state"][..], "requires exactly 1 argument(s)"),
        (&["create", "a", "b"], "requires exactly 1 argument(s)"),
        (&["list", "x"], "requires exactly 0 argument(s)"),
        (&["spec", "x"], "requires exactly 0 argument(s)"),
        (&["exec"], "requires a minimum of 1 argument(s)"),
        (&["ps"], "requires a minimum of 1 argument(s)"),
        (&["kill"], "requires a minimum of 1 argument(s)"),
        (&["kill", "a", "9", "b"], "requires a maximum of 2 argument(s)"),
    ] {
        usage_error(bare(c, words)?, wish)?;
    }
    Ok(())
}

fn unknown_command_is_code_3(c: &mut Case) -> Check {
    bare(c, &["statt", "x"])?.wants(3)?.refused_with("statt")?;
    Ok(())
}

fn no_command_is_help(c: &mut Case) -> Check {
    for words in [&[][..], &["--help"], &["-h"], &["help"]] {
        let run = bare(c, words)?.ok()?;
        contains("stdout", &run.stdout, "checkpoint")?;
        same("stderr", "", &*run.stderr)?;
    }
    Ok(())
}

fn help_of_every_command(c: &mut Case) -> Check {
    for command in [
        "checkpoint",
        "create",
        "delete",
        "events",
        "exec",
        "features",
        "kill",
        "list",
        "pause",
        "ps",
        "restore",
        "resume",
        "run",
        "spec",
        "start",
        "state",
        "update",
    ] {
        // CRI-O takes code 0 of `checkpoint --help` for a yes to checkpoints.
        for words in [[command, "--help"], ["help", command]] {
            let run = bare(c, &words)?.ok()?;
            contains("stdout", &run.stdout, command)?;
            same("stderr", "", &*run.stderr)?;
        }
    }
    Ok(())
}

fn rootless_is_accepted(c: &mut Case) -> Check {
    for value in ["--rootless=true", "--rootless=false", "--rootless=auto"] {
        c.rt(&["list"])?.ok()?;
        let mut command = c.command();
        runner::start(command.args([value, "list"]), &c.dir)?
            .finish()?
            .ok()?;
    }
    Ok(())
}

/// Starts a container that writes down each signal of these, by name.
fn start_listener(c: &mut Case, signals: &[&str]) -> Check {
    let traps: Vec<String> = signals
        .iter()
        .map(|s| format!("trap 'echo {s} >> /log' {s};"))
        .collect();
    c.shell(&format!(
        "{} echo ready > /log; while true; do usleep 5000; done",
        traps.join(" ")
    ));
    c.run_with(&["--detach"])?.ok()?;
    heard(c, "ready")
}

fn heard(c: &Case, word: &str) -> Check {
    let log = c.rootfs("/log");
    c.wait_until(&format!("{word} in the log"), || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        Ok(text.lines().any(|line| line == word))
    })
}

fn empty_signal_is_term(c: &mut Case) -> Check {
    start_listener(c, &["TERM"])?;
    c.rt(&["kill", &c.id, ""])?.ok()?;
    heard(c, "TERM")
}

fn kill_by_number_zero_and_real_time(c: &mut Case) -> Check {
    start_listener(c, &["35"])?;
    // 0 asks whether a signal may be sent.
    c.rt(&["kill", &c.id, "0"])?.ok()?;
    c.rt(&["kill", &c.id, "35"])?.ok()?;
    heard(c, "35")
}

fn kill_real_time_by_name(c: &mut Case) -> Check {
    start_listener(c, &["35", "63"])?;
    c.rt(&["kill", &c.id, "RTMIN+1"])?.ok()?;
    heard(c, "35")?;
    c.rt(&["kill", &c.id, "sigrtmax-1"])?.ok()?;
    heard(c, "63")
}

fn kill_all_reaches_every_process(c: &mut Case) -> Check {
    c.shell(
        "trap 'echo one >> /log' USR1; \
         sh -c 'trap \"echo two >> /log\" USR1; echo ready2 >> /log; while true; do usleep 5000; done' & \
         echo ready >> /log; while true; do usleep 5000; done",
    );
    c.run_with(&["--detach"])?.ok()?;
    heard(c, "ready")?;
    heard(c, "ready2")?;
    c.rt(&["kill", "--all", &c.id, "USR1"])?.ok()?;
    heard(c, "one")?;
    heard(c, "two")
}

fn kill_all_of_stopped(c: &mut Case) -> Check {
    c.shell("exit 0");
    c.run_with(&["--detach"])?.ok()?;
    c.wait_status("stopped")?;
    // containerd's shim does this after init has ended.
    c.rt(&["kill", "--all", &c.id, "KILL"])?.ok()?;
    c.rt(&["kill", &c.id, "KILL"])?
        .refused_with("container not running")?;
    Ok(())
}

fn kill_and_delete_by_regex(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    for (leaf, name) in [("a", "red1"), ("b", "red2"), ("c", "blue")] {
        c.set_cgroup_leaf(leaf);
        c.rt(&c.bundle_args("run", &["--detach"], name)?)?.ok()?;
    }
    c.rt(&["kill", "--regex", "^red[0-9]$", "KILL"])?.ok()?;
    c.wait_until("both have stopped", || {
        Ok(c.state_of("red1")?["status"] == "stopped" && c.state_of("red2")?["status"] == "stopped")
    })?;
    same(
        "the third",
        "running",
        c.state_of("blue")?["status"].as_str().unwrap_or_default(),
    )?;
    c.rt(&["delete", "-r", "red"])?.ok()?;
    same("left", "blue\n", &*c.rt(&["list", "-q"])?.ok()?.stdout)?;
    c.rt(&["delete", "--force", "--regex", "^b.*e$"])?.ok()?;
    c.nothing_left()
}

fn cgroup_manager(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    for (manager, in_its_own) in [("cgroupfs", true), ("disabled", false)] {
        let mut command = c.command();
        command.args(["--cgroup-manager", manager]);
        command.args(c.bundle_args("run", &["--detach"], &c.id)?);
        runner::start(&mut command, &c.dir)?.finish()?.ok()?;
        same(&format!("cgroup with {manager}"), in_its_own, c.cgroup().exists())?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let of_init = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
        same(
            &format!("where init is with {manager}"),
            in_its_own,
            own != of_init,
        )?;
        c.delete()?;
    }
    let mut command = c.command();
    command.args(["--cgroup-manager=bogus", "list"]);
    runner::start(&mut command, &c.dir)?
        .finish()?
        .wants(1)?
        .refused_with("cgroup")?;
    c.nothing_left()
}

fn root_of_the_file_system_is_refused(c: &mut Case) -> Check {
    for root in ["/", "//", "/../"] {
        bare(c, &["--root", root, "list"])?
            .wants(1)?
            .refused_with("Option --root argument should not be set to /")?;
    }
    Ok(())
}

fn list_of_a_missing_root(c: &mut Case) -> Check {
    let root = c.dir.join("missing").to_string_lossy().into_owned();
    bare(c, &["--root", &root, "list"])?
        .wants(1)?
        .refused_with(&root)?;
    Ok(())
}

fn list_and_state_agree(c: &mut Case) -> Check {
    c.document().annotations(json!({"b": "2", "a": "1"}));
    c.start_sleeper()?;
    let list = c.rt(&["list", "--format", "json"])?.ok()?;
    ensure!(
        list.stdout.ends_with("]\n") && list.stdout.lines().count() == 1,
        "wish:    one line\n    reality: {}",
        list.stdout
    );
    let (mut listed, state) = (list.json()?, c.state()?);
    same("owner", "root", listed[0]["owner"].as_str().unwrap_or_default())?;
    same("owner of state", "", state["owner"].as_str().unwrap_or("none"))?;
    listed[0]["owner"] = Value::from("");
    same("the two", state, listed[0].clone())
}

fn list_table_columns(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let table = c.rt(&["list"])?.ok()?.stdout;
    let state = c.state()?;
    let text = |name: &str| state[name].as_str().unwrap_or_default().to_owned();
    let cells = [
        ("ID", text("id")),
        ("PID", state["pid"].to_string()),
        ("STATUS", text("status")),
        ("BUNDLE", text("bundle")),
        ("CREATED", text("created")),
        ("OWNER", "root".to_owned()),
    ];
    // Go's tabwriter: at least 12 wide, 3 of space, nothing after the last.
    let (mut head, mut row) = (String::new(), String::new());
    for (title, cell) in &cells {
        let width = match *title {
            "OWNER" => 0,
            _ => (title.len().max(cell.len()) + 3).max(12),
        };
        head += &format!("{title:width$}");
        row += &format!("{cell:width$}");
    }
    same("table", format!("{head}\n{row}\n"), table)
}

fn format_unknown(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["list", "-f", "xml"])?
        .wants(1)?
        .refused_with("invalid format")?;
    c.rt(&["ps", "-f", "xml", &c.id])?
        .wants(1)?
        .refused_with("invalid format")?;
    Ok(())
}

fn state_is_indented_by_two(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let text = c.rt(&["state", &c.id])?.ok()?.stdout;
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split('"').next())
        .collect();
    same(
        "keys, in order",
        [
            "ociVersion",
            "id",
            "pid",
            "status",
            "bundle",
            "rootfs",
            "created",
            "owner",
        ]
        .as_slice(),
        keys.as_slice(),
    )?;
    ensure!(text.starts_with("{\n") && text.ends_with('}'), "{text:?}");
    Ok(())
}

fn spec_is_indented_by_tabs(c: &mut Case) -> Check {
    let run = bare(c, &["spec"])?.ok()?;
    same("stdout", "", &*run.stdout)?;
    let text = fs::read_to_string(c.dir.join("config.json"))?;
    ensure!(
        text.starts_with("{\n\t\"ociVersion\": \"1."),
        "{:?}",
        text.lines().take(2).collect::<Vec<_>>()
    );
    let config: Value = serde_json::from_str(&text)?;
    same("args", "[\"sh\"]", &*config["process"]["args"].to_string())?;
    bare(c, &["spec"])?
        .wants(1)?
        .refused_with("File config.json exists. Remove it first")?;
    Ok(())
}

fn spec_rootless(c: &mut Case) -> Check {
    bare(c, &["spec", "--rootless"])?.ok()?;
    let config: Value = serde_json::from_slice(&fs::read(c.dir.join("config.json"))?)?;
    let kinds = config["linux"]["namespaces"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(kinds.iter().any(|kind| kind["type"] == "user"), "{kinds:?}");
    ensure!(!kinds.iter().any(|kind| kind["type"] == "network"), "{kinds:?}");
    same(
        "mapped to",
        Some(0),
        config["linux"]["uidMappings"][0]["containerID"].as_u64(),
    )
}

fn config_flag(c: &mut Case) -> Check {
    c.shell("exit 7");
    c.write_config()?;
    let other = c.dir.join("other.json");
    fs::rename(c.bundle.join("config.json"), &other)?;
    let (bundle, other) = (
        c.bundle.to_string_lossy().into_owned(),
        other.to_string_lossy().into_owned(),
    );
    c.rt(&["run", "--bundle", &bundle, "--config", &other, &c.id])?
        .wants(7)?;
    c.rt(&["run", "-b", &bundle, "-f", &other, &c.id])?.wants(7)?;
    c.nothing_left()
}

fn log_level_and_file_prefix(c: &mut Case) -> Check {
    let log = c.dir.join("the.log");
    let target = format!("file:{}", log.display());
    let mut command = c.command();
    command.args(["--log", &target, "--log-format", "json", "--log-level", "warning"]);
    runner::start(command.args(["state", "nobody"]), &c.dir)?
        .finish_within(Duration::from_secs(10))?
        .wants(1)?;
    let line: Value = serde_json::from_str(fs::read_to_string(log)?.trim())?;
    same("level", "error", line["level"].as_str().unwrap_or_default())
}

//! `--log FILE --log-format json`, as containerd and Podman read it.

use crate::{
    case::Case,
    outcome::{Check, ensure, same},
    runner::{NO_MEMORY_CONTROLLER, Run},
};
use serde_json::Value;
use std::{ffi::OsString, fs};

tests! {
    log/json_has_one_line_on_failure,
    log/json_of_a_failure_in_the_container,
    log/json_of_every_command,
    log/json_of_usage_errors,
    log/json_has_runcs_keys_in_runcs_order,
    log/json_is_empty_on_success,
    log/json_is_appended,
    log/text_names_the_error,
    log/text_is_one_line_of_three_fields,
    log/debug_adds_lines,
    log/stderr_has_the_message_too,
    log/file_that_cannot_be_opened,
}

fn logged(c: &Case, words: &[OsString], format: &str) -> Check<Run> {
    let log = c.dir.join("log.json");
    let mut command = c.command();
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", format])
        .args(words);
    crate::runner::start(&mut command, &c.dir)?.finish()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn lines(c: &Case) -> Vec<String> {
    let text = fs::read_to_string(c.dir.join("log.json")).unwrap_or_default();
    text.lines()
        .filter(|l| !l.contains(NO_MEMORY_CONTROLLER))
        .map(str::to_owned)
        .collect()
}

/// The one line, checked for what containerd and Podman need.
fn the_line(c: &Case) -> Check<Value> {
    let lines = lines(c);
    same("number of lines in the log", 1, lines.len())?;
    let line: Value = serde_json::from_str(&lines[0])?;
    same("level", "error", line["level"].as_str().unwrap_or_default())?;
    let time = line["time"].as_str().unwrap_or_default();
    let good = time.len() >= 20
        && time.as_bytes().get(10) == Some(&b'T')
        && (time.ends_with('Z') || time.contains('+'));
    ensure!(good, "time: wish RFC 3339, reality {time:?}");
    ensure!(
        line["msg"].as_str().is_some_and(|m| !m.is_empty()),
        "msg: wish a text, reality {}",
        line["msg"]
    );
    Ok(line)
}

fn json_has_one_line_on_failure(c: &mut Case) -> Check {
    c.document().root().path("no-such-rootfs");
    logged(c, &c.bundle_args("create", &[], &c.id)?, "json")?.wants(1)?;
    let line = the_line(c)?;
    ensure!(
        line["msg"]
            .as_str()
            .unwrap_or_default()
            .contains("no-such-rootfs"),
        "msg: {}",
        line["msg"]
    );
    Ok(())
}

fn json_of_a_failure_in_the_container(c: &mut Case) -> Check {
    c.args(&["/no/such/program"]);
    logged(c, &c.bundle_args("run", &[], &c.id)?, "json")?.wants(1)?;
    let line = the_line(c)?;
    ensure!(
        line["msg"]
            .as_str()
            .unwrap_or_default()
            .contains("/no/such/program"),
        "msg: {}",
        line["msg"]
    );
    Ok(())
}

fn json_of_every_command(c: &mut Case) -> Check {
    // There is a config.json already.
    c.write_config()?;
    let resources = c.dir.join("resources.json");
    fs::write(&resources, "{}")?;
    let resources = resources.to_string_lossy().into_owned();
    for command in [
        &["start", "nobody"][..],
        &["state", "nobody"],
        &["kill", "nobody"],
        &["delete", "nobody"],
        &["exec", "nobody", "true"],
        &["pause", "nobody"],
        &["resume", "nobody"],
        &["ps", "nobody"],
        &["events", "--stats", "nobody"],
        &["update", "--resources", &resources, "nobody"],
        &["list", "--format", "xml"],
        &["spec", "--bundle", "bundle"],
        &["checkpoint", "nobody"],
        &["restore", "--bundle", "/no/such/bundle", "nobody"],
    ] {
        fails_with_a_line(c, command)?;
    }
    Ok(())
}

fn fails_with_a_line(c: &Case, command: &[&str]) -> Check {
    let run = logged(c, &words(command), "json")?;
    ensure!(run.code() != 0, "{command:?} must fail");
    ensure!(
        !lines(c).is_empty(),
        "nothing in the log of {command:?}: {}",
        run.report()
    );
    the_line(c)?;
    fs::remove_file(c.dir.join("log.json"))?;
    Ok(())
}

fn json_of_usage_errors(c: &mut Case) -> Check {
    for command in [
        &["state"][..],
        &["state", "a", "b"],
        &["state", "--bogus", "nobody"],
        &["exec", "--env"],
        &["statt", "nobody"],
    ] {
        fails_with_a_line(c, command)?;
    }
    Ok(())
}

/// Podman and containerd decode it; people and scripts search it by its beginning.
fn json_has_runcs_keys_in_runcs_order(c: &mut Case) -> Check {
    logged(c, &words(&["state", "nobody"]), "json")?.wants(1)?;
    let lines = lines(c);
    let line = lines.first().map_or("", String::as_str);
    let rest = line.strip_prefix("{\"level\":\"error\",\"msg\":\"container does not exist");
    let time = rest.and_then(|rest| rest.split_once("\",\"time\":\""));
    let time = time.and_then(|(_, time)| time.strip_suffix("\"}"));
    // Whole seconds, as Go's time.RFC3339.
    ensure!(
        time.is_some_and(|time| time.len() == 20 && time.ends_with('Z')),
        "reality: {line}"
    );
    Ok(())
}

fn text_is_one_line_of_three_fields(c: &mut Case) -> Check {
    let run = logged(c, &words(&["state", "nobody"]), "text")?.wants(1)?;
    let message = Value::from(run.stderr.trim_end()).to_string();
    let lines = lines(c);
    let line = lines.first().map_or("", String::as_str);
    let time = line.strip_prefix("time=\"").and_then(|rest| rest.get(..20));
    ensure!(time.is_some_and(|time| time.ends_with('Z')), "reality: {line}");
    same(
        "line",
        format!("time=\"{}\" level=error msg={message}", time.unwrap_or_default()).as_str(),
        line,
    )
}

/// On standard error without `--log`, in the log with it; nothing of it without `--debug`.
fn debug_adds_lines(c: &mut Case) -> Check {
    c.shell("exit 0");
    let run = c.bundle_args("run", &[], &c.id)?;
    logged(c, &run, "text")?.ok()?;
    same("lines without --debug", Vec::<String>::new(), lines(c))?;
    let with_debug: Vec<OsString> = ["--debug".into()].into_iter().chain(run).collect();
    logged(c, &with_debug, "text")?.ok()?;
    let is_debug = |line: &str| line.starts_with("time=\"") && line.contains("\" level=debug msg=");
    let lines = lines(c);
    ensure!(lines.iter().any(|line| is_debug(line)), "log: {lines:?}");
    let run = c.rt(&with_debug)?.ok()?;
    ensure!(run.stderr.lines().any(is_debug), "stderr: {:?}", run.stderr);
    Ok(())
}

fn json_is_empty_on_success(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    logged(c, &c.bundle_args("create", &[], &c.id)?, "json")?.ok()?;
    logged(c, &words(&["start", &c.id]), "json")?.ok()?;
    logged(c, &words(&["exec", &c.id, "/bin/true"]), "json")?.ok()?;
    logged(c, &words(&["state", &c.id]), "json")?.ok()?;
    logged(c, &words(&["delete", "--force", &c.id]), "json")?.ok()?;
    same("lines in the log", Vec::<String>::new(), lines(c))
}

fn json_is_appended(c: &mut Case) -> Check {
    for _ in 0..2 {
        logged(c, &words(&["state", "nobody"]), "json")?.wants(1)?;
    }
    same("lines after two failures", 2, lines(c).len())
}

fn text_names_the_error(c: &mut Case) -> Check {
    logged(c, &words(&["state", "nobody"]), "text")?.wants(1)?;
    ensure!(
        lines(c).join("\n").contains("does not exist"),
        "log: {:?}",
        lines(c)
    );
    Ok(())
}

fn stderr_has_the_message_too(c: &mut Case) -> Check {
    let run = logged(c, &words(&["state", "nobody"]), "json")?.wants(1)?;
    run.refused_with("does not exist")?;
    Ok(())
}

fn file_that_cannot_be_opened(c: &mut Case) -> Check {
    c.rt(&["--log", "/no/such/folder/log", "state", "nobody"])?
        .wants(1)?
        .refused_with("/no/such/folder")?;
    Ok(())
}

//! Runs in: SUITE. Mounts: entries, options, order, links, later ones.

pub(crate) mod entries;
pub(crate) mod host;
pub(crate) mod later;
pub(crate) mod links;
pub(crate) mod options;
pub(crate) mod order;
pub(crate) mod places;

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, fail},
    runner::{self, Run},
    seen::Report,
};
use serde_json::json;
use std::process::{Command, Stdio};

/// `rt`: the runtime; `made`: what is mounted at the bundle or below; `$b` and `$i`: bundle and id.
pub(crate) const PROLOGUE: &str = "b=$1; i=$2; shift 2; R=$*; export PATH=/bin:/usr/bin:/sbin:/usr/sbin
    rt() { $R \"$@\"; }
    made() { awk -v b=\"$b\" 'index($5, b) == 1 { print substr($5, length(b) + 1) }' /proc/self/mountinfo | sort; }
";

/// Runs these lines of sh in a mount namespace of their own.
pub(crate) fn on_a_host(c: &Case, lines: &str) -> Check<Run> {
    c.write_config()?;
    let own = c.command();
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args(["--mount", "--propagation", "shared", "/bin/sh", "-c"])
        .arg(format!("{PROLOGUE}{lines}"))
        .arg("sh")
        .arg(&c.bundle)
        .arg(&c.id)
        .arg(own.get_program())
        .args(own.get_args())
        .env_clear()
        .current_dir(&c.dir)
        .stdin(Stdio::null());
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    runner::start(&mut command, &c.dir)?.finish()
}

pub(crate) fn without_mount_namespace(c: &mut Case) {
    c.drop_namespace("mount");
    for key in ["maskedPaths", "readonlyPaths"] {
        c.config["linux"][key] = json!([]);
    }
}

/// One line of mountinfo.
#[derive(Debug, Clone)]
pub(crate) struct MountLine {
    root: String,
    pub(crate) options: Vec<String>,
    propagation: String,
    kind: String,
    pub(crate) super_options: Vec<String>,
}

/// The topmost mount at `path` in the probe's report.
pub(crate) fn mount_at(report: &Report, path: &str) -> Check<MountLine> {
    let text = report.mountinfo.as_str();
    let found = text.lines().rfind(|l| l.split(' ').nth(4) == Some(path));
    let Some(line) = found else {
        return fail(format!("no mount at {path} in:\n{text}"));
    };
    let (left, right) = line.split_once(" - ").unwrap_or((line, ""));
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let split = |text: Option<&&str>| text.unwrap_or(&"").split(',').map(str::to_owned).collect();
    Ok(MountLine {
        root: left.get(3).unwrap_or(&"").to_string(),
        options: split(left.get(5)),
        propagation: left.get(6..).unwrap_or_default().join(" "),
        kind: right.first().unwrap_or(&"").to_string(),
        super_options: split(right.get(2)),
    })
}

impl MountLine {
    fn has(&self, option: &str) -> bool {
        self.options
            .iter()
            .chain(&self.super_options)
            .any(|o| o == option)
    }
}

/// Every word of `wish` is an option of the mount; `!word` is none.
pub(crate) fn has_options(report: &Report, path: &str, wish: &[&str]) -> Check {
    let mount = mount_at(report, path)?;
    for word in wish {
        let holds = match word.strip_prefix('!') {
            Some(word) => !mount.has(word),
            None => mount.has(word),
        };
        ensure!(
            holds,
            "{path}:\n    wish:    option {word}\n    reality: {mount:?}"
        );
    }
    Ok(())
}

/// The mount has failed, and has shown nothing of the host.
pub(crate) fn leads_nowhere(c: &Case, run: &Run) -> Check {
    ensure!(
        !run.stdout.contains("of the host"),
        "a link leads to the host: {run:?}"
    );
    contains(
        "why it failed",
        &run.stderr.to_lowercase(),
        "no such file or directory",
    )?;
    c.nothing_left()
}

//! Runs in: SUITE. `checkpoint` and `restore`.

pub(crate) mod flags;
pub(crate) mod migration;
pub(crate) mod paths;
pub(crate) mod restored;
pub(crate) mod surroundings;

use crate::{
    case::Case,
    need::Need,
    outcome::{Check, ensure, same},
    runner::{self, Live, Run},
};
use std::{
    fs::{self},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

pub(crate) const CRIU: &[Need] = &[Need::Criu("")];

/// Counts in /count, ten times a second: the number is what a symbolic link says. No file is open at any
/// moment, for criu asks for each open file at restore, and where the processes run on meanwhile it is
/// another by then.
pub(crate) const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); ln -s $i /count.new; mv /count.new /count; usleep 100000; done";

/// `command` with its standard output and error on /dev/null: criu does not save files of the host.
pub(crate) fn quiet(c: &Case, command: &str, options: &[&str], id: &str) -> Check<Run> {
    quiet_live(c, command, options, id)?.finish()?.ok()
}

pub(crate) fn quiet_live(c: &Case, command: &str, options: &[&str], id: &str) -> Check<Live> {
    let log = c.dir.join("log");
    let mut line = c.command();
    line.arg("--log").arg(&log);
    line.args(c.bundle_args(command, options, id)?);
    line.stdout(Stdio::null()).stderr(Stdio::null());
    runner::start_with_own_stdio(&mut line, c.dir.join("none"), log)
}

pub(crate) fn start(c: &Case) -> Check {
    quiet(c, "run", &["--detach"], &c.id)?;
    Ok(())
}

pub(crate) fn start_counter(c: &mut Case) -> Check {
    c.shell(COUNTER);
    start(c)?;
    wait_for_count(c, 3)
}

pub(crate) fn count(c: &Case) -> i64 {
    let number = fs::read_link(c.rootfs("count")).unwrap_or_default();
    number
        .to_str()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

pub(crate) fn wait_for_count(c: &Case, least: i64) -> Check {
    c.wait_until(&format!("a count of {least}"), || Ok(count(c) >= least))
}

pub(crate) fn images(c: &Case) -> PathBuf {
    c.dir.join("images")
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `checkpoint --image-path` with more options.
pub(crate) fn checkpoint(c: &Case, options: &[&str]) -> Check<Run> {
    let images = text(&images(c));
    let words = [&["checkpoint", "--image-path", &images], options, &[&c.id]].concat();
    c.spawn(&words)?.finish_within(Duration::from_secs(60))
}

/// `restore --detach --image-path` with more options, on /dev/null.
pub(crate) fn restore(c: &Case, options: &[&str]) -> Check<Run> {
    let images = text(&images(c));
    let options = [&["--detach", "--image-path", &images], options].concat();
    quiet(c, "restore", &options, &c.id)
}

/// The count must not have moved, and then moves on from there.
pub(crate) fn goes_on_after(c: &Case, work: impl FnOnce() -> Check) -> Check {
    let before = count(c);
    thread::sleep(Duration::from_millis(300));
    same("the count, while the processes are in files", before, count(c))?;
    work()?;
    wait_for_count(c, before + 2)?;
    let after = count(c);
    ensure!(
        after < before + 200,
        "the count has jumped from {before} to {after}"
    );
    Ok(())
}

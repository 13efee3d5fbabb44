//! Runs in: SUITE. Runs the runtime under test. Output goes to files, never to pipes: `create` hands its
//! stdout to the container, and a reader of a pipe would wait for the container's end.

use crate::{
    children::{self, Exit},
    outcome::{Check, Stop, fail},
    seen::Report,
};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// No command of the suite may take longer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Nor in an emulated machine on a busy host, where a `create` of runc has been seen to take over a minute.
const TIMEOUT_IN_A_MACHINE: Duration = Duration::from_secs(240);

fn timeout() -> Duration {
    // What boots a machine puts its order there.
    match Path::new("/payload/command").exists() {
        true => TIMEOUT_IN_A_MACHINE,
        false => TIMEOUT,
    }
}

/// runc 1.1 warns of the host's missing memory controller whenever create fails; that says nothing about the
/// runtime.
pub(crate) const NO_MEMORY_CONTROLLER: &str = "unable to get oom kill count";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A started command whose output goes to two files.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) pid: i32,
    pub(crate) stdin: Option<std::process::ChildStdin>,
    text: String,
    stdout: PathBuf,
    stderr: PathBuf,
    finished: bool,
}

/// A finished command.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) stdout_file: PathBuf,
    text: String,
}

/// Starts `command` with its output in new files in `dir`.
pub(crate) fn start(command: &mut Command, dir: &Path) -> Check<Live> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (stdout, stderr) = (
        dir.join(format!("out-{number}")),
        dir.join(format!("err-{number}")),
    );
    command.stdout(append(&stdout)?).stderr(append(&stderr)?);
    start_with_own_stdio(command, stdout, stderr)
}

/// As [`start`] for a command whose stdio the caller has set already.
pub(crate) fn start_with_own_stdio(command: &mut Command, stdout: PathBuf, stderr: PathBuf) -> Check<Live> {
    let text = describe(command);
    let mut child = match children::spawn(command) {
        Ok(child) => child,
        Err(e) => return fail(format!("cannot start {text}: {e}")),
    };
    Ok(Live {
        pid: child.id() as i32,
        stdin: child.stdin.take(),
        text,
        stdout,
        stderr,
        finished: false,
    })
}

fn append(path: &Path) -> std::io::Result<Stdio> {
    // Append, because several processes (runtime, container, hooks) may write to the one file.
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map(Stdio::from)
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .collect();
    words
        .iter()
        .map(|w| w.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

impl Live {
    /// Waits for the end; on time-out the command is killed and the test fails.
    pub(crate) fn finish(self) -> Check<Run> {
        self.finish_within(timeout())
    }

    pub(crate) fn finish_within(mut self, timeout: Duration) -> Check<Run> {
        drop(self.stdin.take());
        self.finished = true;
        let exit = children::wait_or_kill(self.pid, timeout, &self.text)?;
        Ok(self.ended_with(exit))
    }

    /// As [`Live::finish_within`], but it stays as it is when the time is over.
    pub(crate) fn finished_within(&mut self, timeout: Duration) -> Option<Run> {
        drop(self.stdin.take());
        let exit = children::wait_for(self.pid, timeout)?;
        self.finished = true;
        Some(self.ended_with(exit))
    }

    fn ended_with(&self, exit: Exit) -> Run {
        Run {
            exit,
            stdout: lossy(&self.stdout),
            stderr: lossy(&self.stderr),
            stdout_file: self.stdout.clone(),
            text: self.text.clone(),
        }
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        lossy(&self.stdout)
    }
}

impl Drop for Live {
    /// A test that fails half way must not leave a runtime at work in its folder.
    fn drop(&mut self) {
        if !self.finished {
            children::signal(self.pid, Signal::SIGKILL);
            let _gone = children::wait_for(self.pid, Duration::from_secs(5));
        }
    }
}

fn lossy(path: &Path) -> String {
    // A command with stdio of its own (a terminal) has no such file: nothing was captured.
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Run {
    /// The exit code, or 128+signal as a shell would put it.
    pub(crate) fn code(&self) -> i32 {
        match self.exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    pub(crate) fn wants(self, code: i32) -> Check<Self> {
        if self.exit == Exit::Code(code) {
            return Ok(self);
        }
        fail(format!(
            "wish:    exit code {code}\n    reality: {}",
            self.report()
        ))
    }

    pub(crate) fn ok(self) -> Check<Self> {
        self.wants(0)
    }

    /// The command must have failed (not by a signal) and said why in one clear line on stderr.
    pub(crate) fn refused(self) -> Check<Self> {
        match self.exit {
            Exit::Code(0) | Exit::Signal(_) => {
                return fail(format!(
                    "wish:    an error and exit code 1\n    reality: {}",
                    self.report()
                ));
            }
            Exit::Code(_) => {}
        }
        let lines = self
            .stderr
            .lines()
            .filter(|l| !l.trim().is_empty() && !l.contains(NO_MEMORY_CONTROLLER))
            .count();
        if lines != 1 {
            return fail(format!(
                "wish:    exactly one line on stderr\n    reality: {}",
                self.report()
            ));
        }
        Ok(self)
    }

    /// As [`Run::refused`], and the line contains `part`.
    pub(crate) fn refused_with(self, part: &str) -> Check<Self> {
        let run = self.refused()?;
        if run.stderr.contains(part) {
            return Ok(run);
        }
        fail(format!(
            "wish:    stderr contains {part:?}\n    reality: {}",
            run.report()
        ))
    }

    pub(crate) fn report(&self) -> String {
        let cut = |text: &str| text.chars().take(1500).collect::<String>();
        format!(
            "`{}` ended with {:?}\n    stdout: {}\n    stderr: {}",
            self.text,
            self.exit,
            cut(&self.stdout),
            cut(&self.stderr)
        )
    }

    /// stdout as the probe's report.
    pub(crate) fn seen(&self) -> Check<Report> {
        self.parsed()
    }

    /// stdout as JSON.
    pub(crate) fn json(&self) -> Check<serde_json::Value> {
        self.parsed()
    }

    fn parsed<T: DeserializeOwned>(&self) -> Check<T> {
        serde_json::from_str(&self.stdout).map_err(|e| {
            Stop::Fail(format!(
                "wish:    JSON on stdout ({e})\n    reality: {}",
                self.report()
            ))
        })
    }
}

//! Runs in: SUITE. One command with one fault, and everything that must hold afterwards.

use super::{
    scenario::{Act, PROGRAM, Scenario},
    view,
};
use crate::{
    case::{self, Case},
    children::{self, Exit},
    faults::{Call, Fault, Injector, RUNTIME, What, name_of_call},
    outcome::{Check, Stop, ensure, fail},
    pty::{FdSocket, Master},
    runner::{self, Live, NO_MEMORY_CONTROLLER, Run},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What the program ends with, so that it cannot be mistaken for the runtime.
pub(super) const CODE: i32 = 7;

/// How often `delete --force` may say that it is not done yet.
const DELETES: usize = 4;

/// Whoever takes longer hangs.
fn patience(c: &Case) -> Duration {
    Duration::from_secs(if c.host.is_emulated() { 240 } else { 20 })
}

/// The kernel ends processes, and what they hold, a moment after they are killed.
fn settling(c: &Case) -> Duration {
    Duration::from_secs(if c.host.is_emulated() { 20 } else { 5 })
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Failed,
    /// Killed by the fault, it or the program.
    Killed,
    Hung,
}

/// What has come of one fault.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    pub(super) problems: Vec<String>,
    pub(super) view: Option<Value>,
    pub(super) calls: BTreeMap<String, Vec<Call>>,
    pub(super) hit: Option<Call>,
    pub(crate) create: Vec<String>,
    pub(crate) start: Vec<String>,
}

/// A scenario at work.
pub(super) struct World<'a> {
    pub(super) c: &'a mut Case,
    pub(super) scenario: &'static Scenario,
    injector: Injector,
    /// Lives as long as this.
    _holder: Option<Live>,
    number: usize,
    /// The attempt.
    began: Instant,
    /// Where the output of a container is that was there before the command.
    created: Option<PathBuf>,
    /// What the names of the session keyrings end in, of all attempts: no two may be alike.
    secrets: RefCell<BTreeSet<String>>,
}

impl<'a> World<'a> {
    pub(super) fn new(c: &'a mut Case, scenario: &'static Scenario) -> Check<Self> {
        c.args(PROGRAM);
        let holder = (scenario.prepare)(c)?;
        Ok(Self {
            injector: Injector::new(&c.host.runtime)?,
            c,
            scenario,
            _holder: holder,
            number: 0,
            began: Instant::now(),
            created: None,
            secrets: RefCell::default(),
        })
    }

    /// The command with this fault.
    pub(super) fn attempt(&mut self, fault: Option<&Fault>) -> Check<Attempt> {
        self.number += 1;
        self.began = Instant::now();
        self.remove_files()?;
        self.set_up()?;
        let socket = match self.scenario.has_terminal() {
            true => Some(FdSocket::new(self.c.dir.join("console"))?),
            false => None,
        };
        let mut live = self.injector.start(self.command()?, &self.c.dir, fault)?;
        let mut attempt = Attempt::default();
        let (end, run) = match live.finished_within(patience(self.c)) {
            Some(run) => {
                attempt.hit = self.injector.hit();
                (self.judged(&run, fault, &mut attempt), Some(run))
            }
            None => {
                attempt.hit = self.injector.hit();
                let who: Vec<String> = self.injector.living().into_iter().map(|(_, who)| who).collect();
                attempt
                    .problems
                    .push(format!("wish: it ends; reality: it hangs: {}", who.join(", ")));
                (End::Hung, None)
            }
        };
        attempt.calls = self.injector.calls();
        drop(live);
        if let (End::Well, Some(run)) = (end, &run) {
            self.after_success(run, fault, socket.as_ref(), &mut attempt)?;
        }
        // What lies in it was opened by the container, and holds its keys.
        drop(socket);
        if end != End::Hung && self.scenario.act == Act::Exec {
            self.container_is_as_before(&mut attempt);
        }
        self.clean_up(&mut attempt)?;
        Ok(attempt)
    }

    /// What an attempt leaves for the next.
    fn files(&self) -> [PathBuf; 5] {
        let dir = &self.c.dir;
        [
            dir.join("pid"),
            dir.join("console"),
            dir.join("hooks"),
            self.c.rootfs("/tmp/hooks"),
            dir.join("resources.json"),
        ]
    }

    fn remove_files(&self) -> Check {
        for file in self.files() {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        for entry in fs::read_dir(&self.c.dir)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_output = name.starts_with("out-") || name.starts_with("err-");
            if is_output {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What has to be there for the command; without faults.
    fn set_up(&mut self) -> Check {
        if let Some(prepare) = self.scenario.each_time {
            prepare(self.c, self.number)?;
        }
        let act = self.scenario.act;
        if matches!(act, Act::Run | Act::Create) {
            return Ok(());
        }
        match act {
            Act::Start => {}
            Act::Delete => drop(self.c.args(&["/bin/true"])),
            _ => drop(self.c.args(&["/bin/sleep", "1000"])),
        }
        let pid_file = self.pid_file();
        let words = self
            .c
            .bundle_args("create", &["--pid-file", &pid_file], &self.c.id)?;
        self.created = Some(self.plain(words)?.ok()?.stdout_file);
        if act == Act::Start {
            return Ok(());
        }
        self.plain(vec!["start".into(), (&self.c.id).into()])?.ok()?;
        if act == Act::Delete {
            ensure!(
                children::wait_for_orphan(self.pid()?, self.began, patience(self.c)).is_some(),
                "/bin/true does not end"
            );
        }
        if act == Act::Resume {
            self.plain(vec!["pause".into(), (&self.c.id).into()])?.ok()?;
        }
        fs::write(
            self.c.dir.join("resources.json"),
            json!({"unified": {"cgroup.max.descendants": "5"}}).to_string(),
        )?;
        Ok(())
    }

    fn pid_file(&self) -> String {
        self.c.dir.join("pid").to_string_lossy().into_owned()
    }

    fn pid(&self) -> Check<i32> {
        let text = fs::read_to_string(self.c.dir.join("pid"))?;
        match text.trim().parse() {
            Ok(pid) => Ok(pid),
            Err(_) => fail(format!("the pid file says {text:?}")),
        }
    }

    /// The runtime up to its command.
    fn runtime(&self) -> Command {
        let mut command = self.c.command();
        if self.scenario.uses_systemd {
            command.arg("--systemd-cgroup");
        }
        command
    }

    /// Without the filter.
    fn plain(&self, words: Vec<OsString>) -> Check<Run> {
        runner::start(self.runtime().args(words), &self.c.dir)?.finish_within(patience(self.c))
    }

    /// The command that is to fail.
    fn command(&self) -> Check<Command> {
        let (c, mut options) = (&self.c, Vec::new());
        let (pid_file, console) = (self.pid_file(), self.c.dir.join("console"));
        let console = console.to_string_lossy().into_owned();
        let resources = c.dir.join("resources.json").to_string_lossy().into_owned();
        if self.scenario.act == Act::Create {
            options.extend(["--pid-file", &pid_file]);
        }
        if self.scenario.has_terminal() {
            options.extend(["--console-socket", &console]);
        }
        let exec: Vec<&str> = match self.scenario.has_terminal() {
            true => ["exec", "--tty", "--detach", "--pid-file", &pid_file]
                .into_iter()
                .chain(options.clone())
                .chain([c.id.as_str()])
                .chain(PROGRAM.iter().copied())
                .collect(),
            false => ["exec", &c.id]
                .into_iter()
                .chain(PROGRAM.iter().copied())
                .collect(),
        };
        let words: Vec<OsString> = match self.scenario.act {
            Act::Run => c.bundle_args("run", &options, &c.id)?,
            Act::Create => c.bundle_args("create", &options, &c.id)?,
            Act::Exec => exec.into_iter().map(OsString::from).collect(),
            Act::Start => vec!["start".into(), (&c.id).into()],
            Act::Kill => vec!["kill".into(), (&c.id).into(), "KILL".into()],
            Act::Delete => vec!["delete".into(), (&c.id).into()],
            Act::DeleteForce => vec!["delete".into(), "--force".into(), (&c.id).into()],
            Act::Pause => vec!["pause".into(), (&c.id).into()],
            Act::Resume => vec!["resume".into(), (&c.id).into()],
            Act::State => vec!["state".into(), (&c.id).into()],
            Act::Update => vec![
                "update".into(),
                "--resources".into(),
                resources.into(),
                (&c.id).into(),
            ],
        };
        let mut command = self.runtime();
        command.args(words);
        Ok(command)
    }

    /// Whether the program's code is that of the command.
    fn runs_the_program(&self) -> bool {
        let act = self.scenario.act;
        act == Act::Run || (act == Act::Exec && !self.scenario.has_terminal())
    }

    /// Looks at the exit code and what was said.
    fn judged(&self, run: &Run, fault: Option<&Fault>, attempt: &mut Attempt) -> End {
        let kills = fault.filter(|fault| fault.what == What::Kill && attempt.hit.is_some());
        let is_runtime_killed = kills.is_some_and(|fault| fault.process == RUNTIME);
        let success = if self.runs_the_program() { CODE } else { 0 };
        match run.exit {
            Exit::Signal(9) if is_runtime_killed => return End::Killed,
            Exit::Signal(signal) => {
                attempt.problems.push(format!(
                    "wish: an exit code; reality: ended by signal {signal}, {}",
                    said(run)
                ));
                return End::Failed;
            }
            Exit::Code(code) if code == success => {
                one_line_at_most(run, attempt);
                return End::Well;
            }
            Exit::Code(137) if self.runs_the_program() && kills.is_some() => {
                one_line_at_most(run, attempt);
                return End::Killed;
            }
            Exit::Code(0) => attempt.problems.push(format!(
                "wish: exit code {CODE}, which is the program's; reality: 0, {}",
                said(run)
            )),
            Exit::Code(_) => {}
        }
        let could_not_say = fault.is_some_and(|fault| fault.process == RUNTIME)
            && attempt.hit.is_some_and(|call| {
                let name = name_of_call(call.number);
                ["write", "writev"].contains(&name.as_str()) && call.first_argument == 2
            });
        if !could_not_say {
            one_line(run, "the command", attempt);
        }
        if matches!(self.scenario.act, Act::Run | Act::Create) {
            attempt.create.push(run.stderr.clone());
        }
        if self.scenario.act == Act::Start {
            attempt.start.push(run.stderr.clone());
        }
        End::Failed
    }

    /// The command says that it has done its work.
    fn after_success(
        &self,
        run: &Run,
        fault: Option<&Fault>,
        socket: Option<&FdSocket>,
        attempt: &mut Attempt,
    ) -> Check {
        let c = &self.c;
        match self.scenario.act {
            Act::Run => attempt.view = self.view_of(&run.stdout, attempt),
            Act::Exec if socket.is_none() => attempt.view = self.view_of(&run.stdout, attempt),
            Act::Create | Act::Start | Act::Exec => self.program_runs(run, fault, socket, attempt)?,
            Act::Kill => match children::wait_for_orphan(self.pid()?, self.began, patience(c)) {
                Some(Exit::Signal(9)) => {}
                other => attempt
                    .problems
                    .push(format!("wish: init is killed; reality: {other:?}")),
            },
            Act::Delete | Act::DeleteForce => {
                for left in self.left_after(settling(self.c)) {
                    attempt
                        .problems
                        .push(format!("wish: exit code 0, so nothing is left; reality: {left}"));
                }
            }
            Act::Pause | Act::Resume => {
                let wish = if self.scenario.act == Act::Pause {
                    "frozen 1"
                } else {
                    "frozen 0"
                };
                let end = Instant::now() + settling(c);
                let file = self.scenario.cgroup(c).join("cgroup.events");
                let mut events = fs::read_to_string(&file)?;
                while !events.lines().any(|line| line == wish) {
                    if Instant::now() > end {
                        attempt
                            .problems
                            .push(format!("wish: {wish}; reality: {events:?}"));
                        break;
                    }
                    thread::sleep(Duration::from_millis(2));
                    events = fs::read_to_string(&file)?;
                }
            }
            Act::Update => {
                let limit = fs::read_to_string(self.scenario.cgroup(c).join("cgroup.max.descendants"))?;
                if limit.trim() != "5" {
                    attempt
                        .problems
                        .push(format!("wish: cgroup.max.descendants is 5; reality: {limit:?}"));
                }
            }
            Act::State => {
                let state: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
                attempt.view =
                    Some(json!({"status": state["status"], "id": state["id"], "bundle": state["bundle"]}));
            }
        }
        Ok(())
    }

    /// The container is created, or started, or a process runs in it: what does its program see?
    fn program_runs(
        &self,
        run: &Run,
        fault: Option<&Fault>,
        socket: Option<&FdSocket>,
        attempt: &mut Attempt,
    ) -> Check {
        let is_child_killed = attempt.hit.is_some() && fault.is_some_and(|fault| fault.what == What::Kill);
        let pid = match self.pid() {
            Ok(pid) => pid,
            Err(_) => {
                attempt
                    .problems
                    .push("wish: exit code 0, so the pid file is there; reality: it is not".into());
                return Ok(());
            }
        };
        let mut master = match socket.map(FdSocket::receive) {
            None => None,
            Some(Ok(mut received)) => received.fds.pop().map(Master::new),
            Some(Err(stop)) => {
                if !is_child_killed {
                    attempt.problems.push(format!("the terminal: {}", text_of(stop)));
                }
                None
            }
        };
        if self.scenario.act == Act::Create {
            let words = vec!["start".into(), (&self.c.id).into()];
            let start = match self.plain(words) {
                Ok(start) => start,
                Err(stop) => {
                    let who: Vec<String> = self.injector.living().into_iter().map(|(_, who)| who).collect();
                    let text = format!("{}; {}", text_of(stop), who.join(", "));
                    attempt.problems.push(format!("start after create: {text}"));
                    return Ok(());
                }
            };
            attempt.calls = self.injector.calls();
            attempt.hit = self.injector.hit();
            if start.exit != Exit::Code(0) {
                one_line(&start, "start after create", attempt);
                attempt.start.push(start.stderr);
                return Ok(());
            }
        }
        let is_child_killed = attempt.hit.is_some() && fault.is_some_and(|fault| fault.what == What::Kill);
        let output = master.as_mut().map(Master::rest).transpose()?;
        match children::wait_for_orphan(pid, self.began, patience(self.c)) {
            Some(Exit::Code(CODE)) => {}
            Some(Exit::Signal(9)) if is_child_killed => return Ok(()),
            other => {
                let how = other.map_or("it does not end".to_owned(), |exit| format!("{exit:?}"));
                attempt.problems.push(format!(
                    "wish: exit code 0, so the program runs and ends with {CODE}; reality: {how}, {}",
                    said(run)
                ));
                return Ok(());
            }
        }
        attempt.calls = self.injector.calls();
        let output = match output {
            Some(output) => output,
            // A container has the standard output of its `create`.
            None => fs::read_to_string(self.created.as_ref().unwrap_or(&run.stdout_file))?,
        };
        attempt.view = self.view_of(&output, attempt);
        Ok(())
    }

    fn view_of(&self, output: &str, attempt: &mut Attempt) -> Option<Value> {
        let report: Value = match serde_json::from_str(output.trim()) {
            Ok(report) => report,
            Err(error) => {
                attempt.problems.push(format!(
                    "wish: the program's report; reality: {error} in {output:?}"
                ));
                return None;
            }
        };
        let mut view = view::of_report(&report);
        if let Some(secret) = report["keyring"].as_str().and_then(view::secret_of)
            && !self.secrets.borrow_mut().insert(secret.to_owned())
        {
            attempt.problems.push(format!(
                "wish: a keyring that nobody can guess; reality: it ends in {secret}, as one before did"
            ));
        }
        // None is made beside the container's own by `exec`, as far as one may see them.
        let keyrings = self.keys().len();
        if keyrings > 1 {
            attempt
                .problems
                .push(format!("wish: one session keyring; reality: {keyrings}"));
        }
        let [_, _, outside, inside, _] = self.files();
        for (name, file) in [("hooks outside", outside), ("hooks inside", inside)] {
            let log = fs::read_to_string(file).unwrap_or_default();
            let ran = log.lines().filter_map(|line| line.split('|').next());
            // What becomes of a poststop hook is no matter of the code (runtime.md, Lifecycle).
            let ran: Vec<&str> = ran.filter(|name| *name != "poststop").collect();
            view[name] = json!(ran);
        }
        Some(view)
    }

    /// A process that did not come to be, or has ended, is nothing to the container.
    fn container_is_as_before(&self, attempt: &mut Attempt) {
        let end = Instant::now() + settling(self.c);
        let mut living = self.injector.living();
        while !living.is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
            living = self.injector.living();
        }
        for (_, who) in living {
            attempt
                .problems
                .push(format!("wish: no process of exec stays; reality: {who}"));
        }
        let is_there = self.pid_of_init().is_some();
        if !is_there {
            attempt
                .problems
                .push("wish: the container goes on; reality: init has ended".into());
        }
    }

    fn pid_of_init(&self) -> Option<String> {
        let procs = fs::read_to_string(self.scenario.cgroup(self.c).join("cgroup.procs")).unwrap_or_default();
        procs.lines().next().map(str::to_owned)
    }

    /// `delete --force`, until it says that it has done it; then nothing may be left.
    fn clean_up(&self, attempt: &mut Attempt) -> Check {
        let words = || vec!["delete".into(), "--force".into(), (&self.c.id).into()];
        let mut is_done = false;
        for _ in 0..DELETES {
            match self.plain(words()) {
                Ok(run) if run.code() == 0 => {
                    is_done = true;
                    break;
                }
                Ok(run) => one_line(&run, "delete --force", attempt),
                Err(stop) => attempt
                    .problems
                    .push(format!("delete --force: {}", text_of(stop))),
            }
        }
        if !is_done {
            attempt.problems.push(format!(
                "wish: delete --force succeeds; reality: it fails {DELETES} times"
            ));
        }
        let left = self.left_after(settling(self.c));
        if left.is_empty() {
            return Ok(());
        }
        for left in left {
            attempt.problems.push(format!(
                "wish: delete --force has done it; reality: left is {left}"
            ));
        }
        self.clean_up_by_hand()
    }

    /// So that the next attempt is not about this one.
    fn clean_up_by_hand(&self) -> Check {
        for _ in 0..500 {
            for (pid, _) in self.injector.living() {
                children::signal(pid as i32, Signal::SIGKILL);
            }
            self.c.kill_by_mark();
            self.c.remove_cgroups();
            for mount in self.c.mounts_below().iter().rev() {
                let _tried_again = nix::mount::umount2(mount.as_str(), nix::mount::MntFlags::MNT_DETACH);
            }
            let _tried_again = fs::remove_dir_all(self.c.state_root.join(&self.c.id));
            if self.left().is_empty() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        fail(format!("cannot be cleared away: {}", self.left().join("; ")))
    }

    /// What is left once the kernel has had its time.
    fn left_after(&self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        loop {
            let left = self.left();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = self.c.leftovers();
        let cgroup = self.scenario.cgroup(self.c);
        if cgroup.exists() && left.iter().all(|line| !line.starts_with("cgroup")) {
            left.push(format!("cgroup {}", cgroup.display()));
        }
        left.extend(
            self.injector
                .living()
                .into_iter()
                .map(|(_, who)| format!("process {who}")),
        );
        left.extend(self.keys().into_iter().map(|line| format!("key {line}")));
        left
    }

    /// Of the container; those that a user namespace's root owns are not shown.
    fn keys(&self) -> Vec<String> {
        let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
        let ours = keys.lines().filter(|line| case::names(line, &self.c.id));
        ours.map(str::to_owned).collect()
    }
}

fn text_of(stop: Stop) -> String {
    match stop {
        Stop::Fail(text) | Stop::Unsupported(text) => text,
    }
}

fn said(run: &Run) -> String {
    format!("stderr {:?}", run.stderr.chars().take(600).collect::<String>())
}

/// What a program says that has not seen its error coming.
const PANICS: &[&str] = &[
    "panicked",
    "RUST_BACKTRACE",
    "memory allocation of",
    "fatal runtime error",
    "Fatal glibc",
    "goroutine ",
    "core dumped",
];

fn lines(run: &Run) -> usize {
    let says = |line: &&str| !line.trim().is_empty() && !line.contains(NO_MEMORY_CONTROLLER);
    run.stderr.lines().filter(says).count()
}

fn one_line(run: &Run, who: &str, attempt: &mut Attempt) {
    let is_panic = PANICS.iter().any(|text| run.stderr.contains(text));
    if lines(run) != 1 || is_panic {
        attempt.problems.push(format!(
            "wish: {who} fails with one clear line; reality: {:?}, {}",
            run.exit,
            said(run)
        ));
    }
}

fn one_line_at_most(run: &Run, attempt: &mut Attempt) {
    let is_panic = PANICS.iter().any(|text| run.stderr.contains(text));
    if lines(run) > 1 || is_panic {
        attempt
            .problems
            .push(format!("wish: at most one clear line; reality: {}", said(run)));
    }
}

//! What is done while calls fail: a command and a container for it.

use super::steps;
use crate::{
    case::Case,
    outcome::{Check, fail},
    runner::{self, Live},
    tests::mounts::without_mount_namespace,
};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use std::{path::PathBuf, process::Command, thread};

/// The command whose calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Run,
    Create,
    Start,
    Exec,
    Kill,
    /// Of a container that has ended.
    Delete,
    DeleteForce,
    Update,
    Pause,
    Resume,
    State,
}

/// A command, and the container that it is about.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) act: Act,
    /// What it adds to the default configuration, and a process that has to be there.
    pub(super) prepare: fn(&mut Case) -> Check<Option<Live>>,
    /// What has to be made anew for every attempt, by its number.
    pub(super) each_time: Option<fn(&mut Case, usize) -> Check>,
    pub(super) uses_systemd: bool,
    /// On what looks like a kernel before 6.17 to the runtime, which needs another process more there.
    pub(super) before_6_17: bool,
    terminal: bool,
}

/// What the container runs, and tells of itself. The call is getpgid(2), of nobody.
pub(super) const PROGRAM: &[&str] = &[
    "/bin/probe",
    "--exit",
    "7",
    "--mknod",
    "c:1:3",
    "--mknod",
    "c:1:11",
    "--syscall",
    "121:99999",
    "--access",
    "/proc/kcore",
    "--access",
    "/proc/sysrq-trigger",
    "--access",
    "/sys",
    "--access",
    "/etc",
    "--access",
    "/dev/null",
];

const fn scenario(name: &'static str, act: Act, prepare: fn(&mut Case) -> Check<Option<Live>>) -> Scenario {
    Scenario {
        name,
        act,
        prepare,
        each_time: None,
        uses_systemd: false,
        before_6_17: false,
        terminal: false,
    }
}

/// The scenarios with a container that has this or that; together their INITs take every step.
pub(super) const CREATES: &[Scenario] = &[
    scenario("faults/create_with_everything", Act::Create, |c| {
        steps::everything(c).map(none)
    }),
    scenario("faults/create_with_a_user_namespace", Act::Create, |c| {
        steps::user_namespace(c).map(none)
    }),
    scenario("faults/create_with_time_offsets", Act::Create, |c| {
        steps::offsets(c).map(none)
    }),
    Scenario {
        terminal: true,
        ..scenario("faults/create_with_a_terminal", Act::Create, |c| {
            steps::terminal(c).map(none)
        })
    },
    Scenario {
        each_time: Some(steps::new_device),
        ..scenario("faults/create_with_a_network_device", Act::Create, |c| {
            steps::device(c).map(none)
        })
    },
];

/// All others that need nothing of the host.
pub(super) const OTHERS: &[Scenario] = &[
    scenario("faults/run", Act::Run, plain),
    scenario("faults/create", Act::Create, plain),
    scenario("faults/run_with_hooks", Act::Run, hooks),
    scenario("faults/run_with_a_user_namespace", Act::Run, |c| {
        steps::user_namespace(c).map(none)
    }),
    scenario("faults/create_without_a_mount_namespace", Act::Create, |c| {
        without_mount_namespace(c);
        Ok(None)
    }),
    scenario("faults/create_in_a_joined_pid_namespace", Act::Create, joined),
    Scenario {
        before_6_17: true,
        ..scenario(
            "faults/create_in_a_joined_pid_namespace_before_6_17",
            Act::Create,
            joined,
        )
    },
    scenario("faults/start", Act::Start, plain),
    scenario("faults/start_with_hooks", Act::Start, hooks),
    scenario("faults/exec", Act::Exec, plain),
    scenario("faults/exec_with_a_user_namespace", Act::Exec, |c| {
        steps::user_namespace(c).map(none)
    }),
    scenario("faults/exec_in_a_joined_pid_namespace", Act::Exec, joined),
    Scenario {
        terminal: true,
        ..scenario("faults/exec_with_a_terminal", Act::Exec, plain)
    },
    scenario("faults/kill", Act::Kill, plain),
    scenario("faults/delete", Act::Delete, plain),
    scenario("faults/delete_with_hooks", Act::Delete, hooks),
    scenario("faults/delete_force", Act::DeleteForce, plain),
    scenario("faults/update", Act::Update, plain),
    scenario("faults/pause", Act::Pause, plain),
    scenario("faults/resume", Act::Resume, plain),
    scenario("faults/state", Act::State, plain),
];

/// Those with systemd's driver.
pub(super) const SYSTEMD: &[Scenario] = &[
    systemd("faults/systemd_run", Act::Run),
    systemd("faults/systemd_create", Act::Create),
    systemd("faults/systemd_exec", Act::Exec),
    systemd("faults/systemd_delete", Act::Delete),
    systemd("faults/systemd_delete_force", Act::DeleteForce),
];

const fn systemd(name: &'static str, act: Act) -> Scenario {
    Scenario {
        uses_systemd: true,
        ..scenario(name, act, |c| {
            crate::tests::systemd::use_scope(c);
            Ok(None)
        })
    }
}

impl Scenario {
    pub(super) fn has_terminal(&self) -> bool {
        self.terminal
    }

    /// Where the container's processes are.
    pub(super) fn cgroup(&self, c: &Case) -> PathBuf {
        match self.uses_systemd {
            true => crate::tests::systemd::cgroup(c),
            false => c.cgroup(),
        }
    }
}

fn none((): ()) -> Option<Live> {
    None
}

/// One that may make device nodes, so that its filter shows.
fn plain(c: &mut Case) -> Check<Option<Live>> {
    let mut capabilities = crate::bundle::DEFAULT_CAPS.to_vec();
    capabilities.push("CAP_MKNOD");
    c.grant(&capabilities);
    Ok(None)
}

fn hooks(c: &mut Case) -> Check<Option<Live>> {
    let probe = c.host.base.join("probe");
    let (outside, inside) = (c.dir.join("hooks"), "/tmp/hooks");
    let hook = |program: &str, name: &str, log: &str| json!([{"path": program, "args": ["probe", "--hook", name, log]}]);
    let (probe, outside) = (probe.to_string_lossy(), outside.to_string_lossy());
    c.hooks()
        .clear()
        .prestart(hook(&probe, "prestart", &outside))
        .create_runtime(hook(&probe, "createRuntime", &outside))
        .create_container(hook(&probe, "createContainer", &outside))
        .start_container(hook("/bin/probe", "startContainer", inside))
        .poststart(hook(&probe, "poststart", &outside))
        .poststop(hook(&probe, "poststop", &outside));
    Ok(None)
}

/// In a pid namespace of another process.
fn joined(c: &mut Case) -> Check<Option<Live>> {
    let dir = c.dir.clone();
    let holder = thread::scope(|scope| {
        let first = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWPID)?;
            runner::start(Command::new("/bin/busybox").args(["sleep", "100000"]), &dir)
        });
        first
            .join()
            .unwrap_or_else(|_| fail("the thread that makes a pid namespace ended"))
    })?;
    c.join_namespace("pid", Some(&format!("/proc/{}/ns/pid", holder.pid)));
    Ok(Some(holder))
}

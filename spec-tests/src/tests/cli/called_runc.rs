//! In the place of runc: called by a link of that name, and beside containers that runc itself has made.

use crate::{
    case::Case,
    children,
    host::PATH,
    outcome::{Check, ensure, same},
    runner::{self, Run},
    user::{self, User},
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

tests! {
    cli/version_has_the_name_it_is_called_by,
    cli/called_crun_version_has_features,
    cli/called_runc,
    cli/called_runc_has_runcs_root,
    cli/called_runc_by_a_user,
    cli/containers_of_runc_are_left_alone,
}

/// The root that runc takes by itself.
const ROOT: &str = "/run/runc";

/// The runtime by a link named runc, and nothing else.
fn link(c: &Case) -> Check<Command> {
    link_named(c, "runc")
}

fn link_named(c: &Case, name: &str) -> Check<Command> {
    let path = c.dir.join(name);
    if !path.exists() {
        symlink(&c.host.runtime, &path)?;
    }
    let mut command = Command::new(path);
    command.env_clear().current_dir(&c.dir).stdin(Stdio::null());
    for (name, value) in c.host.runtime_command().get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    Ok(command)
}

/// That link with these words.
fn called<S: AsRef<OsStr>>(c: &Case, words: &[S]) -> Check<Run> {
    runner::start(link(c)?.args(words), &c.dir)?.finish()
}

/// With `--root` as well.
fn with_root<S: AsRef<OsStr>>(c: &Case, words: &[S]) -> Check<Run> {
    let mut command = link(c)?;
    command.arg("--root").arg(&c.state_root).args(words);
    runner::start(&mut command, &c.dir)?.finish()
}

fn version_has_the_name_it_is_called_by(c: &mut Case) -> Check {
    let run = called(c, &["--version"])?.ok()?;
    ensure!(run.stdout.starts_with("runc version "), "{:?}", run.stdout);
    let own = runner::start(c.host.runtime_command().arg("-v"), &c.dir)?
        .finish()?
        .ok()?;
    let lines: Vec<&str> = own.stdout.lines().collect();
    ensure!(
        lines.first().is_some_and(|line| line.contains(" version ")),
        "{lines:?}"
    );
    ensure!(
        lines.get(1).is_some_and(|line| line.starts_with("commit: ")),
        "{lines:?}"
    );
    ensure!(lines.iter().any(|l| l.starts_with("spec: 1.")), "{lines:?}");
    Ok(())
}

/// By this line crun's callers and its suite tell what is there.
fn called_crun_version_has_features(c: &mut Case) -> Check {
    let run = runner::start(link_named(c, "crun")?.arg("--version"), &c.dir)?
        .finish()?
        .ok()?;
    ensure!(run.stdout.starts_with("crun version "), "{:?}", run.stdout);
    let lines = run.stdout.lines().filter(|line| line.starts_with('+'));
    let features: Vec<Vec<&str>> = lines.map(|line| line.split(' ').collect()).collect();
    ensure!(features.len() == 1, "{:?}", run.stdout);
    for wish in [
        "+SYSTEMD",
        "+SELINUX",
        "+APPARMOR",
        "+CAP",
        "+SECCOMP",
        "+EBPF",
        "+CRIU",
    ] {
        ensure!(features[0].contains(&wish), "{wish}: {features:?}");
    }
    // Who did not ask for crun gets runc's lines.
    let run = called(c, &["--version"])?.ok()?;
    ensure!(!run.stdout.contains('+'), "{:?}", run.stdout);
    Ok(())
}

fn called_runc(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let words = c.bundle_args("create", &[], &c.id)?;
    with_root(c, &words)?.ok()?;
    with_root(c, &words)?
        .wants(1)?
        .refused_with("runc create failed: container with given ID already exists")?;
    with_root(c, &["start", &c.id])?.ok()?;
    same("status", "running", &*c.status()?)?;
    let said = with_root(c, &["exec", &c.id, "/bin/echo", "inside"])?
        .ok()?
        .stdout;
    same("said by exec", "inside\n", &*said)?;
    with_root(c, &["exec", &c.id, "/no/such/program"])?
        .wants(255)?
        .refused_with("exec failed: ")?;
    with_root(c, &["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    with_root(c, &["delete", &c.id])?.ok()?;
    c.nothing_left()?;
    c.shell("exit 7");
    with_root(c, &c.bundle_args("run", &[], &c.id)?)?.wants(7)?;
    c.args(&["/no/such/program"]);
    with_root(c, &c.bundle_args("run", &[], &c.id)?)?
        .wants(1)?
        .refused_with("runc run failed: ")?;
    c.nothing_left()
}

/// Runs a container without `--root` and looks where its state is.
fn lives_below(c: &mut Case, root: &Path, command: impl Fn(&Case) -> Check<Command>) -> Check {
    let run = |c: &Case, words: &[&str]| runner::start(command(c)?.args(words), &c.dir)?.finish();
    c.args(&["/bin/sleep", "1000"]);
    let words = c.bundle_args("run", &["--detach"], &c.id)?;
    runner::start(command(c)?.args(words), &c.dir)?.finish()?.ok()?;
    let is_there = root.join(&c.id).join("state.json").exists();
    let listed = run(c, &["list", "--quiet"])?.ok()?.stdout;
    run(c, &["delete", "--force", &c.id])?.ok()?;
    ensure!(is_there, "no state in {}", root.display());
    ensure!(listed.lines().any(|id| id == c.id), "listed: {listed}");
    ensure!(!root.join(&c.id).exists(), "state is left in {}", root.display());
    c.nothing_left()
}

fn called_runc_has_runcs_root(c: &mut Case) -> Check {
    let was_there = Path::new(ROOT).exists();
    let result = lives_below(c, Path::new(ROOT), link);
    if !was_there {
        // Another's by now, if it is not empty.
        let _anothers = fs::remove_dir(ROOT);
    }
    result
}

fn called_runc_by_a_user(c: &mut Case) -> Check {
    let user = User::new(c.host, &c.dir)?;
    let link = c.dir.join("runc");
    symlink(user.command().get_program(), &link)?;
    let mut command = Command::new(link);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("XDG_RUNTIME_DIR", user.runtime_dir())
        .current_dir(&c.dir)
        .stdin(Stdio::null())
        .uid(user::UID)
        .gid(user::UID);
    runner::start(command.arg("list"), &c.dir)?.finish()?.ok()?;
    let root = user.runtime_dir().join("runc");
    same(
        "mode of the root",
        0o1700,
        fs::metadata(root)?.permissions().mode() & 0o7777,
    )
}

fn containers_of_runc_are_left_alone(c: &mut Case) -> Check {
    let mut sleeper = Command::new("/bin/sleep");
    let sleeper = runner::start(sleeper.arg("1000"), &c.dir)?;
    let kept = include_str!("../../../fixtures/runc/kept-state.json");
    let pid = format!("\"init_process_pid\":{}", sleeper.pid);
    ensure!(kept.contains("\"init_process_pid\":265,"), "another recording");
    let kept = kept.replace("\"init_process_pid\":265", &pid);
    let kept = kept.replace("\"id\":\"first\"", "\"id\":\"theirs\"");
    let file = c.state_root.join("theirs/state.json");
    fs::create_dir(c.state_root.join("theirs"))?;
    fs::write(&file, &kept)?;
    let unfinished = c.state_root.join("unfinished/exec.fifo");
    fs::create_dir(c.state_root.join("unfinished"))?;
    nix::unistd::mkfifo(&unfinished, nix::sys::stat::Mode::S_IRWXU)?;
    let result = untouched(c, &file, &kept, &unfinished);
    ensure!(
        children::wait_for(sleeper.pid, Duration::ZERO).is_none(),
        "its process was killed"
    );
    for name in ["theirs", "unfinished"] {
        fs::remove_dir_all(c.state_root.join(name))?;
    }
    result
}

fn untouched(c: &mut Case, file: &Path, kept: &str, unfinished: &Path) -> Check {
    c.start_sleeper()?;
    let list = c.rt(&["list", "--quiet"])?.ok()?;
    same("listed", format!("{}\n", c.id), list.stdout)?;
    for id in ["theirs", "unfinished"] {
        for words in [
            &["state", id][..],
            &["start", id],
            &["kill", id, "KILL"],
            &["pause", id],
            &["ps", "--format", "json", id],
            &["exec", id, "/bin/true"],
            &["delete", id],
            &["delete", "--force", id],
        ] {
            let run = c
                .rt(words)?
                .refused_with("the container was made by another runtime")?;
            // That is what engines take for a container that has ended.
            ensure!(
                !run.stderr.contains("does not exist"),
                "{words:?}: {}",
                run.stderr
            );
        }
        c.rt(&c.bundle_args("create", &[], id)?)?
            .refused_with("container with given ID already exists")?;
    }
    c.rt(&["delete", "--force", "--regex", "."])?.wants(1)?;
    ensure!(!c.state_root.join(&c.id).exists(), "the own container is left");
    same("state.json of the other", kept, &*fs::read_to_string(file)?)?;
    ensure!(unfinished.exists(), "the unfinished container is gone");
    Ok(())
}

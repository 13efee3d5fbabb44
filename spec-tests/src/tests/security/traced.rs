//! Topic `security/`: what a process in the container with CAP_SYS_PTRACE gets of the runtime's own
//! processes: their sockets, and what their memory still holds of the runtime's caller.

use crate::{
    case::Case,
    config::Hook,
    outcome::{Check, ensure, same},
    runner::{self, Live},
};
use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    process::Command,
};

tests! {
    security/exec_whose_socket_was_taken_names_no_process_of_the_host,
    security/exec_shows_nothing_of_the_caller,
    security/create_in_a_joined_pid_namespace_shows_nobody_with_the_hosts_root,
    security/create_in_a_joined_pid_namespace_with_a_user_namespace_shows_nobody_with_the_hosts_root,
    security/created_container_shows_nothing_of_the_caller,
    security/hooks_see_nothing_of_the_caller,
}

/// In two parts, so that it does not stand in the suite's own binary as one.
fn marker() -> String {
    ["of-the-caller", "7c2f1b"].join("-only-")
}

/// As the attacker gets it: the arguments of the container's own programs must not have it.
fn reversed() -> String {
    marker().chars().rev().collect()
}

/// A runtime whose environment and arguments have the marker.
fn marked(c: &Case) -> Command {
    let mut command = c.command();
    command
        .env("SECRET_OF_THE_CALLER", marker())
        .args(["--log", &format!("{}/{}.log", c.dir.display(), marker())]);
    command
}

fn attack(c: &mut Case, words: &[&str]) -> Check<Live> {
    c.grant(&["CAP_SYS_PTRACE", "CAP_KILL"]);
    c.args(words);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    c.wait_until("the attacker runs", || {
        let said = c.rt(&["state", &c.id])?.stdout;
        Ok(said.contains(r#""status": "running""#))
    })?;
    Ok(live)
}

fn stop(c: &Case, live: Live) -> Check<String> {
    fs::write(c.rootfs("/stop"), "")?;
    Ok(live.finish()?.stdout)
}

/// The attacker takes EXEC's end of the link, says that EXEC is a process of the host, and ends it.
fn exec_whose_socket_was_taken_names_no_process_of_the_host(c: &mut Case) -> Check {
    let victim = std::process::id().to_string();
    let live = attack(c, &["/bin/attacker", "impersonate", &victim])?;
    let pid_file = c.dir.join("exec.pid");
    let path = pid_file.to_string_lossy().into_owned();
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", c.pid()?))?;
    let mut refused = 0;
    for _ in 0..40 {
        let _gone = fs::remove_file(&pid_file);
        let run = c.rt(&["exec", "-d", "--pid-file", &path, &c.id, "/bin/sleep", "1000"])?;
        let said = run.stderr.clone();
        if run.ok().is_err() {
            refused += 1;
            ensure!(!pid_file.exists(), "exec failed and wrote a pid: {said}");
            continue;
        }
        let pid = fs::read_to_string(&pid_file)?;
        // It may have been ended meanwhile; it is never anybody else.
        if let Ok(seen) = fs::read_link(format!("/proc/{pid}/ns/pid")) {
            same("pid namespace of the process that exec names", &namespace, &seen)?;
        }
    }
    let printed = stop(c, live)?;
    ensure!(
        printed.contains("sockets taken: some") || refused == 0,
        "refused {refused} times without a reason: {printed}"
    );
    Ok(())
}

fn exec_shows_nothing_of_the_caller(c: &mut Case) -> Check {
    let live = attack(c, &["/bin/attacker", "search", &reversed()])?;
    for _ in 0..20 {
        let mut command = marked(c);
        command.args(["exec", &c.id, "/bin/true"]);
        runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    }
    same("what was found in EXEC", "looked: yes\n", &stop(c, live)?)
}

/// A process in the pid namespace that the container joins looks at every newcomer's root.
fn create_in_a_joined_pid_namespace_shows_nobody_with_the_hosts_root(c: &mut Case) -> Check {
    joined_by(c, |_| Ok(()))
}

fn create_in_a_joined_pid_namespace_with_a_user_namespace_shows_nobody_with_the_hosts_root(
    c: &mut Case,
) -> Check {
    joined_by(c, |newcomer| newcomer.map_ids(100_000))
}

fn joined_by(c: &mut Case, change: impl Fn(&mut Case) -> Check) -> Check {
    c.grant(&["CAP_SYS_PTRACE"]);
    let host = fs::metadata("/")?;
    let host = format!("{}:{}", host.dev(), host.ino());
    c.args(&["/bin/probe", "--watch-roots", &host]);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    c.wait_until("the watcher runs", || {
        let said = c.rt(&["state", &c.id])?.stdout;
        Ok(said.contains(r#""status": "running""#))
    })?;
    let namespace = format!("/proc/{}/ns/pid", c.pid()?);
    for _ in 0..20 {
        let mut newcomer = Case::new(c.host)?;
        newcomer.join_namespace("pid", Some(&namespace));
        newcomer.args(&["/bin/true"]);
        change(&mut newcomer)?;
        let words = newcomer.bundle_args("create", &[], &newcomer.id)?;
        newcomer.rt(&words)?.ok()?;
        newcomer.rt(&["start", &newcomer.id])?.ok()?;
        newcomer.wait_status("stopped")?;
        newcomer.delete()?;
    }
    same("what was seen", "none\n", &stop(c, live)?)
}

/// From the host, which may read whatever a process in the container may.
fn created_container_shows_nothing_of_the_caller(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    let words = c.bundle_args("create", &[], &c.id)?;
    runner::start(marked(c).args(words), &c.dir)?.finish()?.ok()?;
    same(
        "where the marker is",
        &Vec::<String>::new(),
        &found_in(c.pid()?, marker().as_bytes())?,
    )
}

/// A hook inside sees what process 1 still has, as process 1 of the same user may be traced by it.
fn hooks_see_nothing_of_the_caller(c: &mut Case) -> Check {
    let words = [
        "attacker".to_owned(),
        "search-init".to_owned(),
        reversed(),
        "/start.log".to_owned(),
    ];
    c.hooks()
        .clear()
        .start_container([Hook::new().path("/bin/attacker").args(words).env(["A=b"])]);
    c.grant(&["CAP_SYS_PTRACE"]);
    c.args(&["/bin/true"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    runner::start(marked(c).args(words), &c.dir)?.finish()?.ok()?;
    same(
        "a startContainer hook has found",
        "nothing",
        &fs::read_to_string(c.rootfs("/start.log"))?,
    )
}

/// The files and mappings of a process in which the marker stands.
fn found_in(pid: i32, marker: &[u8]) -> Check<Vec<String>> {
    let contains = |bytes: &[u8]| bytes.windows(marker.len()).any(|window| window == marker);
    let mut places = Vec::new();
    for file in ["environ", "cmdline", "comm", "status"] {
        if contains(&fs::read(format!("/proc/{pid}/{file}"))?) {
            places.push(file.to_owned());
        }
    }
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut mappings = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((start, end)) = words[0].split_once('-') else {
            continue;
        };
        let (start, end) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16));
        let (Ok(start), Ok(end)) = (start, end) else {
            continue;
        };
        // [vvar] and [vsyscall] cannot be read by anybody.
        if !words[1].starts_with('r') || words.get(5).is_some_and(|name| name.starts_with("[v")) {
            continue;
        }
        let mut bytes = vec![0; (end - start) as usize];
        memory.seek(SeekFrom::Start(start))?;
        memory.read_exact(&mut bytes)?;
        mappings += 1;
        if contains(&bytes) {
            places.push(line.to_owned());
        }
    }
    ensure!(mappings > 0, "nothing of process {pid} could be read");
    Ok(places)
}

//! `run` in the foreground: the exit code is always right, orphans are adopted and reaped, the end of the
//! input ends a shell, a shell has job control.

use crate::{
    case::Case,
    outcome::{Check, ensure, same},
    pty::Master,
    runner::Live,
    tests::process::{on_own_pty, with_terminal},
};
use std::{fs, path::Path};

tests! {
    run/exit_codes_of_2000_short_processes,
    run/adopts_and_reaps_orphans,
    run/no_subreaper_leaves_orphans_to_the_caller,
    run/end_of_input_ends_a_shell_with_a_terminal,
    run/job_control,
    run/bytes_of_the_terminal_are_left_alone,
}

/// SPEC_TESTS_RUNS sets another number; an emulated machine is given less to do.
fn exit_codes_of_2000_short_processes(c: &mut Case) -> Check {
    let runs = std::env::var("SPEC_TESTS_RUNS").ok();
    let runs = runs.and_then(|runs| runs.parse().ok());
    let runs = runs.unwrap_or(if Path::new("/payload").exists() { 100 } else { 2000 });
    for number in 0..runs {
        let code = number * 7 % 256;
        c.shell(&format!("exit {code}"));
        c.run()?.wants(code)?;
    }
    c.nothing_left()
}

/// Starts a container in the host's pid namespace whose process leaves an orphan; the orphan's parent.
fn parent_of_orphan(c: &mut Case, options: &[&str]) -> Check<(Live, i32)> {
    c.drop_namespace("pid");
    c.shell(
        "(sh -c 'while [ ! -e /stop ]; do usleep 2000; done' & echo $! > /orphan.new; mv /orphan.new /orphan); \
         while [ ! -e /stop ]; do usleep 2000; done; usleep 100000; exit 7",
    );
    let run = c.spawn(&c.bundle_args("run", options, &c.id)?)?;
    let file = c.rootfs("/orphan");
    c.wait_until("there is an orphan", || Ok(file.exists()))?;
    let orphan: i32 = fs::read_to_string(&file)?.trim().parse().unwrap_or(0);
    let parent = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("PPid:"));
        line.and_then(|l| l.trim().parse::<i32>().ok()).unwrap_or(0)
    };
    // The shell between the two ends a moment later.
    let own = std::process::id() as i32;
    let runtime = run.pid;
    c.wait_until("somebody has adopted it", || {
        Ok([own, runtime].contains(&parent(orphan)))
    })?;
    Ok((run, parent(orphan)))
}

fn adopts_and_reaps_orphans(c: &mut Case) -> Check {
    let (run, parent) = parent_of_orphan(c, &[])?;
    same("parent of the orphan is the runtime", run.pid, parent)?;
    let orphan = fs::read_to_string(c.rootfs("/orphan"))?;
    let stat = format!("/proc/{}/stat", orphan.trim());
    fs::write(c.rootfs("/stop"), "")?;
    c.wait_until("the orphan is reaped", || Ok(fs::read(&stat).is_err()))?;
    run.finish()?.wants(7)?;
    c.nothing_left()
}

fn no_subreaper_leaves_orphans_to_the_caller(c: &mut Case) -> Check {
    let (run, parent) = parent_of_orphan(c, &["--no-subreaper"])?;
    same(
        "parent of the orphan is the suite",
        std::process::id() as i32,
        parent,
    )?;
    fs::write(c.rootfs("/stop"), "")?;
    run.finish()?.wants(7)?;
    c.nothing_left()
}

fn end_of_input_ends_a_shell_with_a_terminal(c: &mut Case) -> Check {
    with_terminal(c);
    c.args(&["/bin/sh"]);
    // Standard input is /dev/null. A shell that edits lines sees no end of file but only a character for it.
    c.run()?.ok()?;
    c.nothing_left()
}

fn shell_on_pty(c: &mut Case) -> Check<(Live, Master)> {
    with_terminal(c);
    c.args(&["/bin/sh"]);
    let (live, mut master) = on_own_pty(c, &c.bundle_args("run", &[], &c.id)?, 30, 90)?;
    master.expect("# ")?;
    Ok((live, master))
}

fn job_control(c: &mut Case) -> Check {
    let (live, mut master) = shell_on_pty(c)?;
    let seen = master.expect("# ")?;
    ensure!(!seen.contains("job control turned off"), "{seen:?}");
    master.write("sleep 1000\r")?;
    c.wait_until("sleep has the terminal", || has_foreground(c, "sleep"))?;
    master.write("\x1a")?;
    master.expect("Stopped")?;
    master.write("bg; jobs; echo in the $((40+2))\r")?;
    master.expect("in the 42")?;
    master.write("fg\r")?;
    c.wait_until("sleep has the terminal again", || has_foreground(c, "sleep"))?;
    master.write("\x03")?;
    master.write("echo status $?\r")?;
    master.expect("status 130")?;
    master.write("exit 6\r")?;
    live.finish()?.wants(6)?;
    c.nothing_left()
}

/// Whether a process of that name in the container is in the foreground of its terminal.
fn has_foreground(c: &Case, name: &str) -> Check<bool> {
    let pids = fs::read_to_string(c.cgroup().join("cgroup.procs")).unwrap_or_default();
    Ok(pids.lines().any(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((head, tail)) = stat.split_once(") ") else {
            return false;
        };
        // State, ppid, pgrp, session, tty, tpgid.
        let fields: Vec<&str> = tail.split(' ').collect();
        head.ends_with(name) && fields.get(2) == fields.get(5)
    }))
}

fn bytes_of_the_terminal_are_left_alone(c: &mut Case) -> Check {
    with_terminal(c);
    // ctrl-p ctrl-q, Docker's key for detaching, and every other byte below 0x20 but those that ISIG takes.
    c.shell("stty raw -echo; echo ready; dd bs=1 count=8 2>/dev/null | od -An -tx1; stty sane");
    let (live, mut master) = on_own_pty(c, &c.bundle_args("run", &[], &c.id)?, 30, 90)?;
    master.expect("ready")?;
    master.write("\x10\x11\x10\x03\x04\x1a\x1c\x1b")?;
    master.expect("10 11 10 03 04 1a 1c 1b")?;
    live.finish()?.ok()?;
    Ok(())
}

//! Runs in: SUITE. checkpoint and restore, by a real criu; and what of them is seen without one.

use super::{
    CRIU, checkpoint, count, goes_on_after, images, quiet, quiet_live, restore, start, start_counter, text,
    wait_for_count,
};
use crate::{
    case::Case,
    config::{Hook, Mount},
    outcome::{Check, contains, ensure, fail, same},
    pty::{FdSocket, Master},
    runner,
    tests::process::{TWO_LINES, into_file},
};
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

tests! {
    checkpoint/help_ends_with_0,
    checkpoint/probe_of_the_engines,
    checkpoint/without_criu,
    checkpoint/of_a_created_container,
    checkpoint/parent_path_is_checked,
    checkpoint/restore_without_images,
    checkpoint/id_mapped_mounts_are_refused,
}

tests! {
    checkpoint/counter_goes_on: CRIU,
    checkpoint/leave_running: CRIU,
    checkpoint/under_another_id: CRIU,
    checkpoint/of_a_paused_container: CRIU,
    checkpoint/file_systems_are_as_before: CRIU,
    checkpoint/bind_mounts: CRIU,
    checkpoint/fresh_rootfs: CRIU,
    checkpoint/limits_of_config_json: CRIU,
    checkpoint/pipes_are_attached_again: CRIU,
    checkpoint/terminal: CRIU,
    checkpoint/newlines_in_the_foreground_are_plain: CRIU,
    checkpoint/restore_in_the_foreground: CRIU,
    checkpoint/file_locks: CRIU,
    checkpoint/criu_config_annotation: CRIU,
    checkpoint/tcp_connection_survives: CRIU,
    checkpoint/hooks: CRIU,
    checkpoint/work_path: CRIU,
    checkpoint/failed_dump: CRIU,
    checkpoint/failed_restore: CRIU,
    checkpoint/failed_hook_of_a_restore: CRIU,
}

fn counter_goes_on(c: &mut Case) -> Check {
    start_counter(c)?;
    let old = c.pid()?;
    checkpoint(c, &[])?.ok()?;
    ensure!(
        !Path::new(&format!("/proc/{old}/cwd")).join(".").exists(),
        "wish:    the processes are gone\n    reality: pid {old} is there"
    );
    // As with runc, a container that was saved is no container any more.
    c.rt(&["state", &c.id])?.refused_with("does not exist")?;
    c.nothing_left()?;
    let pid_file = text(&c.dir.join("pid"));
    goes_on_after(c, || restore(c, &["--pid-file", &pid_file]).map(drop))?;
    same("status", "running".to_owned(), c.status()?)?;
    same("pid file", fs::read_to_string(&pid_file)?, c.pid()?.to_string())?;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
    let line = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let wish = c.config["linux"]["cgroupsPath"].as_str();
    same("cgroup", wish, line)?;
    let name = c.rt(&["exec", &c.id, "/bin/hostname"])?.ok()?.stdout;
    same("host name", "spec-test", name.trim())?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn leave_running(c: &mut Case) -> Check {
    start_counter(c)?;
    let pid = c.pid()?;
    checkpoint(c, &["--leave-running"])?.ok()?;
    same("pid", pid, c.pid()?)?;
    same("status", "running".to_owned(), c.status()?)?;
    let at = count(c);
    wait_for_count(c, at + 2)?;
    c.delete()?;
    restore(c, &[])?;
    wait_for_count(c, at + 2)
}

fn under_another_id(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &["--leave-running"])?.ok()?;
    c.delete()?;
    c.id.push('b');
    c.set_cgroup_leaf("other");
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    let procs = fs::read_to_string(c.cgroup().join("cgroup.procs"))?;
    let pid = c.pid()?.to_string();
    ensure!(
        procs.lines().any(|line| line == pid),
        "pid {pid} is not in {procs:?}"
    );
    Ok(())
}

fn of_a_paused_container(c: &mut Case) -> Check {
    start_counter(c)?;
    c.rt(&["pause", &c.id])?.ok()?;
    checkpoint(c, &[])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    same("status", "running".to_owned(), c.status()?)
}

fn file_systems_are_as_before(c: &mut Case) -> Check {
    start_counter(c)?;
    let write = "echo kept > /dev/shm/file; mkdir /dev/shm/dir";
    c.rt(&["exec", &c.id, "/bin/sh", "-c", write])?.ok()?;
    checkpoint(c, &[])?.ok()?;
    restore(c, &[])?;
    let look = "cat /dev/shm/file; ls -d /dev/shm/dir; cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l; \
                echo 1 2>/dev/null > /proc/sys/kernel/hostname || echo read-only; \
                touch /sys/x 2>/dev/null || echo read-only; stat -c %t,%T /dev/zero; ls /proc/self/fd/0 > /dev/null && echo proc";
    let seen = c.rt(&["exec", &c.id, "/bin/sh", "-c", look])?.ok()?.stdout;
    let wish = "kept /dev/shm/dir 0 0 read-only read-only 1,5 proc";
    same(
        "what is there",
        wish.to_owned(),
        seen.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

fn bind_mounts(c: &mut Case) -> Check {
    let shared = c.dir.join("shared");
    fs::create_dir(&shared)?;
    fs::write(c.dir.join("single"), "one file\n")?;
    fs::create_dir_all(c.rootfs("run"))?;
    std::os::unix::fs::symlink("../run", c.rootfs("var/run"))?;
    let (single, folder) = (text(&c.dir.join("single")), text(&shared));
    c.mount(Mount::bind("/mnt/shared", &folder).options(["rbind"]));
    c.mount(Mount::bind("/etc/single", single).options(["bind", "ro"]));
    // A link of the image on the way: criu knows the place behind it.
    c.mount(Mount::bind("/var/run/linked", folder).options(["bind"]));
    c.shell("while :; do cat /etc/single >> /mnt/shared/out; usleep 100000; done");
    start(c)?;
    let out = shared.join("out");
    let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
    c.wait_until("the first lines", || Ok(lines() >= 2))?;
    checkpoint(c, &[])?.ok()?;
    let before = lines();
    restore(c, &[])?;
    c.wait_until("more lines", || Ok(lines() >= before + 2))?;
    let look = "cat /etc/single; echo 1 2>/dev/null >> /etc/single || echo read-only; ls /var/run/linked";
    let seen = c.rt(&["exec", &c.id, "/bin/sh", "-c", look])?.ok()?.stdout;
    same("what is there", "one file\nread-only\nout\n".to_owned(), seen)
}

/// What Podman does with a checkpoint from another host: the rootfs is a copy of the image, without mount
/// points.
fn fresh_rootfs(c: &mut Case) -> Check {
    let shared = c.dir.join("shared");
    fs::create_dir_all(shared.join("below"))?;
    let folder = text(&shared);
    c.mount(Mount::bind("/a/b/c", &folder).options(["bind"]));
    c.mount(Mount::bind("/a/b/c/below", folder).options(["bind"]));
    c.shell("i=0; while :; do i=$((i+1)); echo $i > /a/b/c/count; usleep 100000; done");
    start(c)?;
    let number = || -> i64 {
        let text = fs::read_to_string(shared.join("count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    c.wait_until("a count", || Ok(number() >= 3))?;
    checkpoint(c, &[])?.ok()?;
    let before = number();
    fs::remove_dir_all(c.rootfs("a"))?;
    for place in ["proc", "dev", "sys"] {
        fs::remove_dir_all(c.rootfs(place))?;
    }
    restore(c, &[])?;
    c.wait_until("the count to go on", || Ok(number() > before + 1))?;
    let seen = c.rt(&["exec", &c.id, "/bin/ls", "/a/b/c/below"])?.ok()?.stdout;
    contains("the mount on a mount", &seen, "count")
}

fn limits_of_config_json(c: &mut Case) -> Check {
    if c.host.has_controller("pids") {
        c.resources().pids().clear().limit(77);
    }
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    if c.host.has_controller("pids") {
        c.resources().pids().clear().limit(88);
    }
    restore(c, &[])?;
    if c.host.has_controller("pids") {
        let limit = fs::read_to_string(c.cgroup().join("pids.max"))?;
        same("pids.max, of the config.json of the restore", "88", limit.trim())?;
    }
    // The device filter is the one thing that every host has.
    let open = "mknod /dev/shm/disk b 7 0 2>&1; head -c 1 /dev/zero | wc -c";
    c.process().capabilities().clear();
    let seen = c.rt(&["exec", "--cap", "CAP_MKNOD", &c.id, "/bin/sh", "-c", open])?;
    contains("an allowed device", &seen.stdout, "1")
}

fn pipes_are_attached_again(c: &mut Case) -> Check {
    c.shell("i=0; while :; do i=$((i+1)); echo line $i; usleep 100000; done");
    let mut line = c.command();
    line.args(c.bundle_args("run", &["--detach"], &c.id)?);
    let (reader, writer) = nix::unistd::pipe()?;
    line.stdout(Stdio::from(writer)).stderr(Stdio::null());
    let live = runner::start_with_own_stdio(&mut line, c.dir.join("none"), c.dir.join("none"))?;
    drop(line);
    live.finish()?.ok()?;
    let mut reader = std::io::BufReader::new(File::from(reader));
    let mut first = String::new();
    for _ in 0..3 {
        std::io::BufRead::read_line(&mut reader, &mut first)?;
    }
    contains("output by the first pipe", &first, "line 3\n")?;
    checkpoint(c, &[])?.ok()?;
    // To the end: what was in the pipe, and then nobody is left who writes.
    std::io::Read::read_to_string(&mut reader, &mut first)?;
    let (reader, writer) = nix::unistd::pipe()?;
    let images = text(&images(c));
    let mut line = c.command();
    line.args(c.bundle_args("restore", &["--detach", "--image-path", &images], &c.id)?);
    line.stdout(Stdio::from(writer)).stderr(Stdio::null());
    let live = runner::start_with_own_stdio(&mut line, c.dir.join("none"), c.dir.join("none"))?;
    drop(line);
    live.finish_within(Duration::from_secs(60))?.ok()?;
    let mut reader = std::io::BufReader::new(File::from(reader));
    let mut second = String::new();
    std::io::BufRead::read_line(&mut reader, &mut second)?;
    let last = first.lines().count();
    same(
        "the first line by the second pipe",
        format!("line {}\n", last + 1),
        second,
    )
}

fn terminal(c: &mut Case) -> Check {
    c.process().terminal(true);
    c.shell("n=0; while read line; do n=$((n+1)); echo $n: $line; tty; done");
    let start_master = |name: &str, words: &[&str]| -> Check<Master> {
        let socket = FdSocket::new(c.dir.join(name))?;
        let path = socket.path_text();
        let words = [words, &["--detach", "--console-socket", &path]].concat();
        let (command, options) = words.split_first().unwrap_or((&"", &[]));
        let live = quiet_live(c, command, options, &c.id)?;
        let received = socket.receive();
        live.finish_within(Duration::from_secs(60))?.ok()?;
        match received?.fds.pop() {
            Some(fd) => Ok(Master::new(fd)),
            None => fail("no descriptor came"),
        }
    };
    let mut master = start_master("first", &["run"])?;
    master.write("one\n")?;
    master.expect("1: one")?;
    checkpoint(c, &[])?.ok()?;
    drop(master);
    let mut master = start_master("second", &["restore", "--image-path", &text(&images(c))])?;
    master.write("two\n")?;
    master.expect("2: two")?;
    master.expect("/dev/pts/0")?;
    // Its job control came along: the shell is the leader of the terminal's session.
    master.write("\u{3}")?;
    c.wait_status("stopped")
}

/// The terminal that a console socket got has carriage returns; restored into the foreground it has none.
fn newlines_in_the_foreground_are_plain(c: &mut Case) -> Check {
    c.process().terminal(true);
    c.shell(&format!(
        "while ! test -e /go; do usleep 50000; done; {TWO_LINES}"
    ));
    let socket = FdSocket::new(c.dir.join("first"))?;
    let path = socket.path_text();
    let live = quiet_live(c, "run", &["--detach", "--console-socket", &path], &c.id)?;
    let received = socket.receive();
    live.finish_within(Duration::from_secs(60))?.ok()?;
    checkpoint(c, &[])?.ok()?;
    drop(received);
    fs::write(c.rootfs("go"), "")?;
    let words = c.bundle_args("restore", &["--image-path", &text(&images(c))], &c.id)?;
    same(
        "restored into a file",
        "one\ntwo\n-onlcr\n".to_owned(),
        into_file(c, &words)?,
    )
}

fn restore_in_the_foreground(c: &mut Case) -> Check {
    c.shell("while ! test -e /go; do usleep 50000; done; exit 7");
    start(c)?;
    checkpoint(c, &[])?.ok()?;
    let images = text(&images(c));
    let live = quiet_live(c, "restore", &["--image-path", &images], &c.id)?;
    c.wait_until("the container", || {
        Ok(c.rt(&["state", &c.id])?.stdout.contains("\"running\""))
    })?;
    fs::write(c.rootfs("go"), "")?;
    live.finish()?.wants(7)?;
    c.nothing_left()
}

fn start_locker(c: &mut Case) -> Check {
    c.args(&["/bin/probe", "--lock", "/lock"]);
    start(c)?;
    c.wait_until("the lock", || Ok(c.rootfs("lock").exists() && locked(c)?))
}

/// Whether somebody has the lock: the host sees the same file.
fn locked(c: &Case) -> Check<bool> {
    let file = File::open(c.rootfs("lock"))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

fn file_locks(c: &mut Case) -> Check {
    start_locker(c)?;
    let run = checkpoint(c, &["--network-lock", "skip"])?;
    ensure!(
        run.code() != 0,
        "a dump without --file-locks must fail: {}",
        run.report()
    );
    same("status after the failure", "running".to_owned(), c.status()?)?;
    checkpoint(c, &["--file-locks"])?.ok()?;
    restore(c, &["--file-locks"])?;
    ensure!(locked(c)?, "the lock is lost");
    Ok(())
}

fn criu_config_annotation(c: &mut Case) -> Check {
    let file = c.dir.join("criu.conf");
    fs::write(&file, "file-locks\n")?;
    c.document().annotations(json!({"org.criu.config": text(&file)}));
    start_locker(c)?;
    checkpoint(c, &[])?.ok()?;
    restore(c, &[])?;
    ensure!(locked(c)?, "the lock is lost");
    Ok(())
}

/// Both ends of the connection are in the container; its network namespace is another container's, as in a
/// pod.
fn tcp_connection_survives(c: &mut Case) -> Check {
    let pod = format!("{}-pod", c.id);
    let own = c.config["linux"]["cgroupsPath"].clone();
    c.set_cgroup_leaf("pod");
    c.args(&["/bin/sleep", "1000"]);
    quiet(c, "run", &["--detach"], &pod)?;
    let pid = c.state_of(&pod)?["pid"].to_string();
    c.linux().cgroups_path(own);
    c.join_namespace("network", Some(&format!("/proc/{pid}/ns/net")));
    c.shell(
        "/bin/busybox nc -l -p 7000 -e /bin/cat & usleep 300000; \
         (i=0; while :; do i=$((i+1)); echo $i; usleep 100000; done) | /bin/busybox nc 127.0.0.1 7000 > /echo",
    );
    start(c)?;
    let lines = || fs::read_to_string(c.rootfs("echo")).unwrap_or_default();
    c.wait_until("an echo", || Ok(lines().lines().count() >= 3))?;
    let run = checkpoint(c, &["--network-lock", "skip"])?;
    ensure!(
        run.code() != 0,
        "a dump without --tcp-established must fail: {}",
        run.report()
    );
    // Both ends are in the container, so nobody sends meanwhile; criu 4.1 cannot lock a namespace that stays
    // a second time.
    let options = ["--tcp-established", "--network-lock", "skip"];
    checkpoint(c, &options)?.ok()?;
    let before = lines().lines().count();
    restore(c, &options)?;
    c.wait_until("more of the echo", || Ok(lines().lines().count() >= before + 3))?;
    let all = lines();
    let wish: Vec<String> = (1..=all.lines().count()).map(|n| n.to_string()).collect();
    same(
        "the echo, without a gap",
        wish,
        all.lines().map(str::to_owned).collect::<Vec<_>>(),
    )?;
    let ours = fs::read_link(format!("/proc/{}/ns/net", c.pid()?))?;
    same(
        "network namespace",
        fs::read_link(format!("/proc/{pid}/ns/net"))?,
        ours,
    )
}

fn hooks(c: &mut Case) -> Check {
    let out = c.dir.join("hooks");
    let hook = |name: &str| {
        let line = format!("echo {name} $(cat) >> {}", out.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", line]}])
    };
    for name in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        if !matches!(name, "createContainer" | "startContainer") {
            c.config["hooks"][name] = hook(name);
        }
    }
    start_counter(c)?;
    let ran = || {
        let text = fs::read_to_string(&out).unwrap_or_default();
        text.lines()
            .filter_map(|l| l.split(' ').next().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    same(
        "hooks of run",
        vec!["prestart", "createRuntime", "poststart"],
        ran(),
    )?;
    checkpoint(c, &[])?.ok()?;
    same(
        "hooks of checkpoint",
        vec!["prestart", "createRuntime", "poststart", "poststop"],
        ran(),
    )?;
    fs::remove_file(&out)?;
    restore(c, &[])?;
    same("hooks of restore", vec!["prestart", "createRuntime"], ran())?;
    let pid = format!("\"pid\":{}", c.pid()?);
    contains("the state that they get", &fs::read_to_string(&out)?, &pid)?;
    c.delete()?;
    same(
        "hooks of delete",
        vec!["prestart", "createRuntime", "poststop"],
        ran(),
    )
}

fn work_path(c: &mut Case) -> Check {
    let work = c.dir.join("work");
    start_counter(c)?;
    checkpoint(c, &["--work-path", &text(&work)])?.ok()?;
    ensure!(work.join("dump.log").exists(), "no dump.log in --work-path");
    ensure!(
        !images(c).join("dump.log").exists(),
        "a dump.log beside the images"
    );
    for dir in [&work, &images(c)] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(dir)?.permissions());
        same("others' rights to memory", 0, mode & 0o077)?;
    }
    restore(c, &["--work-path", &text(&work)])?;
    ensure!(work.join("restore.log").exists(), "no restore.log in --work-path");
    Ok(())
}

fn failed_dump(c: &mut Case) -> Check {
    start_locker(c)?;
    let run = checkpoint(c, &[])?.refused_with("dump.log")?;
    contains("the reason, as criu gives it", &run.stderr.to_lowercase(), "lock")?;
    same("status", "running".to_owned(), c.status()?)?;
    let cgroup = fs::read_to_string(c.cgroup().join("cgroup.freeze"))?;
    same("frozen", "0", cgroup.trim())
}

fn failed_restore(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    fs::write(images(c).join("core-1.img"), "damaged")?;
    let images = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &images], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("restore.log")?;
    c.rt(&["state", &c.id])?.refused_with("does not exist")?;
    c.nothing_left()
}

fn failed_hook_of_a_restore(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    c.hooks().create_runtime([Hook::new().path("/bin/false")]);
    let images = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &images], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("createRuntime hook #0")?;
    c.nothing_left()
}

fn help_ends_with_0(c: &mut Case) -> Check {
    let run = c.rt(&["checkpoint", "--help"])?.ok()?;
    contains("help", &run.stdout, "image-path")
}

fn probe_of_the_engines(c: &mut Case) -> Check {
    let run = c.rt(&["restore", "--lsm-mount-context"])?;
    ensure!(run.code() != 0, "{}", run.report());
    contains(
        "text",
        &format!("{}{}", run.stdout, run.stderr),
        "flag needs an argument",
    )
}

fn without_criu(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let images = text(&images(c));
    let mut line = c.command();
    line.env("PATH", "/nonexistent");
    line.args(["checkpoint", "--image-path", &images, &c.id]);
    let run = runner::start(&mut line, &c.dir)?.finish()?;
    contains("the reason", &run.refused()?.stderr, "criu")?;
    same("status", "running".to_owned(), c.status()?)
}

fn of_a_created_container(c: &mut Case) -> Check {
    c.create()?.ok()?;
    checkpoint(c, &[])?.refused_with("Container cannot be checkpointed in created state")?;
    same("status", "created".to_owned(), c.status()?)
}

/// A restore would mount them without the mapping, and without a word: better the container stays.
fn id_mapped_mounts_are_refused(c: &mut Case) -> Check {
    let source = text(&c.dir.join("source"));
    fs::create_dir(&source)?;
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    c.mount(
        Mount::bind("/mnt", source)
            .options(["bind", "idmap"])
            .uid_mappings(&map)
            .gid_mappings(map),
    );
    c.start_sleeper()?;
    checkpoint(c, &[])?.refused_with("id-mapped")?;
    ensure!(!images(c).exists(), "images were made");
    same("status", "running".to_owned(), c.status()?)
}

fn parent_path_is_checked(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for parent in ["/tmp", "../none"] {
        checkpoint(c, &["--pre-dump", "--parent-path", parent])?.refused_with("--parent-path")?;
    }
    Ok(())
}

fn restore_without_images(c: &mut Case) -> Check {
    let images = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &images], &c.id)?;
    c.rt(&words)?.refused()?;
    c.nothing_left()
}

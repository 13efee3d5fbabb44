//! The advisories of 2019-2026, as far as they can be tried from outside. Each test is an attack that must
//! fail, or be refused, and must not touch the host.

use super::{LockedSource, folder};
use crate::{
    case::Case,
    config::{Device, Hook, Mount, Syscall},
    outcome::{Check, ensure, same},
    runner::Run,
    seen::Access,
    user::give,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

tests! {
    security/own_binary_cannot_be_written_from_a_created_container,
    security/own_binary_cannot_be_written_from_exec,
    security/cwd_proc_self_fd_run,
    security/cwd_proc_self_fd_exec,
    security/cwd_symlink_to_proc_self_fd,
    security/bind_over_proc_is_refused,
    security/bind_below_proc_is_refused,
    security/bind_over_proc_meminfo_is_allowed,
    security/tmpfs_over_proc_self_attr_is_refused,
    security/dev_symlink_makes_no_nodes_on_the_host,
    security/dev_node_parent_symlink_stays_inside,
    security/host_mounts_stay_locked_in_a_user_namespace,
    security/exec_shows_nobody_with_the_hosts_root,
    security/masked_paths_do_not_trust_dev_null,
    security/console_does_not_follow_links,
    security/masked_path_through_a_symlink_stays_inside,
    security/readonly_path_through_a_symlink_stays_inside,
    security/cwd_is_not_made_on_the_host,
    security/bind_target_is_not_made_on_the_host,
    security/rename_race_of_a_mount_target,
    security/mkdir_race_of_a_mount_target,
    security/mount_with_100_kb_of_options,
    security/user_mappings_of_100_kb,
    security/environment_and_args_of_1_mb,
    security/sys_fs_cgroup_of_the_host_is_not_writable,
    security/state_root_is_private,
    security/state_root_of_everybody_is_refused,
    security/state_of_another_user_is_only_looked_at,
    security/state_root_of_another_user_with_forged_state,
    security/forged_state_in_a_directory_that_all_may_write_to,
    security/annotations_do_not_speak_to_the_terminal,
    security/state_root_that_a_user_has_made_for_root,
    security/root_slash_is_refused,
    security/passwd_that_is_no_small_file,
    security/start_container_hook_is_under_the_filter,
}

/// Whether /proc/PID/exe of the runtime's own process is protected, from the verdict of an attacker in the
/// container.
fn exe_is_protected(c: &Case, host_pid: i32, verdict: Access) -> Check {
    const PROTECTED: [i32; 4] = [1, 13, 30, 2]; // EPERM, EACCES, EROFS, ENOENT (it has ended)
    let errno = verdict.write.unwrap_or(-1);
    if PROTECTED.contains(&errno) {
        return Ok(());
    }
    // ETXTBSY lasts only as long as the process: the attacker waits. What lasts is another file (a sealed
    // copy) or a read-only mount of this one, which statvfs of the magic link shows.
    let path = format!("/proc/{host_pid}/exe");
    let (exe, binary) = (fs::metadata(&path)?, fs::metadata(&c.host.runtime)?);
    let other = (exe.dev(), exe.ino()) != (binary.dev(), binary.ino());
    let readonly = nix::sys::statvfs::statvfs(path.as_str())?
        .flags()
        .contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
    let runtime = c.host.runtime.display();
    ensure!(
        other || readonly,
        "the container can reach the host's {runtime} for writing (errno {errno})"
    );
    Ok(())
}

fn attacker_caps(c: &mut Case) {
    c.grant(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
}

fn own_binary_cannot_be_written_from_a_created_container(c: &mut Case) -> Check {
    attacker_caps(c);
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    // INIT still runs the runtime's code: process 1 waits for start.
    let report = c.exec_probe(&[], &["--access", "/proc/1/exe"])?;
    exe_is_protected(c, c.pid()?, report.access["/proc/1/exe"])
}

fn own_binary_cannot_be_written_from_exec(c: &mut Case) -> Check {
    attacker_caps(c);
    let before = fs::read(&c.host.runtime)?;
    c.start_sleeper()?;
    // The program is the runtime itself, by a link that a shared library or script interpreter could be.
    symlink("/proc/self/exe", c.rootfs("/bin/innocent"))?;
    let attack =
        "for i in $(seq 300); do for p in /proc/[0-9]*; do { echo attack > $p/exe; } 2>/dev/null; done; done";
    let live = c.spawn(&["exec", &c.id, "/bin/sh", "-c", attack])?;
    for _ in 0..10 {
        c.rt(&["exec", &c.id, "/bin/innocent", "--version"])?;
    }
    live.finish()?;
    ensure!(
        before == fs::read(&c.host.runtime)?,
        "the host's runtime binary has been changed"
    );
    Ok(())
}

/// The container must not run, or run in a folder of its own.
fn harmless_cwd(what: &str, run: &Run) -> Check {
    if run.code() != 0 {
        return Ok(());
    }
    let cwd = run.seen()?.cwd.as_str().to_owned();
    ensure!(
        cwd.starts_with('/'),
        "{what}: the working directory is outside of the container: {cwd:?}"
    );
    Ok(())
}

fn cwd_proc_self_fd_run(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    for fd in 3..=20 {
        let path = format!("/proc/self/fd/{fd}");
        c.process().cwd(&path);
        harmless_cwd(&path, &c.run()?)?;
    }
    c.nothing_left()
}

fn cwd_proc_self_fd_exec(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for fd in 3..=20 {
        let path = format!("/proc/self/fd/{fd}");
        harmless_cwd(&path, &c.rt(&["exec", "--cwd", &path, &c.id, "/bin/probe"])?)?;
    }
    Ok(())
}

fn cwd_symlink_to_proc_self_fd(c: &mut Case) -> Check {
    for fd in 3..=12 {
        symlink(format!("/proc/self/fd/{fd}"), c.rootfs(&format!("/link{fd}")))?;
        c.process().cwd(format!("/link{fd}"));
        c.args(&["/bin/probe"]);
        harmless_cwd(&format!("link to fd {fd}"), &c.run()?)?;
    }
    c.nothing_left()
}

fn bind(destination: &str, source: &Path) -> Value {
    json!({"destination": destination, "type": "bind", "source": source.to_string_lossy(), "options": ["bind"]})
}

fn refused(c: &mut Case, mount: Value) -> Check {
    c.mount(mount);
    c.create()?.wants(1)?.refused_with("/proc")?;
    c.nothing_left()
}

fn bind_over_proc_is_refused(c: &mut Case) -> Check {
    // CVE-2019-16884: a volume on /proc takes the writes of labels.
    let fake = folder(c, "fake")?;
    refused(c, bind("/proc", &fake))
}

fn bind_below_proc_is_refused(c: &mut Case) -> Check {
    let fake = folder(c, "fake")?;
    refused(c, bind("/proc/sys", &fake))
}

fn bind_over_proc_meminfo_is_allowed(c: &mut Case) -> Check {
    // lxcfs needs exactly this.
    let file = c.dir.join("meminfo");
    fs::write(&file, "MemTotal: 1 kB\n")?;
    c.mount(bind("/proc/meminfo", &file));
    same("content", "MemTotal: 1 kB", c.sh("cat /proc/meminfo")?.as_str())
}

fn tmpfs_over_proc_self_attr_is_refused(c: &mut Case) -> Check {
    // CVE-2025-52881.
    refused(
        c,
        json!({"destination": "/proc/self/attr", "type": "tmpfs", "source": "t"}),
    )
}

fn without_dev(c: &mut Case) {
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|m| !m["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    }
}

fn entries(dir: &Path) -> Check<Vec<String>> {
    Ok(fs::read_dir(dir)?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect())
}

fn stays_empty(victim: &Path) -> Check {
    same(
        "entries of the host's folder",
        Vec::<String>::new(),
        entries(victim)?,
    )
}

fn dev_symlink_makes_no_nodes_on_the_host(c: &mut Case) -> Check {
    // CVE-2026-41579, CVE-2026-47766: the image's /dev is a link to a folder of the host.
    let victim = folder(c, "victim")?;
    without_dev(c);
    fs::remove_dir(c.rootfs("/dev"))?;
    symlink(from_any_depth(&victim), c.rootfs("/dev"))?;
    c.run()?;
    stays_empty(&victim)
}

fn dev_node_parent_symlink_stays_inside(c: &mut Case) -> Check {
    let victim = folder(c, "victim")?;
    symlink(&victim, c.rootfs("/tmp/link"))?;
    c.linux().devices([Device::new()
        .path("/tmp/link/node")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    c.run()?;
    stays_empty(&victim)
}

fn exec_shows_nobody_with_the_hosts_root(c: &mut Case) -> Check {
    // A process that exec brings in must have left the host's root before a process inside, here one with
    // CAP_SYS_PTRACE, can see it: /proc/PID/root of it is the host.
    c.grant(&["CAP_SYS_PTRACE"]);
    c.args(&["/bin/probe", "--watch-roots"]);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while c.rt(&["exec", &c.id, "/bin/true"])?.ok().is_err() {
        ensure!(
            std::time::Instant::now() < deadline,
            "the container does not come up"
        );
    }
    for _ in 0..30 {
        c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
    }
    // The end of init ends this one too, perhaps before its own.
    c.rt(&["exec", &c.id, "/bin/touch", "/stop"])?;
    same("what was seen", "none\n", live.finish()?.stdout.as_str())
}

fn host_mounts_stay_locked_in_a_user_namespace(c: &mut Case) -> Check {
    // What is read-only on the host stays so, and what a mount of the host covers stays covered, also for
    // root of a user namespace with CAP_SYS_ADMIN (mount_namespaces(7)).
    c.map_ids(100_000)?;
    c.grant(&["CAP_SYS_ADMIN"]);
    let locked = LockedSource::new(c.dir.join("locked"))?;
    c.mount(Mount::bind("/mnt", &locked.0).options(["rbind"]));
    c.shell(
        "mount -o remount,bind,rw /mnt 2>/dev/null; touch /mnt/written 2>/dev/null && echo WRITTEN; \
         umount /mnt/covered 2>/dev/null; cat /mnt/covered/secret 2>/dev/null; echo end",
    );
    let run = c.run();
    drop(locked);
    same(
        "what root in the container could do",
        "end\n",
        run?.ok()?.stdout.as_str(),
    )
}

fn masked_paths_do_not_trust_dev_null(c: &mut Case) -> Check {
    // CVE-2025-31133: /dev/null of a volume is a link to a file that the mask would then expose.
    let dev = folder(c, "dev")?;
    fs::write(c.rootfs("/evil"), "evil")?;
    fs::write(c.rootfs("/etc/secret"), "secret")?;
    symlink("/evil", dev.join("null"))?;
    without_dev(c);
    c.mount(bind("/dev", &dev));
    c.linux().masked_paths(["/etc/secret"]);
    c.args(&[
        "/bin/sh",
        "-c",
        "cat /etc/secret; echo -; echo written > /etc/secret; cat /evil",
    ]);
    let run = c.run()?;
    let exposed = run.code() == 0 && (!run.stdout.starts_with('-') || run.stdout.contains("written"));
    ensure!(!exposed, "the mask of /etc/secret is /evil: {}", run.report());
    ensure!(
        !run.stdout.contains("secret"),
        "the mask is missing: {}",
        run.report()
    );
    same("/evil", "evil", fs::read_to_string(c.rootfs("/evil"))?.as_str())
}

fn console_does_not_follow_links(c: &mut Case) -> Check {
    // CVE-2025-52565 and its kin: /dev/console of a volume is a link.
    let dev = folder(c, "dev")?;
    let victim = c.dir.join("victim");
    fs::write(&victim, "precious")?;
    symlink(&victim, dev.join("console"))?;
    without_dev(c);
    c.mount(bind("/dev", &dev));
    c.mount(
        Mount::new()
            .destination("/dev/pts")
            .kind("devpts")
            .source("devpts")
            .options(["newinstance", "ptmxmode=0666"]),
    );
    c.process().terminal(true);
    c.shell("echo attack > /dev/console");
    let socket = crate::pty::FdSocket::new(c.dir.join("console.sock"))?;
    let live = c.spawn(&c.bundle_args("run", &["-d", "--console-socket", &socket.path_text()], &c.id)?)?;
    let received = socket.receive();
    live.finish()?;
    drop(received);
    same(
        "the host's file",
        "precious",
        fs::read_to_string(&victim)?.as_str(),
    )?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(
        !mounts.contains("victim"),
        "something is mounted on the host's file"
    );
    Ok(())
}

fn masked_path_through_a_symlink_stays_inside(c: &mut Case) -> Check {
    let victim = folder(c, "victim")?;
    fs::write(victim.join("file"), "x")?;
    symlink(&victim, c.rootfs("/link"))?;
    c.linux().masked_paths(["/link", "/link/file"]);
    c.run()?;
    same("the host's folder", vec!["file".to_owned()], entries(&victim)?)?;
    c.nothing_left()
}

fn readonly_path_through_a_symlink_stays_inside(c: &mut Case) -> Check {
    let victim = folder(c, "victim")?;
    symlink(&victim, c.rootfs("/link"))?;
    c.linux().readonly_paths(["/link"]);
    c.run()?;
    fs::write(victim.join("file"), "still writable")?;
    c.nothing_left()
}

fn cwd_is_not_made_on_the_host(c: &mut Case) -> Check {
    let victim = folder(c, "victim")?;
    symlink(&victim, c.rootfs("/link"))?;
    c.process().cwd("/link/made");
    c.run()?;
    stays_empty(&victim)
}

fn bind_target_is_not_made_on_the_host(c: &mut Case) -> Check {
    // CVE-2024-45310, without the race.
    let victim = folder(c, "victim")?;
    let volume = folder(c, "volume")?;
    let file = c.dir.join("file");
    fs::write(&file, "x")?;
    symlink(&victim, volume.join("link"))?;
    c.mount(bind("/vol", &volume));
    c.mount(bind("/vol/link/file", &file));
    c.mount(
        Mount::new()
            .destination("/vol/link/folder/deep")
            .kind("tmpfs")
            .source("t"),
    );
    c.run()?;
    stays_empty(&victim)
}

/// Exchanges VOLUME/dir (a folder) and VOLUME/link (a link to `to`) without pause while `work` runs.
fn while_exchanging(volume: &Path, to: &str, work: impl FnOnce() -> Check) -> Check {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let (folder, link) = (volume.join("dir"), volume.join("link"));
    fs::create_dir(&folder)?;
    symlink(to, &link)?;
    let stop = Arc::new(AtomicBool::new(false));
    let thread = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut turns = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                if renameat2(AT_FDCWD, &folder, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).is_ok() {
                    turns += 1;
                }
            }
            turns
        }
    });
    let result = work();
    stop.store(true, Ordering::Relaxed);
    let turns = thread.join().unwrap_or(0);
    result?;
    ensure!(
        turns > 100,
        "the attacker made only {turns} exchanges: the test shows nothing"
    );
    Ok(())
}

fn rename_race_of_a_mount_target(c: &mut Case) -> Check {
    // CVE-2021-30465: the target of the second mount is exchanged for a link to a folder of the host.
    let volume = folder(c, "volume")?;
    let victim = folder(c, "victim")?;
    fs::create_dir(victim.join("target"))?;
    c.mount(bind("/vol", &volume));
    c.mount(
        Mount::new()
            .destination("/vol/dir/target")
            .kind("tmpfs")
            .source("race"),
    );
    c.args(&["/bin/true"]);
    while_exchanging(&volume, &from_any_depth(&victim), || {
        for _ in 0..25 {
            // Success and refusal are both fine.
            c.run()?;
            let mounts = fs::read_to_string("/proc/self/mountinfo")?;
            ensure!(
                !mounts.contains("victim"),
                "a mount escaped to the host's folder: {mounts}"
            );
        }
        Ok(())
    })?;
    same(
        "entries of the host's folder",
        vec!["target".to_owned()],
        entries(&victim)?,
    )?;
    c.nothing_left()
}

/// A link target that reaches the host's `path` from anywhere below its root.
fn from_any_depth(path: &Path) -> String {
    format!(
        "{}{}",
        "../".repeat(20),
        path.to_string_lossy().trim_start_matches('/')
    )
}

fn mkdir_race_of_a_mount_target(c: &mut Case) -> Check {
    // CVE-2024-45310: folders are made on the host while the path changes.
    let volume = folder(c, "volume")?;
    let victim = folder(c, "victim")?;
    c.mount(bind("/vol", &volume));
    c.mount(
        Mount::new()
            .destination("/vol/dir/a/b/c")
            .kind("tmpfs")
            .source("race"),
    );
    c.args(&["/bin/true"]);
    while_exchanging(&volume, &from_any_depth(&victim), || {
        for _ in 0..25 {
            c.run()?;
            stays_empty(&victim)?;
            fs::remove_dir_all(volume.join("dir/a")).or_else(|e| {
                if e.kind() == std::io::ErrorKind::NotFound {
                    Ok(())
                } else {
                    Err(e)
                }
            })?;
        }
        Ok(())
    })?;
    c.nothing_left()
}

fn mount_with_100_kb_of_options(c: &mut Case) -> Check {
    // CVE-2021-43784: lengths that overflow 16 bits.
    let option = format!("lowerdir={}", "x".repeat(100_000));
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("overlay")
            .source("overlay")
            .options(json!([option])),
    );
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

fn user_mappings_of_100_kb(c: &mut Case) -> Check {
    let ranges: Vec<Value> = (0..3000)
        .map(|n| json!({"containerID": n, "hostID": 100_000 + n * 2, "size": 1}))
        .collect();
    c.join_namespace("user", None);
    c.linux().uid_mappings(&ranges);
    c.linux().gid_mappings(ranges);
    // The kernel takes 340.
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

fn environment_and_args_of_1_mb(c: &mut Case) -> Check {
    let value = "v".repeat(100_000);
    let mut env: Vec<String> = (0..10).map(|n| format!("V{n}={value}")).collect();
    env.push("PATH=/bin".into());
    c.process().env(env);
    same(
        "length of V9",
        "100000",
        c.sh("printf %s \"$V9\" | wc -c")?.as_str(),
    )?;
    // One string of more than 128 KiB is more than execve takes.
    c.process()
        .env(json!(["PATH=/bin", format!("V={}", "v".repeat(200_000))]));
    let run = c.run()?.refused()?;
    // It is execve that fails, and so the container's own process.
    let code = if run.stderr.starts_with("exec ") { 255 } else { 1 };
    same("exit code", code, run.code())?;
    c.nothing_left()
}

fn sys_fs_cgroup_of_the_host_is_not_writable(c: &mut Case) -> Check {
    // CVE-2023-25809: /sys bound from the host, no cgroup namespace.
    c.drop_namespace("cgroup");
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|m| m["destination"] != "/sys");
    }
    c.mount(Mount::bind("/sys", "/sys").options(["rbind", "rro"]));
    let mark = format!("/sys/fs/cgroup/attack-{}", c.id);
    c.args(&["/bin/sh", "-c", &format!("mkdir {mark} && echo made")]);
    let run = c.run()?;
    let made = Path::new(&mark).exists();
    if made {
        fs::remove_dir(&mark)?;
    }
    ensure!(!made, "the container made a cgroup of the host: {}", run.report());
    Ok(())
}

fn state_root_is_private(c: &mut Case) -> Check {
    c.state_root = c.dir.join("made-by-the-runtime");
    c.start_sleeper()?;
    let mode = fs::metadata(c.state_root.join(&c.id))?.mode() & 0o077;
    let root = fs::metadata(&c.state_root)?.mode() & 0o077;
    ensure!(
        mode == 0 || root & 0o011 == 0,
        "others can enter the state folder: modes {root:o} and {mode:o} (group and other)"
    );
    c.delete()?;
    c.nothing_left()
}

/// Who may make folders there may write the record of a container, and have the runtime kill what it names.
fn state_root_of_everybody_is_refused(c: &mut Case) -> Check {
    c.state_root = c.dir.join("shared");
    fs::create_dir(&c.state_root)?;
    fs::set_permissions(&c.state_root, fs::Permissions::from_mode(0o1777))?;
    c.args(&["true"]);
    c.create()?.wants(1)?.refused()?;
    c.nothing_left()
}

/// Every command that would act on a container, with its words after the id.
const ACTING: [(&str, &[&str]); 10] = [
    ("start", &[]),
    ("exec", &["true"]),
    ("pause", &[]),
    ("resume", &[]),
    ("update", &["--pids-limit", "7"]),
    ("events", &["--stats"]),
    ("kill", &["KILL"]),
    ("delete", &[]),
    ("delete", &["--force"]),
    ("checkpoint", &[]),
];

fn act(c: &Case, (command, words): (&str, &[&str])) -> Check<Run> {
    let mut line = vec![command];
    line.extend(words.iter().filter(|word| word.starts_with('-')));
    // The value of a flag stands after it.
    line.extend(words.iter().filter(|word| **word == "7"));
    line.push(&c.id);
    line.extend(
        words
            .iter()
            .filter(|word| !word.starts_with('-') && **word != "7"),
    );
    c.rt(&line)
}

/// A container whose state was given to a user: who could have written anything there, hooks for one.
fn state_of_another_user_is_only_looked_at(c: &mut Case) -> Check {
    let witness = c.dir.join("hook-ran");
    let hook = json!([{"path": "/bin/touch", "args": ["touch", witness]}]);
    c.hooks().clear().poststart(&hook).poststop(hook);
    c.args(&["sleep", "600"]);
    c.create()?.ok()?;
    let state = c.state_root.join(&c.id);
    give(&state)?;
    let pid = c.pid()?;
    same("it is shown", "created", c.status()?.as_str())?;
    c.rt(&["list"])?.ok()?;
    for command in ACTING {
        // The exit code of a failing exec is another one.
        let run = act(c, command)?;
        ensure!(run.code() != 0, "{command:?}: {}", run.report());
        ensure!(!witness.exists(), "{command:?} has run a hook");
        same(command.0, "created", c.status()?.as_str())?;
    }
    same("pid", pid, c.pid()?)?;
    std::os::unix::fs::chown(&state, Some(0), Some(0))?;
    c.rt(&["start", &c.id])?.ok()?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    ensure!(witness.exists(), "the hooks did not run when it was root's again");
    c.nothing_left()
}

/// The user writes a record, in a directory of the user's own, that names a process of root's and a hook.
fn state_root_of_another_user_with_forged_state(c: &mut Case) -> Check {
    let witness = c.dir.join("hook-ran");
    let hook = json!([{"path": "/bin/touch", "args": ["touch", witness]}]);
    c.hooks().clear().poststop(hook);
    c.start_sleeper()?;
    let (own, forged) = (c.state_root.clone(), c.dir.join("forged"));
    let copy = forged.join(&c.id);
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(own.join(&c.id))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    give(&forged)?;
    c.state_root = forged;
    let acted: Check = ACTING.iter().try_for_each(|command| {
        let run = act(c, *command)?;
        ensure!(
            run.code() != 0 && !witness.exists(),
            "{command:?}: {}",
            run.report()
        );
        Ok(())
    });
    fs::remove_dir_all(&c.state_root)?;
    c.state_root = own;
    acted?;
    same("root's own container", "running", c.status()?.as_str())
}

/// A link of the user's leads to a directory of root's, in which there is one of root's that everybody may
/// write to, as /var/tmp is.
fn forged_state_in_a_directory_that_all_may_write_to(c: &mut Case) -> Check {
    let witness = c.dir.join("hook-ran");
    let hook = json!([{"path": "/bin/touch", "args": ["touch", witness]}]);
    c.hooks().clear().poststop(hook);
    c.start_sleeper()?;
    let state = c.state_root.join(&c.id);
    let mode = fs::metadata(&state)?.permissions();
    for forgeable in [0o1777, 0o775] {
        fs::set_permissions(&state, fs::Permissions::from_mode(forgeable))?;
        for command in ACTING {
            let run = act(c, command)?;
            ensure!(
                run.code() != 0 && !witness.exists(),
                "{forgeable:o}, {command:?}: {}",
                run.report()
            );
        }
        same("status", "running", c.status()?.as_str())?;
    }
    fs::set_permissions(&state, mode)?;
    c.delete()?;
    ensure!(
        witness.exists(),
        "the hook did not run when only root could write"
    );
    c.nothing_left()
}

/// U+009B begins a sequence of the terminal's as ESC [ does. JSON can say it in ASCII.
fn annotations_do_not_speak_to_the_terminal(c: &mut Case) -> Check {
    let text = "\u{9b}31m\u{1b}]0;x\u{7f}\u{85}ü";
    c.document().annotations(json!({"image.says": text}));
    c.start_sleeper()?;
    same(
        "annotation",
        text,
        c.state()?["annotations"]["image.says"]
            .as_str()
            .unwrap_or_default(),
    )?;
    for words in [vec!["state", c.id.as_str()], vec!["list", "--format", "json"]] {
        let run = c.rt(&words)?.ok()?;
        let spoken = run
            .stdout
            .chars()
            .find(|letter| letter.is_control() && *letter != '\n');
        ensure!(spoken.is_none(), "{words:?} prints {spoken:?}");
        ensure!(run.stdout.contains("image.says"), "{words:?}: {}", run.report());
    }
    Ok(())
}

/// `mkdir DIRECTORY; sudo onggi --root DIRECTORY run`: what root makes in there is root's.
fn state_root_that_a_user_has_made_for_root(c: &mut Case) -> Check {
    c.state_root = c.dir.join("of-a-user");
    fs::create_dir(&c.state_root)?;
    give(&c.state_root)?;
    c.start_sleeper()?;
    c.rt(&["exec", &c.id, "true"])?.ok()?;
    c.delete()?;
    c.nothing_left()
}

type Maker = fn(&Path) -> std::io::Result<()>;

/// HOME is looked up in the image's file; one without end, or one whose opening waits, must not hold the
/// runtime.
fn passwd_that_is_no_small_file(c: &mut Case) -> Check {
    let passwd = c.rootfs("/etc/passwd");
    let makers: [(&str, Maker); 4] = [
        ("sparse file of a terabyte", |path| {
            fs::File::create(path)?.set_len(1 << 40)
        }),
        ("fifo", |path| {
            Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR)?)
        }),
        ("folder", |path| fs::create_dir(path)),
        ("link to /dev/zero", |path| symlink("/dev/zero", path)),
    ];
    c.process().env(["PATH=/bin"]);
    for (what, make) in makers {
        if passwd.symlink_metadata().is_ok_and(|status| status.is_dir()) {
            fs::remove_dir(&passwd)?;
        } else {
            fs::remove_file(&passwd)?;
        }
        make(&passwd)?;
        let env = c.probe(&[])?.env.clone();
        ensure!(
            env.iter().any(|entry| entry == "HOME=/"),
            "/etc/passwd is a {what}: {env:?}"
        );
    }
    Ok(())
}

/// The hook's program is the image's, as the process is.
fn start_container_hook_is_under_the_filter(c: &mut Case) -> Check {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .syscalls([Syscall::new()
            .names(["mkdir", "mkdirat"])
            .action("SCMP_ACT_ERRNO")
            .errno_ret(1)]);
    c.document().root().readonly(false);
    c.hooks()
        .clear()
        .start_container([Hook::new()
            .path("/bin/busybox")
            .args(["sh", "-c", "mkdir /made 2>/seen; true"])]);
    c.args(&["true"]);
    c.run()?.ok()?;
    ensure!(c.rootfs("/seen").exists(), "the hook did not run");
    ensure!(!c.rootfs("/made").exists(), "the hook ran without the filter");
    Ok(())
}

fn root_slash_is_refused(c: &mut Case) -> Check {
    let mut command = c.host.runtime_command();
    command
        .args(["--root", "/", "list"])
        .stdin(std::process::Stdio::null());
    crate::runner::start(&mut command, &c.dir)?
        .finish()?
        .wants(1)?
        .refused()?;
    Ok(())
}

//! An ordinary user runs the runtime (`user.rs`): with one id, with subordinate ids, as root of a user
//! namespace, with and without a cgroup that was delegated.

use super::{RANGES, map, ordinary_user, user, user_with_ranges};
use crate::{
    case::Case,
    config::{Device, Mount, Rlimit, Syscall},
    need::Need,
    outcome::{Check, Stop, contains, ensure, fail, same},
    pty::{FdSocket, Master},
    runner::{self, Run},
    tests::security::LockedSource,
    user::{COUNT, FIRST, UID, give},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

tests! {
    rootless/single_mapping,
    rootless/credentials_and_capabilities,
    rootless/files_belong_to_the_user,
    rootless/lifecycle,
    rootless/exec,
    rootless/exec_of_unmapped_user_is_refused,
    rootless/terminal,
    rootless/default_devices,
    rootless/devices_of_the_container,
    rootless/masked_and_readonly_paths,
    rootless/bind_mount,
    rootless/host_mounts_stay_locked,
    rootless/sysfs_without_network_namespace,
    rootless/proc_without_pid_namespace,
    rootless/devpts_with_unmapped_group,
    rootless/hooks,
    rootless/seccomp_without_no_new_privs,
    rootless/seccomp_notify,
    rootless/time_offsets,
    rootless/tmpcopyup_of_files_of_others,
    rootless/no_user_namespace_is_refused,
    rootless/groups_of_single_mapping_are_refused,
    rootless/ids_of_others_are_refused,
    rootless/idmapped_mount_is_refused,
    rootless/raised_limit_is_refused,
    rootless/lowered_oom_score_is_left_alone,
    rootless/no_cgroup,
    rootless/pause_without_cgroup_is_refused,
    rootless/limit_without_cgroup_is_refused,
    rootless/cgroups_path_without_rights_is_refused,
    rootless/false_needs_a_cgroup,
    rootless/cgroup_of_the_host_is_not_writable,
    rootless/default_root,
    rootless/no_xdg_runtime_dir,
    rootless/spec,
}

tests! {
    rootless/newuidmap_is_missing: &[Program("newuidmap")],
    rootless/many_ranges: RANGES,
    rootless/root_is_a_subordinate_id: RANGES,
    rootless/groups_of_many_ranges: RANGES,
    rootless/ranges_of_others_are_refused: RANGES,
    rootless/delegated_cgroup: DELEGATED,
    rootless/cgroups_of_subordinate_ids: CLOSED,
    rootless/root_of_a_user_namespace: NESTED,
    rootless/default_root_of_a_user_namespace: NESTED,
    rootless/root_of_a_user_namespace_without_mounts: NESTED,
    rootless/joined_pid_namespace: NESTED,
    rootless/user_namespaces_disabled: NESTED,
}

const DELEGATED: &[Need] = &[
    Need::Controller("hugetlb"),
    Need::Program("setpriv"),
    Need::Program("unshare"),
];
const CLOSED: &[Need] = &[
    Need::Controller("hugetlb"),
    Need::Program("newuidmap"),
    Need::Program("setpriv"),
    Need::Program("unshare"),
];
const NESTED: &[Need] = &[Need::Program("unshare")];

/// Numbers of a map as one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn single_mapping(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let maps = c.sh("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")?;
    same("maps", format!("0 {UID} 1 0 {UID} 1 deny"), line(&maps))
}

fn credentials_and_capabilities(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let report = c.probe(&[])?;
    same("uids", [0, 0, 0], report.uids)?;
    same("gids", [0, 0, 0], report.gids)?;
    same("no_new_privs", 1, report.no_new_privs)?;
    // CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE, as in config.json.
    let sets = c.sh("grep -E 'Cap(Bnd|Eff)' /proc/self/status")?;
    same(
        "sets",
        "CapEff: 0000000020000420 CapBnd: 0000000020000420".to_owned(),
        line(&sets),
    )
}

fn files_belong_to_the_user(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.sh("touch /made")?;
    let made = fs::metadata(c.rootfs("/made"))?;
    same("owner", (UID, UID), (made.uid(), made.gid()))
}

fn lifecycle(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    same("status", "created".to_owned(), c.status()?)?;
    c.rt(&["start", &c.id])?.ok()?;
    same("status", "running".to_owned(), c.status()?)?;
    let owner = fs::metadata(format!("/proc/{}", c.pid()?))?.uid();
    same("owner of the process", UID, owner)?;
    contains("list", &c.rt(&["list", "-q"])?.ok()?.stdout, &c.id)?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["delete", &c.id])?.ok()?;
    c.nothing_left()
}

fn exec(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.start_sleeper()?;
    let report = c.exec_probe(&["--cwd", "/tmp", "--env", "A=b"], &[])?;
    same("uids", [0, 0, 0], report.uids)?;
    same("cwd", "/tmp", report.cwd.as_str())?;
    c.rt(&["exec", &c.id, "/bin/false"])?.wants(1)?;
    Ok(())
}

fn exec_of_unmapped_user_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.start_sleeper()?;
    let run = c.rt(&["exec", "--user", "1000", &c.id, "/bin/true"])?;
    ensure!(run.code() != 0, "wish: an error\n    reality: {}", run.report());
    Ok(())
}

fn terminal(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.process().terminal(true);
    let socket = FdSocket::new(c.dir.join("console.sock"))?;
    fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o777))?;
    c.shell("test -t 0 && stty size >/dev/null && echo has a terminal; sleep 1000");
    c.create_with(&["--console-socket", &socket.path_text()])?.ok()?;
    let Some(fd) = socket.receive()?.fds.pop() else {
        return fail("no descriptor came");
    };
    let mut master = Master::new(fd);
    c.rt(&["start", &c.id])?.ok()?;
    master.expect("has a terminal")?;
    Ok(())
}

fn default_devices(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let written = c.sh(
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c; ls /dev/full /dev/random /dev/urandom /dev/tty",
    )?;
    contains("bytes of /dev/zero", &written, "4")?;
    let report = c.probe(&["--stat", "/dev/null", "--mknod"])?;
    let node = &report.stat["/dev/null"];
    same(
        "/dev/null",
        ("char", Some(1), Some(3)),
        (node.kind.as_str(), node.major, node.minor),
    )
}

/// What engines list for privileged containers: the container's own ptmx counts, and what is mounted on a
/// directory.
fn devices_of_the_container(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.linux().devices([
        Device::new()
            .path("/dev/ptmx")
            .kind("c")
            .major(5)
            .minor(2)
            .file_mode(0o666)
            .uid(0)
            .gid(5),
        Device::new()
            .path("/dev/shm")
            .kind("c")
            .major(1)
            .minor(3)
            .file_mode(0o666),
    ]);
    let said = c.sh("readlink /dev/ptmx; stat -c %F /dev/shm")?;
    ensure!(
        ["pts/ptmx\ndirectory", "/dev/pts/ptmx\ndirectory"].contains(&said.as_str()),
        "{said:?}"
    );
    Ok(())
}

fn masked_and_readonly_paths(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let text = c.sh("wc -c < /proc/keys; touch /proc/sys/kernel/hostname || echo read-only")?;
    ensure!(
        text.starts_with('0'),
        "wish: /proc/keys is empty\n    reality: {text}"
    );
    contains("writing below /proc/sys", &text, "read-only")
}

fn bind_mount(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let volume = c.dir.join("volume");
    fs::create_dir_all(volume.join("deep"))?;
    fs::write(volume.join("deep/file"), "from the host")?;
    give(&volume)?;
    // Others than the user may not even enter it.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o700))?;
    c.mount(Mount::bind("/data", volume).options(["rbind", "ro", "nosuid"]));
    let text =
        c.sh("cat /data/deep/file; touch /data/x || echo read-only; grep ' /data ' /proc/self/mountinfo")?;
    contains("content", &text, "from the host")?;
    contains("write", &text, "read-only")?;
    contains("attributes", &text, "ro,nosuid")
}

fn host_mounts_stay_locked(c: &mut Case) -> Check {
    // The same as security/host_mounts_stay_locked_in_a_user_namespace, where the runtime itself has no
    // rights.
    ordinary_user(c)?;
    c.grant(&["CAP_SYS_ADMIN"]);
    let locked = LockedSource::new(c.dir.join("locked"))?;
    c.mount(Mount::bind("/data", &locked.0).options(["rbind"]));
    let text = c.sh("mount -o remount,rw,bind /data; touch /data/x && echo writable; \
         umount /data/covered; cat /data/covered/secret; echo end");
    drop(locked);
    same("what root in the container could do", "end".to_owned(), text?)
}

fn sysfs_without_network_namespace(c: &mut Case) -> Check {
    // The host's network namespace belongs to the host's user namespace, so a new sysfs is refused to the
    // user's.
    ordinary_user(c)?;
    c.drop_namespace("network");
    let text = c.sh("test -d /sys/class && echo there; mkdir /sys/fs/cgroup/made && echo made; grep ' /sys ' /proc/self/mountinfo")?;
    contains("/sys", &text, "there")?;
    contains("options", &text, " /sys ro,nosuid,nodev,noexec,")?;
    contains("type", &text, " - sysfs ")?;
    ensure!(
        !text.contains("made"),
        "wish:    nothing can be made below /sys\n    reality: {text}"
    );
    Ok(())
}

fn proc_without_pid_namespace(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.drop_namespace("pid");
    contains("/proc/self/status", &c.sh("cat /proc/self/status")?, "Name:")
}

fn devpts_with_unmapped_group(c: &mut Case) -> Check {
    ordinary_user(c)?;
    for entry in c.config["mounts"].as_array_mut().into_iter().flatten() {
        if let (Some("devpts"), Some(options)) = (
            entry["type"].as_str().map(str::to_owned).as_deref(),
            entry["options"].as_array_mut(),
        ) {
            options.push(json!("gid=5"));
        }
    }
    contains("/dev/pts", &c.sh("grep ' /dev/pts ' /proc/mounts")?, "devpts")
}

fn hooks(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let file = c.dir.join("hook");
    let note = |name: &str| format!("id -u >> {}; echo {name} >> {}", file.display(), file.display());
    let hook = |line: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]}]);
    c.hooks()
        .clear()
        .create_runtime(hook(note("runtime")))
        .create_container(hook(note("container")))
        .poststop(hook(note("stop")));
    c.sh("true")?;
    let text = fs::read_to_string(&file)?;
    same(
        "hooks",
        format!("{UID} runtime 0 container {UID} stop"),
        line(&text),
    )
}

fn seccomp_without_no_new_privs(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.process().no_new_privileges(false);
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .syscalls([Syscall::new()
            .names(["mkdir", "mkdirat"])
            .action("SCMP_ACT_ERRNO")
            .errno_ret(77)]);
    let text = c.sh("mkdir /x 2>&1 || true; grep Seccomp: /proc/self/status")?;
    contains("filter mode", &text, "2")
}

fn seccomp_notify(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let socket = FdSocket::new(c.dir.join("agent.sock"))?;
    fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o777))?;
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .listener_path(socket.path_text())
        .syscalls([Syscall::new()
            .names(["mkdir", "mkdirat"])
            .action("SCMP_ACT_NOTIFY")]);
    c.shell("mkdir /made; echo done");
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    let received = socket.receive()?;
    same("descriptors", 1, received.fds.len())?;
    // Without a listener the call is ENOSYS.
    drop(received);
    let run = live.finish()?.ok()?;
    same("output", "done", run.stdout.trim())?;
    ensure!(!c.rootfs("/made").exists(), "the call was not filtered");
    Ok(())
}

fn time_offsets(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.join_namespace("time", None);
    c.linux().time_offsets(json!({"boottime": {"secs": 1_000_000}}));
    let text = c.sh("cat /proc/uptime")?;
    let uptime: u64 = text.split('.').next().unwrap_or_default().parse()?;
    ensure!(
        uptime >= 1_000_000,
        "wish:    an uptime of 1000000 s and more\n    reality: {text}"
    );
    Ok(())
}

fn tmpcopyup_of_files_of_others(c: &mut Case) -> Check {
    // Files of an id that the container does not have can be copied, but not be given away.
    ordinary_user(c)?;
    fs::write(c.rootfs("/etc/of-root"), "content")?;
    c.mount(
        Mount::new()
            .destination("/etc")
            .kind("tmpfs")
            .source("tmpfs")
            .options(["tmpcopyup"]),
    );
    same("file", "content".to_owned(), c.sh("cat /etc/of-root")?)
}

fn no_user_namespace_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.drop_namespace("user");
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    c.run()?
        .refused_with("rootless container requires user namespaces")?;
    c.nothing_left()
}

fn groups_of_single_mapping_are_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.process().user().additional_gids([10]);
    c.run()?.refused()?;
    c.nothing_left()
}

fn ids_of_others_are_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    map(c, &json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    let run = c.run()?;
    ensure!(run.code() != 0, "wish: an error\n    reality: {}", run.report());
    c.nothing_left()
}

fn idmapped_mount_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let map = json!([{"containerID": 0, "hostID": UID, "size": 1}]);
    c.mount(
        Mount::bind("/data", &c.dir)
            .options(["bind"])
            .uid_mappings(&map)
            .gid_mappings(map),
    );
    c.run()?.refused()?;
    c.nothing_left()
}

fn raised_limit_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.process()
        .rlimits([Rlimit::new().kind("RLIMIT_NOFILE").hard(1 << 25).soft(1024)]);
    c.run()?.refused()?;
    c.nothing_left()
}

fn lowered_oom_score_is_left_alone(c: &mut Case) -> Check {
    // Engines write the same value whoever runs them; an ordinary user may not go below their own.
    ordinary_user(c)?;
    c.process().oom_score_adj(-500);
    let own = fs::read_to_string("/proc/self/oom_score_adj")?.trim().to_owned();
    if own == "-500" || own == "-1000" {
        return Err(Stop::Unsupported(
            "the suite's own oom_score_adj is as low".into(),
        ));
    }
    same("oom_score_adj", own, c.sh("cat /proc/self/oom_score_adj")?)
}

fn no_cgroup(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.start_sleeper()?;
    let cgroup_of = |pid: &str| -> Check<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Ok(text
            .lines()
            .find(|line| line.starts_with("0::"))
            .unwrap_or_default()
            .to_owned())
    };
    same("cgroup", cgroup_of("self")?, cgroup_of(&c.pid()?.to_string())?)?;
    c.delete()?;
    c.nothing_left()
}

fn pause_without_cgroup_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.start_sleeper()?;
    let run = c.rt(&["pause", &c.id])?;
    ensure!(
        run.code() == 1,
        "wish: exit code 1\n    reality: {}",
        run.report()
    );
    same("status", "running".to_owned(), c.status()?)
}

fn limit_without_cgroup_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.resources().clear().pids().limit(10);
    c.run()?.refused_with("pids")?;
    c.nothing_left()
}

fn cgroups_path_without_rights_is_refused(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let path = format!("/{}", c.id);
    c.linux().cgroups_path(&path);
    c.run()?.refused_with(&path)?;
    c.nothing_left()
}

fn false_needs_a_cgroup(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let words: Vec<_> = ["--rootless", "false"]
        .iter()
        .map(std::ffi::OsString::from)
        .collect();
    let run = c.rt(&[words, c.bundle_args("run", &[], &c.id)?].concat())?;
    ensure!(run.code() != 0, "wish: an error\n    reality: {}", run.report());
    c.nothing_left()
}

fn cgroup_of_the_host_is_not_writable(c: &mut Case) -> Check {
    // CVE-2023-25809: neither through the bind of /sys nor through the cgroup mount, and the user has a
    // cgroup to write to.
    ordinary_user(c)?;
    let name = c.id.replace("st", "st-own-");
    let own = c.host.cgroup2.join(&name);
    fs::create_dir(&own)?;
    give_directory(&own)?;
    c.drop_namespace("network").drop_namespace("cgroup");
    for entry in c.config["mounts"].as_array_mut().into_iter().flatten() {
        if entry["destination"] == "/sys" {
            *entry = json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        }
    }
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(["nosuid", "noexec", "nodev", "relatime", "ro"]),
    );
    let inside = format!("/sys/fs/cgroup/{name}/made");
    let run = {
        c.shell(&format!("mkdir {inside} /sys/fs/cgroup/made && echo made; true"));
        c.run()?.ok()?
    };
    let made = own.join("made").exists();
    if made {
        fs::remove_dir(own.join("made"))?;
    }
    fs::remove_dir(&own)?;
    ensure!(
        !made && !run.stdout.contains("made"),
        "wish:    no cgroup can be made\n    reality: {}",
        run.report()
    );
    Ok(())
}

fn give_directory(dir: &std::path::Path) -> Check {
    for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        std::os::unix::fs::chown(dir.join(name), Some(UID), Some(UID))?;
    }
    Ok(())
}

fn default_root(c: &mut Case) -> Check {
    ordinary_user(c)?;
    c.args(&["/bin/true"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = user(c)?.command();
    command
        .current_dir(&c.dir)
        .stdin(std::process::Stdio::null())
        .args(words);
    runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    let root = user(c)?.runtime_dir().join(&c.host.runtime_name);
    let found = fs::metadata(&root)?;
    same("mode and owner", (0o41700, UID), (found.mode(), found.uid()))
}

fn no_xdg_runtime_dir(c: &mut Case) -> Check {
    ordinary_user(c)?;
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = user(c)?.command();
    command
        .current_dir(&c.dir)
        .stdin(std::process::Stdio::null())
        .env_remove("XDG_RUNTIME_DIR")
        .args(words);
    runner::start(&mut command, &c.dir)?.finish()?.refused()?;
    Ok(())
}

fn spec(c: &mut Case) -> Check {
    // What `spec --rootless` writes runs as it is, but for the program and the terminal that the suite does
    // not have.
    ordinary_user(c)?;
    let bundle = c.bundle.to_string_lossy().into_owned();
    c.rt(&["spec", "--rootless", "--bundle", &bundle])?.ok()?;
    let file = c.bundle.join("config.json");
    same("owner", UID, fs::metadata(&file)?.uid())?;
    let mut written: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let map = json!([{"containerID": 0, "hostID": UID, "size": 1}]);
    same(
        "uidMappings",
        map.clone(),
        written["linux"]["uidMappings"].clone(),
    )?;
    same("gidMappings", map, written["linux"]["gidMappings"].clone())?;
    let mut kinds: Vec<_> = written["linux"]["namespaces"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    kinds.sort_by_key(|kind| kind["type"].to_string());
    let kinds: Vec<_> = kinds.iter().map(|kind| kind["type"].clone()).collect();
    same(
        "namespaces",
        json!(["cgroup", "ipc", "mount", "pid", "user", "uts"]),
        json!(kinds),
    )?;
    same("resources", Value::Null, written["linux"]["resources"].clone())?;
    written["process"]["terminal"] = json!(false);
    written["process"]["args"] = json!(["/bin/id", "-u"]);
    written["process"]["cwd"] = json!("/");
    written["process"]["env"] = json!(["PATH=/bin"]);
    c.config = written;
    same("output", "0", c.run()?.ok()?.stdout.trim())
}

fn newuidmap_is_missing(c: &mut Case) -> Check {
    ordinary_user(c)?;
    user(c)?.path = "/nonexistent".into();
    map(
        c,
        &json!([
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": FIRST, "size": COUNT}
        ]),
    );
    contains("message", &c.run()?.wants(1)?.stderr, "newuidmap")?;
    c.nothing_left()
}

fn many_ranges(c: &mut Case) -> Check {
    user_with_ranges(c)?;
    let maps = c.sh("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; touch /made")?;
    let both = format!("0 {UID} 1 1 {FIRST} {COUNT}");
    same("maps", format!("{both} {both} allow"), line(&maps))?;
    c.process().user().clear().uid(1000).gid(1000);
    fs::set_permissions(c.rootfs("/tmp"), fs::Permissions::from_mode(0o1777))?;
    same("id", "1000".to_owned(), c.sh("touch /tmp/of-alice; id -u")?)?;
    let made = fs::metadata(c.rootfs("/tmp/of-alice"))?;
    same(
        "owner on the host",
        (FIRST + 999, FIRST + 999),
        (made.uid(), made.gid()),
    )
}

fn root_is_a_subordinate_id(c: &mut Case) -> Check {
    // The container's root is not the user, and may not enter the user's folders.
    user_with_ranges(c)?;
    map(c, &json!([{"containerID": 0, "hostID": FIRST, "size": COUNT}]));
    let maps = c.sh("cat /proc/self/uid_map; id -u")?;
    same("map and id", format!("0 {FIRST} {COUNT} 0"), line(&maps))
}

fn groups_of_many_ranges(c: &mut Case) -> Check {
    user_with_ranges(c)?;
    c.process().user().additional_gids([10, 20]);
    let report = c.probe(&[])?;
    same("groups", vec![10, 20], report.groups.clone())
}

fn ranges_of_others_are_refused(c: &mut Case) -> Check {
    user_with_ranges(c)?;
    map(
        c,
        &json!([
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": FIRST + COUNT, "size": 10}
        ]),
    );
    contains("message", &c.run()?.wants(1)?.stderr, "not allowed")?;
    c.nothing_left()
}

fn delegated_cgroup(c: &mut Case) -> Check {
    ordinary_user(c)?;
    below_a_delegated_one(c, in_delegated)
}

/// Runs the body with what systemd makes for a user: a cgroup with controllers, its directory and three files
/// the user's.
fn below_a_delegated_one(c: &mut Case, body: fn(&mut Case, &std::path::Path) -> Check) -> Check {
    let top = c.host.cgroup2.join(c.id.replace("st", "st-delegated-"));
    let result = body(c, &top);
    if result.is_err() {
        // The runtime may have left the container somewhere else.
        let _shows_in_the_leak_check = c.delete();
    }
    for dir in [top.join("app"), top.clone()] {
        let _shows_in_the_leak_check = fs::remove_dir(dir);
    }
    result
}

/// A container with a cgroup tree of its own, in which a user of it has made cgroups that are closed to all
/// others: to the ordinary user, too, who started the container.
fn cgroups_of_subordinate_ids(c: &mut Case) -> Check {
    user_with_ranges(c)?;
    below_a_delegated_one(c, with_closed_cgroups)
}

fn with_closed_cgroups(c: &mut Case, top: &std::path::Path) -> Check {
    delegate(c, top)?;
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(["nosuid", "noexec", "nodev", "relatime", "rw"]),
    );
    // As a service manager of a user in the container has it: a cgroup of that user's, and closed ones below
    // it.
    c.process().capabilities().clear();
    c.grant(&[
        "CAP_CHOWN",
        "CAP_FOWNER",
        "CAP_DAC_OVERRIDE",
        "CAP_SETUID",
        "CAP_SETGID",
    ]);
    c.shell(
        "cd /sys/fs/cgroup && mkdir -p alice/a/b alice/c bob && sleep 1000 & cd /sys/fs/cgroup; \
         until test -d bob; do usleep 1000; done; echo $! > alice/a/b/cgroup.procs && \
         for d in alice/a/b alice/a alice/c alice bob; do chown 1000:1000 $d && chmod 700 $d; done && echo done; \
         exec sleep 1000",
    );
    let run = c.rt(&c.bundle_args("run", &["--detach"], &c.id)?)?.ok()?;
    let output = || Ok(fs::read_to_string(&run.stdout_file)?.trim() == "done");
    c.wait_until("the container to have made its cgroups", output)?;
    let pids = c.rt(&["ps", "--format", "json", &c.id])?.ok()?.json()?;
    same("number of processes", Some(2), pids.as_array().map(Vec::len))?;
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    let own = top.join(&c.id);
    ensure!(!own.exists(), "wish: {} is gone", own.display());
    c.nothing_left()
}

/// Makes the cgroup `top` with `app` in it, in which the user starts containers.
fn delegate(c: &mut Case, top: &std::path::Path) -> Check {
    fs::write(c.host.cgroup2.join("cgroup.subtree_control"), "+hugetlb")?;
    fs::create_dir_all(top.join("app"))?;
    fs::write(top.join("cgroup.subtree_control"), "+hugetlb")?;
    give_directory(top)?;
    give_directory(&top.join("app"))?;
    user(c)?.cgroup = Some(top.join("app"));
    Ok(())
}

fn in_delegated(c: &mut Case, top: &std::path::Path) -> Check {
    delegate(c, top)?;
    c.resources()
        .clear()
        .unified(json!({"hugetlb.2MB.max": "4194304"}));
    c.args(&["/bin/sleep", "1000"]);
    let run = c.rt(&c.bundle_args("run", &["--detach"], &c.id)?)?.ok()?;
    let own = top.join(&c.id);
    let value = fs::read_to_string(own.join("hugetlb.2MB.max")).unwrap_or_default();
    same("hugetlb.2MB.max", ("4194304", 0), (value.trim(), run.code()))?;
    same(
        "processes",
        c.pid()?.to_string(),
        fs::read_to_string(own.join("cgroup.procs"))?.trim().to_owned(),
    )?;
    let inside = c.rt(&["exec", &c.id, "/bin/cat", "/proc/self/cgroup"])?.ok()?;
    contains("cgroup of exec", &inside.stdout, "0::/\n")?;
    c.rt(&["pause", &c.id])?.ok()?;
    same("status", "paused".to_owned(), c.status()?)?;
    c.rt(&["resume", &c.id])?.ok()?;
    c.delete()?;
    ensure!(!own.exists(), "wish: {} is gone", own.display());
    Ok(())
}

/// A config.json as rootless Podman and Docker write it: they have entered their user namespace already.
fn run_nested(c: &mut Case, words: &[&str]) -> Check<Run> {
    ordinary_user(c)?;
    without_user_namespace(c);
    c.shell("id -u; cat /proc/self/uid_map; ls -l /dev/null; test -d /sys/class && echo sysfs");
    run_behind(c, words)
}

fn without_user_namespace(c: &mut Case) {
    c.drop_namespace("user");
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
}

fn run_behind(c: &mut Case, words: &[&str]) -> Check<Run> {
    let arguments = c.bundle_args("run", &[], &c.id)?;
    let mut command = user(c)?.command_behind(words);
    command
        .arg("--root")
        .arg(&c.state_root)
        .args(arguments)
        .current_dir(&c.dir)
        .stdin(std::process::Stdio::null());
    runner::start(&mut command, &c.dir)?.finish()
}

fn check_nested(run: Run) -> Check {
    let run = run.ok()?;
    let text = line(&run.stdout);
    ensure!(
        text.starts_with(&format!("0 0 {UID} 1 crw-rw-rw-")) && text.ends_with("sysfs"),
        "wish:    root, the map, /dev/null, /sys\n    reality: {}",
        run.report()
    );
    Ok(())
}

fn root_of_a_user_namespace(c: &mut Case) -> Check {
    let run = run_nested(c, &["unshare", "--user", "--map-root-user", "--mount"])?;
    check_nested(run)
}

fn root_of_a_user_namespace_without_mounts(c: &mut Case) -> Check {
    // Root of a user namespace, in a mount namespace that belongs to another.
    let run = run_nested(c, &["unshare", "--user", "--map-root-user"])?;
    check_nested(run)
}

fn joined_pid_namespace(c: &mut Case) -> Check {
    // As Podman of an ordinary user does it for `--pid container:NAME`: the pid namespace belongs to the user
    // namespace that the runtime is in, the runtime's own pid namespace to one above.
    let script = "unshare --pid=\"$1\" --fork --kill-child sleep 1000 </dev/null >/dev/null 2>&1 &
        until grep -qF \" $1 \" /proc/self/mountinfo; do sleep 0.1; done
        stat -Lc 'pid:[%i]' \"$1\"; shift; \"$@\"; code=$?; kill -KILL $!; exit $code";
    let dir = c.dir.join("namespaces");
    fs::create_dir(&dir)?;
    std::os::unix::fs::chown(&dir, Some(UID), Some(UID))?;
    let file = dir.join("pid").to_string_lossy().into_owned();
    fs::write(&file, "")?;
    std::os::unix::fs::chown(&file, Some(UID), Some(UID))?;
    c.join_namespace("pid", Some(&file));
    let words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        &file,
    ];
    ordinary_user(c)?;
    without_user_namespace(c);
    c.shell("readlink /proc/self/ns/pid");
    let run = run_behind(c, &words)?.ok()?;
    let lines: Vec<_> = run.stdout.lines().collect();
    ensure!(
        lines.len() == 2 && lines.first() == lines.last(),
        "wish:    the pid namespace given, and the same inside\n    reality: {}",
        run.report()
    );
    Ok(())
}

fn default_root_of_a_user_namespace(c: &mut Case) -> Check {
    // Podman gives `start` and `delete` XDG_RUNTIME_DIR, but not USER, by which `create` knows that root is a
    // user.
    ordinary_user(c)?;
    map(c, &json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    c.args(&["/bin/true"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = user(c)?.command_behind(&["unshare", "--user", "--map-root-user", "--mount"]);
    command
        .current_dir(&c.dir)
        .stdin(std::process::Stdio::null())
        .env_remove("USER")
        .args(words);
    runner::start(&mut command, &c.dir)?.finish()?.ok()?;
    let root = user(c)?.runtime_dir().join(&c.host.runtime_name);
    same("owner of the state root", UID, fs::metadata(&root)?.uid())
}

fn user_namespaces_disabled(c: &mut Case) -> Check {
    // The limit of a user namespace of its own, so that the host's stays as it is.
    ordinary_user(c)?;
    map(c, &json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    let line = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let run = run_behind(
        c,
        &[
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            line,
            "sh",
        ],
    )?;
    ensure!(
        run.code() == 1,
        "wish: exit code 1\n    reality: {}",
        run.report()
    );
    contains("message", &run.stderr, "max_user_namespaces")?;
    c.nothing_left()
}

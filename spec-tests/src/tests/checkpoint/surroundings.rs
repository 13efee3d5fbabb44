//! Runs in: SUITE. What restored processes are put into: a unit of systemd, a user namespace, a network with
//! devices of the host. By a real criu.

use crate::{
    case::Case,
    config::{Hook, Mount},
    outcome::{Check, contains, ensure, same},
    runner,
    tests::{
        checkpoint::{
            CRIU, checkpoint, count, goes_on_after, images, restore, start_counter, text, wait_for_count,
        },
        namespaces::{Network, in_own_network, ip},
    },
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Stdio,
    time::Duration,
};

tests! {
    checkpoint/systemd_driver: &[Systemd, Criu("")],
    checkpoint/user_namespace: CRIU,
    checkpoint/user_namespace_of_the_hosts_root: CRIU,
    checkpoint/images_on_a_mount_of_their_own: &[Criu(""), Kernel(6, 3)],
    checkpoint/images_that_cannot_be_id_mapped: CRIU,
    checkpoint/pre_dump_in_a_user_namespace: &[Criu("mem_dirty_track")],
    checkpoint/read_only_volume_of_a_user_namespace: CRIU,
    checkpoint/frozen_while_it_is_restored: CRIU,
    checkpoint/links_are_not_written_through: CRIU,
    checkpoint/images_where_others_may_write_are_refused: CRIU,
    checkpoint/state_root_of_another_user: CRIU,
    checkpoint/poststop_hooks_of_a_failed_restore: CRIU,
    checkpoint/user_namespace_by_path_is_refused: CRIU,
    checkpoint/network_devices: CRIU => |c| { in_own_network(c, network_devices) },
    checkpoint/network_devices_of_a_namespace_by_path: CRIU => |c| { in_own_network(c, network_devices_by_path) },
}

/// `command` with the driver's flag in front, on /dev/null.
fn with_systemd(c: &Case, command: &str, options: &[&str]) -> Check {
    let log = c.dir.join("log");
    let mut line = c.command();
    line.arg("--systemd-cgroup").arg("--log").arg(&log);
    line.args(c.bundle_args(command, options, &c.id)?);
    line.stdout(Stdio::null()).stderr(Stdio::null());
    let live = runner::start_with_own_stdio(&mut line, c.dir.join("none"), log)?;
    live.finish_within(Duration::from_secs(60))?.ok()?;
    Ok(())
}

fn limit(c: &mut Case, pids: i64, memory: i64) {
    c.resources().pids().clear().limit(pids);
    c.resources().memory().clear().limit(memory);
}

fn property(c: &Case, name: &str) -> Check<String> {
    let shown = crate::tests::systemd::systemctl(
        c,
        &[
            "show",
            "--value",
            "--property",
            name,
            &crate::tests::systemd::unit(c),
        ],
    )?;
    Ok(shown.stdout.trim().to_owned())
}

fn systemd_driver(c: &mut Case) -> Check {
    crate::tests::systemd::use_scope(c);
    limit(c, 77, 64 << 20);
    c.shell(crate::tests::checkpoint::COUNTER);
    with_systemd(c, "run", &["--detach"])?;
    wait_for_count(c, 3)?;
    checkpoint(c, &[])?.ok()?;
    c.wait_until("the end of the unit", || {
        Ok(property(c, "ActiveState")? == "inactive")
    })?;
    ensure!(
        !crate::tests::systemd::cgroup(c).exists(),
        "the cgroup of the checkpoint is there"
    );
    // Those of the restore's config.json count.
    limit(c, 88, 96 << 20);
    let folder = text(&images(c));
    goes_on_after(c, || {
        with_systemd(c, "restore", &["--detach", "--image-path", &folder])
    })?;
    same(
        "state of the unit",
        "active".to_owned(),
        property(c, "ActiveState")?,
    )?;
    let path = format!("/system.slice/{}", crate::tests::systemd::unit(c));
    same("cgroup of the unit", path.clone(), property(c, "ControlGroup")?)?;
    let own = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
    same(
        "cgroup of init",
        Some(path.as_str()),
        own.trim().strip_prefix("0::"),
    )?;
    for (property_name, file, wish) in [
        ("TasksMax", "pids.max", 88),
        ("MemoryMax", "memory.max", 96 << 20),
    ] {
        same(property_name, wish.to_string(), property(c, property_name)?)?;
        same(file, wish.to_string(), crate::tests::systemd::file(c, file)?)?;
    }
    let exec = c
        .rt(&["exec", &c.id, "/bin/cat", "/proc/self/cgroup"])?
        .ok()?
        .stdout;
    contains("cgroup of exec", &exec, "0::/")?;
    c.rt(&["update", "--pids-limit", "66", &c.id])?.ok()?;
    same("TasksMax after update", "66".to_owned(), property(c, "TasksMax")?)?;
    c.delete()?;
    c.wait_until("the end of the unit", || {
        Ok(property(c, "ActiveState")? == "inactive")
    })?;
    same("unit", "not-found".to_owned(), property(c, "LoadState")?)?;
    ensure!(
        !crate::tests::systemd::cgroup(c).exists(),
        "the cgroup is there after delete"
    );
    c.nothing_left()
}

fn check_map(c: &Case, first: &str) -> Check {
    let map = fs::read_to_string(format!("/proc/{}/uid_map", c.pid()?))?;
    let map: Vec<&str> = map.split_whitespace().collect();
    same("uid_map", vec!["0", first, "65536"], map)?;
    let seen = c.rt(&["exec", &c.id, "/bin/sh", "-c", "id -u; echo from exec > /mine"])?;
    same(
        "id in the container",
        "0".to_owned(),
        seen.ok()?.stdout.trim().to_owned(),
    )?;
    let owner = fs::metadata(c.rootfs("mine"))?.uid();
    same("owner of what it makes", first, owner.to_string().as_str())
}

/// The images are the host's root's alone, and the container's root must become what is in them.
fn user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    check_map(c, "100000")?;
    ensure!(
        images(c).join("restore.log").exists(),
        "no restore.log beside the images"
    );
    // Nobody has been let in for it: the group may look names up, and that is all.
    for (path, mode) in [("", 0o710), ("core-1.img", 0o600), ("pages-1.img", 0o600)] {
        let metadata = fs::metadata(images(c).join(path))?;
        let owners = (metadata.uid(), metadata.gid());
        same("owner and group", (0, 0), owners)?;
        let reality = metadata.permissions().mode() & 0o077;
        ensure!(
            reality & !mode == 0,
            "others' rights to {path:?}: wish {mode:o}, reality {reality:o}"
        );
    }
    c.delete()?;
    c.nothing_left()
}

fn user_namespace_of_the_hosts_root(c: &mut Case) -> Check {
    c.map_ids(0)?;
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    check_map(c, "0")
}

/// The images of a container with a user namespace are made on a new file system, in which then `work` is
/// done.
fn on_a_new_mount(c: &mut Case, file_system: &str, work: impl FnOnce(&mut Case) -> Check) -> Check {
    c.map_ids(100_000)?;
    let place = images(c);
    fs::create_dir(&place)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some(file_system),
        &place,
        Some(file_system),
        flags,
        Some("mode=0700"),
    )?;
    let done = start_counter(c)
        .and_then(|()| checkpoint(c, &[])?.ok())
        .and_then(|_| work(c));
    umount2(&place, MntFlags::MNT_DETACH)?;
    done?;
    c.delete()?;
    c.nothing_left()
}

/// tmpfs can be id-mapped since Linux 6.3.
fn images_on_a_mount_of_their_own(c: &mut Case) -> Check {
    on_a_new_mount(c, "tmpfs", |c| {
        goes_on_after(c, || restore(c, &[]).map(drop))?;
        check_map(c, "100000")
    })
}

/// ramfs cannot: that is said before anything is made.
fn images_that_cannot_be_id_mapped(c: &mut Case) -> Check {
    on_a_new_mount(c, "ramfs", |c| {
        let folder = text(&images(c));
        let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
        let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
        run.refused_with("file system that can be id-mapped")?;
        c.rt(&["state", &c.id])?.refused_with("does not exist")?;
        Ok(())
    })
}

/// What has not changed is in other images, which those of the dump name as `../first`.
fn pre_dump_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    start_counter(c)?;
    let first = text(&c.dir.join("first"));
    c.rt(&["checkpoint", "--pre-dump", "--image-path", &first, &c.id])?
        .ok()?;
    let at = count(c);
    wait_for_count(c, at + 2)?;
    checkpoint(c, &["--parent-path", "../first"])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))
}

/// criu enters such a namespace too early to be able to make the others (its issue 2651).
/// What the host has mounted read-only stays so for the container's root, also with CAP_SYS_ADMIN
/// (mount_namespaces(7)).
fn read_only_volume_of_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.grant(&["CAP_SYS_ADMIN"]);
    let volume = c.dir.join("volume");
    fs::create_dir(&volume)?;
    nix::unistd::chown(&volume, Some(100_000.into()), Some(100_000.into()))?;
    let none: Option<&str> = None;
    mount(Some(&volume), &volume, none, MsFlags::MS_BIND, none)?;
    let readonly = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, &volume, none, readonly, none)?;
    c.mount(Mount::bind("/vol", &volume).options(["bind"]));
    let attempt = |c: &Case, file: &str| -> Check {
        let script =
            format!("mount -o remount,bind,rw /vol; touch /vol/{file}; grep ' /vol ' /proc/self/mountinfo");
        let run = c.rt(&["exec", &c.id, "/bin/sh", "-c", &script])?;
        ensure!(!volume.join(file).exists(), "{file}: {}", run.report());
        ensure!(run.stdout.contains(" /vol ro"), "{file}: {}", run.report());
        Ok(())
    };
    let attempts = start_counter(c)
        .and_then(|()| attempt(c, "before"))
        .and_then(|()| checkpoint(c, &[])?.ok())
        .and_then(|_| restore(c, &[])?.ok())
        .and_then(|_| attempt(c, "after"));
    umount2(&volume, MntFlags::MNT_DETACH)?;
    attempts
}

/// criu looks the directory up again on which it is to find the container's root: a user who can exchange it
/// would say what is covered by the image's files, for a program that runs as the host's root.
fn state_root_of_another_user(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    let own = c.state_root.clone();
    c.state_root = c.dir.join("of-a-user");
    fs::create_dir(&c.state_root)?;
    std::os::unix::fs::chown(&c.state_root, Some(1000), Some(1000))?;
    let folder = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("belongs to another user")?;
    c.nothing_left()?;
    fs::remove_dir(&c.state_root)?;
    c.state_root = own;
    restore(c, &[])?.ok()?;
    same("status", "running", c.status()?.as_str())
}

/// They take back what the hooks before have done, as after a creation that fails.
fn poststop_hooks_of_a_failed_restore(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    let witness = c.dir.join("hook-ran");
    c.hooks()
        .clear()
        .create_runtime([Hook::new().path("/bin/false")])
        .poststop([Hook::new().path("/bin/touch").args(json!(["touch", &witness]))]);
    let folder = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("hook #0")?;
    ensure!(witness.exists(), "the poststop hook did not run");
    c.nothing_left()
}

fn user_namespace_by_path_is_refused(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    start_counter(c)?;
    checkpoint(c, &["--leave-running"])?.ok()?;
    let other = format!("/proc/{}/ns/user", c.pid()?);
    let linux = c.config["linux"].as_object_mut();
    linux.map(|linux| (linux.remove("uidMappings"), linux.remove("gidMappings")));
    c.join_namespace("user", Some(&other));
    let own = c.id.clone();
    c.id.push('b');
    c.set_cgroup_leaf("other");
    let folder = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("user namespace")?;
    c.id = own;
    c.delete()?;
    c.nothing_left()
}

/// A device goes with its namespace when the container is saved: whoever made it makes it again, and it moves
/// in as by `create`.
fn network_devices(c: &mut Case) -> Check {
    c.linux().net_devices(json!({"veth0": {"name": "eth0"}}));
    ip(c, "addr add 192.0.2.7/24 dev veth0")?;
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    let here = || fs::read_to_string("/proc/thread-self/net/dev");
    c.wait_until("the pair to vanish", || Ok(!here()?.contains("veth")))?;
    let folder = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("veth0")?;
    ip(c, "link add type veth")?;
    ip(c, "addr add 192.0.2.8/24 dev veth0")?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    let seen = c.rt(&["exec", &c.id, "/bin/busybox", "ip", "-o", "addr", "show", "up"])?;
    let seen = seen.ok()?.stdout;
    contains("addresses", &seen, "192.0.2.8/24")?;
    contains("devices", &seen, "eth0")?;
    ensure!(!here()?.contains("veth0"), "veth0 is still outside");
    c.delete()?;
    c.nothing_left()
}

/// What `create` has moved into a namespace that lives on is there still.
fn network_devices_by_path(c: &mut Case) -> Check {
    let other = Network::new()?;
    c.join_namespace("network", Some(&other.path()));
    c.linux().net_devices(json!({"veth0": {"name": "eth0"}}));
    ip(c, "addr add 192.0.2.7/24 dev veth0")?;
    start_counter(c)?;
    for round in ["first", "second"] {
        checkpoint(c, &[])?.ok()?;
        goes_on_after(c, || restore(c, &[]).map(drop))?;
        let seen = c.rt(&["exec", &c.id, "/bin/busybox", "ip", "-o", "addr", "show", "up"])?;
        contains(
            &format!("addresses after the {round} restore"),
            &seen.ok()?.stdout,
            "192.0.2.7/24",
        )?;
    }
    // In a namespace where they are not they come from the host, as by `create`.
    checkpoint(c, &[])?.ok()?;
    let fresh = Network::new()?;
    c.join_namespace("network", Some(&fresh.path()));
    let folder = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.refused_with("veth0")?;
    ip(c, "link set veth1 name veth0")?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    let seen = c
        .rt(&["exec", &c.id, "/bin/busybox", "ip", "-o", "link"])?
        .ok()?
        .stdout;
    contains("devices", &seen, "eth0")?;
    c.delete()?;
    c.nothing_left()
}

/// criu is in the container's cgroup, and stands still with it.
fn frozen_while_it_is_restored(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    let script = format!("echo 1 > {}/cgroup.freeze", c.cgroup().display());
    c.hooks().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", script]))
        .env(["PATH=/usr/bin:/bin"])]);
    let folder = text(&images(c));
    let words = c.bundle_args("restore", &["--detach", "--image-path", &folder], &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    run.wants(1)?
        .refused_with("container's cgroup was frozen while it was set up")?;
    c.rt(&["state", &c.id])?.refused_with("does not exist")?;
    c.nothing_left()
}

/// criu opens its files by name, and follows links.
fn links_are_not_written_through(c: &mut Case) -> Check {
    let (work, victim) = (c.dir.join("work"), c.dir.join("victim"));
    fs::write(&victim, "victim")?;
    for dir in [&work, &images(c)] {
        fs::create_dir(dir)?;
    }
    for name in ["dump.log", "restore.log", "stats-dump", "stats-restore"] {
        std::os::unix::fs::symlink(&victim, work.join(name))?;
    }
    std::os::unix::fs::symlink(&victim, images(c).join("descriptors.json"))?;
    start_counter(c)?;
    let options = ["--work-path", &text(&work)];
    let untouched = |when: &str| same(when, "victim", fs::read_to_string(&victim)?.as_str());
    let run = checkpoint(c, &options)?;
    untouched("the file that a link among the images leads to")?;
    run.refused_with("descriptors.json")?;
    fs::remove_file(images(c).join("descriptors.json"))?;
    checkpoint(c, &options)?.ok()?;
    untouched("after a dump, the file that links lead to")?;
    ensure!(
        work.join("dump.log").symlink_metadata()?.is_file(),
        "dump.log is still a link"
    );
    restore(c, &options)?;
    untouched("after a restore, the file that links lead to")?;
    c.delete()?;
    c.nothing_left()
}

/// They could make links there while criu works, and say what is restored.
fn images_where_others_may_write_are_refused(c: &mut Case) -> Check {
    let (images, work) = (images(c), c.dir.join("work"));
    start_counter(c)?;
    for (dir, options) in [(&images, vec![]), (&work, vec!["--work-path", &*text(&work)])] {
        fs::create_dir_all(dir)?;
        for (owner, mode, reason) in [
            (0, 0o1777, "others may write to it"),
            (1000, 0o755, "another user"),
        ] {
            nix::unistd::chown(dir.as_path(), Some(owner.into()), None)?;
            fs::set_permissions(dir, PermissionsExt::from_mode(mode))?;
            let run = checkpoint(c, &options)?.refused_with(reason)?;
            ensure!(
                fs::read_dir(dir)?.next().is_none(),
                "something was written: {}",
                run.report()
            );
        }
        fs::remove_dir(dir)?;
    }
    same("status", "running".to_owned(), c.status()?)
}

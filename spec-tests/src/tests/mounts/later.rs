//! Runs in: SUITE. `mounts add` and `mounts remove`, crun's: mounts for a container that runs already.

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, same},
    runner::Run,
};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

tests! {
    mounts_later/bind_of_folder_and_file,
    mounts_later/read_only_stays_so_in_a_user_namespace,
    mounts_later/with_what_is_mounted_below,
    mounts_later/new_file_system,
    mounts_later/links_stay_inside,
    mounts_later/places_that_are_exchanged_stay_inside,
    mounts_later/source_behind_a_link_of_the_container,
    mounts_later/id_mapped,
    mounts_later/not_through_procfs,
    mounts_later/hidden_root_of_the_container,
    mounts_later/locked_mounts_stay_in_a_user_namespace,
    mounts_later/removal_through_no_link,
    mounts_later/removal_wants_a_mount_point,
    mounts_later/of_created_and_paused,
    mounts_later/of_stopped_and_of_nothing,
    mounts_later/wrong_lists_are_refused,
    mounts_later/without_a_mount_namespace,
}

fn change(c: &Case, what: &str, mounts: &Value) -> Check<Run> {
    let path = c.dir.join("mounts.json");
    fs::write(&path, mounts.to_string())?;
    c.rt(&["mounts", what, &c.id, &path.to_string_lossy()])
}

fn inside(c: &Case, line: &str) -> Check<String> {
    let run = c.rt(&["exec", &c.id, "/bin/sh", "-c", line])?;
    Ok(run.ok()?.stdout.trim().to_owned())
}

/// A folder of the host with a file in it.
fn source(c: &Case) -> Check<PathBuf> {
    let path = c.dir.join("later");
    fs::create_dir_all(&path)?;
    fs::write(path.join("file"), "of the host")?;
    Ok(path)
}

fn bind_of_folder_and_file(c: &mut Case) -> Check {
    let source = source(c)?;
    c.start_sleeper()?;
    let mounts = json!([
        {"destination": "/new/folder", "type": "bind", "source": source, "options": ["bind", "ro", "nosuid"]},
        {"destination": "/new/folder/file", "type": "bind", "source": "/proc/version", "options": ["bind"]},
        {"destination": "/new/file", "type": "bind", "source": source.join("file"), "options": ["bind"]},
    ]);
    change(c, "add", &mounts)?.ok()?;
    same("file", "of the host", inside(c, "cat /new/file")?.as_str())?;
    contains("above it", &inside(c, "cat /new/folder/file")?, "Linux")?;
    let line = inside(c, "grep ' /new/folder ' /proc/self/mountinfo")?;
    contains("options", &line, " ro,nosuid")?;
    same(
        "write",
        "refused",
        inside(c, "touch /new/folder/x 2>/dev/null || echo refused")?.as_str(),
    )?;
    change(c, "remove", &mounts)?.ok()?;
    same(
        "left",
        "0",
        inside(c, "grep -c ' /new/' /proc/self/mountinfo || true")?.as_str(),
    )?;
    ensure!(c.rootfs("/new/folder").is_dir(), "the place was removed, too");
    same(
        "source",
        "of the host".to_owned(),
        fs::read_to_string(source.join("file"))?,
    )
}

/// What is in the rootfs is the container's, and so are links there: they lead it to nothing of the host's.
fn source_behind_a_link_of_the_container(c: &mut Case) -> Check {
    let source = source(c)?;
    c.start_sleeper()?;
    fs::create_dir_all(c.rootfs("/own"))?;
    fs::write(c.rootfs("/own/file"), "of the container")?;
    symlink("/own", c.rootfs("/inside"))?;
    symlink(&source, c.rootfs("/outside"))?;
    let way = c.dir.join("way");
    symlink(c.rootfs("/"), &way)?;
    for way in [PathBuf::from("rootfs"), way] {
        let add = |name: &str| {
            let mount = json!({
                "destination": "/later", "type": "bind", "source": way.join(name), "options": ["bind"]
            });
            change(c, "add", &json!([mount]))
        };
        add("inside")?.ok()?;
        same(
            "the file",
            "of the container",
            inside(c, "cat /later/file")?.as_str(),
        )?;
        change(c, "remove", &json!([{"destination": "/later"}]))?.ok()?;
        let run = add("outside")?;
        ensure!(run.code() != 0, "it is mounted: {run:?}");
        contains(
            "why it failed",
            &run.stderr.to_lowercase(),
            "no such file or directory",
        )?;
    }
    Ok(())
}

fn read_only_stays_so_in_a_user_namespace(c: &mut Case) -> Check {
    let source = source(c)?;
    c.map_ids(100_000)?;
    c.grant(&["CAP_SYS_ADMIN"]);
    c.start_sleeper()?;
    let mounts = json!([
        {"destination": "/later", "type": "bind", "source": source, "options": ["bind", "ro"]},
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs"},
    ]);
    change(c, "add", &mounts)?.ok()?;
    same("file", "of the host", inside(c, "cat /later/file")?.as_str())?;
    same(
        "owner of the place",
        "0",
        inside(c, "stat -c %u /scratch")?.as_str(),
    )?;
    // What the container owns it may change: so it could do this, if the kernel let it.
    same(
        "made read-only",
        "refused",
        inside(
            c,
            "mount -o remount,bind,ro /scratch; touch /scratch/x 2>/dev/null || echo refused",
        )?
        .as_str(),
    )?;
    same(
        "made writable",
        "refused",
        inside(
            c,
            "mount -o remount,bind,rw /later 2>/dev/null; touch /later/x 2>/dev/null || echo refused",
        )?
        .as_str(),
    )?;
    ensure!(
        !source.join("x").exists(),
        "the container wrote to what is read-only"
    );
    change(c, "remove", &mounts)?.ok()?;
    same(
        "left",
        "0",
        inside(c, "grep -c -e /later -e /scratch /proc/self/mountinfo || true")?.as_str(),
    )
}

fn with_what_is_mounted_below(c: &mut Case) -> Check {
    let source = source(c)?;
    let below = source.join("below");
    fs::create_dir(&below)?;
    mount(
        Some("tmpfs"),
        &below,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    fs::write(below.join("deep"), "deep")?;
    let outcome = (|| {
        c.start_sleeper()?;
        let entry = |option: &str| json!([{"destination": "/later", "type": "bind", "source": source, "options": [option]}]);
        change(c, "add", &entry("bind"))?.ok()?;
        same(
            "bind",
            "none",
            inside(c, "cat /later/below/deep 2>/dev/null || echo none")?.as_str(),
        )?;
        change(c, "remove", &entry("bind"))?.ok()?;
        change(c, "add", &entry("rbind"))?.ok()?;
        same("rbind", "deep", inside(c, "cat /later/below/deep")?.as_str())?;
        change(c, "remove", &entry("rbind"))?.ok()?;
        same("host", "deep".to_owned(), fs::read_to_string(below.join("deep"))?)
    })();
    nix::mount::umount2(&below, nix::mount::MntFlags::MNT_DETACH)?;
    outcome
}

fn new_file_system(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let mounts = json!([{"destination": "/later", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "noexec", "size=64k", "mode=711"]}]);
    change(c, "add", &mounts)?.ok()?;
    same("mode", "711", inside(c, "stat -c %a /later")?.as_str())?;
    let line = inside(c, "grep ' /later ' /proc/self/mountinfo")?;
    contains("options", &line, "nosuid,noexec")?;
    contains("size", &line, "size=64k")?;
    let procfs = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    change(c, "add", &procfs)?.refused_with("procfs").map(drop)
}

/// The place is looked up as in the container: links of the image lead nowhere else.
fn links_stay_inside(c: &mut Case) -> Check {
    let source = source(c)?;
    let outside = c.dir.join("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, c.rootfs("/absolute"))?;
    symlink("../../../../../../../../tmp", c.rootfs("/climbing"))?;
    fs::create_dir_all(c.rootfs("/tmp"))?;
    c.start_sleeper()?;
    let mounts = json!([
        {"destination": "/absolute/a", "type": "bind", "source": source, "options": ["bind"]},
        {"destination": "/climbing/b", "type": "bind", "source": source, "options": ["bind"]},
    ]);
    change(c, "add", &mounts)?.ok()?;
    same(
        "through ..",
        "of the host",
        inside(c, "cat /tmp/b/file")?.as_str(),
    )?;
    let inner = format!("cat {}/a/file", outside.display());
    same("through /", "of the host", inside(c, &inner)?.as_str())?;
    same("outside", 0, fs::read_dir(&outside)?.count())?;
    let magic =
        json!([{"destination": "/proc/1/root/x", "type": "bind", "source": source, "options": ["bind"]}]);
    change(c, "add", &magic)?.refused().map(drop)
}

/// A process in the container makes a link of the place, and a directory again, as fast as it can.
fn places_that_are_exchanged_stay_inside(c: &mut Case) -> Check {
    let source = source(c)?;
    let outside = c.dir.join("outside");
    fs::create_dir_all(outside.join("x"))?;
    fs::create_dir_all(c.rootfs("/flip"))?;
    c.shell(&format!(
        "ln -s {0} /link; ln -s ../../../../../../../..{0} /up; mkdir /dir; \
         while :; do mv -T /flip /a; mv -T /link /flip; mv -T /flip /link; mv -T /up /flip; mv -T /flip /up; mv -T /a /flip; done",
        outside.display()
    ));
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let host = fs::read_to_string("/proc/self/mountinfo")?.lines().count();
    for _ in 0..40 {
        let add = json!([{"destination": "/flip/x", "type": "bind", "source": source, "options": ["bind"]}]);
        // Whether a place is found in that moment is chance.
        change(c, "add", &add)?;
        change(c, "remove", &json!([{"destination": "/flip/x"}]))?;
    }
    same(
        "what was made outside",
        0,
        fs::read_dir(outside.join("x"))?.count(),
    )?;
    let now = fs::read_to_string("/proc/self/mountinfo")?.lines().count();
    same("mounts of the host", host, now)?;
    same("status", "running".to_owned(), c.status()?)
}

fn id_mapped(c: &mut Case) -> Check {
    let source = source(c)?;
    c.start_sleeper()?;
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let mounts = json!([{"destination": "/later", "type": "bind", "source": source,
        "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map}]);
    change(c, "add", &mounts)?.ok()?;
    same(
        "owner",
        "1000:1000",
        inside(c, "stat -c %u:%g /later/file")?.as_str(),
    )?;
    change(c, "remove", &mounts)?.ok()?;
    let owner = fs::metadata(source.join("file"))?;
    same(
        "owner on the host",
        0,
        std::os::unix::fs::MetadataExt::uid(&owner),
    )
}

/// `/proc/<pid>` of the container shows what others write labels to, and leads through `/proc/<pid>/root` and
/// `fd` elsewhere.
fn not_through_procfs(c: &mut Case) -> Check {
    let source = source(c)?;
    c.start_sleeper()?;
    let before = inside(c, "cat /proc/1/mountinfo")?;
    for place in [
        "/proc/1/cwd/x",
        "/proc/self/fd/3/x",
        "/proc/1/attr",
        "/proc/self/attr/exec",
    ] {
        let add = json!([{"destination": place, "type": "bind", "source": source, "options": ["bind"]}]);
        change(c, "add", &add)?.refused()?;
    }
    same("mounts", before, inside(c, "cat /proc/1/mountinfo")?)
}

/// A container with the right to mount covers its own root: what is added lies in the container all the same.
fn hidden_root_of_the_container(c: &mut Case) -> Check {
    let source = source(c)?;
    c.grant(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
    c.shell("mount -t tmpfs none / && touch /covered; sleep 1000");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let covered = c.rootfs("/covered");
    c.wait_until("the root is covered", || Ok(covered.exists()))?;
    let host = fs::read_to_string("/proc/self/mountinfo")?.lines().count();
    let add = json!([{"destination": "/later", "type": "bind", "source": source, "options": ["bind"]}]);
    // It may be refused, or lie on one root or the other: of the container's.
    change(c, "add", &add)?;
    let now = fs::read_to_string("/proc/self/mountinfo")?.lines().count();
    same("mounts of the host", host, now)?;
    same("status", "running".to_owned(), c.status()?)
}

/// What config.json has hidden with a mount in a user namespace is not to be had by taking the mount away
/// again.
fn locked_mounts_stay_in_a_user_namespace(c: &mut Case) -> Check {
    let source = source(c)?;
    c.map_ids(100_000)?;
    c.grant(&["CAP_SYS_ADMIN"]);
    let below = source.join("below");
    fs::create_dir(&below)?;
    fs::write(below.join("secret"), "secret")?;
    mount(
        Some("tmpfs"),
        &below,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    let outcome = (|| {
        c.start_sleeper()?;
        let add = json!([{"destination": "/later", "type": "bind", "source": source, "options": ["rbind"]}]);
        change(c, "add", &add)?.ok()?;
        same(
            "what the host has covered",
            "hidden",
            inside(
                c,
                "umount /later/below 2>/dev/null; cat /later/below/secret 2>/dev/null || echo hidden",
            )?
            .as_str(),
        )
    })();
    nix::mount::umount2(&below, nix::mount::MntFlags::MNT_DETACH)?;
    outcome
}

/// Else a process in the container could have its masks taken away.
fn removal_through_no_link(c: &mut Case) -> Check {
    c.start_sleeper()?;
    inside(
        c,
        "mkdir /shared && ln -s /proc /shared/sub && ln -s /proc/kcore /shared/kcore",
    )?;
    let before = inside(c, "cat /proc/1/mountinfo")?;
    for path in ["/shared/sub/kcore", "/shared/kcore"] {
        change(c, "remove", &json!([{"destination": path}]))?.refused()?;
    }
    same(
        "mounts",
        before.as_str(),
        inside(c, "cat /proc/1/mountinfo")?.as_str(),
    )?;
    let direct = json!([{"destination": "/shared/own", "type": "tmpfs", "source": "tmpfs"}]);
    change(c, "add", &direct)?.ok()?;
    change(c, "remove", &direct)?.ok()?;
    same("mounts", before, inside(c, "cat /proc/1/mountinfo")?)
}

fn removal_wants_a_mount_point(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for path in ["/bin", "/bin/busybox", "/missing", "/"] {
        let run = change(c, "remove", &json!([{"destination": path}]))?.refused()?;
        contains("the error", &run.report(), "mounts[0]")?;
    }
    same("alive", "running".to_owned(), c.status()?)
}

fn of_created_and_paused(c: &mut Case) -> Check {
    let source = source(c)?;
    let mounts = json!([{"destination": "/later", "type": "bind", "source": source, "options": ["bind"]}]);
    c.shell("cat /later/file > /seen; sleep 1000");
    c.create()?.ok()?;
    change(c, "add", &mounts)?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let seen = c.rootfs("/seen");
    c.wait_until("the file", || {
        Ok(fs::read_to_string(&seen).is_ok_and(|text| text == "of the host"))
    })?;
    c.rt(&["pause", &c.id])?.ok()?;
    change(c, "remove", &mounts)?.ok()?;
    c.rt(&["resume", &c.id])?.ok()?;
    same(
        "left",
        "0",
        inside(c, "grep -c ' /later ' /proc/self/mountinfo || true")?.as_str(),
    )
}

fn of_stopped_and_of_nothing(c: &mut Case) -> Check {
    let mounts = json!([{"destination": "/later", "type": "tmpfs", "source": "tmpfs"}]);
    change(c, "add", &mounts)?.refused_with("does not exist")?;
    c.args(&["/bin/true"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    c.wait_status("stopped")?;
    change(c, "add", &mounts)?.refused_with("not running")?;
    change(c, "remove", &mounts)?
        .refused_with("not running")
        .map(drop)
}

fn wrong_lists_are_refused(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for (mounts, field) in [
        (json!({"mounts": []}), "mounts"),
        (json!([{"type": "tmpfs"}]), "mounts[0].destination"),
        (json!([{"destination": 7}]), "mounts[0].destination"),
        (
            json!([{"destination": "/a", "type": "bind", "options": ["bind"]}]),
            "mounts[0].source",
        ),
        (
            json!([{"destination": "/a", "type": "nothing"}]),
            "mounts[0].type",
        ),
        (
            json!([{"destination": "/a", "type": "tmpfs", "options": ["nothing"]}]),
            "mounts[0].options",
        ),
    ] {
        change(c, "add", &mounts)?.refused_with(field)?;
    }
    let none = c.dir.join("none.json");
    c.rt(&["mounts", "add", &c.id, &none.to_string_lossy()])?
        .refused()?;
    change(c, "turn", &json!([]))?.refused().map(drop)
}

fn without_a_mount_namespace(c: &mut Case) -> Check {
    c.drop_namespace("mount");
    c.document().mounts(json!([]));
    for field in ["maskedPaths", "readonlyPaths"] {
        if let Some(linux) = c.config["linux"].as_object_mut() {
            linux.remove(field);
        }
    }
    c.start_sleeper()?;
    let mounts = json!([{"destination": "/later", "type": "tmpfs", "source": "tmpfs"}]);
    change(c, "remove", &mounts)?.refused_with("mount namespace")?;
    change(c, "add", &mounts)?.refused().map(drop)
}

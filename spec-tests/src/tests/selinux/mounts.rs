//! Runs in: SUITE. SELinux, enforced: `linux.mountLabel`, the label of the file systems that are made for a
//! container.

use crate::{
    case::Case,
    config::{Device, DeviceRule, Mount},
    label::{label_of, relabel},
    outcome::{Check, contains, ensure, fail, same},
    tests::selinux::{FILES, IMAGE, UNKNOWN, confine},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

tests! {
    selinux/mount_label: &[SELinux],
    selinux/mount_label_of_new_files: &[SELinux],
    selinux/mount_label_of_message_queues: &[SELinux],
    selinux/mount_label_is_not_of_the_hosts_queues: &[SELinux],
    selinux/mount_label_of_masks: &[SELinux],
    selinux/mount_label_of_devices: &[SELinux],
    selinux/mount_label_is_not_of_bind_mounts: &[SELinux],
    selinux/mount_label_is_not_of_the_kernels: &[SELinux],
    selinux/mount_label_and_options: &[SELinux],
    selinux/mount_label_and_categories: &[SELinux],
    selinux/mount_label_in_a_user_namespace: &[SELinux],
    selinux/mount_label_with_a_users_queues: &[SELinux],
    selinux/mount_label_lets_the_container_write: &[SELinux],
    selinux/unknown_mount_label_is_refused: &[SELinux],
    selinux/mount_label_of_an_overlay: &[SELinux],
    selinux/mount_with_its_own_label: &[SELinux],
    selinux/mount_with_its_own_label_beside_that_of_all: &[SELinux],
    selinux/mount_without_a_label: &[SELinux],
    selinux/mount_context_type: &[SELinux],
    selinux/mount_context_type_that_is_wrong: &[SELinux],
    selinux/mounts_added_later: &[SELinux],
}

/// One line of mountinfo.
struct MountLine {
    root: String,
    point: String,
    kind: String,
    options: String,
}

/// What is mounted in the running container.
fn mounts(c: &Case) -> Check<Vec<MountLine>> {
    let path = format!("/proc/{}/mountinfo", c.pid()?);
    mounts_of(&fs::read_to_string(path)?)
}

fn mounts_of(text: &str) -> Check<Vec<MountLine>> {
    let mut mounts = Vec::new();
    for line in text.lines() {
        let (first, second) = line.split_once(" - ").unwrap_or_default();
        let (first, second): (Vec<&str>, Vec<&str>) =
            (first.split(' ').collect(), second.split(' ').collect());
        let (Some(root), Some(point), Some(kind), Some(options)) =
            (first.get(3), first.get(4), second.first(), second.get(2))
        else {
            return fail(format!("not a line of mountinfo: {line:?}"));
        };
        let [root, point, kind, options] = [root, point, kind, options].map(|word| (*word).to_owned());
        mounts.push(MountLine {
            root,
            point,
            kind,
            options,
        });
    }
    Ok(mounts)
}

/// The label that is an option of the super block; it has a comma in it and so stands between quotation
/// marks.
fn option(name: &str) -> String {
    format!(",{name}=\"{FILES}\"")
}

/// A path in the running container.
fn inside(c: &Case, path: &str) -> Check<PathBuf> {
    let root = Path::new("/proc").join(c.pid()?.to_string()).join("root");
    Ok(root.join(path.trim_start_matches('/')))
}

fn tmpfs(c: &mut Case, destination: &str, options: &[&str]) {
    c.mount(
        Mount::new()
            .destination(destination)
            .kind("tmpfs")
            .source("tmpfs")
            .options(options),
    );
}

/// Every new tmpfs and devpts has the label. Over files lies the caller's /dev/null, which may be of a tmpfs,
/// too.
fn labelled(c: &Case, points: &[&str]) -> Check {
    let mounts = mounts(c)?;
    for point in points {
        let mount = mounts.iter().rfind(|m| m.point == *point);
        let options = mount.map_or("no such mount", |m| m.options.as_str());
        contains(point, options, &option("context"))?;
    }
    let without = mounts.iter().filter(|m| {
        let is_new = m.root == "/" && ["tmpfs", "devpts"].contains(&m.kind.as_str());
        is_new && !m.options.contains(&option("context"))
    });
    let without: Vec<&str> = without.map(|m| m.point.as_str()).collect();
    same("without the label", Vec::<&str>::new(), without)
}

/// The file systems below have labels of their own, which do not count.
fn mount_label_of_an_overlay(c: &mut Case) -> Check {
    confine(c)?;
    let mut options = Vec::new();
    for name in ["lowerdir", "upperdir", "workdir"] {
        fs::create_dir(c.dir.join(name))?;
        options.push(format!("{name}={}", c.dir.join(name).display()));
    }
    fs::write(c.dir.join("lowerdir/file"), "below")?;
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("overlay")
            .source("overlay")
            .options(options),
    );
    c.start_sleeper()?;
    labelled(c, &["/mnt"])?;
    let run = c.rt(&[
        "exec",
        &c.id,
        "/bin/sh",
        "-c",
        "cat /mnt/file && echo more >> /mnt/file",
    ])?;
    same("what it reads", "below", run.ok()?.stdout.as_str())?;
    same(
        "a copied file",
        FILES,
        label_of(&inside(c, "/mnt/file")?)?.as_str(),
    )
}

/// As engines give it to volumes: an option of one mount.
fn mount_with_its_own_label(c: &mut Case) -> Check {
    confine(c)?;
    tmpfs(c, "/mnt", &[&format!("context={IMAGE}")]);
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("mountLabel");
    }
    c.start_sleeper()?;
    same("label", IMAGE, label_of(&inside(c, "/mnt")?)?.as_str())
}

/// It counts more than the label for all.
fn mount_with_its_own_label_beside_that_of_all(c: &mut Case) -> Check {
    confine(c)?;
    tmpfs(c, "/mnt", &[&format!("context={IMAGE}")]);
    c.start_sleeper()?;
    same("label", IMAGE, label_of(&inside(c, "/mnt")?)?.as_str())?;
    same("of others", FILES, label_of(&inside(c, "/dev/shm")?)?.as_str())
}

fn mount_label(c: &mut Case) -> Check {
    confine(c)?;
    tmpfs(c, "/mnt", &["mode=0700", "size=1m"]);
    c.start_sleeper()?;
    labelled(c, &["/dev", "/dev/pts", "/dev/shm", "/mnt", "/sys/firmware"])
}

fn mount_label_of_new_files(c: &mut Case) -> Check {
    confine(c)?;
    tmpfs(c, "/mnt", &[]);
    c.shell("touch /mnt/file /dev/shm/file && mkdir /dev/folder && exec sleep 1000");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let last = inside(c, "/dev/folder")?;
    c.wait_until("the files", || Ok(last.exists()))?;
    for path in [
        "/mnt",
        "/mnt/file",
        "/dev",
        "/dev/folder",
        "/dev/shm",
        "/dev/shm/file",
        "/dev/pts",
    ] {
        same(path, FILES, label_of(&inside(c, path)?)?.as_str())?;
    }
    Ok(())
}

/// mqueue is not labelled by an option of the mount, but by the attribute of its root.
fn mount_label_of_message_queues(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    same("its root", FILES, label_of(&inside(c, "/dev/mqueue")?)?.as_str())?;
    c.rt(&["exec", &c.id, "/bin/ls", "/dev/mqueue"])?.ok()?;
    Ok(())
}

/// Without an ipc namespace they are the host's, for which the label would stay.
fn mount_label_is_not_of_the_hosts_queues(c: &mut Case) -> Check {
    confine(c)?;
    c.drop_namespace("ipc");
    c.start_sleeper()?;
    let label = label_of(&inside(c, "/dev/mqueue")?)?;
    ensure!(
        label != FILES,
        "the host's message queues have the container's label"
    );
    Ok(())
}

fn mount_label_of_masks(c: &mut Case) -> Check {
    confine(c)?;
    for folder in ["masked", "other"] {
        fs::create_dir_all(c.rootfs(folder).join("inside"))?;
    }
    relabel(&c.rootfs("/"), IMAGE)?;
    c.linux()
        .masked_paths(["/masked", "/other", "/proc/kcore", "/sys/firmware"]);
    c.start_sleeper()?;
    labelled(c, &["/masked", "/other", "/sys/firmware"])?;
    // The container may look, and there is nothing.
    let run = c
        .rt(&["exec", &c.id, "/bin/ls", "-A", "/masked", "/other"])?
        .ok()?;
    same("what is there", "/masked:\n\n/other:\n", run.stdout.as_str())
}

fn mount_label_of_devices(c: &mut Case) -> Check {
    confine(c)?;
    c.linux().devices([Device::new()
        .path("/dev/own")
        .kind("c")
        .major(1)
        .minor(5)
        .file_mode(0o666)
        .uid(0)
        .gid(0)]);
    c.resources()
        .devices([DeviceRule::new().allow(true).access("rwm")]);
    c.start_sleeper()?;
    for node in ["null", "zero", "full", "random", "urandom", "tty", "own"] {
        let path = inside(c, "/dev")?.join(node);
        same(node, FILES, label_of(&path)?.as_str())?;
    }
    let line = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/own | wc -c && ls /dev/ptmx /dev/fd/0 >/dev/null";
    let run = c.rt(&["exec", &c.id, "/bin/sh", "-c", line])?.ok()?;
    same("what they give", "3\n3\n", run.stdout.as_str())
}

fn mount_label_is_not_of_bind_mounts(c: &mut Case) -> Check {
    confine(c)?;
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "x")?;
    relabel(&source, IMAGE)?;
    c.mount(Mount::bind("/mnt", &source).options(["rbind", "ro"]));
    c.start_sleeper()?;
    for path in ["/mnt", "/mnt/file", "/bin/busybox", "/"] {
        same(path, IMAGE, label_of(&inside(c, path)?)?.as_str())?;
    }
    same("source", IMAGE, label_of(&source)?.as_str())?;
    for mount in mounts(c)?
        .iter()
        .filter(|m| ["/", "/mnt"].contains(&m.point.as_str()))
    {
        ensure!(
            !mount.options.contains("context="),
            "{}: {}",
            mount.point,
            mount.options
        );
    }
    Ok(())
}

/// proc, sysfs, cgroup2 and mqueue have labels of the kernel's.
fn mount_label_is_not_of_the_kernels(c: &mut Case) -> Check {
    const KINDS: [&str; 4] = ["proc", "sysfs", "cgroup2", "mqueue"];
    confine(c)?;
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(["ro", "nosuid"]),
    );
    let own = label_of(Path::new("/sys/fs/cgroup/cgroup.procs"))?;
    c.start_sleeper()?;
    let mounts = mounts(c)?;
    for kind in KINDS {
        let options: Vec<&str> = mounts
            .iter()
            .filter(|m| m.kind == kind)
            .map(|m| m.options.as_str())
            .collect();
        ensure!(!options.is_empty(), "{kind} is not mounted");
        ensure!(
            !options.iter().any(|o| o.contains("context=")),
            "{kind}: {options:?}"
        );
    }
    same(
        "a cgroup's file",
        own,
        label_of(&inside(c, "/sys/fs/cgroup/cgroup.procs")?)?,
    )?;
    same(
        "/sys",
        label_of(Path::new("/sys/kernel"))?,
        label_of(&inside(c, "/sys/kernel")?)?,
    )
}

/// What else the mount is told stays.
fn mount_label_and_options(c: &mut Case) -> Check {
    confine(c)?;
    fs::create_dir(c.rootfs("/copied"))?;
    fs::write(c.rootfs("/copied/file"), "of the image")?;
    relabel(&c.rootfs("/copied"), IMAGE)?;
    tmpfs(c, "/copied", &["tmpcopyup", "mode=0711"]);
    tmpfs(c, "/read-only", &["ro", "nosuid", "size=64k"]);
    tmpfs(c, "/plain", &["noexec", "size=128k", "mode=0750"]);
    c.start_sleeper()?;
    labelled(c, &["/copied", "/read-only", "/plain"])?;
    let mounts = mounts(c)?;
    for (point, wish) in [
        ("/read-only", "size=64k"),
        ("/plain", "size=128k"),
        ("/plain", "mode=750"),
    ] {
        let found = mounts.iter().rfind(|m| m.point == point);
        contains(point, found.map_or("", |m| &m.options), wish)?;
    }
    same("copied", FILES, label_of(&inside(c, "/copied/file")?)?.as_str())?;
    let line =
        "cat /copied/file && echo && (touch /read-only/x 2>/dev/null || echo refused) && touch /plain/x";
    let run = c.rt(&["exec", &c.id, "/bin/sh", "-c", line])?.ok()?;
    same("inside", "of the image\nrefused\n", run.stdout.as_str())
}

/// A label without a comma is as good as one with.
fn mount_label_and_categories(c: &mut Case) -> Check {
    confine(c)?;
    c.args(&["/bin/cat", "/proc/self/mountinfo"]);
    for label in [IMAGE, "system_u:object_r:container_file_t:s0:c1", FILES] {
        c.linux().mount_label(label);
        let mounts = mounts_of(&c.run()?.ok()?.stdout)?;
        let shm = mounts.iter().find(|m| m.point == "/dev/shm");
        let options = shm.map_or("", |m| m.options.as_str()).replace('"', "");
        contains("/dev/shm", &format!("{options},"), &format!(",context={label},"))?;
    }
    Ok(())
}

fn mount_label_in_a_user_namespace(c: &mut Case) -> Check {
    confine(c)?;
    c.map_ids(100_000)?;
    tmpfs(c, "/mnt", &["mode=1777"]);
    // Its queues are another test's matter.
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|m| m["type"] != "mqueue");
    }
    c.shell("touch /mnt/file /dev/shm/file && exec sleep 1000");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let last = inside(c, "/dev/shm/file")?;
    c.wait_until("the files", || Ok(last.exists()))?;
    labelled(c, &["/dev", "/dev/pts", "/dev/shm", "/mnt", "/sys/firmware"])?;
    same("a new file", FILES, label_of(&last)?.as_str())
}

fn mount_label_with_a_users_queues(c: &mut Case) -> Check {
    confine(c)?;
    c.map_ids(100_000)?;
    c.start_sleeper()?;
    same("its root", FILES, label_of(&inside(c, "/dev/mqueue")?)?.as_str())
}

fn mount_label_lets_the_container_write(c: &mut Case) -> Check {
    confine(c)?;
    tmpfs(c, "/mnt", &["mode=1777"]);
    let line = "(echo x > /mnt/file) 2>/dev/null && echo written || echo refused";
    same("with the label", "written", c.sh(line)?.as_str())?;
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("mountLabel");
    }
    same("without", "refused", c.sh(line)?.as_str())
}

fn unknown_mount_label_is_refused(c: &mut Case) -> Check {
    confine(c)?;
    c.linux().mount_label(UNKNOWN);
    c.create()?.wants(1)?.refused_with("mountLabel")?;
    c.nothing_left()
}

/// A label of the process alone, and none at all.
fn mount_without_a_label(c: &mut Case) -> Check {
    confine(c)?;
    c.args(&["/bin/cat", "/proc/self/mountinfo"]);
    for field in ["mountLabel", "selinuxLabel"] {
        for owner in ["linux", "process"] {
            if let Some(owner) = c.config[owner].as_object_mut() {
                owner.remove(field);
            }
        }
        let text = c.run()?.ok()?.stdout;
        ensure!(
            !text.contains("context="),
            "without {field} a mount has a context:\n{text}"
        );
    }
    Ok(())
}

/// crun's annotation, which Podman sets for `label=nested`: the label of the root alone, so that processes
/// inside can label what is below it.
fn mount_context_type(c: &mut Case) -> Check {
    confine(c)?;
    c.args(&["/bin/cat", "/proc/self/mountinfo"]);
    for kind in ["context", "fscontext", "rootcontext"] {
        c.document()
            .annotations(json!({"run.oci.mount_context_type": kind}));
        let mounts = mounts_of(&c.run()?.ok()?.stdout)?;
        for point in ["/dev", "/dev/pts", "/dev/shm"] {
            let options = mounts
                .iter()
                .find(|m| m.point == point)
                .map_or("", |m| m.options.as_str());
            contains(point, options, &option(kind))?;
            same("labels", 1, options.matches("context=").count())?;
        }
    }
    Ok(())
}

/// defcontext is for file systems that store labels, which no tmpfs does: the kernel refuses it. What is none
/// of the four must not become an option of the mount.
fn mount_context_type_that_is_wrong(c: &mut Case) -> Check {
    confine(c)?;
    for kind in ["defcontext", "nothing", "size=1,context", ""] {
        c.document()
            .annotations(json!({"run.oci.mount_context_type": kind}));
        c.create()?.wants(1)?.refused()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn mounts_added_later(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    let list = c.dir.join("mounts.json");
    let mounts =
        json!([{"destination": "/later", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]}]);
    fs::write(&list, mounts.to_string())?;
    c.rt(&["mounts", "add", &c.id, &list.to_string_lossy()])?.ok()?;
    labelled(c, &["/later"])
}

//! Runs in: SUITE. Containers in the mount namespace of the runtime: what they mount is on the host. Each
//! test has a mount namespace of its own for that, in which everything is shared, as on a host with systemd.

use super::{PROLOGUE, on_a_host, without_mount_namespace};
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, contains, ensure, same},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

tests! {
    host_mounts/are_there_and_gone_after_delete,
    host_mounts/are_gone_after_a_failed_create,
    host_mounts/are_gone_after_run,
    host_mounts/are_gone_after_a_create_that_was_killed,
    host_mounts/leave_the_propagation_of_the_host_alone,
    host_mounts/readonly_root,
    host_mounts/hooks_see_them,
    host_mounts/of_a_container_that_mounts_nothing,
    host_mounts/under_a_mount_of_somebody_else,
    host_mounts/namespace_by_path_is_refused,
    host_mounts/in_a_user_namespace_are_refused,
}

/// A procfs, a tmpfs, a volume, read-only, and a copy of it.
fn with_mounts(c: &mut Case) -> Check {
    without_mount_namespace(c);
    let volume = c.dir.join("volume");
    fs::create_dir_all(&volume)?;
    fs::write(volume.join("file"), "of the volume\n")?;
    c.document().mounts([
        Mount::new().destination("/proc").kind("proc").source("proc"),
        Mount::new()
            .destination("/dev")
            .kind("tmpfs")
            .source("tmpfs")
            .options(["mode=755"]),
        Mount::bind("/mnt", volume).options(["rbind", "ro"]),
        Mount::bind("/var", "rootfs/mnt").options(["rbind"]),
    ]);
    Ok(())
}

const ALL: &str = "/rootfs\n/rootfs/dev\n/rootfs/mnt\n/rootfs/proc\n/rootfs/var\n";

fn are_there_and_gone_after_delete(c: &mut Case) -> Check {
    with_mounts(c)?;
    c.shell("cat /mnt/file /var/file; test -d /proc/1; touch /mnt/x 2>/dev/null || echo read-only; echo x >/dev/null; exec sleep 1000");
    let run = on_a_host(
        c,
        "rt create --bundle $b $i >out 2>&1 </dev/null || { cat out; exit 1; }
         made; rt start $i; until grep -q read-only out; do sleep 0.1; done; cat out
         rt exec $i /bin/cat /var/file
         rt delete --force $i; echo deleted; made",
    )?
    .ok()?;
    let wish = format!("{ALL}of the volume\nof the volume\nread-only\nof the volume\ndeleted\n");
    same("mounts, and what is seen", wish.as_str(), run.stdout.as_str())
}

fn are_gone_after_a_failed_create(c: &mut Case) -> Check {
    with_mounts(c)?;
    let mount = json!({"destination": "/home", "type": "tmpfs", "source": "t", "options": ["size=wrong"]});
    c.mount(mount);
    let run = on_a_host(c, "rt create --bundle $b $i; echo $?; made")?.ok()?;
    same("code, and mounts that are left", "1\n", run.stdout.as_str())?;
    c.nothing_left()
}

fn are_gone_after_run(c: &mut Case) -> Check {
    with_mounts(c)?;
    c.shell("cat /var/file");
    let run = on_a_host(c, "rt run --bundle $b $i </dev/null; made")?.ok()?;
    same(
        "output, and mounts that are left",
        "of the volume\n",
        run.stdout.as_str(),
    )?;
    c.nothing_left()
}

/// By a hook, when everything is mounted.
fn are_gone_after_a_create_that_was_killed(c: &mut Case) -> Check {
    with_mounts(c)?;
    hook(c, "createRuntime", "made >seen; kill -9 $PPID")?;
    let run = on_a_host(
        c,
        "rt create --bundle $b $i >out 2>&1 </dev/null; cat $b/seen; rt delete --force $i; echo deleted; made",
    )?
    .ok()?;
    same("mounts", format!("{ALL}deleted\n").as_str(), run.stdout.as_str())?;
    c.nothing_left()
}

/// A hook of these lines; it runs in the bundle.
fn hook(c: &mut Case, kind: &str, lines: &str) -> Check {
    let script = c.bundle.join(kind);
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nset -- {} id; {PROLOGUE}cd $b; {lines}\n",
            c.bundle.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let hook: Value = json!([{"path": script}]);
    c.config["hooks"][kind] = hook;
    Ok(())
}

fn leave_the_propagation_of_the_host_alone(c: &mut Case) -> Check {
    with_mounts(c)?;
    let run = on_a_host(
        c,
        "host() { awk -v b=\"$b\" 'index($5, b) != 1' /proc/self/mountinfo; }
         host >before; rt create --bundle $b $i >out 2>&1 </dev/null || { cat out; exit 1; }
         host >during; awk -v b=\"$b/rootfs/\" 'index($5, b) == 1 && / shared:/' /proc/self/mountinfo
         rt delete --force $i; host >after; cmp before during && cmp before after && echo the same",
    )?
    .ok()?;
    same("mounts of the host", "the same\n", run.stdout.as_str())
}

fn readonly_root(c: &mut Case) -> Check {
    with_mounts(c)?;
    c.document().root().readonly(true);
    c.shell("touch /x 2>/dev/null || echo read-only");
    let run = on_a_host(
        c,
        "rt run --bundle $b $i </dev/null; touch $b/rootfs/x && echo writable",
    )?
    .ok()?;
    same(
        "inside, and after it",
        "read-only\nwritable\n",
        run.stdout.as_str(),
    )
}

fn hooks_see_them(c: &mut Case) -> Check {
    with_mounts(c)?;
    for kind in ["createRuntime", "createContainer", "poststart"] {
        hook(c, kind, &format!("echo {kind} $(cat rootfs/var/file) >>seen"))?;
    }
    c.args(&["/bin/sleep", "1000"]);
    let run = on_a_host(
        c,
        "rt create --bundle $b $i >out 2>&1 </dev/null || { cat out; exit 1; }
         rt start $i; rt delete --force $i; cat $b/seen",
    )?
    .ok()?;
    let wish = "createRuntime of the volume\ncreateContainer of the volume\npoststart of the volume\n";
    same("what hooks see", wish, run.stdout.as_str())
}

fn of_a_container_that_mounts_nothing(c: &mut Case) -> Check {
    without_mount_namespace(c);
    c.document().mounts(json!([]));
    c.args(&["/bin/sleep", "1000"]);
    let run = on_a_host(
        c,
        "rt create --bundle $b $i >out 2>&1 </dev/null || { cat out; exit 1; }
         made; rt delete --force $i; made; echo done",
    )?
    .ok()?;
    same("mounts", "done\n", run.stdout.as_str())
}

/// What somebody else has mounted over it is not unmounted; the record says what is still to be done.
fn under_a_mount_of_somebody_else(c: &mut Case) -> Check {
    with_mounts(c)?;
    let run = on_a_host(
        c,
        "rt create --bundle $b $i >out 2>&1 </dev/null || { cat out; exit 1; }
         mount -t tmpfs other $b/rootfs
         rt delete --force $i; echo $?; made | uniq -c | awk '$2 == \"/rootfs\" { print $1 }'
         umount $b/rootfs; rt delete $i; echo $?; made",
    )?
    .ok()?;
    same("codes, and mounts", "1\n2\n0\n", run.stdout.as_str())?;
    ensure!(
        run.stderr.contains("something else is mounted over it"),
        "no reason is given: {run:?}"
    );
    c.nothing_left()
}

fn in_a_user_namespace_are_refused(c: &mut Case) -> Check {
    with_mounts(c)?;
    c.map_ids(100_000)?;
    let run = on_a_host(c, "rt create --bundle $b $i; echo $?; made")?.ok()?;
    same("code, and mounts", "1\n", run.stdout.as_str())?;
    c.nothing_left()
}

/// pivot_root(2) there would change the root of everybody on the host.
fn namespace_by_path_is_refused(c: &mut Case) -> Check {
    c.join_namespace("mount", Some("/proc/self/ns/mnt"));
    c.mount(Mount::new().destination("/mnt").kind("tmpfs").source("t"));
    c.shell("echo in");
    let run = on_a_host(
        c,
        "cp /proc/self/mountinfo before; rt run --bundle $b $i </dev/null 2>err; echo $?; /bin/cat err
         cmp before /proc/self/mountinfo && echo the same",
    )?
    .ok()?;
    contains(
        "code and error",
        &run.stdout,
        "is the host's mount namespace, whose root would become the container's",
    )?;
    ensure!(
        run.stdout.starts_with("1\n") && run.stdout.ends_with("the same\n"),
        "{}",
        run.stdout
    );
    c.nothing_left()
}

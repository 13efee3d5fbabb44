//! Runs in: SUITE. What of the host is in the container's mount namespace, which root `exec` enters, and
//! whose keys it gets.

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, fail, same},
    runner::{self, Run},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

tests! {
    security/exec_of_a_runtime_in_a_chroot_stays_in_the_container,
    security/mounts_of_a_runtime_in_a_chroot_stay_in_the_container,
    security/no_namespace_of_a_runtime_in_a_chroot_has_the_machine,
    security/exec_into_a_root_that_is_mounted_over,
    exec/root_of_an_init_in_a_chroot_of_its_own,
    exec/root_without_a_mount_namespace,
    security/exec_makes_no_cwd,
    exec/cwd_that_is_missing,
    security/new_procfs_and_sysfs_are_refused,
    security/new_procfs_and_sysfs_are_refused_without_pivot,
    security/new_procfs_and_sysfs_are_refused_in_a_user_namespace,
    security/new_procfs_and_sysfs_are_refused_in_a_user_namespace_without_pivot,
    security/new_procfs_and_sysfs_are_refused_whatever_the_host_has,
    security/new_procfs_and_sysfs_are_refused_after_a_mount_of_the_host,
    security/keyring_of_another_cannot_be_planted,
    security/keyring_of_another_cannot_be_joined,
    exec/keyring_is_the_containers,
    exec/keyring_where_the_container_has_left_it,
}

/// The runtime as one that was started in a chroot: its root is a mount point, a copy of the host's tree.
fn chrooted(c: &Case) -> Check<Command> {
    let root = c.dir.join("chroot");
    fs::create_dir_all(&root)?;
    let own = c.command();
    let mut command = Command::new("/bin/busybox");
    command
        .args([
            "unshare",
            "-m",
            "--propagation",
            "private",
            "/bin/busybox",
            "sh",
            "-c",
        ])
        .arg("/bin/busybox mount -o rbind / \"$0\" && exec /bin/busybox chroot \"$0\" \"$@\"")
        .arg(&root)
        .arg(own.get_program())
        .args(own.get_args())
        .env_clear()
        .stdin(Stdio::null());
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    Ok(command)
}

fn from_a_chroot<S: AsRef<std::ffi::OsStr>>(c: &Case, words: &[S]) -> Check<Run> {
    runner::start(chrooted(c)?.args(words), &c.dir)?.finish()
}

/// A sleeper made and started by a runtime in a chroot.
fn start_from_a_chroot(c: &mut Case, options: &[&str]) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    from_a_chroot(c, &c.bundle_args("create", options, &c.id)?)?.ok()?;
    from_a_chroot(c, &["start", &c.id])?.ok()?;
    Ok(())
}

/// Device and inode of the rootfs, as `stat -c %d:%i` says them.
fn rootfs_identity(c: &Case) -> Check<String> {
    let rootfs = fs::metadata(c.rootfs("/"))?;
    Ok(format!("{}:{}\n", rootfs.dev(), rootfs.ino()))
}

const WHERE: [&str; 3] = ["/bin/sh", "-c", "stat -c %d:%i /; pwd"];

fn exec_of_a_runtime_in_a_chroot_stays_in_the_container(c: &mut Case) -> Check {
    for options in [&[][..], &["--no-pivot"]] {
        start_from_a_chroot(c, options)?;
        let wish = rootfs_identity(c)? + "/\n";
        let words = [&["exec", c.id.as_str()], &WHERE[..]].concat();
        let inside = from_a_chroot(c, &words)?.ok()?.stdout;
        same(
            &format!("root and cwd of exec {options:?}"),
            wish.as_str(),
            inside.as_str(),
        )?;
        let outside = c.rt(&words)?.ok()?.stdout;
        same(
            &format!("{options:?}: of exec by a runtime outside of the chroot"),
            wish.as_str(),
            outside.as_str(),
        )?;
        c.delete()?;
    }
    Ok(())
}

/// `mounts` is onggi's.
fn mounts_of_a_runtime_in_a_chroot_stay_in_the_container(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "")?;
    start_from_a_chroot(c, &[])?;
    let file = c.dir.join("mounts.json");
    let list = json!([{"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}]);
    fs::write(&file, list.to_string())?;
    let file = file.to_string_lossy();
    for (command, wish) in [("add", "/mnt/file\n"), ("remove", "/mnt/*\n")] {
        from_a_chroot(c, &["mounts", command, &c.id, &file])?.ok()?;
        let seen = c
            .rt(&["exec", &c.id, "/bin/sh", "-c", "echo /mnt/*"])?
            .ok()?
            .stdout;
        same(&format!("after mounts {command}"), wish, seen.as_str())?;
    }
    Ok(())
}

/// setns(2) of a process inside into its own mount namespace must not lead to the machine either.
fn no_namespace_of_a_runtime_in_a_chroot_has_the_machine(c: &mut Case) -> Check {
    for options in [&[][..], &["--no-pivot"]] {
        start_from_a_chroot(c, options)?;
        let pid = c.pid()?.to_string();
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["--mount", "--target", &pid, "/bin/stat", "-c", "%d:%i", "/"]);
        let seen = runner::start(command.stdin(Stdio::null()), &c.dir)?
            .finish()?
            .ok()?
            .stdout;
        let wish = rootfs_identity(c)?;
        same(
            &format!("root of the mount namespace {options:?}"),
            wish.as_str(),
            seen.as_str(),
        )?;
        c.delete()?;
    }
    Ok(())
}

/// A process inside that may mount can cover the root for whoever comes in later, but not exchange it for
/// itself.
fn exec_into_a_root_that_is_mounted_over(c: &mut Case) -> Check {
    c.grant(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
    c.shell("mount -o bind /var / && touch /tmp/done; exec sleep 1000");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let done = c.rootfs("/tmp/done");
    c.wait_until("the mount over the root", || Ok(done.exists()))?;
    let words = [&["exec", c.id.as_str()], &WHERE[..]].concat();
    let seen = c.rt(&words)?.ok()?.stdout;
    same("root of exec", rootfs_identity(c)? + "/\n", seen)
}

/// As servers do that confine themselves: whoever looks after them wants the container's tools, not the empty
/// directory.
fn root_of_an_init_in_a_chroot_of_its_own(c: &mut Case) -> Check {
    c.grant(&["CAP_SYS_CHROOT"]);
    fs::create_dir_all(c.rootfs("/var/empty/bin"))?;
    fs::copy(c.rootfs("/bin/busybox"), c.rootfs("/var/empty/bin/sleep"))?;
    c.args(&["/bin/busybox", "chroot", "/var/empty", "/bin/sleep", "1000"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let root = format!("/proc/{}/root", c.pid()?);
    let inner = c.rootfs("/var/empty");
    c.wait_until("init's chroot", || {
        Ok(fs::metadata(&root)?.ino() == fs::metadata(&inner)?.ino())
    })?;
    let words = [&["exec", c.id.as_str()], &WHERE[..]].concat();
    let seen = c.rt(&words)?.ok()?.stdout;
    same("root of exec", rootfs_identity(c)? + "/\n", seen)
}

fn root_without_a_mount_namespace(c: &mut Case) -> Check {
    c.grant(&["CAP_SYS_CHROOT"]);
    c.drop_namespace("mount");
    c.document().mounts(json!([]));
    for key in ["maskedPaths", "readonlyPaths"] {
        c.config["linux"][key] = json!([]);
    }
    fs::create_dir_all(c.rootfs("/var/empty/bin"))?;
    fs::copy(c.rootfs("/bin/busybox"), c.rootfs("/var/empty/bin/sleep"))?;
    let inner = c.rootfs("/var/empty");
    let lives: [(&[&str], &Path); 2] = [
        (&["/bin/sleep", "1000"], &c.rootfs("/")),
        (
            &["/bin/busybox", "chroot", "/var/empty", "/bin/sleep", "1000"],
            &inner,
        ),
    ];
    for (args, inits) in lives {
        c.args(args);
        c.create()?.ok()?;
        c.rt(&["start", &c.id])?.ok()?;
        let root = format!("/proc/{}/root", c.pid()?);
        c.wait_until("init's root", || {
            Ok(fs::metadata(&root)?.ino() == fs::metadata(inits)?.ino())
        })?;
        let words = [&["exec", c.id.as_str()], &WHERE[..]].concat();
        let seen = c.rt(&words)?.ok()?.stdout;
        same(
            &format!("root of exec, init is {args:?}"),
            rootfs_identity(c)? + "/\n",
            seen,
        )?;
        c.delete()?;
    }
    Ok(())
}

/// A link of the user's, to where only root may make something.
fn exec_makes_no_cwd(c: &mut Case) -> Check {
    symlink("/var", c.rootfs("/tmp/link"))?;
    c.start_sleeper()?;
    for path in ["/tmp/link/made", "/var/made/deep"] {
        let run = c.rt(&["exec", "--cwd", path, "--user", "1000:1000", &c.id, "/bin/true"])?;
        run.refused()?;
    }
    ensure!(!c.rootfs("/var/made").exists(), "exec has made a directory");
    Ok(())
}

/// The text from which Podman makes 127.
pub(crate) fn cwd_that_is_missing(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = c
        .rt(&["exec", "--cwd", "/missing", &c.id, "/bin/true"])?
        .wants(255)?;
    contains("stderr", &run.stderr.to_lowercase(), "no such file or directory")?;
    contains("stderr", &run.stderr, "/missing")?;
    let file = c.dir.join("process.json");
    let process = json!({"args": ["/bin/true"], "cwd": "/missing", "user": {"uid": 0, "gid": 0}});
    fs::write(&file, process.to_string())?;
    let run = c
        .rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?
        .wants(255)?;
    contains("stderr", &run.stderr.to_lowercase(), "no such file or directory")?;
    ensure!(!c.rootfs("/missing").exists(), "exec has made the directory");
    Ok(())
}

/// A process in a user namespace of its own tries to mount a procfs and a sysfs in which nothing is masked.
const ATTACK: &str = "mkdir -p /tmp/p /tmp/s; busybox unshare -U -r -m -n -p -f sh -c '
    mount -t proc p /tmp/p 2>/dev/null && echo a new procfs; mount -t sysfs s /tmp/s 2>/dev/null && echo a new sysfs
    mount -t sysfs -o ro s /tmp/s 2>/dev/null && echo a new sysfs that is read-only; echo tried'";

fn fresh(c: &mut Case, options: &[&str]) -> Check {
    if let Some(masked) = c.config["linux"]["maskedPaths"].as_array_mut() {
        // Some kernels have no /sys/firmware.
        masked.push(json!("/sys/kernel"));
    }
    c.process().user().clear().uid(1000).gid(1000);
    c.shell(ATTACK);
    let seen = c.run_with(options)?.ok()?.stdout;
    same("what was mounted", "tried\n", seen.as_str())
}

fn new_procfs_and_sysfs_are_refused(c: &mut Case) -> Check {
    fresh(c, &[])
}

fn new_procfs_and_sysfs_are_refused_without_pivot(c: &mut Case) -> Check {
    fresh(c, &["--no-pivot"])
}

fn new_procfs_and_sysfs_are_refused_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    fresh(c, &[])
}

fn new_procfs_and_sysfs_are_refused_in_a_user_namespace_without_pivot(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    fresh(c, &["--no-pivot"])
}

/// Mounts of the host, taken away with the value.
#[derive(Default)]
struct Mounted(Vec<PathBuf>);

impl Mounted {
    fn add(&mut self, kind: &str, place: PathBuf) -> Check {
        fs::create_dir_all(&place)?;
        mount(Some(kind), &place, Some(kind), MsFlags::empty(), None::<&str>)?;
        self.0.push(place);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for place in self.0.iter().rev() {
            let _shows_in_the_leak_check = umount2(place, MntFlags::MNT_DETACH);
        }
    }
}

/// Also where one lies on another, or below where the rootfs is mounted.
fn new_procfs_and_sysfs_are_refused_whatever_the_host_has(c: &mut Case) -> Check {
    let mut mounted = Mounted::default();
    for (place, kind) in [
        ("host/a", "proc"),
        ("host/a", "sysfs"),
        ("host/a b\\\n\t", "proc"),
        ("host/b", "proc"),
        ("host/b", "tmpfs"),
        ("host/b", "sysfs"),
        ("bundle/rootfs/mnt", "proc"),
    ] {
        mounted.add(kind, c.dir.join(place))?;
    }
    // What comes with the rootfs is the container's own.
    if let Some(masked) = c.config["linux"]["maskedPaths"].as_array_mut() {
        masked.push(json!("/mnt/sys"));
    }
    fresh(c, &["--no-pivot"])
}

/// The host's old tree lies below the container's, where the host's later mounts must not come.
fn new_procfs_and_sysfs_are_refused_after_a_mount_of_the_host(c: &mut Case) -> Check {
    let mut mounted = Mounted::default();
    let place = c.dir.join("later");
    mounted.add("tmpfs", place.clone())?;
    mount(
        None::<&str>,
        &place,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )?;
    c.args(&["/bin/sleep", "1000"]);
    c.create_with(&["--no-pivot"])?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    mounted.add("proc", place.join("proc"))?;
    let words = ["exec", "--user", "1000:1000", &c.id, "/bin/sh", "-c", ATTACK];
    let seen = c.rt(&words)?.ok()?.stdout;
    same("what was mounted", "tried\n", seen.as_str())?;
    c.delete()
}

/// Another container of the same user, whose /proc/keys is not masked. Returns its id.
fn hostile(c: &mut Case) -> Check<String> {
    let id = format!("{}-hostile", c.id);
    let (masked, path) = (
        c.config["linux"]["maskedPaths"].take(),
        c.config["linux"]["cgroupsPath"].clone(),
    );
    c.set_cgroup_leaf("hostile");
    c.args(&["/bin/sleep", "1000"]);
    c.rt(&c.bundle_args("run", &["--detach"], &id)?)?.ok()?;
    c.linux().masked_paths(masked);
    c.linux().cgroups_path(path);
    Ok(id)
}

fn keys(c: &Case, id: &str, word: &str, name: &str) -> Check<i64> {
    let said = c
        .rt(&["exec", id, "/bin/probe", "--keys", word, name])?
        .ok()?
        .stdout;
    match said.trim().parse() {
        Ok(serial) => Ok(serial),
        Err(_) => fail(format!("probe --keys {word} {name} said {said:?}")),
    }
}

/// The names under which runc and crun look for the session keyring of a container.
fn names(c: &Case) -> [String; 2] {
    [format!("_ses.{}", c.id), c.id.clone()]
}

fn keyring_of_another_cannot_be_planted(c: &mut Case) -> Check {
    let attacker = hostile(c)?;
    let mut planted = Vec::new();
    for name in names(c) {
        planted.push(keys(c, &attacker, "plant", &name)?);
    }
    ensure!(
        planted.iter().all(|serial| *serial > 0),
        "cannot plant: {planted:?}"
    );
    let inits = c.probe(&[])?.keyring_id;
    ensure!(inits > 0, "the container has no session keyring");
    ensure!(
        !planted.contains(&inits),
        "init's session keyring is the planted one"
    );
    c.delete()?;
    c.start_sleeper()?;
    let execs = keys(c, &c.id, "id", "")?;
    ensure!(
        !planted.contains(&execs),
        "exec's session keyring is the planted one"
    );
    same("deleted", 0, c.rt(&["delete", "--force", &attacker])?.code())
}

fn keyring_of_another_cannot_be_joined(c: &mut Case) -> Check {
    let attacker = hostile(c)?;
    c.shell("probe --keys add the-key >/dev/null; touch /tmp/done; exec sleep 1000");
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let done = c.rootfs("/tmp/done");
    c.wait_until("the container's key", || Ok(done.exists()))?;
    fs::remove_file(done)?;
    let own = keys(c, &c.id, "id", "")?;
    ensure!(
        keys(c, &c.id, "find", "the-key")? > 0,
        "exec does not have the container's key"
    );
    // What the attacker can see, the attacker can name.
    let seen = c.rt(&["exec", &attacker, "/bin/cat", "/proc/keys"])?.ok()?.stdout;
    let shown = seen
        .lines()
        .filter(|line| line.contains(&c.id) && !line.contains("hostile"));
    let shown: Vec<_> = shown
        .filter_map(|line| line.split_whitespace().nth(8))
        .map(|name| name.trim_end_matches(':').to_owned())
        .collect();
    for name in names(c).into_iter().chain(shown) {
        let theirs = keys(c, &attacker, "join", &name)?;
        ensure!(
            theirs != own,
            "another container has joined the keyring as {name:?}"
        );
    }
    same("deleted", 0, c.rt(&["delete", "--force", &attacker])?.code())
}

fn keyring_is_the_containers(c: &mut Case) -> Check {
    for user in [false, true] {
        if user {
            c.map_ids(100_000)?;
        }
        c.shell("probe --keys id '' >/tmp/new; mv /tmp/new /tmp/id; exec sleep 1000");
        c.create()?.ok()?;
        c.rt(&["start", &c.id])?.ok()?;
        let told = c.rootfs("/tmp/id");
        c.wait_until("the number of the keyring", || Ok(told.exists()))?;
        let inits: i64 = fs::read_to_string(&told)?.trim().parse().unwrap_or_default();
        fs::remove_file(&told)?;
        for round in 0..2 {
            let execs = keys(c, &c.id, "id", "")?;
            same(
                &format!("keyring of exec {round}, user namespace {user}"),
                inits,
                execs,
            )?;
        }
        c.delete()?;
    }
    Ok(())
}

/// Nobody has the container's keyring any more, so it is gone. What exec then makes is as well hidden.
fn keyring_where_the_container_has_left_it(c: &mut Case) -> Check {
    let attacker = hostile(c)?;
    c.args(&["/bin/probe", "--keys-and-sleep", "another"]);
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let live = c.spawn(&[
        "exec",
        &c.id,
        "/bin/sh",
        "-c",
        "probe --keys id ''; echo >/tmp/done; exec sleep 1000",
    ])?;
    let done = c.rootfs("/tmp/done");
    c.wait_until("the first exec", || Ok(done.exists()))?;
    let first: i64 = live.output().trim().parse().unwrap_or_default();
    ensure!(
        first > 0,
        "the first exec has no session keyring: {}",
        live.output()
    );
    let seen = c.rt(&["exec", &attacker, "/bin/cat", "/proc/keys"])?.ok()?.stdout;
    let shown = seen
        .lines()
        .find(|line| line.starts_with(&format!("{first:08x} ")));
    ensure!(shown.is_none(), "another container sees {shown:?}");
    same("keyring of the second exec", first, keys(c, &c.id, "id", "")?)?;
    same("deleted", 0, c.rt(&["delete", "--force", &attacker])?.code())?;
    c.delete()?;
    live.finish()?;
    Ok(())
}

//! Mount options: which of them reach what, how a string of several is read, and what a bind mount has of its
//! source's flags.

use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, ensure, fail, same},
    tests::fuse::EmptyFileSystem,
    tests::mounts::{has_options, mount_at},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

tests! {
    mounts/tmpfs_has_the_mode_of_its_place,
    mounts/tmpfs_has_the_mode_of_its_place_in_a_user_namespace,
    mounts/ro_of_sysfs_is_of_the_mount_alone,
    mounts/ro_is_of_no_shared_superblock,
    mounts/overlay_relative_to_the_bundle,
    mounts/remount_clears_what_is_not_named,
    mounts/remount_ro_of_a_bind_is_of_the_mount_alone,
    mounts/readonly_tmpfs_with_tmpcopyup,
    mounts/several_options_in_one_string,
    mounts/overlay_with_every_character,
    mounts/overlay_with_long_options,
    mounts/options_are_never_cut,
    mounts/unknown_option_of_cgroup2_is_refused,
    mounts/known_options_of_cgroup2,
    mounts/access_time_of_a_new_file_system,
    mounts/bind_flags_replace_those_of_the_source,
    mounts/bind_flags_in_a_user_namespace_keep_what_is_locked,
    mounts/masked_twice_is_mounted_once,
    mounts/idmap_relative_to_the_container_s_ids,
    mounts/option_of_no_bind_mount_is_refused,
}

tests! {
    mounts/overlay_with_500_layers: &[Kernel(6, 7)],
    mounts/bind_flags_of_a_file_server: &[Path("/dev/fuse")],
    mounts/bind_flags_of_a_file_server_in_a_user_namespace: &[Path("/dev/fuse")],
}

fn tmpfs(path: &str, options: &[&str]) -> Value {
    json!({"destination": path, "type": "tmpfs", "source": "t", "options": options})
}

fn folder(c: &Case, path: &str, mode: u32) -> Check {
    fs::create_dir_all(c.rootfs(path))?;
    Ok(fs::set_permissions(
        c.rootfs(path),
        fs::Permissions::from_mode(mode),
    )?)
}

pub(crate) fn tmpfs_has_the_mode_of_its_place(c: &mut Case) -> Check {
    folder(c, "/mnt/private", 0o700)?;
    folder(c, "/mnt/group", 0o2750)?;
    folder(c, "/mnt/given", 0o700)?;
    folder(c, "/mnt/copied", 0o711)?;
    nix::unistd::chown(&c.rootfs("/mnt/private"), Some(7.into()), Some(8.into()))?;
    symlink("private", c.rootfs("/mnt/link"))?;
    c.mount(tmpfs("/mnt/link", &["nosuid"]));
    c.mount(tmpfs("/mnt/group", &["size=1m"]));
    c.mount(tmpfs("/mnt/given", &["mode=1755"]));
    c.mount(tmpfs("/mnt/copied", &["tmpcopyup"]));
    c.mount(tmpfs("/mnt/new", &[]));
    c.mount(
        Mount::new()
            .destination("/mnt/long")
            .kind("tmpfs")
            .source("s".repeat(300))
            .options(["ro"]),
    );
    folder(c, "/mnt/long", 0o750)?;
    let out = c.sh("cd /mnt && stat -c '%n %a %u:%g' private group given copied new long")?;
    let wish = "private 700 0:0\ngroup 2750 0:0\ngiven 1755 0:0\ncopied 711 0:0\nnew 1777 0:0\nlong 750 0:0";
    same("modes and owners", wish, out.as_str())
}

fn tmpfs_has_the_mode_of_its_place_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    folder(c, "/mnt/private", 0o700)?;
    c.mount(tmpfs("/mnt/private", &["uid=5"]));
    same(
        "mode and owner",
        "700 5:0",
        c.sh("stat -c '%a %u:%g' /mnt/private")?.as_str(),
    )
}

/// Podman's and Kubernetes' privileged containers that join the network namespace of another one write to
/// /sys.
fn ro_of_sysfs_is_of_the_mount_alone(c: &mut Case) -> Check {
    let options = json!(["nosuid", "noexec", "nodev", "ro"]);
    for mount in c.config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "sysfs" {
            mount["options"] = options.clone();
        }
    }
    c.mount(
        Mount::new()
            .destination("/mnt/second")
            .kind("sysfs")
            .source("s")
            .options(["nosuid"]),
    );
    let report = c.probe(&[])?;
    has_options(&report, "/sys", &["ro"])?;
    let second = mount_at(&report, "/mnt/second")?;
    ensure!(
        second.options.iter().all(|option| option != "ro") && second.super_options == ["rw"],
        "the second sysfs of the network namespace:\n    wish:    writable\n    reality: {second:?}"
    );
    Ok(())
}

fn ro_is_of_no_shared_superblock(c: &mut Case) -> Check {
    let kinds = ["sysfs", "mqueue", "proc"];
    for kind in kinds {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{kind}"))
                .kind(kind)
                .source(kind)
                .options(["ro", "sync", "nosuid"]),
        );
    }
    let report = c.probe(&[])?;
    for kind in kinds {
        let mount = mount_at(&report, &format!("/mnt/{kind}"))?;
        same(kind, json!(["ro", "nosuid", "relatime"]), json!(mount.options))?;
        same(kind, json!(["rw"]), json!(mount.super_options))?;
    }
    Ok(())
}

/// A tmpfs of the host, with these flags of its mount; taken away in any case.
struct HostTmpfs(PathBuf);

impl HostTmpfs {
    fn new(c: &Case) -> Check<Self> {
        let path = c.dir.join("host");
        fs::create_dir(&path)?;
        mount(Some("t"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        Ok(Self(path))
    }
}

fn set_flags(path: &Path, flags: MsFlags) -> Check {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
    Ok(mount(None::<&str>, path, None::<&str>, flags, None::<&str>)?)
}

impl Drop for HostTmpfs {
    fn drop(&mut self) {
        let _shows_in_the_leak_check = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// mount(2), MS_REMOUNT: the flags are all that it has then, but for the access time.
fn remount_clears_what_is_not_named(c: &mut Case) -> Check {
    let changes = [
        (json!(["remount", "ro"]), json!(["ro", "noatime"]), "size=1024k"),
        (
            json!(["remount", "nosuid"]),
            json!(["rw", "nosuid", "noatime"]),
            "size=1024k",
        ),
        (
            json!(["remount", "size=2m"]),
            json!(["rw", "noatime"]),
            "size=2048k",
        ),
        (json!(["remount"]), json!(["rw", "noatime"]), "size=1024k"),
    ];
    for (number, (change, ..)) in changes.iter().enumerate() {
        let place = format!("/mnt/{number}");
        c.mount(tmpfs(
            &place,
            &["nosuid", "nodev", "noexec", "noatime", "size=1m"],
        ));
        c.mount(
            Mount::new()
                .destination(place)
                .kind("tmpfs")
                .source("t")
                .options(change),
        );
    }
    let report = c.probe(&[])?;
    for (number, (change, wish, size)) in changes.iter().enumerate() {
        let found = mount_at(&report, &format!("/mnt/{number}"))?;
        same(&change.to_string(), wish.clone(), json!(found.options))?;
        ensure!(
            found.super_options.iter().any(|option| option == size),
            "{change}: {found:?}"
        );
    }
    Ok(())
}

fn remount_ro_of_a_bind_is_of_the_mount_alone(c: &mut Case) -> Check {
    let host = HostTmpfs::new(c)?;
    c.mount(Mount::new().destination("/mnt").source(&host.0).options(["bind"]));
    c.mount(Mount::new().destination("/mnt").options(["remount", "ro"]));
    let report = c.probe(&["--access", "/mnt"])?;
    same("write inside", Some(30), report.access["/mnt"].write)?;
    same(
        "super options",
        "rw",
        first(&mount_at(&report, "/mnt")?.super_options),
    )?;
    fs::write(host.0.join("file"), "the host still writes")?;
    Ok(())
}

fn first(options: &[String]) -> &str {
    options.first().map_or("", String::as_str)
}

pub(crate) fn readonly_tmpfs_with_tmpcopyup(c: &mut Case) -> Check {
    folder(c, "/data/deep", 0o711)?;
    fs::write(c.rootfs("/data/deep/file"), "copied")?;
    c.mount(tmpfs("/data", &["ro", "tmpcopyup", "nosuid"]));
    let report = c.probe(&["--cat", "/data/deep/file", "--access", "/data"])?;
    same("file", "copied", report.cat["/data/deep/file"].text())?;
    same("write", Some(30), report.access["/data"].write)?;
    has_options(&report, "/data", &["ro", "nosuid"])
}

pub(crate) fn several_options_in_one_string(c: &mut Case) -> Check {
    c.mount(tmpfs("/mnt/a", &["nosuid", "mode=711,size=1m"]));
    c.mount(tmpfs("/mnt/b", &["mode=711,size=1m,nr_inodes=50", "noexec"]));
    let report = c.probe(&[])?;
    has_options(&report, "/mnt/a", &["nosuid", "mode=711", "size=1024k"])?;
    has_options(
        &report,
        "/mnt/b",
        &["noexec", "mode=711", "size=1024k", "nr_inodes=50"],
    )
}

/// Layers with one file each, of the layer's number. None is in the rootfs: layers must not hold each other.
fn layers(c: &Case, names: &[String]) -> Check<PathBuf> {
    let place = c.dir.join("l");
    for (number, name) in names.iter().enumerate() {
        fs::create_dir_all(place.join(name))?;
        fs::write(place.join(name).join(number.to_string()), name)?;
    }
    Ok(place)
}

fn overlay(c: &mut Case, options: Vec<String>) {
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("overlay")
            .source("o")
            .options(options),
    );
}

/// The names with a backslash before what overlay takes for its own, in a list.
fn lowerdir(place: &Path, names: &[String]) -> String {
    let escape = |name: &String| {
        let escaped: String = name
            .chars()
            .flat_map(|letter| {
                let is_special = matches!(letter, ':' | ',' | '\\');
                is_special.then_some('\\').into_iter().chain([letter])
            })
            .collect();
        format!("{}/{escaped}", place.display())
    };
    names.iter().map(escape).collect::<Vec<_>>().join(":")
}

fn shows_all(c: &mut Case, names: &[String]) -> Check {
    let out = c.sh("cd /mnt && ls | wc -l && cat 0")?;
    let wish = format!("{}\n{}", names.len(), names.first().map_or("", String::as_str));
    same("files of all layers", wish.as_str(), out.as_str())
}

fn overlay_with_every_character(c: &mut Case) -> Check {
    let names: Vec<String> = [
        "comma,s",
        "colon:s",
        "back\\slash",
        "quo\"te'",
        "spa ce",
        "equal=s",
    ]
    .map(str::to_owned)
    .into();
    let place = layers(c, &names)?;
    let lower = lowerdir(&place, &names);
    overlay(c, vec![format!("lowerdir={lower}")]);
    shows_all(c, &names)
}

/// More than fsconfig(2) takes in one value, and less than mount(2) takes at all; with what overlay unescapes
/// itself.
fn overlay_with_long_options(c: &mut Case) -> Check {
    let mut names: Vec<String> = (0..30).map(|n| format!("layer-{n}-{}", "x".repeat(20))).collect();
    names.extend(["comma,s", "colon:s", "back\\slash"].map(str::to_owned));
    let place = layers(c, &names)?;
    let lower = lowerdir(&place, &names);
    overlay(c, vec![format!("lowerdir={lower},index=off")]);
    shows_all(c, &names)
}

/// As the source of a bind mount, and not to the working directory of the caller.
fn overlay_relative_to_the_bundle(c: &mut Case) -> Check {
    for directory in ["l/a", "l/b:b", "up", "work"] {
        fs::create_dir_all(c.bundle.join(directory))?;
    }
    fs::write(c.bundle.join("l/a/0"), "a")?;
    fs::write(c.bundle.join("l/b:b/1"), "b")?;
    overlay(
        c,
        vec![
            "lowerdir=l/a:l/b\\:b".to_owned(),
            "upperdir=up".to_owned(),
            "workdir=work".to_owned(),
        ],
    );
    same("files", "0\n1\n2", c.sh("cd /mnt && touch 2 && ls")?.as_str())?;
    ensure!(c.bundle.join("up/2").exists(), "nothing in upperdir");
    Ok(())
}

fn overlay_with_500_layers(c: &mut Case) -> Check {
    let mut names: Vec<String> = (0..499).map(|n| format!("layer-{n}")).collect();
    names.push("colon:and,comma".to_owned());
    let place = layers(c, &names)?;
    let lower = lowerdir(&place, &names);
    overlay(c, vec![format!("lowerdir={lower}"), "index=off".to_owned()]);
    shows_all(c, &names)
}

/// The last layer's name reaches beyond the 4095 bytes that mount(2) looks at, and for each shorter one there
/// is a layer too.
fn options_are_never_cut(c: &mut Case) -> Check {
    const WANTED: usize = 4095 + 20;
    let last = "b".repeat(40);
    let mut names: Vec<String> = (1..last.len()).map(|length| "b".repeat(length)).collect();
    names.push(last);
    let place = layers(c, &names)?;
    let lowerdir = |first: &str| format!("lowerdir={0}/{first}:{0}/{1}", place.display(), "b".repeat(40));
    // Other options fill ten bytes each, with the comma; the first layer's name the rest.
    let rest = (WANTED - lowerdir(&"x".repeat(200)).len()) % 10;
    let first = "x".repeat(200 + rest);
    fs::create_dir(place.join(&first))?;
    let lowerdir = lowerdir(&first);
    let mut options = vec!["index=off".to_owned(); (WANTED - lowerdir.len()) / 10];
    options.push(lowerdir);
    same("bytes", WANTED, options.join(",").len())?;
    overlay(c, options);
    c.shell("ls /mnt");
    let run = c.run()?;
    if run.code() == 0 {
        return same("the last layer's file", "39", run.stdout.trim());
    }
    run.refused()?;
    c.nothing_left()
}

fn cgroup_mount(c: &mut Case, kind: &str, options: &[&str]) {
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind(kind)
            .source("cgroup")
            .options(options),
    );
}

fn unknown_option_of_cgroup2_is_refused(c: &mut Case) -> Check {
    let config = c.config.clone();
    for kind in ["cgroup", "cgroup2"] {
        for namespaced in [true, false] {
            c.config = config.clone();
            cgroup_mount(c, kind, &["ro", "no-such-option"]);
            if !namespaced {
                c.drop_namespace("cgroup");
            }
            c.shell("true");
            c.run()?.refused()?;
            c.nothing_left()?;
        }
    }
    Ok(())
}

fn known_options_of_cgroup2(c: &mut Case) -> Check {
    cgroup_mount(
        c,
        "cgroup2",
        &["ro", "nosuid", "nsdelegate", "memory_recursiveprot"],
    );
    // The superblock is one for all: it has what whoever mounted it first has said, and nothing of this.
    let before = cgroup_superblock()?;
    let report = c.probe(&[])?;
    let delegates = match before.split(',').any(|option| option == "nsdelegate") {
        true => "nsdelegate",
        false => "!nsdelegate",
    };
    has_options(&report, "/sys/fs/cgroup", &["ro", "nosuid", delegates])?;
    same("superblock", before.as_str(), cgroup_superblock()?.as_str())
}

/// The options of the superblock of version 2, as this process sees them.
fn cgroup_superblock() -> Check<String> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let options = table
        .lines()
        .find_map(|line| line.split_once(" - cgroup2 "))
        .and_then(|(_, rest)| rest.split(' ').nth(1));
    match options {
        Some(options) => Ok(options.to_owned()),
        None => fail("there is no cgroup2"),
    }
}

fn access_time_of_a_new_file_system(c: &mut Case) -> Check {
    let table: [(&[&str], &[&str]); 6] = [
        (&["noatime", "strictatime"], &["!noatime", "!relatime"]),
        (&["strictatime", "noatime"], &["!noatime", "!relatime"]),
        (&["noatime", "relatime"], &["noatime", "!relatime"]),
        (&["relatime", "noatime"], &["noatime", "!relatime"]),
        (&["noatime", "nodiratime"], &["noatime", "nodiratime"]),
        (
            &["strictatime", "nodiratime"],
            &["nodiratime", "!relatime", "!noatime"],
        ),
    ];
    for (index, (options, _)) in table.iter().enumerate() {
        c.mount(tmpfs(&format!("/mnt/{index}"), options));
    }
    let report = c.probe(&[])?;
    for (index, (_, wish)) in table.iter().enumerate() {
        has_options(&report, &format!("/mnt/{index}"), wish)?;
    }
    Ok(())
}

const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);
const ALL: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Flags of the host's mount; options in config.json; flags in the container without a user namespace.
const BIND_FLAGS: [(MsFlags, &[&str], &str); 20] = [
    (
        ALL.union(NOSYMFOLLOW),
        &[],
        "ro,nosuid,nodev,noexec,relatime,nosymfollow",
    ),
    (ALL, &["rslave"], "ro,nosuid,nodev,noexec,relatime"),
    (ALL, &["ro"], "ro,relatime"),
    (ALL, &["rw"], "rw,relatime"),
    (ALL, &["dev"], "rw,relatime"),
    (ALL, &["nosuid", "nodev"], "rw,nosuid,nodev,relatime"),
    (ALL, &["noexec", "ro"], "ro,noexec,relatime"),
    (ALL, &["dev", "exec", "suid", "atime"], "rw,relatime"),
    (NOSYMFOLLOW, &["nosuid"], "rw,nosuid,relatime"),
    (MsFlags::MS_NOATIME, &["ro"], "ro,noatime"),
    (MsFlags::MS_NOATIME, &["atime"], "rw,noatime"),
    (MsFlags::MS_NOATIME, &["norelatime"], "rw,noatime"),
    (MsFlags::MS_NOATIME, &["relatime"], "rw,relatime"),
    (MsFlags::MS_NOATIME, &["strictatime"], "rw"),
    (MsFlags::MS_NOATIME, &["nodiratime"], "rw,nodiratime,relatime"),
    (
        MsFlags::MS_NOATIME,
        &["nodiratime", "strictatime"],
        "rw,nodiratime",
    ),
    (MsFlags::MS_NODIRATIME, &["noatime"], "rw,noatime"),
    (MsFlags::MS_NODIRATIME, &["diratime"], "rw,nodiratime,relatime"),
    (MsFlags::MS_STRICTATIME, &["nosuid"], "rw,nosuid"),
    (MsFlags::MS_STRICTATIME, &["noatime", "strictatime"], "rw"),
];

/// What the container of `config` has at /mnt with such a bind mount.
fn bound(c: &mut Case, source: &Path, flags: MsFlags, options: &[&str]) -> Check<Result<String, String>> {
    set_flags(source, flags)?;
    let mut all = vec!["bind"];
    all.extend(options);
    c.mount(Mount::new().destination("/mnt").source(source).options(all));
    c.args(&["/bin/probe"]);
    let run = c.run()?;
    forget_last_mount(c);
    if run.code() != 0 {
        return Ok(Err(run.stderr));
    }
    Ok(Ok(mount_at(&run.ok()?.seen()?, "/mnt")?.options.join(",")))
}

fn bind_flags_replace_those_of_the_source(c: &mut Case) -> Check {
    let host = HostTmpfs::new(c)?;
    check_bind_flags(c, &host.0)
}

fn check_bind_flags(c: &mut Case, source: &Path) -> Check {
    for (flags, options, wish) in BIND_FLAGS {
        let found = bound(c, source, flags, options)?;
        same(&format!("{flags:?} {options:?}"), &Ok(wish.to_owned()), &found)?;
    }
    Ok(())
}

/// sshfs, rclone and the like: a superblock that another process answers for.
fn bind_flags_of_a_file_server(c: &mut Case) -> Check {
    let path = c.dir.join("server");
    let _served = EmptyFileSystem::mount(&path)?;
    check_bind_flags(c, &path)
}

fn bind_flags_of_a_file_server_in_a_user_namespace(c: &mut Case) -> Check {
    let path = c.dir.join("server");
    let served = EmptyFileSystem::mount(&path)?;
    check_bind_flags_locked(c, &path)?;
    drop(served);
    c.nothing_left()
}

/// What the kernel locks stays where it is not named, and cannot be taken away by name.
fn bind_flags_in_a_user_namespace_keep_what_is_locked(c: &mut Case) -> Check {
    let host = HostTmpfs::new(c)?;
    check_bind_flags_locked(c, &host.0)?;
    drop(host);
    c.nothing_left()
}

fn check_bind_flags_locked(c: &mut Case, source: &Path) -> Check {
    c.map_ids(100_000)?;
    let table: [(MsFlags, &[&str], Option<&str>); 17] = [
        (ALL, &[], Some("ro,nosuid,nodev,noexec,relatime")),
        (ALL, &["ro"], Some("ro,nosuid,nodev,noexec,relatime")),
        (MsFlags::MS_NODEV, &["ro"], Some("ro,nodev,relatime")),
        (
            MsFlags::MS_RDONLY,
            &["nosuid", "nodev"],
            Some("ro,nosuid,nodev,relatime"),
        ),
        (
            MsFlags::MS_NOEXEC,
            &["dev", "suid", "rw"],
            Some("rw,noexec,relatime"),
        ),
        (
            ALL.union(NOSYMFOLLOW),
            &["symfollow"],
            Some("ro,nosuid,nodev,noexec,relatime"),
        ),
        (NOSYMFOLLOW, &["rw"], Some("rw,relatime")),
        (MsFlags::MS_NOATIME, &["ro"], Some("ro,noatime")),
        (MsFlags::MS_NOATIME, &["atime"], Some("rw,noatime")),
        (
            MsFlags::MS_NODIRATIME,
            &["norelatime"],
            Some("rw,nodiratime,relatime"),
        ),
        (MsFlags::MS_RDONLY, &["rw"], None),
        (MsFlags::MS_NOSUID, &["suid"], None),
        (MsFlags::MS_NODEV, &["dev"], None),
        (MsFlags::MS_NOEXEC, &["exec"], None),
        (MsFlags::MS_NOATIME, &["relatime"], None),
        (MsFlags::MS_RELATIME, &["noatime"], None),
        (MsFlags::MS_STRICTATIME, &["relatime"], None),
    ];
    for (flags, options, wish) in table {
        let found = bound(c, source, flags, options)?;
        let matches = match (&found, wish) {
            (Ok(found), Some(wish)) => found == wish,
            (Err(text), None) => text.to_lowercase().contains("not permitted"),
            _ => false,
        };
        ensure!(
            matches,
            "{flags:?} {options:?}:\n    wish:    {wish:?}\n    reality: {found:?}"
        );
    }
    Ok(())
}

fn forget_last_mount(c: &mut Case) {
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.pop();
    }
}

pub(crate) fn masked_twice_is_mounted_once(c: &mut Case) -> Check {
    fs::create_dir(c.rootfs("/secret"))?;
    fs::write(c.rootfs("/etc/secret"), "secret")?;
    symlink("secret", c.rootfs("/link"))?;
    c.linux().masked_paths([
        "/secret",
        "/secret/",
        "/etc/secret",
        "/link",
        "/etc/../etc/secret",
    ]);
    c.linux().readonly_paths(["/var", "//var/", "/var"]);
    let report = c.probe(&[])?;
    let text = report.mountinfo.as_str();
    for path in ["/secret", "/etc/secret", "/var"] {
        let mounts = text.lines().filter(|line| line.split(' ').nth(4) == Some(path));
        same(&format!("mounts at {path}"), 1, mounts.count())?;
    }
    Ok(())
}

/// crun's `@`: the second number is an id of the container. And `idmap=` says no more than `idmap`.
fn idmap_relative_to_the_container_s_ids(c: &mut Case) -> Check {
    let volume = c.dir.join("volume");
    fs::create_dir(&volume)?;
    nix::unistd::chown(&volume, Some(5.into()), Some(6.into()))?;
    let relative = "idmap=uids=0-100000-3#@5-7-1;gids=@0-20-10";
    for (place, option) in [("relative", relative), ("empty", "idmap=")] {
        // Root inside may not make it.
        fs::create_dir_all(c.rootfs("/mnt").join(place))?;
        c.mount(json!({"destination": format!("/mnt/{place}"), "type": "bind", "source": volume, "options": ["bind", option]}));
    }
    c.map_ids(100_000)?;
    let said = c.sh("cd /mnt && stat -c '%u:%g' relative empty")?;
    same("owners", "7:26\n5:6", said.trim_end())?;
    c.mount(
        json!({"destination": "/mnt/relative", "type": "bind", "source": volume,
        "options": ["bind", "idmap=uids=@0-4294967290-1;gids=0-1-1"]}),
    );
    c.run()?.refused_with("@0-4294967290-1")?;
    c.nothing_left()
}

/// What has no effect on a bind mount is an error, and not a mount without it.
fn option_of_no_bind_mount_is_refused(c: &mut Case) -> Check {
    let volume = c.dir.join("volume");
    fs::create_dir(&volume)?;
    for option in [
        "foo=bar",
        "size=1m",
        "idmap=uids=0-1000-10;gids=0-1000-10,ro",
        "ro,nosuid",
    ] {
        c.mount(
            json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["bind", option]}),
        );
        c.run()?.refused_with(option)?;
        forget_last_mount(c);
    }
    c.nothing_left()
}

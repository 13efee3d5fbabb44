//! config.md root and mounts; config-linux.md rootfsPropagation, maskedPaths, readonlyPaths.

use super::{MountLine, has_options, mount_at};
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, ensure, same},
};
use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

tests! {
    mounts/defaults_have_their_type_and_options,
    mounts/root_writable,
    mounts/root_readonly,
    mounts/root_absolute_path,
    mounts/no_pivot,
    mounts/nothing_of_the_host_is_visible,
    mounts/propagation_of_rootfs_private,
    mounts/propagation_of_rootfs_slave,
    mounts/propagation_of_rootfs_shared,
    mounts/propagation_of_rootfs_unbindable,
    mounts/options_of_tmpfs,
    mounts/options_of_bind,
    mounts/option_rw_and_later_options_win,
    mounts/option_size_and_mode_of_tmpfs,
    mounts/option_tmpcopyup,
    mounts/bind_of_folder_and_file,
    mounts/bind_without_type,
    mounts/bind_source_relative_to_bundle,
    mounts/bind_is_not_recursive_rbind_is,
    mounts/bind_ro_leaves_submounts_writable,
    mounts/option_rro,
    mounts/options_recursive,
    mounts/propagation_of_a_mount,
    mounts/order_is_kept,
    mounts/destination_relative,
    mounts/destination_created,
    mounts/destination_through_absolute_symlink_stays_inside,
    mounts/destination_through_dot_dot_symlink_stays_inside,
    mounts/destination_through_dangling_symlink_stays_inside,
    mounts/destination_with_dot_dot_stays_inside,
    mounts/destination_is_a_symlink_to_a_file_of_the_host,
    mounts/overlay,
    mounts/cgroup,
    mounts/idmapped_bind,
    mounts/masked_file,
    mounts/masked_folder,
    mounts/masked_missing_is_skipped,
    mounts/masked_many_folders,
    mounts/readonly_paths,
    mounts/readonly_missing_is_skipped,
    mounts/in_user_namespace,
    mounts/readonly_tmpfs_with_mounts_below,
    mounts/remount,
    mounts/paths_in_an_unbindable_root,
}

const EROFS: i32 = 30;

fn defaults_have_their_type_and_options(c: &mut Case) -> Check {
    let report = c.probe(&["--stat", "/dev/shm", "--stat", "/dev/pts/ptmx"])?;
    let wish = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ];
    for (path, kind) in wish {
        same(path, kind, mount_at(&report, path)?.kind.as_str())?;
    }
    has_options(
        &report,
        "/dev",
        &["nosuid", "!noexec", "!nodev", "mode=755", "size=65536k"],
    )?;
    has_options(
        &report,
        "/dev/pts",
        &["nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"],
    )?;
    has_options(&report, "/dev/shm", &["nosuid", "noexec", "nodev"])?;
    has_options(&report, "/sys", &["ro", "nosuid", "noexec", "nodev"])?;
    same("mode of /dev/shm", Some(0o1777), report.stat["/dev/shm"].mode)
}

fn root_writable(c: &mut Case) -> Check {
    same(
        "write to /",
        Some(0),
        c.probe(&["--access", "/"])?.access["/"].write,
    )
}

fn root_readonly(c: &mut Case) -> Check {
    c.document().root().readonly(true);
    let report = c.probe(&["--access", "/", "--access", "/dev", "--access", "/dev/shm"])?;
    same("write to /", Some(EROFS), report.access["/"].write)?;
    same(
        "write to /dev (a mount of its own)",
        Some(0),
        report.access["/dev"].write,
    )?;
    has_options(&report, "/", &["ro"])
}

fn root_absolute_path(c: &mut Case) -> Check {
    c.config["root"]["path"] = json!(c.bundle.join("rootfs").to_string_lossy());
    same("output", "fine", c.sh("echo fine")?.as_str())
}

fn no_pivot(c: &mut Case) -> Check {
    let report = c.probe_with(&["--no-pivot"], &["--stat", "/bin/probe", "--stat", "/usr"])?;
    same("/bin/probe", "file", report.stat["/bin/probe"].kind.as_str())?;
    same("/usr of the host", Some(2), report.stat["/usr"].errno)
}

fn nothing_of_the_host_is_visible(c: &mut Case) -> Check {
    let report = c.probe(&[])?;
    let text = report.mountinfo.as_str();
    for line in text.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        let known = ["/proc", "/dev", "/sys"].iter().any(|p| point.starts_with(p));
        ensure!(
            point == "/" || known,
            "wish:    only mounts of the config\n    reality: {line}"
        );
    }
    same(
        "entries of /",
        "bin dev etc home mnt proc root sys tmp var",
        c.sh("echo $(ls /)")?.as_str(),
    )
}

fn rootfs_propagation(c: &mut Case, value: &str) -> Check<MountLine> {
    c.linux().rootfs_propagation(value);
    mount_at(&c.probe(&[])?, "/")
}

fn propagation_of_rootfs_private(c: &mut Case) -> Check {
    same(
        "propagation of /",
        "",
        rootfs_propagation(c, "private")?.propagation.as_str(),
    )?;
    same(
        "propagation of /",
        "",
        rootfs_propagation(c, "rprivate")?.propagation.as_str(),
    )
}

/// A bundle on a shared mount, so that "slave" has a master.
fn share_bundle(c: &Case) -> Check {
    let bundle = c.bundle.as_path();
    mount(Some(bundle), bundle, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(
        None::<&str>,
        bundle,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )?;
    Ok(())
}

fn unshare_bundle(c: &Case) -> Check {
    nix::mount::umount2(&c.bundle, nix::mount::MntFlags::MNT_DETACH)?;
    Ok(())
}

fn propagation_of_rootfs_slave(c: &mut Case) -> Check {
    share_bundle(c)?;
    let propagation = rootfs_propagation(c, "rslave")?.propagation;
    ensure!(
        propagation.contains("master:"),
        "wish master:N, reality {propagation:?}"
    );
    ensure!(
        !propagation.contains("shared:"),
        "wish no shared:N, reality {propagation:?}"
    );
    unshare_bundle(c)
}

fn propagation_of_rootfs_shared(c: &mut Case) -> Check {
    share_bundle(c)?;
    let propagation = rootfs_propagation(c, "shared")?.propagation;
    ensure!(
        propagation.contains("shared:"),
        "wish shared:N, reality {propagation:?}"
    );
    unshare_bundle(c)
}

fn propagation_of_rootfs_unbindable(c: &mut Case) -> Check {
    let propagation = rootfs_propagation(c, "unbindable")?.propagation;
    ensure!(
        propagation.contains("unbindable"),
        "wish unbindable, reality {propagation:?}"
    );
    Ok(())
}

fn options_of_tmpfs(c: &mut Case) -> Check {
    let table: [(&str, &[&str]); 15] = [
        ("ro", &["ro"]),
        ("rw", &["rw", "!ro"]),
        ("nosuid", &["nosuid"]),
        ("nodev", &["nodev"]),
        ("noexec", &["noexec"]),
        ("noatime", &["noatime"]),
        ("nodiratime", &["nodiratime"]),
        ("relatime", &["relatime"]),
        ("strictatime", &["!relatime", "!noatime"]),
        ("sync", &["sync"]),
        ("dirsync", &["dirsync"]),
        ("lazytime", &["lazytime"]),
        ("nosymfollow", &["nosymfollow"]),
        ("iversion", &[]),
        ("silent", &[]),
    ];
    let mut wishes = Vec::new();
    for (index, (option, wish)) in table.iter().enumerate() {
        let path = format!("/mnt/{index}-{option}");
        c.mount(
            Mount::new()
                .destination(&path)
                .kind("tmpfs")
                .source("t")
                .options(json!([option])),
        );
        wishes.push((path, *wish));
    }
    let report = c.probe(&[])?;
    for (path, wish) in wishes {
        has_options(&report, &path, wish)?;
    }
    Ok(())
}

fn options_of_bind(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    let options = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    for option in options {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{option}"))
                .source(source.to_string_lossy())
                .options(json!(["bind", option])),
        );
    }
    let report = c.probe(&["--access", "/mnt/ro", "--access", "/mnt/noexec"])?;
    for option in options {
        has_options(&report, &format!("/mnt/{option}"), &[option])?;
    }
    same("write to ro", Some(EROFS), report.access["/mnt/ro"].write)?;
    same("write to noexec", Some(0), report.access["/mnt/noexec"].write)
}

fn option_rw_and_later_options_win(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/mnt/a")
            .kind("tmpfs")
            .source("t")
            .options(["ro", "noexec", "nosuid", "rw", "exec"]),
    );
    has_options(&c.probe(&[])?, "/mnt/a", &["!ro", "!noexec", "nosuid"])
}

fn option_size_and_mode_of_tmpfs(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/mnt/a")
            .kind("tmpfs")
            .source("t")
            .options(["size=128k", "mode=1730", "uid=7", "gid=8", "nr_inodes=50"]),
    );
    let report = c.probe(&["--stat", "/mnt/a"])?;
    has_options(&report, "/mnt/a", &["size=128k", "nr_inodes=50"])?;
    let stat = &report.stat["/mnt/a"];
    same("mode", Some(0o1730), stat.mode)?;
    same("owner", (Some(7), Some(8)), (stat.uid, stat.gid))
}

fn readonly_tmpfs_with_mounts_below(c: &mut Case) -> Check {
    // Podman's containers with a read-only root have a read-only /dev, with devpts and more in it.
    for mount in c.config["mounts"].as_array_mut().into_iter().flatten() {
        if let (true, Some(options)) = (mount["destination"] == "/dev", mount["options"].as_array_mut()) {
            options.push(json!("ro"));
        }
    }
    c.document().root().readonly(true);
    let out = c.sh("test -c /dev/null && test -d /dev/pts && test -e /dev/ptmx && echo made; \
                    touch /dev/file 2>/dev/null && echo written; echo x >/dev/null && echo usable; \
                    while read -r a place b options c; do test \"$place\" = /dev && echo \"${options%%,*}\"; done </proc/mounts; true")?;
    same("a read-only /dev", "made\nusable\nro", out.as_str())
}

fn option_tmpcopyup(c: &mut Case) -> Check {
    fs::create_dir_all(c.rootfs("/etc/deep"))?;
    fs::write(c.rootfs("/etc/deep/file"), "copied")?;
    symlink("deep/file", c.rootfs("/etc/link"))?;
    c.mount(
        Mount::new()
            .destination("/etc")
            .kind("tmpfs")
            .source("t")
            .options(["tmpcopyup"]),
    );
    let report = c.probe(&[
        "--cat",
        "/etc/deep/file",
        "--cat",
        "/etc/link",
        "--cat",
        "/etc/hostname",
    ])?;
    same("type", "tmpfs", mount_at(&report, "/etc")?.kind.as_str())?;
    same("file", "copied", report.cat["/etc/deep/file"].text())?;
    same("link", "copied", report.cat["/etc/link"].text())?;
    same("/etc/hostname", "rootfs", report.cat["/etc/hostname"].text())
}

fn bind_of_folder_and_file(c: &mut Case) -> Check {
    let (folder, file) = (c.dir.join("folder"), c.dir.join("file"));
    fs::create_dir(&folder)?;
    fs::write(folder.join("inside"), "in the folder")?;
    fs::write(&file, "in the file")?;
    c.mount(Mount::bind("/mnt/folder", folder.to_string_lossy()).options(["bind"]));
    c.mount(Mount::bind("/etc/hostname", file.to_string_lossy()).options(["bind"]));
    c.mount(Mount::bind("/new/file", file.to_string_lossy()).options(["rbind"]));
    let report = c.probe(&[
        "--cat",
        "/mnt/folder/inside",
        "--cat",
        "/etc/hostname",
        "--cat",
        "/new/file",
    ])?;
    same("folder", "in the folder", report.cat["/mnt/folder/inside"].text())?;
    same("file", "in the file", report.cat["/etc/hostname"].text())?;
    same("created file", "in the file", report.cat["/new/file"].text())
}

fn bind_without_type(c: &mut Case) -> Check {
    let folder = c.dir.join("folder");
    fs::create_dir(&folder)?;
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source(folder.to_string_lossy())
            .options(["rbind"]),
    );
    let report = c.probe(&[])?;
    let root = mount_at(&report, "/mnt")?.root;
    ensure!(
        root.ends_with("/folder"),
        "wish: the folder is mounted, reality: root {root}"
    );
    Ok(())
}

fn bind_source_relative_to_bundle(c: &mut Case) -> Check {
    fs::create_dir(c.bundle.join("data"))?;
    fs::write(c.bundle.join("data/file"), "beside config.json")?;
    c.mount(Mount::bind("/mnt", "data").options(["bind"]));
    same("content", "beside config.json", c.sh("cat /mnt/file")?.as_str())
}

/// A folder on the host with a tmpfs mounted in its `sub`.
fn source_with_submount(c: &Case) -> Check<PathBuf> {
    let source = c.dir.join("source");
    fs::create_dir_all(source.join("sub"))?;
    mount(
        Some("t"),
        &source.join("sub"),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    fs::write(source.join("sub/file"), "in the submount")?;
    Ok(source)
}

fn forget_submount(source: &Path) -> Check {
    nix::mount::umount(&source.join("sub"))?;
    Ok(())
}

fn bind_is_not_recursive_rbind_is(c: &mut Case) -> Check {
    let source = source_with_submount(c)?;
    for option in ["bind", "rbind"] {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{option}"))
                .source(source.to_string_lossy())
                .options(json!([option])),
        );
    }
    let report = c.probe(&["--stat", "/mnt/bind/sub/file", "--stat", "/mnt/rbind/sub/file"])?;
    forget_submount(&source)?;
    same(
        "bind: the submount's file",
        Some(2),
        report.stat["/mnt/bind/sub/file"].errno,
    )?;
    same(
        "rbind: the submount's file",
        "file",
        report.stat["/mnt/rbind/sub/file"].kind.as_str(),
    )
}

fn bind_ro_leaves_submounts_writable(c: &mut Case) -> Check {
    let source = source_with_submount(c)?;
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source(source.to_string_lossy())
            .options(["rbind", "ro"]),
    );
    let report = c.probe(&["--access", "/mnt", "--access", "/mnt/sub"])?;
    forget_submount(&source)?;
    same("write to the bind", Some(EROFS), report.access["/mnt"].write)?;
    same("write to its submount", Some(0), report.access["/mnt/sub"].write)
}

fn option_rro(c: &mut Case) -> Check {
    let source = source_with_submount(c)?;
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source(source.to_string_lossy())
            .options(["rbind", "rro"]),
    );
    let report = c.probe(&["--access", "/mnt", "--access", "/mnt/sub"])?;
    let host = fs::write(source.join("sub/host-writes"), "x");
    forget_submount(&source)?;
    same("write to the bind", Some(EROFS), report.access["/mnt"].write)?;
    same(
        "write to its submount",
        Some(EROFS),
        report.access["/mnt/sub"].write,
    )?;
    ensure!(
        host.is_ok(),
        "the host's own mount has become read-only: {host:?}"
    );
    Ok(())
}

fn options_recursive(c: &mut Case) -> Check {
    let source = source_with_submount(c)?;
    let table = [
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
        ("rstrictatime", "!relatime"),
    ];
    for (option, _) in table {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{option}"))
                .source(source.to_string_lossy())
                .options(json!(["rbind", option])),
        );
    }
    let report = c.probe(&[])?;
    forget_submount(&source)?;
    for (option, wish) in table {
        has_options(&report, &format!("/mnt/{option}"), &[wish])?;
        has_options(&report, &format!("/mnt/{option}/sub"), &[wish])?;
    }
    Ok(())
}

fn propagation_of_a_mount(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    mount(Some("t"), &source, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    mount(
        None::<&str>,
        &source,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )?;
    for option in [
        "rshared",
        "rslave",
        "rprivate",
        "shared",
        "slave",
        "private",
        "unbindable",
    ] {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{option}"))
                .source(source.to_string_lossy())
                .options(json!(["rbind", option])),
        );
    }
    let report = c.probe(&[])?;
    nix::mount::umount(&source)?;
    let wish = [
        ("rshared", "shared:"),
        ("shared", "shared:"),
        ("rslave", "master:"),
        ("slave", "master:"),
        ("unbindable", "unbindable"),
    ];
    for (option, mark) in wish {
        let mount = mount_at(&report, &format!("/mnt/{option}"))?;
        ensure!(
            mount.propagation.starts_with(mark),
            "{option}: wish {mark}, reality {mount:?}"
        );
    }
    for option in ["rprivate", "private"] {
        same(
            option,
            "",
            mount_at(&report, &format!("/mnt/{option}"))?.propagation.as_str(),
        )?;
    }
    Ok(())
}

fn order_is_kept(c: &mut Case) -> Check {
    c.mount(Mount::new().destination("/mnt").kind("tmpfs").source("outer"));
    c.mount(
        Mount::new()
            .destination("/mnt/inner")
            .kind("tmpfs")
            .source("inner"),
    );
    let report = c.probe(&[])?;
    mount_at(&report, "/mnt/inner")?;
    let text = report.mountinfo.as_str();
    ensure!(
        text.find(" /mnt ") < text.find(" /mnt/inner "),
        "wrong order in {text}"
    );
    // And not sorted: what comes later covers what lies below it.
    c.mount(
        Mount::new()
            .destination("/var/below")
            .kind("tmpfs")
            .source("inner"),
    );
    c.mount(Mount::new().destination("/var").kind("tmpfs").source("outer"));
    same("/var, mounted after /var/below", "", c.sh("ls /var")?.as_str())
}

fn destination_relative(c: &mut Case) -> Check {
    c.mount(Mount::new().destination("mnt").kind("tmpfs").source("t"));
    c.process().cwd("/tmp");
    same("type", "tmpfs", mount_at(&c.probe(&[])?, "/mnt")?.kind.as_str())
}

fn destination_created(c: &mut Case) -> Check {
    c.mount(Mount::new().destination("/a/b/c").kind("tmpfs").source("t"));
    mount_at(&c.probe(&["--stat", "/a"])?, "/a/b/c")?;
    same(
        "mode of the created parent",
        0o755,
        fs::metadata(c.rootfs("/a"))?.mode() & 0o777,
    )
}

/// A mount at `destination` must show up at `real` inside; `host` must not come into being.
fn mounted_inside(c: &mut Case, destination: &str, real: &str, host: &Path) -> Check {
    c.mount(Mount::new().destination(destination).kind("tmpfs").source("t"));
    let report = c.probe(&[]);
    ensure!(!host.exists(), "{} came into being on the host", host.display());
    same("type", "tmpfs", mount_at(&report?, real)?.kind.as_str())
}

fn destination_through_absolute_symlink_stays_inside(c: &mut Case) -> Check {
    symlink("/var", c.rootfs("/link"))?;
    mounted_inside(
        c,
        "/link/spec-test-x",
        "/var/spec-test-x",
        Path::new("/var/spec-test-x"),
    )
}

fn destination_through_dot_dot_symlink_stays_inside(c: &mut Case) -> Check {
    symlink("../../../../../../../tmp", c.rootfs("/link"))?;
    mounted_inside(
        c,
        "/link/spec-test-y",
        "/tmp/spec-test-y",
        Path::new("/tmp/spec-test-y"),
    )
}

fn destination_through_dangling_symlink_stays_inside(c: &mut Case) -> Check {
    symlink("/spec-test-nowhere/deep", c.rootfs("/link"))?;
    c.mount(Mount::new().destination("/link").kind("tmpfs").source("t"));
    let run = c.run()?;
    ensure!(
        !Path::new("/spec-test-nowhere").exists(),
        "/spec-test-nowhere came into being on the host"
    );
    // Refusing and creating inside are both safe.
    if run.code() != 0 {
        run.refused()?;
    }
    c.nothing_left()
}

fn destination_with_dot_dot_stays_inside(c: &mut Case) -> Check {
    mounted_inside(
        c,
        "/../../../../tmp/spec-test-z",
        "/tmp/spec-test-z",
        Path::new("/tmp/spec-test-z"),
    )
}

fn destination_is_a_symlink_to_a_file_of_the_host(c: &mut Case) -> Check {
    let victim = c.dir.join("victim");
    fs::write(&victim, "precious")?;
    let source = c.dir.join("source");
    fs::write(&source, "attack")?;
    symlink(&victim, c.rootfs("/etc/target"))?;
    c.mount(
        Mount::new()
            .destination("/etc/target")
            .source(source.to_string_lossy())
            .options(["bind"]),
    );
    c.args(&["/bin/sh", "-c", "echo overwritten > /etc/target"]);
    c.run()?;
    same(
        "the host's file",
        "precious",
        fs::read_to_string(&victim)?.as_str(),
    )
}

fn overlay(c: &mut Case) -> Check {
    for name in ["lower", "upper", "work"] {
        fs::create_dir(c.dir.join(name))?;
    }
    fs::write(c.dir.join("lower/file"), "lower")?;
    let path = |name: &str| c.dir.join(name).to_string_lossy().into_owned();
    let options = [
        format!("lowerdir={}", path("lower")),
        format!("upperdir={}", path("upper")),
        format!("workdir={}", path("work")),
    ];
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("overlay")
            .source("overlay")
            .options(options),
    );
    same(
        "content",
        "lower",
        c.sh("cat /mnt/file; echo upper > /mnt/file")?.as_str(),
    )?;
    same(
        "upper",
        "upper\n",
        fs::read_to_string(c.dir.join("upper/file"))?.as_str(),
    )?;
    same(
        "lower",
        "lower",
        fs::read_to_string(c.dir.join("lower/file"))?.as_str(),
    )
}

fn cgroup(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(["nosuid", "noexec", "nodev", "relatime", "ro"]),
    );
    let report = c.probe(&[
        "--cat",
        "/sys/fs/cgroup/cgroup.procs",
        "--access",
        "/sys/fs/cgroup/cgroup.procs",
    ])?;
    let mount = mount_at(&report, "/sys/fs/cgroup")?;
    same("type", "cgroup2", mount.kind.as_str())?;
    has_options(&report, "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"])?;
    same(
        "cgroup.procs",
        "1",
        report.cat["/sys/fs/cgroup/cgroup.procs"].text(),
    )?;
    same(
        "write",
        Some(EROFS),
        report.access["/sys/fs/cgroup/cgroup.procs"].write,
    )
}

fn idmapped_bind(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "x")?;
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    c.mount(
        Mount::bind("/mnt", source.to_string_lossy())
            .options(["bind", "idmap"])
            .uid_mappings(&map)
            .gid_mappings(map),
    );
    let stat = c.probe(&["--stat", "/mnt/file"])?.stat["/mnt/file"].clone();
    same(
        "owner of a file of host uid 0",
        (Some(1000), Some(1000)),
        (stat.uid, stat.gid),
    )?;
    let on_disk = fs::metadata(source.join("file"))?;
    same("owner on disk", (0, 0), (on_disk.uid(), on_disk.gid()))
}

fn masked_file(c: &mut Case) -> Check {
    fs::write(c.rootfs("/etc/secret"), "secret")?;
    c.linux().masked_paths(["/etc/secret", "/proc/version"]);
    let report = c.probe(&[
        "--cat",
        "/etc/secret",
        "--stat",
        "/etc/secret",
        "--stat",
        "/proc/version",
    ])?;
    same("content", "", report.cat["/etc/secret"].text())?;
    for path in ["/etc/secret", "/proc/version"] {
        let stat = &report.stat[path];
        same(
            path,
            ("char", Some(1), Some(3)),
            (stat.kind.as_str(), stat.major, stat.minor),
        )?;
    }
    same(
        "on the host",
        "secret",
        fs::read_to_string(c.rootfs("/etc/secret"))?.as_str(),
    )
}

fn masked_folder(c: &mut Case) -> Check {
    fs::create_dir(c.rootfs("/secret"))?;
    fs::write(c.rootfs("/secret/file"), "secret")?;
    c.linux().masked_paths(["/secret"]);
    let report = c.probe(&["--access", "/secret"])?;
    same("entries", Some(0), report.access["/secret"].entries)?;
    same("write", Some(EROFS), report.access["/secret"].write)
}

fn masked_missing_is_skipped(c: &mut Case) -> Check {
    c.linux().masked_paths(["/no/such/path", "/proc/no-such-file"]);
    same("output", "fine", c.sh("echo fine")?.as_str())?;
    ensure!(!c.rootfs("/no").exists(), "/no came into being in the rootfs");
    Ok(())
}

fn masked_many_folders(c: &mut Case) -> Check {
    let paths: Vec<String> = (0..60).map(|n| format!("/many/{n}")).collect();
    for path in &paths {
        fs::create_dir_all(c.rootfs(path))?;
        fs::write(c.rootfs(&format!("{path}/file")), "x")?;
    }
    c.linux().masked_paths(paths);
    same(
        "files that are left",
        "0",
        c.sh("find /many -type f | wc -l")?.as_str(),
    )?;
    // Each file system takes memory of the kernel, which no limit of the container counts.
    let report = c.probe(&[])?;
    let text = report.mountinfo.as_str();
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut masks: Vec<&str> = words
        .filter(|words| words.get(4).is_some_and(|path| path.starts_with("/many/")))
        .filter_map(|words| words.get(2).copied())
        .collect();
    same("mounts below /many", 60, masks.len())?;
    masks.dedup();
    same("file systems of the masks", 1, masks.len())
}

fn readonly_paths(c: &mut Case) -> Check {
    fs::write(c.rootfs("/etc/file"), "x")?;
    c.linux().readonly_paths(["/var", "/etc/file", "/proc/sys"]);
    let report = c.probe(&[
        "--access",
        "/var",
        "--access",
        "/etc/file",
        "--access",
        "/etc",
        "--access",
        "/proc/sys/kernel/msgmax",
    ])?;
    same("write to /var", Some(EROFS), report.access["/var"].write)?;
    same(
        "write to /etc/file",
        Some(EROFS),
        report.access["/etc/file"].write,
    )?;
    same("read of /etc/file", Some(0), report.access["/etc/file"].read)?;
    same("write to /etc", Some(0), report.access["/etc"].write)?;
    same(
        "write to /proc/sys/kernel/msgmax",
        Some(EROFS),
        report.access["/proc/sys/kernel/msgmax"].write,
    )
}

fn readonly_missing_is_skipped(c: &mut Case) -> Check {
    c.linux().readonly_paths(["/no/such/path"]);
    same("output", "fine", c.sh("echo fine")?.as_str())
}

fn in_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.document().root().readonly(true);
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    mount(
        Some("t"),
        &source,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        None::<&str>,
    )?;
    // The flags of the host's mount are locked in a user namespace: `ro` must not try to clear them.
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source(source.to_string_lossy())
            .options(["bind", "ro"]),
    );
    let report = c.probe(&[
        "--access",
        "/",
        "--access",
        "/dev/null",
        "--access",
        "/mnt",
        "--access",
        "/dev/shm",
    ]);
    nix::mount::umount(&source)?;
    let report = report?;
    for (path, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        same(path, kind, mount_at(&report, path)?.kind.as_str())?;
    }
    same("write to /", Some(EROFS), report.access["/"].write)?;
    same("write to /dev/null", Some(0), report.access["/dev/null"].write)?;
    same("write to /dev/shm", Some(0), report.access["/dev/shm"].write)?;
    has_options(&report, "/mnt", &["ro", "nosuid", "nodev"])
}

/// A mount of the list can be changed by a later entry.
fn remount(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("tmpfs")
            .source("t")
            .options(["nosuid"]),
    );
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("tmpfs")
            .source("t")
            .options(["remount", "ro", "nosuid"]),
    );
    let report = c.probe(&["--access", "/mnt"])?;
    has_options(&report, "/mnt", &["ro", "nosuid"])?;
    same("write to /mnt", Some(EROFS), report.access["/mnt"].write)
}

/// Found by random/configs, seed 37: of an unbindable mount no read-only copies can be made.
fn paths_in_an_unbindable_root(c: &mut Case) -> Check {
    c.linux().rootfs_propagation("unbindable");
    c.linux().readonly_paths(["/etc"]);
    c.linux().masked_paths(["/root"]);
    let report = c.probe(&["--access", "/etc", "--access", "/root"])?;
    same("write to /etc", Some(EROFS), report.access["/etc"].write)?;
    same("entries of /root", Some(0), report.access["/root"].entries)?;
    let propagation = mount_at(&report, "/")?.propagation;
    ensure!(
        propagation.contains("unbindable"),
        "wish unbindable, reality {propagation:?}"
    );
    Ok(())
}

//! Runs in: SUITE. Paths of every kind that checkpoint and restore are given, in config.json and in flags:
//! relative, with dots and slashes, through links, one mount on another. criu, which takes paths apart by
//! their text, must get clean ones.

use crate::{
    case::Case,
    config::{Device, Mount},
    faults::where_forbidden,
    outcome::{Check, same},
    runner,
    tests::checkpoint::{
        COUNTER, CRIU, checkpoint, count, goes_on_after, restore, start_counter, text, wait_for_count,
    },
};
use serde_json::json;
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

tests! {
    checkpoint/sources_of_every_kind: CRIU,
    checkpoint/mounts_on_mounts: CRIU,
    checkpoint/tmpfs_over_a_bind_is_refused: CRIU,
    checkpoint/masked_bind_is_refused: CRIU,
    checkpoint/relative_images_and_state_root: CRIU,
    checkpoint/images_behind_links: CRIU,
    checkpoint/device_with_an_odd_path: CRIU,
    checkpoint/devices_that_could_not_be_made: CRIU,
    checkpoint/devices_of_a_user_namespace_are_the_hosts: CRIU,
}

fn bind(c: &mut Case, source: &str, destination: &str) {
    c.mount(Mount::bind(destination, source).options(["rbind"]));
}

/// `words` of the command in `directory`, with its standard output and error on /dev/null.
fn quiet_in(c: &Case, directory: &Path, root: &str, words: &[OsString]) -> Check {
    let log = c.dir.join("log");
    let mut line: Command = c.host.runtime_command();
    line.arg("--root").arg(root).arg("--log").arg(&log).args(words);
    line.current_dir(directory).stdin(Stdio::null());
    line.stdout(Stdio::null()).stderr(Stdio::null());
    runner::start_with_own_stdio(&mut line, c.dir.join("none"), log)?
        .finish_within(Duration::from_secs(60))?
        .ok()?;
    Ok(())
}

/// Runs the container, saves and restores it with these flags, from the test's directory; the count goes on.
fn round_trip(c: &mut Case, root: &str, bundle: &str, flags: &[&str]) -> Check {
    c.shell(COUNTER);
    c.write_config()?;
    let dir = c.dir.clone();
    let run = |command: &str, flags: &[&str], bundle: Option<&str>| -> Check {
        let mut words: Vec<OsString> = vec![command.into()];
        words.extend(flags.iter().map(OsString::from));
        if let Some(bundle) = bundle {
            words.extend(["--detach", "--bundle", bundle].map(OsString::from));
        }
        words.push(OsString::from(&c.id));
        quiet_in(c, &dir, root, &words)
    };
    run("run", &[], Some(bundle))?;
    wait_for_count(c, 3)?;
    run("checkpoint", flags, None)?;
    let before = count(c);
    run("restore", flags, Some(bundle))?;
    wait_for_count(c, before + 2)
}

fn simple_round_trip(c: &mut Case) -> Check {
    let (root, bundle) = (text(&c.state_root), text(&c.bundle));
    let images = text(&c.dir.join("images"));
    let flags = ["--image-path", images.as_str()];
    round_trip(c, &root, &bundle, &flags)
}

fn sources_of_every_kind(c: &mut Case) -> Check {
    let bundle = c.bundle.clone();
    fs::create_dir_all(bundle.join("volume/below"))?;
    fs::write(bundle.join("volume/file"), "of the volume\n")?;
    symlink("volume", bundle.join("link"))?;
    symlink("volume/file", bundle.join("link-to-file"))?;
    let absolute = text(&bundle);
    let kinds = [
        (".", "volume/file"),
        ("./", "volume/file"),
        ("volume", "file"),
        ("./volume/", "file"),
        ("volume/.", "file"),
        ("volume/below/..", "file"),
        (".//volume", "file"),
        ("link", "file"),
        ("./link/.", "file"),
        (&format!("{absolute}/./volume/"), "file"),
        (&format!("{absolute}/../{}/link", name_of(&bundle)), "file"),
    ];
    for (number, (source, _)) in kinds.iter().enumerate() {
        bind(c, source, &format!("/mnt/{number}"));
    }
    for (name, source) in [
        ("a", "./volume/file"),
        ("b", "link-to-file"),
        ("c", "volume/below/../file"),
    ] {
        bind(c, source, &format!("/mnt/file-{name}"));
    }
    // The destination is a link of the image, behind another link.
    fs::create_dir_all(c.rootfs("real/place"))?;
    symlink("real", c.rootfs("hop"))?;
    symlink("/hop/place", c.rootfs("landing"))?;
    bind(c, "./volume", "/landing");
    bind(c, "volume/.", "/hop/../hop/./new/");
    simple_round_trip(c)?;
    let mut files: Vec<String> = kinds
        .iter()
        .enumerate()
        .map(|(number, (_, file))| format!("/mnt/{number}/{file}"))
        .collect();
    files.extend(["a", "b", "c"].map(|name| format!("/mnt/file-{name}")));
    files.extend(["/landing/file", "/real/place/file", "/real/new/file"].map(str::to_owned));
    let words: Vec<&str> = ["exec", &c.id, "/bin/cat"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let seen = c.rt(&words)?.ok()?.stdout;
    same("what is in them", "of the volume\n".repeat(files.len()), seen)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn mounts_on_mounts(c: &mut Case) -> Check {
    for name in ["one/inner", "two/inner", "three"] {
        fs::create_dir_all(c.bundle.join(name))?;
        fs::write(c.bundle.join(name).join("name"), format!("{name}\n"))?;
    }
    bind(c, "./one", "/mnt");
    bind(c, "two/.", "/mnt/inner");
    c.mount(
        Mount::new()
            .destination("/mnt/inner/memory")
            .kind("tmpfs")
            .source("tmpfs"),
    );
    bind(c, "./one/../three", "/mnt/inner/memory/deep");
    simple_round_trip(c)?;
    let look = "cat /mnt/inner/memory/deep/name; ls /mnt/inner/memory; cd /mnt; umount inner/memory/deep inner/memory; \
                cat inner/inner/name; umount inner; cat inner/name";
    c.process().capabilities().clear();
    let seen = c
        .rt(&["exec", "--cap", "CAP_SYS_ADMIN", &c.id, "/bin/sh", "-c", look])?
        .ok()?;
    same(
        "the mounts, from the last to the first",
        "three deep two/inner one/inner",
        seen.stdout
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .as_str(),
    )
}

/// criu knows binds by their place, and would restore the bind in place of what covers it.
fn refused(c: &mut Case) -> Check {
    fs::create_dir_all(c.bundle.join("secret"))?;
    start_counter(c)?;
    checkpoint(c, &[])?.wants(1)?.refused_with("/mnt/secret")?;
    same("status", "running", c.status()?.as_str())
}

fn tmpfs_over_a_bind_is_refused(c: &mut Case) -> Check {
    bind(c, "secret", "/mnt/secret");
    c.mount(
        Mount::new()
            .destination("/mnt/secret")
            .kind("tmpfs")
            .source("tmpfs"),
    );
    refused(c)
}

fn masked_bind_is_refused(c: &mut Case) -> Check {
    bind(c, "secret", "/mnt/secret");
    c.linux().masked_paths(["/mnt/secret"]);
    refused(c)
}

fn relative_images_and_state_root(c: &mut Case) -> Check {
    let (root, bundle) = (name_of(&c.state_root), name_of(&c.bundle));
    for (round, (images, work)) in [
        ("images", "work"),
        ("./images/", "./work/."),
        ("x/../images", "work/../work/"),
        (".//images/.", "new/work"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::create_dir_all(c.dir.join("x"))?;
        let flags = ["--image-path", images, "--work-path", work];
        let roots = [
            root.clone(),
            format!("./{root}/"),
            format!("x/../{root}"),
            format!("{root}/."),
        ];
        let root = &roots[round % roots.len()];
        round_trip(c, root, &format!("./{bundle}/."), &flags)?;
        c.delete()?;
        for name in ["images", "work", "new"] {
            if c.dir.join(name).exists() {
                fs::remove_dir_all(c.dir.join(name))?;
            }
        }
        fs::remove_file(c.rootfs("count"))?;
    }
    c.nothing_left()
}

fn images_behind_links(c: &mut Case) -> Check {
    for name in ["images", "work"] {
        fs::create_dir(c.dir.join(format!("real-{name}")))?;
        symlink(format!("real-{name}"), c.dir.join(name))?;
    }
    symlink(&c.state_root, c.dir.join("root"))?;
    symlink(&c.bundle, c.dir.join("link-to-bundle"))?;
    fs::create_dir(c.bundle.join("volume"))?;
    bind(c, "./volume", "/mnt");
    let flags = ["--image-path", "images", "--work-path", "./work/"];
    round_trip(c, "root", "link-to-bundle", &flags)?;
    c.delete()?;
    c.nothing_left()
}

/// With a user namespace devices are bound from the host.
fn device_with_an_odd_path(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.linux().devices([Device::new()
        .path("/dev/../dev/.//zero")
        .kind("c")
        .major(1)
        .minor(5)
        .file_mode(438)]);
    simple_round_trip(c)?;
    let seen = c
        .rt(&["exec", &c.id, "/bin/stat", "-c", "%t,%T", "/dev/zero"])?
        .ok()?;
    same("the device", "1,5\n", seen.stdout.as_str())
}

fn nodes(c: &Case, devices: &[&str]) -> Check<String> {
    let line = ["exec", &c.id, "/bin/stat", "-c", "%n %a %u:%g %t,%T"];
    Ok(c.rt(&[&line, devices].concat())?.ok()?.stdout)
}

/// criu finds mounts on /dev that are not in config.json: the host's nodes, where the runtime may make none
/// of its own.
fn devices_that_could_not_be_made(c: &mut Case) -> Check {
    c.config["linux"]["devices"] = json!([
        {"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666},
        {"path": "/dev/shm", "type": "c", "major": 1, "minor": 3}
    ]);
    where_forbidden(&[libc::SYS_mknod, libc::SYS_mknodat], || start_counter(c))?;
    let devices = ["/dev/null", "/dev/loop-control"];
    let before = nodes(c, &devices)?;
    c.rt(&["exec", &c.id, "/bin/sh", "-c", "echo saved > /dev/shm/file"])?
        .ok()?;
    checkpoint(c, &[])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    same("the nodes", before, nodes(c, &devices)?)?;
    let look = "echo lost > /dev/null && cat /dev/null /dev/shm/file";
    let seen = c.rt(&["exec", &c.id, "/bin/sh", "-c", look])?.ok()?;
    same("what is in them", "saved\n", seen.stdout.as_str())?;
    c.delete()?;
    c.nothing_left()
}

/// Mode and owner of config.json are lost: criu mounts what it finds on the host.
fn devices_of_a_user_namespace_are_the_hosts(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.config["linux"]["devices"] = json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5,
        "fileMode": 0o640, "uid": 7, "gid": 8}]);
    start_counter(c)?;
    same(
        "before",
        "/dev/zero 640 7:8 1,5\n",
        nodes(c, &["/dev/zero"])?.as_str(),
    )?;
    checkpoint(c, &[])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    let mode = fs::metadata("/dev/zero")?.permissions().mode() & 0o7777;
    let hosts = format!("/dev/zero {mode:o} 65534:65534 1,5\n");
    same("after", hosts, nodes(c, &["/dev/zero"])?)
}

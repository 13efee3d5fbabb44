//! Runs in: SUITE. Links of an image that lead the places of mounts into what the image's author may not write to.

use super::host_mounts::on_a_host;
use crate::{
    case::Case,
    outcome::{Check, contains, ensure, same},
    suite::Test,
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

pub(super) const TESTS: &[Test] = &[
    ("security/link_into_a_read_only_volume_makes_no_directory", |c| {
        makes_nothing(c, Kind::Directory, false)
    }),
    ("security/link_into_a_read_only_volume_makes_no_file", |c| {
        makes_nothing(c, Kind::File, false)
    }),
    (
        "security/link_that_dangles_into_a_read_only_volume_makes_no_file",
        |c| makes_nothing(c, Kind::Dangling, false),
    ),
    (
        "security/link_into_a_read_only_volume_makes_nothing_in_a_user_namespace",
        |c| makes_nothing(c, Kind::Dangling, true),
    ),
    (
        "security/volume_that_is_read_only_on_the_host_stays_so",
        read_only_on_the_host,
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    Directory,
    File,
    Dangling,
}

/// A volume that is read-only, and has a mount below it, for which a place is made.
fn read_only_volume(c: &mut Case) -> Check<PathBuf> {
    let volume = c.dir.join("volume");
    fs::create_dir_all(volume.join("new"))?;
    c.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "ro"]}));
    c.mount(json!({"destination": "/data/new", "type": "tmpfs", "source": "t"}));
    Ok(volume)
}

fn names(directory: &Path) -> Check<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The author of config.json names places in the volume, and these are made; the author of the image must not.
fn makes_nothing(c: &mut Case, kind: Kind, in_a_user_namespace: bool) -> Check {
    if in_a_user_namespace {
        c.map_ids(100_000)?;
    }
    let volume = read_only_volume(c)?;
    if in_a_user_namespace {
        nix::unistd::chown(&volume, Some(100_000.into()), Some(100_000.into()))?;
    }
    let file = c.dir.join("file");
    fs::write(&file, "of another")?;
    match kind {
        Kind::Directory => {
            symlink("/data", c.rootfs("/way"))?;
            c.mount(json!({"destination": "/way/made/deep", "type": "tmpfs", "source": "t"}));
        }
        Kind::File => {
            symlink("data", c.rootfs("/way"))?;
            c.mount(json!({"destination": "/way/made", "type": "bind", "source": file, "options": ["bind"]}));
        }
        Kind::Dangling => {
            symlink("../data/made", c.rootfs("/way"))?;
            c.mount(json!({"destination": "/way", "type": "bind", "source": file, "options": ["bind"]}));
        }
    }
    c.shell("true");
    let run = c.run()?;
    same("what is in the volume", vec!["new".to_owned()], names(&volume)?)?;
    ensure!(run.code() != 0, "the container runs: {run:?}");
    c.nothing_left()
}

/// `ro` in config.json takes no less than the host's own did.
fn read_only_on_the_host(c: &mut Case) -> Check {
    let volume = c.dir.join("volume");
    fs::create_dir_all(&volume)?;
    c.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "ro"]}));
    c.mount(json!({"destination": "/data/made", "type": "tmpfs", "source": "t"}));
    c.shell("true");
    let lines = "v=${b%/*}/volume; mount --bind $v $v && mount -o remount,bind,ro $v || exit 2
        rt run --bundle $b $i; echo $?; umount $v";
    let run = on_a_host(c, lines)?;
    same("what is in the volume", Vec::<String>::new(), names(&volume)?)?;
    same("the runtime's code", "1", run.stdout.trim_end())?;
    contains("why", &run.stderr.to_lowercase(), "read-only file system")?;
    c.nothing_left()
}

//! Runs in: SUITE. Images whose /dev is a symbolic link: devices are made where it leads inside the image,
//! and nowhere else.

use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, ensure, same},
    tests::process::terminal,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

tests! {
    devices/dev_is_a_link => |c| linked(c, "elsewhere/deep"),
    devices/dev_is_an_absolute_link => |c| { linked(c, "/elsewhere/deep") },
    devices/dev_is_a_link_that_climbs => |c| { linked(c, "../../../elsewhere/deep") },
    devices/dev_is_a_link_that_dangles,
    devices/dev_is_a_link_and_nothing_is_mounted,
    devices/dev_is_a_link_in_a_user_namespace,
    devices/dev_is_a_link_and_there_is_a_terminal,
    security/dev_is_a_link_into_a_volume,
    security/dev_is_a_link_to_where_a_volume_covers_it,
}

const SHOW: &str = "echo x >/dev/null && echo y >/elsewhere/deep/null && stat -c '%F %t:%T' /dev/zero && readlink /dev/fd && \
     cat /elsewhere/deep/../here; ls -d /dev/pts /dev/shm";
const SEEN: &str = "character special file 1:5\n/proc/self/fd\nof the image\n/dev/pts\n/dev/shm\n";

fn link_dev(c: &Case, to: &str) -> Check {
    fs::remove_dir(c.rootfs("/dev"))?;
    symlink(to, c.rootfs("/dev"))?;
    Ok(())
}

fn make_elsewhere(c: &Case) -> Check {
    fs::create_dir_all(c.rootfs("/elsewhere/deep"))?;
    fs::write(c.rootfs("/elsewhere/here"), "of the image\n")?;
    Ok(())
}

fn linked(c: &mut Case, to: &str) -> Check {
    make_elsewhere(c)?;
    link_dev(c, to)?;
    same("what is in /dev", SEEN.trim_end(), c.sh(SHOW)?.trim_end())?;
    let left = fs::read_dir(c.rootfs("/elsewhere/deep"))?.count();
    same("files in the image's directory, under the tmpfs", 0, left)
}

fn dev_is_a_link_that_dangles(c: &mut Case) -> Check {
    link_dev(c, "elsewhere/deep")?;
    same(
        "what is in /dev",
        "character special file 1:5",
        c.sh("stat -c '%F %t:%T' /dev/zero")?.trim_end(),
    )
}

fn without_dev(c: &mut Case) {
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|m| !m["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    }
}

fn dev_is_a_link_and_nothing_is_mounted(c: &mut Case) -> Check {
    make_elsewhere(c)?;
    link_dev(c, "elsewhere/deep")?;
    without_dev(c);
    same(
        "what is in /dev",
        "character special file 1:5",
        c.sh("stat -c '%F %t:%T' /elsewhere/deep/zero")?.trim_end(),
    )
}

fn dev_is_a_link_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    make_elsewhere(c)?;
    link_dev(c, "elsewhere/deep")?;
    same("what is in /dev", SEEN.trim_end(), c.sh(SHOW)?.trim_end())
}

fn dev_is_a_link_and_there_is_a_terminal(c: &mut Case) -> Check {
    make_elsewhere(c)?;
    link_dev(c, "elsewhere/deep")?;
    terminal::dev_console(c)
}

/// An image that knows, or guesses, where a volume will be.
fn volume(c: &mut Case, at: &str) -> Check<PathBuf> {
    let volume = c.dir.join("volume");
    fs::create_dir_all(&volume)?;
    c.mount(Mount::bind(at, &volume).options(["rbind"]));
    Ok(volume)
}

fn nothing_in(volume: &Path) -> Check {
    let names: Vec<_> = fs::read_dir(volume)?.flatten().map(|e| e.file_name()).collect();
    ensure!(names.is_empty(), "made in the host's directory: {names:?}");
    Ok(())
}

fn dev_is_a_link_into_a_volume(c: &mut Case) -> Check {
    without_dev(c);
    link_dev(c, "/volume")?;
    let volume = volume(c, "/volume")?;
    c.args(&["/bin/true"]);
    c.run()?;
    nothing_in(&volume)?;
    c.nothing_left()
}

/// The tmpfs of /dev comes to lie there, and then the volume over it.
fn dev_is_a_link_to_where_a_volume_covers_it(c: &mut Case) -> Check {
    without_dev(c);
    c.mount(
        Mount::new()
            .destination("/dev")
            .kind("tmpfs")
            .source("tmpfs")
            .options(["mode=755"]),
    );
    link_dev(c, "/volume")?;
    let volume = volume(c, "/volume")?;
    c.args(&["/bin/true"]);
    c.run()?;
    nothing_in(&volume)?;
    c.nothing_left()
}

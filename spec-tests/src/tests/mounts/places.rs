//! Runs in: SUITE. Links of an image that lead the places of mounts into what the image's author may not
//! write to.

use super::leads_nowhere;
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, contains, ensure, same},
    tests::mounts::on_a_host,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

tests! {
    security/link_into_a_read_only_volume_makes_no_directory => |c| { makes_nothing(c, Kind::Directory, false) },
    security/link_into_a_read_only_volume_makes_no_file => |c| { makes_nothing(c, Kind::File, false) },
    security/link_that_dangles_into_a_read_only_volume_makes_no_file => |c| makes_nothing(c, Kind::Dangling, false),
    security/link_into_a_read_only_volume_makes_nothing_in_a_user_namespace => |c| makes_nothing(c, Kind::Dangling, true),
    security/volume_that_is_read_only_on_the_host_stays_so,
    security/source_behind_a_link_into_procfs => |c| { source_of_the_kernel(c, "/proc/sys") },
    security/source_behind_a_link_into_sysfs => |c| { source_of_the_kernel(c, "../../sys/kernel") },
    security/directories_of_a_volume_that_are_exchanged,
    security/source_behind_a_link_is_without_mounts_below,
    security/source_behind_a_link_stays_read_only,
    security/source_behind_links_of_the_host_and_of_the_image,
}

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
    c.mount(Mount::bind("/data", &volume).options(["rbind", "ro"]));
    c.mount(Mount::new().destination("/data/new").kind("tmpfs").source("t"));
    Ok(volume)
}

fn names(directory: &Path) -> Check<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The author of config.json names places in the volume, and these are made; the author of the image must
/// not.
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
            c.mount(
                Mount::new()
                    .destination("/way/made/deep")
                    .kind("tmpfs")
                    .source("t"),
            );
        }
        Kind::File => {
            symlink("data", c.rootfs("/way"))?;
            c.mount(Mount::bind("/way/made", file).options(["bind"]));
        }
        Kind::Dangling => {
            symlink("../data/made", c.rootfs("/way"))?;
            c.mount(Mount::bind("/way", file).options(["bind"]));
        }
    }
    c.shell("true");
    let run = c.run()?;
    same("what is in the volume", vec!["new".to_owned()], names(&volume)?)?;
    ensure!(run.code() != 0, "the container runs: {run:?}");
    c.nothing_left()
}

/// `ro` in config.json takes no less than the host's own did.
fn volume_that_is_read_only_on_the_host_stays_so(c: &mut Case) -> Check {
    let volume = c.dir.join("volume");
    fs::create_dir_all(&volume)?;
    c.mount(Mount::bind("/data", &volume).options(["rbind", "ro"]));
    c.mount(Mount::new().destination("/data/made").kind("tmpfs").source("t"));
    c.shell("true");
    let lines = "v=${b%/*}/volume; mount --bind $v $v && mount -o remount,bind,ro $v || exit 2
        rt run --bundle $b $i; echo $?; umount $v";
    let run = on_a_host(c, lines)?;
    same("what is in the volume", Vec::<String>::new(), names(&volume)?)?;
    same("the runtime's code", "1", run.stdout.trim_end())?;
    contains("why", &run.stderr.to_lowercase(), "read-only file system")?;
    c.nothing_left()
}

/// What is masked and read-only is told by its place, and a copy lies elsewhere: only config.json may name
/// such a source.
fn source_of_the_kernel(c: &mut Case, link: &str) -> Check {
    symlink(link, c.rootfs("/way"))?;
    c.mount(Mount::bind("/copy", "rootfs/way").options(["rbind", "rw"]));
    c.shell("ls /copy");
    let run = c.run()?;
    ensure!(run.code() != 0, "the container has a copy: {run:?}");
    contains("why", &run.stderr, "a link leads to a file system of the kernel")?;
    c.nothing_left()
}

/// The same where the link leads to a directory that such a file system is mounted in.
fn source_behind_a_link_is_without_mounts_below(c: &mut Case) -> Check {
    symlink("/", c.rootfs("/way"))?;
    c.mount(Mount::bind("/copy", "rootfs/way").options(["rbind"]));
    same(
        "what is in /copy/proc and /copy/sys",
        "",
        c.sh("ls -d /copy/bin >/dev/null; ls /copy/proc /copy/sys | grep -v :")?
            .trim(),
    )
}

/// A volume that everybody may write to has a link to one that is read-only here, and is the source of a
/// third mount, whose flags count instead of those of its source. Not behind a link of somebody else.
fn source_behind_a_link_stays_read_only(c: &mut Case) -> Check {
    let (fixed, open) = (c.dir.join("fixed"), c.dir.join("open"));
    fs::create_dir_all(&fixed)?;
    fs::create_dir_all(open.join("plain"))?;
    symlink("/fixed", open.join("link"))?;
    c.mount(Mount::bind("/fixed", &fixed).options(["rbind", "ro"]));
    c.mount(Mount::bind("/open", open).options(["rbind", "ro"]));
    for name in ["link", "plain"] {
        let source = format!("rootfs/open/{name}");
        let destination = format!("/{name}");
        c.mount(Mount::bind(destination, source).options(["rbind", "rw"]));
    }
    let line = "for d in /link /plain; do touch $d/x 2>/dev/null && echo $d; done; true";
    same("what can be written to", "/plain", c.sh(line)?.trim_end())?;
    same("what is in the volume", Vec::<String>::new(), names(&fixed)?)
}

/// The path leads into the rootfs by a link of the host, and out of it by one of the image.
fn source_behind_links_of_the_host_and_of_the_image(c: &mut Case) -> Check {
    let (secret, way) = (c.dir.join("secret"), c.dir.join("way"));
    fs::create_dir_all(&secret)?;
    fs::write(secret.join("file"), "of the host")?;
    symlink(c.rootfs("/"), &way)?;
    symlink(&secret, c.rootfs("/out"))?;
    c.mount(Mount::bind("/copy", way.join("out")).options(["rbind"]));
    c.shell("cat /copy/file");
    leads_nowhere(c, &c.run()?)
}

/// Another container has the volume, and exchanges a directory in it for links while this one is made.
fn directories_of_a_volume_that_are_exchanged(c: &mut Case) -> Check {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (fixed, shared, secret) = (c.dir.join("fixed"), c.dir.join("shared"), c.dir.join("secret"));
    fs::create_dir_all(fixed.join("new"))?;
    fs::create_dir_all(shared.join("way/sub"))?;
    fs::create_dir_all(secret.join("sub"))?;
    fs::write(secret.join("sub/of-the-host"), "")?;
    symlink("/fixed", shared.join("to-fixed"))?;
    symlink(&secret, shared.join("to-secret"))?;
    c.mount(Mount::bind("/fixed", &fixed).options(["rbind", "ro"]));
    c.mount(Mount::new().destination("/fixed/new").kind("tmpfs").source("t"));
    c.mount(Mount::bind("/data", &shared).options(["rbind", "ro"]));
    c.mount(
        Mount::new()
            .destination("/data/way/made")
            .kind("tmpfs")
            .source("t"),
    );
    c.mount(Mount::bind("/copy", "rootfs/data/way").options(["rbind", "rw"]));
    c.shell("touch /copy/written; ls /copy /copy/sub");
    let over = AtomicBool::new(false);
    let mut outputs = Vec::new();
    std::thread::scope(|scope| -> Check {
        scope.spawn(|| {
            let way = shared.join("way");
            while !over.load(Ordering::Relaxed) {
                for link in ["to-fixed", "to-secret"] {
                    for _ in 0..2 {
                        // Only this thread changes anything there.
                        exchange(&way, &shared.join(link));
                        std::thread::yield_now();
                    }
                }
            }
        });
        let runs = (0..40).try_for_each(|_| -> Check {
            // Whether it fails in that moment is chance.
            let run = c.run()?;
            outputs.push(run.stdout);
            c.rt(&["delete", "--force", &c.id]).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        runs
    })?;
    same(
        "what is in the read-only volume",
        vec!["new".to_owned()],
        names(&fixed)?,
    )?;
    for output in outputs {
        ensure!(!output.contains("of-the-host"), "the host is seen: {output}");
    }
    c.nothing_left()
}

fn exchange(one: &Path, other: &Path) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let done = renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE);
    debug_assert!(done.is_ok(), "{done:?}");
}

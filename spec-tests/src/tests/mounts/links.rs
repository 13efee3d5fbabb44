//! Runs in: SUITE. crun's mount options for symbolic links at either end of a bind mount: copy-symlink,
//! src-nofollow, dest-nofollow. Podman passes the first (`--mount …,no-dereference`).

use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, ensure, fail, same},
    tests::checkpoint::{CRIU, checkpoint, restore, start_counter},
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

tests! {
    mount_links/copied,
    mount_links/copied_over_what_is_there,
    mount_links/copied_in_a_user_namespace,
    mount_links/copied_stays_inside,
    mount_links/no_link_to_copy,
    mount_links/copied_while_it_is_exchanged,
    mount_links/source_itself,
    mount_links/source_itself_in_a_user_namespace,
    mount_links/destination_itself,
    mount_links/destination_itself_in_a_user_namespace,
    mount_links/destination_is_made,
    mount_links/destination_of_a_folder,
    mount_links/links_on_the_way_stay_inside,
    mount_links/not_on_procfs,
    mount_links/what_contradicts_is_refused,
    mount_links/no_copy_at_proc,
    mount_links/added_later,
}

tests! {
    mount_links/checkpoint_of_a_copied_link: CRIU,
    mount_links/checkpoint_of_a_mounted_link_is_refused: CRIU,
}

/// A link of the host to a file of the host, each with a text that tells which of the two is seen.
fn source(c: &Case) -> Check<PathBuf> {
    fs::write(c.dir.join("file"), "of the file")?;
    let link = c.dir.join("link");
    symlink(c.dir.join("file"), &link)?;
    Ok(link)
}

fn bind(c: &mut Case, destination: &str, source: &Path, options: &[&str]) {
    let mut all = vec!["bind"];
    all.extend(options);
    c.mount(Mount::bind(destination, source.to_string_lossy()).options(all));
}

fn copied(c: &mut Case) -> Check {
    let link = source(c)?;
    let text = fs::read_link(&link)?;
    bind(c, "/made/place", &link, &["copy-symlink", "ro"]);
    let wish = format!("{}\nno mount", text.display());
    let line = "readlink /made/place; grep -q /made /proc/self/mountinfo || echo no mount";
    same("inside", wish, c.sh(line)?)?;
    same("the link", text, fs::read_link(c.rootfs("/made/place"))?)
}

fn copied_over_what_is_there(c: &mut Case) -> Check {
    let link = source(c)?;
    symlink(fs::read_link(&link)?, c.rootfs("/same"))?;
    bind(c, "/same", &link, &["copy-symlink"]);
    same("first", "there", c.sh("test -L /same && echo there")?.as_str())?;
    symlink("something-else", c.rootfs("/other"))?;
    fs::write(c.rootfs("/regular"), "precious")?;
    for place in ["/other", "/regular"] {
        c.config["mounts"].as_array_mut().map(Vec::pop);
        bind(c, place, &link, &["copy-symlink"]);
        c.run()?.refused()?;
        c.nothing_left()?;
    }
    same(
        "file of the image",
        "precious".to_owned(),
        fs::read_to_string(c.rootfs("/regular"))?,
    )
}

fn copied_in_a_user_namespace(c: &mut Case) -> Check {
    let link = source(c)?;
    c.map_ids(100_000)?;
    bind(c, "/place", &link, &["copy-symlink"]);
    let wish = format!("{}\n0", fs::read_link(&link)?.display());
    same(
        "text and owner",
        wish,
        c.sh("readlink /place; stat -c %u /place")?,
    )
}

/// The directory of the destination is the image's: a link of it must not lead out.
fn copied_stays_inside(c: &mut Case) -> Check {
    let link = source(c)?;
    let outside = c.dir.join("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, c.rootfs("/way"))?;
    bind(c, "/way/place", &link, &["copy-symlink"]);
    let run = c.run()?;
    ensure!(
        outside.join("place").symlink_metadata().is_err(),
        "a link came into being on the host: {}",
        run.report()
    );
    Ok(())
}

fn no_link_to_copy(c: &mut Case) -> Check {
    let file = source(c)?.with_file_name("file");
    bind(c, "/place", &file, &["copy-symlink", "ro"]);
    let seen = c.sh("cat /place; test -L /place || echo; grep -c ' /place ro' /proc/self/mountinfo")?;
    same("inside", "of the file\n1", seen.as_str())
}

/// Whoever owns the source's directory must not get what a link leads to mounted, by making a link of a file
/// in between.
fn copied_while_it_is_exchanged(c: &mut Case) -> Check {
    let folder = c.dir.join("source");
    fs::create_dir(&folder)?;
    let secret = c.dir.join("secret");
    fs::write(&secret, "secret")?;
    let place = folder.join("place");
    fs::write(&place, "public")?;
    bind(c, "/place", &place, &["copy-symlink"]);
    c.shell("test -L /place && echo link || cat /place");
    c.write_config()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let exchanger = scope.spawn(|| -> std::io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                symlink(&secret, folder.join("link"))?;
                fs::rename(folder.join("link"), &place)?;
                fs::write(folder.join("file"), "public")?;
                fs::rename(folder.join("file"), &place)?;
            }
            Ok(())
        });
        let seen = (0..60).try_for_each(|_| {
            let run = c.run()?;
            // The image keeps a link that was made, and a file cannot be one.
            fs::remove_file(c.rootfs("/place")).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            ensure!(!run.stdout.contains("secret"), "{}", run.report());
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        match exchanger.join() {
            Ok(result) => result?,
            Err(_) => return fail("the thread that exchanges has ended"),
        }
        seen
    })
}

/// What stands at /proc is written to and believed: it must be the kernel's.
fn no_copy_at_proc(c: &mut Case) -> Check {
    let link = source(c)?;
    fs::remove_dir(c.rootfs("/proc"))?;
    c.document().mounts(json!([]));
    bind(c, "/proc", &link, &["copy-symlink"]);
    c.args(&["true"]);
    let run = c.run()?;
    ensure!(run.code() != 0, "{}", run.report());
    ensure!(
        c.rootfs("/proc").symlink_metadata().is_err(),
        "something was made"
    );
    c.nothing_left()
}

fn mounted_link(c: &mut Case) -> Check {
    let link = source(c)?;
    bind(c, "/place", &link, &["src-nofollow"]);
    let wish = format!("{}\n1", fs::read_link(&link)?.display());
    let seen = c.sh("readlink /place; grep -c ' /place ' /proc/self/mountinfo")?;
    same("inside", wish, seen)?;
    ensure!(
        c.rootfs("/place").symlink_metadata()?.is_file(),
        "the place is no file"
    );
    Ok(())
}

fn source_itself(c: &mut Case) -> Check {
    mounted_link(c)
}

fn source_itself_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    mounted_link(c)
}

/// The image's link is covered; what it leads to stays as it was. With src-nofollow a link covers a link.
fn covered_link(c: &mut Case) -> Check {
    let link = source(c)?;
    fs::write(c.rootfs("/real"), "of the image")?;
    symlink("/real", c.rootfs("/place"))?;
    symlink("/real", c.rootfs("/second"))?;
    symlink("/nowhere", c.rootfs("/dangling"))?;
    bind(c, "/place", &link, &["dest-nofollow"]);
    bind(c, "/second", &link, &["dest-nofollow", "src-nofollow"]);
    bind(c, "/dangling", &link, &["dest-nofollow"]);
    let wish = format!(
        "of the file\n{}\nof the file\nof the image",
        fs::read_link(&link)?.display()
    );
    let seen = c.sh("cat /place; echo; readlink /second; cat /dangling; echo; cat /real; echo")?;
    same("inside", wish, seen)?;
    ensure!(!c.rootfs("/nowhere").exists(), "the link was followed");
    Ok(())
}

fn destination_itself(c: &mut Case) -> Check {
    covered_link(c)
}

fn destination_itself_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    covered_link(c)
}

/// As for every other mount: what is missing is made.
fn destination_is_made(c: &mut Case) -> Check {
    let link = source(c)?;
    let folder = c.dir.join("folder");
    fs::create_dir(&folder)?;
    fs::write(folder.join("in"), "it")?;
    bind(c, "/a/b", &link, &["dest-nofollow"]);
    bind(c, "/c/d", &folder, &["dest-nofollow"]);
    same(
        "inside",
        "of the file it",
        c.sh("cat /a/b; echo -n ' '; cat /c/d/in")?.as_str(),
    )?;
    same(
        "mode of a parent",
        0o755,
        fs::metadata(c.rootfs("/a"))?.mode() & 0o777,
    )
}

/// A link is no directory.
fn destination_of_a_folder(c: &mut Case) -> Check {
    let folder = c.dir.join("folder");
    fs::create_dir(&folder)?;
    fs::create_dir(c.rootfs("/real"))?;
    symlink("/real", c.rootfs("/place"))?;
    bind(c, "/place", &folder, &["dest-nofollow"]);
    c.run()?.refused()?;
    c.nothing_left()
}

fn links_on_the_way_stay_inside(c: &mut Case) -> Check {
    let link = source(c)?;
    let outside = c.dir.join("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, c.rootfs("/way"))?;
    symlink("/real", c.rootfs("/inside"))?;
    fs::create_dir(c.rootfs("/real"))?;
    symlink("/nowhere", c.rootfs("/real/place"))?;
    bind(c, "/inside/place", &link, &["dest-nofollow"]);
    bind(c, "/way/place", &link, &["dest-nofollow"]);
    c.shell("cat /real/place");
    let run = c.run()?;
    ensure!(
        !outside.join("place").exists(),
        "a file came into being on the host: {}",
        run.report()
    );
    // A link to where nothing is may be refused, or be followed inside.
    match run.code() {
        0 => same("inside", "of the file", run.stdout.as_str()),
        _ => run.refused().map(drop),
    }
}

/// What labels are written to must stay the kernel's own, whatever leads there (CVE-2019-16884).
fn not_on_procfs(c: &mut Case) -> Check {
    let link = source(c)?;
    symlink("/proc", c.rootfs("/way"))?;
    for (destination, options) in [
        ("/proc/self", &["dest-nofollow"][..]),
        ("/way/self", &["dest-nofollow"]),
        ("/way/self", &["dest-nofollow", "src-nofollow"]),
        ("/way/place", &["copy-symlink"]),
    ] {
        bind(c, destination, &link, options);
        c.run()?.refused()?;
        c.nothing_left()?;
        c.config["mounts"].as_array_mut().map(Vec::pop);
    }
    Ok(())
}

fn what_contradicts_is_refused(c: &mut Case) -> Check {
    let link = source(c)?;
    for (kind, options) in [
        ("bind", json!(["bind", "copy-symlink", "src-nofollow"])),
        ("bind", json!(["bind", "copy-symlink", "dest-nofollow"])),
        ("tmpfs", json!(["copy-symlink"])),
        ("tmpfs", json!(["src-nofollow"])),
        ("tmpfs", json!(["dest-nofollow"])),
        ("bind", json!(["bind", "remount", "copy-symlink"])),
        ("bind", json!(["bind", "remount", "src-nofollow"])),
    ] {
        c.mount(
            Mount::new()
                .destination("/place")
                .kind(kind)
                .source(&link)
                .options(options),
        );
        c.run()?.refused()?;
        c.nothing_left()?;
        c.config["mounts"].as_array_mut().map(Vec::pop);
    }
    Ok(())
}

fn added_later(c: &mut Case) -> Check {
    let link = source(c)?;
    symlink("/nowhere", c.rootfs("/place"))?;
    c.start_sleeper()?;
    let list = c.dir.join("mounts.json");
    let mounts = json!([
        {"destination": "/copy", "type": "bind", "source": link, "options": ["bind", "copy-symlink"]},
        {"destination": "/place", "type": "bind", "source": link, "options": ["bind", "dest-nofollow"]},
        {"destination": "/itself", "type": "bind", "source": link, "options": ["bind", "src-nofollow"]},
    ]);
    fs::write(&list, mounts.to_string())?;
    c.rt(&["mounts", "add", &c.id, &list.to_string_lossy()])?.ok()?;
    let text = fs::read_link(&link)?;
    let wish = format!("{0}\nof the file\n{0}", text.display());
    let line = "readlink /copy; cat /place; echo; readlink /itself";
    same(
        "inside",
        wish,
        c.rt(&["exec", &c.id, "/bin/sh", "-c", line])?
            .ok()?
            .stdout
            .trim()
            .to_owned(),
    )
}

/// The link is made again, as every other place of a mount: the rootfs may be a fresh copy of the image.
fn checkpoint_of_a_copied_link(c: &mut Case) -> Check {
    let link = source(c)?;
    bind(c, "/made/place", &link, &["copy-symlink"]);
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    fs::remove_file(c.rootfs("/made/place"))?;
    restore(c, &[])?.ok()?;
    same(
        "the link",
        fs::read_link(&link)?,
        fs::read_link(c.rootfs("/made/place"))?,
    )?;
    same("status", "running", c.status()?.as_str())
}

/// criu binds by mount(2), which follows links: it would mount something else, somewhere else.
fn checkpoint_of_a_mounted_link_is_refused(c: &mut Case) -> Check {
    let link = source(c)?;
    bind(c, "/place", &link, &["src-nofollow"]);
    c.start_sleeper()?;
    checkpoint(c, &[])?.refused_with("src-nofollow")?;
    same("status", "running", c.status()?.as_str())
}

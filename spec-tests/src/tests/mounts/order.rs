//! Runs in: SUITE. config.md, mounts: "The runtime MUST mount entries in the listed order". So the source of
//! a bind mount is what is there when it is its turn, be it inside the rootfs and made by a mount before it.

use super::leads_nowhere;
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, contains, ensure, same},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

tests! {
    mounts/source_made_by_an_earlier_mount,
    mounts/source_covered_by_an_earlier_mount,
    mounts/source_made_by_an_earlier_mount_in_a_user_namespace,
    mounts/source_made_by_an_earlier_mount_id_mapped,
    mounts/source_made_by_an_earlier_mount_id_mapped_in_a_user_namespace,
    mounts/idmap_with_ranges_in_the_option,
    mounts/source_is_the_rootfs_so_far,
    mounts/destination_names_the_rootfs_by_its_path_on_the_host,
    mounts/source_behind_a_link_of_the_host_into_the_rootfs,
    mounts/source_behind_links_of_a_volume_stays_inside,
    mounts/source_behind_a_magic_link,
    mounts/below_a_read_only_bind,
    mounts/below_a_read_only_bind_in_a_user_namespace,
    mounts/copy_of_a_read_only_bind_with_a_mount_below,
    mounts/remount_of_a_read_only_bind_with_a_mount_below,
    mounts/source_that_no_earlier_mount_has_made,
}

fn bind(destination: &str, source: &str) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]})
}

/// A volume of the host with a folder and two files, at /data; and a tmpfs at /data/new, with a folder made
/// by the mount in it.
fn earlier_mounts(c: &mut Case) -> Check<PathBuf> {
    let volume = c.dir.join("volume");
    fs::create_dir_all(volume.join("folder"))?;
    fs::write(volume.join("file"), "of the volume")?;
    fs::write(volume.join("folder/file"), "of the folder")?;
    c.mount(bind("/data", &volume.to_string_lossy()));
    c.mount(
        Mount::new()
            .destination("/data/new")
            .kind("tmpfs")
            .source("t")
            .options(["mode=755"]),
    );
    c.mount(
        Mount::new()
            .destination("/data/new/made/deep")
            .kind("tmpfs")
            .source("t"),
    );
    Ok(volume)
}

pub(crate) fn source_made_by_an_earlier_mount(c: &mut Case) -> Check {
    earlier_mounts(c)?;
    let absolute = c.rootfs("/data/folder").to_string_lossy().into_owned();
    c.mount(bind("/absolute", &absolute));
    c.mount(bind("/relative", "rootfs/data/folder"));
    c.mount(bind("/file", "rootfs/data/file"));
    c.mount(bind("/made", "./rootfs//data/new/made"));
    c.mount(bind("/again", "rootfs/relative/file"));
    let line = "cat /absolute/file; echo; cat /relative/file; echo; cat /file; echo; ls /made; cat /again";
    same(
        "what is there",
        "of the folder\nof the folder\nof the volume\ndeep\nof the folder",
        c.sh(line)?.as_str(),
    )
}

pub(crate) fn source_covered_by_an_earlier_mount(c: &mut Case) -> Check {
    fs::create_dir_all(c.rootfs("/covered"))?;
    fs::write(c.rootfs("/covered/of-the-image"), "")?;
    c.mount(bind("/before", "rootfs/covered"));
    c.mount(Mount::new().destination("/covered").kind("tmpfs").source("t"));
    c.mount(
        Mount::new()
            .destination("/covered/of-the-tmpfs")
            .kind("tmpfs")
            .source("t"),
    );
    c.mount(bind("/after", "rootfs/covered"));
    same(
        "before and after",
        "of-the-image\n-\nof-the-tmpfs",
        c.sh("ls /before; echo -; ls /after")?.trim_end(),
    )
}

fn source_made_by_an_earlier_mount_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    let volume = earlier_mounts(c)?;
    nix::unistd::chown(&volume, Some(100_000.into()), Some(100_000.into()))?;
    c.mount(Mount::bind("/copy", "rootfs/data/folder").options(["rbind", "ro"]));
    c.mount(bind("/made", "rootfs/data/new/made"));
    let line = "cat /copy/file; echo; ls /made; touch /copy/x 2>/dev/null || echo read-only";
    same(
        "what is there",
        "of the folder\ndeep\nread-only",
        c.sh(line)?.trim_end(),
    )
}

fn source_made_by_an_earlier_mount_id_mapped(c: &mut Case) -> Check {
    let volume = earlier_mounts(c)?;
    mapped_copies(c)?;
    same(
        "owner on disk",
        (0, 0),
        (volume.metadata()?.uid(), volume.metadata()?.gid()),
    )
}

fn source_made_by_an_earlier_mount_id_mapped_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    let volume = earlier_mounts(c)?;
    nix::unistd::chown(&volume, Some(100_000.into()), Some(100_000.into()))?;
    mapped_copies(c)
}

/// Two of them, with other mappings, so that they cannot be taken for each other. In a user namespace the ids
/// are those that are mapped there to 7 and 9.
fn mapped_copies(c: &mut Case) -> Check {
    let first = match c.config["linux"]["uidMappings"].is_null() {
        true => 0,
        false => 100_000,
    };
    for (name, id) in [("seven", 7), ("nine", 9)] {
        let map = json!([{"containerID": 0, "hostID": first + id, "size": 100}]);
        c.mount(
            Mount::bind(format!("/{name}"), "rootfs/data/folder")
                .options(["bind", "idmap"])
                .uid_mappings(&map)
                .gid_mappings(map),
        );
        // One in between that has none.
        c.mount(bind(&format!("/not-{name}"), "rootfs/data/folder"));
    }
    let stat = c
        .probe(&["--stat", "/seven/file", "--stat", "/nine/file"])?
        .stat
        .clone();
    for (path, id) in [("/seven/file", 7), ("/nine/file", 9)] {
        same(path, (Some(id), Some(id)), (stat[path].uid, stat[path].gid))?;
    }
    Ok(())
}

fn source_is_the_rootfs_so_far(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/before/inner")
            .kind("tmpfs")
            .source("t"),
    );
    c.mount(bind("/self", "rootfs"));
    c.mount(Mount::new().destination("/after").kind("tmpfs").source("t"));
    let line = "grep -c ' /self/before/inner ' /proc/self/mountinfo; grep -c ' /self/after ' /proc/self/mountinfo; true";
    same("mounts in the copy", "1\n0", c.sh(line)?.trim_end())
}

fn source_behind_a_link_of_the_host_into_the_rootfs(c: &mut Case) -> Check {
    earlier_mounts(c)?;
    // It leads nowhere before the container's mounts are there.
    let link = c.dir.join("link");
    symlink(c.rootfs("/data"), &link)?;
    c.mount(bind("/copy", &link.join("folder").to_string_lossy()));
    same("what is there", "of the folder", c.sh("cat /copy/file")?.as_str())
}

/// Whoever can write to a volume must not have a file of the host mounted into the container by a later
/// mount.
fn source_behind_links_of_a_volume_stays_inside(c: &mut Case) -> Check {
    let volume = earlier_mounts(c)?;
    let secret = c.dir.join("secret");
    fs::write(&secret, "of the host")?;
    symlink(&secret, volume.join("absolute"))?;
    symlink(
        "../../../../../../../../../../../../../../data/file",
        volume.join("climbs"),
    )?;
    symlink("folder/file", volume.join("relative"))?;
    c.mount(bind("/inside", "rootfs/data/climbs"));
    c.mount(bind("/relative", "rootfs/data/relative"));
    same(
        "links that stay inside",
        "of the volume\nof the folder",
        c.sh("cat /inside; echo; cat /relative")?.as_str(),
    )?;
    c.mount(bind("/stolen", "rootfs/data/absolute"));
    c.shell("cat /stolen");
    leads_nowhere(c, &c.run()?)
}

fn source_behind_a_magic_link(c: &mut Case) -> Check {
    fs::write(c.dir.join("secret"), "of the host")?;
    // The runtime's own root, where it is not yet the container's.
    let source = format!("rootfs/proc/self/root{}/secret", c.dir.display());
    c.mount(bind("/stolen", &source));
    c.shell("cat /stolen");
    let run = c.run()?;
    ensure!(
        !run.stdout.contains("of the host"),
        "a link of procfs leads to the host: {run:?}"
    );
    ensure!(run.code() != 0, "it was mounted: {run:?}");
    c.nothing_left()
}

fn source_that_no_earlier_mount_has_made(c: &mut Case) -> Check {
    earlier_mounts(c)?;
    let missing = c.rootfs("/data/missing").to_string_lossy().into_owned();
    c.mount(bind("/copy", &missing));
    let run = c.create()?;
    ensure!(run.code() != 0, "create succeeded: {run:?}");
    contains("why it failed", &run.stderr, &missing)?;
    contains(
        "why it failed",
        &run.stderr.to_lowercase(),
        "no such file or directory",
    )?;
    c.nothing_left()
}

/// A volume, read-only, with places below it for a folder and a file that the volume does not have.
fn read_only_with_mounts_below(c: &mut Case) -> Check<PathBuf> {
    let volume = c.dir.join("volume");
    fs::create_dir_all(&volume)?;
    let file = c.dir.join("file");
    fs::write(&file, "of another")?;
    c.mount(Mount::bind("/data", &volume).options(["rbind", "ro", "nosuid"]));
    c.mount(
        Mount::new()
            .destination("/data/new/deep")
            .kind("tmpfs")
            .source("t"),
    );
    c.mount(bind("/data/file", &file.to_string_lossy()));
    Ok(volume)
}

const TRY: &str = "for d in /data /data/new /data/new/deep; do touch $d/x 2>/dev/null && echo $d; done; cat /data/file; echo; \
     grep -c ' /data ro,nosuid' /proc/self/mountinfo";
const TRIED: &str = "/data/new/deep\nof another\n1";

pub(crate) fn below_a_read_only_bind(c: &mut Case) -> Check {
    read_only_with_mounts_below(c)?;
    same("what can be written to", TRIED, c.sh(TRY)?.trim_end())
}

fn below_a_read_only_bind_in_a_user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    let volume = read_only_with_mounts_below(c)?;
    nix::unistd::chown(&volume, Some(100_000.into()), Some(100_000.into()))?;
    same("what can be written to", TRIED, c.sh(TRY)?.trim_end())
}

/// Not even for the moment in which places are made is there a copy that is writable.
fn copy_of_a_read_only_bind_with_a_mount_below(c: &mut Case) -> Check {
    read_only_with_mounts_below(c)?;
    c.mount(bind("/copy", "rootfs/data"));
    let line = "touch /copy/x 2>/dev/null || echo read-only; touch /copy/new/deep/x && echo writable";
    same("the copy", "read-only\nwritable", c.sh(line)?.trim_end())
}

fn remount_of_a_read_only_bind_with_a_mount_below(c: &mut Case) -> Check {
    let volume = read_only_with_mounts_below(c)?;
    fs::create_dir_all(volume.join("new/deep"))?;
    fs::write(volume.join("file"), "")?;
    c.mount(Mount::bind("/data", volume).options(["bind", "remount", "rw"]));
    same(
        "the volume",
        "writable",
        c.sh("touch /data/x && echo writable")?.trim_end(),
    )
}

/// crun's way to say what `uidMappings` and `gidMappings` of a mount say.
fn idmap_with_ranges_in_the_option(c: &mut Case) -> Check {
    let volume = c.dir.join("volume");
    fs::create_dir_all(volume.join("deep"))?;
    nix::unistd::chown(&volume, Some(5.into()), Some(6.into()))?;
    for word in ["idmap", "ridmap"] {
        c.mount(Mount::bind(format!("/mnt/{word}"), &volume).options(json!([
            "rbind",
            format!("{word}=uids=0-1000-3#5-2000-1;gids=0-3000-10")
        ])));
    }
    let said = c.sh("cd /mnt && stat -c '%u:%g' idmap ridmap idmap/deep")?;
    same("owners", "2000:3006\n2000:3006\n1000:3000", said.as_str())?;
    for wrong in [
        "idmap=bogus",
        "idmap=uids=0-1000-3",
        "idmap=uids=@0-1000-3;gids=0-1000-3",
    ] {
        c.document()
            .mounts(json!([bind("/mnt", &volume.to_string_lossy())]));
        c.config["mounts"][0]["options"] = json!(["rbind", wrong]);
        c.run()?.refused_with(wrong)?;
        c.nothing_left()?;
    }
    Ok(())
}

/// runc takes the path of the rootfs off, and its own suite writes such documents; crun does not.
fn destination_names_the_rootfs_by_its_path_on_the_host(c: &mut Case) -> Check {
    fs::create_dir(c.bundle.join("volume"))?;
    fs::write(c.bundle.join("volume/file"), "of the volume\n")?;
    fs::create_dir(c.rootfs("data"))?;
    let (source, destination) = (c.rootfs("data"), c.rootfs("copy"));
    c.mount(
        json!({"destination": c.rootfs("data"), "type": "bind", "source": "volume", "options": ["rbind"]}),
    );
    c.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]}));
    c.config["process"]["args"] = json!(["/bin/cat", "/data/file", "/copy/file"]);
    let seen = c.run()?.ok()?.stdout;
    same("what is there", "of the volume\nof the volume\n", seen.as_str())?;
    c.nothing_left()
}

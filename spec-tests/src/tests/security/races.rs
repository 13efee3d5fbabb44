//! Runs in: SUITE. Somebody who may write to the rootfs while the container is made exchanges a file for
//! another one, right before each system call in turn where that could matter.

use crate::{
    case::Case,
    config::{Device, Mount},
    faults::{Call, Injector, Renaming},
    outcome::{Check, ensure, same},
};
use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
};

tests! {
    security/owner_of_a_device_is_given_to_no_other_file,
    security/options_of_a_mount_are_given_to_no_other,
}

/// How many calls after the interesting one: fewer where each takes long.
fn window(c: &Case) -> usize {
    if c.host.is_emulated() { 3 } else { 10 }
}

/// Calls `race` with each process and its calls up to one that is among the first after a call of these.
fn after_each(
    c: &Case,
    of: &[libc::c_long],
    mut race: impl FnMut(&Injector, (&str, &[Call])) -> Check,
) -> Check {
    let injector = Injector::new(&c.host.runtime)?;
    injector.start(create(c)?, &c.dir, None)?.finish()?.ok()?;
    c.delete()?;
    for (process, calls) in injector.calls() {
        let is_one = |call: &Call| of.contains(&call.number.into());
        for place in 1..calls.len() {
            if calls[place.saturating_sub(window(c))..place].iter().any(is_one) {
                race(&injector, (&process, &calls[..=place]))?;
            }
        }
    }
    Ok(())
}

fn create(c: &Case) -> Check<Command> {
    let mut command = c.command();
    command.args(c.bundle_args("create", &[], &c.id)?);
    Ok(command)
}

fn owner_of_a_device_is_given_to_no_other_file(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    c.linux().devices([Device::new()
        .path("/tmp/node")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o600)
        .uid(1234)
        .gid(1234)]);
    let [node, moved, others] = ["node", "moved", "others"].map(|name| c.rootfs("/tmp").join(name));
    let renamings: [Renaming; 2] = [(node.clone(), moved.clone()), (others.clone(), node.clone())];
    let (mut raced, mut given) = (0, 0);
    after_each(c, &[libc::SYS_mknod, libc::SYS_mknodat], |injector, at| {
        for file in [&node, &moved] {
            let _may_be_missing = fs::remove_file(file);
        }
        let file = File::create(&others)?;
        let made = injector
            .start_in_a_race(create(c)?, &c.dir, at, &renamings)?
            .finish()?;
        // Else it was before the node was made.
        if injector.hit().is_some() {
            raced += 1;
            given += u32::from(fs::metadata(&moved)?.uid() == 1234);
            let owner = file.metadata()?;
            same("owner of another's file", (0, 0), (owner.uid(), owner.gid()))?;
        }
        if made.code() != 0 {
            made.refused_with("/tmp/node")?;
            return c.nothing_left();
        }
        c.delete()
    })?;
    ensure!(raced > 1, "no race: {raced}");
    ensure!(given > 0, "the node got no owner in any of {raced} races");
    Ok(())
}

/// Options that fsconfig(2) does not take: mount(2) gives no descriptor of what it has made.
fn options_of_a_mount_are_given_to_no_other(c: &mut Case) -> Check {
    let volume = super::folder(c, "volume")?;
    let [place, moved, link] = ["place", "moved", "link"].map(|name| c.rootfs("/mnt").join(name));
    c.document().mounts([
        Mount::new().destination("/proc").kind("proc").source("proc"),
        Mount::new()
            .destination("/volume")
            .kind("bind")
            .source(&volume)
            .options(["rbind", "ro"]),
        Mount::new()
            .destination("/mnt/place")
            .kind("tmpfs")
            .source("s".repeat(300))
            .options(["ro", "rrw", "rnoexec"]),
    ]);
    c.shell("touch /volume/file");
    let renamings: [Renaming; 2] = [(place.clone(), moved.clone()), (link.clone(), place.clone())];
    fs::create_dir_all(&place)?;
    let mut raced = 0;
    after_each(c, &[libc::SYS_mount, libc::SYS_move_mount], |injector, at| {
        let _may_be_a_link = fs::remove_file(&place);
        let _may_be_missing = fs::rename(&moved, &place);
        let _may_be_there = fs::remove_file(&link);
        symlink("/volume", &link)?;
        let made = injector
            .start_in_a_race(create(c)?, &c.dir, at, &renamings)?
            .finish()?;
        if injector.hit().is_some() {
            raced += 1;
        }
        if made.code() != 0 {
            made.refused()?;
            return c.nothing_left();
        }
        c.rt(&["start", &c.id])?.ok()?;
        c.wait_status("stopped")?;
        ensure!(
            fs::read_dir(&volume)?.next().is_none(),
            "the read-only volume was written to, after {} calls",
            at.1.len()
        );
        c.delete()
    })?;
    ensure!(raced > 1, "no race");
    Ok(())
}

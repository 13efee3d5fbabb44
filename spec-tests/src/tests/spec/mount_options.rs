//! Runs in: SUITE. runtime-spec, config.md, Mounts: each option of its table, and what takes it back;
//! id-mapped mounts.

use super::sentences::refused;
use crate::{
    case::Case,
    config::Mount,
    outcome::{Check, contains, ensure, fail, same},
    seen::Report,
};
use serde_json::json;
use std::{fs, os::unix::fs::MetadataExt};

tests! {
    spec/mount_options_of_the_table,
    spec/mount_options_that_undo,
    spec/mount_options_recursive_that_undo,
    spec/mount_option_runbindable,
    spec/mount_option_unknown_is_data,
    spec/idmap_without_mappings_is_refused,
    spec/idmap_takes_the_container_s_mapping,
    spec/idmap_with_mappings_in_a_user_namespace,
    spec/idmap_needs_both_mappings,
    spec/idmap_recursive,
}

/// The options of the mount at `path`, those of its file system included.
fn options_at(report: &Report, path: &str) -> Check<Vec<String>> {
    let text = report.mountinfo.as_str();
    let Some(line) = text.lines().rfind(|line| line.split(' ').nth(4) == Some(path)) else {
        return fail(format!("no mount at {path} in:\n{text}"));
    };
    let (left, right) = line.split_once(" - ").unwrap_or((line, ""));
    let lists = [left.split(' ').nth(5), right.split(' ').nth(2)];
    Ok(lists
        .into_iter()
        .flatten()
        .flat_map(|list| list.split(','))
        .map(str::to_owned)
        .collect())
}

/// Each option alone on a tmpfs: `!word` must not be among its options, any other word must.
fn on_tmpfs(c: &mut Case, table: &[(&[&str], &[&str])]) -> Check {
    for (index, (options, _)) in table.iter().enumerate() {
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{index}"))
                .kind("tmpfs")
                .source("t")
                .options(options),
        );
    }
    let report = c.probe(&[])?;
    for (index, (options, wish)) in table.iter().enumerate() {
        let reality = options_at(&report, &format!("/mnt/{index}"))?;
        for word in *wish {
            let holds = match word.strip_prefix('!') {
                Some(word) => !reality.iter().any(|option| option == word),
                None => reality.iter().any(|option| option == word),
            };
            ensure!(
                holds,
                "{options:?}:\n    wish:    {word}\n    reality: {reality:?}"
            );
        }
    }
    Ok(())
}

fn mount_options_of_the_table(c: &mut Case) -> Check {
    on_tmpfs(
        c,
        &[
            (&["ro"], &["ro"]),
            (&["nosuid"], &["nosuid"]),
            (&["nodev"], &["nodev"]),
            (&["noexec"], &["noexec"]),
            (&["noatime"], &["noatime"]),
            (&["nodiratime"], &["nodiratime"]),
            (&["relatime"], &["relatime"]),
            (&["strictatime"], &["!relatime", "!noatime"]),
            (&["sync"], &["sync"]),
            (&["dirsync"], &["dirsync"]),
            (&["lazytime"], &["lazytime"]),
            (&["nosymfollow"], &["nosymfollow"]),
            (
                &["defaults"],
                &["rw", "!ro", "!nosuid", "!nodev", "!noexec", "!sync"],
            ),
            (&["iversion"], &[]),
            (&["mand"], &[]),
            (&["silent"], &[]),
        ],
    )
}

fn mount_options_that_undo(c: &mut Case) -> Check {
    on_tmpfs(
        c,
        &[
            (&["ro", "rw"], &["rw", "!ro"]),
            (&["nosuid", "suid"], &["!nosuid"]),
            (&["nodev", "dev"], &["!nodev"]),
            (&["noexec", "exec"], &["!noexec"]),
            (&["noatime", "atime"], &["!noatime"]),
            (&["nodiratime", "diratime"], &["!nodiratime"]),
            (&["strictatime", "nostrictatime"], &["relatime"]),
            (&["relatime", "norelatime"], &[]),
            (&["sync", "async"], &["!sync"]),
            (&["lazytime", "nolazytime"], &["!lazytime"]),
            (&["nosymfollow", "symfollow"], &["!nosymfollow"]),
            (&["iversion", "noiversion"], &[]),
            (&["mand", "nomand"], &[]),
            (&["silent", "loud"], &[]),
        ],
    )
}

/// A folder with a tmpfs below it, both with the options that the words after them take back.
struct Tree(std::path::PathBuf);

impl Tree {
    fn new(c: &Case, name: &str, flags: nix::mount::MsFlags) -> Check<Self> {
        let path = c.dir.join(name);
        fs::create_dir(&path)?;
        nix::mount::mount(Some("t"), &path, Some("tmpfs"), flags, None::<&str>)?;
        Ok(Self(path))
    }

    /// The same of the disk's file system: before Linux 6.3 a tmpfs cannot be id-mapped.
    fn of_folders(c: &Case) -> Check<Self> {
        let (path, other) = (c.dir.join("tree"), c.dir.join("other"));
        let sub = path.join("sub");
        fs::create_dir_all(&sub)?;
        fs::create_dir(&other)?;
        for (source, target) in [(&path, &path), (&other, &sub)] {
            let flags = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)?;
        }
        Ok(Self(path))
    }

    fn with_sub(self, flags: nix::mount::MsFlags) -> Check<Self> {
        let sub = self.0.join("sub");
        fs::create_dir(&sub)?;
        nix::mount::mount(Some("t"), &sub, Some("tmpfs"), flags, None::<&str>)?;
        Ok(self)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left shows in the leak check of the case.
        let _shown_later = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn mount_options_recursive_that_undo(c: &mut Case) -> Check {
    use nix::mount::MsFlags as F;
    // nix has no word for it.
    let nosymfollow = F::from_bits_retain(256);
    let flags = F::MS_NOSUID | F::MS_NODEV | F::MS_NOEXEC | F::MS_NOATIME | F::MS_NODIRATIME | nosymfollow;
    let tree = Tree::new(c, "tree", flags)?.with_sub(flags)?;
    let strict = Tree::new(c, "strict", F::MS_STRICTATIME)?.with_sub(F::MS_STRICTATIME)?;
    for path in [strict.0.clone(), strict.0.join("sub")] {
        let flags = F::MS_REMOUNT | F::MS_BIND | F::MS_RDONLY | F::MS_STRICTATIME;
        nix::mount::mount(None::<&str>, &path, None::<&str>, flags, None::<&str>)?;
    }
    let table = [
        (vec!["rsuid"], "!nosuid"),
        (vec!["rdev"], "!nodev"),
        (vec!["rexec"], "!noexec"),
        (vec!["ratime"], "!noatime"),
        (vec!["rdiratime"], "!nodiratime"),
        (vec!["rrelatime"], "relatime"),
        (vec!["rsymfollow"], "!nosymfollow"),
        // What is left of the old times of access is not said by mount(8): taken, no more.
        (vec!["rnorelatime"], "!strictatime"),
        // Of the other tree: a mount without a word about times is strict.
        (vec!["rnostrictatime"], "relatime"),
        (vec!["rrw"], "!ro"),
    ];
    for (index, (options, _)) in table.iter().enumerate() {
        let mut all = vec!["rbind"];
        all.extend(options);
        let is_strict = ["rnostrictatime", "rrw"].contains(&options[0]);
        let source = if is_strict { &strict.0 } else { &tree.0 };
        c.mount(
            Mount::new()
                .destination(format!("/mnt/{index}"))
                .source(source.to_string_lossy())
                .options(all),
        );
    }
    let report = c.probe(&[])?;
    for (index, (options, wish)) in table.iter().enumerate() {
        for path in [format!("/mnt/{index}"), format!("/mnt/{index}/sub")] {
            let reality = options_at(&report, &path)?;
            let found = reality
                .iter()
                .any(|option| option == wish.trim_start_matches('!'));
            ensure!(
                found != wish.starts_with('!'),
                "{options:?} at {path}:\n    wish:    {wish}\n    reality: {reality:?}"
            );
        }
    }
    Ok(())
}

fn mount_option_runbindable(c: &mut Case) -> Check {
    let tree = Tree::new(c, "tree", nix::mount::MsFlags::empty())?.with_sub(nix::mount::MsFlags::empty())?;
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source(tree.0.to_string_lossy())
            .options(["rbind", "runbindable"]),
    );
    let report = c.probe(&[])?;
    let text = report.mountinfo.as_str();
    for path in ["/mnt", "/mnt/sub"] {
        let line = text
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(path))
            .unwrap_or_default();
        contains(path, line, "unbindable")?;
    }
    Ok(())
}

fn mount_option_unknown_is_data(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("tmpfs")
            .source("t")
            .options(["nosuid", "size=4k", "mode=700", "nr_inodes=9"]),
    );
    let options = options_at(&c.probe(&[])?, "/mnt")?;
    for wish in ["nosuid", "size=4k", "mode=700", "nr_inodes=9"] {
        ensure!(
            options.iter().any(|option| option == wish),
            "wish {wish}, reality {options:?}"
        );
    }
    Ok(())
}

fn source_of_1000(c: &Case) -> Check<String> {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "x")?;
    nix::unistd::chown(&source.join("file"), Some(1000.into()), Some(1000.into()))?;
    Ok(source.to_string_lossy().into_owned())
}

fn idmap_without_mappings_is_refused(c: &mut Case) -> Check {
    let source = source_of_1000(c)?;
    for option in ["idmap", "ridmap"] {
        let mounts = c.config["mounts"].clone();
        c.mount(Mount::bind("/mnt", &source).options(json!(["rbind", option])));
        refused(c, "")?;
        c.document().mounts(mounts);
    }
    Ok(())
}

fn idmap_needs_both_mappings(c: &mut Case) -> Check {
    let source = source_of_1000(c)?;
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    for key in ["uidMappings", "gidMappings"] {
        let mounts = c.config["mounts"].clone();
        c.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"], key: mapping}));
        refused(c, "")?;
        c.document().mounts(mounts);
    }
    Ok(())
}

fn owner(report: &Report, path: &str) -> [Option<u32>; 2] {
    [report.stat[path].uid, report.stat[path].gid]
}

fn idmap_takes_the_container_s_mapping(c: &mut Case) -> Check {
    let source = source_of_1000(c)?;
    c.map_ids(100_000)?;
    c.mount(Mount::bind("/mnt", source).options(["bind", "idmap"]));
    let report = c.probe(&["--stat", "/mnt/file"])?;
    same("owner", [Some(1000); 2], owner(&report, "/mnt/file"))
}

/// The mount's own mapping says what is on disk, the user namespace what is seen of it: 1000 is 100,007 to
/// the host, and 7 inside. Without one of its own the mount has the container's, also recursively.
fn idmap_with_mappings_in_a_user_namespace(c: &mut Case) -> Check {
    let tree = Tree::of_folders(c)?;
    for file in ["file", "sub/file"] {
        fs::write(tree.0.join(file), "x")?;
        nix::unistd::chown(&tree.0.join(file), Some(1000.into()), Some(1000.into()))?;
    }
    c.map_ids(100_000)?;
    let mapping = json!([{"containerID": 1000, "hostID": 100_007, "size": 1}]);
    for (destination, option, has_own) in [
        ("/mnt/own", "ridmap", true),
        ("/mnt/top", "idmap", true),
        ("/mnt/theirs", "ridmap", false),
    ] {
        // Root inside may not make it.
        fs::create_dir(c.rootfs(destination))?;
        let mut mount = json!({
            "destination": destination, "type": "bind", "source": tree.0.to_string_lossy(), "options": ["rbind", option]
        });
        if has_own {
            (mount["uidMappings"], mount["gidMappings"]) = (mapping.clone(), mapping.clone());
        }
        c.mount(mount);
    }
    let wishes = [
        ("/mnt/own/file", 7),
        ("/mnt/own/sub/file", 7),
        ("/mnt/top/file", 7),
        // Not below a user namespace's first id: nobody.
        ("/mnt/top/sub/file", 65534),
        ("/mnt/theirs/file", 1000),
        ("/mnt/theirs/sub/file", 1000),
    ];
    let options: Vec<&str> = wishes.iter().flat_map(|(file, _)| ["--stat", file]).collect();
    let report = c.probe(&options)?;
    for (file, id) in wishes {
        same(&format!("owner of {file}"), [Some(id); 2], owner(&report, file))?;
    }
    Ok(())
}

fn idmap_recursive(c: &mut Case) -> Check {
    let tree = Tree::of_folders(c)?;
    for file in ["file", "sub/file"] {
        fs::write(tree.0.join(file), "x")?;
        nix::unistd::chown(&tree.0.join(file), Some(1000.into()), Some(1000.into()))?;
    }
    let mapping = json!([{"containerID": 1000, "hostID": 2000, "size": 1}]);
    for (destination, option) in [("/mnt/r", "ridmap"), ("/mnt/i", "idmap")] {
        c.mount(
            Mount::bind(destination, tree.0.to_string_lossy())
                .options(json!(["rbind", option]))
                .uid_mappings(&mapping)
                .gid_mappings(&mapping),
        );
    }
    let files = ["/mnt/r/file", "/mnt/r/sub/file", "/mnt/i/file", "/mnt/i/sub/file"];
    let options: Vec<&str> = files.iter().flat_map(|file| ["--stat", file]).collect();
    let report = c.probe(&options)?;
    for (file, uid) in files.iter().zip([2000, 2000, 2000, 1000]) {
        same(&format!("owner of {file}"), [Some(uid); 2], owner(&report, file))?;
    }
    for file in ["file", "sub/file"] {
        let on_disk = fs::metadata(tree.0.join(file))?;
        let wish = (1000, 1000);
        same(&format!("{file} on disk"), wish, (on_disk.uid(), on_disk.gid()))?;
    }
    Ok(())
}

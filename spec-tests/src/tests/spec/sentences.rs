//! Runs in: SUITE. Sentences of the runtime-spec that no other topic has a reason to test: the JSON schemas, what
//! `features` promises, values that must be refused, fields that are rare.

use crate::{
    case::Case,
    config::{Device, Hook, IdMapping, IoPriority, Mount, Scheduler, Syscall},
    outcome::{Check, Stop, contains, ensure, fail, same},
    schema::Schemas,
    seen::{self, Report},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt};

tests! {
    spec/state_matches_the_schema,
    spec/state_without_annotations,
    spec/features_match_the_schema,
    spec/spec_command_matches_the_schema,
    spec/features_versions_are_accepted,
    spec/features_hooks_are_supported,
    spec/features_mount_options_are_recognized,
    spec/features_namespaces_are_recognized,
    spec/features_capabilities_are_recognized,
    spec/features_seccomp_words_are_recognized,
    spec/features_do_not_depend_on_the_host,
    spec/features_say_what_is_new,
    spec/cgroup_is_not_given_away_without_a_writable_mount,
    spec/version_not_semver_is_refused,
    spec/annotation_with_empty_key_is_refused,
    spec/annotation_value_must_be_a_string,
    spec/annotations_unknown_and_empty_are_kept,
    spec/sections_of_other_platforms_are_ignored,
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
    spec/namespace_path_must_be_absolute,
    spec/mapping_changes_no_owner,
    spec/device_that_is_listed_twice,
    spec/cgroups_path_relative_is_stable,
    spec/unified_writes_files_it_does_not_know,
    spec/unified_of_a_missing_controller_is_refused,
    spec/rdma_entry_without_a_limit,
    spec/masked_path_must_be_absolute,
    spec/readonly_path_must_be_absolute,
    spec/dev_links_need_their_source,
    spec/hook_timeout_of_zero_is_refused,
    spec/hook_paths_must_be_absolute,
    spec/seccomp_names_must_not_be_empty,
    spec/seccomp_metadata_needs_a_listener,
    spec/scheduler_policies,
    spec/scheduler_deadline,
    spec/scheduler_reset_on_fork,
    spec/scheduler_every_flag,
    spec/io_priority_classes,
    spec/personality_linux,
    spec/memory_policy,
    spec/memory_policy_of_every_mode,
    spec/memory_policy_without_nodes_is_refused,
    spec/intel_rdt_schema_with_two_lines_is_refused,
    spec/container_follows_config_not_the_caller,
}

fn refused(c: &Case, text: &str) -> Check {
    c.create()?.refused_with(text)?;
    c.nothing_left()
}

fn matches(schema: &str, document: &Value) -> Check {
    let faults = Schemas::load().or_else(fail)?.check(schema, document);
    same(&format!("faults by {schema}"), Vec::<String>::new(), faults)
}

fn state_matches_the_schema(c: &mut Case) -> Check {
    c.document().annotations(json!({"com.example.key": "value"}));
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    matches("state-schema.json", &c.state()?)?;
    c.rt(&["start", &c.id])?.ok()?;
    matches("state-schema.json", &c.state()?)?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    matches("state-schema.json", &c.state()?)
}

fn state_without_annotations(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let annotations = c.state()?["annotations"].clone();
    ensure!(
        annotations.is_null() || annotations.as_object().is_some_and(serde_json::Map::is_empty),
        "annotations: wish none or {{}}, reality {annotations}"
    );
    Ok(())
}

fn features(c: &Case) -> Check<Value> {
    c.rt(&["features"])?.ok()?.json()
}

/// The words of a list in `features`; a runtime need not have the list.
fn words(features: &Value, pointer: &str) -> Vec<String> {
    let list = features.pointer(pointer).and_then(Value::as_array);
    let words = list.into_iter().flatten().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

fn features_match_the_schema(c: &mut Case) -> Check {
    matches("features-schema.json", &features(c)?)
}

fn spec_command_matches_the_schema(c: &mut Case) -> Check {
    c.rt(&["spec", "--bundle", "bundle"])?.ok()?;
    let text = fs::read(c.bundle.join("config.json"))?;
    matches("config-schema.json", &serde_json::from_slice(&text)?)
}

fn number(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn features_versions_are_accepted(c: &mut Case) -> Check {
    let features = features(c)?;
    let (min, max) = (&features["ociVersionMin"], &features["ociVersionMax"]);
    let [low, high] = [min, max].map(|version| number(version.as_str().unwrap_or_default()));
    ensure!(low <= high, "ociVersionMin {min} is above ociVersionMax {max}");
    for version in [min, max] {
        c.document().oci_version(version.clone());
        c.run()?.ok()?;
    }
    Ok(())
}

fn features_hooks_are_supported(c: &mut Case) -> Check {
    let hooks = words(&features(c)?, "/hooks");
    let seen = c.rootfs("/tmp/seen");
    for name in &hooks {
        // startContainer hooks run in the container, where the file is /tmp/seen.
        let file = if name == "startContainer" {
            "/tmp/seen".into()
        } else {
            seen.clone()
        };
        let line = format!("echo {name} >> {}", file.display());
        c.config["hooks"][name] = json!([{"path": "/bin/sh", "args": ["sh", "-c", line]}]);
    }
    c.run()?.ok()?;
    let mut ran: Vec<String> = fs::read_to_string(seen)?.lines().map(str::to_owned).collect();
    let mut wish = hooks;
    ran.sort_unstable();
    wish.sort_unstable();
    same("hooks that ran", wish, ran)
}

fn features_mount_options_are_recognized(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    for option in words(&features(c)?, "/mountOptions") {
        let destination = format!("/mnt/{option}");
        let mount = match option.as_str() {
            "remount" | "idmap" | "ridmap" => continue,
            "tmpcopyup" => {
                json!({"destination": "/etc", "type": "tmpfs", "source": "t", "options": [option]})
            }
            // Of the same file system as an option that is none of its data; recursive ones are for trees.
            _ if option.starts_with('r') && !["ro", "rw", "relatime"].contains(&option.as_str()) => json!({
                "destination": destination, "type": "bind", "source": source.to_string_lossy(), "options": ["rbind", option]
            }),
            "bind" | "copy-symlink" | "src-nofollow" | "dest-nofollow" => json!({
                "destination": destination, "type": "bind", "source": source.to_string_lossy(), "options": ["bind", option]
            }),
            _ => json!({"destination": destination, "type": "tmpfs", "source": "t", "options": [option]}),
        };
        c.mount(mount);
    }
    c.run()?.ok()?;
    Ok(())
}

fn features_namespaces_are_recognized(c: &mut Case) -> Check {
    c.config["linux"]["namespaces"] = words(&features(c)?, "/linux/namespaces")
        .iter()
        .map(|name| json!({"type": name}))
        .collect();
    c.linux()
        .uid_mappings([IdMapping::new().container_id(0).host_id(0).size(65536)]);
    c.linux()
        .gid_mappings([IdMapping::new().container_id(0).host_id(0).size(65536)]);
    c.run()?.ok()?;
    Ok(())
}

fn features_capabilities_are_recognized(c: &mut Case) -> Check {
    let names = words(&features(c)?, "/linux/capabilities");
    ensure!(
        names.len() >= 41,
        "wish the 41 capabilities of Linux 5.9, reality {names:?}"
    );
    // In the bounding set only: what the caller lacks is left out, what is not known would be an error or a warning.
    c.process().capabilities().clear().bounding(names);
    let run = c.run()?.ok()?;
    ensure!(
        !run.stderr.contains("unknown"),
        "a listed capability is not known: {}",
        run.stderr
    );
    Ok(())
}

fn features_seccomp_words_are_recognized(c: &mut Case) -> Check {
    let features = features(c)?;
    let list = |name: &str| words(&features, &format!("/linux/seccomp/{name}"));
    ensure!(
        !list("actions").is_empty() && !list("operators").is_empty(),
        "seccomp: actions or operators are missing"
    );
    let mut rules = Vec::new();
    // A call that exists and that nobody makes.
    for action in list("actions")
        .iter()
        .filter(|action| *action != "SCMP_ACT_NOTIFY")
    {
        rules.push(json!({"names": ["add_key"], "action": action, "args": [{"index": 0, "value": rules.len(), "op": "SCMP_CMP_EQ"}]}));
    }
    for operator in list("operators") {
        rules.push(json!({"names": ["request_key"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": operator}]}));
    }
    let mut seccomp =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "architectures": list("archs")});
    let (known, supported) = (list("knownFlags"), list("supportedFlags"));
    for flag in &supported {
        ensure!(known.contains(flag), "{flag} is supported and not known");
    }
    // It has a meaning for filters that notify only, and newer kernels refuse it elsewhere.
    let flags = supported.iter().filter(|flag| !flag.contains("WAIT_KILLABLE"));
    seccomp["flags"] = flags.map(|flag| json!(flag)).collect();
    c.config["linux"]["seccomp"] = seccomp;
    c.run()?.ok()?;
    Ok(())
}

fn features_do_not_depend_on_the_host(c: &mut Case) -> Check {
    let here = features(c)?;
    // A place without the file systems that tell what the host can do.
    let runtime: Vec<String> = c
        .host
        .runtime_words()
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = format!("mount -t tmpfs none /sys && exec {} features", runtime.join(" "));
    let mut command = std::process::Command::new("/usr/bin/unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &line]);
    let there = crate::runner::start(&mut command, &c.dir)?
        .finish()?
        .ok()?
        .json()?;
    same("features without /sys", here, there)
}

/// The fields that runtime-spec 1.3.0 has added.
fn features_say_what_is_new(c: &mut Case) -> Check {
    let linux = features(c)?["linux"].clone();
    for (pointer, wish) in [
        ("/netDevices/enabled", true),
        ("/intelRdt/enabled", true),
        ("/intelRdt/schemata", true),
        ("/intelRdt/monitoring", true),
    ] {
        same(
            pointer,
            Some(wish),
            linux.pointer(pointer).and_then(Value::as_bool),
        )?;
    }
    for (pointer, word) in [
        ("/memoryPolicy/modes", "MPOL_BIND"),
        ("/memoryPolicy/flags", "MPOL_F_STATIC_NODES"),
    ] {
        ensure!(
            words(&linux, pointer).iter().any(|each| each == word),
            "{pointer}: {word} is missing"
        );
    }
    Ok(())
}

fn cgroup_is_not_given_away_without_a_writable_mount(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    c.mount(
        Mount::new()
            .destination("/sys/fs/cgroup")
            .kind("cgroup")
            .source("cgroup")
            .options(["ro"]),
    );
    c.start_sleeper()?;
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        same(file, 0, fs::metadata(c.cgroup().join(file))?.uid())?;
    }
    Ok(())
}

fn version_not_semver_is_refused(c: &mut Case) -> Check {
    for version in [
        "", "one", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.x", "1.0.0-", "2.0.0",
    ] {
        c.document().oci_version(version);
        let run = c.create()?;
        ensure!(run.code() != 0, "ociVersion {version:?} was accepted");
    }
    for version in ["1.0.0", "1.0.2-dev", "1.2.0+build.5", "1.3.0-rc.1+x-y"] {
        c.document().oci_version(version);
        c.run()?.ok()?;
    }
    c.nothing_left()
}

fn annotation_with_empty_key_is_refused(c: &mut Case) -> Check {
    c.document().annotations(json!({"": "value"}));
    refused(c, "")
}

fn annotation_value_must_be_a_string(c: &mut Case) -> Check {
    c.document().annotations(json!({"com.example.key": 5}));
    refused(c, "")
}

fn annotations_unknown_and_empty_are_kept(c: &mut Case) -> Check {
    let annotations =
        json!({"com.example.unknown": "x", "com.example.empty": "", "org.opencontainers.image.os": "linux"});
    c.document().annotations(annotations.clone());
    c.start_sleeper()?;
    same("annotations", annotations, c.state()?["annotations"].clone())
}

fn sections_of_other_platforms_are_ignored(c: &mut Case) -> Check {
    c.document()
        .windows(json!({"layerFolders": ["C:\\layer"], "ignoreFlushesDuringBoot": true}));
    c.document().vm(json!({"hypervisor": {"path": "/hypervisor"}, "kernel": {"path": "/kernel"}, "hwConfig": {"vcpus": 2, "memory": 4096, "dtdevs": ["path"], "irqs": [5], "iomems": [{"firstMFN": 1, "nrMFNs": 1}]}}));
    c.document().zos(json!({"namespaces": [{"type": "mount"}]}));
    c.document()
        .solaris(json!({"milestone": "svc:/milestone/container:default"}));
    c.document().freebsd(json!({"jail": {"parent": "p"}}));
    same("output", "fine", c.sh("echo fine")?.as_str())
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

/// The mount's own mapping says what is on disk, the user namespace what is seen of it: 1000 is 100,007 to the host, and 7
/// inside. Without one of its own the mount has the container's, also recursively.
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

fn namespace_path_must_be_absolute(c: &mut Case) -> Check {
    c.join_namespace("network", Some("proc/self/ns/net"));
    refused(c, "")
}

fn mapping_changes_no_owner(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    let owners = |c: &Case| -> Check<Vec<(u32, u32)>> {
        let files = ["/etc/passwd", "/bin", "/bin/busybox", "/tmp"];
        files
            .iter()
            .map(|file| Ok(fs::symlink_metadata(c.rootfs(file)).map(|stat| (stat.uid(), stat.gid()))?))
            .collect()
    };
    let before = owners(c)?;
    c.run()?.ok()?;
    same("owners in the rootfs", before, owners(c)?)
}

fn device_that_is_listed_twice(c: &mut Case) -> Check {
    // "SHOULD NOT" is for whoever writes the document; two names for one device are no reason to fail.
    c.linux().devices([
        Device::new().path("/dev/one").kind("c").major(1).minor(3),
        Device::new().path("/dev/two").kind("c").major(1).minor(3),
    ]);
    let report = c.probe(&["--stat", "/dev/one", "--stat", "/dev/two"])?;
    for path in ["/dev/one", "/dev/two"] {
        same(path, json!("char"), report.stat[path].kind.clone())?;
    }
    Ok(())
}

fn cgroups_path_relative_is_stable(c: &mut Case) -> Check {
    let path = format!("{}-relative/ctr", c.id);
    c.linux().cgroups_path(&path);
    c.drop_namespace("cgroup");
    let mut places = Vec::new();
    for _ in 0..2 {
        let report = c.probe(&[])?;
        let lines = report.cgroup.as_str().to_owned();
        let line = lines
            .lines()
            .find(|line| line.starts_with("0::"))
            .unwrap_or_default()
            .to_owned();
        ensure!(
            line.ends_with(&path),
            "wish a cgroup that ends with {path}, reality {line:?}"
        );
        places.push(line);
    }
    let [first, second] = places.as_slice() else {
        return fail("two runs");
    };
    let parent = c.host.cgroup2.join(first.trim_start_matches("0::/"));
    if let Some(parent) = parent
        .parent()
        .filter(|parent| parent.ends_with(format!("{}-relative", c.id)))
    {
        // The runtime may leave parents, which it may not have made.
        let _may_be_gone = fs::remove_dir(parent);
    }
    same("the second place", first, second)
}

fn unified_writes_files_it_does_not_know(c: &mut Case) -> Check {
    c.resources()
        .unified(json!({"cgroup.max.descendants": "7", "cgroup.max.depth": "3"}));
    c.start_sleeper()?;
    for (file, wish) in [("cgroup.max.descendants", "7"), ("cgroup.max.depth", "3")] {
        same(file, wish, fs::read_to_string(c.cgroup().join(file))?.trim())?;
    }
    Ok(())
}

fn unified_of_a_missing_controller_is_refused(c: &mut Case) -> Check {
    c.resources().unified(json!({"nosuch.max": "1"}));
    refused(c, "nosuch")
}

fn rdma_entry_without_a_limit(c: &mut Case) -> Check {
    c.resources().rdma(json!({"mlx5_1": {}}));
    refused(c, "")
}

fn masked_path_must_be_absolute(c: &mut Case) -> Check {
    c.linux().masked_paths(["etc/passwd"]);
    refused(c, "")
}

fn readonly_path_must_be_absolute(c: &mut Case) -> Check {
    c.linux().readonly_paths(["etc"]);
    refused(c, "")
}

fn dev_links_need_their_source(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    let dev = format!("/proc/{}/root/dev", c.pid()?);
    for (name, wish) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let target = fs::read_link(format!("{dev}/{name}"))?;
        same(
            name,
            format!("/proc/self/fd{wish}"),
            target.to_string_lossy().into_owned(),
        )?;
    }
    c.delete()?;
    let report = c.probe(&["--stat", "/dev/fd", "--stat", "/dev/stdin"])?;
    same(
        "/dev/fd",
        Some("/proc/self/fd"),
        report.stat["/dev/fd"].target.as_deref(),
    )?;
    same(
        "/dev/stdin",
        Some("/proc/self/fd/0"),
        report.stat["/dev/stdin"].target.as_deref(),
    )
}

fn hook_timeout_of_zero_is_refused(c: &mut Case) -> Check {
    for timeout in [0, -1] {
        c.hooks()
            .create_runtime([Hook::new().path("/bin/true").timeout(timeout)]);
        refused(c, "")?;
    }
    Ok(())
}

fn hook_paths_must_be_absolute(c: &mut Case) -> Check {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        c.config["hooks"] = json!({kind: [{"path": "bin/true"}]});
        refused(c, "")?;
    }
    Ok(())
}

fn seccomp_names_must_not_be_empty(c: &mut Case) -> Check {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .syscalls([Syscall::new().names(json!([])).action("SCMP_ACT_ERRNO")]);
    refused(c, "")
}

fn seccomp_metadata_needs_a_listener(c: &mut Case) -> Check {
    c.linux()
        .seccomp()
        .clear()
        .default_action("SCMP_ACT_ALLOW")
        .listener_metadata("x");
    refused(c, "")
}

fn scheduler(c: &mut Case, scheduler: Value) -> Check<seen::Scheduler> {
    c.process().scheduler(scheduler);
    Ok(c.probe(&[])?.scheduler)
}

fn scheduler_policies(c: &mut Case) -> Check {
    let table = [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), 0, 5, 0),
        (json!({"policy": "SCHED_OTHER"}), 0, 0, 0),
        (json!({"policy": "SCHED_FIFO", "priority": 7}), 1, 0, 7),
        (json!({"policy": "SCHED_RR", "priority": 9}), 2, 0, 9),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), 3, 3, 0),
        (json!({"policy": "SCHED_IDLE"}), 5, 0, 0),
    ];
    for (wish, policy, nice, priority) in table {
        let reality = scheduler(c, wish.clone())?;
        same(
            &wish.to_string(),
            (policy, nice, priority),
            (reality.policy, reality.nice, reality.priority),
        )?;
    }
    Ok(())
}

fn scheduler_deadline(c: &mut Case) -> Check {
    let wish = json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 10_000_000, "period": 20_000_000});
    let reality = scheduler(c, wish)?;
    same(
        "scheduler",
        (6, 2_000_000, 10_000_000, 20_000_000),
        (reality.policy, reality.runtime, reality.deadline, reality.period),
    )
}

fn scheduler_reset_on_fork(c: &mut Case) -> Check {
    let wish = json!({"policy": "SCHED_FIFO", "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let reality = scheduler(c, wish)?;
    same("flags", 1, reality.flags & 1)
}

/// sched(7), sched_setattr(2): what each flag does, where it can be seen.
fn scheduler_every_flag(c: &mut Case) -> Check {
    let deadline = |flag: &str| json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 10_000_000, "period": 20_000_000, "flags": [flag]});
    for (flag, bit) in [("SCHED_FLAG_RECLAIM", 2), ("SCHED_FLAG_DL_OVERRUN", 4)] {
        let reality = scheduler(c, deadline(flag))?;
        same(flag, bit, reality.flags & bit)?;
    }
    for (flag, policy, nice) in [("SCHED_FLAG_KEEP_POLICY", 0, 5), ("SCHED_FLAG_KEEP_PARAMS", 0, 0)] {
        let reality = scheduler(c, json!({"policy": "SCHED_OTHER", "nice": 5, "flags": [flag]}))?;
        same(flag, (policy, nice), (reality.policy, reality.nice))?;
    }
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        c.process()
            .scheduler(Scheduler::new().policy("SCHED_OTHER").flags(json!([flag])));
        c.args(&["/bin/true"]);
        let run = c.run()?;
        // A kernel without utilization clamping (CONFIG_UCLAMP_TASK) refuses it.
        if run.code() != 0 {
            run.refused_with("scheduler")?;
            c.nothing_left()?;
        }
    }
    Ok(())
}

fn io_priority_classes(c: &mut Case) -> Check {
    let table = [
        ("IOPRIO_CLASS_RT", 1, 6),
        ("IOPRIO_CLASS_BE", 2, 0),
        ("IOPRIO_CLASS_IDLE", 3, 0),
    ];
    for (class, number, priority) in table {
        c.process()
            .io_priority(IoPriority::new().class(class).priority(priority));
        same(class, (number << 13) | priority, c.probe(&[])?.ioprio)?;
    }
    c.process()
        .io_priority(IoPriority::new().class("IOPRIO_CLASS_BE").priority(8));
    refused(c, "")
}

fn personality_linux(c: &mut Case) -> Check {
    const PER_LINUX32: libc::c_ulong = 8;
    c.args(&["/bin/probe"]);
    // First without a wish, when it is the caller's: so that the other says something.
    for wish in [8, 0] {
        if wish == 0 {
            c.linux().personality(json!({"domain": "LINUX"}));
        }
        let words = c.bundle_args("run", &[], &c.id)?;
        let mut command = c.command();
        let be_32 = || {
            // SAFETY: no memory is involved, and 8 is a persona.
            unsafe { libc::personality(PER_LINUX32) };
            Ok(())
        };
        // SAFETY: between fork and exec there is one system call.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, be_32) };
        let run = crate::runner::start(command.args(&words), &c.dir)?.finish()?;
        same("personality", json!(wish), run.ok()?.seen()?.personality)?;
    }
    Ok(())
}

fn memory_policy(c: &mut Case) -> Check {
    if !fs::exists("/proc/self/numa_maps")? {
        return Err(Stop::Unsupported("the kernel has no NUMA".into()));
    }
    for (mode, flags, wish) in [
        ("MPOL_BIND", json!([]), "bind:0"),
        ("MPOL_INTERLEAVE", json!([]), "interleave:0"),
        ("MPOL_PREFERRED", json!([]), "prefer:0"),
        ("MPOL_BIND", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
    ] {
        c.linux()
            .memory_policy(json!({"mode": mode, "nodes": "0", "flags": flags}));
        contains(mode, &c.sh("cat /proc/self/numa_maps")?, wish)?;
    }
    Ok(())
}

/// Every mode and flag of the list, as the kernel shows it inside; a mode that the kernel has not is an error that says so.
fn memory_policy_of_every_mode(c: &mut Case) -> Check {
    if !fs::exists("/proc/self/numa_maps")? {
        return Err(Stop::Unsupported("the kernel has no NUMA".into()));
    }
    for (mode, nodes, flags, wish) in [
        ("MPOL_DEFAULT", "", json!([]), " default "),
        ("MPOL_LOCAL", "", json!([]), " local "),
        ("MPOL_PREFERRED_MANY", "0", json!([]), " prefer (many):0 "),
        (
            "MPOL_WEIGHTED_INTERLEAVE",
            "0",
            json!([]),
            " weighted interleave:0 ",
        ),
        (
            "MPOL_INTERLEAVE",
            "0",
            json!(["MPOL_F_RELATIVE_NODES"]),
            " interleave=relative:0 ",
        ),
        ("MPOL_BIND", "0", json!(["MPOL_F_NUMA_BALANCING"]), " bind"),
    ] {
        c.linux().memory_policy(json!({"mode": mode, "flags": flags}));
        if !nodes.is_empty() {
            c.config["linux"]["memoryPolicy"]["nodes"] = json!(nodes);
        }
        c.shell("cat /proc/self/numa_maps");
        let run = c.run()?;
        // Since Linux 6.9.
        if mode == "MPOL_WEIGHTED_INTERLEAVE" && run.code() != 0 {
            run.refused_with("memoryPolicy")?;
            c.nothing_left()?;
            continue;
        }
        contains(mode, &run.ok()?.stdout, wish)?;
    }
    Ok(())
}

fn memory_policy_without_nodes_is_refused(c: &mut Case) -> Check {
    c.linux().memory_policy(json!({"mode": "MPOL_BIND"}));
    refused(c, "")?;
    c.linux()
        .memory_policy(json!({"mode": "MPOL_NOSUCH", "nodes": "0"}));
    refused(c, "")?;
    // set_mempolicy(2): these two take no nodes.
    for mode in ["MPOL_DEFAULT", "MPOL_LOCAL"] {
        c.linux().memory_policy(json!({"mode": mode, "nodes": "0"}));
        refused(c, "")?;
    }
    Ok(())
}

fn intel_rdt_schema_with_two_lines_is_refused(c: &mut Case) -> Check {
    c.linux()
        .intel_rdt(json!({"closID": "c", "memBwSchema": "MB:0=20\nL3:0=f"}));
    refused(c, "")?;
    c.linux()
        .intel_rdt(json!({"closID": "c", "memBwSchema": "L3:0=20"}));
    refused(c, "")
}

/// What is not in config.json is not taken from the program that calls the runtime.
fn container_follows_config_not_the_caller(c: &mut Case) -> Check {
    c.process().env(["PATH=/bin"]);
    c.args(&["/bin/probe"]);
    c.write_config()?;
    let mut command = c.command();
    command
        .env("FROM_THE_CALLER", "1")
        .args(["run", "--bundle"])
        .arg(&c.bundle)
        .arg(&c.id);
    let report = crate::runner::start(&mut command, &c.dir)?
        .finish()?
        .ok()?
        .seen()?;
    let env = report.env.join(" ");
    ensure!(!env.contains("FROM_THE_CALLER"), "environment: {env}");
    same("working directory", "/", report.cwd.as_str())
}

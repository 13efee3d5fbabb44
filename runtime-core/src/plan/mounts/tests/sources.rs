//! What is mounted, and whose superblock it has.

use super::*;

#[test]
fn read_only_reaches_no_superblock_that_others_have_or_that_is_memory() {
    for (fstype, flags) in [
        ("ext4", vec!["ro", "sync"]),
        ("overlay", vec!["ro", "sync"]),
        ("tmpfs", vec!["sync"]),
        ("devpts", vec!["sync"]),
        ("sysfs", vec![]),
        ("mqueue", vec![]),
        ("proc", vec![]),
        ("debugfs", vec![]),
        ("devtmpfs", vec![]),
    ] {
        let mount = plan_mount(&format!(
            r#"{{"destination":"/t","type":"{fstype}","source":"s","options":["ro","sync"]}}"#
        ))
        .unwrap();
        assert_eq!(options_of(&mount), [vec!["source=s"], flags].concat(), "{fstype}");
        let MountSource::New(new) = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(
            (new.attributes, mount.attributes.len()),
            (ATTR_RDONLY, 0),
            "{fstype}"
        );
    }
}

#[test]
fn a_remount_changes_the_superblock_of_a_mount_of_the_list_only() {
    let change = r#"{"destination":"/t","options":["remount","ro","sync"]}"#;
    let undo = r#"{"destination":"/t","type":"ext4","options":["remount","rw","nosuid"]}"#;
    for (first, second, flags) in [
        (r#""type":"ext4","source":"/dev/sda""#, change, vec!["ro", "sync"]),
        (r#""type":"ext4","source":"/dev/sda""#, undo, vec!["rw"]),
        (r#""type":"tmpfs""#, change, vec!["sync"]),
        (r#""type":"sysfs""#, change, vec![]),
        (r#""type":"bind","source":"/""#, change, vec![]),
        (r#""type":"bind","source":"/""#, undo, vec![]),
    ] {
        let mounts = format!(r#"{{"destination":"/t",{first}}},{second}"#);
        let mount = plan_all(&HostFacts::of_root(), "", &mounts).unwrap().remove(1);
        assert_eq!(options_of(&mount), flags, "{first} {second}");
        assert_eq!(mount.attributes.len(), 1);
        assert_eq!(
            mount.attributes[0].0.clear | mount.attributes[0].0.set,
            LOCKABLE | ATTR_NOSYMFOLLOW,
            "all flags are said"
        );
    }
    assert!(options_of(&plan_mount(change).unwrap()).is_empty());
}

#[test]
fn a_tmpfs_without_a_mode_gets_that_of_its_place() {
    for (options, fstype, wish) in [
        (r#""nosuid""#, "tmpfs", true),
        (r#""size=1m,mode=700""#, "tmpfs", false),
        (r#""nosuid""#, "ramfs", false),
    ] {
        let mount = plan_mount(&format!(
            r#"{{"destination":"/t","type":"{fstype}","options":[{options}]}}"#
        ))
        .unwrap();
        let MountSource::New(new) = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(new.mode_of_place, wish, "{options}");
    }
}

#[test]
fn unknown_options_of_cgroup2_are_refused_and_known_ones_forgotten() {
    for fstype in ["cgroup", "cgroup2"] {
        for option in ["nsdelegate", "memory_recursiveprot,favordynmods"] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/c","type":"{fstype}","options":["{option}"]}}"#
            ));
            assert_eq!(options_of(&mount.unwrap()), ["source=cgroup"]);
        }
        for option in ["bogus", "xattr", "nsdelegate=1"] {
            let mount = plan_mount(&format!(
                r#"{{"destination":"/c","type":"{fstype}","options":["ro","{option}"]}}"#
            ));
            let wish = format!("mounts[0].options: {option:?} is no option of cgroup2");
            assert_eq!(mount.unwrap_err().to_string(), wish);
        }
    }
}

#[test]
fn options_that_mount_2_would_cut_are_refused_or_given_one_by_one() {
    let overlay = |lower: &str, rest: &str| {
        plan_mount(&format!(
            r#"{{"destination":"/o","type":"overlay","options":["lowerdir={lower}","index=off"{rest}]}}"#
        ))
    };
    let mount = overlay(r"/a\\,b:/c", "").unwrap();
    let MountSource::Classic { data, .. } = &mount.source else {
        panic!("{mount:?}")
    };
    assert_eq!(data.to_str().unwrap(), r"lowerdir=/a\,b:/c,index=off");
    let many = vec![r"/l\\:\\,ow"; 500].join(":");
    let mount = overlay(&many, "").unwrap();
    let mut wish = vec!["source=overlay"];
    wish.extend(vec!["lowerdir+=/l:,ow"; 500]);
    wish.push("index=off");
    assert_eq!(options_of(&mount), wish);
    let long = format!("/a:/{}", "l".repeat(4096));
    for (mount, wish) in [
        (
            overlay(&long, ""),
            "mounts[0].options: of 4096 bytes or more none may have 256 or more: lowerdir+ has 4097",
        ),
        (
            overlay(&long, r#","iversion""#),
            "mounts[0].options: 4119 bytes, which mount(2) would cut at 4096",
        ),
        (
            plan_mount(&format!(
                r#"{{"destination":"/o","type":"ext4","options":["a={}"]}}"#,
                "a".repeat(4094)
            )),
            "mounts[0].options: 4096 bytes, which mount(2) would cut at 4096",
        ),
        (
            overlay(&format!("{many}::"), ""),
            "mounts[0].options: lowerdir: an empty layer, or a backslash at the end",
        ),
        (
            plan_mount(&format!(
                r#"{{"destination":"/o","type":"tmpfs","source":"{}","options":["tmpcopyup"]}}"#,
                "s".repeat(256)
            )),
            "mounts[0].options: tmpcopyup with a source or an option of 256 bytes or more",
        ),
    ] {
        assert_eq!(mount.unwrap_err().to_string(), wish);
    }
    let mount = plan_mount(&format!(
        r#"{{"destination":"/o","type":"ext4","options":["a={}"]}}"#,
        "a".repeat(4093)
    ));
    assert!(matches!(mount.unwrap().source, MountSource::Classic { .. }));
}

#[test]
fn a_remount_of_a_bind_mount_leaves_the_superblock_alone() {
    let mount = plan_mount(r#"{"destination":"/v","options":["bind","remount","ro"]}"#).unwrap();
    let MountSource::Remount { options } = &mount.source else {
        panic!("{mount:?}")
    };
    assert!(options.is_empty());
    let attr = MountAttr {
        set: ATTR_RDONLY,
        clear: ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOSYMFOLLOW,
        ..MountAttr::default()
    };
    assert_eq!(mount.attributes.last(), Some(&(attr, false)));
}

#[test]
fn long_options_go_by_mount_2() {
    let lower = format!("/{}", "l".repeat(300));
    let mount = plan_mount(&format!(
        r#"{{"destination":"/o","type":"overlay","options":["ro","noatime","lowerdir={lower}","index=off"]}}"#
    ))
    .unwrap();
    let MountSource::Classic { flags, data, .. } = &mount.source else {
        panic!("{mount:?}")
    };
    assert_eq!(*flags, libc::MS_RDONLY | libc::MS_NOATIME);
    assert_eq!(data.to_str().unwrap(), format!("lowerdir={lower},index=off"));
}

#[test]
fn new_file_systems_get_the_label_and_nothing_else_does() {
    let selinux = HostFacts {
        selinux: true,
        ..HostFacts::of_root()
    };
    for (mount, wish) in [
        (
            r#""tmpfs","options":["size=1m"]"#,
            vec!["source=tmpfs", "size=1m", "context=u:r:t:s0:c1,c2"],
        ),
        (
            r#""tmpfs","options":["rootcontext=x"]"#,
            vec!["source=tmpfs", "rootcontext=x"],
        ),
        (r#""tmpfs","options":["remount","size=1m"]"#, vec!["size=1m"]),
        (r#""mqueue""#, vec!["source=mqueue"]),
        (r#""proc""#, vec!["source=proc"]),
        (r#""cgroup2""#, vec!["source=cgroup"]),
    ] {
        let json = format!(r#"{{"destination":"/m","type":{mount}}}"#);
        let planned = plan_on(&selinux, &json).unwrap();
        assert_eq!(options_of(&planned), wish, "{mount}");
        let root = match &planned.source {
            MountSource::New(new) => new.root_label.clone(),
            _ => None,
        };
        let wish = mount.contains("mqueue").then(|| c"u:r:t:s0:c1,c2".to_owned());
        assert_eq!(root, wish, "{mount}");
        let without = plan_mount(&json).unwrap();
        assert!(
            !options_of(&without)
                .iter()
                .any(|option| option.starts_with("context"))
        );
    }
    let bind = r#"{"destination":"/m","type":"bind","source":"/s"}"#;
    assert!(matches!(
        plan_on(&selinux, bind).unwrap().source,
        MountSource::Bind { .. }
    ));
    let long = format!(
        r#"{{"destination":"/m","type":"overlay","options":["lowerdir={}"]}}"#,
        "l".repeat(300)
    );
    match plan_on(&selinux, &long).unwrap().source {
        MountSource::Classic { data, .. } => {
            assert!(data.to_str().unwrap().ends_with(r#",context="u:r:t:s0:c1,c2""#));
        }
        source => panic!("{source:?}"),
    }
}

#[test]
fn cgroup_options_never_reach_the_shared_superblock() {
    let long = "s".repeat(300);
    for (more, source) in [
        ("", "cgroup"),
        (r#","sync","tmpcopyup""#, "cgroup"),
        (r#","iversion""#, long.as_str()),
    ] {
        let json = format!(
            r#"{{"destination":"/c","type":"cgroup","source":"{source}","options":["ro","nosuid"{more}]}}"#
        );
        let mount = plan_mount(&json).unwrap();
        let MountSource::Cgroup(new) = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(new.options.len(), 1);
        assert_eq!(new.attributes, ATTR_RDONLY | ATTR_NOSUID);
    }
}

//! What the place of a mount, and later mounts, make of it.

use std::ffi::CStr;
use std::path::Path;

use super::*;

#[test]
fn what_is_written_to_becomes_read_only_late() {
    let plan = |target: &str, fstype: &str| MountPlan {
        index: 0,
        target: CString::new(target).unwrap(),
        links: Links::Follow,
        may_be_on_procfs: false,
        source: MountSource::New(NewFilesystem {
            fstype: CString::new(fstype).unwrap(),
            options: vec![(c"ro".to_owned(), None)],
            attributes: ATTR_RDONLY | ATTR_NOSUID,
            copy_up: false,
            mode_of_place: false,
            root_label: None,
            instead: None,
        }),
        attributes: Vec::new(),
        id_map: None,
        readonly_late: false,
        places_below: false,
    };
    for (target, fstype, later, is_late) in [
        ("dev", "tmpfs", vec![], true),
        ("a", "tmpfs", vec![plan("a/b", "tmpfs")], true),
        ("a", "tmpfs", vec![plan("ab", "tmpfs")], false),
        (
            "a",
            "tmpfs",
            vec![plan("a/b", "tmpfs"), plan("a", "tmpfs")],
            false,
        ),
        ("a", "ext4", vec![plan("a/b", "tmpfs")], false),
    ] {
        let mut mount = plan(target, fstype);
        mount.postpone_readonly(&later);
        assert_eq!(mount.readonly_late, is_late, "{target} {fstype} {later:?}");
        let MountSource::New(new) = &mount.source else {
            panic!()
        };
        assert_eq!(new.attributes == ATTR_NOSUID && new.options.is_empty(), is_late);
    }
}

#[test]
fn places_are_made_below_read_only_binds_if_nobody_else_sees_them() {
    let first = |namespaces: &str, mounts: &str| {
        let json = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"mounts":[{mounts}],"linux":{{"namespaces":[{namespaces}]}}}}"#
        );
        let config = spec::parse(json.into_bytes()).unwrap();
        let facts = HostFacts::of_root();
        let namespaces = NamespacesPlan::new(&config.spec).unwrap();
        let rootfs = RootfsPlan::new(&config.spec, &facts, &namespaces, CallerOptions::default()).unwrap();
        let context = MountContext {
            facts: &facts,
            namespaces: &namespaces,
            rootfs: &rootfs,
            label: None,
        };
        plan(&config.spec, context).unwrap().remove(0)
    };
    let is_readonly = |mount: &MountPlan| {
        let mut attributes = mount.attributes.iter();
        (
            attributes.any(|(attr, _)| attr.set & ATTR_RDONLY != 0),
            mount.places_below,
        )
    };
    let new = r#"{"type":"mount"}"#;
    let bind = r#"{"destination":"/v","source":"/v","options":["bind","ro","nosuid"]}"#;
    let recursive = r#"{"destination":"/v","source":"/v","options":["bind","rro"]}"#;
    let below = r#"{"destination":"/v/a","type":"tmpfs"}"#;
    let beside = r#"{"destination":"/va","type":"tmpfs"}"#;
    let again = r#"{"destination":"/v","options":["bind","remount","rw"]}"#;
    for (namespaces, mounts, wish) in [
        (new, format!("{bind},{below}"), (true, true)),
        (new, format!("{bind},{beside}"), (true, false)),
        (new, format!("{bind},{below},{again}"), (true, false)),
        (new, format!("{recursive},{below}"), (true, false)),
        (
            r#"{"type":"mount","path":"/m"}"#,
            format!("{bind},{below}"),
            (true, false),
        ),
        ("", format!("{bind},{below}"), (true, false)),
    ] {
        assert_eq!(
            is_readonly(&first(namespaces, &mounts)),
            wish,
            "{namespaces} {mounts}"
        );
    }
}

#[test]
fn what_is_mounted_on_proc_must_be_a_procfs() {
    assert!(plan_mount(r#"{"destination":"/proc","type":"tmpfs"}"#).is_err());
    let mount = plan_mount(r#"{"destination":"/a/../proc","type":"proc"}"#).unwrap();
    assert!(mount.links == Links::Refuse && mount.may_be_on_procfs);
    let mount = plan_mount(r#"{"destination":"/proc/uptime","source":"/u","options":["bind"]}"#).unwrap();
    assert!(mount.may_be_on_procfs);
}

#[test]
fn what_is_written_to_first_becomes_read_only_afterwards() {
    let long = "s".repeat(300);
    for (mount, label) in [
        (r#""type":"tmpfs","options":["ro","tmpcopyup"]"#.to_owned(), false),
        (r#""type":"mqueue","options":["ro"]"#.to_owned(), true),
        (
            format!(r#""type":"tmpfs","source":"{long}","options":["ro"]"#),
            false,
        ),
        (
            format!(r#""type":"sysfs","source":"{long}","options":["ro"]"#),
            false,
        ),
    ] {
        let facts = HostFacts {
            selinux: label,
            ..HostFacts::of_root()
        };
        let mount = plan_on(&facts, &format!(r#"{{"destination":"/t",{mount}}}"#)).unwrap();
        let is_writable = match &mount.source {
            MountSource::New(new) => new.attributes == 0,
            MountSource::Classic { flags, .. } => *flags == libc::MS_RELATIME,
            source => panic!("{source:?}"),
        };
        assert!(is_writable, "{mount:?}");
        assert_eq!(mount.attributes, [readonly()], "{mount:?}");
    }
}

#[test]
fn a_destination_may_name_the_rootfs_by_its_path_on_the_host() {
    let cases: [(&str, &str, &CStr); 8] = [
        ("/b/rootfs/data", "/b/rootfs", c"data"),
        ("/b//x/../rootfs/./data/", "/b/./rootfs/", c"data"),
        ("b/rootfs/data", "/b/rootfs", c"data"),
        ("/b/rootfs", "/b/rootfs", c""),
        ("/b/rootfs2/data", "/b/rootfs", c"b/rootfs2/data"),
        ("/b", "/b/rootfs", c"b"),
        ("/x/b/rootfs/data", "/b/rootfs", c"x/b/rootfs/data"),
        ("/data", "/", c"data"),
    ];
    for (destination, rootfs, target) in cases {
        let reality = target_of(Path::new(destination), Path::new(rootfs), 0).unwrap();
        assert_eq!(reality.as_c_str(), target, "{destination} in {rootfs}");
    }
}

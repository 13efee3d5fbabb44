//! How options reach the kernel.

use super::*;

#[test]
fn a_tmpfs_gets_its_data_by_fsconfig_and_its_attributes_by_fsmount() {
    let mount = plan_mount(
        r#"{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=65536k"]}"#,
    )
    .unwrap();
    assert_eq!(options_of(&mount), ["source=shm", "mode=1777", "size=65536k"]);
    let MountSource::New(new) = &mount.source else {
        unreachable!()
    };
    assert_eq!(new.attributes, ATTR_NOSUID | ATTR_NOEXEC | ATTR_NODEV);
    assert!(mount.attributes.is_empty());
    assert_eq!(mount.target.as_c_str(), c"dev/shm");
}

#[test]
fn several_options_in_one_string_are_the_file_system_s() {
    let mount = plan_mount(
        r#"{"destination":"/t","type":"tmpfs","options":["ro,nosuid,mode=711,sync","size=1m,bind,rshared"]}"#,
    )
    .unwrap();
    assert_eq!(
        options_of(&mount),
        ["source=tmpfs", "sync", "mode=711", "size=1m", "bind", "rshared"]
    );
    assert!(mount.attributes.is_empty());
    let label = r#"{"destination":"/t","type":"tmpfs","options":["context=\"a:s0:c1,c2\",size=1m"]}"#;
    assert_eq!(
        options_of(&plan_mount(label).unwrap()),
        ["source=tmpfs", "context=a:s0:c1,c2", "size=1m"]
    );
}

#[test]
fn the_access_time_follows_the_rules_of_mount_2() {
    for (options, wish) in [
        (r#""strictatime","noatime""#, ATTR_STRICTATIME),
        (r#""noatime","strictatime""#, ATTR_STRICTATIME),
        (r#""noatime","relatime""#, ATTR_NOATIME),
        (r#""noatime","atime""#, 0),
        (r#""strictatime","nostrictatime","noatime""#, ATTR_NOATIME),
        (
            r#""strictatime","nodiratime""#,
            ATTR_STRICTATIME | ATTR_NODIRATIME,
        ),
        (r#""norelatime""#, 0),
        (r#""nodiratime","diratime""#, 0),
    ] {
        let mount = plan_mount(&format!(
            r#"{{"destination":"/t","type":"tmpfs","options":[{options}]}}"#
        ))
        .unwrap();
        let MountSource::New(new) = &mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!(new.attributes, wish, "{options}");
    }
}

#[test]
fn flags_of_a_bind_mount_are_all_that_are_named() {
    const ALL: u64 = LOCKABLE | ATTR_NOSYMFOLLOW;
    const ATIME: u64 = ATTR_ATIME | ATTR_NODIRATIME;
    // What is set and cleared, and what is cleared where the kernel locks the flags of the source.
    for (options, set, clear, clear_locked) in [
        (r#""ro""#, ATTR_RDONLY, ALL & !ATTR_RDONLY, ATTR_NOSYMFOLLOW),
        (r#""rw""#, 0, ALL, ATTR_RDONLY | ATTR_NOSYMFOLLOW),
        (
            r#""nosuid","exec""#,
            ATTR_NOSUID,
            ALL & !ATTR_NOSUID,
            ATTR_NOEXEC | ATTR_NOSYMFOLLOW,
        ),
        (r#""nosymfollow""#, ATTR_NOSYMFOLLOW, LOCKABLE, 0),
        // No flag of a mount, and still one that mount(2) has.
        (r#""sync""#, 0, ALL, ATTR_NOSYMFOLLOW),
        // To take an access time away is to ask for none.
        (r#""atime","norelatime""#, 0, ALL, ATTR_NOSYMFOLLOW),
        (r#""relatime""#, 0, ALL | ATIME, ATTR_NOSYMFOLLOW | ATIME),
        (
            r#""noatime""#,
            ATTR_NOATIME,
            ALL | ATIME,
            ATTR_NOSYMFOLLOW | ATIME,
        ),
        (
            r#""nodiratime""#,
            ATTR_NODIRATIME,
            ALL | ATTR_ATIME,
            ATTR_NOSYMFOLLOW | ATTR_ATIME,
        ),
    ] {
        let json = format!(r#"{{"destination":"/v","source":"/v","options":["bind",{options}]}}"#);
        for (namespaces, wish) in [("", clear), (r#",{"type":"user"}"#, clear_locked)] {
            let mount = plan_all(&HostFacts::of_root(), namespaces, &json)
                .unwrap()
                .remove(0);
            let wish = MountAttr {
                set,
                clear: wish,
                ..MountAttr::default()
            };
            let found = mount.attributes.iter().find(|(attr, _)| attr.propagation == 0);
            let none = (MountAttr::default(), false);
            assert_eq!(found.unwrap_or(&none).0, wish, "{options} {namespaces}");
        }
    }
    for options in ["", r#","rslave","defaults","rro""#] {
        let json = format!(r#"{{"destination":"/v","source":"/v","options":["bind"{options}]}}"#);
        let mount = plan_mount(&json).unwrap();
        assert!(
            mount
                .attributes
                .iter()
                .all(|(attr, recursive)| *recursive || attr.clear == 0)
        );
    }
}

#[test]
fn a_later_option_wins() {
    let mount =
        plan_mount(r#"{"destination":"/t","type":"tmpfs","options":["ro","nosuid","rw","suid"]}"#).unwrap();
    let MountSource::New(new) = &mount.source else {
        unreachable!()
    };
    assert_eq!(new.attributes, 0);
    assert_eq!(options_of(&mount), ["source=tmpfs"]);
}

#[test]
fn a_bind_mount_is_cut_from_the_host_first_and_then_changed_as_asked() {
    let mount = plan_mount(
        r#"{"destination":"/v","type":"none","source":"v","options":["rbind","ro","noatime","rnodev","rshared"]}"#,
    )
    .unwrap();
    let MountSource::Bind { path, recursive, .. } = &mount.source else {
        panic!("{mount:?}")
    };
    assert_eq!((path.to_str().unwrap(), *recursive), ("/bundle/v", true));
    assert_eq!(
        mount.attributes,
        [
            (MountAttr::propagation(libc::MS_SLAVE), true),
            (
                MountAttr {
                    set: ATTR_RDONLY | ATTR_NOATIME,
                    clear: ATTR_NOSUID
                        | ATTR_NODEV
                        | ATTR_NOEXEC
                        | ATTR_NOSYMFOLLOW
                        | ATTR_ATIME
                        | ATTR_NODIRATIME,
                    ..MountAttr::default()
                },
                false
            ),
            (
                MountAttr {
                    set: ATTR_NODEV,
                    ..MountAttr::default()
                },
                true
            ),
            (MountAttr::propagation(libc::MS_SHARED), true),
        ]
    );
}

#[test]
fn recursive_access_time_options_clear_the_whole_field() {
    for (option, set) in [
        ("rnoatime", ATTR_NOATIME),
        ("rstrictatime", ATTR_STRICTATIME),
        ("rrelatime", 0),
        ("ratime", 0),
    ] {
        let mount = plan_mount(&format!(
            r#"{{"destination":"/v","source":"/v","options":["bind","{option}"]}}"#
        ))
        .unwrap();
        let expected = MountAttr {
            set,
            clear: ATTR_ATIME,
            ..MountAttr::default()
        };
        assert_eq!(mount.attributes.last(), Some(&(expected, true)), "{option}");
    }
}

#[test]
fn crun_s_options_for_links_say_what_a_link_at_either_end_is() {
    for (option, wanted, place) in [
        ("ro", SourceLink::Follow, Links::Follow),
        ("copy-symlink", SourceLink::Copy, Links::Follow),
        ("src-nofollow", SourceLink::Itself, Links::Follow),
        ("dest-nofollow", SourceLink::Follow, Links::KeepLast),
    ] {
        let mount = plan_mount(&format!(
            r#"{{"destination":"/v","source":"/v","options":["bind","{option}"]}}"#
        ))
        .unwrap();
        let MountSource::Bind { link, .. } = mount.source else {
            panic!("{mount:?}")
        };
        assert_eq!((link, mount.links), (wanted, place), "{option}");
    }
    let mount =
        plan_mount(r#"{"destination":"/proc","source":"/v","options":["bind","dest-nofollow"]}"#).unwrap();
    assert_eq!(mount.links, Links::Refuse);
}

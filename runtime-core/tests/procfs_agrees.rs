//! The readers of mountinfo and stat read what the crate procfs reads; and what it does not read.

use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use procfs::process::{MountInfo, MountInfos};
use procfs::{FromBufRead, FromRead};
use runtime_core::unstable::{Stat, mount_point, mount_table};

/// Every optional field there is, an empty source, escapes of all four kinds.
const MOUNTS: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
    32 31 0:29 / /sys/fs/cgroup/cpu ro shared:4 - cgroup cgroup rw,cpu\n\
    33 31 8:1 /a\\040b /mnt/my\\040own\\134tree\\011\\012 nodev,ro shared:5 master:1 propagate_from:2 - cgroup2  ro\n\
    34 31 8:1 / /mnt/040 rw unbindable - ext4 /dev/sda1 ro,errors=remount-ro\n";

/// procfs leaves the kernel's escapes as they are.
fn unescaped(mount: &MountInfo) -> Vec<u8> {
    let text = mount.mount_point.to_str().unwrap();
    let text = text
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n");
    text.replace("\\134", "\\").into_bytes()
}

fn mounts_agree(text: &[u8]) {
    let ours = mount_table(text).unwrap();
    let theirs = MountInfos::from_buf_read(BufReader::new(text)).unwrap().0;
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(i32::try_from(ours.id), Ok(theirs.mnt_id));
        assert_eq!(ours.place.as_os_str().as_bytes(), unescaped(theirs));
        assert_eq!(ours.source.0, theirs.majmin.as_bytes());
        assert_eq!(ours.source.1, theirs.root.as_bytes());
        assert_eq!(ours.is_readonly, theirs.mount_options.contains_key("ro"));
        let first = theirs_of_kind(&theirs.fs_type, text);
        let found = mount_point(text, theirs.fs_type.as_bytes()).unwrap();
        assert_eq!(found.as_os_str().as_bytes(), first);
    }
}

fn theirs_of_kind(kind: &str, text: &[u8]) -> Vec<u8> {
    let theirs = MountInfos::from_buf_read(BufReader::new(text)).unwrap().0;
    unescaped(theirs.iter().find(|mount| mount.fs_type == kind).unwrap())
}

fn stats_agree(text: &[u8]) {
    let ours = Stat::parse(text).unwrap();
    let theirs = procfs::process::Stat::from_read(text).unwrap();
    assert_eq!(char::from(ours.state), theirs.state);
    assert_eq!(ours.flags, theirs.flags);
    assert_eq!(ours.start_time, theirs.starttime);
}

#[test]
fn of_this_process() {
    let read = |name: &str| std::fs::read(Path::new("/proc/thread-self").join(name)).unwrap();
    mounts_agree(&read("mountinfo"));
    stats_agree(&read("stat"));
    stats_agree(&std::fs::read("/proc/1/stat").unwrap());
}

#[test]
fn of_lines_that_no_host_has_all() {
    mounts_agree(MOUNTS);
    for name in ["sh", "a) R (b", "((", ") Z 1 2", "\u{e9}", ""] {
        let rest = "S 1 42 42 0 -1 4194560 5 6 7 8 9 10 -11 12 20 0 1 0 98765 4096 18446744073709551615 \
                    18446744073709551615 1 2 3 4 5 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";
        stats_agree(format!("42 ({name}) {rest}").as_bytes());
    }
}

/// Why the product does not use it: one name that is no UTF-8, of whatever mount, and the whole table is an
/// error.
#[test]
fn of_names_that_are_no_text() {
    let text = [b"30 23 0:28 / /\xff rw - tmpfs tmpfs rw\n".as_slice(), MOUNTS].concat();
    assert_eq!(
        mount_table(&text).unwrap()[0].place.as_os_str().as_bytes(),
        b"/\xff"
    );
    assert!(mount_point(&text, b"cgroup2").is_some());
    assert!(MountInfos::from_buf_read(BufReader::new(&*text)).is_err());
}

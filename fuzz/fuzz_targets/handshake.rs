//! Any records, in any order, with any descriptor, in the place of the child: RUNTIME does each thing once at
//! most, takes nobody else for the child, hands on no listener that is none, and comes to an end.
#![no_main]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::hostile::{MOUNT_MAPS, follow};
use runtime_init::wire::Message;
use runtime_sys::fs;

/// What may be attached: nothing, a file, memory with a number in it, pidfds of others.
static ATTACHED: LazyLock<Vec<OwnedFd>> = LazyLock::new(|| {
    let memory = fs::memfd(c"word").expect("a memfd");
    rustix::io::pwrite(&memory, &1i32.to_ne_bytes(), 0).expect("room in it");
    let pidfd = |pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    let parent = rustix::process::getppid().unwrap_or(rustix::process::Pid::INIT);
    vec![
        File::open("/dev/null").expect("/dev/null").into(),
        memory,
        pidfd(rustix::process::getpid()).expect("a pidfd"),
        pidfd(parent).expect("a pidfd"),
    ]
});

// The first byte says whether a helper speaks. Then records of ten bytes: what is attached, how long it is,
// the record.
fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    // More would fill the socket, and nobody reads before all are there.
    let records: Vec<(&[u8], Option<BorrowedFd<'_>>)> = rest
        .chunks_exact(10)
        .take(64)
        .map(|chunk| {
            let attached = ATTACHED.get(usize::from(chunk[0]) % 8).map(AsFd::as_fd);
            let length = if chunk[1] < 240 {
                8
            } else {
                usize::from(chunk[1] % 9)
            };
            (&chunk[2..2 + length], attached)
        })
        .collect();
    let awaits_birth = first & 1 != 0;
    let outcome = follow(&records, awaits_birth).expect("the records are sent");
    for count in [outcome.maps, outcome.trees, outcome.net_devices, outcome.hooks] {
        assert!(count <= 1, "{outcome:?}");
    }
    assert!(outcome.mount_maps <= MOUNT_MAPS, "{outcome:?}");
    // Before the hooks, and each with a tree.
    let kinds: Vec<_> = records
        .iter()
        .map(|(bytes, fd)| (Message::decode(bytes), fd.is_some()))
        .collect();
    let trees = kinds
        .iter()
        .filter(|kind| **kind == (Some(Message::NeedMountMap), true))
        .count();
    assert!(outcome.mount_maps <= trees, "{outcome:?}");
    assert_eq!(outcome.listeners, 0, "none of what is attached is a listener");
    assert_eq!(outcome.pid, std::process::id() as i32, "nobody else is our child");
    // No helper can be ready, and none of the pidfds is a child's.
    assert!(!(awaits_birth && outcome.ready), "{outcome:?}");
    let is_ready =
        |(bytes, _): &(&[u8], Option<BorrowedFd<'_>>)| Message::decode(bytes) == Some(Message::Ready);
    assert!(!outcome.ready || records.iter().any(is_ready), "{outcome:?}");
});

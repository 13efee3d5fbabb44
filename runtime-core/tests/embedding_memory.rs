//! What of an embedding program's memory a container's process still has: nothing of its heap, its stacks,
//! its environment, its thread's name. Needs root.
#![allow(
    clippy::disallowed_methods,
    reason = "looks at what is there, does not act on it"
)]

#[path = "support/bundle.rs"]
mod bundle;

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::channel;
use std::thread;

use bundle::Bundle;
use runtime_core::{CgroupDriver, ContainerId, Runtime};

/// Made up, so that it does not stand in the program's constants.
fn marker() -> String {
    (0..24u8).map(|n| char::from(b'a' + (n * 7) % 26)).collect()
}

/// The mappings of a process in which the marker stands, and how many could be read.
fn mappings_with(pid: i32, marker: &[u8]) -> (Vec<String>, usize) {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut found, mut read) = (Vec::new(), 0);
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; (number(end) - number(start)) as usize];
        // Nobody can read the kernel's own.
        if !words[1].starts_with('r') || memory.read_exact_at(&mut bytes, number(start)).is_err() {
            continue;
        }
        read += 1;
        if bytes.windows(marker.len()).any(|window| window == marker) {
            found.push(line.to_owned());
        }
    }
    (found, read)
}

#[test]
fn the_container_has_nothing_of_the_programs_memory() {
    let marker = marker();
    // SAFETY: no other thread of this test reads or writes the environment now.
    unsafe { std::env::set_var("ONGGI_TEST_MARKER", &marker) };
    let bundle = Bundle::new();
    bundle.write();
    let runtime = Runtime::new(bundle.states(), CgroupDriver::Fs);
    let id = ContainerId::new(format!("embed-memory-{}", std::process::id())).unwrap();

    let (stop, stopped) = channel::<()>();
    let (ready, is_ready) = channel::<()>();
    let other = thread::Builder::new().name(marker[..15].to_owned());
    let on_its_stack = marker.clone();
    let other = other
        .spawn(move || {
            let mut buffer = [0u8; 64];
            buffer[..on_its_stack.len()].copy_from_slice(on_its_stack.as_bytes());
            black_box(&mut buffer);
            ready.send(()).unwrap();
            let _closed = stopped.recv();
            black_box(&buffer);
        })
        .unwrap();
    is_ready.recv().unwrap();
    let mut on_this_stack = [0u8; 64];
    on_this_stack[..marker.len()].copy_from_slice(marker.as_bytes());
    black_box(&mut on_this_stack);
    let small = marker.clone();
    let large = marker.repeat(100_000);
    let (ours, _) = mappings_with(std::process::id() as i32, marker.as_bytes());
    assert!(
        ours.len() >= 4,
        "the marker is in the heap and on the stacks: {ours:#?}"
    );

    let process = runtime.create(&id, bundle.options()).unwrap();
    let (found, read) = mappings_with(process.pid(), marker.as_bytes());
    let files = ["environ", "cmdline", "comm"].map(|file| {
        let bytes = std::fs::read(format!("/proc/{}/{file}", process.pid())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    black_box((&small, &large, &on_this_stack));
    drop(stop);
    other.join().unwrap();
    runtime.delete(&id, true).unwrap();
    process.wait().unwrap();
    assert_eq!(found, Vec::<String>::new());
    assert!(read > 3, "{read} mappings could be read");
    assert_eq!(files, ["", "", "onggi\n"]);
}

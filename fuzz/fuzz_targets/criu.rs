//! Any bytes as a message of criu: what is read is the same when it is written and read again. Any bytes as
//! /proc/PID/cgroup, from which criu is told where to put cgroups.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::{cgroup_roots, cgroup2_line, criu_response_survives};

fuzz_target!(|bytes: &[u8]| {
    assert!(criu_response_survives(bytes));
    let roots = cgroup_roots(bytes);
    let lines = || bytes.split(|byte| *byte == b'\n');
    for (controller, path) in &roots {
        assert!(!controller.contains(',') && !path.contains(&b'\n'));
        assert!(lines().any(|line| line.ends_with(path)));
    }
    if let Some(path) = cgroup2_line(bytes) {
        let path = path.as_os_str().as_encoded_bytes();
        assert!(
            roots
                .iter()
                .any(|(controller, root)| controller.is_empty() && root == path)
        );
    }
});

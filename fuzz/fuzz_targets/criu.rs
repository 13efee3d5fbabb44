//! Any bytes as a message of criu: what is read is the same when it is written and read again. Any bytes as /proc/PID/cgroup, from
//! which criu is told where to put cgroups.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use runtime_core::host::criu::Response;
use runtime_core::unstable::{cgroup_roots, cgroup2_line};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(response) = Response::decode(bytes) {
        let again = Response::decode(&*response.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&response));
        // Numbers that a newer criu has are no kinds of ours.
        let _kind = response.kind();
    }
    let roots = cgroup_roots(bytes);
    let lines = || bytes.split(|byte| *byte == b'\n');
    for root in &roots {
        assert!(!root.controller().contains(',') && !root.path.contains(&b'\n'));
        assert!(lines().any(|line| line.ends_with(&root.path)));
    }
    if let Some(path) = cgroup2_line(bytes) {
        let named =
            |root: &runtime_core::host::criu::CgroupRoot| root.path == path.as_os_str().as_encoded_bytes();
        assert!(
            roots
                .iter()
                .any(|root| root.controller().is_empty() && named(root))
        );
    }
});

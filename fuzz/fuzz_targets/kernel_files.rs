//! Any bytes as the small files of procfs and cgroupfs. A process chooses its name, which /proc/PID/stat has
//! in the middle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::Stat;
use runtime_core::unstable::{cgroup_stats, listed_processes, ranges, value_of};

fuzz_target!(|bytes: &[u8]| {
    stat(bytes);
    cgroup(bytes);
});

fn stat(name: &[u8]) {
    let _any = Stat::parse(name);
    // The kernel keeps 15 bytes of a name; longer ones do no harm.
    for (state, flags, start) in [
        (b'S', 0, 0),
        (b'Z', 0x0040_0044, u64::MAX),
        (b'R', u32::MAX, 1 << 40),
    ] {
        let mut text = b"42 (".to_vec();
        text.extend(name);
        text.extend([b')', b' ', state]);
        text.extend(
            format!(" 1 2 3 0 -1 {flags} 5 6 7 8 9 10 11 12 20 0 1 0 {start} 99 18446744073709551615\n")
                .bytes(),
        );
        let stat = Stat::parse(&text).expect("what the kernel writes");
        assert_eq!((stat.state, stat.flags, stat.start_time), (state, flags, start));
        assert_eq!(stat.has_ended(), state == b'Z');
    }
}

fn cgroup(bytes: &[u8]) {
    assert!(listed_processes(bytes).iter().all(|pid| *pid > 0));
    for key in ["populated", "frozen", "oom_kill"] {
        let lines = bytes.split(|byte| *byte == b'\n');
        let by_hand = lines.map(|line| line.splitn(2, |byte| *byte == b' ').collect::<Vec<_>>());
        let expected = by_hand
            .filter(|words| words.len() == 2 && words[0] == key.as_bytes())
            .map(|words| words[1])
            .next();
        assert_eq!(value_of(bytes, key), expected);
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(ranges(&text).iter().all(|number| *number < 1 << 16));
    let stats = cgroup_stats(&text);
    assert!(
        serde_json::to_vec(&stats).is_ok(),
        "every statistic can be printed"
    );
    assert!(stats.memory.raw.len() <= text.lines().count());
}

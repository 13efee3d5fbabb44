//! Any bytes as a datagram that a container sends to NOTIFY_SOCKET; as criu's log, with names that the
//! container chose; and as what stands on a command line: sizes, durations, lists of processors, ids.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::ContainerId;
use runtime_core::unstable::spec::parse_ranges;
use runtime_core::unstable::{criu_reason, says_ready};

fuzz_target!(|bytes: &[u8]| {
    let padded = [b"\n", bytes, b"\n"].concat();
    let ready = padded.windows(9).any(|part| part == b"\nREADY=1\n");
    assert_eq!(says_ready(bytes), ready);

    let text = String::from_utf8_lossy(bytes);
    match criu_reason(&text) {
        Some(reason) => {
            assert!(reason.starts_with("Error ("));
            assert!(!reason.contains(char::is_control), "{reason:?}");
        }
        None => assert!(!text.contains("Error (")),
    }

    if let Some(ranges) = parse_ranges(&text) {
        assert!(ranges.iter().all(|range| range.start() <= range.end()));
        let written: Vec<String> = ranges
            .iter()
            .map(|range| format!("{}-{}", range.start(), range.end()))
            .collect();
        assert_eq!(parse_ranges(&written.join(",")), Some(ranges));
    }
    if let Ok(id) = ContainerId::new(&*text) {
        assert!(id.as_str() == text && !matches!(id.as_str(), "." | ".."));
        assert!(id.as_str().len() <= 255 && !id.as_str().contains(['/', '\0', '@']));
    }
});

//! Any bytes as state.json: about this container and in the known version, or refused; and what is read
//! survives being written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::ContainerId;
use runtime_core::unstable::{decode_record, encode_record};
use serde_json::Value;

fuzz_target!(|json: &[u8]| {
    let id = ContainerId::new("c1").expect("a legal id");
    let record = match decode_record(&id, json) {
        Ok(record) => record,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    // Fields that nobody knows are passed over without a look at their text; as a document it need not be
    // legal then.
    if let Ok(value) = serde_json::from_slice::<Value>(json) {
        assert_eq!(
            (value["id"].as_str(), value["version"].as_u64()),
            (Some("c1"), Some(1))
        );
        assert_eq!(value["pid"].as_i64().unwrap_or(0), i64::from(record.pid));
        assert_eq!(value["startTime"].as_u64().unwrap_or(0), record.start_time);
    }
    let written = encode_record(&record).expect("it can be written");
    assert_eq!(decode_record(&id, &written).expect("and read again"), record);
    assert!(record.mark().starts_with("c1, created "));
});

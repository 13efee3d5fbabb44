//! Any bytes as a record of the child: decoded without a panic, and what is decoded survives being encoded
//! again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_init::wire::{Message, RECORD};

fuzz_target!(|bytes: &[u8]| {
    let Some(message) = Message::decode(bytes) else {
        return;
    };
    assert_eq!(bytes.len(), RECORD, "only whole records are read");
    assert_eq!(Message::decode(&message.encode()), Some(message));
});

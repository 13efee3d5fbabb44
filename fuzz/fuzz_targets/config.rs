//! Any bytes as config.json: read, validated and planned without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    onggi_fuzz::plan_of(bytes.to_vec());
});

//! Any text as the value of an annotation `org.systemd.property.NAME`: what is read is read again, the same,
//! from the text that zbus writes for it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::gvariant;

fuzz_target!(|text: &str| {
    match gvariant(text) {
        // zbus writes some characters, and doubles that are no numbers, as Rust does and not as GVariant.
        Ok((_, shown)) if shown.contains('\\') || shown.contains("NaN") || shown.contains("inf") => {}
        Ok((signature, shown)) => assert_eq!(gvariant(&shown), Ok((signature, shown)), "of {text:?}"),
        Err(reason) => assert!(!reason.is_empty()),
    }
});

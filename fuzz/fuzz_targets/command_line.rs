//! Any words, with a null byte after each, as the command line: each word is where Go's flag package would
//! have it.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use runtime_cli::unstable::{Scanned, bytes_of, duration_of, parse, scan, signal_of};

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<OsString> = bytes
        .split(|byte| *byte == 0)
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect();
    if let Err(message) = parse(&words) {
        assert!(!message.is_empty());
    }
    if let Some((command, arguments)) = words.split_first()
        && let Some(scanned) = scan(command, arguments)
    {
        check(arguments, &scanned);
    }
    for word in &words {
        let text = word.to_string_lossy();
        assert!(bytes_of(&text).is_none_or(|size| size >= 0));
        let _any = duration_of(&text);
        assert!(signal_of(word).is_none_or(|signal| (0..=64).contains(&signal)));
    }
});

/// Every argument is a flag, the value of one, a positional, or the `--`; in order, and none is made up.
fn check(arguments: &[OsString], scanned: &Scanned) {
    let Ok((flags, positionals)) = scanned else { return };
    let mut given = arguments.iter();
    for positional in positionals {
        assert!(
            given.any(|argument| argument == positional),
            "{positional:?} of {arguments:?}"
        );
    }
    let mut given = arguments.iter();
    for flag in flags {
        let flag = flag.as_bytes();
        let name_end = flag.iter().position(|byte| *byte == b'=').unwrap_or(flag.len());
        assert!(flag.starts_with(b"--") && name_end > 2, "{flag:?}");
        let value = flag.get(name_end + 1..);
        let holds = |argument: &OsString| {
            let argument = argument.as_bytes();
            argument.starts_with(b"-")
                && value.is_none_or(|value| argument.ends_with(value) || !argument.contains(&b'='))
        };
        assert!(given.any(holds), "{flag:?} of {arguments:?}");
    }
    assert!(flags.len() + positionals.len() <= arguments.len());
}

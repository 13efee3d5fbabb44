//! Any bytes as what a service manager or a broker says over D-Bus; and messages put together from the bytes,
//! in either order of bytes, which must be read as they were meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::{DbusMessage, dbus_length, dbus_read};

/// Longest message that is read.
const LONGEST: usize = 16 + 2 * (4 << 20) + 8;

fuzz_target!(|bytes: &[u8]| {
    any_bytes(bytes);
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split('\0').collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    for is_little in [true, false] {
        meant(is_little, [word(0), word(1), word(2), word(3)]);
    }
});

fn any_bytes(bytes: &[u8]) {
    let read = dbus_read(bytes);
    let Some(start) = bytes.first_chunk() else {
        assert!(read.is_err(), "less than a header is no message");
        return;
    };
    let Ok(length) = dbus_length(start) else { return };
    assert!((16..=LONGEST).contains(&length));
    let whole = bytes.get(..length);
    assert!(whole.is_some() || read.is_err(), "half a message is none");
    if let Some(whole) = whole {
        // What follows is the next message.
        assert_eq!(dbus_read(whole).ok(), read.ok());
    }
}

fn meant(is_little: bool, [one, two, three, four]: [&str; 4]) {
    let job = "org.freedesktop.systemd1.Manager";
    let mut body = Writer::new(is_little);
    body.number(7);
    [one, two, three].iter().for_each(|word| body.string(word));
    let signal = message(
        is_little,
        4,
        &[
            (2, 's', job),
            (3, 's', "JobRemoved"),
            (7, 's', four),
            (8, 'g', "uoss"),
        ],
        &body.bytes,
    );
    let removed = DbusMessage::JobRemoved {
        job: one.into(),
        result: three.into(),
    };
    assert_eq!(dbus_read(&signal), Ok(removed));

    let mut body = Writer::new(is_little);
    body.string(one);
    let error = message(
        is_little,
        3,
        &[(4, 's', two), (5, 'u', "9"), (8, 'g', "s")],
        &body.bytes,
    );
    let refused = DbusMessage::Error {
        serial: 9,
        name: two.into(),
        text: one.into(),
    };
    assert_eq!(dbus_read(&error), Ok(refused));
    let silent = message(is_little, 3, &[(5, 'u', "9"), (4, 's', two)], &[]);
    let refused = DbusMessage::Error {
        serial: 9,
        name: two.into(),
        text: String::new(),
    };
    assert_eq!(dbus_read(&silent), Ok(refused));

    let answer = message(is_little, 2, &[(5, 'u', "3"), (8, 'g', "o")], &body.bytes);
    match dbus_read(&answer) {
        Ok(DbusMessage::Return { serial: 3, path, .. }) => assert_eq!(path.as_deref(), Ok(one)),
        other => panic!("{other:?}"),
    }
    let mut variant = Writer::new(is_little);
    variant.bytes.extend(b"\x01s\0");
    variant.string(one);
    let answer = message(is_little, 2, &[(8, 'g', "v"), (5, 'u', "4")], &variant.bytes);
    match dbus_read(&answer) {
        Ok(DbusMessage::Return {
            serial: 4, variant, ..
        }) => assert_eq!(variant.as_deref(), Ok(one)),
        other => panic!("{other:?}"),
    }
    let some = answer.len().div_ceil(16);
    assert!(
        (0..answer.len())
            .step_by(some)
            .all(|end| dbus_read(&answer[..end]).is_err())
    );
}

/// A message as the D-Bus specification has it: header fields are a code, a type, and a value.
fn message(is_little: bool, kind: u8, fields: &[(u8, char, &str)], body: &[u8]) -> Vec<u8> {
    let mut header = Writer::new(is_little);
    header
        .bytes
        .extend([if is_little { b'l' } else { b'B' }, kind, 0, 1]);
    header.number(body.len() as u32);
    header.number(1);
    header.number(0);
    for (code, kind, value) in fields {
        header.align(8);
        header.bytes.extend([*code, 1, *kind as u8, 0]);
        match kind {
            'u' => header.number(value.parse().expect("a number of ours")),
            'g' => {
                header.bytes.push(value.len() as u8);
                header.bytes.extend(value.bytes().chain([0]));
            }
            _ => header.string(value),
        }
    }
    let length = header.bytes.len() as u32 - 16;
    header.bytes[12..16].copy_from_slice(&match is_little {
        true => length.to_le_bytes(),
        false => length.to_be_bytes(),
    });
    header.align(8);
    header.bytes.extend(body);
    assert_eq!(
        header.bytes.first_chunk().map(dbus_length),
        Some(Ok(header.bytes.len()))
    );
    header.bytes
}

struct Writer {
    bytes: Vec<u8>,
    is_little: bool,
}

impl Writer {
    fn new(is_little: bool) -> Self {
        Self {
            bytes: Vec::new(),
            is_little,
        }
    }

    fn align(&mut self, boundary: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(boundary), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(match self.is_little {
            true => number.to_le_bytes(),
            false => number.to_be_bytes(),
        });
    }

    fn string(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.bytes.extend(text.bytes().chain([0]));
    }
}

//! Any bytes as /proc/PID/mountinfo, of which a container chooses the paths: both readers agree with a third,
//! and a path survives the kernel's way to write it.
#![no_main]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::{mount_point, mount_table};

fuzz_target!(|bytes: &[u8]| {
    any_text(bytes);
    written_by_the_kernel(bytes);
});

fn any_text(text: &[u8]) {
    let lines: Vec<Vec<&[u8]>> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| line.split(|byte| *byte == b' ').collect())
        .collect();
    let table = mount_table(text);
    if let Some(table) = &table {
        assert_eq!(table.len(), lines.len());
        for (entry, fields) in table.iter().zip(&lines) {
            assert_eq!(entry.place.as_os_str().as_bytes(), unescaped(fields[4]));
        }
    }
    let by_type = lines.iter().find(|fields| {
        let dash = fields.iter().position(|field| *field == b"-");
        dash.is_some_and(|dash| fields.get(dash + 1) == Some(&&b"cgroup2"[..]))
    });
    let expected = by_type.map(|fields| unescaped(fields.get(4).copied().unwrap_or_default()));
    let found = mount_point(text, b"cgroup2");
    assert_eq!(found.map(|path| path.as_os_str().as_bytes().to_vec()), expected);
}

fn written_by_the_kernel(paths: &[u8]) {
    let paths: Vec<Vec<u8>> = paths
        .split(|byte| *byte == 0)
        .map(|path| [b"/", path].concat())
        .collect();
    let mut text = Vec::new();
    for (id, path) in paths.iter().enumerate() {
        text.extend(format!("{id} 1 0:5 / ").bytes());
        text.extend(escaped(path));
        text.extend(b" rw shared:1 - cgroup2 none rw\n");
    }
    let table = mount_table(&text).expect("what the kernel writes");
    assert!(
        table
            .iter()
            .map(|entry| entry.place.as_os_str().as_bytes())
            .eq(&paths)
    );
    assert!((0..).zip(&table).all(|(id, entry)| entry.id == id));
    assert_eq!(
        mount_point(&text, b"cgroup2").as_deref(),
        Some(Path::new(table[0].place.as_os_str()))
    );
}

/// `mangle` of the kernel (fs/proc_namespace.c).
fn escaped(path: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    path.iter().flat_map(escape).collect()
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < field.len() {
        match field[at..] {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                at += 4;
            }
            _ => {
                out.push(field[at]);
                at += 1;
            }
        }
    }
    out
}

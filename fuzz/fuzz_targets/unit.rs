//! Any text as `linux.cgroupsPath` (the first line) and annotations (`NAME value`, a line each) of a
//! container that systemd makes the cgroup for: a unit of a legal name at a place of its own, and properties
//! that have a form on the wire.
#![no_main]

use std::collections::HashMap;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::plan::{ResourcePlan, UnitPlan};
use runtime_core::unstable::{DbusMessage, dbus_length, dbus_read, unit_name, unit_properties};

/// What the runtime decides alone.
const OURS: [&str; 5] = ["PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup"];

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    let annotations: HashMap<String, String> = lines.filter_map(annotation).collect();
    name(path);
    properties(&annotations);
    // Only that it neither panics nor hangs: what it refuses is judged above.
    let path = Some(Path::new(path));
    let _refused = UnitPlan::new(path, "c1", Some(&annotations), &ResourcePlan::default());
});

fn annotation(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(' ')?;
    let key = match name.contains('.') {
        true => name.to_owned(),
        false => format!("org.systemd.property.{name}"),
    };
    Some((key, value.to_owned()))
}

fn name(path: &str) {
    let Ok((unit, place)) = unit_name(Some(Path::new(path)), "c1") else {
        return;
    };
    assert!(
        unit.len() <= 255 && (unit.ends_with(".scope") || unit.ends_with(".slice")),
        "{unit:?}"
    );
    assert!(
        unit.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)),
        "{unit:?}"
    );
    // "-.slice" is the root. systemd puts a `_` in front of what could be taken for a file of the kernel's.
    let directory = place.file_name().and_then(|name| name.to_str()).unwrap_or("");
    assert!(
        directory.strip_prefix('_') == Some(&unit) || directory == unit || unit == "-.slice",
        "{unit:?} {place:?}"
    );
    assert!(
        place
            .components()
            .all(|part| matches!(part, Component::Normal(_))),
        "{place:?}"
    );
    let above = place.parent().into_iter().flat_map(Path::components);
    assert!(
        above
            .map(Component::as_os_str)
            .all(|slice| slice.to_string_lossy().ends_with(".slice")),
        "{place:?}"
    );
}

fn properties(annotations: &HashMap<String, String>) {
    let Ok((names, call)) = unit_properties(annotations) else {
        return;
    };
    for name in &names {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphabetic()), "{name:?}");
        assert!(!OURS.contains(&name.as_str()), "{name:?}");
    }
    let call = call.expect("what was read can be sent");
    assert_eq!(call.first_chunk().map(dbus_length), Some(Ok(call.len())));
    assert_eq!(dbus_read(&call), Ok(DbusMessage::Other));
    let is_named = |name: &String| call.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(names.iter().all(is_named));
}

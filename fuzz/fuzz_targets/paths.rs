//! Any text as paths in the container: whatever is accepted is clean, so that no component climbs or is
//! empty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let paths: Vec<&str> = text.lines().collect();
    let mounts: Vec<_> = paths
        .iter()
        .map(|path| json!({"destination": path, "type": "tmpfs"}))
        .collect();
    let devices: Vec<_> = paths
        .iter()
        .map(|path| json!({"path": path, "type": "c", "major": 1, "minor": 3}))
        .collect();
    let mut document = onggi_fuzz::document();
    // One field a document: an error in one of them must not hide the others.
    for (pointer, value) in [
        ("mounts", json!(mounts)),
        ("devices", json!(devices)),
        ("maskedPaths", json!(paths)),
        ("readonlyPaths", json!(paths)),
        ("cwd", json!(paths.first().unwrap_or(&"/"))),
    ] {
        let mut document = document.clone();
        match pointer {
            "mounts" => document["mounts"] = value,
            "cwd" => document["process"]["cwd"] = value,
            other => document["linux"][other] = value,
        }
        plan(&document);
    }
    document["root"]["path"] = json!(text);
    plan(&document);
});

fn plan(document: &serde_json::Value) {
    if let Ok(json) = serde_json::to_vec(document) {
        onggi_fuzz::plan_of(json);
    }
}

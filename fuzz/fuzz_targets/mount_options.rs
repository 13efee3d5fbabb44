//! Any text as the options of mounts, one mount a line, one option a comma; the first word of a line is its
//! type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let mounts: Vec<Value> = text.lines().map(mount).collect();
    let mut document = onggi_fuzz::document();
    document["mounts"] = Value::Array(mounts);
    let Ok(json) = serde_json::to_vec(&document) else {
        return;
    };
    onggi_fuzz::plan_of(json);
});

fn mount(line: &str) -> Value {
    let (fstype, options) = line.split_once(' ').unwrap_or(("tmpfs", line));
    let options: Vec<&str> = options.split(',').collect();
    json!({"destination": "/mnt", "source": "/source", "type": fstype, "options": options})
}

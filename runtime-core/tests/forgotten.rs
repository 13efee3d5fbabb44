//! What a `create` that was killed has left is found by `delete`, also where there is no cgroup to find it
//! by. Needs root.
#![allow(
    clippy::disallowed_methods,
    reason = "looks at what is there, does not act on it"
)]

#[path = "support/bundle.rs"]
mod bundle;

use std::fs;
use std::path::Path;

use bundle::Bundle;
use runtime_core::{CgroupDriver, ContainerId, ErrorKind, Runtime};
use serde_json::{Value, json};

/// A container that waits for `start` in no cgroup of its own, and what the test does to its record.
fn created(change: impl FnOnce(&Path)) -> (Bundle, Runtime, ContainerId, runtime_core::Process) {
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    bundle.write();
    let runtime = Runtime::new(bundle.states(), CgroupDriver::Disabled);
    let id = ContainerId::new("c1").unwrap();
    let init = runtime.create(&id, bundle.options()).unwrap();
    change(&bundle.states().join("c1/state.json"));
    (bundle, runtime, id, init)
}

/// As it is between init's last step and the second record.
fn forget_init(record: &Path) {
    let mut state: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    state["phase"] = "creating".into();
    state["pid"] = 0.into();
    state["startTime"] = 0.into();
    fs::write(record, state.to_string()).unwrap();
}

#[test]
fn init_that_no_record_names_is_turned_away_from_the_gate() {
    let (bundle, runtime, id, init) = created(forget_init);
    runtime.delete(&id, true).unwrap();
    // Nothing else would end it.
    assert!(!init.wait().unwrap().success());
    assert_eq!(fs::read_dir(bundle.states()).unwrap().count(), 0);
}

#[test]
fn init_of_a_damaged_record_is_turned_away_from_the_gate() {
    let (bundle, runtime, id, init) = created(|record| fs::write(record, "{").unwrap());
    let error = runtime.delete(&id, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    runtime.delete(&id, true).unwrap();
    assert!(!init.wait().unwrap().success());
    assert_eq!(fs::read_dir(bundle.states()).unwrap().count(), 0);
}

#[test]
fn what_nothing_leads_to_is_told() {
    let (bundle, runtime, id, init) = created(|_| ());
    runtime.start(&id).unwrap();
    let record = bundle.states().join("c1/state.json");
    fs::write(&record, "").unwrap();
    let error = runtime.delete(&id, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the record is removed, but it was damaged, and this may be left of the container: processes: no cgroup is marked \
             as its own, and nothing waits for start (read the container's state: {}: damaged: EOF while parsing a value at \
             line 1 column 0)",
            record.display()
        )
    );
    runtime.delete(&id, true).unwrap();
    init.kill(9).unwrap();
    init.wait().unwrap();
}

//! Any JSON, a list of two, as the limits that a container has and those that `update` asks for: what comes
//! out is legal, is the same when it is asked for again, and names files of the cgroup only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::limit_properties;
use runtime_core::unstable::plan::ResourcePlan;
use runtime_core::unstable::spec::{parse_resources, update_resources, validate_resources};
use serde_json::Value;

fuzz_target!(|json: &[u8]| {
    let Ok((current, given)) = serde_json::from_slice::<(Value, Value)>(json) else {
        return;
    };
    // No field of the specification is a fraction, and serde_json may round the last digit of one each time
    // that it reads it.
    if !is_whole(&current) || !is_whole(&given) {
        return;
    }
    let (Ok(current), Ok(given)) = (serde_json::to_vec(&current), serde_json::to_vec(&given)) else {
        return;
    };
    let Ok(update) = update_resources(&current, &given) else {
        return;
    };
    let merged: Value = serde_json::from_slice(&update.merged).expect("JSON");
    assert!(merged.is_object() && merged.get("devices").is_none());
    let (limits, pids_limit) = parse_resources(&update.merged).expect("what was merged is read again");
    validate_resources(&limits).expect("and legal");
    let again = update_resources(&update.merged, &given).expect("the same once more");
    assert_eq!(
        serde_json::from_slice::<Value>(&again.merged).expect("JSON"),
        merged,
        "asked for twice, it comes to the same"
    );
    let nothing = update_resources(&update.merged, b"{}").expect("nothing is asked for");
    assert_eq!(
        serde_json::from_slice::<Value>(&nothing.merged).expect("JSON"),
        merged
    );
    for (limits, pids_limit) in [(&limits, pids_limit), (&update.changes, update.pids_limit)] {
        if let Ok(plan) = ResourcePlan::new(limits, pids_limit) {
            check(&plan);
        }
    }
});

fn is_whole(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(list) => list.iter().all(is_whole),
        Value::Object(members) => members.values().all(is_whole),
        _ => true,
    }
}

fn check(plan: &ResourcePlan) {
    for write in &plan.writes {
        let name = &*write.file;
        assert!(name.contains('.') && !name.contains(['/', '\0']), "{name:?}");
        assert!(!name.starts_with('.'), "{name:?}");
        assert!(
            !write.value.is_empty() || write.field.contains("unified"),
            "{write:?}"
        );
    }
    limit_properties(&plan.writes).expect("properties have a form on the wire");
}

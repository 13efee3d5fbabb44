//! Runs in: RUNTIME. `update`: the limits that are asked for now, on top of those that a container has. Pure.

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use super::{OtherSpelling, RESOURCES, document, parse_resources, schema, validate_resources};
use crate::{Error, ErrorKind, Result};

/// What an `update` comes to.
#[derive(Debug, Clone)]
pub struct ResourceUpdate {
    /// The limits to set: those asked for, and those that must be set with them because the kernel has one
    /// file for both, or one is counted from the other.
    pub changes: LinuxResources,
    /// `pids.limit` of the changes, as in [`super::Extra::pids_limit`].
    pub pids_limit: Option<i64>,
    /// All limits that the container has afterwards: a JSON object as at `linux.resources`, without devices.
    pub merged: Vec<u8>,
    /// Keys of what is asked for, as in [`super::Extra::spellings`].
    pub spellings: Vec<OtherSpelling>,
}

/// Lays `given` over `current`, both JSON objects as at `linux.resources`.
///
/// As with runc, a 0 leaves a limit as it is where version 1 had no limit of 0; limits of a device, page size
/// or file of `unified` stay unless the same one is given; a memory limit of -1 takes the swap limit away,
/// too; device rules are not touched. Other than with runc, what is not given is remembered, so that a later
/// update can count from it.
///
/// # Errors
/// As [`parse_resources`] and [`validate_resources`], for the given limits and for what they make together
/// with the others.
pub fn update_resources(current: &[u8], given: &[u8]) -> Result<ResourceUpdate> {
    parse_resources(given)?;
    let (mut given, spellings) = object(given)?;
    leave_what_is_zero(&mut given);
    let (mut merged, _) = object(current)?;
    if number(&given, "memory", "limit") == Some(-1) && number(&given, "memory", "swap").is_none() {
        member(&mut given, "memory").insert("swap".into(), (-1).into());
    }
    merge(&mut merged, &given);
    let mut changes = given;
    for (section, inseparable) in INSEPARABLE {
        take_along(&mut changes, &merged, section, inseparable);
    }
    if changes.get("memory").is_some() {
        take(&mut changes, &merged, "memory", "checkBeforeUpdate");
    }
    let encode = |value: Map<String, Value>| {
        serde_json::to_vec(&value).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
    };
    let merged = encode(merged)?;
    validate_resources(&parse_resources(&merged)?.0)?;
    let (changes, pids_limit) = parse_resources(&encode(changes)?)?;
    Ok(ResourceUpdate {
        changes,
        pids_limit,
        merged,
        spellings,
    })
}

/// The swap limit of config.json counts memory as well; quota and period are one file.
const INSEPARABLE: [(&str, [&str; 2]); 2] = [("memory", ["limit", "swap"]), ("cpu", ["quota", "period"])];

/// Where a 0 means "as it is": what Go programs write for numbers that they have not been given.
const ZERO_IS_NOTHING: [(&str, &[&str]); 3] = [
    ("memory", &["limit", "swap", "reservation", "kernel", "kernelTCP"]),
    (
        "cpu",
        &["shares", "quota", "period", "realtimeRuntime", "realtimePeriod"],
    ),
    ("blockIO", &["weight", "leafWeight"]),
];

/// Lists whose entries replace each other by these keys.
const KEYED_LISTS: [(&str, &[&str]); 6] = [
    ("weightDevice", &["major", "minor"]),
    ("throttleReadBpsDevice", &["major", "minor"]),
    ("throttleWriteBpsDevice", &["major", "minor"]),
    ("throttleReadIOPSDevice", &["major", "minor"]),
    ("throttleWriteIOPSDevice", &["major", "minor"]),
    ("hugepageLimits", &["pageSize"]),
];

fn object(json: &[u8]) -> Result<(Map<String, Value>, Vec<OtherSpelling>)> {
    let document = document(json, &schema::RESOURCES, RESOURCES)?;
    let map = match document.value {
        Value::Object(mut map) => {
            map.remove("devices");
            drop_nulls(&mut map);
            map
        }
        Value::Null => Map::new(),
        _ => return Err(Error::invalid(RESOURCES, "must be an object")),
    };
    Ok((map, document.spellings))
}

/// For Go a null is an absent field.
fn drop_nulls(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null());
    for value in map.values_mut() {
        if let Value::Object(inner) = value {
            drop_nulls(inner);
        }
    }
}

fn leave_what_is_zero(given: &mut Map<String, Value>) {
    for (section, names) in ZERO_IS_NOTHING {
        if let Some(Value::Object(map)) = given.get_mut(section) {
            map.retain(|name, value| !(names.contains(&name.as_str()) && value.as_i64() == Some(0)));
        }
    }
    // An empty list of processors is "not given" in Go as well.
    if let Some(Value::Object(cpu)) = given.get_mut("cpu") {
        cpu.retain(|_, value| value.as_str() != Some(""));
    }
}

fn merge(current: &mut Map<String, Value>, given: &Map<String, Value>) {
    for (name, value) in given {
        let keys = KEYED_LISTS
            .iter()
            .find(|(list, _)| list == name)
            .map(|(_, keys)| *keys);
        match (current.get_mut(name), value, keys) {
            (Some(Value::Object(current)), Value::Object(given), _) => merge(current, given),
            (Some(Value::Array(current)), Value::Array(given), Some(keys)) => {
                merge_list(current, given, keys)
            }
            _ => drop(current.insert(name.clone(), value.clone())),
        }
    }
}

fn merge_list(current: &mut Vec<Value>, given: &[Value], keys: &[&str]) {
    for entry in given {
        current.retain(|old| keys.iter().any(|key| old[key] != entry[key]));
        current.push(entry.clone());
    }
}

/// If one of two that belong together is given, the other is, too.
fn take_along(
    changes: &mut Map<String, Value>,
    merged: &Map<String, Value>,
    section: &str,
    names: [&str; 2],
) {
    let is_given = |name: &&str| {
        changes
            .get(section)
            .is_some_and(|section| section.get(name).is_some())
    };
    if names.iter().any(is_given) {
        for name in names {
            take(changes, merged, section, name);
        }
    }
}

fn take(changes: &mut Map<String, Value>, merged: &Map<String, Value>, section: &str, name: &str) {
    if let Some(value) = merged.get(section).and_then(|section| section.get(name)) {
        member(changes, section).insert(name.to_owned(), value.clone());
    }
}

fn member<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just before"),
    }
}

fn number(map: &Map<String, Value>, section: &str, name: &str) -> Option<i64> {
    map.get(section)?.get(name)?.as_i64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The changes and the whole, as JSON.
    fn update(current: Value, given: Value) -> (Value, Value) {
        let update = update_resources(current.to_string().as_bytes(), given.to_string().as_bytes()).unwrap();
        let mut changes = serde_json::to_value(&update.changes).unwrap();
        if let Some(limit) = update.pids_limit {
            changes["pids"]["limit"] = limit.into();
        }
        (changes, serde_json::from_slice(&update.merged).unwrap())
    }

    fn refusal(current: Value, given: Value) -> String {
        let error =
            update_resources(current.to_string().as_bytes(), given.to_string().as_bytes()).unwrap_err();
        error.to_string()
    }

    #[test]
    fn quota_and_period_go_together() {
        let current = json!({"cpu": {"quota": 5000, "period": 10000, "shares": 512}});
        let (changes, merged) = update(current.clone(), json!({"cpu": {"quota": 7000}}));
        assert_eq!(changes, json!({"cpu": {"quota": 7000, "period": 10000}}));
        assert_eq!(
            merged,
            json!({"cpu": {"quota": 7000, "period": 10000, "shares": 512}})
        );
        let (changes, _) = update(current, json!({"cpu": {"quota": 0, "period": 20000}}));
        assert_eq!(changes, json!({"cpu": {"quota": 5000, "period": 20000}}));
    }

    #[test]
    fn swap_is_counted_from_the_limit_that_is_there() {
        let current = json!({"memory": {"limit": 100, "swap": 150}});
        let (changes, _) = update(current.clone(), json!({"memory": {"limit": 120}}));
        assert_eq!(changes, json!({"memory": {"limit": 120, "swap": 150}}));
        let (changes, _) = update(current.clone(), json!({"memory": {"swap": 300}}));
        assert_eq!(changes, json!({"memory": {"limit": 100, "swap": 300}}));
        let (changes, merged) = update(current.clone(), json!({"memory": {"limit": -1}}));
        assert_eq!(changes, json!({"memory": {"limit": -1, "swap": -1}}));
        assert_eq!(merged, changes);
        let text = refusal(current, json!({"memory": {"limit": 200}}));
        assert!(
            text.contains("memory+swap limit should be >= memory limit"),
            "{text}"
        );
        let text = refusal(json!({}), json!({"memory": {"swap": 200}}));
        assert!(
            text.contains("unable to set swap limit without memory limit"),
            "{text}"
        );
    }

    #[test]
    fn what_is_zero_null_or_empty_stays_as_it_is() {
        let current =
            json!({"memory": {"limit": 100, "checkBeforeUpdate": true}, "cpu": {"shares": 2, "cpus": "0"}});
        let given = json!({"memory": {"limit": 0, "swap": null, "reservation": 50}, "cpu": {"shares": 0, "cpus": ""},
            "blockIO": {"weight": 0}, "pids": null});
        let (changes, merged) = update(current, given);
        assert_eq!(
            changes,
            json!({"memory": {"reservation": 50, "checkBeforeUpdate": true}, "cpu": {}, "blockIO": {}})
        );
        assert_eq!(merged["memory"]["limit"], 100);
        assert_eq!(merged["cpu"], json!({"shares": 2, "cpus": "0"}));
    }

    #[test]
    fn where_zero_is_a_limit_it_is_set() {
        let (changes, _) = update(
            json!({}),
            json!({"pids": {"limit": 0}, "cpu": {"idle": 0, "burst": 0}}),
        );
        assert_eq!(
            changes,
            json!({"pids": {"limit": 0}, "cpu": {"idle": 0, "burst": 0}})
        );
    }

    #[test]
    fn limits_of_devices_are_replaced_one_by_one() {
        let rate = |minor: u64, rate: u64| json!({"major": 8, "minor": minor, "rate": rate});
        let current = json!({"blockIO": {"throttleReadBpsDevice": [rate(0, 5), rate(16, 6)]},
            "unified": {"memory.high": "5"}, "devices": [{"allow": false, "access": "rwm"}]});
        let given = json!({"blockIO": {"throttleReadBpsDevice": [rate(16, 7)]}, "unified": {"cpu.idle": "1"},
            "devices": [{"allow": true, "access": "rwm"}]});
        let (changes, merged) = update(current, given);
        assert_eq!(changes["blockIO"]["throttleReadBpsDevice"], json!([rate(16, 7)]));
        assert_eq!(changes["unified"], json!({"cpu.idle": "1"}));
        assert_eq!(
            merged["blockIO"]["throttleReadBpsDevice"],
            json!([rate(0, 5), rate(16, 7)])
        );
        assert_eq!(merged["unified"], json!({"memory.high": "5", "cpu.idle": "1"}));
        assert!(merged.get("devices").is_none() && changes.get("devices").is_none());
    }

    #[test]
    fn what_is_given_is_judged() {
        assert!(refusal(json!({}), json!({"cpu": {"idle": 3}})).starts_with("linux.resources.cpu.idle"));
        assert!(
            refusal(json!({}), json!({"memory": {"limit": "1"}})).starts_with("linux.resources.memory.limit")
        );
        assert!(refusal(json!({}), json!([])).starts_with("linux.resources"));
        assert!(
            update_resources(b"{}", b"{")
                .unwrap_err()
                .to_string()
                .contains("not JSON")
        );
    }
}

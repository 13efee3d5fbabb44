//! Runs in: SUITE. The JSON documents of the command line: merging, and printing one value of an answer.

use crate::Failure;
use serde_json::{Map, Value};

/// The documents merged into one, later ones over earlier ones. Without any: an empty object.
pub(crate) fn merged(documents: &[String]) -> Result<Value, Failure> {
    let mut whole = Value::Object(Map::new());
    for text in documents {
        let patch = serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))?;
        merge(&mut whole, patch);
    }
    Ok(whole)
}

/// RFC 7396: objects are merged member by member, null removes, everything else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Prints the answer, or what `pointer` points at, a line each: text as it is, everything else as JSON.
pub(crate) fn print(answer: &Value, pointer: Option<&str>) -> Result<(), Failure> {
    let mut found = Vec::new();
    let steps: Vec<&str> = pointer.map_or_else(Vec::new, |pointer| pointer.split('/').skip(1).collect());
    if !select(answer, &steps, &mut found) {
        return Err(format!("the answer has no {}: {answer}", pointer.unwrap_or("value")).into());
    }
    for value in found {
        match value {
            Value::String(text) => println!("{text}"),
            other => println!("{other}"),
        }
    }
    Ok(())
}

/// Collects the values at the end of `steps`; `*` is every element of an array. Says whether the path exists.
fn select<'a>(value: &'a Value, steps: &[&str], found: &mut Vec<&'a Value>) -> bool {
    let [first, rest @ ..] = steps else {
        found.push(value);
        return true;
    };
    match (value, *first) {
        (Value::Array(elements), "*") => elements.iter().all(|element| select(element, rest, found)),
        (Value::Array(elements), index) => {
            let element = index.parse::<usize>().ok().and_then(|index| elements.get(index));
            element.is_some_and(|element| select(element, rest, found))
        }
        (value, name) => value.get(name).is_some_and(|member| select(member, rest, found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_documents_win_and_null_removes() {
        let documents = [
            r#"{"a":{"b":1,"c":2},"d":[1,2]}"#,
            r#"{"a":{"b":null,"e":3},"d":[4]}"#,
        ];
        let whole = merged(&documents.map(String::from)).unwrap();
        assert_eq!(whole, serde_json::json!({"a": {"c": 2, "e": 3}, "d": [4]}));
    }

    #[test]
    fn a_star_is_every_element() {
        let answer = serde_json::json!({"items": [{"id": "a"}, {"id": "b"}]});
        let found_by = |steps: &[&str]| {
            let mut found = Vec::new();
            select(&answer, steps, &mut found).then(|| found.into_iter().cloned().collect::<Vec<_>>())
        };
        assert_eq!(
            found_by(&["items", "*", "id"]),
            Some(vec!["a".into(), "b".into()])
        );
        assert_eq!(found_by(&["items", "1", "id"]), Some(vec!["b".into()]));
        assert_eq!(found_by(&["items", "*", "name"]), None);
    }
}

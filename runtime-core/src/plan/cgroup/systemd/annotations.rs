//! Runs in: RUNTIME. Pure: annotations of config.json that are for the systemd driver:
//! `org.systemd.property.NAME`, with a value in GVariant's text format, and crun's `run.oci.systemd.subgroup`
//! and `run.oci.delegate-cgroup`.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use zbus::wire::Variant;

use super::properties::Property;
use super::{allowed, gvariant};
use crate::{Error, Result};

const PROPERTY: &str = "org.systemd.property.";
const SUBGROUP: &str = "run.oci.systemd.subgroup";
const DELEGATED: &str = "run.oci.delegate-cgroup";

/// What the runtime itself decides: another value would put other processes into the container's cgroup, or
/// the cgroup where nobody looks for it.
const OURS: [&str; 5] = ["PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup"];

/// Cgroups below that of the unit which the container is to be in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subgroups {
    /// The container's own, below the unit's.
    pub(crate) container: Option<PathBuf>,
    /// One more below that, where its init is moved after its cgroup namespace has been made.
    pub(crate) delegated: Option<PathBuf>,
}

/// The properties that annotations ask for, in the order of their names.
///
/// # Errors
/// A name that no property has, one that the runtime sets itself or that reaches beyond the container, or a
/// value that is not in GVariant's text format; the error names the annotation.
pub(crate) fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>> {
    let mut found: Vec<(&str, &str)> = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PROPERTY)?, value.as_str())))
        .collect();
    found.sort_unstable(); // the document has no order; a fixed one makes errors repeatable
    found
        .into_iter()
        .map(|(name, value)| property(name, value))
        .collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    let field = field(&format!("{PROPERTY}{name}"));
    let wrong = |message: String| Error::invalid(field.clone(), message);
    if name.len() < 3 || !name.starts_with(|first: char| first.is_ascii_uppercase()) || !is_letters(name) {
        return Err(wrong(
            "not the name of a property: at least three letters A to Z, the first of them a capital"
                .to_owned(),
        ));
    }
    if OURS.contains(&name) {
        return Err(wrong(format!("the property {name} is set by the runtime itself")));
    }
    let value = gvariant::parse(text).map_err(|message| {
        wrong(format!(
            "{text:?} is no value in GVariant's text format: {message}"
        ))
        .with_hint("as in 'text', true, uint64 5, ['a', 'b']")
    })?;
    let (name, value) = match seconds(name) {
        Some(stem) => {
            let value =
                microseconds(&value).ok_or_else(|| wrong(format!("{text:?} is no number of seconds")))?;
            (format!("{stem}USec"), Variant::U64(value))
        }
        None => (name.to_owned(), value),
    };
    if !allowed::is_allowed(&name) {
        return Err(
            wrong(format!("the property {name} is not one that an annotation may set")).with_hint(
                "only those that limit, describe, order or end the container's own unit: docs/adr/0020-unit-properties.md",
            ),
        );
    }
    Ok(Property::asked(name, value, field))
}

/// Refuses a property that says something else about a limit which `derived`, from `linux.resources`, sets:
/// systemd would put it in force with the next reload, whatever the engine had asked for.
///
/// # Errors
/// The error names the annotation.
pub(super) fn refuse_contradiction(asked: &[Property], derived: &[Property]) -> Result<()> {
    let both = asked.iter().find_map(|asked| {
        let limit = allowed::limit_of(&asked.name);
        let derived = derived.iter().find(|derived| derived.name == limit)?;
        Some((asked, derived))
    });
    match both {
        Some((asked, derived)) => Err(Error::invalid(
            asked.field.as_deref().unwrap_or(PROPERTY).to_owned(),
            format!(
                "the property {} is about what {} sets",
                asked.name,
                derived.field.as_deref().unwrap_or("linux.resources")
            ),
        )),
        None => Ok(()),
    }
}

fn is_letters(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// systemd's unit files say `TimeoutStopSec=`, its D-Bus interface `TimeoutStopUSec`; users write either.
fn seconds(name: &str) -> Option<&str> {
    let stem = name.strip_suffix("Sec")?;
    stem.ends_with(|last: char| last.is_ascii_lowercase())
        .then_some(stem)
}

fn microseconds(value: &Variant<'_>) -> Option<u64> {
    const MILLION: u64 = 1_000_000;
    let whole = match value {
        Variant::U8(number) => u64::from(*number),
        Variant::U16(number) => u64::from(*number),
        Variant::U32(number) => u64::from(*number),
        Variant::U64(number) => *number,
        Variant::I16(number) => u64::try_from(*number).ok()?,
        Variant::I32(number) => u64::try_from(*number).ok()?,
        Variant::I64(number) => u64::try_from(*number).ok()?,
        // Above 2^53 a double has no microseconds any more; 292 years are enough.
        Variant::F64(number) if (0.0..9.2e9).contains(number) => return Some((number * 1e6).round() as u64),
        _ => return None,
    };
    whole.checked_mul(MILLION)
}

/// crun's annotations about cgroups below the unit's. Absent or empty means none: unlike crun, and like runc,
/// the container is then in the unit's own cgroup.
///
/// # Errors
/// A path that is not below the unit's cgroup; a delegated cgroup without the other one; either for a slice.
pub(super) fn subgroups(annotations: &HashMap<String, String>, is_slice: bool) -> Result<Subgroups> {
    let container = subgroup(annotations, SUBGROUP)?;
    let delegated = subgroup(annotations, DELEGATED)?;
    if is_slice && container.is_some() {
        return Err(Error::invalid(
            field(SUBGROUP),
            "a slice is not delegated, so it has none",
        ));
    }
    if delegated.is_some() && container.is_none() {
        let message = format!("needs the annotation {SUBGROUP} as well");
        return Err(Error::invalid(field(DELEGATED), message));
    }
    Ok(Subgroups { container, delegated })
}

fn subgroup(annotations: &HashMap<String, String>, key: &'static str) -> Result<Option<PathBuf>> {
    let Some(text) = annotations.get(key).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let path = Path::new(text);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    match is_below && !text.contains(['\0', '\n']) {
        true => Ok(Some(path.components().collect())),
        false => Err(Error::invalid(
            field(key),
            format!("{text:?} is no path below the unit's cgroup"),
        )),
    }
}

fn field(key: &str) -> String {
    format!("annotations[{key:?}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn annotations(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn one(name: &str, value: &str) -> Result<Property> {
        properties(&annotations(&[(&format!("{PROPERTY}{name}"), value)])).map(|mut list| list.remove(0))
    }

    #[test]
    fn properties_come_in_order_and_others_are_passed_over() {
        let given = annotations(&[
            ("org.systemd.property.TimeoutStopUSec", "uint64 123456789"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.properties.X", "nonsense"),
            ("run.oci.handler", "x"),
        ]);
        let list = properties(&given).unwrap();
        let shown: Vec<_> = list
            .iter()
            .map(|property| (&*property.name, &property.value))
            .collect();
        assert_eq!(
            shown,
            [
                ("CollectMode", &Variant::from("inactive-or-failed")),
                ("TimeoutStopUSec", &Variant::U64(123_456_789))
            ]
        );
    }

    #[test]
    fn seconds_become_microseconds() {
        for (value, expected) in [
            ("uint64 5", 5_000_000),
            ("5", 5_000_000),
            ("1.5", 1_500_000),
            ("byte 0", 0),
        ] {
            let property = one("TimeoutStopSec", value).unwrap();
            assert_eq!(
                (&*property.name, &property.value),
                ("TimeoutStopUSec", &Variant::U64(expected)),
                "{value}"
            );
        }
        assert_eq!(one("TimeoutStopUSec", "uint64 5").unwrap().value, Variant::U64(5));
        assert_eq!(
            one("CPUQuotaPerSecUSec", "uint64 5").unwrap().name,
            "CPUQuotaPerSecUSec"
        );
        for bad in [
            "-1",
            "'5s'",
            "true",
            "uint64 18446744073709551615",
            "inf",
            "nan",
            "-0.5",
            "1e300",
        ] {
            assert_eq!(
                one("TimeoutStopSec", bad).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn hostile_names_and_values_are_named() {
        for name in [
            "",
            "A",
            "Ab",
            "lower",
            "With-Dash",
            "With Space",
            "Sp\nace",
            "Ünit",
            "A1b",
            "PIDs",
            "Slice",
        ] {
            let error = one(name, "true").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
            assert!(error.field().unwrap().starts_with("annotations["), "{name}");
        }
        assert_eq!(
            one("TimeoutStopUSec", "5s").unwrap_err().to_string(),
            "annotations[\"org.systemd.property.TimeoutStopUSec\"]: \"5s\" is no value in GVariant's text format: \
             \"5s\", which is no number of type i, at byte 0 (as in 'text', true, uint64 5, ['a', 'b'])"
        );
    }

    #[test]
    fn properties_that_reach_beyond_the_container_are_refused() {
        for (name, value) in [
            ("FailureAction", "'reboot'"),
            ("Wants", "['reboot.target']"),
            ("JobTimeoutSec", "1"),
        ] {
            let error = one(name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
            assert!(error.to_string().contains("may set"), "{error}");
        }
    }

    #[test]
    fn a_limit_of_config_json_cannot_be_widened() {
        let derived = [Property::optional("MemoryMax", 5u64)];
        for (name, is_refused) in [
            ("MemoryMax", true),
            ("MemoryMaxScale", true),
            ("StartupMemoryMax", true),
            ("MemoryHigh", false),
            ("TasksMax", false),
        ] {
            let asked = [one(name, "uint64 9").unwrap()];
            assert_eq!(
                refuse_contradiction(&asked, &derived).is_err(),
                is_refused,
                "{name}"
            );
        }
    }

    #[test]
    fn subgroups_stay_below_the_unit() {
        let read = |pairs: &[(&str, &str)]| subgroups(&annotations(pairs), false);
        assert_eq!(read(&[]).unwrap(), Subgroups::default());
        assert_eq!(read(&[(SUBGROUP, "")]).unwrap(), Subgroups::default());
        let both = read(&[(SUBGROUP, "container"), (DELEGATED, "a/b")]).unwrap();
        assert_eq!(both.container.as_deref(), Some(Path::new("container")));
        assert_eq!(both.delegated.as_deref(), Some(Path::new("a/b")));
        for bad in ["/x", "..", "a/../..", ".", "a\nb", "a\0"] {
            assert!(read(&[(SUBGROUP, bad)]).is_err(), "{bad:?}");
        }
        assert!(read(&[(DELEGATED, "x")]).is_err());
    }
}

//! Runs in: RUNTIME. Pure: how a unit is described, which tells it from another one of its name.

use zbus::wire::Variant;

use super::properties::Property;

/// Of the unit of the container with this mark.
pub(crate) fn description(mark: &str) -> String {
    format!("onggi container {mark}")
}

/// A property as it is asked for; but a description has ours at its end, by which the unit is known.
pub(super) fn described(asked: &Property, ours: &str) -> Property {
    let mut property = asked.clone();
    if let ("Description", Variant::Str(text)) = (asked.name.as_ref(), &asked.value) {
        property.value = format!("{text} ({ours})").into();
    }
    property
}

/// Whether a unit with this description is the one that `ours` describes. What an annotation says stands
/// before.
pub(crate) fn is_described(found: &str, ours: &str) -> bool {
    let after = found.strip_suffix(')').and_then(|found| found.strip_suffix(ours));
    // Without a blank before it where the annotation is empty: systemd strips what it reads from its files.
    found == ours || after.is_some_and(|before| before == "(" || before.ends_with(" ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_whatever_an_annotation_says_of_it() {
        let ours = description("box, created 2026");
        let asked = |text: &str| {
            Property::asked(
                "Description".to_owned(),
                Variant::from(text.to_owned()),
                String::new(),
            )
        };
        let shown = |text: &str| match described(&asked(text), &ours).value {
            Variant::Str(text) => text.into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            shown("web server"),
            "web server (onggi container box, created 2026)"
        );
        for text in ["web server", "", &ours] {
            assert!(is_described(&shown(text), &ours), "{text}");
        }
        // What it says cannot pass for another's.
        let theirs = description("other, created 2026");
        assert!(!is_described(&shown(&theirs), &theirs));
        assert!(!is_described(&shown(&format!("x ({theirs})")), &theirs));
        assert!(!is_described("st.scope", &ours));
    }
}

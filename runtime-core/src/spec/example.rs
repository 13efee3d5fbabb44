//! Runs in: RUNTIME. The config.json that `spec` writes for a person to start from.

/// The default of runc, for cgroup v2: with a cgroup namespace of its own.
const EXAMPLE: &str = include_str!("example.json");

/// What a caller without privileges changes: no network namespace (it could not be connected) but a user
/// namespace, no limits, /sys bound from the host (sysfs belongs to the network namespace), no group that is
/// not mapped.
const NETWORK: &str = "\t\t\t{\n\t\t\t\t\"type\": \"network\"\n\t\t\t},\n";
const NAMESPACES_START: &str = "\t\t\"namespaces\": [\n";
const RESOURCES_START: &str = "\t\t\"resources\": {\n";
const TERMINAL_GROUP: &str = ",\n\t\t\t\t\"gid=5\"";
const SYSFS: &str = "\"type\": \"sysfs\",\n\t\t\t\"source\": \"sysfs\",\n\t\t\t\"options\": [\n";
const BOUND_SYS: &str =
    "\"type\": \"none\",\n\t\t\t\"source\": \"/sys\",\n\t\t\t\"options\": [\n\t\t\t\t\"rbind\",\n";
const USER: &str = "\t\t\t{\n\t\t\t\t\"type\": \"user\"\n\t\t\t},\n";

/// An example config.json, indented by tabs. `rootless` is the effective user and group id of a caller
/// without privileges: they become root in a user namespace.
pub fn example(rootless: Option<(u32, u32)>) -> String {
    let Some((uid, gid)) = rootless else {
        return EXAMPLE.to_owned();
    };
    let text = EXAMPLE
        .replace(NETWORK, "")
        .replace(TERMINAL_GROUP, "")
        .replace(SYSFS, BOUND_SYS)
        .replace(NAMESPACES_START, &format!("{NAMESPACES_START}{USER}"));
    let mappings = format!("{}{}", mapping("uidMappings", uid), mapping("gidMappings", gid));
    let (Some(start), Some(end)) = (text.find(RESOURCES_START), text.find(NAMESPACES_START)) else {
        return text;
    };
    format!("{}{mappings}{}", &text[..start], &text[end..])
}

fn mapping(name: &str, id: u32) -> String {
    format!(
        "\t\t\"{name}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\"size\": 1\n\
         \t\t\t}}\n\t\t],\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{parse, validate};

    #[test]
    fn the_examples_are_valid() {
        for text in [example(None), example(Some((1000, 1001)))] {
            let config = parse(text.into_bytes()).unwrap();
            validate(&config).unwrap();
            assert_eq!(config.spec.version(), "1.3.0");
            assert_eq!(config.spec.mounts().as_ref().unwrap().len(), 7);
        }
    }

    #[test]
    fn a_rootless_example_asks_for_nothing_that_needs_root() {
        let text = example(Some((1000, 1001)));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let types: Vec<_> = value["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ns| ns["type"].clone())
            .collect();
        assert_eq!(types, ["user", "pid", "ipc", "uts", "mount", "cgroup"]);
        assert_eq!(value["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(value["linux"]["gidMappings"][0]["hostID"], 1001);
        assert!(value["linux"].get("resources").is_none());
        assert_eq!(value["mounts"][5]["options"][0], "rbind");
        assert!(!text.contains("gid=5"));
    }
}

//! Any bytes as the file of `exec --process`: read as `process` of config.json is, what it does not mention
//! confined as the container's own process, and a plan that keeps its promises.
#![no_main]

use std::fmt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use onggi_fuzz::{check_process, confined};
use runtime_core::unstable::plan::ProcessPlan;
use runtime_core::unstable::plan::{CallerOptions, ConsoleRequest, HostFacts};
use runtime_core::unstable::process_of_file;
use runtime_core::unstable::spec::{self, Config};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

static CONTAINER: LazyLock<Config> = LazyLock::new(confined);

fuzz_target!(|json: &[u8]| {
    let container = &*CONTAINER;
    let read = process_of_file(container, json);
    if serde_json::from_slice::<IgnoredAny>(json).is_err() {
        assert!(read.is_err(), "what is not JSON is no process");
        return;
    }
    same_as_in_a_config(json);
    let (Ok((process, extra)), Ok(Entries(entries))) = (read, serde_json::from_slice(json)) else {
        return;
    };
    let own = container.spec.process().clone().unwrap_or_default();
    let says = |field: &str| {
        // The case of keys does not count, and each of several says something.
        let mut named = entries.iter().filter(|(key, _)| folded(key) == folded(field));
        named.any(|(_, value)| !value.is_null() && value != "")
    };
    assert!(says("capabilities") || process.capabilities() == own.capabilities());
    assert!(says("apparmorProfile") || process.apparmor_profile() == own.apparmor_profile());
    assert!(says("selinuxLabel") || process.selinux_label() == own.selinux_label());
    assert!(says("oomScoreAdj") || process.oom_score_adj() == own.oom_score_adj());
    assert!(says("ioPriority") || process.io_priority() == own.io_priority());
    assert!(says("scheduler") || process.scheduler() == own.scheduler());
    assert!(says("noNewPrivileges") || process.no_new_privileges().is_none_or(|wanted| !wanted));
    if spec::validate_process(&process, &extra).is_err() {
        return;
    }
    let caller = CallerOptions {
        console: ConsoleRequest::Optional,
        ..CallerOptions::default()
    };
    let mut facts = HostFacts::of_root();
    facts.permitted_capabilities = !(1 << 21);
    for in_user_namespace in [false, true] {
        let linux = container.spec.linux().as_ref();
        if let Ok(plan) = ProcessPlan::new(&process, linux, &facts, in_user_namespace, caller) {
            check_process(&plan);
            let most = if in_user_namespace {
                u64::MAX
            } else {
                facts.permitted_capabilities
            };
            let sets = plan.capabilities;
            let all = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
            assert_eq!(all & !(most & ((1 << 41) - 1)), 0, "{sets:?}");
            assert_eq!(sets.ambient & !(sets.permitted & sets.inheritable), 0, "{sets:?}");
        }
    }
});

/// Two ways lead to a process: the same bytes must come to the same.
fn same_as_in_a_config(json: &[u8]) {
    let mut document = onggi_fuzz::document();
    document["process"] = "here".into();
    let Ok(json_text) = str::from_utf8(json) else {
        return;
    };
    let config = document.to_string().replace("\"here\"", json_text);
    match (spec::parse_process(json), spec::parse(config.into_bytes())) {
        (Ok((process, mut extra)), Ok(config)) => {
            extra.spellings.clear();
            assert_eq!(Some(process), *config.spec.process());
            assert_eq!(extra, config.extra.process);
        }
        // What is no JSON is no field's fault: then the document is named.
        (Err(alone), Err(within)) if within.field() == Some("config.json") => {
            assert_eq!(alone.field(), Some("process"));
        }
        (Err(alone), Err(within)) => assert_eq!(alone.field(), within.field()),
        // A config.json may be without a process.
        (Err(_), Ok(config)) => assert!(config.spec.process().is_none()),
        (Ok(_), Err(error)) => panic!("refused in a config.json only: {error}"),
    }
}

fn folded(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

/// The entries of an object in their order, keys given twice too. Of anything else none.
#[derive(Default)]
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries::default())
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(entry) = map.next_entry()? {
            self.0.push(entry);
        }
        Ok(self)
    }
}

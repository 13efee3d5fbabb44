//! Runs in: SUITE. `state`, `features` and `spec`: what they print against the JSON schemas, and what
//! `features` promises against what the runtime does.

use crate::{
    case::Case,
    config::IdMapping,
    outcome::{Check, ensure, fail, same},
    schema::Schemas,
};
use serde_json::{Value, json};
use std::fs;

tests! {
    spec/state_matches_the_schema,
    spec/state_without_annotations,
    spec/features_match_the_schema,
    spec/spec_command_matches_the_schema,
    spec/features_versions_are_accepted,
    spec/features_hooks_are_supported,
    spec/features_mount_options_are_recognized,
    spec/features_namespaces_are_recognized,
    spec/features_capabilities_are_recognized,
    spec/features_seccomp_words_are_recognized,
    spec/features_do_not_depend_on_the_host,
    spec/features_say_what_is_new,
}

fn matches(schema: &str, document: &Value) -> Check {
    let faults = Schemas::load().or_else(fail)?.check(schema, document);
    same(&format!("faults by {schema}"), Vec::<String>::new(), faults)
}

fn state_matches_the_schema(c: &mut Case) -> Check {
    c.document().annotations(json!({"com.example.key": "value"}));
    c.args(&["/bin/sleep", "1000"]);
    c.create()?.ok()?;
    matches("state-schema.json", &c.state()?)?;
    c.rt(&["start", &c.id])?.ok()?;
    matches("state-schema.json", &c.state()?)?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    matches("state-schema.json", &c.state()?)
}

fn state_without_annotations(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let annotations = c.state()?["annotations"].clone();
    ensure!(
        annotations.is_null() || annotations.as_object().is_some_and(serde_json::Map::is_empty),
        "annotations: wish none or {{}}, reality {annotations}"
    );
    Ok(())
}

fn features(c: &Case) -> Check<Value> {
    c.rt(&["features"])?.ok()?.json()
}

/// The words of a list in `features`; a runtime need not have the list.
fn words(features: &Value, pointer: &str) -> Vec<String> {
    let list = features.pointer(pointer).and_then(Value::as_array);
    let words = list.into_iter().flatten().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

fn features_match_the_schema(c: &mut Case) -> Check {
    matches("features-schema.json", &features(c)?)
}

fn spec_command_matches_the_schema(c: &mut Case) -> Check {
    c.rt(&["spec", "--bundle", "bundle"])?.ok()?;
    let text = fs::read(c.bundle.join("config.json"))?;
    matches("config-schema.json", &serde_json::from_slice(&text)?)
}

fn number(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn features_versions_are_accepted(c: &mut Case) -> Check {
    let features = features(c)?;
    let (min, max) = (&features["ociVersionMin"], &features["ociVersionMax"]);
    let [low, high] = [min, max].map(|version| number(version.as_str().unwrap_or_default()));
    ensure!(low <= high, "ociVersionMin {min} is above ociVersionMax {max}");
    for version in [min, max] {
        c.document().oci_version(version.clone());
        c.run()?.ok()?;
    }
    Ok(())
}

fn features_hooks_are_supported(c: &mut Case) -> Check {
    let hooks = words(&features(c)?, "/hooks");
    let seen = c.rootfs("/tmp/seen");
    for name in &hooks {
        // startContainer hooks run in the container, where the file is /tmp/seen.
        let file = if name == "startContainer" {
            "/tmp/seen".into()
        } else {
            seen.clone()
        };
        let line = format!("echo {name} >> {}", file.display());
        c.config["hooks"][name] = json!([{"path": "/bin/sh", "args": ["sh", "-c", line]}]);
    }
    c.run()?.ok()?;
    let mut ran: Vec<String> = fs::read_to_string(seen)?.lines().map(str::to_owned).collect();
    let mut wish = hooks;
    ran.sort_unstable();
    wish.sort_unstable();
    same("hooks that ran", wish, ran)
}

fn features_mount_options_are_recognized(c: &mut Case) -> Check {
    let source = c.dir.join("source");
    fs::create_dir(&source)?;
    for option in words(&features(c)?, "/mountOptions") {
        let destination = format!("/mnt/{option}");
        let mount = match option.as_str() {
            "remount" | "idmap" | "ridmap" => continue,
            "tmpcopyup" => {
                json!({"destination": "/etc", "type": "tmpfs", "source": "t", "options": [option]})
            }
            // Of the same file system as an option that is none of its data; recursive ones are for trees.
            _ if option.starts_with('r') && !["ro", "rw", "relatime"].contains(&option.as_str()) => json!({
                "destination": destination, "type": "bind", "source": source.to_string_lossy(), "options": ["rbind", option]
            }),
            "bind" | "copy-symlink" | "src-nofollow" | "dest-nofollow" => json!({
                "destination": destination, "type": "bind", "source": source.to_string_lossy(), "options": ["bind", option]
            }),
            _ => json!({"destination": destination, "type": "tmpfs", "source": "t", "options": [option]}),
        };
        c.mount(mount);
    }
    c.run()?.ok()?;
    Ok(())
}

fn features_namespaces_are_recognized(c: &mut Case) -> Check {
    c.config["linux"]["namespaces"] = words(&features(c)?, "/linux/namespaces")
        .iter()
        .map(|name| json!({"type": name}))
        .collect();
    c.linux()
        .uid_mappings([IdMapping::new().container_id(0).host_id(0).size(65536)]);
    c.linux()
        .gid_mappings([IdMapping::new().container_id(0).host_id(0).size(65536)]);
    c.run()?.ok()?;
    Ok(())
}

fn features_capabilities_are_recognized(c: &mut Case) -> Check {
    let names = words(&features(c)?, "/linux/capabilities");
    ensure!(
        names.len() >= 41,
        "wish the 41 capabilities of Linux 5.9, reality {names:?}"
    );
    // In the bounding set only: what the caller lacks is left out, what is not known would be an error or a
    // warning.
    c.process().capabilities().clear().bounding(names);
    let run = c.run()?.ok()?;
    ensure!(
        !run.stderr.contains("unknown"),
        "a listed capability is not known: {}",
        run.stderr
    );
    Ok(())
}

fn features_seccomp_words_are_recognized(c: &mut Case) -> Check {
    let features = features(c)?;
    let list = |name: &str| words(&features, &format!("/linux/seccomp/{name}"));
    ensure!(
        !list("actions").is_empty() && !list("operators").is_empty(),
        "seccomp: actions or operators are missing"
    );
    let mut rules = Vec::new();
    // A call that exists and that nobody makes.
    for action in list("actions")
        .iter()
        .filter(|action| *action != "SCMP_ACT_NOTIFY")
    {
        rules.push(json!({"names": ["add_key"], "action": action, "args": [{"index": 0, "value": rules.len(), "op": "SCMP_CMP_EQ"}]}));
    }
    for operator in list("operators") {
        rules.push(json!({"names": ["request_key"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": operator}]}));
    }
    let mut seccomp =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "architectures": list("archs")});
    let (known, supported) = (list("knownFlags"), list("supportedFlags"));
    for flag in &supported {
        ensure!(known.contains(flag), "{flag} is supported and not known");
    }
    // It has a meaning for filters that notify only, and newer kernels refuse it elsewhere.
    let flags = supported.iter().filter(|flag| !flag.contains("WAIT_KILLABLE"));
    seccomp["flags"] = flags.map(|flag| json!(flag)).collect();
    c.config["linux"]["seccomp"] = seccomp;
    c.run()?.ok()?;
    Ok(())
}

fn features_do_not_depend_on_the_host(c: &mut Case) -> Check {
    let here = features(c)?;
    // A place without the file systems that tell what the host can do.
    let runtime: Vec<String> = c
        .host
        .runtime_words()
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = format!("mount -t tmpfs none /sys && exec {} features", runtime.join(" "));
    let mut command = std::process::Command::new("/usr/bin/unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &line]);
    let there = crate::runner::start(&mut command, &c.dir)?
        .finish()?
        .ok()?
        .json()?;
    same("features without /sys", here, there)
}

/// The fields that runtime-spec 1.3.0 has added.
fn features_say_what_is_new(c: &mut Case) -> Check {
    let linux = features(c)?["linux"].clone();
    for (pointer, wish) in [
        ("/netDevices/enabled", true),
        ("/intelRdt/enabled", true),
        ("/intelRdt/schemata", true),
        ("/intelRdt/monitoring", true),
    ] {
        same(
            pointer,
            Some(wish),
            linux.pointer(pointer).and_then(Value::as_bool),
        )?;
    }
    for (pointer, word) in [
        ("/memoryPolicy/modes", "MPOL_BIND"),
        ("/memoryPolicy/flags", "MPOL_F_STATIC_NODES"),
    ] {
        ensure!(
            words(&linux, pointer).iter().any(|each| each == word),
            "{pointer}: {word} is missing"
        );
    }
    Ok(())
}

//! Runs in: RUNTIME. Mends a JSON document so that the types of oci-spec can hold it, and names the field of
//! what cannot be mended. This is the one place that knows what those types get wrong. It does not judge what
//! fields mean together: that is `validate`.

use std::fmt;

use oci_spec::runtime::{Arch, Capability, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
use serde_json::{Map, Value};

use super::schema::{Absent, Field, Mend, Schema, SeccompWord, Zero};
use super::{ExecCpuAffinity, Extra};
use crate::{Error, Result};

/// Checks `value` against `schema` and mends it in place; what the types have no room for goes into the
/// result. `root` is the name in front of every field, empty for a whole config.json.
pub(super) fn mend(value: &mut Value, schema: &'static Schema, root: &'static str) -> Result<Extra> {
    let mut walk = Walk {
        extra: Extra::default(),
    };
    walk.value(value, schema, &At::Root(root))?;
    Ok(walk.extra)
}

/// Where in the document the walk is; on the stack, and only spelled out for an error.
pub(super) enum At<'a> {
    Root(&'static str),
    Field(&'a At<'a>, &'static str),
    Entry(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root(name) => f.write_str(name),
            At::Field(At::Root(""), name) => f.write_str(name),
            At::Field(parent, name) => write!(f, "{parent}.{name}"),
            At::Entry(parent, key) => write!(f, "{parent}[{}]", quoted(key)),
            At::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl At<'_> {
    fn refuse(&self, message: impl Into<String>) -> Error {
        let field = match self {
            At::Root("") => "config.json".to_owned(),
            named => named.to_string(),
        };
        Error::invalid(field, message.into())
    }
}

/// A string of the document as errors show it: escaped, because it goes to terminals and logs, and not longer
/// than a line, because it may be megabytes.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// Whether the value stays in the document.
#[derive(PartialEq)]
enum Keep {
    Yes,
    No,
}

struct Walk {
    extra: Extra,
}

impl Walk {
    fn value(&mut self, value: &mut Value, schema: &Schema, at: &At<'_>) -> Result<Keep> {
        match schema {
            Schema::Bool if value.is_boolean() => {}
            Schema::Bool => return Err(wrong_type(at, "a boolean", value)),
            Schema::Int(least, most) => integer(value, *least, *most, at)?,
            Schema::Str => without_nul(string(value, at)?, at)?,
            Schema::Text => {
                string(value, at)?;
            }
            Schema::OneOf(what, words) => {
                let word = string(value, at)?;
                if !words.contains(&word) {
                    return Err(at.refuse(format!("{}: unknown {what}", quoted(word))));
                }
            }
            Schema::Seccomp(kind) => seccomp_word(string(value, at)?, *kind, at)?,
            Schema::List(schema) => {
                let Value::Array(list) = value else {
                    return Err(wrong_type(at, "a list", value));
                };
                for (index, element) in list.iter_mut().enumerate() {
                    self.value(element, schema, &At::Index(at, index))?;
                }
            }
            Schema::Map(schema) => self.map(value, schema, at)?,
            Schema::Object(fields) => self.object(value, fields, at)?,
            Schema::Mended(mend, schema) => return self.mended(value, *mend, schema, at),
        }
        Ok(Keep::Yes)
    }

    fn map(&mut self, value: &mut Value, schema: &Schema, at: &At<'_>) -> Result<()> {
        let Value::Object(map) = value else {
            return Err(wrong_type(at, "an object", value));
        };
        for (key, value) in map.iter_mut() {
            let at = At::Entry(at, key);
            if !matches!(schema, Schema::Text) {
                without_nul(key, &at)?;
            }
            self.value(value, schema, &at)?;
        }
        Ok(())
    }

    fn object(&mut self, value: &mut Value, fields: &'static [Field], at: &At<'_>) -> Result<()> {
        let Value::Object(map) = value else {
            return Err(wrong_type(at, "an object", value));
        };
        fields.iter().try_for_each(|field| self.field(map, field, at))
    }

    fn field(&mut self, map: &mut Map<String, Value>, field: &'static Field, at: &At<'_>) -> Result<()> {
        let at = At::Field(at, field.name);
        if let Some(value) = map.get_mut(field.name) {
            // For Go a null leaves the field at its zero value; serde refuses it where the type is no Option.
            let absent = match value {
                Value::Null => true,
                Value::String(text) => text.is_empty() && matches!(field.absent, Absent::FineAndSoIsEmpty),
                _ => false,
            };
            if !absent {
                if self.value(value, &field.schema, &at)? == Keep::No {
                    map.remove(field.name);
                }
                return Ok(());
            }
            map.remove(field.name);
        }
        match field.absent {
            Absent::Fine | Absent::FineAndSoIsEmpty => {}
            Absent::Refused => return Err(at.refuse("missing")),
            Absent::Zero(zero) => {
                map.insert(field.name.to_owned(), zero_value(zero));
            }
        }
        Ok(())
    }

    fn mended(&mut self, value: &mut Value, mend: Mend, schema: &Schema, at: &At<'_>) -> Result<Keep> {
        if matches!(mend, Mend::Seccomp) && seccomp_is_off(value) {
            return Ok(Keep::No);
        }
        self.value(value, schema, at)?;
        match mend {
            Mend::Capabilities => self.set_unknown_capabilities_aside(value),
            Mend::DeviceNumbers => device_numbers(value, at)?,
            Mend::ExecCpuAffinity => {
                self.extra.process.exec_cpu_affinity = Some(exec_cpu_affinity(value));
                return Ok(Keep::No);
            }
            Mend::HugepageLimit => clamp_to_i64(value),
            // The type has a plain number for it, but since 1.3 absent means "leave it" and 0 is a limit.
            Mend::Pids => self.extra.pids_limit = value.get("limit").and_then(Value::as_i64),
            Mend::SchedulerFlag => spell_as_oci_spec_does(value),
            Mend::Seccomp => {}
        }
        Ok(Keep::Yes)
    }

    /// "The runtime SHOULD NOT fail if the container configuration requests capabilities that cannot be
    /// granted" (runtime-spec, config.md); the type fails. It also takes any case and any number of `CAP_`:
    /// what is no capability for runc and crun must not be one here.
    fn set_unknown_capabilities_aside(&mut self, value: &mut Value) {
        let Value::Array(names) = value else { return };
        names.retain(|name| {
            let Value::String(name) = name else { return true };
            let known = name
                .strip_prefix("CAP_")
                .is_some_and(|short| short.parse::<Capability>().is_ok());
            let unknown = &mut self.extra.process.unknown_capabilities;
            if !known && !unknown.contains(name) {
                unknown.push(name.clone());
            }
            known
        });
    }
}

fn zero_value(zero: Zero) -> Value {
    match zero {
        Zero::Text => Value::String(String::new()),
        Zero::List => Value::Array(Vec::new()),
        // The fields of `user` all have defaults of their own.
        Zero::Object => Value::Object(Map::new()),
    }
}

fn string<'v>(value: &'v Value, at: &At<'_>) -> Result<&'v str> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(at, "a string", other)),
    }
}

/// Cut off at a NUL, a path or an argument would be another one than the one that was checked.
fn without_nul(text: &str, at: &At<'_>) -> Result<()> {
    if text.as_bytes().contains(&0) {
        return Err(at.refuse(format!("{}: holds a NUL byte", quoted(text))));
    }
    Ok(())
}

fn integer(value: &Value, least: i64, most: u64, at: &At<'_>) -> Result<()> {
    let Value::Number(number) = value else {
        return Err(wrong_type(at, "a number", value));
    };
    let fits = match (number.as_u64(), number.as_i64()) {
        (Some(natural), _) => natural <= most,
        (None, Some(negative)) => negative >= least,
        (None, None) => false,
    };
    if fits {
        return Ok(());
    }
    Err(at.refuse(format!(
        "expected a whole number from {least} to {most}, found {number}"
    )))
}

fn wrong_type(at: &At<'_>, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    at.refuse(format!("expected {expected}, found {found}"))
}

/// Refuses here what the types would refuse, because here the field is known.
fn seccomp_word(word: &str, kind: SeccompWord, at: &At<'_>) -> Result<()> {
    let (is_known, what) = match kind {
        SeccompWord::Action => (word.parse::<LinuxSeccompAction>().is_ok(), "action"),
        SeccompWord::Architecture => (word.parse::<Arch>().is_ok(), "architecture"),
        SeccompWord::Flag => (word.parse::<LinuxSeccompFilterFlag>().is_ok(), "flag"),
        SeccompWord::Operator => (word.parse::<LinuxSeccompOperator>().is_ok(), "operator"),
    };
    match is_known {
        true => Ok(()),
        false => Err(at.refuse(format!("{}: unknown seccomp {what}", quoted(word)))),
    }
}

/// An empty default action and no rule: engines that mean "no seccomp" write that (runc takes it so), and the
/// type has no word for it.
fn seccomp_is_off(value: &Value) -> bool {
    let Value::Object(seccomp) = value else {
        return false;
    };
    let no_action = match seccomp.get("defaultAction") {
        None | Some(Value::Null) => true,
        Some(action) => action == "",
    };
    let no_rules = match seccomp.get("syscalls") {
        None | Some(Value::Null) => true,
        Some(rules) => rules.as_array().is_some_and(Vec::is_empty),
    };
    no_action && no_rules
}

/// The type says 0 for an absent number; a node 0:0 instead of the one that was meant would be made in
/// silence.
fn device_numbers(value: &Value, at: &At<'_>) -> Result<()> {
    if value.get("type").is_some_and(|kind| kind == "p") {
        return Ok(());
    }
    for name in ["major", "minor"] {
        if value.get(name).is_none() {
            return Err(At::Field(at, name).refuse("missing"));
        }
    }
    Ok(())
}

/// The type compiles a regular expression, which costs more than all other parsing, and then refuses the
/// spaces and the empty string that the specification allows.
fn exec_cpu_affinity(value: &mut Value) -> ExecCpuAffinity {
    let mut take = |name: &str| match value.get_mut(name).map(Value::take) {
        Some(Value::String(list)) => Some(list),
        _ => None,
    };
    ExecCpuAffinity {
        initial: take("initial"),
        last: take("final"),
    }
}

/// The specification has an unsigned number here, the type a signed one; the kernel's own maximum is below
/// both.
fn clamp_to_i64(value: &mut Value) {
    if value.as_i64().is_none() {
        *value = Value::from(i64::MAX);
    }
}

/// The derive of oci-spec makes these names from Rust's, and gets two of them wrong.
fn spell_as_oci_spec_does(value: &mut Value) {
    let spelling = match value.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
        Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
        _ => return,
    };
    *value = Value::from(spelling);
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, LinuxSchedulerFlag};

    use crate::spec::{Config, ExecCpuAffinity, parse, parse_process, parse_resources};

    fn config(json: &str) -> Config {
        parse(json.as_bytes().to_vec()).unwrap()
    }

    #[track_caller]
    fn refused(json: &str, text: &str) {
        assert_eq!(parse(json.as_bytes().to_vec()).unwrap_err().to_string(), text);
    }

    #[test]
    fn errors_name_the_field() {
        let table = [
            (
                "{]",
                "config.json: not JSON: key must be a string at line 1 column 2",
            ),
            (
                "",
                "config.json: not JSON: EOF while parsing a value at line 1 column 0",
            ),
            (
                "{} {}",
                "config.json: not JSON: trailing characters at line 1 column 4",
            ),
            ("[]", "config.json: expected an object, found a list"),
            (
                r#"{"process":{"args":["a",1]}}"#,
                "process.args[1]: expected a string, found a number",
            ),
            (
                r#"{"process":{"args":[null]}}"#,
                "process.args[0]: expected a string, found null",
            ),
            (
                r#"{"process":{"terminal":"no"}}"#,
                "process.terminal: expected a boolean, found a string",
            ),
            (
                r#"{"process":{"user":{"uid":-1}}}"#,
                "process.user.uid: expected a whole number from 0 to 4294967295, found -1",
            ),
            (
                r#"{"process":{"user":{"uid":1e3}}}"#,
                "process.user.uid: expected a whole number from 0 to 4294967295, found 1000.0",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"foo"}]}}"#,
                "linux.namespaces[1].type: \"foo\": unknown namespace",
            ),
            (
                r#"{"linux":{"namespaces":[{}]}}"#,
                "linux.namespaces[0].type: missing",
            ),
            (
                r#"{"annotations":{"a.b":1}}"#,
                "annotations[\"a.b\"]: expected a string, found a number",
            ),
            (
                r#"{"linux":{"sysctl":{"a\u0000":"1"}}}"#,
                "linux.sysctl[\"a\\0\"]: \"a\\0\": holds a NUL byte",
            ),
            (
                r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":1}]}}"#,
                "linux.devices[0].minor: missing",
            ),
        ];
        for (json, text) in table {
            refused(json, text);
        }
    }

    #[test]
    fn a_long_value_is_cut_and_escaped_in_an_error() {
        let json = format!(
            r#"{{"linux":{{"namespaces":[{{"type":"\u001b[2J{}"}}]}}}}"#,
            "é".repeat(10_000)
        );
        let text = parse(json.into_bytes()).unwrap_err().to_string();
        assert!(text.len() < 300, "{}", text.len());
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn null_is_absent_and_the_last_of_two_counts() {
        let config = config(
            r#"{"ociVersion":"1.0.0","hostname":"a","hostname":"b","mounts":null,"linux":{"resources":null},
                "process":{"user":null,"cwd":null,"args":["x"]}}"#,
        );
        assert_eq!(config.spec.hostname().as_deref(), Some("b"));
        assert!(config.spec.mounts().is_none());
        let process = config.spec.process().as_ref().unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        assert!(process.cwd().as_os_str().is_empty());
    }

    #[test]
    fn an_empty_string_is_absent_where_go_cannot_tell() {
        let config = config(
            r#"{"hostname":"","linux":{"cgroupsPath":"","namespaces":[{"type":"network","path":""}],
                "resources":{"devices":[{"allow":false,"type":"","access":"rwm"}]}}}"#,
        );
        assert!(config.spec.hostname().is_none());
        let linux = config.spec.linux().as_ref().unwrap();
        assert!(linux.cgroups_path().is_none());
        assert!(linux.namespaces().as_ref().unwrap()[0].path().is_none());
        assert!(
            linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0]
                .typ()
                .is_none()
        );
    }

    #[test]
    fn other_platforms_and_unknown_fields_are_dropped() {
        let config = config(
            r#"{"ociVersion":"1.0.0","vm":{"kernel":3},"windows":[],"solaris":1,"zos":"x","freebsd":{},
                "uidMappings":"never was","linux":{"intelRdt":{"enableCMT":"x"},"new":1}}"#,
        );
        assert!(config.spec.vm().is_none() && config.spec.windows().is_none());
        assert!(config.spec.linux().as_ref().unwrap().intel_rdt().is_some());
    }

    #[test]
    fn unknown_capabilities_are_set_aside() {
        let json =
            br#"{"capabilities":{"bounding":["CAP_KILL","cap_chown","CAP_CAP_CHOWN","CHOWN","CAP_NEW"],
                        "effective":["CAP_NEW"]}}"#;
        let (process, extra) = parse_process(json).unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(
            sets.bounding().as_ref().unwrap().iter().collect::<Vec<_>>(),
            [&Capability::Kill]
        );
        assert!(sets.effective().as_ref().unwrap().is_empty());
        assert_eq!(
            extra.unknown_capabilities,
            ["cap_chown", "CAP_CAP_CHOWN", "CHOWN", "CAP_NEW"]
        );
    }

    #[test]
    fn scheduler_flags_have_the_names_of_the_specification() {
        let json = br#"{"scheduler":{"policy":"SCHED_OTHER",
                        "flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN","SCHED_FLAG_RECLAIM"]}}"#;
        let (process, _) = parse_process(json).unwrap();
        let flags = process.scheduler().as_ref().unwrap().flags().clone().unwrap();
        use LinuxSchedulerFlag::{SchedFlagDLOverrun, SchedFlagReclaim, SchedResetOnFork};
        assert_eq!(flags, [SchedResetOnFork, SchedFlagDLOverrun, SchedFlagReclaim]);
        let error = parse_process(br#"{"scheduler":{"policy":"SCHED_OTHER","flags":["X"]}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "process.scheduler.flags[0]: \"X\": unknown scheduler flag"
        );
    }

    #[test]
    fn affinity_may_be_empty_and_have_spaces() {
        let (process, extra) =
            parse_process(br#"{"execCPUAffinity":{"initial":"","final":"0-1, 3"}}"#).unwrap();
        let expected = ExecCpuAffinity {
            initial: None,
            last: Some("0-1, 3".to_owned()),
        };
        assert_eq!(extra.exec_cpu_affinity, Some(expected));
        assert!(process.exec_cpu_affinity().is_none());
    }

    #[test]
    fn no_limit_of_processes_is_not_zero() {
        for (json, limit) in [
            (r#"{"pids":{"limit":0}}"#, Some(0)),
            (r#"{"pids":{"limit":-1}}"#, Some(-1)),
            (r#"{"pids":{}}"#, None),
            (r#"{"pids":{"limit":null}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(parse_resources(json.as_bytes()).unwrap().1, limit, "{json}");
        }
    }

    #[test]
    fn seccomp_without_action_and_rules_is_off() {
        for off in [
            "{}",
            r#"{"defaultAction":"","syscalls":[]}"#,
            r#"{"defaultAction":null,"syscalls":null}"#,
        ] {
            let config = config(&format!(r#"{{"linux":{{"seccomp":{off}}}}}"#));
            assert!(config.spec.linux().as_ref().unwrap().seccomp().is_none(), "{off}");
        }
        refused(
            r#"{"linux":{"seccomp":{"syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL"}]}}}"#,
            "linux.seccomp.defaultAction: missing",
        );
        let rule =
            r#"{"names":null,"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]}"#;
        let config = config(&format!(
            r#"{{"linux":{{"seccomp":{{"defaultAction":"SCMP_ACT_LOG","syscalls":[{rule}]}}}}}}"#
        ));
        let seccomp = config.spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
        assert!(seccomp.syscalls().as_ref().unwrap()[0].names().is_empty());
        assert!(seccomp.flags().is_none(), "absent flags are not an empty list");
    }

    #[test]
    fn a_hugepage_limit_is_unsigned() {
        let json = br#"{"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}"#;
        let (resources, _) = parse_resources(json).unwrap();
        assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), i64::MAX);
    }
}

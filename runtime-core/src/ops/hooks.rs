//! Runs in: RUNTIME. The hooks of a container that run in the runtime's namespaces, and the state that each
//! of them is told.

use oci_spec::runtime::{Hook, Hooks};

use crate::host::process::hooks;
use crate::host::state::Record;
use crate::plan::Plan;
use crate::spec::Config;
use crate::{Cancel, Error, ErrorKind, Result};

/// The state of a container, for its hooks and for `seccomp` agents (runtime.md, State).
pub(super) fn hook_state(record: &Record, status: &str, pid: Option<i32>) -> Result<Vec<u8>> {
    let (mut before, after) = split_state(record, status)?;
    match pid {
        Some(pid) => {
            before.extend(pid.to_string().into_bytes());
            before.extend(after);
            Ok(before)
        }
        // `,"pid":` is cut off again: the pid is only there while there is a process.
        None => {
            before.truncate(before.len() - PID_KEY.len());
            before.extend(after);
            Ok(before)
        }
    }
}

const PID_KEY: &[u8] = b",\"pid\":";

/// The same in two parts, for a pid that only the child itself knows.
pub(super) fn split_state(record: &Record, status: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut object = serde_json::Map::new();
    object.insert("ociVersion".into(), crate::OCI_VERSION.into());
    object.insert("id".into(), record.id.clone().into());
    object.insert("status".into(), status.into());
    object.insert("bundle".into(), record.bundle.to_string_lossy().into());
    if !record.annotations.is_empty() {
        let annotations = record
            .annotations
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()));
        object.insert(
            "annotations".into(),
            serde_json::Value::Object(annotations.collect()),
        );
    }
    let mut before = serde_json::to_vec(&object).map_err(|error| {
        Error::new(ErrorKind::Internal, error.to_string()).doing("write the state for a hook")
    })?;
    before.pop();
    before.extend(PID_KEY);
    Ok((before, b"}".to_vec()))
}

/// Whether config.json has hooks of this list.
pub(super) fn has_any(config: &Config, list: fn(&Hooks) -> &Option<Vec<Hook>>) -> bool {
    let hooks = config.spec.hooks().as_ref();
    hooks
        .and_then(|hooks| list(hooks).as_ref())
        .is_some_and(|list| !list.is_empty())
}

/// What holds for the hooks of a creation.
pub(super) fn terms<'a>(plan: &Plan, cancel: &'a Cancel) -> hooks::Terms<'a> {
    hooks::Terms {
        cancel,
        at: None,
        open_files: plan.process.hook_files,
    }
}

/// The hooks that run in the runtime's namespaces once those of the container are there.
pub(super) fn run_runtime_hooks(
    config: &Config,
    record: &Record,
    pid: i32,
    terms: hooks::Terms<'_>,
) -> Result<()> {
    let Some(hooks) = config.spec.hooks() else {
        return Ok(());
    };
    #[allow(deprecated, reason = "prestart is deprecated, and engines still use it")]
    let prestart = hooks.prestart().as_ref();
    run_list("prestart", prestart, record, "creating", pid, terms)?;
    let create_runtime = hooks.create_runtime().as_ref();
    run_list("createRuntime", create_runtime, record, "creating", pid, terms)
}

/// The poststart hooks.
pub(super) fn run_poststart(config: &Config, record: &Record, terms: hooks::Terms<'_>) -> Result<()> {
    let hooks = config.spec.hooks().as_ref();
    let poststart = hooks.and_then(|hooks| hooks.poststart().as_ref());
    run_list("poststart", poststart, record, "running", record.pid, terms)
}

/// Each failure is a warning (runtime.md, Lifecycle).
pub(super) fn run_poststop(config: Option<&Config>, record: &Record, terms: hooks::Terms<'_>) {
    let hooks = config
        .and_then(|config| config.spec.hooks().as_ref())
        .and_then(|hooks| hooks.poststop().as_ref());
    let Some(list) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return;
    };
    let state = match hook_state(record, "stopped", None) {
        Ok(state) => state,
        Err(error) => return log::warn!("{error}"),
    };
    // The bundle may be gone, and with it the place of these files.
    let files = hooks::OutputFiles::open(&record.annotations, &record.bundle).unwrap_or_else(|error| {
        log::warn!("{}", error.doing("open a file for what poststop hooks print"));
        hooks::OutputFiles::default()
    });
    let told = hooks::Told {
        state: &state,
        directory: Some(&record.bundle),
        files: &files,
    };
    for error in hooks::run_all("poststop", list, told, terms) {
        log::warn!("{error}");
    }
}

/// Runs the hooks of one list in the runtime's namespaces.
fn run_list(
    list: &'static str,
    hooks: Option<&Vec<Hook>>,
    record: &Record,
    status: &str,
    pid: i32,
    terms: hooks::Terms<'_>,
) -> Result<()> {
    match hooks {
        Some(hooks) if !hooks.is_empty() => {
            let told = hooks::Told {
                state: &hook_state(record, status, Some(pid))?,
                directory: Some(&record.bundle),
                files: &hooks::OutputFiles::open(&record.annotations, &record.bundle)?,
            };
            hooks::run(list, hooks, told, terms)
        }
        _ => Ok(()),
    }
}

//! Runs in: RUNTIME. Turns the hooks that run in the container's namespaces into C strings. Pure.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use oci_spec::runtime::{Hook, Spec};

use super::c_string;
use crate::Result;

/// Hooks that INIT runs.
#[derive(Debug, Default)]
pub struct HooksPlan {
    /// `hooks.createContainer`.
    pub create_container: Vec<HookPlan>,
    /// `hooks.startContainer`.
    pub start_container: Vec<HookPlan>,
    /// Whether RUNTIME has hooks of its own to run while INIT waits.
    pub has_runtime_hooks: bool,
}

/// A hook, ready to execute.
#[derive(Debug, PartialEq, Eq)]
pub struct HookPlan {
    /// Program.
    pub path: CString,
    /// Arguments; the path if none are given.
    pub argv: Vec<CString>,
    /// Environment; `None`: inherited.
    pub envp: Option<Vec<CString>>,
    /// Milliseconds.
    pub timeout: Option<i64>,
}

impl HooksPlan {
    /// Converts.
    ///
    /// # Errors
    /// `Invalid` for a null byte.
    pub fn new(spec: &Spec) -> Result<Self> {
        let Some(hooks) = spec.hooks() else {
            return Ok(Self::default());
        };
        let any = |hooks: &Option<Vec<Hook>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
        #[allow(deprecated, reason = "prestart is deprecated, and engines still use it")]
        let prestart = hooks.prestart();
        Ok(Self {
            create_container: convert(hooks.create_container().as_ref(), "hooks.createContainer")?,
            start_container: convert(hooks.start_container().as_ref(), "hooks.startContainer")?,
            has_runtime_hooks: any(prestart) || any(hooks.create_runtime()),
        })
    }
}

fn convert(hooks: Option<&Vec<Hook>>, field: &'static str) -> Result<Vec<HookPlan>> {
    hooks
        .into_iter()
        .flatten()
        .map(|hook| convert_one(hook, field))
        .collect()
}

fn convert_one(hook: &Hook, field: &'static str) -> Result<HookPlan> {
    let path = c_string(hook.path().as_os_str().as_bytes(), field)?;
    let strings = |list: &Vec<String>| -> Result<Vec<CString>> {
        list.iter().map(|text| c_string(text.as_str(), field)).collect()
    };
    let argv = match hook.args() {
        Some(args) if !args.is_empty() => strings(args)?,
        _ => vec![path.clone()],
    };
    let envp = hook.env().as_ref().map(strings).transpose()?;
    Ok(HookPlan {
        path,
        argv,
        envp,
        timeout: hook.timeout().map(|seconds| seconds.saturating_mul(1000)),
    })
}

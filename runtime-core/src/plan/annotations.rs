//! Runs in: RUNTIME. crun's annotations (`run.oci.*`, crun(1)) that stand for a field of config.json or a
//! flag, and those that onggi does not have. Others are read where they belong. Pure.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::seccomp;
use crate::{Error, ErrorKind, Result};

const RECEIVER: &str = "run.oci.seccomp.receiver";
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
/// Without these a filter would be another than is asked for.
const REFUSED: [&str; 2] = ["run.oci.seccomp.plugins", "run.oci.seccomp_bpf_data"];
const IGNORED: [&str; 3] = [
    "run.oci.handler",
    "run.oci.systemd.force_cgroup_v1",
    "run.oci.timens_offset",
];

fn value<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    let value = spec.annotations().as_ref()?.get(name)?;
    (!value.is_empty()).then_some(value)
}

fn field(name: &str) -> String {
    format!("annotations[{name}]")
}

/// The annotations that have no effect here, to be warned about.
pub(crate) fn ignored(spec: &Spec) -> impl Iterator<Item = &'static str> {
    IGNORED.into_iter().filter(|name| value(spec, name).is_some())
}

/// A socket that gets the pidfd of init, as that of `--pidfd-socket`.
pub(crate) fn pidfd_receiver(spec: &Spec) -> Option<&Path> {
    value(spec, "run.oci.pidfd_receiver").map(Path::new)
}

/// `linux.seccomp` with what annotations say of it.
///
/// # Errors
/// `Unsupported`, or `Invalid`, with the annotation or the field.
pub(crate) fn seccomp(spec: &Spec) -> Result<Option<Cow<'_, LinuxSeccomp>>> {
    if let Some(name) = REFUSED.into_iter().find(|name| value(spec, name).is_some()) {
        return Err(Error::new(ErrorKind::Unsupported, "only crun has this").with_field(field(name)));
    }
    let Some(own) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    if value(spec, FAIL_UNKNOWN).is_some_and(|value| value != "0") {
        refuse_unknown(own)?;
    }
    let has_path = own
        .listener_path()
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty());
    match value(spec, RECEIVER) {
        Some(path) if !path.starts_with('/') => Err(Error::invalid(
            field(RECEIVER),
            format!("{path:?} is not an absolute path"),
        )),
        Some(path) if !has_path => {
            let mut seccomp = own.clone();
            seccomp.set_listener_path(Some(PathBuf::from(path)));
            Ok(Some(Cow::Owned(seccomp)))
        }
        _ => Ok(Some(Cow::Borrowed(own))),
    }
}

fn refuse_unknown(seccomp: &LinuxSeccomp) -> Result<()> {
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        if let Some(name) = rule.names().iter().find(|name| !seccomp::knows(name)) {
            let text = format!("unknown syscall {name:?}, and {FAIL_UNKNOWN} is set");
            return Err(Error::invalid(
                format!("linux.seccomp.syscalls[{index}].names"),
                text,
            ));
        }
    }
    Ok(())
}

//! Runs in: RUNTIME. Which network devices move into the container, and what they are called there. Pure.

use oci_spec::runtime::Spec;

use super::HostFacts;
use crate::spec::quoted;
use crate::{Error, ErrorKind, Result};

const CAP_NET_ADMIN: u32 = 12;

/// A device of `linux.netDevices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevicePlan {
    /// Name in the network namespace of RUNTIME.
    pub name: String,
    /// Name in the container; it may hold one `%d`, for which the kernel puts a free number.
    pub new_name: String,
}

impl NetDevicePlan {
    /// The field, for errors.
    pub fn field(&self) -> String {
        format!("linux.netDevices[{}]", quoted(&self.name))
    }
}

/// The devices by name: the document has no order, and errors are to be repeatable.
///
/// # Errors
/// `Denied` for a runtime that may not move any.
pub(crate) fn plan(spec: &Spec, facts: &HostFacts) -> Result<Vec<NetDevicePlan>> {
    let linux = spec.linux().as_ref();
    let devices = linux.and_then(|linux| linux.net_devices().as_ref());
    let mut planned: Vec<_> = devices
        .into_iter()
        .flatten()
        .map(|(name, device)| NetDevicePlan {
            name: name.clone(),
            new_name: match device.name().as_deref() {
                None | Some("") => name.clone(),
                Some(new_name) => new_name.to_owned(),
            },
        })
        .collect();
    if !planned.is_empty() && facts.permitted_capabilities & (1 << CAP_NET_ADMIN) == 0 {
        let message = "network devices cannot be moved by a rootless runtime";
        return Err(Error::invalid("linux.netDevices", message)
            .with_kind(ErrorKind::Denied)
            .with_hint("it needs CAP_NET_ADMIN"));
    }
    planned.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(devices: &str, permitted_capabilities: u64) -> Result<Vec<NetDevicePlan>> {
        let json =
            format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"linux":{{"netDevices":{devices}}}}}"#);
        let facts = HostFacts {
            permitted_capabilities,
            ..HostFacts::of_root()
        };
        plan(&crate::spec::parse(json.into_bytes()).unwrap().spec, &facts)
    }

    #[test]
    fn devices_keep_their_names_unless_they_are_given_others() {
        let planned = plan_of(r#"{"eth1":{},"eth0":{"name":"net%d"},"a":{"name":""}}"#, u64::MAX).unwrap();
        let names: Vec<_> = planned
            .iter()
            .map(|device| (device.name.as_str(), device.new_name.as_str()))
            .collect();
        assert_eq!(names, [("a", "a"), ("eth0", "net%d"), ("eth1", "eth1")]);
    }

    #[test]
    fn a_runtime_without_the_right_moves_none_and_may_have_none() {
        assert_eq!(plan_of("{}", 0).unwrap(), []);
        let error = plan_of(r#"{"eth0":{}}"#, !(1 << CAP_NET_ADMIN)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(
            error.to_string(),
            "linux.netDevices: network devices cannot be moved by a rootless runtime (it needs CAP_NET_ADMIN)"
        );
    }
}

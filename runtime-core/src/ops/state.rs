//! Runs in: RUNTIME. `state`: what a container is and does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::Runtime;
use super::container::{self, Status};
use crate::host::state::{ContainerId, Phase, Record, not_found};
use crate::{OCI_VERSION, Result};

/// The state of a container. Serialises with the keys of runc's `state`, in their order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// The version of the runtime-spec that the state follows.
    pub oci_version: String,
    /// Id.
    pub id: String,
    /// Pid of init in the caller's pid namespace; 0 if it has ended.
    pub pid: i32,
    /// Status.
    pub status: Status,
    /// Absolute path of the bundle.
    #[serde(serialize_with = "lossy")]
    pub bundle: PathBuf,
    /// Absolute path of the rootfs.
    #[serde(serialize_with = "lossy")]
    pub rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    /// Annotations of config.json.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who owns it, in lists; empty otherwise, as runc has it.
    pub owner: String,
    /// Uid of the user who owns it.
    #[serde(skip)]
    pub owner_uid: u32,
}

/// JSON has no bytes that are not text; for display that does.
fn lossy<S: Serializer>(path: &std::path::Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Runtime {
    /// The state of a container. While `create` is at work there is none yet, as with runc and crun: who asks
    /// again and again until there is one may start it then.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn state(&self, id: &ContainerId) -> Result<State> {
        let mut view = self.store.look(id)?;
        if view.record().phase == Phase::Creating {
            if view.is_worked_on()? {
                return Err(not_found(id).with_hint("it is being created"));
            }
            // It may have been created since then.
            view = self.store.look(id)?;
        }
        let status = container::status(view.record(), view.dir())?;
        Ok(State::new(view.record(), status))
    }
}

impl State {
    pub(super) fn new(record: &Record, status: Status) -> Self {
        let has_process = !matches!(status, Status::Stopped | Status::Creating);
        Self {
            oci_version: OCI_VERSION.to_owned(),
            id: record.id.clone(),
            pid: if has_process { record.pid } else { 0 },
            status,
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: String::new(),
            owner_uid: record.owner_uid,
        }
    }
}

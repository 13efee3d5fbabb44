//! Runs in: RUNTIME. sd_notify(3) from inside: the mount and the variables that `create` adds, and the socket
//! that `start` listens on.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::Runtime;
use crate::Result;
use crate::host::socket::notify_socket::{DIRECTORY, IN_CONTAINER, NAME, NotifySocket};
use crate::host::state::ContainerId;
use crate::spec::Config;

impl Runtime {
    /// Makes the socket that the container's program tells of being ready, if it was created with
    /// [`crate::CreateOptions::notify`]. To be called before `start`, once: what nobody listens to is lost.
    ///
    /// # Errors
    /// `NotFound`; EADDRINUSE if it is there already.
    pub fn notify_socket(&self, id: &ContainerId) -> Result<Option<NotifySocket>> {
        NotifySocket::bind(self.store.view(id)?.dir())
    }
}

/// Adds the mount and the variable to the container. `dir` is its state directory.
pub(super) fn add_socket(config: &mut Config, dir: &Path) {
    let mut mount = Mount::default();
    mount.set_destination(IN_CONTAINER.into());
    mount.set_source(Some(dir.join(DIRECTORY)));
    mount.set_typ(Some("bind".to_owned()));
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
    mount.set_options(Some(options.map(str::to_owned).to_vec()));
    let mut mounts = config.spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    config.spec.set_mounts(Some(mounts));
    add_variable(config, "NOTIFY_SOCKET", &format!("{IN_CONTAINER}/{NAME}"));
}

/// Adds what the service manager says to the program's environment; it wins over what config.json has of that
/// name.
pub(super) fn add_variable(config: &mut Config, name: &str, value: &str) {
    if let Some(process) = config.spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("{name}={value}"));
        process.set_env(Some(env));
    }
}

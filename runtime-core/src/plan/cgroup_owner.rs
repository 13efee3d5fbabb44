//! Runs in: RUNTIME. Decides whether the container gets its cgroup, and who in it. Pure.

use runtime_sys::mount::ATTR_RDONLY;
use runtime_sys::namespace::Kinds;

use super::Plan;
use super::mounts::MountSource;
use super::namespaces::UserNamespace;

impl Plan {
    /// The host's uid to give the cgroup to (runtime-spec, config-linux, Cgroup ownership): that of
    /// `process.user`, if the container has a new cgroup namespace and a cgroup mount that can be written to.
    /// `None` also where the uid is not mapped, or only the kernel knows the mapping (a user namespace given
    /// by path), as with runc; and for the host's root, who has the cgroup already.
    pub fn cgroup_owner(&self) -> Option<u32> {
        let namespaces = &self.namespaces;
        let is_writable = |source: &MountSource| match source {
            MountSource::Cgroup(mount) => mount.attributes & ATTR_RDONLY == 0,
            _ => false,
        };
        if !namespaces.has_own_cgroups
            || namespaces.joins(Kinds::CGROUP)
            || !self.mounts.iter().any(|mount| is_writable(&mount.source))
        {
            return None;
        }
        let uid = match &namespaces.user {
            UserNamespace::Host => self.process.uid,
            UserNamespace::Joined => return None,
            UserNamespace::New { uids, .. } => uids.iter().find_map(|range| {
                let offset = self.process.uid.checked_sub(range.container_id())?;
                (offset < range.size())
                    .then(|| range.host_id().checked_add(offset))
                    .flatten()
            })?,
        };
        (uid != 0).then_some(uid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::plan::{CallerOptions, HostFacts, Plan};

    fn owner(change: impl FnOnce(&mut Value)) -> Option<u32> {
        let mut config: Value = serde_json::from_str(&crate::spec::example(None)).unwrap();
        config["process"]["user"]["uid"] = json!(7);
        config["process"]["terminal"] = json!(false);
        config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}]);
        config["mounts"] = json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}]);
        change(&mut config);
        let config = crate::spec::parse(config.to_string().into_bytes()).unwrap();
        Plan::new(&config, "c", &HostFacts::of_root(), CallerOptions::default())
            .unwrap()
            .cgroup_owner()
    }

    #[test]
    fn the_cgroup_is_for_the_user_who_can_write_to_it() {
        assert_eq!(owner(|_| {}), Some(7));
        assert_eq!(owner(|config| config["process"]["user"]["uid"] = json!(0)), None);
        assert_eq!(
            owner(|config| config["mounts"][0]["options"] = json!(["ro"])),
            None
        );
        assert_eq!(owner(|config| config["mounts"] = json!([])), None);
        let shared = json!([{"type": "mount"}, {"type": "pid"}]);
        assert_eq!(owner(|config| config["linux"]["namespaces"] = shared), None);
        let joined = json!([{"type": "mount"}, {"type": "cgroup", "path": "/proc/1/ns/cgroup"}]);
        assert_eq!(owner(|config| config["linux"]["namespaces"] = joined), None);
    }

    #[test]
    fn in_a_user_namespace_it_is_the_mapped_id() {
        let mapped = |uid: u32| {
            owner(|config| {
                let mappings = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
                config["process"]["user"]["uid"] = json!(uid);
                config["linux"]["namespaces"] =
                    json!([{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}, {"type": "user"}]);
                config["linux"]["uidMappings"] = mappings.clone();
                config["linux"]["gidMappings"] = mappings;
            })
        };
        assert_eq!([mapped(0), mapped(9), mapped(10)], [Some(1000), Some(1009), None]);
    }
}

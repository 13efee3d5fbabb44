//! Runs in: RUNTIME. Decides who makes or joins which namespace. Pure.
//!
//! The kernel's rules behind the decisions (namespaces(7), user_namespaces(7), pid_namespaces(7),
//! time_namespaces(7)): a namespace belongs to the user namespace of whoever makes it; a pid or time
//! namespace takes effect for children; the offsets of a time namespace freeze when the first process is in
//! it.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, Spec};
use runtime_sys::namespace::Kinds;

use crate::spec::namespace_kind::NamespaceKind;
use crate::{Error, Result};

/// Namespaces of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacesPlan {
    /// What the first child of RUNTIME is born in.
    pub birth: Kinds,
    /// What INIT makes itself.
    pub unshare: Kinds,
    /// Namespaces that the child joins.
    pub join: Vec<Join>,
    /// Whether the child makes the user namespace itself, after it has joined what its rights before allow.
    pub unshares_user: bool,
    /// The user namespace.
    pub user: UserNamespace,
    /// Whether the network namespace is new, so that its loopback device is down.
    pub loopback: bool,
    /// Where INIT must be made by an intermediate process.
    pub intermediate: Option<Intermediate>,
    /// A mount namespace that is not the host's.
    pub has_own_mounts: bool,
    /// A cgroup namespace that is not the host's.
    pub has_own_cgroups: bool,
    /// A network namespace that is not the host's.
    pub has_own_network: bool,
}

/// A namespace given by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Place in `linux.namespaces`.
    pub index: u16,
    /// Its kind.
    pub kind: NamespaceKind,
    /// The namespace file.
    pub path: PathBuf,
}

/// The container's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserNamespace {
    /// RUNTIME's own.
    #[default]
    Host,
    /// A new one, with these mappings.
    New {
        /// `linux.uidMappings`.
        uids: Vec<LinuxIdMapping>,
        /// `linux.gidMappings`.
        gids: Vec<LinuxIdMapping>,
    },
    /// Given by path: an element of `join`.
    Joined,
}

/// What the intermediate process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intermediate {
    /// A time namespace, or nothing.
    pub unshare: Kinds,
    /// Bytes for /proc/self/timens_offsets.
    pub time_offsets: Vec<u8>,
    /// A pid namespace, or nothing.
    pub clone: Kinds,
    /// Place of the pid namespace in `linux.namespaces`.
    pub index: u16,
    /// Whether INIT is made last, when everything is set up: others in its pid namespace see it then as what
    /// it is to be.
    pub last: bool,
}

impl NamespacesPlan {
    /// Decides.
    ///
    /// # Errors
    /// None today; the document has been validated.
    pub fn new(spec: &Spec) -> Result<Self> {
        let mut plan = Self::default();
        let Some(linux) = spec.linux() else {
            return Ok(plan);
        };
        let mut new = Kinds::NONE;
        let mut pid_index = 0;
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let kind = NamespaceKind::of(namespace.typ());
            if kind.flag == Kinds::PID {
                pid_index = index as u16;
            }
            plan.note_kind(kind.flag);
            match namespace.path() {
                Some(path) => plan.join(Join {
                    index: index as u16,
                    kind,
                    path: path.clone(),
                }),
                None => new = new.with(kind.flag),
            }
        }
        plan.join.sort_by_key(|join| join.kind.join_order());
        if new.has(Kinds::USER) {
            plan.user = UserNamespace::New {
                uids: linux.uid_mappings().clone().unwrap_or_default(),
                gids: linux.gid_mappings().clone().unwrap_or_default(),
            };
        }
        plan.loopback = new.has(Kinds::NETWORK);
        plan.divide(new, time_offsets(spec), pid_index);
        Ok(plan)
    }

    /// Whether INIT is made when everything is set up.
    pub fn init_is_made_last(&self) -> bool {
        self.intermediate
            .as_ref()
            .is_some_and(|intermediate| intermediate.last)
    }

    /// Whether the container's namespace of this kind is given by path.
    pub fn joins(&self, kind: Kinds) -> bool {
        self.place_of_joined(kind).is_some()
    }

    /// The place in `join` of the namespace of this kind.
    pub fn place_of_joined(&self, kind: Kinds) -> Option<usize> {
        self.join.iter().position(|join| join.kind.flag == kind)
    }

    /// Whether the container's user namespace is not RUNTIME's.
    pub fn is_user_namespaced(&self) -> bool {
        self.user != UserNamespace::Host
    }

    /// Whether config.json has a namespace of this kind: if not, the container has RUNTIME's.
    pub fn has(&self, kind: Kinds) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// Whether the container makes a namespace of this kind, rather than join one or keep RUNTIME's.
    pub fn makes(&self, kind: Kinds) -> bool {
        let by_intermediate = self.intermediate.as_ref();
        self.birth.has(kind)
            || self.unshare.has(kind)
            || by_intermediate.is_some_and(|made| made.clone.with(made.unshare).has(kind))
            || self.unshares_user && kind == Kinds::USER
    }

    fn note_kind(&mut self, kind: Kinds) {
        match kind {
            Kinds::MOUNT => self.has_own_mounts = true,
            Kinds::CGROUP => self.has_own_cgroups = true,
            Kinds::NETWORK => self.has_own_network = true,
            _ => {}
        }
    }

    fn join(&mut self, join: Join) {
        if join.kind.flag == Kinds::USER {
            self.user = UserNamespace::Joined;
        }
        self.join.push(join);
    }

    /// Divides the new namespaces among the clone, the intermediate process and init.
    fn divide(&mut self, new: Kinds, time_offsets: Vec<u8>, pid_index: u16) {
        let of_children = Kinds::PID.with(Kinds::TIME);
        let joins_user = self.user == UserNamespace::Joined;
        // What is given by path may belong to another user namespace, and is joined with RUNTIME's rights,
        // before those are given up in the new one.
        self.unshares_user = new.has(Kinds::USER) && !self.join.is_empty();
        // They must belong to the user namespace, which RUNTIME is not in.
        let pid_after_user = (joins_user || self.unshares_user) && new.has(of_children);
        let last = self.joins(Kinds::PID);
        let needs_intermediate = pid_after_user || !time_offsets.is_empty() || last;
        let at_birth = match (self.unshares_user, needs_intermediate) {
            (true, _) => Kinds::NONE,
            (false, true) => Kinds::USER,
            (false, false) => Kinds::USER.with(of_children),
        };
        self.birth = new.only(at_birth);
        // Everything else belongs to the user namespace too, and is made by its root: with one clone3 of all,
        // /dev/mqueue would belong to nobody (measured on 6.18).
        self.unshare = new.without(Kinds::USER.with(of_children));
        if needs_intermediate {
            self.intermediate = Some(Intermediate {
                unshare: new.only(Kinds::TIME),
                time_offsets,
                clone: new.only(Kinds::PID),
                index: pid_index,
                last,
            });
        }
    }
}

/// The lines of timens_offsets: "monotonic 12 5\n". Empty if there are none.
fn time_offsets(spec: &Spec) -> Vec<u8> {
    let offsets = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.time_offsets().as_ref());
    let mut lines = Vec::new();
    for (clock, offset) in offsets.into_iter().flatten() {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        lines.push(format!("{clock} {seconds} {nanoseconds}\n"));
    }
    lines.sort_unstable();
    lines.concat().into_bytes()
}

/// The field of a namespace, for errors.
pub(crate) fn field(index: u16) -> String {
    format!("linux.namespaces[{index}].path")
}

/// An error about a namespace given by path.
pub(crate) fn not_that_kind(join: &Join) -> Error {
    Error::invalid(field(join.index), "not a namespace of that type").with_path(&join.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    fn plan(linux: &str) -> NamespacesPlan {
        let json = format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"linux":{linux}}}"#);
        NamespacesPlan::new(&spec::parse(json.into_bytes()).unwrap().spec).unwrap()
    }

    #[test]
    fn new_user_and_pid_namespaces_are_there_from_birth_the_rest_is_made_by_mapped_root() {
        let plan =
            plan(r#"{"namespaces":[{"type":"ipc"},{"type":"user"},{"type":"pid"},{"type":"network"}]}"#);
        assert_eq!(plan.birth, Kinds::USER.with(Kinds::PID));
        assert_eq!(plan.unshare, Kinds::IPC.with(Kinds::NETWORK));
        assert!(plan.loopback && plan.intermediate.is_none() && plan.is_user_namespaced());
    }

    #[test]
    fn a_new_pid_namespace_in_a_joined_user_namespace_takes_an_intermediate_process() {
        let plan = plan(
            r#"{"namespaces":[{"type":"pid"},{"type":"network","path":"/n"},{"type":"user","path":"/u"}]}"#,
        );
        assert_eq!(plan.birth, Kinds::NONE);
        assert_eq!(plan.user, UserNamespace::Joined);
        let kinds: Vec<_> = plan.join.iter().map(|join| join.kind.flag).collect();
        assert_eq!(kinds, [Kinds::USER, Kinds::NETWORK], "the user namespace first");
        assert!(!plan.unshares_user);
        let intermediate = plan.intermediate.unwrap();
        assert_eq!(
            (intermediate.clone, intermediate.unshare, intermediate.index),
            (Kinds::PID, Kinds::NONE, 0)
        );
        assert!(!plan.loopback, "a joined network namespace is somebody else's");
    }

    #[test]
    fn time_offsets_take_an_intermediate_process_time_alone_does_not() {
        let with = plan(
            r#"{"namespaces":[{"type":"time"},{"type":"pid"}],"timeOffsets":{"monotonic":{"secs":-5},"boottime":{"nanosecs":7}}}"#,
        );
        let intermediate = with.intermediate.unwrap();
        assert_eq!(intermediate.time_offsets, b"boottime 0 7\nmonotonic -5 0\n");
        assert_eq!(
            (intermediate.clone, intermediate.unshare),
            (Kinds::PID, Kinds::TIME)
        );
        assert_eq!(with.birth, Kinds::NONE);
        let without = plan(r#"{"namespaces":[{"type":"time"},{"type":"pid"}]}"#);
        assert_eq!(
            (without.birth, without.intermediate),
            (Kinds::PID.with(Kinds::TIME), None)
        );
    }

    #[test]
    fn with_a_pid_namespace_by_path_init_is_made_last() {
        let plan = plan(r#"{"namespaces":[{"type":"mount"},{"type":"pid","path":"/p"}]}"#);
        assert_eq!((plan.birth, plan.unshares_user), (Kinds::NONE, false));
        assert_eq!(plan.join[0].path, PathBuf::from("/p"));
        assert!(plan.joins(Kinds::PID) && !plan.makes(Kinds::PID));
        let intermediate = plan.intermediate.unwrap();
        assert_eq!(
            (intermediate.clone, intermediate.unshare),
            (Kinds::NONE, Kinds::NONE)
        );
        assert_eq!((intermediate.index, intermediate.last), (1, true));
    }

    #[test]
    fn a_new_user_namespace_comes_after_what_is_joined() {
        let plan = plan(
            r#"{"namespaces":[{"type":"user"},{"type":"network","path":"/n"},{"type":"pid"},{"type":"ipc"}]}"#,
        );
        assert_eq!((plan.birth, plan.unshares_user), (Kinds::NONE, true));
        assert!(plan.makes(Kinds::USER) && plan.is_user_namespaced());
        let intermediate = plan.intermediate.unwrap();
        assert_eq!((intermediate.clone, intermediate.last), (Kinds::PID, false));
    }

    #[test]
    fn no_namespaces_is_the_host() {
        let plan = plan("{}");
        assert_eq!(plan, NamespacesPlan::default());
    }
}

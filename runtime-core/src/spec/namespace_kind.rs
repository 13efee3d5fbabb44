//! Runs in: RUNTIME. The kinds of namespaces: the one table of their flags and names. Pure.

use oci_spec::runtime::LinuxNamespaceType as Type;
use runtime_sys::namespace::Kinds;

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceKind {
    /// As the kernel has it.
    pub flag: Kinds,
    /// The `type` in `linux.namespaces`, and in `features`.
    pub name: &'static str,
    /// The file in /proc/PID/ns, and criu's name.
    pub file: &'static str,
}

impl NamespaceKind {
    /// All kinds, in the order in which the child joins them: the user namespace first, which it keeps for
    /// when it has tried the others; the mount namespace late, since after it the host's paths are gone.
    pub const ALL: [Self; 8] = [
        Self::of(Type::User),
        Self::of(Type::Pid),
        Self::of(Type::Ipc),
        Self::of(Type::Uts),
        Self::of(Type::Network),
        Self::of(Type::Mount),
        Self::of(Type::Cgroup),
        Self::of(Type::Time),
    ];

    /// That of config.json's type.
    pub const fn of(typ: Type) -> Self {
        let (flag, name, file) = match typ {
            Type::User => (Kinds::USER, "user", "user"),
            Type::Pid => (Kinds::PID, "pid", "pid"),
            Type::Ipc => (Kinds::IPC, "ipc", "ipc"),
            Type::Uts => (Kinds::UTS, "uts", "uts"),
            Type::Network => (Kinds::NETWORK, "network", "net"),
            Type::Mount => (Kinds::MOUNT, "mount", "mnt"),
            Type::Cgroup => (Kinds::CGROUP, "cgroup", "cgroup"),
            Type::Time => (Kinds::TIME, "time", "time"),
        };
        Self { flag, name, file }
    }

    /// The place in [`Self::ALL`].
    pub fn join_order(self) -> usize {
        Self::ALL.iter().take_while(|kind| **kind != self).count()
    }
}

/// The words of config.json.
pub(super) const NAMES: [&str; NamespaceKind::ALL.len()] = {
    let mut names = [""; NamespaceKind::ALL.len()];
    let mut place = 0;
    while place < names.len() {
        names[place] = NamespaceKind::ALL[place].name;
        place += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_there_once_under_the_name_that_config_json_has() {
        let mut all = Kinds::NONE;
        for kind in NamespaceKind::ALL {
            assert!(!all.has(kind.flag), "{kind:?}");
            all = all.with(kind.flag);
            let typ: Type = serde_json::from_value(kind.name.into()).unwrap();
            assert_eq!(
                (typ as u32, typ.to_string().as_str()),
                (kind.flag.bits(), kind.file)
            );
            assert_eq!(NamespaceKind::of(typ), kind);
        }
    }
}

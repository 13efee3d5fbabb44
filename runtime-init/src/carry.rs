//! Runs in: every child, first of all. What of its arguments a child takes along from the host program's
//! memory: all of it. A new field that is missing here does not compile.

use crate::args::*;
use runtime_sys::Result;
use runtime_sys::memory::{Carry, CarryAll, Room};

/// Structs, field by field.
macro_rules! carried {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Carry for $name<'_> {
            type Carried = $name<'static>;

            fn carry(&self, room: &Room) -> Result<Self::Carried> {
                Ok($name { $($field: self.$field.carry(room)?),* })
            }
        }

        impl CarryAll for $name<'_> {}
    )*};
}

/// Values without references.
macro_rules! plain {
    ($($name:ident)*) => {$(
        impl Carry for $name {
            type Carried = Self;

            fn carry(&self, _room: &Room) -> Result<Self> {
                Ok(*self)
            }
        }
    )*};
}

plain! { EnterRoot Links CapabilityArgs }

carried! {
    InitArgs {
        link, keep, unprivileged, namespaces, intermediate, has_its_cgroup, locked_trees, net_devices, keyring, hostname, domainname, procfs,
        rootfs, mounts, devices, device_links, runtime_hooks, hooks, sysctl, readonly_paths, masked, process, gate,
    }
    NamespaceArgs { join, new_user, become_root, unshare, loopback }
    JoinArgs { index, fd, kind }
    IntermediateArgs { unshare, time_offsets, clone, index, last }
    ContextArgs { fd, must_show }
    ProcfsArgs { link, keep, user, pids }
    RootfsArgs { path, tree, host_propagation, final_propagation, readonly, readonly_mounts, enter }
    TargetArgs { path, is_directory, links, may_be_on_procfs }
    MountArgs { index, target, what, attributes, places_below }
    NewArgs { fstype, options, attributes, copy_up, mode_of_place, root_label, context, fallback }
    ClassicArgs { source, fstype, flags, data, mode_of_place }
    DeviceArgs { directory, name, file_type, mode, device, uid, gid, host_node, instead }
    LinkArgs { target, name, replace }
    MaskArgs { paths, null, label }
    SysctlArgs { path, value }
    HookArgs { create_container, start_container, creating_state, created_state, open_files, stdout, stderr }
    HostHookArgs { path, argv, envp, stdio, directory, own_group, open_files, failure }
    Hook { path, argv, envp, inherit, timeout }
    ProcessArgs {
        console, scheduler, io_priority, personality, memory_policy, apparmor, selinux, cwd, rlimits, late_rlimits, credentials,
        no_new_privileges, candidates, found, argv, envp, home, listen_pid, seccomp, inherited, placed,
    }
    ConsoleArgs { socket, size, plain_newlines, dev_console }
    CredentialArgs { uid, gid, groups, umask, capabilities }
    SeccompArgs { program, flags, notifies, dumpable }
    TreesArgs { link, keep, namespaces, sources, label }
    TreeSource { path, identity, recursive, attributes, node }
    NodeArgs { name, file_type, mode, device, uid, gid }
    InsideArgs { path, recursive, keeps_link, copies_link, must_be_procfs, is_mapped }
    MounterArgs { link, keep, namespaces, become_root, root, work }
    KeyringArgs { name, maker }
    RootArgs { known, instead }
    RemovalArgs { index, directory, name }
    HolderArgs { link, keep, user }
    CriuArgs { link, keep, inherit, socket, directories, placed, keyring, root, program, argv, envp }
    CriuDirectory { fd, path, identity }
    CriuRootArgs { place, rootfs, draft, mounts }
    CriuMountArgs { index, target, link, tree }
    JoinProcessArgs {
        link, keep, unprivileged, namespaces, joins_pids, become_root, root, keyring, procfs, process,
    }
    NamespaceHolderArgs { link }
    SweeperArgs { link, cgroup }
}

impl Carry for MountWhat<'_> {
    type Carried = MountWhat<'static>;

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok(match self {
            Self::Tree(tree) => MountWhat::Tree(tree.carry(room)?),
            Self::HostTree(tree) => MountWhat::HostTree(tree.carry(room)?),
            Self::Inside(source) => MountWhat::Inside(source.carry(room)?),
            Self::Link(link) => MountWhat::Link(link.carry(room)?),
            Self::New(new) => MountWhat::New(new.carry(room)?),
            Self::Classic(classic) => MountWhat::Classic(classic.carry(room)?),
            Self::Remount(options) => MountWhat::Remount(options.carry(room)?),
        })
    }
}

impl Carry for MounterWork<'_> {
    type Carried = MounterWork<'static>;

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok(match self {
            Self::Add(mounts) => MounterWork::Add(mounts.carry(room)?),
            Self::Remove(removals) => MounterWork::Remove(removals.carry(room)?),
        })
    }
}

impl Carry for Gate<'_> {
    type Carried = Gate<'static>;

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok(match self {
            Self::Link => Gate::Link,
            Self::Socket(listener) => Gate::Socket(listener.carry(room)?),
        })
    }
}

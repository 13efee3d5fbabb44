//! The steps of init, in the order in which `init.rs` takes them. `join.rs` takes a subset in the same order.

macro_rules! steps {
    ($($(#[doc = $doc:literal])+ $name:ident),* $(,)?) => {
        /// A step of the child. One line of `init.rs`, one golden message in
        /// `runtime-core/src/parent/explain.rs`, one line of `docs/design.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Step { $($(#[doc = $doc])+ $name),* }

        impl Step {
            /// All steps, in order.
            pub const ALL: &[Step] = &[$(Step::$name),*];

            /// The name of the variant.
            pub const fn name(self) -> &'static str {
                match self { $(Step::$name => stringify!($name)),* }
            }
        }
    };
}

steps! {
    /// Descriptors of the host program are closed, signals set to their defaults.
    Detach,
    /// Waits until RUNTIME has written the id mappings and what else must be there first.
    AwaitGo,
    /// Joins the namespaces given by path; index: `linux.namespaces`.
    JoinNamespace,
    /// Becomes root in the container's user namespace.
    BecomeRoot,
    /// INTERMEDIATE only: writes the offsets of the new time namespace.
    TimeOffsets,
    /// INTERMEDIATE only: makes the process that becomes init.
    CloneInit,
    /// Makes the rest of the new namespaces.
    Unshare,
    /// In a user namespace: takes the host's trees as they are locked there; index: the plan's list of trees.
    LockedTree,
    /// Leads a new session.
    Session,
    /// Joins a new session keyring.
    Keyring,
    /// Brings the loopback device up.
    Loopback,
    /// RUNTIME moves network devices in.
    NetDevices,
    /// Sets the host name.
    Hostname,
    /// Sets the domain name.
    Domainname,
    /// Cuts the propagation of the mounts inherited from the host.
    HostPropagation,
    /// Mounts the rootfs tree at its place.
    AttachRootfs,
    /// Finds and copies the source of a bind mount that lies inside the rootfs; index: `mounts`.
    MountSource,
    /// Finds or makes the place of a mount; index: `mounts`.
    MountTarget,
    /// Makes a file system; index: `mounts`, sub-index: the option.
    MountFilesystem,
    /// Copies what lay below a tmpfs into it; index: `mounts`.
    MountCopyUp,
    /// Mounts it; index: `mounts`.
    MountAttach,
    /// Makes the device nodes; index: the plan's device list.
    Device,
    /// Makes the links in /dev; index: the plan's list of links.
    DeviceLink,
    /// RUNTIME runs the prestart and createRuntime hooks.
    RuntimeHooks,
    /// Runs a createContainer hook; index: the hook.
    CreateContainerHook,
    /// Makes the rootfs the root.
    Pivot,
    /// Makes the working directory.
    CreateCwd,
    /// Sets up the terminal.
    Console,
    /// Gives standard input, output and error to the container's user.
    Stdio,
    /// Makes the rootfs read-only.
    ReadonlyRootfs,
    /// Writes a kernel parameter; index: the plan's list.
    Sysctl,
    /// Makes a path read-only; index: `linux.readonlyPaths`.
    ReadonlyPath,
    /// Hides a path; index: `linux.maskedPaths`.
    MaskedPath,
    /// Gives the new root its final propagation.
    RootPropagation,
    /// Sets the scheduling policy.
    Scheduler,
    /// Sets the I/O priority.
    IoPriority,
    /// Sets the execution domain.
    Personality,
    /// Sets the NUMA memory policy.
    MemoryPolicy,
    /// Writes the AppArmor label for the next execve.
    Apparmor,
    /// Writes the SELinux label for the next execve.
    Selinux,
    /// Looks HOME up in the container's /etc/passwd.
    Home,
    /// Enters the working directory.
    Cwd,
    /// Sets a resource limit; index: `process.rlimits`.
    Rlimit,
    /// Sets the supplementary groups.
    Groups,
    /// Sets the user and group.
    User,
    /// Sets the capabilities.
    Capabilities,
    /// Sets no_new_privs.
    NoNewPrivileges,
    /// Finds the program.
    FindProgram,
    /// Says Ready, then waits for `start`.
    AwaitStart,
    /// Loads the seccomp filter; without no_new_privs already at `Capabilities`.
    Seccomp,
    /// Runs a startContainer hook; index: the hook.
    StartContainerHook,
    /// Executes the program.
    Exec,
}

impl Step {
    /// The step with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn numbers_are_places_in_the_list() {
        for (place, step) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, place);
            assert_eq!(Step::from_number(place as u8), Some(*step));
        }
        assert_eq!(Step::from_number(Step::ALL.len() as u8), None);
    }
}

//! Runs in: RUNTIME. Lends the child what Plan and Prepared hold: borrowed views in arrays that live in this
//! frame, and so, in the child's copy of it, for ever.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::raw::c_char;
use std::ptr::null;

use runtime_init::args as init;
use runtime_sys::process::ExecVector;

use crate::plan::devices::DeviceLink;
use crate::plan::hooks::HookPlan;
use crate::plan::keyring::KeyringPlan;
use crate::plan::mount_label::MountLabel;
use crate::plan::mounts::{FsOption, MountPlan, MountSource, SourceLink};
use crate::plan::process::{ProcessPlan, Rlimit};
use crate::plan::seccomp::SeccompPlan;
use crate::plan::{Plan, Sysctl};
use crate::prepare::{HostTree, Prepared, PreparedMount, Use};

/// Room for "HOME=" and a path of passwd(5); for "LISTEN_PID=" and a number.
const HOME_ROOM: usize = 1100;
const LISTEN_PID_ROOM: usize = 32;
/// Entries that the child may add to the environment, and the null at the end.
const SPARE: usize = 3;

pub(crate) type OptionView<'a> = (&'a CStr, Option<&'a CStr>);

/// Arrays of pointers that INIT fills: the vectors of its program and of its hooks.
pub(crate) struct InitVectors<'a> {
    create_container: HookVectors,
    start_container: HookVectors,
    process: ProcessVectors<'a>,
}

impl<'a> InitVectors<'a> {
    pub(crate) fn new(plan: &'a Plan, prepared: &Prepared) -> Self {
        Self {
            create_container: HookVectors::new(&plan.hooks.create_container, &prepared.inherited_environment),
            start_container: HookVectors::new(&plan.hooks.start_container, &[]),
            process: ProcessVectors::new(&plan.process),
        }
    }
}

/// Arrays of what INIT is lent.
pub(crate) struct InitViews<'a> {
    plan: &'a Plan,
    prepared: &'a Prepared,
    link: BorrowedFd<'a>,
    keep: Vec<RawFd>,
    join: Vec<init::JoinArgs<'a>>,
    locked_trees: Vec<BorrowedFd<'a>>,
    mounts: Vec<init::MountArgs<'a>>,
    readonly_mounts: Vec<(u16, &'a CStr)>,
    devices: Vec<init::DeviceArgs<'a>>,
    links: Vec<init::LinkArgs<'a>>,
    sysctl: Vec<init::SysctlArgs<'a>>,
    readonly_paths: Vec<&'a CStr>,
    masked_paths: Vec<&'a CStr>,
    mask_label: Option<FsOption>,
    create_container: Vec<init::Hook<'a>>,
    start_container: Vec<init::Hook<'a>>,
    process: &'a mut ProcessVectors<'a>,
}

impl<'a> InitViews<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        prepared: &'a Prepared,
        link: &'a OwnedFd,
        options: &'a [Vec<OptionView<'a>>],
        vectors: &'a mut InitVectors<'a>,
    ) -> Self {
        let readonly_late = plan.mounts.iter().filter(|mount| mount.readonly_late);
        let of_hooks = &prepared.inherited_environment;
        Self {
            plan,
            prepared,
            link: link.as_fd(),
            keep: prepared.kept_by_child(link, &plan.process),
            join: join_views(plan, prepared),
            locked_trees: prepared
                .to_lock
                .iter()
                .filter_map(|tree| fd_of(prepared, tree))
                .collect(),
            mounts: mount_views(plan, &prepared.mounts, options),
            readonly_mounts: readonly_late
                .map(|mount| (mount.index, mount.target.as_c_str()))
                .collect(),
            devices: device_views(plan, prepared),
            links: plan.devices.links.iter().map(link_view).collect(),
            sysctl: plan.sysctl.iter().map(sysctl_view).collect(),
            readonly_paths: c_strs(&plan.rootfs.readonly_paths),
            masked_paths: c_strs(&plan.rootfs.masked_paths),
            mask_label: plan.mount_label.as_ref().map(MountLabel::option),
            create_container: vectors
                .create_container
                .hooks(&plan.hooks.create_container, of_hooks),
            start_container: vectors.start_container.hooks(&plan.hooks.start_container, &[]),
            process: &mut vectors.process,
        }
    }

    /// The arguments of INIT. `has_its_cgroup`: it is born in it.
    pub(crate) fn args(&'a mut self, has_its_cgroup: bool) -> init::InitArgs<'a> {
        let (plan, prepared) = (self.plan, self.prepared);
        let [creating, created] = &prepared.hook_states;
        let console = prepared
            .console
            .as_ref()
            .map(|socket| console_view(&plan.process, socket.as_fd(), true));
        init::InitArgs {
            link: self.link,
            keep: &self.keep,
            unprivileged: plan.unprivileged,
            namespaces: namespaces_view(plan, &self.join),
            intermediate: intermediate_view(plan),
            has_its_cgroup,
            locked_trees: &self.locked_trees,
            net_devices: !plan.net_devices.is_empty(),
            keyring: plan.keyring.as_ref().map(keyring_view),
            hostname: plan.hostname.as_deref(),
            domainname: plan.domainname.as_deref(),
            procfs: prepared.procfs.as_ref().map(AsFd::as_fd),
            rootfs: rootfs_view(plan, prepared, &self.readonly_mounts),
            mounts: &self.mounts,
            devices: &self.devices,
            device_links: &self.links,
            runtime_hooks: plan.hooks.has_runtime_hooks,
            hooks: init::HookArgs {
                create_container: &mut self.create_container,
                start_container: &mut self.start_container,
                creating_state: (&creating.0, &creating.1),
                created_state: (&created.0, &created.1),
                open_files: plan.process.hook_files,
                stdout: prepared.hook_files.stdout.as_ref().map(AsFd::as_fd),
                stderr: prepared.hook_files.stderr.as_ref().map(AsFd::as_fd),
            },
            sysctl: &self.sysctl,
            readonly_paths: &self.readonly_paths,
            masked: init::MaskArgs {
                paths: &self.masked_paths,
                null: prepared.null.as_ref().map(AsFd::as_fd),
                label: self.mask_label.as_ref().map(option_view),
            },
            process: init::ProcessArgs {
                // A process that makes INIT last would lose it, or not be able to (`set_scheduler`).
                scheduler: plan
                    .process
                    .scheduler
                    .filter(|_| !plan.namespaces.init_is_made_last()),
                ..self.process.args(&plan.process, plan.seccomp.as_ref(), console)
            },
            gate: match &prepared.gate {
                Some(listener) => init::Gate::Socket(listener.as_fd()),
                None => init::Gate::Link,
            },
        }
    }
}

fn join_views<'a>(plan: &Plan, prepared: &'a Prepared) -> Vec<init::JoinArgs<'a>> {
    let joins = plan.namespaces.join.iter().zip(&prepared.joins);
    joins
        .map(|(join, fd)| init::JoinArgs {
            index: join.index,
            fd: fd.as_fd(),
            kind: join.kind.flag,
        })
        .collect()
}

fn namespaces_view<'a>(plan: &Plan, join: &'a [init::JoinArgs<'a>]) -> init::NamespaceArgs<'a> {
    init::NamespaceArgs {
        join,
        new_user: plan.namespaces.unshares_user,
        become_root: plan.namespaces.is_user_namespaced(),
        unshare: plan.namespaces.unshare,
        loopback: plan.namespaces.loopback,
    }
}

fn intermediate_view(plan: &Plan) -> Option<init::IntermediateArgs<'_>> {
    let intermediate = plan.namespaces.intermediate.as_ref()?;
    Some(init::IntermediateArgs {
        unshare: intermediate.unshare,
        time_offsets: &intermediate.time_offsets,
        clone: intermediate.clone,
        index: intermediate.index,
        last: intermediate.last,
    })
}

fn rootfs_view<'a>(
    plan: &Plan,
    prepared: &'a Prepared,
    readonly_mounts: &'a [(u16, &'a CStr)],
) -> init::RootfsArgs<'a> {
    init::RootfsArgs {
        path: &prepared.rootfs_path,
        tree: prepared.rootfs.as_fd(),
        host_propagation: plan.rootfs.host_propagation,
        final_propagation: plan.rootfs.final_propagation,
        readonly: plan.rootfs.readonly,
        readonly_mounts,
        enter: plan.rootfs.enter,
    }
}

fn device_views<'a>(plan: &'a Plan, prepared: &'a Prepared) -> Vec<init::DeviceArgs<'a>> {
    let nodes = plan.devices.nodes.iter().zip(&prepared.device_nodes);
    nodes
        .map(|(node, host_node)| init::DeviceArgs {
            directory: &node.directory,
            name: &node.name,
            file_type: node.file_type,
            mode: node.mode,
            device: node.device,
            uid: node.uid,
            gid: node.gid,
            host_node: host_node.as_ref().map(AsFd::as_fd),
            instead: node.instead.as_deref(),
        })
        .collect()
}

fn link_view(link: &DeviceLink) -> init::LinkArgs<'_> {
    init::LinkArgs {
        target: link.target,
        name: link.name,
        replace: link.replace,
    }
}

fn sysctl_view(sysctl: &Sysctl) -> init::SysctlArgs<'_> {
    init::SysctlArgs {
        path: &sysctl.path,
        value: &sysctl.value,
    }
}

fn option_view((key, value): &FsOption) -> OptionView<'_> {
    (key.as_c_str(), value.as_deref())
}

/// The descriptor that INIT exchanges for a locked tree.
pub(super) fn fd_of<'a>(prepared: &'a Prepared, tree: &HostTree) -> Option<BorrowedFd<'a>> {
    let held = match tree.used_for {
        Use::Rootfs => Some(&prepared.rootfs),
        Use::Mount(place) => prepared.mounts.get(place)?.tree.as_ref(),
        Use::Device(place) => prepared.device_nodes.get(place)?.as_ref(),
        Use::Mask => prepared.null.as_ref(),
    };
    held.map(AsFd::as_fd)
}

fn c_strs(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}

/// The options of all mounts.
pub(crate) fn all_option_views(plan: &Plan) -> Vec<Vec<OptionView<'_>>> {
    plan.mounts.iter().map(option_views).collect()
}

/// All mounts, with what RUNTIME holds for them.
pub(super) fn mount_views<'a>(
    plan: &'a Plan,
    prepared: &'a [PreparedMount],
    options: &'a [Vec<OptionView<'a>>],
) -> Vec<init::MountArgs<'a>> {
    plan.mounts
        .iter()
        .zip(prepared)
        .zip(options)
        .map(|((mount, prepared), options)| mount_view(plan, mount, prepared, options))
        .collect()
}

fn option_views(mount: &MountPlan) -> Vec<OptionView<'_>> {
    let options: &[FsOption] = match &mount.source {
        MountSource::New(new) | MountSource::Cgroup(new) => &new.options,
        MountSource::Remount { options } => options,
        _ => &[],
    };
    options.iter().map(option_view).collect()
}

fn mount_view<'a>(
    plan: &'a Plan,
    mount: &'a MountPlan,
    prepared: &'a PreparedMount,
    options: &'a [OptionView<'a>],
) -> init::MountArgs<'a> {
    let what = what_view(plan, mount, prepared, options);
    // RUNTIME has changed the trees it made itself; but one that only takes the place of a new file system
    // changes with it.
    let is_changed = prepared.tree.is_some() && !matches!(what, init::MountWhat::New(_));
    init::MountArgs {
        index: mount.index,
        target: init::TargetArgs {
            path: &mount.target,
            is_directory: prepared.is_directory,
            links: mount.links,
            may_be_on_procfs: mount.may_be_on_procfs,
        },
        what,
        attributes: if is_changed { &[] } else { &mount.attributes },
        places_below: mount.places_below && !prepared.is_readonly,
    }
}

fn what_view<'a>(
    plan: &Plan,
    mount: &'a MountPlan,
    prepared: &'a PreparedMount,
    options: &'a [OptionView<'a>],
) -> init::MountWhat<'a> {
    if let Some(tree) = &prepared.late {
        return init::MountWhat::HostTree(init::TreeSource {
            path: &tree.path,
            identity: tree.identity,
            recursive: tree.recursive,
            // Those of the mount are set when it is attached.
            attributes: &[],
            node: None,
        });
    }
    let inside = prepared.inside.as_deref();
    if let Some(inside) = inside.and_then(|path| inside_view(mount, path)) {
        return inside;
    }
    let tree = prepared.tree.as_ref().map(AsFd::as_fd);
    match (&mount.source, tree) {
        (MountSource::Bind { .. }, None) if prepared.link.is_some() => {
            init::MountWhat::Link(prepared.link.as_deref().unwrap_or_default())
        }
        (MountSource::Cgroup(new), tree) if plan.namespaces.has_own_cgroups => {
            new_view(new, options, prepared, tree)
        }
        (MountSource::New(new), tree) => new_view(new, options, prepared, tree),
        (_, Some(tree)) => init::MountWhat::Tree(tree),
        (MountSource::Cgroup(new), None) => new_view(new, options, prepared, None),
        (
            MountSource::Classic {
                source,
                fstype,
                flags,
                data,
                mode_of_place,
            },
            None,
        ) => init::MountWhat::Classic(init::ClassicArgs {
            source,
            fstype,
            flags: *flags,
            data,
            mode_of_place: *mode_of_place,
        }),
        (MountSource::Remount { .. } | MountSource::Bind { .. }, None) => init::MountWhat::Remount(options),
    }
}

fn inside_view<'a>(mount: &MountPlan, path: &'a CStr) -> Option<init::MountWhat<'a>> {
    let MountSource::Bind {
        recursive,
        link,
        must_be_procfs,
        ..
    } = &mount.source
    else {
        return None;
    };
    Some(init::MountWhat::Inside(init::InsideArgs {
        path,
        recursive: *recursive,
        keeps_link: *link != SourceLink::Follow,
        copies_link: *link == SourceLink::Copy,
        must_be_procfs: *must_be_procfs,
        is_mapped: mount.id_map.is_some(),
    }))
}

fn new_view<'a>(
    new: &'a crate::plan::mounts::NewFilesystem,
    options: &'a [OptionView<'a>],
    prepared: &'a PreparedMount,
    fallback: Option<BorrowedFd<'a>>,
) -> init::MountWhat<'a> {
    init::MountWhat::New(init::NewArgs {
        fstype: &new.fstype,
        options,
        attributes: new.attributes,
        copy_up: new.copy_up,
        mode_of_place: new.mode_of_place,
        root_label: new.root_label.as_deref(),
        context: prepared.context.as_ref().map(|context| init::ContextArgs {
            fd: context.fd.as_fd(),
            must_show: context.must_show,
        }),
        fallback,
    })
}

pub(crate) fn keyring_view(keyring: &KeyringPlan) -> init::KeyringArgs<'_> {
    init::KeyringArgs {
        name: &keyring.name,
        maker: keyring.maker,
    }
}

pub(crate) fn console_view<'a>(
    process: &ProcessPlan,
    socket: BorrowedFd<'a>,
    dev_console: bool,
) -> init::ConsoleArgs<'a> {
    init::ConsoleArgs {
        socket,
        size: process.console_size,
        plain_newlines: process.plain_newlines,
        dev_console,
    }
}

/// Arrays for the program's argument and environment vectors.
pub(crate) struct ProcessVectors<'a> {
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    home: Vec<u8>,
    listen_pid: Vec<u8>,
    candidates: Vec<&'a CStr>,
    rlimits: Vec<(u16, runtime_sys::process::Resource, u64, u64)>,
    late_rlimits: Vec<(u16, runtime_sys::process::Resource, u64, u64)>,
}

impl<'a> ProcessVectors<'a> {
    pub(crate) fn new(process: &'a ProcessPlan) -> Self {
        Self {
            argv: vec![null(); process.argv.len() + 1],
            envp: vec![null(); process.envp.len() + SPARE],
            home: vec![0; if process.needs_home { HOME_ROOM } else { 0 }],
            listen_pid: vec![
                0;
                if process.needs_listen_pid {
                    LISTEN_PID_ROOM
                } else {
                    0
                }
            ],
            candidates: c_strs(&process.candidates),
            rlimits: if process.limits_from_outside {
                Vec::new()
            } else {
                rlimit_views(&process.rlimits)
            },
            late_rlimits: rlimit_views(&process.late_rlimits),
        }
    }

    pub(crate) fn args<'b>(
        &'b mut self,
        process: &'b ProcessPlan,
        seccomp: Option<&'b SeccompPlan>,
        console: Option<init::ConsoleArgs<'b>>,
    ) -> init::ProcessArgs<'b>
    where
        'a: 'b,
    {
        init::ProcessArgs {
            console,
            scheduler: process.scheduler,
            io_priority: process.io_priority,
            personality: process.personality,
            memory_policy: process
                .memory_policy
                .as_ref()
                .map(|(mode, nodes)| (*mode, nodes.as_slice())),
            apparmor: process.apparmor.as_deref(),
            selinux: process.selinux.as_deref(),
            cwd: &process.cwd,
            rlimits: &self.rlimits,
            late_rlimits: &self.late_rlimits,
            credentials: init::CredentialArgs {
                uid: process.uid,
                gid: process.gid,
                groups: process.groups.as_deref(),
                umask: process.umask,
                capabilities: process.capabilities,
            },
            no_new_privileges: process.no_new_privileges,
            candidates: &self.candidates,
            found: 0,
            argv: ExecVector::new(&mut self.argv, &process.argv),
            envp: ExecVector::new(&mut self.envp, &process.envp),
            home: &mut self.home,
            listen_pid: &mut self.listen_pid,
            seccomp: seccomp.map(|seccomp| init::SeccompArgs {
                program: &seccomp.program,
                flags: seccomp.flags,
                notifies: seccomp.listener.is_some(),
                dumpable: process.unprivileged,
            }),
            inherited: &process.inherited,
            placed: &process.placed,
        }
    }
}

fn rlimit_views(limits: &[Rlimit]) -> Vec<(u16, runtime_sys::process::Resource, u64, u64)> {
    limits
        .iter()
        .map(|limit| (limit.index as u16, limit.resource, limit.soft, limit.hard))
        .collect()
}

/// Arrays for the vectors of a list of hooks.
struct HookVectors(Vec<(Vec<*const c_char>, Vec<*const c_char>)>);

impl HookVectors {
    fn new(hooks: &[HookPlan], inherited: &[CString]) -> Self {
        let room = |hook: &HookPlan| {
            let envp = hook.envp.as_deref().unwrap_or(inherited);
            (vec![null(); hook.argv.len() + 1], vec![null(); envp.len() + 1])
        };
        Self(hooks.iter().map(room).collect())
    }

    fn hooks<'a>(&'a mut self, hooks: &'a [HookPlan], inherited: &'a [CString]) -> Vec<init::Hook<'a>> {
        let view =
            |(hook, (argv, envp)): (&'a HookPlan, &'a mut (Vec<*const c_char>, Vec<*const c_char>))| {
                init::Hook {
                    path: &hook.path,
                    argv: ExecVector::new(argv, &hook.argv),
                    envp: ExecVector::new(envp, hook.envp.as_deref().unwrap_or(inherited)),
                    inherit: hook.envp.is_none(),
                    timeout: hook.timeout,
                }
            };
        hooks.iter().zip(&mut self.0).map(view).collect()
    }
}

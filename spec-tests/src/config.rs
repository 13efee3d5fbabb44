//! Runs in: SUITE. config.json, by names that the compiler checks: a runtime passes over a property that it
//! does not know, and a test with a misspelt one would show nothing. Values may be anything, wrong ones too;
//! what has no name here, or must not be there, is done to the document itself (`Case::config`).

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::borrow::BorrowMut;

/// An object of config.json: a new one, or a place in a document. Each property sets a value and returns the
/// object; one with a type is an object in it, made if it is not there.
macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident { $($field:ident $key:literal $(-> $inner:ident)?,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name<V = Value>(V);

        impl $name {
            #[allow(dead_code, reason = "some are only places in a document")]
            pub(crate) fn new() -> Self {
                Self(json!({}))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        #[allow(dead_code, reason = "the specification's names, whether or not a test sets all of them")]
        impl<'a> $name<&'a mut Value> {
            pub(crate) fn of(place: &'a mut Value) -> Self {
                Self(place)
            }

            $($(
                pub(crate) fn $field(self) -> $inner<&'a mut Value> {
                    $inner(&mut self.0[$key])
                }
            )?)+
        }

        #[allow(dead_code, reason = "as above")]
        impl<V: BorrowMut<Value>> $name<V> {
            $(objects! { @set $field $key $($inner)? })+

            /// Without any property.
            pub(crate) fn clear(mut self) -> Self {
                *self.0.borrow_mut() = json!({});
                self
            }
        }
    )+};
    (@set $field:ident $key:literal) => {
        pub(crate) fn $field(mut self, value: impl Serialize) -> Self {
            self.0.borrow_mut()[$key] = json!(value);
            self
        }
    };
    (@set $field:ident $key:literal $inner:ident) => {};
}

impl Mount {
    /// Of type bind, with the options to come.
    pub(crate) fn bind(destination: impl Serialize, source: impl Serialize) -> Self {
        Self::new().destination(destination).kind("bind").source(source)
    }
}

objects! {
    /// config.json itself.
    Document {
        oci_version "ociVersion",
        process "process" -> Process,
        root "root" -> Root,
        hostname "hostname",
        domainname "domainname",
        mounts "mounts",
        hooks "hooks" -> Hooks,
        annotations "annotations",
        linux "linux" -> Linux,
        solaris "solaris",
        windows "windows",
        vm "vm",
        zos "zos",
        freebsd "freebsd",
    }
    Process {
        terminal "terminal",
        console_size "consoleSize",
        user "user" -> User,
        args "args",
        env "env",
        cwd "cwd",
        capabilities "capabilities" -> Capabilities,
        rlimits "rlimits",
        no_new_privileges "noNewPrivileges",
        apparmor_profile "apparmorProfile",
        oom_score_adj "oomScoreAdj",
        scheduler "scheduler",
        selinux_label "selinuxLabel",
        io_priority "ioPriority",
        exec_cpu_affinity "execCPUAffinity",
    }
    User {
        uid "uid",
        gid "gid",
        umask "umask",
        additional_gids "additionalGids",
    }
    Capabilities {
        bounding "bounding",
        effective "effective",
        permitted "permitted",
        inheritable "inheritable",
        ambient "ambient",
    }
    Rlimit {
        kind "type",
        soft "soft",
        hard "hard",
    }
    Scheduler {
        policy "policy",
        nice "nice",
        priority "priority",
        flags "flags",
        runtime "runtime",
        deadline "deadline",
        period "period",
    }
    IoPriority {
        class "class",
        priority "priority",
    }
    Root {
        path "path",
        readonly "readonly",
    }
    Mount {
        destination "destination",
        kind "type",
        source "source",
        options "options",
        uid_mappings "uidMappings",
        gid_mappings "gidMappings",
    }
    /// Lists of [`Hook`], by their kind.
    Hooks {
        prestart "prestart",
        create_runtime "createRuntime",
        create_container "createContainer",
        start_container "startContainer",
        poststart "poststart",
        poststop "poststop",
    }
    Hook {
        path "path",
        args "args",
        env "env",
        timeout "timeout",
    }
    Linux {
        uid_mappings "uidMappings",
        gid_mappings "gidMappings",
        sysctl "sysctl",
        resources "resources" -> Resources,
        cgroups_path "cgroupsPath",
        namespaces "namespaces",
        devices "devices",
        net_devices "netDevices",
        seccomp "seccomp" -> Seccomp,
        rootfs_propagation "rootfsPropagation",
        masked_paths "maskedPaths",
        readonly_paths "readonlyPaths",
        mount_label "mountLabel",
        intel_rdt "intelRdt",
        memory_policy "memoryPolicy",
        personality "personality",
        time_offsets "timeOffsets",
    }
    IdMapping {
        container_id "containerID",
        host_id "hostID",
        size "size",
    }
    Device {
        path "path",
        kind "type",
        major "major",
        minor "minor",
        file_mode "fileMode",
        uid "uid",
        gid "gid",
    }
    Resources {
        devices "devices",
        memory "memory" -> Memory,
        cpu "cpu" -> Cpu,
        pids "pids" -> Pids,
        block_io "blockIO",
        hugepage_limits "hugepageLimits",
        network "network",
        rdma "rdma",
        unified "unified",
    }
    DeviceRule {
        allow "allow",
        kind "type",
        major "major",
        minor "minor",
        access "access",
    }
    Memory {
        limit "limit",
        reservation "reservation",
        swap "swap",
        kernel "kernel",
        kernel_tcp "kernelTCP",
        swappiness "swappiness",
        disable_oom_killer "disableOOMKiller",
        use_hierarchy "useHierarchy",
        check_before_update "checkBeforeUpdate",
    }
    Cpu {
        shares "shares",
        quota "quota",
        burst "burst",
        period "period",
        realtime_runtime "realtimeRuntime",
        realtime_period "realtimePeriod",
        cpus "cpus",
        mems "mems",
        idle "idle",
    }
    Pids {
        limit "limit",
    }
    HugepageLimit {
        page_size "pageSize",
        limit "limit",
    }
    Seccomp {
        default_action "defaultAction",
        default_errno_ret "defaultErrnoRet",
        architectures "architectures",
        flags "flags",
        listener_path "listenerPath",
        listener_metadata "listenerMetadata",
        syscalls "syscalls",
    }
    Syscall {
        names "names",
        action "action",
        errno_ret "errnoRet",
        args "args",
    }
    SyscallArg {
        index "index",
        value "value",
        value_two "valueTwo",
        op "op",
    }
}

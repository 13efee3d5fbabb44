//! Runs in: SUITE. The tests, one file per topic; each file lists its own in `TESTS`.

mod annotations;
mod bad_input;
mod called_runc;
mod cgroup_identity;
mod cgroup_tree;
mod cgroups;
mod checkpoint;
mod checkpoint_flags;
mod checkpoint_paths;
mod checkpoint_surroundings;
mod cli;
mod crash;
mod created_signals;
mod dev_links;
mod devices;
mod devices_of_users;
mod engine;
mod events;
mod exec;
mod exec_file;
mod exec_options;
mod faults;
mod forgotten;
mod fuse;
mod hooks;
mod host_mounts;
mod hostile_places;
mod hung_peers;
mod inherited;
mod intel_rdt;
mod interrupt;
mod lifecycle;
mod logs;
mod many;
mod migration;
mod mount_links;
mod mount_options;
mod mounts;
mod mounts_in_order;
mod mounts_later;
mod namespaces;
mod namespaces_owned;
mod net_devices;
mod notify;
mod people;
mod process;
mod random;
mod recorded;
mod resources;
mod rootless;
mod rootless_more;
mod roots;
mod run;
pub(crate) mod runtime_tools;
mod schema_examples;
mod seccomp;
mod seccomp_actions;
mod seccomp_notify;
mod security;
mod selinux;
mod selinux_mounts;
mod signals;
mod spec;
mod spec_keys;
mod spec_rules;
mod spec_values;
mod steps;
mod systemd;
mod systemd_agrees;
mod systemd_limits;
mod terminal;
mod traced;
mod update;

pub(crate) use faults::{print_counts as print_counts_of_faults, without_any as without_any_fault};

use crate::suite::{NeedyTest, Test};

/// Every test, in the order of the topics; those with needs last.
pub(crate) fn all() -> Vec<NeedyTest> {
    let everywhere = everywhere()
        .into_iter()
        .map(|(name, body)| (name, [].as_slice(), body));
    everywhere.chain(needy()).collect()
}

fn needy() -> Vec<NeedyTest> {
    [
        bad_input::NEEDY,
        mount_links::NEEDY,
        people::NEEDY,
        process::NEEDY,
        cgroups::NEEDY,
        cgroup_tree::NEEDY,
        resources::NEEDY,
        update::NEEDY,
        events::NEEDY,
        recorded::NEEDY,
        rootless::NEEDY,
        rootless_more::NEEDY,
        systemd::NEEDY,
        systemd_agrees::NEEDY,
        systemd_limits::NEEDY,
        checkpoint::NEEDY,
        checkpoint_flags::NEEDY,
        checkpoint_paths::NEEDY,
        checkpoint_surroundings::NEEDY,
        migration::NEEDY,
        exec_options::NEEDY,
        seccomp_actions::NEEDY,
        intel_rdt::NEEDY,
        devices_of_users::NEEDY,
        spec_keys::NEEDY,
        spec_rules::NEEDY,
        spec_values::NEEDY,
        selinux::NEEDY,
        selinux_mounts::NEEDY,
        mount_options::NEEDY,
        interrupt::NEEDY,
        inherited::NEEDY,
        hung_peers::NEEDY,
        engine::NEEDY,
        runtime_tools::NEEDY,
        faults::NEEDY,
        namespaces_owned::NEEDY,
        seccomp_notify::NEEDY,
    ]
    .concat()
}

fn everywhere() -> Vec<Test> {
    [
        lifecycle::TESTS,
        bad_input::TESTS,
        namespaces::TESTS,
        net_devices::TESTS,
        mounts::TESTS,
        mounts_in_order::TESTS,
        host_mounts::TESTS,
        dev_links::TESTS,
        hostile_places::TESTS,
        mount_options::TESTS,
        mount_links::TESTS,
        mounts_later::TESTS,
        devices::TESTS,
        devices_of_users::TESTS,
        people::TESTS,
        process::TESTS,
        exec::TESTS,
        exec_file::TESTS,
        exec_options::TESTS,
        hooks::TESTS,
        cgroups::TESTS,
        cgroup_tree::TESTS,
        cgroup_identity::TESTS,
        many::TESTS,
        resources::TESTS,
        update::TESTS,
        events::TESTS,
        terminal::TESTS,
        run::TESTS,
        annotations::TESTS,
        created_signals::TESTS,
        signals::TESTS,
        interrupt::TESTS,
        inherited::TESTS,
        hung_peers::TESTS,
        seccomp::TESTS,
        seccomp_actions::TESTS,
        seccomp_notify::TESTS,
        roots::TESTS,
        security::TESTS,
        traced::TESTS,
        rootless::TESTS,
        crash::TESTS,
        forgotten::TESTS,
        logs::TESTS,
        checkpoint::TESTS,
        checkpoint_flags::TESTS,
        notify::TESTS,
        cli::TESTS,
        called_runc::TESTS,
        recorded::TESTS,
        spec::TESTS,
        schema_examples::TESTS,
        spec_keys::TESTS,
        spec_rules::TESTS,
        spec_values::TESTS,
        steps::TESTS,
        faults::TESTS,
        random::TESTS,
    ]
    .concat()
}

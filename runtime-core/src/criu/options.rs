//! Runs in: RUNTIME. What callers of `checkpoint` and `restore` can ask of criu. Only passed on.

use std::path::PathBuf;

options! {
    /// What `checkpoint` and `restore` have in common.
    #[derive(Debug, Default)]
    pub struct CriuOptions {
        /// The directory of the images. What is in it becomes the memory of processes: it is trusted as a
        /// program is.
        images: PathBuf,
        /// The directory of criu's log and other passing files; `None`: that of the images.
        work: Option<PathBuf>,
        /// TCP connections that are established live on. By default criu refuses containers that have any.
        tcp_established: bool,
        /// TCP connections that are established are closed (a restore).
        tcp_close: bool,
        /// TCP connections that are just being made are left out (a dump).
        tcp_skip_in_flight: bool,
        /// Unix sockets may lead out of the container.
        external_unix_sockets: bool,
        /// The terminal may be one of the host, which criu then has to be started on.
        shell_job: bool,
        /// File locks are kept.
        file_locks: bool,
        /// What criu does about cgroups.
        manage_cgroups: ManageCgroups,
        /// Pages are removed from the parent's images once they are in a later one.
        auto_dedup: bool,
        /// Memory is handed over page by page, when it is touched.
        lazy_pages: bool,
        /// How the network is held still meanwhile.
        network_lock: NetworkLock,
    }
}

/// What criu does about cgroups below the container's own, which onggi makes with its limits in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManageCgroups {
    /// Makes those that are missing, and gives these their properties.
    #[default]
    Soft,
    /// Gives all of them the properties of the dump, also the container's own.
    Full,
    /// As `Full`, and none may be there already.
    Strict,
    /// Nothing: all processes come back in the container's own cgroup.
    Ignore,
}

/// How criu holds the network of a container with connections still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkLock {
    /// criu's default.
    #[default]
    Default,
    /// By iptables-restore(8).
    Iptables,
    /// By nftables.
    Nftables,
    /// Not at all: somebody else does.
    Skip,
}

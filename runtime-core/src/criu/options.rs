//! Runs in: RUNTIME. What callers of `checkpoint` and `restore` can ask of criu. Only passed on.

use std::path::PathBuf;

/// What `checkpoint` and `restore` have in common.
#[derive(Debug, Default)]
pub struct CriuOptions {
    /// The directory of the images. What is in it becomes the memory of processes: it is trusted as a program is.
    pub images: PathBuf,
    /// The directory of criu's log and other passing files; `None`: that of the images.
    pub work: Option<PathBuf>,
    /// What becomes of TCP connections; by default criu refuses containers that have any.
    pub tcp: TcpConnections,
    /// Unix sockets may lead out of the container.
    pub external_unix_sockets: bool,
    /// The terminal may be one of the host, which criu then has to be started on.
    pub shell_job: bool,
    /// File locks are kept.
    pub file_locks: bool,
    /// What criu does about cgroups.
    pub manage_cgroups: ManageCgroups,
    /// Pages are removed from the parent's images once they are in a later one.
    pub auto_dedup: bool,
    /// Memory is handed over page by page, when it is touched.
    pub lazy_pages: bool,
    /// How the network is held still meanwhile.
    pub network_lock: NetworkLock,
}

/// What becomes of TCP connections that are established.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpConnections {
    /// They live on.
    pub established: bool,
    /// They are closed (a restore).
    pub close: bool,
    /// Those that are just being made are left out (a dump).
    pub skip_in_flight: bool,
}

/// What criu does about cgroups below the container's own, which onggi makes with its limits in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

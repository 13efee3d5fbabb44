//! Runs in: RUNTIME. What callers of `create`, `run`, `exec`, `checkpoint` and `restore` can ask for beyond
//! config.json.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use crate::Cancel;
use crate::criu::CriuOptions;
use crate::spec::given::Document;

/// Where init sends the master of the terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Console {
    /// A listening socket (AF_UNIX, stream): runc's `--console-socket`.
    Path(PathBuf),
    /// A connected socket, of which the caller holds the other end; see [`crate::receive_terminal`]. Closed
    /// without a word if the process has no terminal.
    Socket(OwnedFd),
}

/// Where standard input, output or error of a container's process leads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// To where the caller's own leads.
    #[default]
    Inherit,
    /// To /dev/null.
    Null,
    /// To this open file. The caller's copy is closed when the call returns.
    Fd(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self::Fd(fd)
    }
}

/// Whether containers may do without a cgroup of their own where the runtime has no right to make one, and
/// without a device filter where it may load none. Only if config.json asks for no limit and no cgroupsPath.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rootless {
    /// Yes if the runtime is not root, or is in another user namespace than the first.
    #[default]
    Auto,
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Rootless {
    /// Decides, given what the runtime is.
    pub(super) fn holds(self, is_rootless: bool) -> bool {
        match self {
            Self::Auto => is_rootless,
            Self::Yes => true,
            Self::No => false,
        }
    }
}

options! {
    /// Options of `create` and `run`. The defaults are runc's.
    #[derive(Debug, Default)]
    pub struct CreateOptions {
        /// The bundle; empty: the current directory.
        bundle: PathBuf,
        /// Another configuration than `config.json` of the bundle.
        config: Option<Document<Spec>>,
        /// For `process.terminal`.
        console: Option<Console>,
        /// Rows and columns of the terminal, if config.json gives none.
        terminal_size: Option<(u16, u16)>,
        /// Leave newlines as the program writes them (no ONLCR): the caller's own terminal translates them.
        plain_newlines: bool,
        /// File for the pid of init, in decimal, without newline; written before the call returns.
        pid_file: Option<PathBuf>,
        /// A listening socket (AF_UNIX, stream) that gets the pidfd of init.
        pidfd_socket: Option<PathBuf>,
        /// Enter the rootfs by MS_MOVE and chroot(2) instead of pivot_root(2).
        no_pivot: bool,
        /// Keep the caller's session keyring.
        no_new_keyring: bool,
        /// How many descriptors from 3 on the program inherits, after the sockets of `listen_fds`. Those that
        /// are not open, or close-on-exec, are left out.
        preserve_fds: u32,
        /// Give the container a socket for sd_notify(3) at `/run/notify`; see
        /// [`crate::Runtime::notify_socket`].
        notify: bool,
        /// How many sockets of the service manager, from 3 on, are passed (LISTEN_FDS).
        listen_fds: u32,
        /// Their names, with colons between them (LISTEN_FDNAMES). sd_listen_fds(3) wants as many as there
        /// are sockets.
        listen_names: Option<String>,
        /// Standard input, of a process without a terminal.
        stdin: Stdio,
        /// Standard output, of a process without a terminal.
        stdout: Stdio,
        /// Standard error, of a process without a terminal.
        stderr: Stdio,
        /// Open files that the program gets, each with its number there, from 3 on. They count before
        /// `preserve_fds`, which may come to the same number.
        descriptors: Vec<(OwnedFd, RawFd)>,
        /// Ends the operation early.
        cancel: Cancel,
    }
}

options! {
    /// Options of `exec`.
    #[derive(Debug, Default)]
    pub struct ExecOptions {
        /// A `process` object. What follows overrides it.
        process: Option<Document<Process>>,
        /// Program and arguments.
        args: Vec<OsString>,
        /// Entries added to the environment.
        env: Vec<OsString>,
        /// Working directory.
        cwd: Option<PathBuf>,
        /// `UID[:GID]`, numbers.
        user: Option<String>,
        /// Further groups.
        additional_gids: Vec<u32>,
        /// With a terminal.
        tty: bool,
        /// Where the terminal goes.
        console: Option<Console>,
        /// Rows and columns of the terminal, if the process gives none.
        terminal_size: Option<(u16, u16)>,
        /// Leave newlines as the program writes them (no ONLCR): the caller's own terminal translates them.
        plain_newlines: bool,
        /// File for the pid.
        pid_file: Option<PathBuf>,
        /// Socket for the pidfd.
        pidfd_socket: Option<PathBuf>,
        /// SELinux label.
        process_label: Option<String>,
        /// AppArmor profile.
        apparmor: Option<String>,
        /// no_new_privs; `None`: as the container's own process.
        no_new_privs: Option<bool>,
        /// Capabilities added to the bounding, effective and permitted sets: never to the inheritable one.
        capabilities: Vec<String>,
        /// How many descriptors from 3 on the program inherits. Those that are not open, or close-on-exec,
        /// are left out.
        preserve_fds: u32,
        /// A cgroup below the container's.
        cgroup: Option<String>,
        /// Also into a paused container.
        ignore_paused: bool,
        /// Standard input, of a process without a terminal.
        stdin: Stdio,
        /// Standard output, of a process without a terminal.
        stdout: Stdio,
        /// Standard error, of a process without a terminal.
        stderr: Stdio,
        /// Open files that the program gets, each with its number there, from 3 on. They count before
        /// `preserve_fds`, which may come to the same number.
        descriptors: Vec<(OwnedFd, RawFd)>,
        /// Ends the operation early.
        cancel: Cancel,
    }
}

options! {
    /// Options of [`Runtime::checkpoint`](crate::Runtime::checkpoint).
    #[derive(Debug, Default)]
    pub struct CheckpointOptions {
        /// What `restore` has, too.
        criu: CriuOptions,
        /// The images of an earlier `pre_dump`, relative to these ones.
        parent: Option<PathBuf>,
        /// The container goes on.
        leave_running: bool,
        /// Only memory is saved, and the container goes on.
        pre_dump: bool,
        /// With `lazy_pages`: gets one null byte when criu waits for the other side, and is closed.
        status_fd: Option<OwnedFd>,
        /// Host and port of a `criu page-server`, which gets the pages.
        page_server: Option<(String, u16)>,
        /// Deleted files that are still open are given names for the time being.
        link_remap: bool,
    }
}

options! {
    /// Options of [`Runtime::restore`](crate::Runtime::restore).
    #[derive(Debug, Default)]
    pub struct RestoreOptions {
        /// What `checkpoint` has, too.
        criu: CriuOptions,
        /// The bundle; empty: the current directory. Its config.json must be that of the container that was
        /// saved, but paths of the host may differ.
        bundle: PathBuf,
        /// Another configuration than `config.json` of the bundle.
        config: Option<Document<Spec>>,
        /// Where the master of the container's terminal goes.
        console: Option<Console>,
        /// Leave newlines as the program writes them (no ONLCR): the caller's own terminal translates them.
        plain_newlines: bool,
        /// File for the pid of init, in decimal, without newline; written before the processes run on.
        pid_file: Option<PathBuf>,
        /// Another profile for the processes than the dump's, as in `apparmor:NAME` or `selinux:LABEL`.
        lsm_profile: Option<String>,
        /// Another SELinux context for the mounts.
        lsm_mount_context: Option<String>,
        /// Standard input, of a process without a terminal.
        stdin: Stdio,
        /// Standard output, of a process without a terminal.
        stdout: Stdio,
        /// Standard error, of a process without a terminal.
        stderr: Stdio,
        /// Ends the operation early.
        cancel: Cancel,
    }
}

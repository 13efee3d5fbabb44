//! Runs in: RUNTIME. `checkpoint`: saves the processes of a container, by criu.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use runtime_core::{CheckpointOptions, CriuOptions, Error, ErrorKind, ManageCgroups, NetworkLock, Result};
use rustix::fs::OFlags;

use super::{Command, Definition, Invocation};
use crate::descriptors;
use crate::flags::flags;

flags! {
    pub(crate) struct Checkpoint {
        ..criu: CriuFlags,
        /// directory of an earlier --pre-dump, relative to --image-path
        parent_path: Option<PathBuf>,
        /// leave the container running
        leave_running: bool,
        /// skip TCP connections that are just being made
        tcp_skip_in_flight: bool,
        /// save files that are open and deleted
        link_remap: bool,
        /// send the memory to this page server
        page_server: Option<String> { value_name("address:port") },
        /// save memory only, and leave the container running
        pre_dump: bool,
        /// leave memory to a page server, which hands it out later
        lazy_pages: bool,
        /// where criu says that it is ready for lazy pages
        status_fd: Option<String> { value_name("fd") },
    }
}

flags! {
    /// The flags of `checkpoint` and `restore`.
    pub(crate) struct CriuFlags {
        /// directory of the saved files [default: ./checkpoint]
        image_path: Option<PathBuf>,
        /// directory of criu's logs
        work_path: Option<PathBuf>,
        /// keep open TCP connections
        tcp_established: bool,
        /// allow unix sockets to outside
        ext_unix_sk: bool,
        /// allow a terminal that is not the container's own
        shell_job: bool,
        /// keep file locks
        file_locks: bool,
        /// how cgroups are saved and restored: soft, full, strict or ignore
        manage_cgroups_mode: Option<String> { value_name("mode") },
        /// make this namespace anew instead of saving it
        empty_ns: Vec<OsString> { value_name("namespace") },
        /// save no page twice
        auto_dedup: bool,
        /// how criu stops the network meanwhile: iptables, nftables or skip
        network_lock: Option<String> { value_name("method") },
    }
}

impl Command for Checkpoint {
    const DEFINITION: Definition = Definition {
        takes_descriptors: true,
        ..Definition::new::<Self>("checkpoint", "save the processes of a running container to files")
    };

    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        let status_fd = self.status_fd.as_deref().map(status_fd).transpose()?;
        let page_server = self.page_server.as_deref().map(page_server).transpose()?;
        let criu = self.criu.options()?;
        let options = CheckpointOptions::default()
            .criu(
                criu.tcp_skip_in_flight(self.tcp_skip_in_flight)
                    .lazy_pages(self.lazy_pages),
            )
            .parent(self.parent_path)
            .leave_running(self.leave_running)
            .pre_dump(self.pre_dump)
            .status_fd(status_fd.flatten())
            .page_server(page_server.flatten())
            .link_remap(self.link_remap);
        // criu and its action scripts get none of the caller's.
        descriptors::keep_after(0)?;
        runtime.checkpoint(&id, options)?;
        Ok(0)
    }
}

impl CriuFlags {
    /// What these flags say; the rest is the command's business.
    pub(super) fn options(self) -> Result<CriuOptions> {
        // A network namespace is always made anew, and no other can be.
        if let Some(name) = self.empty_ns.iter().find(|name| *name != "network") {
            return Err(invalid(format!("namespace {name:?} is not supported")));
        }
        Ok(CriuOptions::default()
            .images(images(self.image_path)?)
            .work(self.work_path)
            .tcp_established(self.tcp_established)
            .external_unix_sockets(self.ext_unix_sk)
            .shell_job(self.shell_job)
            .file_locks(self.file_locks)
            .manage_cgroups(manage_cgroups(self.manage_cgroups_mode.as_deref())?)
            .auto_dedup(self.auto_dedup)
            .network_lock(network_lock(self.network_lock.as_deref())?))
    }
}

fn images(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(images) = named {
        return Ok(images);
    }
    let here = std::env::current_dir().map_err(|e| Error::os("getcwd", e).doing("find the images"))?;
    Ok(here.join("checkpoint"))
}

fn manage_cgroups(mode: Option<&str>) -> Result<ManageCgroups> {
    match mode {
        None | Some("" | "soft") => Ok(ManageCgroups::Soft),
        Some("full") => Ok(ManageCgroups::Full),
        Some("strict") => Ok(ManageCgroups::Strict),
        Some("ignore") => Ok(ManageCgroups::Ignore),
        Some(_) => Err(invalid("Invalid manage-cgroups-mode value")),
    }
}

fn network_lock(method: Option<&str>) -> Result<NetworkLock> {
    match method {
        None | Some("") => Ok(NetworkLock::Default),
        Some("iptables") => Ok(NetworkLock::Iptables),
        Some("nftables") => Ok(NetworkLock::Nftables),
        Some("skip") => Ok(NetworkLock::Skip),
        Some(other) => Err(invalid(format!(
            "invalid network-lock method {other:?}: iptables, nftables or skip"
        ))),
    }
}

fn status_fd(text: &str) -> Result<Option<OwnedFd>> {
    let wrong = |why: &str| invalid(format!("invalid --status-fd argument {text}: {why}"));
    let number: i32 = text.parse().map_err(|_| wrong("not a number"))?;
    // runc's default, which it also takes on the command line.
    if number == -1 {
        return Ok(None);
    }
    let fd = runtime_sys::process::take_inherited(number).map_err(|_| wrong("not an open file"))?;
    let mode = rustix::fs::fcntl_getfl(&fd).map_err(|errno| Error::os("fcntl", errno))?;
    if !mode.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Err(wrong("not writable"));
    }
    Ok(Some(fd))
}

fn page_server(text: &str) -> Result<Option<(String, u16)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let usage = || invalid("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(usage)?;
    let address = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if address.is_empty() || port.is_empty() {
        return Err(usage());
    }
    let port = port.parse().map_err(|_| invalid("Invalid port number"))?;
    Ok(Some((address.to_owned(), port)))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

//! Runs in: RUNTIME. `checkpoint`: saves the processes of a container, by criu.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Arg;
use runtime_core::{
    CheckpointOptions, CriuOptions, Error, ErrorKind, ManageCgroups, NetworkLock, Result, TcpConnections,
};
use rustix::fs::OFlags;

use super::{Definition, Invocation, command};
use crate::descriptors;
use crate::flags::{list, path, switch, value};

pub(crate) const COMMAND: Definition = command(
    "checkpoint",
    "save the processes of a running container to files",
    flags,
    run,
);

fn flags() -> Vec<Arg> {
    let mut flags = image_flags();
    flags.extend([
        path("parent-path").help("directory of an earlier --pre-dump, relative to --image-path"),
        switch("leave-running", "leave the container running"),
        switch(
            "tcp-skip-in-flight",
            "skip TCP connections that are just being made",
        ),
        switch("link-remap", "save files that are open and deleted"),
        value("page-server")
            .value_name("address:port")
            .help("send the memory to this page server"),
        switch("pre-dump", "save memory only, and leave the container running"),
        switch(
            "lazy-pages",
            "leave memory to a page server, which hands it out later",
        ),
        value("status-fd")
            .value_name("fd")
            .help("where criu says that it is ready for lazy pages"),
    ]);
    flags
}

/// The flags that `restore` has, too.
pub(super) fn image_flags() -> Vec<Arg> {
    vec![
        path("image-path").help("directory of the saved files [default: ./checkpoint]"),
        path("work-path").help("directory of criu's logs"),
        switch("tcp-established", "keep open TCP connections"),
        switch("ext-unix-sk", "allow unix sockets to outside"),
        switch("shell-job", "allow a terminal that is not the container's own"),
        switch("file-locks", "keep file locks"),
        value("manage-cgroups-mode")
            .value_name("mode")
            .help("how cgroups are saved and restored: soft, full, strict or ignore"),
        list("empty-ns")
            .value_name("namespace")
            .help("make this namespace anew instead of saving it"),
        switch("auto-dedup", "save no page twice"),
        value("network-lock")
            .value_name("method")
            .help("how criu stops the network meanwhile: iptables, nftables or skip"),
    ]
}

fn run(call: &Invocation) -> Result<u8> {
    let (runtime, id) = (call.runtime()?, call.id()?);
    let mut criu = criu_options(call)?;
    criu.tcp.skip_in_flight = call.flag("tcp-skip-in-flight");
    let options = CheckpointOptions {
        parent: call.path("parent-path"),
        leave_running: call.flag("leave-running"),
        pre_dump: call.flag("pre-dump"),
        status_fd: status_fd(call)?,
        page_server: page_server(call)?,
        link_remap: call.flag("link-remap"),
        criu,
    };
    // criu and its action scripts get none of the caller's.
    descriptors::keep_behind(0)?;
    runtime.checkpoint(&id, options)?;
    Ok(0)
}

/// What the flags say that `restore` has, too.
pub(super) fn criu_options(call: &Invocation) -> Result<CriuOptions> {
    for name in call.many::<std::ffi::OsString>("empty-ns") {
        // A network namespace is always made anew, and no other can be.
        if name != "network" {
            return Err(invalid(format!("namespace {name:?} is not supported")));
        }
    }
    Ok(CriuOptions {
        images: images(call)?,
        work: call.path("work-path"),
        tcp: TcpConnections {
            established: call.flag("tcp-established"),
            ..TcpConnections::default()
        },
        external_unix_sockets: call.flag("ext-unix-sk"),
        shell_job: call.flag("shell-job"),
        file_locks: call.flag("file-locks"),
        manage_cgroups: match call.text("manage-cgroups-mode").as_deref() {
            None | Some("" | "soft") => ManageCgroups::Soft,
            Some("full") => ManageCgroups::Full,
            Some("strict") => ManageCgroups::Strict,
            Some("ignore") => ManageCgroups::Ignore,
            Some(_) => return Err(invalid("Invalid manage-cgroups-mode value")),
        },
        auto_dedup: call.flag("auto-dedup"),
        lazy_pages: call.flag("lazy-pages"),
        network_lock: match call.text("network-lock").as_deref() {
            None | Some("") => NetworkLock::Default,
            Some("iptables") => NetworkLock::Iptables,
            Some("nftables") => NetworkLock::Nftables,
            Some("skip") => NetworkLock::Skip,
            Some(other) => {
                return Err(invalid(format!(
                    "invalid network-lock method {other:?}: iptables, nftables or skip"
                )));
            }
        },
    })
}

fn images(call: &Invocation) -> Result<PathBuf> {
    if let Some(images) = call.path("image-path") {
        return Ok(images);
    }
    let here = std::env::current_dir().map_err(|e| Error::io("getcwd", &e).doing("find the images"))?;
    Ok(here.join("checkpoint"))
}

fn status_fd(call: &Invocation) -> Result<Option<OwnedFd>> {
    let Some(text) = call.text("status-fd") else {
        return Ok(None);
    };
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

fn page_server(call: &Invocation) -> Result<Option<(String, u16)>> {
    let Some(text) = call.text("page-server").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
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

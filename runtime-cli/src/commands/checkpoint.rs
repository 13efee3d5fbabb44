//! Runs in: RUNTIME. `checkpoint`: saves the processes of a container, by criu.

use clap::Arg;
use runtime_core::Result;

use super::{Definition, Invocation, command};
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
    Err(call.not_in_this_version("checkpoint"))
}

//! Runs in: RUNTIME. `restore`: makes a container from what `checkpoint` has saved.

use clap::Arg;
use runtime_core::Result;

use super::checkpoint::image_flags;
use super::{Definition, Invocation, command};
use crate::flags::{bundle, path, switch, value};

pub(crate) const COMMAND: Definition = command(
    "restore",
    "make a container from the files of a checkpoint",
    flags,
    run,
);

fn flags() -> Vec<Arg> {
    let mut flags = vec![
        bundle(),
        path("console-socket").help("socket that gets the master of the terminal"),
        path("pid-file").help("file to write the init process's id to"),
        switch("detach", "do not wait for the container to end").short('d'),
        switch("no-subreaper", "do not adopt the orphans of the container"),
        switch("no-pivot", "do not use pivot_root (for a root on a ramdisk)"),
    ];
    flags.extend(image_flags());
    flags.extend([
        path("parent-path").help("directory of an earlier --pre-dump, relative to --image-path"),
        switch("tcp-close", "close the TCP connections that were open"),
        switch("lazy-pages", "fetch memory when it is needed"),
        value("lsm-profile")
            .value_name("TYPE:NAME")
            .help("security profile, as in apparmor:NAME"),
        value("lsm-mount-context")
            .value_name("context")
            .help("SELinux context of the mounts"),
    ]);
    flags
}

fn run(call: &Invocation) -> Result<u8> {
    Err(call.not_in_this_version("restore"))
}

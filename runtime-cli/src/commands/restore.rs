//! Runs in: RUNTIME. `restore`: makes a container from what `checkpoint` has saved.

use clap::Arg;
use runtime_core::{Cancel, Console, Error, RestoreOptions, Result};

use super::checkpoint::{criu_options, image_flags};
use super::start_options::{self, console_socket, refuse_console_socket};
use super::{Definition, Invocation, command};
use crate::flags::{bundle, path, switch, value};
use crate::foreground::{self, Signals};
use crate::interrupt;
use crate::terminal::ConsoleReceiver;

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

/// Unless detached, waits for the container and deletes it. Returns its exit code.
fn run(call: &Invocation) -> Result<u8> {
    let (runtime, id) = (call.runtime()?, call.id()?);
    if call.flag("detach") {
        let mut options = options(call, console_socket(call))?;
        options.cancel = interrupt::block()?;
        runtime.restore(&id, options)?;
        return Ok(0);
    }
    refuse_console_socket(call)?;
    let signals = Signals::block()?;
    if !call.flag("no-subreaper") {
        foreground::become_subreaper()?;
    }
    let (receiver, sender) = ConsoleReceiver::pair()?;
    let mut options = options(call, Some(Console::Socket(sender)))?;
    options.plain_newlines = true;
    options.cancel = interrupt::block()?;
    let process = runtime.restore(&id, options)?;
    let code = start_options::stay(&process, &signals, receiver, None);
    match (code, runtime.delete(&id, true)) {
        (code, Ok(())) => code,
        (Ok(_), Err(error)) => Err(error),
        (Err(first), Err(second)) => Err(first.and(second)),
    }
}

/// `--no-pivot` and `--parent-path` are taken and have no effect, as with runc: criu enters the root in its own way, and
/// finds the parent by a link in the images.
fn options(call: &Invocation, console: Option<Console>) -> Result<RestoreOptions> {
    let bundle = match call.path("bundle") {
        Some(bundle) => bundle,
        None => std::env::current_dir().map_err(|e| Error::io("getcwd", &e).doing("find the bundle"))?,
    };
    let mut criu = criu_options(call)?;
    criu.tcp.close = call.flag("tcp-close");
    Ok(RestoreOptions {
        criu,
        bundle,
        config: None,
        console,
        plain_newlines: false,
        pid_file: call.path("pid-file"),
        lsm_profile: call.text("lsm-profile"),
        lsm_mount_context: call.text("lsm-mount-context"),
        cancel: Cancel::default(),
    })
}

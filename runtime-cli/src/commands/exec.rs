//! Runs in: RUNTIME. `exec`.

use std::ffi::OsString;

use clap::{Arg, ArgAction, value_parser};
use runtime_core::{Cancel, Console, Error, ErrorKind, ExecOptions, Result};

use super::start_options::{self, console_socket, refuse_console_socket};
use super::{Definition, Invocation, command};
use crate::flags::{list, number, path, switch, value};
use crate::foreground::Signals;
use crate::go_flags::FlagsEnd;
use crate::interrupt;
use crate::terminal::{self, ConsoleReceiver};

pub(crate) const COMMAND: Definition = Definition {
    usage: &[
        "<container-id> <command> [args...]",
        "-p process.json <container-id>",
    ],
    words: (1, usize::MAX),
    flags_end: FlagsEnd::AtFirstPositional,
    failure: |_| "exec failed: ".to_owned(),
    failure_code: 255,
    ..command("exec", "run another process in a container", flags, run)
};

fn flags() -> Vec<Arg> {
    vec![
        path("console-socket").help("socket that gets the master of the terminal"),
        path("pidfd-socket").help("socket that gets a pidfd of the process"),
        path("cwd").help("working directory in the container"),
        list("env")
            .short('e')
            .value_name("NAME=VALUE")
            .help("set an environment variable"),
        switch("tty", "allocate a terminal").short('t'),
        value("user")
            .short('u')
            .value_name("UID[:GID]")
            .help("who runs it, by number"),
        Arg::new("additional-gids")
            .long("additional-gids")
            .short('g')
            .value_name("GID")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .value_parser(value_parser!(u32))
            .help("additional group id"),
        path("process")
            .short('p')
            .help("process.json: file that describes the process"),
        switch("detach", "do not wait for the process to end").short('d'),
        path("pid-file").help("file to write the process id to"),
        value("process-label").value_name("label").help("SELinux label"),
        value("apparmor").value_name("profile").help("AppArmor profile"),
        switch("no-new-privs", "set no_new_privs"),
        list("cap")
            .short('c')
            .value_name("CAP_NAME")
            .help("add a capability"),
        number("preserve-fds").help("pass this many more file descriptors on, from 3"),
        value("cgroup")
            .value_name("path")
            .help("run the process in this sub-cgroup of the container's"),
        switch("ignore-paused", "also run in a paused container"),
    ]
}

/// Unless detached, waits for the process. Returns its exit code.
fn run(call: &Invocation) -> Result<u8> {
    let (runtime, id) = (call.runtime()?, call.id()?);
    if call.words().len() < 2 && call.path("process").is_none() {
        return Err(Error::new(ErrorKind::Invalid, "exec args cannot be empty"));
    }
    if call.flag("detach") {
        let console = console_socket(call);
        if call.flag("tty") && console.is_none() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "cannot allocate tty if {} will detach without setting console socket",
                    call.program
                ),
            ));
        }
        let mut options = exec_options(call, console);
        options.cancel = interrupt::block()?;
        runtime.exec(&id, options)?;
        return Ok(0);
    }
    refuse_console_socket(call)?;
    let signals = Signals::block()?;
    let (receiver, sender) = ConsoleReceiver::pair()?;
    let mut options = exec_options(call, Some(Console::Socket(sender)));
    options.terminal_size = terminal::own_size();
    options.plain_newlines = true;
    options.cancel = interrupt::block()?;
    let process = runtime.exec(&id, options)?;
    start_options::stay(&process, &signals, receiver, None)
}

fn exec_options(call: &Invocation, console: Option<Console>) -> ExecOptions {
    ExecOptions {
        process_file: call.path("process"),
        args: call.words().split_off(1),
        env: call.many("env"),
        cwd: call.path("cwd"),
        user: call.text("user"),
        additional_gids: call.many("additional-gids"),
        tty: call.flag("tty"),
        console,
        terminal_size: None,
        plain_newlines: false,
        pid_file: call.path("pid-file"),
        pidfd_socket: call.path("pidfd-socket"),
        process_label: call.text("process-label"),
        apparmor: call.text("apparmor"),
        no_new_privs: call.flag_if_named("no-new-privs"),
        capabilities: call
            .many::<OsString>("cap")
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect(),
        preserve_fds: call.number("preserve-fds").unwrap_or(0),
        cgroup: call.text("cgroup"),
        ignore_paused: call.flag("ignore-paused"),
        cancel: Cancel::default(),
    }
}

//! Runs in: RUNTIME. What `create`, `run` and `exec` have in common: the flags that make the library's options, and the
//! wait for a process that nobody detached.

use std::ffi::OsString;

use clap::Arg;
use runtime_core::{Cancel, Console, CreateOptions, Error, ErrorKind, NotifySocket, Process, Result};

use super::Invocation;
use crate::flags::{self, number, path, switch};
use crate::foreground::{self, Signals};
use crate::terminal::{ConsoleReceiver, Terminal};

/// The flags of `create`, which `run` has, too.
pub(crate) fn create_flags() -> Vec<Arg> {
    vec![
        flags::bundle(),
        path("config")
            .short('f')
            .help("config.json to use instead of the bundle's"),
        path("console-socket").help("socket that gets the master of the terminal"),
        path("pidfd-socket").help("socket that gets a pidfd of the init process"),
        path("pid-file").help("file to write the init process's id to"),
        switch("no-pivot", "do not use pivot_root (for a root on a ramdisk)"),
        switch("no-new-keyring", "keep the caller's session keyring"),
        number("preserve-fds").help("pass this many more file descriptors on, from 3"),
    ]
}

/// What the flags of `create` say.
pub(crate) fn create_options(call: &Invocation, console: Option<Console>) -> Result<CreateOptions> {
    let bundle = match call.path("bundle") {
        Some(bundle) => bundle,
        None => std::env::current_dir().map_err(|e| Error::io("getcwd", &e).doing("find the bundle"))?,
    };
    let listen_fds = listen_fds();
    Ok(CreateOptions {
        bundle,
        config: call.path("config"),
        console,
        terminal_size: None,
        plain_newlines: false,
        pid_file: call.path("pid-file"),
        pidfd_socket: call.path("pidfd-socket"),
        no_pivot: call.flag("no-pivot"),
        no_new_keyring: call.flag("no-new-keyring"),
        preserve_fds: call.number("preserve-fds").unwrap_or(0),
        notify: notify_host().is_some(),
        cancel: Cancel::default(),
        listen_names: names(listen_fds, std::env::var_os("LISTEN_FDNAMES")),
        listen_fds,
    })
}

/// The service manager that wants to hear when the container is ready.
pub(crate) fn notify_host() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|host| !host.is_empty())
}

/// Waits for the process. If that fails half way, the process must not be left running without a terminal.
pub(crate) fn stay(
    process: &Process,
    signals: &Signals,
    receiver: ConsoleReceiver,
    notify: Option<(NotifySocket, Cancel)>,
) -> Result<u8> {
    let terminal = receiver
        .receive()
        .and_then(|master| master.map(Terminal::join).transpose());
    let code = terminal.and_then(|terminal| foreground::wait(process, signals, terminal, notify));
    code.map_err(|error| match process.kill(libc::SIGKILL) {
        Err(second) if second.errno() != Some(runtime_core::Errno::SRCH) => error.and(second),
        _ => error,
    })
}

/// Where the master of the terminal goes.
pub(crate) fn console_socket(call: &Invocation) -> Option<Console> {
    call.path("console-socket").map(Console::Path)
}

/// Whoever stays in the foreground keeps the terminal himself.
pub(crate) fn refuse_console_socket(call: &Invocation) -> Result<()> {
    match call.path("console-socket") {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "cannot use console socket if {} will not detach or allocate tty",
                call.program
            ),
        )),
    }
}

/// How many sockets systemd's socket activation has passed to this process.
pub(crate) fn listen_fds() -> u32 {
    sockets(std::env::var_os("LISTEN_PID"), std::env::var_os("LISTEN_FDS"))
}

fn sockets(pid: Option<OsString>, count: Option<OsString>) -> u32 {
    let own = std::process::id().to_string();
    if pid.is_none_or(|pid| pid != own.as_str()) {
        return 0;
    }
    count.and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0)
}

/// The names of `count` sockets. A list of another length is left out: sd_listen_fds_with_names(3) would refuse it, where
/// without one it gives the sockets.
fn names(count: u32, names: Option<OsString>) -> Option<String> {
    let names = names?.into_string().ok()?;
    let is_whole = count > 0 && names.split(':').count() == count as usize;
    is_whole.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_are_not_passed_on() {
        let own = OsString::from(std::process::id().to_string());
        assert_eq!(sockets(Some(own.clone()), Some("2".into())), 2);
        assert_eq!(sockets(Some("1".into()), Some("2".into())), 0);
        assert_eq!(sockets(None, Some("2".into())), 0);
        assert_eq!(sockets(Some(own), Some("x".into())), 0);
    }

    #[test]
    fn there_are_as_many_names_as_sockets_or_none() {
        let two = Some(OsString::from("http:admin"));
        assert_eq!(names(2, two.clone()).as_deref(), Some("http:admin"));
        assert_eq!(names(1, two.clone()), None);
        assert_eq!(names(0, two), None);
        assert_eq!(names(1, Some("".into())).as_deref(), Some(""));
        assert_eq!(names(2, None), None);
    }
}

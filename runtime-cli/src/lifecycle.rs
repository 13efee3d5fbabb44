//! Runs in: RUNTIME. The commands that start something: create, run, exec. Turns their flags into the library's
//! options, and stays in the foreground where nobody said `--detach`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use runtime_core::{
    Console, ContainerId, CreateOptions, Error, ErrorKind, ExecOptions, Process, Result, Runtime,
};

use crate::foreground::{self, Signals};
use crate::terminal::{self, ConsoleReceiver, Terminal};

/// Creates a container and leaves its start to `start`.
pub(crate) fn create(runtime: &Runtime, id: &ContainerId, flags: &ArgMatches) -> Result<()> {
    runtime.create(id, create_options(flags, console_socket(flags))?)?;
    Ok(())
}

/// Creates and starts a container; unless detached, waits for it and deletes it. Returns the exit code.
pub(crate) fn run(runtime: &Runtime, id: &ContainerId, flags: &ArgMatches) -> Result<u8> {
    if flags.get_flag("detach") {
        runtime.run(id, create_options(flags, console_socket(flags))?)?;
        return Ok(0);
    }
    refuse_console_socket(flags)?;
    let signals = Signals::block()?;
    if !flags.get_flag("no-subreaper") {
        foreground::become_subreaper()?;
    }
    let (receiver, sender) = ConsoleReceiver::pair()?;
    let mut options = create_options(flags, Some(Console::Socket(sender)))?;
    options.terminal_size = terminal::own_size();
    let process = runtime.run(id, options)?;
    let code = stay(&process, &signals, receiver);
    if flags.get_flag("keep") && code.is_ok() {
        return code;
    }
    match (code, runtime.delete(id, true)) {
        (code, Ok(())) => code,
        (Ok(_), Err(error)) => Err(error),
        (Err(first), Err(second)) => Err(first.and(second)),
    }
}

/// Runs one more process in a container; unless detached, waits for it. Returns the exit code.
pub(crate) fn exec(runtime: &Runtime, id: &ContainerId, args: &[OsString], flags: &ArgMatches) -> Result<u8> {
    if args.is_empty() && path(flags, "process").is_none() {
        return Err(Error::new(ErrorKind::Invalid, "exec args cannot be empty"));
    }
    if flags.get_flag("detach") {
        let console = console_socket(flags);
        if flags.get_flag("tty") && console.is_none() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "cannot allocate tty if onggi will detach without setting console socket",
            ));
        }
        runtime.exec(id, exec_options(args, flags, console))?;
        return Ok(0);
    }
    refuse_console_socket(flags)?;
    let signals = Signals::block()?;
    let (receiver, sender) = ConsoleReceiver::pair()?;
    let mut options = exec_options(args, flags, Some(Console::Socket(sender)));
    options.terminal_size = terminal::own_size();
    let process = runtime.exec(id, options)?;
    stay(&process, &signals, receiver)
}

/// Waits for the process. If that fails half way, the process must not be left running without a terminal.
fn stay(process: &Process, signals: &Signals, receiver: ConsoleReceiver) -> Result<u8> {
    let terminal = receiver
        .receive()
        .and_then(|master| master.map(Terminal::join).transpose());
    let code = terminal.and_then(|terminal| foreground::wait(process, signals, terminal));
    code.map_err(|error| match process.kill(libc::SIGKILL) {
        Err(second) if second.errno() != Some(runtime_core::Errno::SRCH) => error.and(second),
        _ => error,
    })
}

fn console_socket(flags: &ArgMatches) -> Option<Console> {
    path(flags, "console-socket").map(Console::Path)
}

fn refuse_console_socket(flags: &ArgMatches) -> Result<()> {
    if flags.contains_id("console-socket") {
        return Err(Error::new(
            ErrorKind::Invalid,
            "cannot use console socket if onggi will not detach or allocate tty",
        ));
    }
    Ok(())
}

fn create_options(flags: &ArgMatches, console: Option<Console>) -> Result<CreateOptions> {
    let bundle = match path(flags, "bundle") {
        Some(bundle) => bundle,
        None => std::env::current_dir().map_err(|e| Error::io("getcwd", &e).doing("find the bundle"))?,
    };
    Ok(CreateOptions {
        bundle,
        config: path(flags, "config"),
        console,
        terminal_size: None,
        pid_file: path(flags, "pid-file"),
        pidfd_socket: path(flags, "pidfd-socket"),
        no_pivot: flags.get_flag("no-pivot"),
        no_new_keyring: flags.get_flag("no-new-keyring"),
        preserve_fds: preserve_fds(flags),
        listen_fds: listen_fds(std::env::var_os("LISTEN_PID"), std::env::var_os("LISTEN_FDS")),
    })
}

fn exec_options(args: &[OsString], flags: &ArgMatches, console: Option<Console>) -> ExecOptions {
    ExecOptions {
        process_file: path(flags, "process"),
        args: args.to_vec(),
        env: many(flags, "env"),
        cwd: path(flags, "cwd"),
        user: text(flags, "user"),
        additional_gids: many(flags, "additional-gids"),
        tty: flags.get_flag("tty"),
        console,
        terminal_size: None,
        pid_file: path(flags, "pid-file"),
        pidfd_socket: path(flags, "pidfd-socket"),
        process_label: text(flags, "process-label"),
        apparmor: text(flags, "apparmor"),
        no_new_privs: (flags.value_source("no-new-privs") == Some(ValueSource::CommandLine))
            .then(|| flags.get_flag("no-new-privs")),
        capabilities: many::<OsString>(flags, "cap")
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect(),
        preserve_fds: preserve_fds(flags),
        cgroup: text(flags, "cgroup"),
        ignore_paused: flags.get_flag("ignore-paused"),
    }
}

/// The sockets of systemd's socket activation, if they are meant for this process.
fn listen_fds(pid: Option<OsString>, count: Option<OsString>) -> u32 {
    let own = std::process::id().to_string();
    if pid.is_none_or(|pid| pid != own.as_str()) {
        return 0;
    }
    count.and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0)
}

fn preserve_fds(flags: &ArgMatches) -> u32 {
    flags.get_one("preserve-fds").copied().unwrap_or(0)
}

fn path(flags: &ArgMatches, name: &str) -> Option<PathBuf> {
    flags
        .get_one::<PathBuf>(name)
        .filter(|path| !path.as_os_str().is_empty())
        .cloned()
}

fn text(flags: &ArgMatches, name: &str) -> Option<String> {
    flags.get_one::<String>(name).cloned()
}

fn many<T: Clone + Send + Sync + 'static>(flags: &ArgMatches, name: &str) -> Vec<T> {
    flags
        .get_many(name)
        .map(|all| all.cloned().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_are_not_passed_on() {
        let own = OsString::from(std::process::id().to_string());
        assert_eq!(listen_fds(Some(own.clone()), Some("2".into())), 2);
        assert_eq!(listen_fds(Some("1".into()), Some("2".into())), 0);
        assert_eq!(listen_fds(None, Some("2".into())), 0);
        assert_eq!(listen_fds(Some(own), Some("x".into())), 0);
    }
}

//! Runs in: RUNTIME. `exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use runtime_core::{Console, Document, Error, ErrorKind, ExecOptions, Result};

use super::common_flags::ConsoleFlag;
use super::{Command, Definition, FailurePrefix, Invocation};
use crate::flags::flags;
use crate::foreground::{self, Signals};
use crate::go_flags::FlagsEnd;
use crate::interrupt;
use crate::terminal::{self, ConsoleReceiver};

flags! {
    pub(crate) struct Exec {
        ..console: ConsoleFlag,
        /// socket that gets a pidfd of the process
        pidfd_socket: Option<PathBuf>,
        /// working directory in the container
        cwd: Option<PathBuf>,
        /// set an environment variable
        env: Vec<OsString> { short('e').value_name("NAME=VALUE") },
        /// allocate a terminal
        tty: bool { short('t') },
        /// who runs it, by number
        user: Option<String> { short('u').value_name("UID[:GID]") },
        /// additional group id
        additional_gids: Vec<u32> { short('g').value_name("GID") },
        /// process.json: file that describes the process
        process: Option<PathBuf> { short('p') },
        /// do not wait for the process to end
        detach: bool { short('d') },
        /// file to write the process id to
        pid_file: Option<PathBuf>,
        /// SELinux label
        process_label: Option<String> { value_name("label") },
        /// AppArmor profile
        apparmor: Option<String> { value_name("profile") },
        /// set no_new_privs
        no_new_privs: Option<bool>,
        /// add a capability
        cap: Vec<OsString> { short('c').value_name("CAP_NAME") },
        /// pass this many more file descriptors on, from 3
        preserve_fds: u32,
        /// run the process in this sub-cgroup of the container's
        cgroup: Option<String> { value_name("path") },
        /// also run in a paused container
        ignore_paused: bool,
    }
}

impl Command for Exec {
    const DEFINITION: Definition = Definition {
        usage: &[
            "<container-id> <command> [args...]",
            "-p process.json <container-id>",
        ],
        words: (1, usize::MAX),
        flags_end: FlagsEnd::AtFirstPositional,
        seals: true,
        failure: FailurePrefix::Command,
        failure_code: 255,
        ..Definition::new::<Self>("exec", "run another process in a container")
    };

    fn stays(&self) -> bool {
        !self.detach
    }

    fn preserved_fds(&self) -> u32 {
        self.preserve_fds
    }

    /// Unless detached, waits for the process. Returns its exit code.
    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        let args = call.words.get(1..).unwrap_or_default();
        if args.is_empty() && self.process.is_none() {
            return Err(invalid("exec args cannot be empty".to_owned()));
        }
        if self.detach {
            if self.tty && self.console.console_socket.is_none() {
                return Err(invalid(format!(
                    "cannot allocate tty if {} will detach without setting console socket",
                    call.program
                )));
            }
            let options = self.options(args).cancel(interrupt::block()?);
            runtime.exec(&id, options)?;
            return Ok(0);
        }
        self.console.refuse(call.program)?;
        let signals = Signals::block()?;
        let (receiver, sender) = ConsoleReceiver::pair()?;
        let options = self
            .options(args)
            .console(Console::Socket(sender))
            .terminal_size(terminal::own_size())
            .plain_newlines(true)
            .cancel(interrupt::block()?);
        let process = runtime.exec(&id, options)?;
        foreground::stay(&process, &signals, receiver, None)
    }
}

impl Exec {
    /// For a caller who goes on at once: the terminal goes where `--console-socket` says.
    fn options(self, args: &[OsString]) -> ExecOptions {
        let capabilities: Vec<String> = self
            .cap
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        ExecOptions::default()
            .process(self.process.map(Document::File))
            .args(args)
            .env(self.env)
            .cwd(self.cwd)
            .user(self.user)
            .additional_gids(self.additional_gids)
            .tty(self.tty)
            .console(self.console.console())
            .pid_file(self.pid_file)
            .pidfd_socket(self.pidfd_socket)
            .process_label(self.process_label)
            .apparmor(self.apparmor)
            .no_new_privs(self.no_new_privs)
            .capabilities(capabilities)
            .preserve_fds(self.preserve_fds)
            .cgroup(self.cgroup)
            .ignore_paused(self.ignore_paused)
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

//! Runs in: RUNTIME. The flags that several commands have, and what they mean.

use std::path::PathBuf;

use runtime_core::{Console, ContainerId, CreateOptions, Document, Error, ErrorKind, Result, Runtime};

use super::Invocation;
use crate::flags::flags;
use crate::output::Listing;
use crate::service_manager;

flags! {
    /// Where the bundle is.
    pub(crate) struct BundleFlag {
        /// path of the bundle [default: .]
        bundle: Option<PathBuf> { short('b') },
    }
}

impl BundleFlag {
    pub(crate) fn directory(self) -> Result<PathBuf> {
        match self.bundle {
            Some(bundle) => Ok(bundle),
            None => std::env::current_dir().map_err(|e| Error::os("getcwd", e).doing("find the bundle")),
        }
    }
}

flags! {
    /// Where the master of the terminal goes.
    pub(crate) struct ConsoleFlag {
        /// socket that gets the master of the terminal
        console_socket: Option<PathBuf>,
    }
}

impl ConsoleFlag {
    pub(crate) fn console(self) -> Option<Console> {
        self.console_socket.map(Console::Path)
    }

    /// In the foreground this process keeps the terminal itself.
    pub(crate) fn refuse(&self, program: &str) -> Result<()> {
        match self.console_socket {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::Invalid,
                format!("cannot use console socket if {program} will not detach or allocate tty"),
            )),
        }
    }
}

flags! {
    /// The flags of `create` and `run`.
    pub(crate) struct CreateFlags {
        ..bundle: BundleFlag,
        /// config.json to use instead of the bundle's
        config: Option<PathBuf> { short('f') },
        ..console: ConsoleFlag,
        /// socket that gets a pidfd of the init process
        pidfd_socket: Option<PathBuf>,
        /// file to write the init process's id to
        pid_file: Option<PathBuf>,
        /// do not use pivot_root (for a root on a ramdisk)
        no_pivot: bool,
        /// keep the caller's session keyring
        no_new_keyring: bool,
        /// pass this many more file descriptors on, from 3
        preserve_fds: u32,
    }
}

impl CreateFlags {
    /// For a caller who goes on at once: the terminal goes where `--console-socket` says.
    pub(crate) fn options(self) -> Result<CreateOptions> {
        let listen_fds = service_manager::listen_fds();
        Ok(CreateOptions::default()
            .bundle(self.bundle.directory()?)
            .config(self.config.map(Document::File))
            .console(self.console.console())
            .pid_file(self.pid_file)
            .pidfd_socket(self.pidfd_socket)
            .no_pivot(self.no_pivot)
            .no_new_keyring(self.no_new_keyring)
            .preserve_fds(self.preserve_fds)
            .notify(service_manager::notify_socket().is_some())
            .listen_names(service_manager::listen_names(listen_fds))
            .listen_fds(listen_fds))
    }
}

flags! {
    /// Which containers: one, or several.
    pub(crate) struct RegexFlag {
        /// the id is a regular expression; for all containers that it matches
        regex: bool { short('r') },
    }
}

impl RegexFlag {
    /// Does it for the container of that id, or with `--regex` for each that the expression matches. One that
    /// fails does not keep the others from their turn.
    pub(crate) fn for_each(
        &self,
        call: &Invocation,
        operation: impl Fn(&Runtime, &ContainerId) -> Result<()>,
    ) -> Result<()> {
        let runtime = call.runtime()?;
        let Some(pattern) = call.words.first().filter(|_| self.regex) else {
            return operation(&runtime, &call.id()?);
        };
        let pattern = pattern.to_string_lossy();
        let pattern = regex_lite::Regex::new(&pattern)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("--regex {pattern:?}: {e}")))?;
        let mut failed: Vec<(ErrorKind, String)> = Vec::new();
        for (id, _) in runtime.list()? {
            if pattern.is_match(id.as_str())
                && let Err(error) = operation(&runtime, &id)
            {
                failed.push((error.kind(), format!("{id}: {error}")));
            }
        }
        let Some((kind, _)) = failed.first() else {
            return Ok(());
        };
        let texts: Vec<&str> = failed.iter().map(|(_, text)| text.as_str()).collect();
        Err(Error::new(*kind, texts.join("; ")))
    }
}

flags! {
    /// How a list is printed.
    pub(crate) struct FormatFlag {
        /// table or json
        format: String { short('f').default_value("table") },
    }
}

impl FormatFlag {
    pub(crate) fn listing(&self, quiet: bool) -> Result<Listing> {
        Listing::new(&self.format, quiet)
    }
}

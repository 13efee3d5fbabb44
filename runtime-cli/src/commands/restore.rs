//! Runs in: RUNTIME. `restore`: makes a container from what `checkpoint` has saved.

use std::path::PathBuf;

use runtime_core::{Console, RestoreOptions, Result};

use super::checkpoint::CriuFlags;
use super::common_flags::{BundleFlag, ConsoleFlag};
use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::foreground::{self, Signals};
use crate::interrupt;
use crate::terminal::ConsoleReceiver;

flags! {
    #[expect(dead_code, reason = "--no-pivot and --parent-path have no effect, as with runc")]
    pub(crate) struct Restore {
        ..bundle: BundleFlag,
        ..console: ConsoleFlag,
        /// file to write the init process's id to
        pid_file: Option<PathBuf>,
        /// do not wait for the container to end
        detach: bool { short('d') },
        /// do not adopt the orphans of the container
        no_subreaper: bool,
        /// do not use pivot_root (for a root on a ramdisk)
        no_pivot: bool,
        ..criu: CriuFlags,
        /// directory of an earlier --pre-dump, relative to --image-path
        parent_path: Option<PathBuf>,
        /// close the TCP connections that were open
        tcp_close: bool,
        /// fetch memory when it is needed
        lazy_pages: bool,
        /// security profile, as in apparmor:NAME
        lsm_profile: Option<String> { value_name("TYPE:NAME") },
        /// SELinux context of the mounts
        lsm_mount_context: Option<String> { value_name("context") },
    }
}

impl Command for Restore {
    const DEFINITION: Definition = Definition {
        seals: true,
        creates: true,
        ..Definition::new::<Self>("restore", "make a container from the files of a checkpoint")
    };

    /// Unless detached, waits for the container and deletes it. Returns its exit code.
    fn run(self, call: &Invocation) -> Result<u8> {
        let (runtime, id) = (call.runtime()?, call.id()?);
        if self.detach {
            let options = self.options()?.cancel(interrupt::block()?);
            runtime.restore(&id, options)?;
            return Ok(0);
        }
        self.console.refuse(call.program)?;
        let signals = Signals::block()?;
        if !self.no_subreaper {
            foreground::become_subreaper()?;
        }
        let (receiver, sender) = ConsoleReceiver::pair()?;
        let options = self
            .options()?
            .console(Console::Socket(sender))
            .plain_newlines(true)
            .cancel(interrupt::block()?);
        let process = runtime.restore(&id, options)?;
        let code = foreground::stay(&process, &signals, receiver, None);
        match (code, runtime.delete(&id, true)) {
            (code, Ok(())) => code,
            (Ok(_), Err(error)) => Err(error),
            (Err(first), Err(second)) => Err(first.and(second)),
        }
    }
}

impl Restore {
    /// For a caller who goes on at once. `--no-pivot` and `--parent-path` say nothing new: criu enters the
    /// root in its own way, and finds the parent by a link in the images.
    fn options(self) -> Result<RestoreOptions> {
        let bundle = self.bundle.directory()?;
        let criu = self.criu.options()?;
        let criu = criu.tcp_close(self.tcp_close).lazy_pages(self.lazy_pages);
        Ok(RestoreOptions::default()
            .criu(criu)
            .bundle(bundle)
            .console(self.console.console())
            .pid_file(self.pid_file)
            .lsm_profile(self.lsm_profile)
            .lsm_mount_context(self.lsm_mount_context))
    }
}

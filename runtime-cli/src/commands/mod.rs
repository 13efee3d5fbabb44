//! Runs in: RUNTIME. The commands, one file each: its flags, and what it does. How the command line is read
//! is `args`' business.

pub(crate) mod checkpoint;
mod common_flags;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod mounts;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;

use std::ffi::OsString;

use clap::{Arg, ArgMatches};
use runtime_core::{ContainerId, Result, Runtime};

use crate::flags::Flags;
use crate::globals::{Globals, Root};
use crate::go_flags::FlagsEnd;
use crate::words;

/// A struct of flags that is a command: its file says how it is called and what it does.
pub(crate) trait Command: Flags {
    const DEFINITION: Definition;

    /// Does it; returns the exit code.
    fn run(self, call: &Invocation) -> Result<u8>;

    /// Whether this process stays in place of the container's own, until that ends.
    fn stays(&self) -> bool {
        false
    }

    /// How many of the caller's descriptors, from 3 on, `--preserve-fds` wants for the container's process.
    fn preserved_fds(&self) -> u32 {
        0
    }
}

/// What there is to know of a command before its flags are read.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// One line of help.
    pub(crate) about: &'static str,
    /// What comes after the options, one line for each form of the command.
    pub(crate) usage: &'static [&'static str],
    /// The fewest and the most words that are not flags.
    pub(crate) words: (usize, usize),
    pub(crate) flags_end: FlagsEnd,
    /// Whether it makes a process that the container can reach, so that the own executable has to be sealed
    /// first.
    pub(crate) seals: bool,
    /// Whether it makes a container.
    pub(crate) creates: bool,
    /// Whether it takes descriptors of the caller's by their numbers, and marks the rest close-on-exec
    /// itself.
    pub(crate) takes_descriptors: bool,
    /// What stands in front of an error's text.
    pub(crate) failure: FailurePrefix,
    /// The exit code after an error.
    pub(crate) failure_code: u8,
    define: fn(&mut Vec<Arg>),
    read: fn(&mut ArgMatches) -> AnyCommand,
}

/// What stands in front of an error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailurePrefix {
    None,
    /// `exec failed: `
    Command,
    /// `onggi run failed: `
    ProgramAndCommand,
}

impl Definition {
    /// A command as most are: one container, nothing in front of errors, 1 after them. Others say what
    /// differs.
    const fn new<C: Command + Into<AnyCommand>>(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            usage: &["<container-id>"],
            words: (1, 1),
            flags_end: FlagsEnd::AtLastArgument,
            seals: false,
            creates: false,
            takes_descriptors: false,
            failure: FailurePrefix::None,
            failure_code: 1,
            define: C::define,
            read: |matches| C::read(matches).into(),
        }
    }

    /// The flags, as clap knows them.
    pub(crate) fn flags(&self) -> Vec<Arg> {
        let mut flags = Vec::new();
        (self.define)(&mut flags);
        flags
    }

    /// The command with its flags, from what clap has found of them.
    pub(crate) fn read(&self, matches: &mut ArgMatches) -> AnyCommand {
        (self.read)(matches)
    }

    /// What stands in front of an error's text.
    pub(crate) fn prefix(&self, program: &str) -> String {
        match self.failure {
            FailurePrefix::None => String::new(),
            FailurePrefix::Command => format!("{} failed: ", self.name),
            FailurePrefix::ProgramAndCommand => format!("{program} {} failed: ", self.name),
        }
    }
}

/// Makes, of the list of commands, [`AnyCommand`] and [`ALL`].
macro_rules! commands {
    ($($module:ident::$command:ident,)+) => {
        /// One of the commands, with its flags.
        #[derive(Debug)]
        #[expect(clippy::large_enum_variant, reason = "there is one of it, which is moved twice")]
        pub(crate) enum AnyCommand {
            $($command($module::$command),)+
        }

        /// Every command, in the order of the help text.
        pub(crate) const ALL: &[Definition] = &[$($module::$command::DEFINITION,)+];

        impl AnyCommand {
            pub(crate) const fn definition(&self) -> &'static Definition {
                match self {
                    $(Self::$command(_) => const { &$module::$command::DEFINITION },)+
                }
            }

            /// [`Command::stays`].
            pub(crate) fn stays(&self) -> bool {
                match self {
                    $(Self::$command(command) => command.stays(),)+
                }
            }

            /// [`Command::preserved_fds`].
            pub(crate) fn preserved_fds(&self) -> u32 {
                match self {
                    $(Self::$command(command) => command.preserved_fds(),)+
                }
            }
        }

        $(impl From<$module::$command> for AnyCommand {
            fn from(command: $module::$command) -> Self {
                Self::$command(command)
            }
        })+
    };
}

commands! {
    checkpoint::Checkpoint,
    create::Create,
    delete::Delete,
    events::Events,
    exec::Exec,
    features::Features,
    kill::Kill,
    list::List,
    mounts::Mounts,
    pause::Pause,
    ps::Ps,
    restore::Restore,
    resume::Resume,
    run::Run,
    spec::Spec,
    start::Start,
    state::State,
    update::Update,
}

/// The names of the commands that seal, a null byte after each.
pub const SEALED: [u8; length_of_sealed()] = {
    let mut names = [0; length_of_sealed()];
    let (mut command, mut end) = (0, 0);
    while command < ALL.len() {
        if ALL[command].seals {
            let name = ALL[command].name.as_bytes();
            let (_, rest) = names.split_at_mut(end);
            rest.split_at_mut(name.len()).0.copy_from_slice(name);
            end += name.len() + 1;
        }
        command += 1;
    }
    names
};

const fn length_of_sealed() -> usize {
    let (mut command, mut length) = (0, 0);
    while command < ALL.len() {
        if ALL[command].seals {
            length += ALL[command].name.len() + 1;
        }
        command += 1;
    }
    length
}

/// The rest of the command line, as a command sees it.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// What this program is called: `runc` by those who know no other.
    pub(crate) program: &'static str,
    pub(crate) globals: Globals,
    /// The words of the command that are not flags: the container's id first, where there is one.
    pub(crate) words: Vec<OsString>,
    /// The caller's soft limit of open files; ours is as high as it goes.
    pub(crate) open_files: u64,
}

impl Invocation {
    pub(crate) fn root(&self) -> Result<Root> {
        Root::new(&self.globals, self.program)
    }

    pub(crate) fn runtime(&self) -> Result<Runtime> {
        let runtime = Runtime::new(self.root()?.path, self.globals.cgroup_driver());
        let runtime = runtime.with_rootless(self.globals.rootless());
        Ok(runtime.with_open_files(self.open_files))
    }

    /// The container's id, which is the first word.
    pub(crate) fn id(&self) -> Result<ContainerId> {
        words::container_id(self.words.first())
    }
}

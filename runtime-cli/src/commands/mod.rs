//! Runs in: RUNTIME. The commands, one file each: its flags, and what it does with them. How the command line is read
//! is `args`' business.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod mounts;
mod pause;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod start_options;
mod state;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use runtime_core::{ContainerId, Error, ErrorKind, Result, Runtime};

use crate::go_flags::FlagsEnd;
use crate::settings::{self, Root};
pub(crate) use start_options::notify_host;

/// Every command, in the order of the help text.
pub(crate) const ALL: [&Definition; 18] = [
    &checkpoint::COMMAND,
    &create::COMMAND,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &features::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &mounts::COMMAND,
    &pause::COMMAND,
    &ps::COMMAND,
    &restore::COMMAND,
    &resume::COMMAND,
    &run::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
];

/// One command.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// One line of help.
    pub(crate) about: &'static str,
    /// What comes behind the options, one line for each form of the command.
    pub(crate) usage: &'static [&'static str],
    /// The fewest and the most words that are not flags.
    pub(crate) words: (usize, usize),
    pub(crate) flags_end: FlagsEnd,
    pub(crate) flags: fn() -> Vec<Arg>,
    /// What is done; returns the exit code.
    pub(crate) run: fn(&Invocation) -> Result<u8>,
    /// What stands in front of an error's text, given the program's name.
    pub(crate) failure: fn(&str) -> String,
    /// The exit code after an error.
    pub(crate) failure_code: u8,
}

/// A command as most are: one container, nothing in front of errors, 1 after them. Others say what differs.
const fn command(
    name: &'static str,
    about: &'static str,
    flags: fn() -> Vec<Arg>,
    run: fn(&Invocation) -> Result<u8>,
) -> Definition {
    Definition {
        name,
        about,
        usage: &["<container-id>"],
        words: (1, 1),
        flags_end: FlagsEnd::AtLastArgument,
        flags,
        run,
        failure: |_| String::new(),
        failure_code: 1,
    }
}

/// The command line of one run, as its command sees it.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    /// What this program is called: `runc` by those who know no other.
    pub(crate) program: &'a str,
    pub(crate) globals: &'a ArgMatches,
    pub(crate) flags: ArgMatches,
    /// The caller's soft limit of open files; ours is as high as it goes.
    pub(crate) open_files: u64,
}

impl Invocation<'_> {
    pub(crate) fn root(&self) -> Result<Root> {
        Root::new(self.globals, self.program)
    }

    pub(crate) fn runtime(&self) -> Result<Runtime> {
        let driver = settings::cgroup_driver(self.globals);
        let rootless = settings::rootless(self.globals);
        let runtime = Runtime::new(self.root()?.path, driver).with_rootless(rootless);
        Ok(runtime.with_open_files(self.open_files))
    }

    /// The container's id, which is the first word.
    pub(crate) fn id(&self) -> Result<ContainerId> {
        let words = self.words();
        settings::container_id(words.first())
    }

    /// Does it for the container of that id, or with `--regex` for each that the expression matches. One that fails
    /// does not keep the others from their turn.
    pub(crate) fn for_each(&self, operation: impl Fn(&Runtime, &ContainerId) -> Result<()>) -> Result<()> {
        let runtime = self.runtime()?;
        if !self.flag("regex") {
            return operation(&runtime, &self.id()?);
        }
        let pattern = self.words().remove(0).to_string_lossy().into_owned();
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

    /// The words of the command that are not flags: the container's id first, where there is one.
    pub(crate) fn words(&self) -> Vec<OsString> {
        self.many("words")
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flags.get_flag(name)
    }

    /// What was said about a switch; none if it was not named at all.
    pub(crate) fn flag_if_named(&self, name: &str) -> Option<bool> {
        let named = self.flags.value_source(name) == Some(ValueSource::CommandLine);
        named.then(|| self.flag(name))
    }

    /// A path; an empty one is none.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.flags
            .get_one::<PathBuf>(name)
            .filter(|path| !path.as_os_str().is_empty())
            .cloned()
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.flags.get_one::<String>(name).cloned()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.flags.get_one(name).copied()
    }

    /// How many of the caller's descriptors, from 3 on, are for the container's process.
    pub(crate) fn handed_on(&self) -> u32 {
        // Not every command has the flag.
        let preserved = self.flags.try_get_one::<u32>("preserve-fds").ok().flatten();
        preserved
            .copied()
            .unwrap_or(0)
            .saturating_add(start_options::listen_fds())
    }

    pub(crate) fn many<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T> {
        self.flags
            .get_many(name)
            .map(|all| all.cloned().collect())
            .unwrap_or_default()
    }
}

//! Runs in: SHIM. The command line, spelled as Go's flags are: `-name value`, `--name=value`, and the action
//! after them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, Result};

/// What this process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Print the version.
    Version,
    /// Print what the runtime can do.
    Info,
    /// Start the shim of a pod, or name the one that is there.
    Start,
    /// Take away what is left of a container whose shim is gone.
    Delete,
    /// Be the shim.
    Serve,
    /// Be in a user namespace of one's own until it is told to end.
    HoldUserNamespace,
    /// Be a logger of `binary://`: our own, between `Serve` and the program.
    Log,
}

/// The arguments, as containerd gives them.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) bundle: Option<PathBuf>,
    /// containerd's address for gRPC.
    pub(crate) address: String,
    pub(crate) debug: bool,
    /// What follows the action.
    pub(crate) rest: Vec<OsString>,
}

impl Arguments {
    /// # Errors
    /// A flag that is none, or lacks its value; an action that is none; no namespace where one is needed.
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut words: VecDeque<OsString> = words.collect();
        let mut parsed = Self {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            bundle: None,
            address: String::new(),
            debug: false,
            rest: Vec::new(),
        };
        let mut asked = None;
        while let Some(flag) = next_flag(&mut words)? {
            asked = parsed.take(flag, &mut words)?.or(asked);
        }
        parsed.action = match asked {
            Some(action) => action,
            None => action(words.pop_front())?,
        };
        parsed.rest = words.into();
        parsed.check()
    }

    /// Takes a flag with its value. An action if the flag is one.
    fn take(&mut self, flag: Flag, words: &mut VecDeque<OsString>) -> Result<Option<Action>> {
        match flag.name.as_str() {
            "v" | "version" => return Ok(Some(Action::Version)),
            "info" => return Ok(Some(Action::Info)),
            "debug" => self.debug = flag.value.as_deref() != Some("false"),
            "namespace" => self.namespace = flag.value(words)?,
            "id" => self.id = flag.value(words)?,
            "bundle" => self.bundle = Some(flag.value(words)?.into()),
            "address" => self.address = flag.value(words)?,
            // Events go to TTRPC_ADDRESS, and the socket is the one that `start` has made.
            "publish-binary" | "socket" | "debug-socket" => drop(flag.value(words)?),
            other => {
                return Err(Failure::invalid(format!(
                    "flag provided but not defined: -{other}"
                )));
            }
        }
        Ok(None)
    }

    fn check(self) -> Result<Self> {
        let needs_pod = matches!(self.action, Action::Start | Action::Delete | Action::Serve);
        if needs_pod && self.namespace.is_empty() {
            return Err(Failure::invalid("shim namespace cannot be empty"));
        }
        if needs_pod && self.id.is_empty() {
            return Err(Failure::invalid("shim id cannot be empty"));
        }
        Ok(self)
    }
}

struct Flag {
    name: String,
    value: Option<String>,
}

impl Flag {
    fn value(self, words: &mut VecDeque<OsString>) -> Result<String> {
        if let Some(value) = self.value {
            return Ok(value);
        }
        let missing = || Failure::invalid(format!("flag needs an argument: -{}", self.name));
        text(words.pop_front().ok_or_else(missing)?)
    }
}

/// The next word, if it is a flag.
fn next_flag(words: &mut VecDeque<OsString>) -> Result<Option<Flag>> {
    let Some(word) = words.front().and_then(|word| word.to_str()) else {
        return Ok(None);
    };
    let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
        return Ok(None);
    };
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (flag, None),
    };
    let name = name.to_owned();
    words.pop_front();
    Ok(Some(Flag { name, value }))
}

fn action(word: Option<OsString>) -> Result<Action> {
    let Some(word) = word else {
        return Ok(Action::Serve);
    };
    match word.to_str() {
        Some("start") => Ok(Action::Start),
        Some("delete") => Ok(Action::Delete),
        Some("hold-user-namespace") => Ok(Action::HoldUserNamespace),
        Some("log") => Ok(Action::Log),
        _ => Err(Failure::invalid(format!("unknown action {}", word.display()))),
    }
}

fn text(word: OsString) -> Result<String> {
    word.into_string()
        .map_err(|word| Failure::invalid(format!("not text: {}", word.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_are_read_as_containerd_writes_them() {
        let start =
            parse("-namespace k8s.io -address /c.sock -publish-binary /bin/c -id a -debug start").unwrap();
        assert_eq!(start.action, Action::Start);
        assert_eq!((start.namespace.as_str(), start.id.as_str()), ("k8s.io", "a"));
        assert_eq!(start.address, "/c.sock");
        assert!(start.debug);
        let delete = parse("--namespace=n --id=a -bundle /b delete").unwrap();
        assert_eq!(delete.action, Action::Delete);
        assert_eq!(delete.bundle.as_deref(), Some("/b".as_ref()));
        assert_eq!(parse("-namespace n -id a").unwrap().action, Action::Serve);
    }

    #[test]
    fn some_actions_need_no_namespace() {
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert!(parse("-id a start").is_err());
        assert!(parse("-namespace n start").is_err());
    }

    #[test]
    fn mistakes_are_told() {
        for (line, text) in [
            ("-nonsense start", "not defined: -nonsense"),
            ("-namespace n -id", "needs an argument: -id"),
            ("-namespace n -id a stop", "unknown action stop"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}

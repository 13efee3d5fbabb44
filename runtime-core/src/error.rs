//! Runs in: RUNTIME. The one error type of the library: what was being done, which field of config.json asked
//! for it, which path and system call failed, with which errno, and what to do about it.
//!
//! The type is opaque; programs match on [`Error::kind`] and [`Error::errno`], never on text. The text is for
//! people, and for those engines that search it for the substrings listed in `docs/design.md`.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use runtime_sys::{Call, SysError};
pub use rustix::io::Errno;

/// The result of every fallible function of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and where. One word wide; the parts are behind accessors.
pub struct Error(Box<Parts>);

struct Parts {
    kind: ErrorKind,
    doing: Option<Cow<'static, str>>,
    field: Option<Cow<'static, str>>,
    path: Option<PathBuf>,
    call: Option<Cow<'static, str>>,
    message: Option<Cow<'static, str>>,
    errno: Option<Errno>,
    hint: Option<Cow<'static, str>>,
    others: Vec<Error>,
}

/// The classes of failure that a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// config.json, a process file or an argument is not legal.
    Invalid,
    /// Legal, but this kernel, host or build cannot do it.
    Unsupported,
    /// A container with that id is already there.
    AlreadyExists,
    /// No container with that id.
    NotFound,
    /// The container is in the wrong status for this operation.
    WrongStatus,
    /// The caller lacks a privilege.
    Denied,
    /// A hook failed, could not be started, or ran out of time.
    Hook,
    /// The program is there, but the kernel could not execute it: it, or what interprets it, is no program, or missing.
    Exec,
    /// The caller has told the operation to give up ([`crate::Cancel`]).
    Interrupted,
    /// A system call failed.
    Os,
    /// The state on disk is damaged, or a promise between runtime and init was broken.
    Internal,
}

impl Error {
    /// A failure that is a plain sentence.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            kind,
            doing: None,
            field: None,
            path: None,
            call: None,
            message: Some(message.into()),
            errno: None,
            hint: None,
            others: Vec::new(),
        }))
    }

    /// An illegal value in config.json (or a process file): the field in dotted form, and what is wrong with it.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message).field(field)
    }

    /// A failed system call.
    pub fn os(call: impl Into<Cow<'static, str>>, errno: Errno) -> Self {
        let mut error = Self::new(ErrorKind::Os, "");
        error.0.message = None;
        error.0.call = Some(call.into());
        error.0.errno = Some(errno);
        error
    }

    /// A failed operation of the standard library; `call` names the system call below it.
    pub fn io(call: impl Into<Cow<'static, str>>, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::os(call, Errno::from_raw_os_error(raw)),
            None => {
                let mut e = Self::new(ErrorKind::Os, error.to_string());
                e.0.call = Some(call.into());
                e
            }
        }
    }

    /// Names the operation, as in `mount proc`. Where there is one already, the new one comes in front of it.
    #[must_use]
    pub fn doing(mut self, doing: impl Into<Cow<'static, str>>) -> Self {
        let doing = doing.into();
        self.0.doing = Some(match self.0.doing {
            None => doing,
            Some(inner) => format!("{doing}: {inner}").into(),
        });
        self
    }

    /// Names the field of config.json that asked for it, as in `mounts[3].options`.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Names the path.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_owned());
        self
    }

    /// Says what to do about it, or what the likely cause is.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Changes the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds a failure that happened while this one was being cleaned up after. It is printed after this one.
    #[must_use]
    pub fn and(mut self, other: Error) -> Self {
        self.0.others.push(other);
        self
    }

    /// Whether something has failed while this one was being cleaned up after, so that something may be left.
    pub fn left_something(&self) -> bool {
        !self.0.others.is_empty()
    }

    /// Joins failures of a clean-up that went on after each: the first, with the others after it.
    pub fn join(errors: Vec<Error>) -> Result<()> {
        let mut errors = errors.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(first) => Err(errors.fold(first, Error::and)),
        }
    }

    /// The failure alone: without what was being done, and without a hint at its cause.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.0.doing = None;
        self.0.hint = None;
        self
    }

    /// What to do about it, or what the likely cause is.
    pub fn what_to_do(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The class of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno of the failed system call, if it was one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// The field of config.json that asked for what failed, in dotted form.
    pub fn spec_field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
}

impl From<SysError> for Error {
    fn from(error: SysError) -> Self {
        match (error.call, error.errno) {
            // `Image::of_this_program`: only an embedding program can be linked like that.
            (Call::None, Errno::NOEXEC) => Self::new(
                ErrorKind::Unsupported,
                "this program looks functions up when they are first called, which a child of it cannot: link it with -z now",
            ),
            _ => Self::os(error.call.name(), error.errno),
        }
    }
}

/// The result of a system call, which does not say which it was.
pub(crate) trait CallResult<T> {
    /// Names the call.
    fn call(self, name: &'static str) -> Result<T>;
}

impl<T> CallResult<T> for rustix::io::Result<T> {
    fn call(self, name: &'static str) -> Result<T> {
        self.map_err(|errno| Error::os(name, errno))
    }
}

impl<T> CallResult<T> for std::io::Result<T> {
    fn call(self, name: &'static str) -> Result<T> {
        self.map_err(|error| Error::io(name, &error))
    }
}

/// What [`Error`] can be told, for a result. What costs something to say is said in `map_err`.
pub(crate) trait ErrorResult<T> {
    fn doing(self, doing: &'static str) -> Result<T>;
    fn field(self, field: &'static str) -> Result<T>;
    fn path(self, path: impl AsRef<Path>) -> Result<T>;
    fn hint(self, hint: &'static str) -> Result<T>;
}

impl<T, E: Into<Error>> ErrorResult<T> for std::result::Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| error.into().doing(doing))
    }

    fn field(self, field: &'static str) -> Result<T> {
        self.map_err(|error| error.into().field(field))
    }

    fn path(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| error.into().path(path))
    }

    fn hint(self, hint: &'static str) -> Result<T> {
        self.map_err(|error| error.into().hint(hint))
    }
}

/// An errno that somebody else has told us. `Errno::from_raw_os_error` alone panics at a number that is none.
pub(crate) fn told_errno(number: i32) -> Option<Errno> {
    (1..4096)
        .contains(&number)
        .then(|| Errno::from_raw_os_error(number))
}

/// The text of an errno as engines match it: first letter small, without the number.
pub fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().collect::<String>() + letters.as_str(),
        None => format!("errno {}", errno.raw_os_error()),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &*self.0;
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, text: &str| {
            let result = write!(f, "{separator}{text}");
            separator = ": ";
            result
        };
        if let Some(doing) = &parts.doing {
            part(f, doing)?;
        }
        match (&parts.field, &parts.path) {
            (Some(field), Some(path)) => part(f, &format!("{field} ({})", path.display()))?,
            (Some(field), None) => part(f, field)?,
            (None, Some(path)) => part(f, &path.display().to_string())?,
            (None, None) => {}
        }
        if let Some(call) = &parts.call {
            part(f, call)?;
        }
        if let Some(message) = &parts.message {
            part(f, message)?;
        }
        if let Some(errno) = parts.errno {
            part(f, &errno_text(errno))?;
        }
        if let Some(hint) = &parts.hint {
            write!(f, " ({hint})")?;
        }
        for other in &parts.others {
            write!(f, "; then, while cleaning up: {other}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, {self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_operation_field_path_call_errno_and_hint() {
        let error = Error::os("move_mount", Errno::ACCESS)
            .field("mounts[2]")
            .path("/proc")
            .doing("mount")
            .hint("what to do");
        assert_eq!(
            error.to_string(),
            "mount: mounts[2] (/proc): move_mount: permission denied (what to do)"
        );
        assert_eq!(error.errno(), Some(Errno::ACCESS));
        assert_eq!(error.spec_field(), Some("mounts[2]"));
    }

    #[test]
    fn errors_of_a_clean_up_are_all_printed() {
        let errors = vec![
            Error::new(ErrorKind::Internal, "one"),
            Error::new(ErrorKind::Internal, "two"),
            Error::new(ErrorKind::Internal, "three"),
        ];
        let text = Error::join(errors).unwrap_err().to_string();
        assert_eq!(
            text,
            "one; then, while cleaning up: two; then, while cleaning up: three"
        );
        assert!(Error::join(Vec::new()).is_ok());
    }
}

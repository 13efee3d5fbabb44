//! Runs in: RUNTIME. The one error type of the library: what was being done, which field of config.json asked
//! for it, which path and system call failed, with which errno, and what to do about it.
//!
//! The type is opaque; programs match on [`Error::kind`] and [`Error::raw_os_error`], never on text. The text
//! is for people, and for those engines that search it for the substrings listed in `docs/design.md`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use runtime_sys::{Call, SysError};
use rustix::io::Errno;

/// The result of every fallible function of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and where. One word wide; the parts are asked for by name, and the text has them all.
pub struct Error(Box<Parts>);

struct Parts {
    kind: ErrorKind,
    operation: Option<Cow<'static, str>>,
    step: Option<&'static str>,
    field: Option<Cow<'static, str>>,
    path: Option<PathBuf>,
    call: Option<Cow<'static, str>>,
    message: Option<Cow<'static, str>>,
    /// The message says field, path, call and cause in words of its own.
    is_whole: bool,
    cause: Option<io::Error>,
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
    /// The program is there, but the kernel could not execute it: it, or what interprets it, is no program,
    /// or missing.
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
            message: Some(message.into()),
            ..Parts::of_kind(kind)
        }))
    }

    /// An illegal value in config.json (or a process file): the field in dotted form, and what is wrong with
    /// it.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message).with_field(field)
    }

    /// A failed system call, or an operation of the standard library, for which `call` names the system call
    /// below it.
    pub fn os(call: impl Into<Cow<'static, str>>, cause: impl Into<io::Error>) -> Self {
        Self(Box::new(Parts {
            call: Some(call.into()),
            cause: Some(cause.into()),
            ..Parts::of_kind(ErrorKind::Os)
        }))
    }

    /// A failed system call, in words that engines know: they name all that matters.
    pub(crate) fn in_words(kind: ErrorKind, words: String, call: &'static str, errno: Errno) -> Self {
        Self(Box::new(Parts {
            call: Some(call.into()),
            message: Some(words.into()),
            is_whole: true,
            cause: Some(errno.into()),
            ..Parts::of_kind(kind)
        }))
    }

    /// Names the operation, as in `mount proc`. Where there is one already, the new one comes in front of it.
    #[must_use]
    pub fn doing(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        let operation = operation.into();
        self.0.operation = Some(match self.0.operation {
            None => operation,
            Some(inner) => format!("{operation}: {inner}").into(),
        });
        self
    }

    /// Names the step of a child of the runtime.
    #[must_use]
    pub(crate) fn in_step(mut self, step: &'static str) -> Self {
        self.0.step = Some(step);
        self
    }

    /// Names the field of config.json that asked for it, as in `mounts[3].options`.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Names the path.
    #[must_use]
    pub fn with_path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_owned());
        self
    }

    /// Says what to do about it, or what the likely cause is.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
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

    /// Joins failures of a clean-up that went on after each: the first, with the others after it.
    pub(crate) fn join(errors: Vec<Error>) -> Result<()> {
        let mut errors = errors.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(first) => Err(errors.fold(first, Error::and)),
        }
    }

    /// The failure alone: without what was being done, and without a hint at its cause.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.0.operation = None;
        self.0.hint = None;
        self
    }

    /// The class of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done, from the outermost to the innermost, with `: ` between.
    pub fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// In which step of its work a child of the runtime failed, before there was a program of the container:
    /// a name of the crate `runtime-init`, such as `MountAttach`. For logs and counters; the names may
    /// change.
    pub fn step(&self) -> Option<&'static str> {
        self.0.step
    }

    /// The field of config.json (or of a process file) that asked for what failed, in dotted form.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The path that it is about: on the host, or, for the fields that name one, in the container.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The system call that failed, if one did.
    pub fn system_call(&self) -> Option<&str> {
        self.0.call.as_deref()
    }

    /// The errno of the failed system call.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.cause.as_ref().and_then(io::Error::raw_os_error)
    }

    /// What to do about it, or what the likely cause is.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What else has failed while this one was being cleaned up after: if there is any, something may be
    /// left.
    pub fn others(&self) -> &[Error] {
        &self.0.others
    }

    /// The errno, as rustix has it.
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.raw_os_error().map(Errno::from_raw_os_error)
    }
}

impl Parts {
    fn of_kind(kind: ErrorKind) -> Self {
        Self {
            kind,
            operation: None,
            step: None,
            field: None,
            path: None,
            call: None,
            message: None,
            is_whole: false,
            cause: None,
            hint: None,
            others: Vec::new(),
        }
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

impl<T, E: Into<io::Error>> CallResult<T> for std::result::Result<T, E> {
    fn call(self, name: &'static str) -> Result<T> {
        self.map_err(|error| Error::os(name, error))
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
        self.map_err(|error| error.into().with_field(field))
    }

    fn path(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| error.into().with_path(path))
    }

    fn hint(self, hint: &'static str) -> Result<T> {
        self.map_err(|error| error.into().with_hint(hint))
    }
}

/// An errno that somebody else has told us. `Errno::from_raw_os_error` alone panics at a number that is none.
pub(crate) fn told_errno(number: i32) -> Option<Errno> {
    (1..4096)
        .contains(&number)
        .then(|| Errno::from_raw_os_error(number))
}

/// The text of an errno as engines match it: first letter small, without the number.
pub(crate) fn errno_text(errno: Errno) -> String {
    let text = io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
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
        if let Some(operation) = &parts.operation {
            part(f, operation)?;
        }
        if !parts.is_whole {
            match (&parts.field, &parts.path) {
                (Some(field), Some(path)) => part(f, &format!("{field} ({})", path.display()))?,
                (Some(field), None) => part(f, field)?,
                (None, Some(path)) => part(f, &path.display().to_string())?,
                (None, None) => {}
            }
            if let Some(call) = &parts.call {
                part(f, call)?;
            }
        }
        match (&parts.message, &parts.cause, self.errno()) {
            (Some(message), ..) => part(f, message)?,
            (None, _, Some(errno)) => part(f, &errno_text(errno))?,
            (None, Some(cause), None) => part(f, &cause.to_string())?,
            (None, None, None) => {}
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

impl std::error::Error for Error {
    /// The system's own error, an [`io::Error`], if a system call failed. It is in the text already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.0.cause.as_ref()?;
        Some(cause)
    }
}

impl From<Error> for io::Error {
    /// The whole error is what the result holds; its kind is that of the errno, or the nearest to
    /// [`ErrorKind`].
    fn from(error: Error) -> Self {
        let kind = match (&error.0.cause, error.kind()) {
            (Some(cause), _) => cause.kind(),
            (None, ErrorKind::Invalid) => io::ErrorKind::InvalidInput,
            (None, ErrorKind::Unsupported) => io::ErrorKind::Unsupported,
            (None, ErrorKind::AlreadyExists) => io::ErrorKind::AlreadyExists,
            (None, ErrorKind::NotFound) => io::ErrorKind::NotFound,
            (None, ErrorKind::Denied) => io::ErrorKind::PermissionDenied,
            (None, ErrorKind::Interrupted) => io::ErrorKind::Interrupted,
            (None, _) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn text_names_operation_field_path_call_errno_and_hint() {
        let error = Error::os("move_mount", Errno::ACCESS)
            .with_field("mounts[2]")
            .with_path("/proc")
            .doing("mount")
            .with_hint("what to do");
        assert_eq!(
            error.to_string(),
            "mount: mounts[2] (/proc): move_mount: permission denied (what to do)"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        assert_eq!(error.operation(), Some("mount"));
        assert_eq!(error.field(), Some("mounts[2]"));
        assert_eq!(error.path(), Some(Path::new("/proc")));
        assert_eq!(error.system_call(), Some("move_mount"));
        assert_eq!(error.hint(), Some("what to do"));
        assert!(error.others().is_empty());
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.and_then(io::Error::raw_os_error), Some(libc::EACCES));
        let text = error.to_string();
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn failures_of_the_standard_library_without_an_errno_have_their_text() {
        let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "the end came early");
        let error = Error::os("read", cause).with_path("/x");
        assert_eq!(error.to_string(), "/x: read: the end came early");
        assert_eq!(error.raw_os_error(), None);
        assert!(error.source().is_some());
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

//! Runs in: SUITE. How a test ends other than well, and the assertions. A test never panics (the workspace
//! aborts on panic): it returns.

use std::fmt;

/// Why a test stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Reality differs from the wish; the text shows both.
    Fail(String),
    /// This host cannot show the behaviour; the text is the reason. Counted and printed, never silent.
    Unsupported(String),
}

/// What a test returns.
pub(crate) type Check<T = ()> = Result<T, Stop>;

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(format!("the harness itself failed: {error}"))
    }
}

/// Fails with `text`.
pub(crate) fn fail<T>(text: impl Into<String>) -> Check<T> {
    Err(Stop::Fail(text.into()))
}

/// The wish must equal the reality; `what` names the thing compared.
pub(crate) fn same<W, R>(what: &str, wish: W, reality: R) -> Check
where
    W: PartialEq<R> + fmt::Debug,
    R: fmt::Debug,
{
    if wish == reality {
        return Ok(());
    }
    fail(format!(
        "{what}:\n    wish:    {wish:?}\n    reality: {reality:?}"
    ))
}

/// `text` must contain `part`.
pub(crate) fn contains(what: &str, text: &str, part: &str) -> Check {
    if text.contains(part) {
        return Ok(());
    }
    fail(format!(
        "{what}:\n    wish:    contains {part:?}\n    reality: {text:?}"
    ))
}

/// Fails with the formatted text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::outcome::Stop::Fail(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

//! Runs in: INIT, INTERMEDIATE, EXEC. How the child gives up: eight bytes, and for a hook its output.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::step::Step;
use crate::wire::{Failure, Link, Message};
use runtime_sys::{Call, SysError, process};

/// The child cannot go on.
#[derive(Debug)]
pub struct Stop {
    failure: Failure,
    /// What a failed hook has printed.
    output: Option<OwnedFd>,
}

/// The result of a step.
pub type Result<T> = core::result::Result<T, Stop>;

impl Stop {
    /// A failure at a place in a list.
    pub fn new(step: Step, index: u16, error: SysError) -> Self {
        Self {
            failure: Failure {
                step,
                call: error.call,
                index,
                sub: 0,
                errno: error.errno,
            },
            output: None,
        }
    }

    /// With a second index.
    pub fn at_sub(mut self, sub: u16) -> Self {
        self.failure.sub = sub;
        self
    }

    /// With the output of a hook.
    pub fn with_output(mut self, output: OwnedFd) -> Self {
        self.output = Some(output);
        self
    }

    /// Whether the kernel refused by rule or was busy, so that another way may be allowed.
    pub fn is_refusal(&self) -> bool {
        matches!(self.failure.errno, Errno::PERM | Errno::BUSY)
    }

    /// Tells RUNTIME, lets it look at the container as it is (until it closes its end), and ends the process.
    pub fn report(self, link: Link<'_>) -> ! {
        let message = Message::Failure(self.failure);
        let sent = match &self.output {
            Some(output) => link.send_fd(message, output.as_fd()),
            None => link.send(message),
        };
        // Without a reader there is nobody to tell; the exit status is all that is left.
        while sent.is_ok() && matches!(link.receive(), Ok(Some(_))) {}
        process::exit_now(1)
    }
}

/// Gives a failed system call the step it happened in.
pub trait At<T> {
    /// At the step.
    fn at(self, step: Step) -> Result<T>;
    /// At a place in the list that the step is about.
    fn at_index(self, step: Step, index: u16) -> Result<T>;
}

impl<T> At<T> for core::result::Result<T, SysError> {
    fn at(self, step: Step) -> Result<T> {
        self.at_index(step, 0)
    }

    fn at_index(self, step: Step, index: u16) -> Result<T> {
        self.map_err(|error| Stop::new(step, index, error))
    }
}

/// A check of our own that failed, with the errno that fits.
pub fn refused(errno: Errno) -> SysError {
    SysError {
        call: Call::None,
        errno,
    }
}

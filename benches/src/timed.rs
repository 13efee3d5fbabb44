//! How long a command takes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Any failure ends a measurement.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// From before the process is made until it has been waited for; an error if it fails. Standard error goes to
/// the file `messages`: a pipe would be inherited by a container and stay open.
pub fn timed(command: &mut Command, messages: &Path) -> Outcome<Duration> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(messages)?);
    let start = Instant::now();
    let status = command.status()?;
    let taken = start.elapsed();
    if status.success() {
        return Ok(taken);
    }
    let message = fs::read_to_string(messages)?;
    Err(format!("{command:?}: {status}: {message}").into())
}

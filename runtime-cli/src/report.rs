//! Runs in: RUNTIME. The one place that tells anybody about a failure: on standard error and in the `--log` file.
//! Engines read that file as JSON: at the default level it gets one object if the command fails, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use runtime_core::{Error, ErrorKind};

static LOG: OnceLock<Log> = OnceLock::new();

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

#[derive(Debug)]
struct Log {
    file: Option<File>,
    format: Format,
}

/// Opens the log. Without a file its lines go to standard error.
pub(crate) fn open(file: Option<&Path>, format: &str, debug: bool) -> Result<(), Error> {
    let format = match format {
        "text" | "" => Format::Text,
        "json" => Format::Json,
        other => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("invalid log-format: {other}"),
            ));
        }
    };
    let file = match file {
        None => None,
        Some(path) => Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .map_err(|e| Error::io("open", &e).path(path).doing("open the log"))?,
        ),
    };
    let log = LOG.get_or_init(|| Log { file, format });
    if debug && log::set_logger(log).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
    Ok(())
}

/// Tells of the failure that ends this command.
pub(crate) fn failure(message: &str) {
    let message = one_line(message);
    match LOG.get() {
        Some(Log { file: Some(_), .. }) | None => {
            // With standard error closed there is nobody left to tell.
            let _nobody = writeln!(io::stderr(), "{message}");
        }
        Some(Log {
            format: Format::Json, ..
        }) => {}
        Some(Log {
            format: Format::Text, ..
        }) => {
            let _nobody = writeln!(io::stderr(), "{message}");
            return;
        }
    }
    if let Some(log) = LOG.get() {
        log.write("error", &message);
    }
}

/// Tells of something that went wrong with one of several things, while the command goes on.
pub(crate) fn skipped(message: &str) {
    // With standard error closed there is nobody left to tell.
    let _nobody = writeln!(io::stderr(), "{}", one_line(message));
}

/// The text of an error for people: a caller who lacks a privilege is told what he is.
pub(crate) fn text_of(error: &Error) -> String {
    let denied = error.kind() == ErrorKind::Denied
        || matches!(
            error.errno(),
            Some(runtime_core::Errno::PERM | runtime_core::Errno::ACCESS)
        );
    let uid = rustix::process::geteuid();
    if denied && !uid.is_root() {
        return format!(
            "{error} (uid {} is not root: config.json needs a user namespace, see spec --rootless)",
            uid.as_raw()
        );
    }
    error.to_string()
}

impl Log {
    fn write(&self, level: &str, message: &str) {
        let line = line(self.format, level, message, SystemTime::now());
        // One write, so that lines of processes that share the file do not mix. A full disk must not hide the error
        // itself, which is on standard error as well.
        let _full = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warning",
            log::Level::Info => "info",
            log::Level::Debug | log::Level::Trace => "debug",
        };
        self.write(level, &one_line(&record.args().to_string()));
    }

    fn flush(&self) {}
}

fn line(format: Format, level: &str, message: &str, now: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(now);
    let quoted = serde_json::Value::from(message);
    match format {
        Format::Json => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
        Format::Text => format!("time=\"{time}\" level={level} msg={quoted}\n"),
    }
}

/// Engines read the last line of what a failed command printed; a hook's output, say, may have several.
fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .join("; ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_json_line_has_the_three_keys_that_engines_decode() {
        let now = UNIX_EPOCH + Duration::from_secs(1_787_106_907);
        assert_eq!(
            line(
                Format::Json,
                "error",
                "onggi create failed: \"x\" is not \\ there",
                now
            ),
            "{\"level\":\"error\",\"msg\":\"onggi create failed: \\\"x\\\" is not \\\\ there\",\
             \"time\":\"2026-08-19T02:35:07Z\"}\n"
        );
    }

    #[test]
    fn a_text_line_is_quoted() {
        assert_eq!(
            line(Format::Text, "warning", "a \"b\"", UNIX_EPOCH),
            "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"a \\\"b\\\"\"\n"
        );
    }

    #[test]
    fn a_message_of_many_lines_becomes_one() {
        assert_eq!(
            one_line("hook failed:\n\n  no such\r\nthing\n"),
            "hook failed:; no such; thing"
        );
        assert_eq!(one_line("a\tb\x1b[31m"), "a b [31m");
        assert_eq!(one_line(""), "");
    }
}

//! Runs in: RUNTIME. The one place that tells anybody about a failure: on standard error and in the `--log`
//! file. Engines read that file as JSON: at the default level it gets one object if the command fails, and
//! nothing else.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use runtime_core::{Error, ErrorKind};

const SYSLOG: &str = "/dev/log";
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How long a daemon may take to read what has come, before more can be sent. One that hangs must not hang
/// us.
const DAEMON: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// Where lines go, besides standard error.
#[derive(Debug)]
enum Target {
    File(File),
    /// The system's log, with the name that it shall show.
    Syslog(UnixDatagram, String),
    /// systemd's journal, likewise.
    Journal(UnixDatagram, String),
}

#[derive(Debug)]
struct Log {
    target: Option<Target>,
    format: Format,
}

/// Opens the log: a file, or one of crun's `file:PATH`, `syslog:NAME`, `journald:NAME`. Without one its lines
/// go to standard error.
pub(crate) fn open(target: Option<&OsStr>, format: &str, level: log::LevelFilter) -> Result<(), Error> {
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
    let target = target.map(open_target).transpose()?;
    let log = LOG.get_or_init(|| Log { target, format });
    if level > log::LevelFilter::Error && log::set_logger(log).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

fn open_target(target: &OsStr) -> Result<Target, Error> {
    let bytes = target.as_bytes();
    let name = |bytes: &[u8]| match bytes {
        [] => "onggi".to_owned(),
        name => String::from_utf8_lossy(name).into_owned(),
    };
    if let Some(id) = bytes.strip_prefix(b"syslog:") {
        return Ok(Target::Syslog(daemon(SYSLOG)?, name(id)));
    }
    if let Some(id) = bytes.strip_prefix(b"journald:") {
        return Ok(Target::Journal(daemon(JOURNAL)?, name(id)));
    }
    let path = Path::new(OsStr::from_bytes(bytes.strip_prefix(b"file:").unwrap_or(bytes)));
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .map(Target::File)
        .map_err(|e| Error::os("open", e).with_path(path).doing("open the log"))
}

fn daemon(path: &str) -> Result<UnixDatagram, Error> {
    UnixDatagram::unbound()
        .and_then(|socket| socket.connect(path).map(|()| socket))
        .and_then(|socket| socket.set_write_timeout(Some(DAEMON)).map(|()| socket))
        .map_err(|e| Error::os("connect", e).with_path(path).doing("open the log"))
}

/// Tells of the failure that ends this command.
pub(crate) fn failure(message: &str) {
    let message = one_line(message);
    match LOG.get() {
        Some(Log { target: Some(_), .. }) | None => {
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

/// A panic is a mistake of ours, and ends the program. Of its message the caller gets one line, as of any
/// failure.
pub(crate) fn panics_on_one_line() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        failure(&format!("internal error: {} ({place})", text.unwrap_or("panic")));
        runtime_sys::process::exit_now(1)
    }));
}

/// Tells of something that went wrong with one of several things, while the command goes on.
pub(crate) fn skipped(message: &str) {
    // With standard error closed there is nobody left to tell.
    let _nobody = writeln!(io::stderr(), "{}", one_line(message));
}

/// The text of an error for people: what the caller is, or what the kernel is, where that is the likely
/// cause. `starts`: the command makes a container.
pub(crate) fn text_of(error: &Error, starts: bool) -> String {
    let (uid, text) = (rustix::process::geteuid(), error.to_string());
    match cause(error, uid.is_root()) {
        _ if error.hint().is_some() => text,
        None => text,
        Some(Cause::Kernel) => format!(
            "{text} (this is Linux {}; 5.14 or newer is needed, and no seccomp filter around us that denies the call)",
            rustix::system::uname().release().to_string_lossy()
        ),
        Some(Cause::NotRoot) if starts => format!("{text} (uid {} is not root)", uid.as_raw()),
        Some(Cause::NotRoot) => format!(
            "{text} (uid {} is not root, and containers belong to whoever has made them: use sudo, or --root)",
            uid.as_raw()
        ),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Cause {
    Kernel,
    NotRoot,
}

fn cause(error: &Error, is_root: bool) -> Option<Cause> {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Some(Cause::Kernel),
        Some(libc::EPERM | libc::EACCES) if !is_root => Some(Cause::NotRoot),
        _ => None,
    }
}

impl Log {
    fn write(&self, level: &str, message: &str) {
        let line = |now| line(self.format, level, message, now);
        // One write, so that lines of processes that share the file do not mix. A full disk or a dead daemon
        // must not hide the error itself, which is on standard error as well.
        let _full = match &self.target {
            Some(Target::File(file)) => (&*file).write_all(line(SystemTime::now()).as_bytes()),
            Some(Target::Syslog(socket, name)) => {
                // RFC 3164: facility "user", and the severity. The daemon adds the time.
                let text = format!("<{}>{name}: {message}", 8 + severity(level));
                socket.send(text.as_bytes()).map(drop)
            }
            Some(Target::Journal(socket, name)) => {
                // A message has no newline here, so the journal's simple form does.
                let priority = severity(level);
                let text = format!("MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER={name}\n");
                socket.send(text.as_bytes()).map(drop)
            }
            None => io::stderr().write_all(line(SystemTime::now()).as_bytes()),
        };
    }
}

/// The numbers of syslog(3).
fn severity(level: &str) -> u8 {
    match level {
        "error" => 3,
        "warning" => 4,
        "info" => 6,
        _ => 7,
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
    use std::time::UNIX_EPOCH;

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
    fn daemons_get_datagrams_with_name_and_severity() {
        let pair = || UnixDatagram::pair().expect("a pair of sockets");
        let receive = |socket: UnixDatagram| {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).expect("a datagram");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let write = |target| {
            Log {
                target: Some(target),
                format: Format::Json,
            }
            .write("error", "it failed");
        };
        let (ours, theirs) = pair();
        write(Target::Syslog(ours, "c1".to_owned()));
        assert_eq!(receive(theirs), "<11>c1: it failed");
        let (ours, theirs) = pair();
        write(Target::Journal(ours, "c1".to_owned()));
        assert_eq!(
            receive(theirs),
            "MESSAGE=it failed\nPRIORITY=3\nSYSLOG_IDENTIFIER=c1\n"
        );
    }

    #[test]
    fn a_person_is_told_what_to_do_next() {
        use rustix::io::Errno;
        let denied = Error::os("mkdir", Errno::ACCESS);
        assert_eq!(cause(&denied, true), None);
        assert_eq!(cause(&denied, false), Some(Cause::NotRoot));
        let old = Error::os("openat2", Errno::NOSYS);
        assert_eq!(cause(&old, true), Some(Cause::Kernel));
        assert!(text_of(&old, true).contains("5.14"));
        let with_hint = Error::os("openat2", Errno::NOSYS).with_hint("known");
        assert!(text_of(&with_hint, true).ends_with("(known)"));
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

//! Runs in: SHIM. The log: lines into the fifo `log` of the bundle, which containerd copies into its own.
//! Never waits for a reader.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};

struct Fifo(OwnedFd);

impl Log for Fifo {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let level = record.level().as_str().to_lowercase();
        let text = format!("{}", record.args());
        let line = format!("time=\"{time}\" level={level} msg={text:?} runtime=onggi\n");
        // A containerd that is away does not read: what it has no room for is lost, and nothing waits.
        let _lost = rustix::io::write(&self.0, line.as_bytes());
    }

    fn flush(&self) {}
}

/// From now on. Without the fifo there is no log.
pub(crate) fn open(debug: bool) {
    // Both ends, so that it opens without a reader, and outlives each of them.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("log");
    let Ok(file) = opened else { return };
    if !file
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_fifo())
    {
        return;
    }
    let level = match debug {
        true => LevelFilter::Debug,
        false => LevelFilter::Warn,
    };
    if log::set_boxed_logger(Box::new(Fifo(file.into()))).is_ok() {
        log::set_max_level(level);
    }
}

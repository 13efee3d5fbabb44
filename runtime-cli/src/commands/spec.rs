//! Runs in: RUNTIME. `spec`: writes an example config.json into the bundle, which must have none.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use runtime_core::{Error, ErrorKind, Result};

use super::{Definition, Invocation, command};
use crate::flags::{path, switch};

pub(crate) const COMMAND: Definition = Definition {
    usage: &[""],
    words: (0, 0),
    ..command(
        "spec",
        "write an example config.json",
        || {
            vec![
                path("bundle")
                    .short('b')
                    .help("directory to write it into [default: .]"),
                path("file")
                    .short('f')
                    .help("file to write it to [default: config.json]"),
                switch("rootless", "for a user who is not root"),
            ]
        },
        run,
    )
};

fn run(call: &Invocation) -> Result<u8> {
    let name = call.path("file").unwrap_or_else(|| "config.json".into());
    let path = call.path("bundle").unwrap_or_default().join(&name);
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&path)
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("File {} exists. Remove it first", name.display()),
            ));
        }
        other => other.map_err(|e| Error::io("open", &e).path(&path))?,
    };
    let text = runtime_core::spec::example(call.flag("rootless").then(own_ids));
    file.write_all(text.as_bytes())
        .map_err(|e| Error::io("write", &e).path(&path))?;
    Ok(0)
}

/// The caller's effective ids, which a rootless container maps to its root.
fn own_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

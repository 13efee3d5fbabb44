//! Runs in: RUNTIME. `spec`: writes an example config.json into the bundle, which must have none.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use runtime_core::{Error, ErrorKind, Result};

use super::{Command, Definition, Invocation};
use crate::flags::flags;

flags! {
    pub(crate) struct Spec {
        /// directory to write it into [default: .]
        bundle: Option<PathBuf> { short('b') },
        /// file to write it to [default: config.json]
        file: Option<PathBuf> { short('f') },
        /// for a user who is not root
        rootless: bool,
    }
}

impl Command for Spec {
    const DEFINITION: Definition = Definition {
        usage: &[""],
        words: (0, 0),
        ..Definition::new::<Self>("spec", "write an example config.json")
    };

    fn run(self, _: &Invocation) -> Result<u8> {
        let name = self.file.unwrap_or_else(|| "config.json".into());
        let path = self.bundle.unwrap_or_default().join(&name);
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
            other => other.map_err(|e| Error::os("open", e).with_path(&path))?,
        };
        let text = runtime_core::example_config(self.rootless.then(own_ids));
        file.write_all(text.as_bytes())
            .map_err(|e| Error::os("write", e).with_path(&path))?;
        Ok(0)
    }
}

/// The caller's effective ids, which a rootless container maps to its root.
fn own_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

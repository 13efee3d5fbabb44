//! Runs in: RUNTIME. `mounts`: adds mounts to a running container, or takes them away. crun's.

use std::io::Read;
use std::path::Path;

use runtime_core::{Error, ErrorKind, Result};

use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::words;

flags! {
    pub(crate) struct Mounts {}
}

/// As much as is read of the file: of a real one there are some hundred bytes.
const LARGEST: u64 = 1 << 20;

impl Command for Mounts {
    const DEFINITION: Definition = Definition {
        usage: &["add|remove <container-id> <mounts.json>"],
        words: (3, 3),
        seals: true,
        ..Definition::new::<Self>("mounts", "add mounts to a running container, or remove them")
    };

    fn run(self, call: &Invocation) -> Result<u8> {
        let [what, id, file] = call.words.as_slice() else {
            return Err(Error::new(ErrorKind::Internal, "not three words"));
        };
        let is_addition = match what.to_str() {
            Some("add") => true,
            Some("remove") => false,
            _ => {
                let message = format!("unknown command {:?}", what.to_string_lossy());
                return Err(Error::new(ErrorKind::Invalid, message).with_hint("mounts add, or mounts remove"));
            }
        };
        let runtime = call.runtime()?;
        let id = words::container_id(Some(id))?;
        let mounts = read(Path::new(file))?;
        match is_addition {
            true => runtime.mounts_add(&id, &mounts)?,
            false => runtime.mounts_remove(&id, &mounts)?,
        }
        Ok(0)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| Error::os("open", error).with_path(path))?;
    file.take(LARGEST)
        .read_to_end(&mut json)
        .map_err(|error| Error::os("read", error).with_path(path))?;
    Ok(json)
}

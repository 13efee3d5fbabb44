//! Runs in: SUITE. Attacks that must fail.

pub(crate) mod advisories;
pub(crate) mod races;
pub(crate) mod roots;
pub(crate) mod traced;

use crate::{case::Case, outcome::Check};
use nix::mount::{MsFlags, mount};
use std::{fs, path::PathBuf};

pub(crate) fn folder(c: &Case, name: &str) -> Check<PathBuf> {
    let path = c.dir.join(name);
    fs::create_dir(&path)?;
    Ok(path)
}

/// A folder that is read-only by a flag of its mount, below which a mount hides a secret. Goes with the
/// value.
pub(crate) struct LockedSource(pub(crate) PathBuf);

impl LockedSource {
    pub(crate) fn new(source: PathBuf) -> Check<Self> {
        fs::create_dir(&source)?;
        let none = None::<&str>;
        mount(
            Some("t"),
            &source,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0777"),
        )?;
        fs::create_dir(source.join("covered"))?;
        fs::write(source.join("covered/secret"), "uncovered")?;
        mount(
            Some("t"),
            &source.join("covered"),
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )?;
        mount(
            none,
            &source,
            none,
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY,
            none,
        )?;
        Ok(Self(source))
    }
}

impl Drop for LockedSource {
    fn drop(&mut self) {
        for path in [self.0.join("covered"), self.0.clone()] {
            if let Err(errno) = nix::mount::umount(&path) {
                eprintln!("unmount {}: {errno}", path.display());
            }
        }
    }
}

//! A bundle around busybox for tests that run containers. These tests need root, and fail without it.
#![allow(dead_code, reason = "each test that has bundles uses what it needs")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use runtime_core::{CreateOptions, ExecOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";
const NAMES: [&str; 6] = ["sh", "true", "sleep", "cat", "grep", "stat"];

/// A bundle in a directory of its own, removed with the value.
pub(crate) struct Bundle {
    directory: TempDir,
    /// The document that `write` writes: the example without terminal, with `/bin/true`.
    pub(crate) config: Value,
}

impl Bundle {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "THIS TEST NEEDS ROOT: it runs containers. Run it as root, or leave it out by name."
        );
        let directory = tempfile::tempdir().unwrap();
        // Root of a user namespace is somebody else here, and must get in.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let bin = directory.path().join("rootfs/bin");
        for name in ["bin", "proc", "sys", "dev", "out", "copied"] {
            std::fs::create_dir_all(directory.path().join("rootfs").join(name)).unwrap();
        }
        std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap_or_else(|error| {
            panic!("THIS TEST NEEDS {BUSYBOX} (Debian: busybox-static): {error}");
        });
        for name in NAMES {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let mut config: Value = serde_json::from_str(&runtime_core::example_config(None)).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["/bin/true"]);
        Self { directory, config }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub(crate) fn write(&self) {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
    }

    /// A directory for the states, beside the bundle's own files.
    pub(crate) fn states(&self) -> PathBuf {
        self.path().join("states")
    }

    pub(crate) fn options(&self) -> CreateOptions {
        CreateOptions::default().bundle(self.path())
    }
}

/// Options of an `exec` that runs a line of shell.
pub(crate) fn shell(line: &str) -> ExecOptions {
    ExecOptions::default().args(["/bin/sh", "-ec", line].map(Into::into))
}

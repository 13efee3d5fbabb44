//! Runs in: SUITE. Devices: nodes, filter, images with a /dev of their own.

pub(crate) mod links;
pub(crate) mod nodes;
pub(crate) mod user_namespaces;

use crate::{
    case::Case,
    config::Device,
    outcome::{Check, ensure, same},
    seen::Access,
};

pub(crate) fn check_ptmx(c: &mut Case) -> Check {
    c.linux().devices([Device::new()
        .path("/dev/ptmx")
        .kind("c")
        .major(5)
        .minor(2)
        .file_mode(0o666)
        .uid(0)
        .gid(5)]);
    let report = c.probe(&["--stat", "/dev/pts/ptmx", "--access", "/dev/ptmx"])?;
    let target = report.dev["ptmx"].target.as_deref().unwrap_or("missing");
    ensure!(
        ["pts/ptmx", "/dev/pts/ptmx"].contains(&target),
        "/dev/ptmx: {:?}",
        report.dev["ptmx"]
    );
    same("its use", Access::new(0, 0), report.access["/dev/ptmx"])
}

/// What is mounted there is what is wanted.
pub(crate) fn check_directory(c: &mut Case) -> Check {
    c.linux().devices([Device::new()
        .path("/dev/shm")
        .kind("c")
        .major(1)
        .minor(3)
        .file_mode(0o666)]);
    same(
        "/dev/shm",
        "directory tmpfs",
        c.sh("stat -c %F /dev/shm; stat -f -c %T /dev/shm")?
            .replace('\n', " ")
            .as_str(),
    )
}

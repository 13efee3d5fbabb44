//! A program that runs a container by itself: `cargo run -p runtime-core --example embed [BUNDLE]`, as root.
//! Without a bundle it makes one around /bin/busybox. The bundle's program should run until it is killed, and
//! have `/bin/id`.

use std::path::{Path, PathBuf};

use runtime_core::{CgroupDriver, ContainerId, CreateOptions, ExecOptions, Runtime};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let bundle = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => busybox_bundle(scratch.path())?,
    };
    let runtime = Runtime::new(scratch.path().join("states"), CgroupDriver::Fs);
    let id = ContainerId::new(format!("embed-{}", std::process::id()))?;
    let lived = live(&runtime, &id, bundle);
    // Whatever failed: with force, nothing is left.
    runtime.delete(&id, true)?;
    println!("deleted");
    lived
}

fn live(runtime: &Runtime, id: &ContainerId, bundle: PathBuf) -> Result<(), Failure> {
    let init = runtime.create(id, CreateOptions::default().bundle(bundle))?;
    println!("created: process {}, {}", init.pid(), runtime.state(id)?.status);

    runtime.start(id)?;
    println!("started: {}", runtime.state(id)?.status);

    let joined = runtime.exec(id, ExecOptions::default().args(vec!["/bin/id".into()]))?;
    // Processes are children of this program, which must reap them.
    println!("exec /bin/id: {}", joined.wait()?);

    runtime.kill(id, libc::SIGKILL, false)?;
    println!("killed: {}, {}", init.wait()?, runtime.state(id)?.status);
    Ok(())
}

/// The example config.json with a program that sleeps, and a root file system with busybox in it.
fn busybox_bundle(scratch: &Path) -> Result<PathBuf, Failure> {
    let bin = scratch.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("busybox"))?;
    for name in ["sleep", "id"] {
        std::os::unix::fs::symlink("busybox", bin.join(name))?;
    }
    let mut config: serde_json::Value = serde_json::from_str(&runtime_core::example_config(None))?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/sleep", "1000"]);
    std::fs::write(scratch.join("config.json"), config.to_string())?;
    Ok(scratch.to_owned())
}

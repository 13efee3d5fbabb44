//! An embedding program that reaps whatever child of it ends, as a host with a SIGCHLD handler does: hooks,
//! helpers and processes are seen to end all the same, and how they have ended is asked of the pidfd, or said
//! to be unknown. Needs root.

#[path = "support/bundle.rs"]
mod bundle;
#[path = "support/kernel.rs"]
mod kernel;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bundle::{Bundle, shell};
use kernel::keeps_the_status;
use runtime_core::{CgroupDriver, ContainerId, ErrorKind, Runtime, Stdio};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::json;

const ROUNDS: usize = 50;

#[test]
fn hooks_helpers_and_processes_are_followed_beside_a_reaper_of_all_children() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/embedding-reaper");
    let (is_over, reaped) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                    Ok(Some(_)) => {
                        reaped.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(None) => {}
                    Err(_no_child) => thread::sleep(Duration::from_micros(100)),
                }
            }
        });
        let rounds =
            std::panic::catch_unwind(AssertUnwindSafe(|| (0..ROUNDS).for_each(|_| round(&mut bundle))));
        is_over.store(true, Ordering::Relaxed);
        rounds.unwrap();
    });
    assert!(reaped.into_inner() > ROUNDS, "nobody has reaped anything");
}

fn round(bundle: &mut Bundle) {
    let runtime = Runtime::new(bundle.states(), CgroupDriver::Fs);
    let id = ContainerId::new("reaped").unwrap();
    if keeps_the_status() {
        bundle.config["hooks"] =
            json!({"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]});
    }
    bundle.write();
    let init = runtime.run(&id, bundle.options().stdin(Stdio::Null)).unwrap();
    let joined = runtime.exec(&id, shell("exit 7").stdin(Stdio::Null)).unwrap();
    match joined.wait() {
        Ok(status) => assert_eq!(status.code(), Some(7)),
        Err(error) => {
            assert!(!keeps_the_status(), "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
        }
    }
    runtime.delete(&id, true).unwrap();
    assert!(
        init.try_wait().map_or(true, |status| status.is_some()),
        "it has ended"
    );

    if keeps_the_status() {
        bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
        bundle.write();
        let error = runtime.run(&id, bundle.options().stdin(Stdio::Null)).unwrap_err();
        let text = "error running createRuntime hook #0: exit status 1, stdout: , stderr: ";
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Hook, text.to_owned())
        );
    }
    assert!(runtime.list().unwrap().is_empty());
}

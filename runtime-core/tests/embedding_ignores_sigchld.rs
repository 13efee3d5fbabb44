//! An embedding program that ignores SIGCHLD: the kernel forgets how its children ended. The library does not change that,
//! and copes: what has only to end has ended, and what has to be known is said to be unknown. Needs root.

#[path = "support/bundle.rs"]
mod bundle;

use bundle::{Bundle, shell};
use runtime_core::{CgroupDriver, ContainerId, ErrorKind, Runtime, Status};
use runtime_sys::process::{ignores, set_signal_action};
use serde_json::json;

const UNKNOWN: &str =
    "ended with an unknown status (SIGCHLD is ignored by this program, or somebody else has waited for it)";

#[test]
fn what_has_ended_is_gone_and_how_is_said_to_be_unknown() {
    set_signal_action(libc::SIGCHLD, true).unwrap();
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/embedding-ignores-sigchld");
    bundle.write();
    let runtime = Runtime::new(bundle.states(), CgroupDriver::Fs);
    let id = ContainerId::new("sigchld").unwrap();

    let init = runtime.run(&id, bundle.options()).unwrap();
    assert_eq!(runtime.state(&id).unwrap().status, Status::Running);
    let joined = runtime.exec(&id, shell("exit 7")).unwrap();
    let error = joined.wait().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
    let text = format!("wait for the process: waitid: no child processes ({UNKNOWN})");
    assert_eq!(error.to_string(), text);
    runtime.delete(&id, true).unwrap();
    assert_eq!(init.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));

    // A hook might have failed.
    bundle.config["hooks"]["createRuntime"] = json!([{"path": "/bin/true"}]);
    bundle.write();
    let error = runtime.run(&id, bundle.options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hook);
    let text = format!("error running createRuntime hook #0: {UNKNOWN}, stdout: , stderr: ");
    assert_eq!(error.to_string(), text);
    assert!(runtime.list().unwrap().is_empty());
    assert!(ignores(libc::SIGCHLD).unwrap());
}
